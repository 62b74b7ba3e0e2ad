// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! HSM: harts that start, stop and sleep.
//!
//! A start is carried out by axvm, where two of them race on the target's power
//! switch; [`start_error`] says what the guest learns. A stop cannot fail.
//!
//! Spec: SBI, "Hart State Management Extension (EID #0x48534D \"HSM\")".

use axvm::{AxVCpuExitReason, CpuPower, CpuUpStatus, GuestPhysAddr};
use sbi_spec::hsm::{
    HART_GET_STATUS, HART_START, HART_STOP, HART_SUSPEND, hart_state, suspend_type,
};

use super::{Answer, Call, Hart, Outcome, Ret, Suspend};

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    match call.function as usize {
        HART_START => start(call),
        HART_STOP => Outcome::Leave(AxVCpuExitReason::CpuDown { state: 0 }, Answer::None),
        HART_GET_STATUS => status(hart, call),
        HART_SUSPEND => suspend(hart, call),
        _ => Outcome::not_supported(),
    }
}

fn start(call: &Call) -> Outcome {
    let [target_cpu, entry, arg, ..] = call.args;
    let entry_point = GuestPhysAddr::from_usize(entry as usize);
    let exit = AxVCpuExitReason::CpuUp {
        target_cpu,
        entry_point,
        arg,
    };
    Outcome::Leave(exit, Answer::Error)
}

/// Returns what a start answers: the error of the specification.
pub(crate) fn start_error(status: CpuUpStatus) -> u64 {
    let ret = match status {
        CpuUpStatus::Started => Ret::success(0),
        CpuUpStatus::NoSuchCpu => Ret::invalid_param(),
        CpuUpStatus::AlreadyOn | CpuUpStatus::Pending => Ret::already_available(),
        CpuUpStatus::BadEntry => Ret::invalid_address(),
    };
    ret.error
}

fn status(hart: &dyn Hart, call: &Call) -> Outcome {
    let [target, ..] = call.args;
    if target >= hart.count() as u64 {
        return Outcome::invalid_param();
    }
    let target = target as usize;
    let state = match hart.power(target) {
        CpuPower::Off => hart_state::STOPPED,
        CpuPower::Starting => hart_state::START_PENDING,
        CpuPower::On if hart.is_suspended(target) => hart_state::SUSPENDED,
        CpuPower::On => hart_state::STARTED,
    };
    Outcome::success(state as u64)
}

fn suspend(hart: &dyn Hart, call: &Call) -> Outcome {
    let [kind, resume, opaque, ..] = call.args;
    // The type is a value of 32 bits; what is above is sign or nothing.
    match kind as u32 {
        suspend_type::RETENTIVE => Outcome::Suspend(Suspend::Retentive),
        suspend_type::NON_RETENTIVE => {
            let resume = GuestPhysAddr::from_usize(resume as usize);
            match hart.is_ram(resume, 1) {
                true => Outcome::Suspend(Suspend::NonRetentive { resume, opaque }),
                false => Outcome::Return(Ret::invalid_address()),
            }
        }
        _ => Outcome::invalid_param(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, RAM_START, call};
    use super::*;
    use sbi_spec::hsm::EID_HSM;

    fn ask(function: usize, args: &[u64]) -> Outcome {
        call(&mut FakeHart::default(), EID_HSM, function, args)
    }

    #[test]
    fn a_start_leaves_with_its_arguments() {
        let exit = AxVCpuExitReason::CpuUp {
            target_cpu: 3,
            entry_point: GuestPhysAddr::from_usize(0x8000_0000),
            arg: 7,
        };
        let outcome = ask(HART_START, &[3, 0x8000_0000, 7]);
        assert_eq!(outcome, Outcome::Leave(exit, Answer::Error));
    }

    #[test]
    fn each_way_a_start_ends_has_its_error() {
        let code = |status| start_error(status) as i64;
        assert_eq!(code(CpuUpStatus::Started), 0);
        assert_eq!(code(CpuUpStatus::NoSuchCpu), -3);
        assert_eq!(code(CpuUpStatus::BadEntry), -5);
        assert_eq!(code(CpuUpStatus::AlreadyOn), -6);
        assert_eq!(code(CpuUpStatus::Pending), -6);
    }

    #[test]
    fn the_status_follows_the_power_switch() {
        let mut hart = FakeHart {
            suspended: Some(3),
            ..Default::default()
        };
        let mut status = |target| call(&mut hart, EID_HSM, HART_GET_STATUS, &[target]);
        assert_eq!(status(0), Outcome::success(0));
        assert_eq!(status(1), Outcome::success(1));
        assert_eq!(status(2), Outcome::success(2));
        assert_eq!(status(3), Outcome::success(4));
        assert_eq!(status(4), Outcome::invalid_param());
    }

    #[test]
    fn a_sleep_is_of_a_kind_that_exists_and_wakes_in_ram() {
        let kind = |kind, resume| ask(HART_SUSPEND, &[kind, resume, 5]);
        assert_eq!(kind(0, 0), Outcome::Suspend(Suspend::Retentive));
        assert_eq!(kind(1, 0), Outcome::invalid_param());
        assert_eq!(kind(0x9000_0000, 0), Outcome::invalid_param());
        assert_eq!(
            kind(0x8000_0000, 0),
            Outcome::Return(Ret::invalid_address())
        );
        let resume = GuestPhysAddr::from_usize(RAM_START as usize);
        let sleeps = Suspend::NonRetentive { resume, opaque: 5 };
        assert_eq!(
            kind(0xffff_ffff_8000_0000, RAM_START),
            Outcome::Suspend(sleeps)
        );
    }
}
