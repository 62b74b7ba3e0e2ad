// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The numbers of the model-specific registers that anything here names.
//!
//! Spec: AMD64 APM 2, "MSR Cross-Reference"; Intel SDM 4.

/// A model-specific register's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Msr(pub(crate) u32);

impl Msr {
    pub(crate) const TSC: Self = Self(0x10);
    pub(crate) const PLATFORM_ID: Self = Self(0x17);
    pub(crate) const APIC_BASE: Self = Self(0x1b);
    pub(crate) const MICROCODE: Self = Self(0x8b);
    pub(crate) const MTRR_CAP: Self = Self(0xfe);
    pub(crate) const SYSENTER_CS: Self = Self(0x174);
    pub(crate) const SYSENTER_ESP: Self = Self(0x175);
    pub(crate) const SYSENTER_EIP: Self = Self(0x176);
    pub(crate) const MCG_CAP: Self = Self(0x179);
    pub(crate) const MCG_STATUS: Self = Self(0x17a);
    pub(crate) const MISC_ENABLE: Self = Self(0x1a0);
    pub(crate) const MTRR_VARIABLE: Self = Self(0x200);
    pub(crate) const MTRR_FIX_64K: Self = Self(0x250);
    pub(crate) const MTRR_FIX_16K: Self = Self(0x258);
    pub(crate) const MTRR_FIX_4K: Self = Self(0x268);
    pub(crate) const PAT: Self = Self(0x277);
    pub(crate) const MTRR_DEFAULT: Self = Self(0x2ff);
    pub(crate) const TSC_DEADLINE: Self = Self(0x6e0);
    pub(crate) const X2APIC_FIRST: Self = Self(0x800);
    pub(crate) const X2APIC_END: Self = Self(0x80b);
    pub(crate) const X2APIC_SELF_IPI: Self = Self(0x83f);
    pub(crate) const X2APIC_LAST: Self = Self(0x8ff);
    pub(crate) const PV_WALL_CLOCK: Self = Self(0x4b56_4d00);
    pub(crate) const PV_SYSTEM_TIME: Self = Self(0x4b56_4d01);
    pub(crate) const EFER: Self = Self(0xc000_0080);
    pub(crate) const STAR: Self = Self(0xc000_0081);
    pub(crate) const LSTAR: Self = Self(0xc000_0082);
    pub(crate) const CSTAR: Self = Self(0xc000_0083);
    pub(crate) const SFMASK: Self = Self(0xc000_0084);
    pub(crate) const FS_BASE: Self = Self(0xc000_0100);
    pub(crate) const GS_BASE: Self = Self(0xc000_0101);
    pub(crate) const KERNEL_GS_BASE: Self = Self(0xc000_0102);
    pub(crate) const TSC_AUX: Self = Self(0xc000_0103);
    pub(crate) const SYSCFG: Self = Self(0xc001_0010);
    pub(crate) const HWCR: Self = Self(0xc001_0015);
    pub(crate) const NB_CFG: Self = Self(0xc001_001f);
    pub(crate) const INTERRUPT_PENDING: Self = Self(0xc001_0055);
    pub(crate) const VM_CR: Self = Self(0xc001_0114);
    pub(crate) const VM_HSAVE_PA: Self = Self(0xc001_0117);
    pub(crate) const LS_CFG: Self = Self(0xc001_1020);
    pub(crate) const DE_CFG: Self = Self(0xc001_1029);
}
