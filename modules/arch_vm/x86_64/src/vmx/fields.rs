// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The fields of a virtual-machine control structure, each with its type.
//!
//! What is read from a field has its width; a wrong one does not compile.
//!
//! Spec: Intel SDM 3, appendix B, "Field Encoding in VMCS".

use core::marker::PhantomData;

/// A field of so many bits.
pub(super) struct Field<T> {
    /// Its encoding.
    pub(super) encoding: u32,
    width: PhantomData<T>,
}

impl<T> Clone for Field<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Field<T> {}

const fn field<T>(encoding: u32) -> Field<T> {
    Field {
        encoding,
        width: PhantomData,
    }
}

/// The integers that fields hold; a natural width is 64 bits here.
pub(super) trait Width: Copy {
    /// Takes the low bits.
    fn narrow(value: u64) -> Self;
    /// Adds zeros.
    fn widen(self) -> u64;
}

macro_rules! width {
    ($($type:ty),*) => {$(
        impl Width for $type {
            #[inline]
            fn narrow(value: u64) -> Self {
                value as Self
            }

            #[inline]
            fn widen(self) -> u64 {
                self.into()
            }
        }
    )*};
}

width!(u16, u32, u64);

/// The four fields of a guest's segment register.
#[derive(Clone, Copy)]
pub(super) struct SegmentFields {
    pub(super) selector: Field<u16>,
    pub(super) limit: Field<u32>,
    pub(super) rights: Field<u32>,
    pub(super) base: Field<u64>,
}

/// Returns the fields of the segment register that comes at this place.
const fn segment(index: u32) -> SegmentFields {
    let offset = index.wrapping_mul(2);
    SegmentFields {
        selector: field(0x0800_u32.wrapping_add(offset)),
        limit: field(0x4800_u32.wrapping_add(offset)),
        rights: field(0x4814_u32.wrapping_add(offset)),
        base: field(0x6806_u32.wrapping_add(offset)),
    }
}

pub(super) const VPID: Field<u16> = field(0x0000);

pub(super) const GUEST_ES: SegmentFields = segment(0);
pub(super) const GUEST_CS: SegmentFields = segment(1);
pub(super) const GUEST_SS: SegmentFields = segment(2);
pub(super) const GUEST_DS: SegmentFields = segment(3);
pub(super) const GUEST_FS: SegmentFields = segment(4);
pub(super) const GUEST_GS: SegmentFields = segment(5);
pub(super) const GUEST_LDTR: SegmentFields = segment(6);
pub(super) const GUEST_TR: SegmentFields = segment(7);

pub(super) const INTERRUPT_STATUS: Field<u16> = field(0x0810);

pub(super) const HOST_ES: Field<u16> = field(0x0c00);
pub(super) const HOST_CS: Field<u16> = field(0x0c02);
pub(super) const HOST_SS: Field<u16> = field(0x0c04);
pub(super) const HOST_DS: Field<u16> = field(0x0c06);
pub(super) const HOST_FS: Field<u16> = field(0x0c08);
pub(super) const HOST_GS: Field<u16> = field(0x0c0a);
pub(super) const HOST_TR: Field<u16> = field(0x0c0c);

pub(super) const MSR_BITMAP: Field<u64> = field(0x2004);
pub(super) const TSC_OFFSET: Field<u64> = field(0x2010);
pub(super) const VIRTUAL_APIC: Field<u64> = field(0x2012);
pub(super) const APIC_ACCESS: Field<u64> = field(0x2014);
pub(super) const EPT_POINTER: Field<u64> = field(0x201a);
pub(super) const EOI_EXITS: [Field<u64>; 4] =
    [field(0x201c), field(0x201e), field(0x2020), field(0x2022)];
pub(super) const GUEST_PHYSICAL_ADDRESS: Field<u64> = field(0x2400);
pub(super) const LINK_POINTER: Field<u64> = field(0x2800);
pub(super) const GUEST_DEBUGCTL: Field<u64> = field(0x2802);
pub(super) const GUEST_PAT: Field<u64> = field(0x2804);
pub(super) const GUEST_EFER: Field<u64> = field(0x2806);
pub(super) const HOST_PAT: Field<u64> = field(0x2c00);
pub(super) const HOST_EFER: Field<u64> = field(0x2c02);

