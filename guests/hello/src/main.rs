// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! hello: the smallest guest, the same image for bare QEMU and for AxHive.
//!
//! `arch::*::entry` calls [`run`] on the boot CPU and `smp::secondary` on each
//! other one. Every step prints one clear line; the first step that fails
//! prints `hello: FAIL <what>` and the machine is powered off as failed. No
//! wait is longer than `wait::PATIENCE_NS` of the machine's own clock.
//! On a host this is an empty program, and its pure parts are tested there.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "hosts only test the pure parts")
)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod args;
#[cfg(any(test, target_arch = "x86_64"))]
mod calendar;
mod firmware;
mod machine;

#[cfg(target_os = "none")]
#[macro_use]
mod console;
#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod smp;
#[cfg(target_os = "none")]
mod steps;
#[cfg(target_os = "none")]
mod wait;

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(target_os = "none")]
use machine::{Failure, Machine};

/// How the machine is left.
#[cfg(target_os = "none")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Power off, all went well.
    Done,
    /// Power off, saying failure where the machine can express it.
    Failed,
    /// Reset the machine.
    Reboot,
}

/// Runs the whole sequence on the boot CPU and leaves the machine.
#[cfg(target_os = "none")]
pub fn run(found: Result<Machine, Failure>) -> ! {
    match found.and_then(|machine| sequence(cpu::adopt(machine))) {
        Ok(ending) => {
            say!("done");
            arch::power::end(ending)
        }
        Err(failure) => fail(failure),
    }
}

#[cfg(target_os = "none")]
fn sequence(machine: &'static Machine) -> Result<Ending, Failure> {
    steps::introduce(machine);
    steps::firmware_console();
    arch::irq::init_machine()?;
    arch::irq::init_cpu()?;
    steps::timer()?;
    if machine.args.spin {
        steps::spin();
    }
    steps::other_cpus(machine)?;
    steps::memory(machine)?;
    steps::wall_clock();
    if machine.args.fault {
        steps::fault();
    }
    if machine.args.echo {
        steps::echo()?;
    }
    Ok(if machine.args.reboot {
        Ending::Reboot
    } else {
        Ending::Done
    })
}

/// Says what failed and powers the machine off as failed.
#[cfg(target_os = "none")]
pub fn fail(failure: Failure) -> ! {
    fail_with(format_args!("{}", failure.0))
}

/// Says what failed, in more words, and powers the machine off as failed.
///
/// Saying so may fail itself, and so may powering off: each is tried once.
#[cfg(target_os = "none")]
pub fn fail_with(what: core::fmt::Arguments) -> ! {
    static FAILURES: AtomicU32 = AtomicU32::new(0);
    match FAILURES.fetch_add(1, Ordering::SeqCst) {
        0 => say!("FAIL {what}"),
        1 => {}
        _ => arch::power::halt_for_good(),
    }
    arch::power::end(Ending::Failed)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    fail_with(format_args!("{info}"))
}
