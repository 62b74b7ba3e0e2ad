// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Two harts that start a third one at the same time, again and again.
//!
//! Called last. Each start that the firmware accepts must run the hart once, from
//! the beginning, and each that it does not must leave it alone; the hart stops
//! itself as soon as it has counted.
//!
//! Spec: RISC-V SBI, "Hart State Management Extension".

use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rt::{
    arch,
    machine::{Failure, Machine},
    say, wait,
};

use crate::call::call;

const HSM: usize = 0x48_534d;
const ROUNDS: usize = 200;
/// The hart that helps, and the one that is started.
const HELPER: usize = 1;
const RUNNER: usize = 2;

static ACCEPTED: AtomicUsize = AtomicUsize::new(0);
static RAN: AtomicUsize = AtomicUsize::new(0);
static HELPER_IS_DONE: AtomicBool = AtomicBool::new(false);

unsafe extern "C" {
    fn secondary_entry();
}

/// Runs the race; machines of less than three harts have none.
pub fn run(machine: &Machine) -> Result<(), Failure> {
    let Some(runner) = machine.cpus.get(RUNNER) else {
        return Ok(());
    };
    arch::smp::start(HELPER)?;
    start_again_and_again(runner.0 as usize);
    wait::spin_until("the other hart's starts", || {
        HELPER_IS_DONE.load(Ordering::SeqCst)
    })?;
    wait::spin_until("the last stop", || {
        arch::smp::is_stopped(RUNNER) && arch::smp::is_stopped(HELPER)
    })?;
    let (accepted, ran) = (ACCEPTED.load(Ordering::SeqCst), RAN.load(Ordering::SeqCst));
    if accepted != ran || accepted < ROUNDS {
        say!("{accepted} starts accepted, {ran} carried out");
        return Err(Failure("HSM races"));
    }
    say!("HSM races passed");
    Ok(())
}

fn start_again_and_again(runner: usize) {
    let entry = secondary_entry as *const () as usize;
    let mut left = ROUNDS;
    while left > 0 {
        if call(HSM, 0, [runner, entry, RUNNER, 0, 0]).error == 0 {
            ACCEPTED.fetch_add(1, Ordering::SeqCst);
            left -= 1;
        }
    }
}

/// What a hart does that was started: helps, or counts itself.
pub fn secondary(index: usize) -> ! {
    if index == HELPER {
        start_again_and_again(rt::cpu::hardware_id(RUNNER).0 as usize);
        HELPER_IS_DONE.store(true, Ordering::SeqCst);
    } else {
        RAN.fetch_add(1, Ordering::SeqCst);
    }
    arch::smp::stop()
}
