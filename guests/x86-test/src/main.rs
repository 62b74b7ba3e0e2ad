// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! x86-test: tries what a PC promises, and what a program could do to it.
//!
//! The same image for bare QEMU and for AxHive, x86_64 only; elsewhere an empty
//! program. Everything runs on the boot CPU, but for what is asked for by a word on
//! the command line (`hostile`, `starts`). The first check that fails ends the
//! run, and the machine is powered off as failed.
//!
//! Spec: Intel SDM; AMD64 APM.

#![cfg_attr(all(target_os = "none", target_arch = "x86_64"), no_std, no_main)]

#[cfg(not(all(target_os = "none", target_arch = "x86_64")))]
fn main() {}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod accesses;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod control;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod device;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod execute;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod handler;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod hostile;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod interrupts;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod noise;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod opcodes;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod pages;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod privileged;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod random;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod registers;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod starts;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod steps;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod strings;
#[cfg(all(target_os = "none", target_arch = "x86_64"))]
mod wires;

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
use rt::{
    Ending, arch,
    machine::{Failure, Machine},
};

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
rt::guest!("x86-test", sequence, secondary);

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    arch::irq::init_machine()?;
    arch::irq::mask();
    if hostile::run(machine)? {
        return Ok(Ending::Done);
    }
    execute::init();
    if machine.command_line.has("cr4") {
        control::features()?;
        return Ok(Ending::Done);
    }
    control::run()?;
    privileged::run()?;
    registers::run()?;
    accesses::run()?;
    pages::run()?;
    strings::run()?;
    interrupts::run()?;
    steps::run()?;
    wires::run()?;
    hostile::deadlines()?;
    opcodes::run()?;
    Ok(Ending::Done)
}

#[cfg(all(target_os = "none", target_arch = "x86_64"))]
fn secondary(index: usize) -> ! {
    starts::secondary(index)
}
