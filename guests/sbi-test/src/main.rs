// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! sbi-test: asks the SBI firmware what the specification promises, and devices.
//!
//! The same image for bare QEMU and for AxHive, riscv64 only; elsewhere an empty
//! program. Everything runs on the boot hart with interrupts masked; the suite
//! starts and stops the others by itself, and so does the last check. The first
//! check that fails ends the run, and the machine is powered off as failed.
//!
//! Spec: RISC-V Supervisor Binary Interface, 3.0.

#![cfg_attr(all(target_os = "none", target_arch = "riscv64"), no_std, no_main)]

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod attempt;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod call;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod checks;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod devices;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod paging;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod races;
#[cfg(all(target_os = "none", target_arch = "riscv64"))]
mod suite;

#[cfg(not(all(target_os = "none", target_arch = "riscv64")))]
fn main() {}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
use rt::{
    Ending,
    machine::{Failure, Machine},
};

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
rt::guest!("sbi-test", sequence, secondary);

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    suite::run(machine)?;
    checks::run(machine)?;
    devices::run(machine)?;
    paging::run()?;
    races::run(machine)?;
    Ok(Ending::Done)
}

#[cfg(all(target_os = "none", target_arch = "riscv64"))]
fn secondary(index: usize) -> ! {
    races::secondary(index)
}
