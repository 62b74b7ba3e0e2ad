// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! SUSP: the whole machine sleeps.
//!
//! Suspending to RAM is what the last running hart does when it sleeps and loses
//! its state: all others must be stopped, so nobody can wake it but an interrupt.
//! No race is possible, as only a running hart could start another one.
//!
//! Spec: SBI, "System Suspend Extension (EID #0x53555350 \"SUSP\")".

use axvm::{CpuPower, GuestPhysAddr};
use sbi_spec::susp::SUSPEND;

use super::{Call, Hart, Outcome, Ret, Suspend};

/// The only type of sleep that is neither reserved nor a platform's own.
const SUSPEND_TO_RAM: u32 = 0;

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [kind, resume, opaque, ..] = call.args;
    if call.function as usize != SUSPEND {
        return Outcome::not_supported();
    }
    // The type is a value of 32 bits.
    if kind as u32 != SUSPEND_TO_RAM {
        return Outcome::invalid_param();
    }
    let resume = GuestPhysAddr::from_usize(resume as usize);
    if !hart.is_ram(resume, 1) {
        return Outcome::Return(Ret::invalid_address());
    }
    match others_are_off(hart) {
        true => Outcome::Suspend(Suspend::NonRetentive { resume, opaque }),
        false => Outcome::Return(Ret::denied()),
    }
}

fn others_are_off(hart: &dyn Hart) -> bool {
    (0..hart.count())
        .filter(|other| *other != hart.id())
        .all(|other| hart.power(other) == CpuPower::Off)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, RAM_START, call};
    use super::*;
    use sbi_spec::susp::EID_SUSP;

    fn alone() -> FakeHart {
        FakeHart {
            power: [CpuPower::On, CpuPower::Off, CpuPower::Off, CpuPower::Off],
            ..Default::default()
        }
    }

    fn ask(hart: &mut FakeHart, args: &[u64]) -> Outcome {
        call(hart, EID_SUSP, SUSPEND, args)
    }

    #[test]
    fn the_last_hart_puts_the_machine_to_sleep() {
        let resume = GuestPhysAddr::from_usize(RAM_START as usize);
        let sleeps = Outcome::Suspend(Suspend::NonRetentive { resume, opaque: 9 });
        assert_eq!(ask(&mut alone(), &[0, RAM_START, 9]), sleeps);
        assert_eq!(ask(&mut alone(), &[1 << 32, RAM_START, 9]), sleeps);
    }

    #[test]
    fn a_machine_with_another_hart_on_or_starting_does_not_sleep() {
        for power in [CpuPower::On, CpuPower::Starting] {
            let mut hart = alone();
            hart.power[2] = power;
            let denied = Outcome::Return(Ret::denied());
            assert_eq!(ask(&mut hart, &[0, RAM_START, 9]), denied);
        }
    }

    #[test]
    fn other_types_functions_and_addresses_are_refused() {
        for kind in [1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
            let outcome = ask(&mut alone(), &[kind, RAM_START, 0]);
            assert_eq!(outcome, Outcome::invalid_param(), "{kind:#x}");
        }
        let nowhere = ask(&mut alone(), &[0, 0x1000, 0]);
        assert_eq!(nowhere, Outcome::Return(Ret::invalid_address()));
        let unknown = call(&mut alone(), EID_SUSP, 1, &[0, RAM_START]);
        assert_eq!(unknown, Outcome::not_supported());
    }
}
