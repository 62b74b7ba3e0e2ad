// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The suite of the `sbi-testing` crate, a line for each of its cases.
//!
//! Called first, with every other hart stopped. The suite takes the trap vector
//! for itself, so it is taken back after each part.

use core::cell::Cell;

use rt::{
    arch::{timer, trap},
    machine::{Failure, Machine},
    say,
};
use sbi_testing::{
    BaseCase, DbcnCase, HsmCase, IpiCase, TimerCase, test_base, test_dbcn, test_hsm, test_ipi,
    test_timer,
};

/// How often two readings of a slow clock may be the same.
const TRIES: u32 = 1000;

/// Runs every part of the suite.
pub fn run(machine: &Machine) -> Result<(), Failure> {
    let primary = machine.cpus.first().map_or(0, |hart| hart.0 as usize);
    base()?;
    timer_part()?;
    ipi(primary)?;
    hsm(machine, primary)?;
    dbcn()
}

/// Says what a part ended with.
fn judge(part: &'static str, has_passed: bool) -> Result<(), Failure> {
    trap::init();
    if has_passed {
        say!("suite {part} passed");
        return Ok(());
    }
    Err(Failure(part))
}

fn base() -> Result<(), Failure> {
    let mut has_passed = false;
    test_base(|case| match case {
        BaseCase::GetSbiSpecVersion(version) => say!("SBI {version}"),
        BaseCase::ProbeExtensions(extensions) => say!("extensions {extensions}"),
        BaseCase::Pass => has_passed = true,
        _ => {}
    });
    judge("base", has_passed)
}

fn timer_part() -> Result<(), Failure> {
    let has_passed = Cell::new(false);
    let may_repeat = Cell::new(true);
    let delay = timer::frequency_hz() / 10;
    for _ in 0..TRIES {
        test_timer(delay, |case| match case {
            TimerCase::Pass => has_passed.set(true),
            // The clock is slower than the hart.
            TimerCase::TimeDecreased { a, b } => may_repeat.set(a == b),
            TimerCase::UnexpectedTrap(cause) => {
                say!("timer: {cause:?}");
                may_repeat.set(false);
            }
            _ => {}
        });
        if has_passed.get() || !may_repeat.get() {
            break;
        }
    }
    judge("timer", has_passed.get())
}

fn ipi(primary: usize) -> Result<(), Failure> {
    let mut has_passed = false;
    test_ipi(primary, |case| match case {
        IpiCase::Pass => has_passed = true,
        IpiCase::UnexpectedTrap(cause) => say!("ipi: {cause:?}"),
        _ => {}
    });
    judge("ipi", has_passed)
}

fn hsm(machine: &Machine, primary: usize) -> Result<(), Failure> {
    let mask = machine
        .cpus
        .iter()
        .fold(0_usize, |mask, hart| mask | 1 << (hart.0 & 63));
    let (mut has_passed, mut has_failed) = (machine.cpus.len() == 1, false);
    test_hsm(primary, mask, 0, |case| match case {
        HsmCase::Pass => has_passed = true,
        HsmCase::HartStarted(hart) => say!("hart {hart} started"),
        HsmCase::HartSuspendedNonretentive(hart) => say!("hart {hart} lost its state"),
        HsmCase::HartSuspendedRetentive(hart) => say!("hart {hart} sleeps"),
        HsmCase::HartStopped(hart) => say!("hart {hart} stopped"),
        HsmCase::HartStartFailed { hartid, ret } | HsmCase::RemoteRFenceFailed(hartid, ret) => {
            say!("hart {hartid}: {ret:?}");
            has_failed = true;
        }
        _ => {}
    });
    judge("hsm", has_passed && !has_failed)
}

fn dbcn() -> Result<(), Failure> {
    let (mut has_passed, mut is_missing) = (false, false);
    let mut failed = None;
    test_dbcn(|case| match case {
        DbcnCase::Pass => has_passed = true,
        DbcnCase::NotExist => is_missing = true,
        DbcnCase::WritingByteFailed(_) => failed = Some("a byte is not written"),
        DbcnCase::WritingSliceFailed(_) | DbcnCase::WritingPartialSlice(_) => {
            failed = Some("bytes are not written");
        }
        DbcnCase::ReadingFailed(_) => failed = Some("nothing can be read"),
        DbcnCase::NonzeroUpperWriteAccepted(_) | DbcnCase::NonzeroUpperReadAccepted(_) => {
            failed = Some("an address above all is accepted");
        }
        _ => {}
    });
    if is_missing {
        say!("no DBCN");
        return Ok(());
    }
    if let Some(what) = failed {
        say!("dbcn: {what}");
    }
    judge("dbcn", has_passed && failed.is_none())
}
