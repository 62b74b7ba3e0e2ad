// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What our guests share: the way from the loader to Rust and back out.
//!
//! A guest says [`guest!`] once. `arch::*::entry` then has `boot` call the guest's
//! own on the boot CPU with what firmware said about the machine, and its
//! `secondary` on each CPU that `arch::smp::start` starts. Who comes to its end says
//! `<name>: done`; a failure or a panic is one line `<name>: FAIL <what>` and a power
//! off as failed.
//! On a host only the pure parts exist, and are tested.

#![cfg_attr(not(test), no_std)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(any(test, target_arch = "x86_64"))]
pub mod calendar;
pub mod command_line;
pub mod firmware;
pub mod machine;

#[cfg(target_os = "none")]
#[macro_use]
pub mod console;
#[cfg(target_os = "none")]
pub mod arch;
#[cfg(target_os = "none")]
pub mod check;
#[cfg(target_os = "none")]
pub mod cpu;
#[cfg(target_os = "none")]
pub mod wait;

use machine::{Failure, Machine};

/// How the machine is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Power off, all went well.
    Done,
    /// Power off, saying failure where the machine can express it.
    Failed,
    /// Reset the machine.
    Reboot,
}

/// What a guest is to this crate; made by [`guest!`].
pub struct Guest {
    /// The name that starts each line.
    pub name: &'static str,
    /// Called on the boot CPU, interrupts masked.
    pub boot: fn(&'static Machine) -> Result<Ending, Failure>,
    /// Called with its index on each CPU that was started, interrupts masked.
    pub secondary: fn(usize) -> !,
}

/// Says which functions are the guest: its name, `boot` and `secondary`.
#[macro_export]
macro_rules! guest {
    ($name:literal, $boot:path, $secondary:path) => {
        #[unsafe(no_mangle)]
        static RT_GUEST: $crate::Guest = $crate::Guest {
            name: $name,
            boot: $boot,
            secondary: $secondary,
        };
    };
}

#[cfg(target_os = "none")]
unsafe extern "Rust" {
    // Defined by `guest!` in the guest itself.
    safe static RT_GUEST: Guest;
}

/// Returns the guest that is linked to this crate.
#[cfg(target_os = "none")]
pub fn guest() -> &'static Guest {
    &RT_GUEST
}

/// Runs the guest on the boot CPU and leaves the machine as it says.
#[cfg(target_os = "none")]
pub fn boot(found: Result<Machine, Failure>) -> ! {
    match found.and_then(|machine| (guest().boot)(cpu::adopt(machine))) {
        Ok(ending) => {
            say!("done");
            arch::power::end(ending)
        }
        Err(failure) => fail(failure),
    }
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
    use core::sync::atomic::{AtomicU32, Ordering};
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
