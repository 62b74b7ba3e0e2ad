// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! hello: the smallest guest, the same image for bare QEMU and for AxHive.
//!
//! The `rt` crate calls `run` on the boot CPU and `smp::secondary` on each other
//! one. Every step prints one clear line; the first step that fails
//! prints `hello: FAIL <what>` and the machine is powered off as failed. No
//! wait is longer than `wait::PATIENCE_NS` of the machine's own clock.
//! On a host this is an empty program.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod steps;

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
use rt::machine::{Failure, Machine};
#[cfg(target_os = "none")]
use rt::{Ending, arch};

#[cfg(target_os = "none")]
rt::guest!("hello", sequence, smp::secondary);

#[cfg(target_os = "none")]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    steps::introduce(machine);
    steps::firmware_console();
    arch::irq::init_machine()?;
    arch::irq::init_cpu()?;
    steps::timer()?;
    if machine.command_line.has("spin") {
        steps::spin();
    }
    steps::other_cpus(machine)?;
    steps::memory(machine)?;
    steps::wall_clock();
    if machine.command_line.has("fault") {
        steps::fault();
    }
    if machine.command_line.has("echo") {
        steps::echo()?;
    }
    Ok(if machine.command_line.has("reboot") {
        Ending::Reboot
    } else {
        Ending::Done
    })
}
