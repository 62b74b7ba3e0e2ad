// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! BASE: what this SBI is and which extensions it has.
//!
//! Spec: SBI, "Base Extension (EID #0x10)".

use sbi_spec::base::{
    GET_MARCHID, GET_MIMPID, GET_MVENDORID, GET_SBI_IMPL_ID, GET_SBI_IMPL_VERSION,
    GET_SBI_SPEC_VERSION, PROBE_EXTENSION,
};

use super::{Call, Hart, Outcome, find};

/// AxHive's number as an implementation: "Ax", as none is registered.
pub(super) const IMPLEMENTATION_ID: u64 = 0x4178;
/// Major and minor in the halves of 32 bits.
const IMPLEMENTATION_VERSION: u64 = 1;
/// What the machine registers read as when they tell nothing.
const UNTOLD: u64 = 0;

#[inline]
pub(super) fn answer(_hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [first, ..] = call.args;
    let value = match call.function as usize {
        GET_SBI_SPEC_VERSION => SPEC_VERSION,
        GET_SBI_IMPL_ID => IMPLEMENTATION_ID,
        GET_SBI_IMPL_VERSION => IMPLEMENTATION_VERSION,
        PROBE_EXTENSION => u64::from(find(first).is_some()),
        GET_MVENDORID | GET_MARCHID | GET_MIMPID => UNTOLD,
        _ => return Outcome::not_supported(),
    };
    Outcome::success(value)
}

/// The version of the specification, 3.0: the major number above 24 bits of the minor one.
const SPEC_VERSION: u64 = 3 << 24;

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, call};
    use super::*;
    use sbi_spec::base::EID_BASE;

    fn ask(function: usize, argument: u64) -> Outcome {
        call(&mut FakeHart::default(), EID_BASE, function, &[argument])
    }

    #[test]
    fn the_version_is_3_0() {
        assert_eq!(ask(GET_SBI_SPEC_VERSION, 0), Outcome::success(0x0300_0000));
    }

    #[test]
    fn a_probe_finds_what_is_there_and_nothing_else() {
        let present = [
            0x10, 0x54494d45, 0x735049, 0x52464e43, 0x48534d, 0x53525354, 0x4442434e, 0x504d55,
            0x53555350, 0x535441, 0x46574654, 8,
        ];
        for id in present {
            assert_eq!(ask(PROBE_EXTENSION, id), Outcome::success(1), "{id:#x}");
        }
        // Nothing of CPPC, NACL, SSE, DBTR and MPXY.
        let absent = [0x43505043, 0x4e41434c, 0x535345, 0x44425452, 0x4d505859];
        for id in [9, 0x11, 0x1_0000_0010].into_iter().chain(absent) {
            assert_eq!(ask(PROBE_EXTENSION, id), Outcome::success(0), "{id:#x}");
        }
    }

    #[test]
    fn an_unknown_function_is_not_supported() {
        assert_eq!(ask(7, 0), Outcome::not_supported());
    }
}