pub(super) const PIN_CONTROLS: Field<u32> = field(0x4000);
pub(super) const PRIMARY_CONTROLS: Field<u32> = field(0x4002);
pub(super) const EXCEPTION_BITMAP: Field<u32> = field(0x4004);
pub(super) const EXIT_CONTROLS: Field<u32> = field(0x400c);
pub(super) const ENTRY_CONTROLS: Field<u32> = field(0x4012);
pub(super) const ENTRY_EVENT: Field<u32> = field(0x4016);
pub(super) const ENTRY_ERROR: Field<u32> = field(0x4018);
pub(super) const TPR_THRESHOLD: Field<u32> = field(0x401c);
pub(super) const SECONDARY_CONTROLS: Field<u32> = field(0x401e);
pub(super) const INSTRUCTION_ERROR: Field<u32> = field(0x4400);
pub(super) const EXIT_REASON: Field<u32> = field(0x4402);
pub(super) const EXIT_EVENT: Field<u32> = field(0x4404);
pub(super) const EXIT_ERROR: Field<u32> = field(0x4406);
pub(super) const VECTORING_EVENT: Field<u32> = field(0x4408);
pub(super) const VECTORING_ERROR: Field<u32> = field(0x440a);
pub(super) const EXIT_LENGTH: Field<u32> = field(0x440c);
pub(super) const GUEST_GDTR_LIMIT: Field<u32> = field(0x4810);
pub(super) const GUEST_IDTR_LIMIT: Field<u32> = field(0x4812);
pub(super) const INTERRUPTIBILITY: Field<u32> = field(0x4824);
pub(super) const ACTIVITY: Field<u32> = field(0x4826);
pub(super) const GUEST_SYSENTER_CS: Field<u32> = field(0x482a);
pub(super) const PREEMPTION_TIMER: Field<u32> = field(0x482e);
pub(super) const HOST_SYSENTER_CS: Field<u32> = field(0x4c00);

pub(super) const CR0_MASK: Field<u64> = field(0x6000);
pub(super) const CR4_MASK: Field<u64> = field(0x6002);
pub(super) const CR0_SHADOW: Field<u64> = field(0x6004);
pub(super) const CR4_SHADOW: Field<u64> = field(0x6006);
pub(super) const QUALIFICATION: Field<u64> = field(0x6400);
pub(super) const GUEST_CR0: Field<u64> = field(0x6800);
pub(super) const GUEST_CR3: Field<u64> = field(0x6802);
pub(super) const GUEST_CR4: Field<u64> = field(0x6804);
pub(super) const GUEST_GDTR_BASE: Field<u64> = field(0x6816);
pub(super) const GUEST_IDTR_BASE: Field<u64> = field(0x6818);
pub(super) const GUEST_DR7: Field<u64> = field(0x681a);
pub(super) const GUEST_RSP: Field<u64> = field(0x681c);
pub(super) const GUEST_RIP: Field<u64> = field(0x681e);
pub(super) const GUEST_RFLAGS: Field<u64> = field(0x6820);
pub(super) const PENDING_DEBUG: Field<u64> = field(0x6822);
pub(super) const GUEST_SYSENTER_ESP: Field<u64> = field(0x6824);
pub(super) const GUEST_SYSENTER_EIP: Field<u64> = field(0x6826);
pub(super) const HOST_CR0: Field<u64> = field(0x6c00);
pub(super) const HOST_CR3: Field<u64> = field(0x6c02);
pub(super) const HOST_CR4: Field<u64> = field(0x6c04);
pub(super) const HOST_FS_BASE: Field<u64> = field(0x6c06);
pub(super) const HOST_GS_BASE: Field<u64> = field(0x6c08);
pub(super) const HOST_TR_BASE: Field<u64> = field(0x6c0a);
pub(super) const HOST_GDTR_BASE: Field<u64> = field(0x6c0c);
pub(super) const HOST_IDTR_BASE: Field<u64> = field(0x6c0e);
pub(super) const HOST_SYSENTER_ESP: Field<u64> = field(0x6c10);
pub(super) const HOST_SYSENTER_EIP: Field<u64> = field(0x6c12);
/// Written by the assembly, each time, since the stack may be another.
#[cfg_attr(
    not(all(target_arch = "x86_64", target_os = "none")),
    expect(dead_code, reason = "there is no assembly off the real machine")
)]
pub(super) const HOST_RSP: u32 = 0x6c14;
pub(super) const HOST_RIP: Field<u64> = field(0x6c16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_have_the_width_of_their_types() {
        // Bits 13 and 14 of an encoding: 16, 64, 32 bits, natural.
        let width = |encoding: u32| encoding >> 13 & 3;
        for segment in [GUEST_ES, GUEST_CS, GUEST_LDTR, GUEST_TR] {
            assert_eq!(width(segment.selector.encoding), 0);
            assert_eq!(width(segment.limit.encoding), 2);
            assert_eq!(width(segment.rights.encoding), 2);
            assert_eq!(width(segment.base.encoding), 3);
        }
        assert_eq!(GUEST_TR.rights.encoding, 0x4822);
        assert_eq!(GUEST_TR.base.encoding, 0x6814);
        assert_eq!(width(VPID.encoding), 0);
        assert_eq!(width(EPT_POINTER.encoding), 1);
        assert_eq!(width(EXIT_REASON.encoding), 2);
    }
}
