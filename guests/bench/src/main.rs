// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! bench: what round trips to the machine below cost, in instructions.
//!
//! `rt` calls `run` on the boot CPU, the only one used. Every figure is one line
//! `BENCH <name> <number> <unit>`. Under QEMU's `-icount shift=0` one instruction
//! is one nanosecond of every clock, and each run gives the same figures;
//! elsewhere they are nanoseconds. On a host only the arithmetic is tested.

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

mod samples;

#[cfg(target_os = "none")]
mod arch;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod rounds;

#[cfg(not(target_os = "none"))]
fn main() {}

#[cfg(target_os = "none")]
use rt::Ending;
#[cfg(target_os = "none")]
use rt::machine::{Failure, Machine};

#[cfg(target_os = "none")]
rt::guest!("bench", measure, secondary);

#[cfg(target_os = "none")]
fn measure(machine: &'static Machine) -> Result<Ending, Failure> {
    arch::clock::init();
    rounds::report_entry();
    rt::arch::irq::init_machine()?;
    rt::arch::irq::init_cpu()?;
    rt::arch::irq::mask();
    arch::calls::measure()?;
    arch::devices::measure()?;
    arch::interrupts::measure()?;
    memory::measure(machine)?;
    Ok(Ending::Done)
}

// No CPU is ever started.
#[cfg(target_os = "none")]
fn secondary(_index: usize) -> ! {
    rt::arch::smp::stop()
}
