// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! AxHive's own calls, in the range that belongs to this implementation's id.
//!
//! Spec: SBI, "Firmware Specific Extension Space".

use axvm::AxVCpuExitReason;

use super::{Answer, Call, Hart, Outcome, base::IMPLEMENTATION_ID};

const FIRMWARE_SPACE: u64 = 0x0a00_0000;
/// The extension's id.
pub(super) const EID: usize = (FIRMWARE_SPACE | IMPLEMENTATION_ID) as usize;

pub(super) fn answer(_hart: &mut dyn Hart, call: &Call) -> Outcome {
    let exit = AxVCpuExitReason::Hypercall {
        nr: call.function,
        args: call.args,
    };
    Outcome::Leave(exit, Answer::Value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;

    #[test]
    fn a_call_leaves_as_a_hypercall() {
        let exit = AxVCpuExitReason::Hypercall {
            nr: 3,
            args: [1, 2, 0, 0, 0, 0],
        };
        let outcome = call(&mut FakeHart::default(), EID, 3, &[1, 2]);
        assert_eq!(outcome, Outcome::Leave(exit, Answer::Value));
    }
}
