// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! arm-test: tries what an Arm machine promises, one instruction at a time.
//!
//! The same image for bare QEMU and for AxHive, aarch64 only; elsewhere an empty
//! program. Everything but the vector check runs on the boot CPU with interrupts
//! masked. The first check that fails ends the run, and the machine is powered
//! off as failed.
//!
//! Spec: Arm Architecture Reference Manual; PSCI; SMC Calling Convention.

#![cfg_attr(all(target_os = "none", target_arch = "aarch64"), no_std, no_main)]

#[cfg(not(all(target_os = "none", target_arch = "aarch64")))]
fn main() {}

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod accesses;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod call;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod debug;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod execute;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod fetches;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod firmware;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod interrupts;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod messages;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod registers;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod switches;
#[cfg(all(target_os = "none", target_arch = "aarch64"))]
mod walks;

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
use rt::{
    Ending, arch,
    machine::{Failure, Machine},
};

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
rt::guest!("arm-test", sequence, secondary);

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    arch::irq::init_machine()?;
    execute::open_float();
    accesses::run()?;
    fetches::run()?;
    walks::run()?;
    registers::run()?;
    debug::run()?;
    interrupts::run()?;
    messages::run()?;
    firmware::run(machine)?;
    switches::run(machine)?;
    Ok(Ending::Done)
}

#[cfg(all(target_os = "none", target_arch = "aarch64"))]
fn secondary(_index: usize) -> ! {
    switches::secondary()
}
