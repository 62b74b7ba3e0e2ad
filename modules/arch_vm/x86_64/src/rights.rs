// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which bits of CR4 and EFER a guest may set: those of features that it is shown.
//!
//! Made by `cpuid` with what a VM's guests see. Any other bit is refused as by a CPU
//! that does not have the feature, whatever this one has: what it switches on may
//! have state that is not switched with the vCPU (protection keys), or change what
//! the hypervisor does for the guest (addresses of 57 bits).
//!
//! Spec: AMD64 APM 2, "CR4 Register", "Extended Feature Enable Register (EFER)";
//! Intel SDM 3, "Control Registers", "Enumeration of Paging Features by CPUID".

use crate::regs::{CR4, EFER, Leaf};

/// Registers of a leaf.
const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

const LEAF_FEATURES: (u32, u32) = (1, 0);
const LEAF_STRUCTURED: (u32, u32) = (7, 0);
const LEAF_STRUCTURED_MORE: (u32, u32) = (7, 1);
const LEAF_EXTENDED: (u32, u32) = (0x8000_0001, 0);

/// A feature, by its leaf, register and bit, and what it brings.
type Feature = ((u32, u32), usize, u32, u64);

/// All that CPUs have so far.
const OF_CR4: [Feature; 27] = [
    (
        LEAF_FEATURES,
        EDX,
        1,
        CR4::VME::SET.value | CR4::PVI::SET.value,
    ),
    (LEAF_FEATURES, EDX, 2, CR4::DE::SET.value),
    (LEAF_FEATURES, EDX, 3, CR4::PSE::SET.value),
    (LEAF_FEATURES, EDX, 4, CR4::TSD::SET.value),
    (LEAF_FEATURES, EDX, 6, CR4::PAE::SET.value),
    (LEAF_FEATURES, EDX, 7, CR4::MCE::SET.value),
    (LEAF_FEATURES, EDX, 13, CR4::PGE::SET.value),
    (LEAF_FEATURES, EDX, 24, CR4::OSFXSR::SET.value),
    (LEAF_FEATURES, EDX, 25, CR4::OSXMMEXCPT::SET.value),
    (LEAF_FEATURES, ECX, 5, CR4::VMXE::SET.value),
    (LEAF_FEATURES, ECX, 6, CR4::SMXE::SET.value),
    (LEAF_FEATURES, ECX, 17, CR4::PCIDE::SET.value),
    (LEAF_FEATURES, ECX, 26, CR4::OSXSAVE::SET.value),
    (LEAF_STRUCTURED, EBX, 0, CR4::FSGSBASE::SET.value),
    (LEAF_STRUCTURED, EBX, 7, CR4::SMEP::SET.value),
    (LEAF_STRUCTURED, EBX, 20, CR4::SMAP::SET.value),
    (LEAF_STRUCTURED, ECX, 2, CR4::UMIP::SET.value),
    (LEAF_STRUCTURED, ECX, 3, CR4::PKE::SET.value),
    (LEAF_STRUCTURED, ECX, 7, CR4::CET::SET.value),
    (LEAF_STRUCTURED, ECX, 16, CR4::LA57::SET.value),
    (LEAF_STRUCTURED, ECX, 23, CR4::KL::SET.value),
    (LEAF_STRUCTURED, ECX, 31, CR4::PKS::SET.value),
    (LEAF_STRUCTURED, EDX, 5, CR4::UINTR::SET.value),
    (LEAF_STRUCTURED, EDX, 20, CR4::CET::SET.value),
    (LEAF_STRUCTURED_MORE, EAX, 6, CR4::LASS::SET.value),
    (LEAF_STRUCTURED_MORE, EAX, 17, CR4::FRED::SET.value),
    (LEAF_STRUCTURED_MORE, EAX, 26, CR4::LAM_SUP::SET.value),
];
/// Every 64-bit CPU counts events.
const ALWAYS: u64 = CR4::PCE::SET.value;

const OF_EFER: [Feature; 3] = [
    (LEAF_EXTENDED, EDX, 11, EFER::SCE::SET.value),
    (LEAF_EXTENDED, EDX, 20, EFER::NXE::SET.value),
    (
        LEAF_EXTENDED,
        EDX,
        29,
        EFER::LME::SET.value | EFER::LMA::SET.value,
    ),
];

/// What of the control registers a guest has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The bits of CR4 that it may set.
    pub(crate) cr4: u64,
    /// The bits of EFER that it may set.
    pub(crate) efer: u64,
    /// This CPU has more of CR4, and would let the guest set it.
    pub(crate) is_cr4_cut: bool,
}

impl Rights {
    /// Finds what goes with the leaves that a guest is shown, on a CPU with its own.
    pub(crate) fn of(shown: impl Fn(u32, u32) -> Leaf, own: impl Fn(u32, u32) -> Leaf) -> Self {
        let cr4 = ALWAYS | granted(&OF_CR4, &shown);
        Self {
            cr4,
            efer: granted(&OF_EFER, &shown),
            is_cr4_cut: granted(&OF_CR4, &own) & !cr4 != 0,
        }
    }
}

/// Returns all that leaves bring.
fn granted(features: &[Feature], leaves: &impl Fn(u32, u32) -> Leaf) -> u64 {
    let is_there = |&&((leaf, subleaf), register, bit, _): &&Feature| {
        let word = leaves(leaf, subleaf).get(register).copied();
        word.unwrap_or(0).wrapping_shr(bit) & 1 == 1
    };
    let there = features.iter().filter(is_there);
    there.fold(0, |all, (.., bits)| all | bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: fn(u32, u32) -> Leaf = |_, _| [0; 4];

    #[test]
    fn a_bit_goes_with_its_feature() {
        let keys = |leaf, subleaf| match (leaf, subleaf) {
            LEAF_STRUCTURED => [0, 0, 1 << 3, 0],
            _ => [0; 4],
        };
        let hidden = Rights::of(NOTHING, keys);
        assert_eq!((hidden.cr4, hidden.efer), (1 << 8, 0));
        assert!(hidden.is_cr4_cut);
        let shown = Rights::of(keys, keys);
        assert_eq!(shown.cr4, 1 << 22 | 1 << 8);
        assert!(!shown.is_cr4_cut);
    }

    #[test]
    fn all_bits_that_manuals_name_are_known() {
        let everything = Rights::of(|_, _| [u32::MAX; 4], NOTHING);
        assert_eq!(everything.cr4, 0x1_1bff_7fff);
        assert_eq!(everything.efer, 1 << 0 | 1 << 8 | 1 << 10 | 1 << 11);
    }
}
