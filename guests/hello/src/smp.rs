// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the CPUs other than the boot CPU do, from their first Rust to the stop.
//!
//! `rt` calls [`secondary`] on the CPU's own stack with interrupts
//! masked and traps set up. The boot CPU follows by the stages in `cpu`.

use rt::cpu::{self, Stage};
use rt::machine::Failure;
use rt::{arch, say, wait};

/// Does the work of CPU `index` and stops it.
pub fn secondary(index: usize) -> ! {
    match work(index) {
        Ok(()) => {
            cpu::record(index).reach(Stage::Parked);
            arch::smp::stop()
        }
        Err(failure) => rt::fail(failure),
    }
}

fn work(index: usize) -> Result<(), Failure> {
    let own = cpu::record(index);
    arch::irq::init_cpu()?;
    say!(
        "cpu {index} up, hardware id {:#x}",
        cpu::hardware_id(index).0
    );
    own.reach(Stage::Up);

    timer_interrupt("no timer interrupt on a secondary cpu")?;
    say!("cpu {index} timer interrupt");
    own.reach(Stage::Ticked);

    wait::halt_until("no IPI from cpu 0", || own.ipis() > 0)?;
    say!("cpu {index} IPI from cpu 0");
    own.reach(Stage::Signalled);
    Ok(())
}

/// Takes one timer interrupt on this CPU while it spins.
pub fn timer_interrupt(failure: &'static str) -> Result<(), Failure> {
    const SOON_NS: u64 = 2_000_000;
    let own = cpu::current();
    let before = own.timers();
    arch::timer::arm_ns(SOON_NS);
    wait::spin_until(failure, || own.timers() != before)
}
