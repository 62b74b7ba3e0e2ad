// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers that identify this CPU, and the counter.
//!
//! Spec: Arm Architecture Reference Manual, "ID_AA64PFR0_EL1" and the like.

use tock_registers::register_bitfields;

use super::{SysReg, id};

register_bitfields![u64,
    pub(crate) MPIDR [
        AFF0 OFFSET(0) NUMBITS(8) [],
        AFF1 OFFSET(8) NUMBITS(8) [],
        AFF2 OFFSET(16) NUMBITS(8) [],
        /// There are several CPUs, or could be.
        RES1 OFFSET(31) NUMBITS(1) [],
        AFF3 OFFSET(32) NUMBITS(8) []
    ],

    pub(crate) PFR0 [
        EL0 OFFSET(0) NUMBITS(4) [ AArch64Only = 1 ],
        EL1 OFFSET(4) NUMBITS(4) [ AArch64Only = 1 ],
        EL2 OFFSET(8) NUMBITS(4) [],
        EL3 OFFSET(12) NUMBITS(4) [],
        GIC OFFSET(24) NUMBITS(4) [ SystemRegisters = 1 ],
        RAS OFFSET(28) NUMBITS(4) [],
        SVE OFFSET(32) NUMBITS(4) [],
        SEL2 OFFSET(36) NUMBITS(4) [],
        MPAM OFFSET(40) NUMBITS(4) [],
        AMU OFFSET(44) NUMBITS(4) [],
        RME OFFSET(52) NUMBITS(4) []
    ],

    pub(crate) PFR1 [
        MTE OFFSET(8) NUMBITS(4) [],
        RAS_FRAC OFFSET(12) NUMBITS(4) [],
        MPAM_FRAC OFFSET(16) NUMBITS(4) [],
        SME OFFSET(24) NUMBITS(4) [],
        NMI OFFSET(36) NUMBITS(4) []
    ],

    pub(crate) DFR0 [
        DEBUG OFFSET(0) NUMBITS(4) [ Armv8 = 6 ],
        TRACE OFFSET(4) NUMBITS(4) [],
        PMU OFFSET(8) NUMBITS(4) [],
        BREAKPOINTS OFFSET(12) NUMBITS(4) [],
        WATCHPOINTS OFFSET(20) NUMBITS(4) [],
        CONTEXTS OFFSET(28) NUMBITS(4) []
    ],

    pub(crate) ISAR1 [
        APA OFFSET(4) NUMBITS(4) [],
        API OFFSET(8) NUMBITS(4) [],
        GPA OFFSET(24) NUMBITS(4) [],
        GPI OFFSET(28) NUMBITS(4) [],
        LS64 OFFSET(60) NUMBITS(4) []
    ],

    pub(crate) ISAR2 [
        GPA3 OFFSET(8) NUMBITS(4) [],
        APA3 OFFSET(12) NUMBITS(4) [],
        MOPS OFFSET(16) NUMBITS(4) []
    ],

    pub(crate) MMFR0 [
        PARANGE OFFSET(0) NUMBITS(4) [],
        FGT OFFSET(56) NUMBITS(4) [],
        ECV OFFSET(60) NUMBITS(4) []
    ],

    pub(crate) MMFR1 [
        VMID_BITS OFFSET(4) NUMBITS(4) [ Bits16 = 2 ],
        VH OFFSET(8) NUMBITS(4) [],
        LO OFFSET(16) NUMBITS(4) [],
        HCX OFFSET(40) NUMBITS(4) []
    ],

    pub(crate) MMFR2 [
        NV OFFSET(24) NUMBITS(4) []
    ]
];

pub(crate) const MIDR_EL1: SysReg<{ id(3, 0, 0, 0, 0) }> = SysReg::new();
pub(crate) const MPIDR_EL1: SysReg<{ id(3, 0, 0, 0, 5) }, MPIDR::Register> = SysReg::new();
pub(crate) const ID_AA64PFR0_EL1: SysReg<{ id(3, 0, 0, 4, 0) }, PFR0::Register> = SysReg::new();
pub(crate) const ID_AA64PFR1_EL1: SysReg<{ id(3, 0, 0, 4, 1) }, PFR1::Register> = SysReg::new();
pub(crate) const ID_AA64DFR0_EL1: SysReg<{ id(3, 0, 0, 5, 0) }, DFR0::Register> = SysReg::new();
pub(crate) const ID_AA64ISAR0_EL1: SysReg<{ id(3, 0, 0, 6, 0) }> = SysReg::new();
pub(crate) const ID_AA64ISAR1_EL1: SysReg<{ id(3, 0, 0, 6, 1) }, ISAR1::Register> = SysReg::new();
pub(crate) const ID_AA64ISAR2_EL1: SysReg<{ id(3, 0, 0, 6, 2) }, ISAR2::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR0_EL1: SysReg<{ id(3, 0, 0, 7, 0) }, MMFR0::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR1_EL1: SysReg<{ id(3, 0, 0, 7, 1) }, MMFR1::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR2_EL1: SysReg<{ id(3, 0, 0, 7, 2) }, MMFR2::Register> = SysReg::new();
pub(crate) const CNTFRQ_EL0: SysReg<{ id(3, 3, 14, 0, 0) }> = SysReg::new();
pub(crate) const CNTPCT_EL0: SysReg<{ id(3, 3, 14, 0, 1) }> = SysReg::new();
