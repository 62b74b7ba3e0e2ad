// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! RFENCE: fences on other harts.
//!
//! The guest has no hypervisor extension, so its HFENCEs are not supported.
//!
//! Spec: SBI, "RFENCE Extension (EID #0x52464E43 \"RFNC\")".

use sbi_spec::rfnc::{
    REMOTE_FENCE_I, REMOTE_HFENCE_GVMA, REMOTE_HFENCE_GVMA_VMID, REMOTE_HFENCE_VVMA,
    REMOTE_HFENCE_VVMA_ASID, REMOTE_SFENCE_VMA, REMOTE_SFENCE_VMA_ASID,
};

use super::{Call, Hart, HartSet, Outcome, Ret};
use crate::fence::{Asid, Fence, Range};

#[inline]
pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [mask, base, start, size, asid, _] = call.args;
    let fence = match call.function as usize {
        REMOTE_FENCE_I => Some(Fence::Instructions),
        REMOTE_SFENCE_VMA => tables(start, size, Asid::Every),
        REMOTE_SFENCE_VMA_ASID => tables(start, size, Asid::One(asid)),
        REMOTE_HFENCE_GVMA_VMID | REMOTE_HFENCE_GVMA => return Outcome::not_supported(),
        REMOTE_HFENCE_VVMA_ASID | REMOTE_HFENCE_VVMA => return Outcome::not_supported(),
        _ => return Outcome::not_supported(),
    };
    let targets = match HartSet::from_mask(mask, base, hart.count()) {
        Ok(targets) => targets,
        Err(refused) => return Outcome::Return(refused),
    };
    match fence {
        Some(fence) => {
            hart.fence(targets, fence);
            Outcome::success(0)
        }
        None => Outcome::Return(Ret::invalid_address()),
    }
}

/// Reads a range of virtual addresses; one that wraps is none.
pub(super) fn tables(start: u64, size: u64, asid: Asid) -> Option<Fence> {
    let range = match (start, size) {
        (0, 0) | (_, u64::MAX) => Range::All,
        (_, 0) => Range::Bytes { start, last: start },
        _ => Range::Bytes {
            start,
            last: start.checked_add(size.checked_sub(1)?)?,
        },
    };
    Some(Fence::Tables { range, asid })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use sbi_spec::rfnc::EID_RFNC;

    fn ask(function: usize, args: &[u64]) -> (Outcome, Option<Fence>) {
        let mut hart = FakeHart::default();
        let outcome = call(&mut hart, EID_RFNC, function, args);
        (outcome, hart.fences.pop().map(|(_, fence)| fence))
    }

    #[test]
    fn ranges_and_address_spaces_are_passed_on() {
        let asid = Asid::Every;
        let all = Fence::Tables {
            range: Range::All,
            asid,
        };
        assert_eq!(ask(REMOTE_SFENCE_VMA, &[1, 0, 0, 0]).1, Some(all));
        assert_eq!(ask(REMOTE_SFENCE_VMA, &[1, 0, 5, u64::MAX]).1, Some(all));
        let range = Range::Bytes {
            start: 0x1000,
            last: 0x2fff,
        };
        let two_pages = Fence::Tables {
            range,
            asid: Asid::One(9),
        };
        let args = [1, 0, 0x1000, 0x2000, 9];
        assert_eq!(ask(REMOTE_SFENCE_VMA_ASID, &args).1, Some(two_pages));
        assert_eq!(ask(REMOTE_FENCE_I, &[1, 0]).1, Some(Fence::Instructions));
    }

    #[test]
    fn the_last_page_does_not_wrap_and_the_next_one_does() {
        let last_page = u64::MAX - 0xfff;
        assert_eq!(
            ask(REMOTE_SFENCE_VMA, &[1, 0, last_page, 0x1000]).0,
            Outcome::success(0)
        );
        let (refused, fence) = ask(REMOTE_SFENCE_VMA, &[1, 0, last_page, 0x1001]);
        assert_eq!(
            (refused, fence),
            (Outcome::Return(Ret::invalid_address()), None)
        );
    }

    #[test]
    fn harts_that_do_not_exist_are_refused_before_anything_happens() {
        let (refused, fence) = ask(REMOTE_FENCE_I, &[1, 4]);
        assert_eq!((refused, fence), (Outcome::invalid_param(), None));
    }

    #[test]
    fn hypervisor_fences_are_not_supported() {
        for function in REMOTE_HFENCE_GVMA_VMID..=8 {
            assert_eq!(ask(function, &[1, 0]).0, Outcome::not_supported());
        }
    }
}
