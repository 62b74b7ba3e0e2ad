// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The legacy calls 0 to 8, which return one value only.
//!
//! Their hart masks are words in the guest's virtual memory; a fault on the way
//! there is the guest's, at its call. A null pointer means every hart.
//!
//! Spec: SBI, "Legacy Extensions (EIDs #0x00 - #0x0F)".

use axdevice::PowerRequest;
use axvm::ConsoleCall;
use sbi_spec::legacy::{
    LEGACY_CLEAR_IPI, LEGACY_CONSOLE_GETCHAR, LEGACY_CONSOLE_PUTCHAR, LEGACY_REMOTE_FENCE_I,
    LEGACY_REMOTE_SFENCE_VMA, LEGACY_REMOTE_SFENCE_VMA_ASID, LEGACY_SEND_IPI, LEGACY_SET_TIMER,
    LEGACY_SHUTDOWN,
};

use super::{Answer, Call, Hart, HartSet, Outcome, rfence::tables};
use crate::{
    fence::{Asid, Fence},
    trap::Fault,
};

const SUCCESS: u64 = 0;
const FAILED: u64 = u64::MAX;

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [first, start, size, asid, ..] = call.args;
    match call.extension as usize {
        LEGACY_SET_TIMER => {
            hart.set_timer(first);
            Outcome::ReturnLegacy(SUCCESS)
        }
        LEGACY_CONSOLE_PUTCHAR => {
            let byte = first as u8;
            Outcome::console(ConsoleCall::Put { byte }, Answer::Legacy)
        }
        LEGACY_CONSOLE_GETCHAR => Outcome::console(ConsoleCall::Get, Answer::Legacy),
        LEGACY_CLEAR_IPI => {
            hart.clear_ipi();
            Outcome::ReturnLegacy(SUCCESS)
        }
        LEGACY_SEND_IPI => for_targets(hart, first, |hart, targets| {
            hart.send_ipi(targets);
            SUCCESS
        }),
        LEGACY_REMOTE_FENCE_I => fence(hart, first, Some(Fence::Instructions)),
        LEGACY_REMOTE_SFENCE_VMA => fence(hart, first, tables(start, size, Asid::Every)),
        LEGACY_REMOTE_SFENCE_VMA_ASID => fence(hart, first, tables(start, size, Asid::One(asid))),
        LEGACY_SHUTDOWN => Outcome::system(PowerRequest::Off),
        _ => Outcome::not_supported(),
    }
}

fn fence(hart: &mut dyn Hart, pointer: u64, fence: Option<Fence>) -> Outcome {
    for_targets(hart, pointer, |hart, targets| match fence {
        Some(fence) => {
            hart.fence(targets, fence);
            SUCCESS
        }
        None => FAILED,
    })
}

fn for_targets(
    hart: &mut dyn Hart,
    pointer: u64,
    act: impl FnOnce(&mut dyn Hart, HartSet) -> u64,
) -> Outcome {
    match targets_at(hart, pointer) {
        Ok(targets) => Outcome::ReturnLegacy(act(hart, targets)),
        Err(fault) => Outcome::Fault(fault),
    }
}

/// Reads a hart mask; harts that do not exist are left out, as these calls have
/// no error for them.
fn targets_at(hart: &mut dyn Hart, pointer: u64) -> Result<HartSet, Fault> {
    let all = HartSet::all(hart.count());
    match pointer {
        0 => Ok(all),
        _ => Ok(HartSet(hart.read_virtual(pointer)? & all.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use crate::{fence::Range, trap::Cause};

    fn ask(hart: &mut FakeHart, id: usize, args: &[u64]) -> Outcome {
        call(hart, id, 0x55, args)
    }

    #[test]
    fn the_function_number_does_not_matter() {
        let mut hart = FakeHart::default();
        assert_eq!(
            ask(&mut hart, LEGACY_SET_TIMER, &[9]),
            Outcome::ReturnLegacy(0)
        );
        assert_eq!(hart.timer, Some(9));
    }

    #[test]
    fn masks_come_from_memory_and_null_means_all() {
        let mut hart = FakeHart {
            word: Ok(0xff06),
            ..Default::default()
        };
        assert_eq!(
            ask(&mut hart, LEGACY_SEND_IPI, &[0x1000]),
            Outcome::ReturnLegacy(0)
        );
        assert_eq!(
            ask(&mut hart, LEGACY_SEND_IPI, &[0]),
            Outcome::ReturnLegacy(0)
        );
        assert_eq!(hart.ipis, [HartSet(0b0110), HartSet(0b1111)]);
        ask(&mut hart, LEGACY_REMOTE_SFENCE_VMA, &[0, 0, 0]);
        let all = Fence::Tables {
            range: Range::All,
            asid: Asid::Every,
        };
        assert_eq!(hart.fences, [(HartSet(0b1111), all)]);
    }

    #[test]
    fn a_mask_that_faults_is_the_guests_fault() {
        let fault = Fault {
            cause: Cause::LoadPageFault,
            value: 0x1000,
        };
        let mut hart = FakeHart {
            word: Err(fault),
            ..Default::default()
        };
        assert_eq!(
            ask(&mut hart, LEGACY_SEND_IPI, &[0x1000]),
            Outcome::Fault(fault)
        );
        assert!(hart.ipis.is_empty());
    }

    #[test]
    fn the_console_and_the_end_leave() {
        let mut hart = FakeHart::default();
        let get = Outcome::console(ConsoleCall::Get, Answer::Legacy);
        assert_eq!(ask(&mut hart, LEGACY_CONSOLE_GETCHAR, &[]), get);
        let end = Outcome::system(PowerRequest::Off);
        assert_eq!(ask(&mut hart, LEGACY_SHUTDOWN, &[]), end);
    }
}
