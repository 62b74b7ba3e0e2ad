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
        EL3 OFFSET(12) NUMBITS(4) [],
        FP OFFSET(16) NUMBITS(4) [],
        ADV_SIMD OFFSET(20) NUMBITS(4) [],
        GIC OFFSET(24) NUMBITS(4) [ SystemRegisters = 1 ],
        SVE OFFSET(32) NUMBITS(4) [],
        AMU OFFSET(44) NUMBITS(4) [],
        DIT OFFSET(48) NUMBITS(4) [],
        /// Branches cannot be trained from another context; 2 and more have SCXTNUM.
        CSV2 OFFSET(56) NUMBITS(4) [],
        CSV3 OFFSET(60) NUMBITS(4) []
    ],

    pub(crate) PFR1 [
        BT OFFSET(0) NUMBITS(4) [],
        SSBS OFFSET(4) NUMBITS(4) []
    ],

    pub(crate) DFR0 [
        DEBUG OFFSET(0) NUMBITS(4) [ Armv8 = 6 ],
        BREAKPOINTS OFFSET(12) NUMBITS(4) [],
        WATCHPOINTS OFFSET(20) NUMBITS(4) [],
        CONTEXTS OFFSET(28) NUMBITS(4) []
    ],

    pub(crate) ISAR0 [
        /// From AES to CRC32 and the atomics.
        LOW OFFSET(4) NUMBITS(20) [],
        /// From RDM to the ranges of TLBI; before them is transactional memory.
        HIGH OFFSET(28) NUMBITS(32) [],
        RNDR OFFSET(60) NUMBITS(4) []
    ],

    pub(crate) ISAR1 [
        DPB OFFSET(0) NUMBITS(4) [],
        APA OFFSET(4) NUMBITS(4) [],
        API OFFSET(8) NUMBITS(4) [],
        /// JSCVT, FCMA, LRCPC.
        ARITHMETIC OFFSET(12) NUMBITS(12) [],
        GPA OFFSET(24) NUMBITS(4) [],
        GPI OFFSET(28) NUMBITS(4) [],
        /// From FRINTTS to I8MM.
        HIGH OFFSET(32) NUMBITS(24) []
    ],

    pub(crate) ISAR2 [
        RPRES OFFSET(4) NUMBITS(4) [],
        GPA3 OFFSET(8) NUMBITS(4) [],
        APA3 OFFSET(12) NUMBITS(4) [],
        BC OFFSET(20) NUMBITS(4) [],
        PAC_FRAC OFFSET(24) NUMBITS(4) [],
        CLRBHB OFFSET(28) NUMBITS(4) []
    ],

    pub(crate) MMFR0 [
        PARANGE OFFSET(0) NUMBITS(4) [],
        ASID_BITS OFFSET(4) NUMBITS(4) [],
        BIG_END OFFSET(8) NUMBITS(4) [],
        BIG_END_EL0 OFFSET(16) NUMBITS(4) [],
        GRANULES OFFSET(20) NUMBITS(12) [],
        EXS OFFSET(44) NUMBITS(4) [],
        FGT OFFSET(56) NUMBITS(4) []
    ],

    pub(crate) MMFR1 [
        HAFDBS OFFSET(0) NUMBITS(4) [],
        VMID_BITS OFFSET(4) NUMBITS(4) [ Bits16 = 2 ],
        HPDS OFFSET(12) NUMBITS(4) [],
        PAN OFFSET(20) NUMBITS(4) [],
        ETS OFFSET(36) NUMBITS(4) [],
        HCX OFFSET(40) NUMBITS(4) [],
        AFP OFFSET(44) NUMBITS(4) [],
        N_TLBPA OFFSET(48) NUMBITS(4) [],
        ECBHB OFFSET(60) NUMBITS(4) []
    ],

    pub(crate) MMFR2 [
        CNP OFFSET(0) NUMBITS(4) [],
        UAO OFFSET(4) NUMBITS(4) [],
        LSM OFFSET(8) NUMBITS(4) [],
        VA_RANGE OFFSET(16) NUMBITS(4) [],
        CCIDX OFFSET(20) NUMBITS(4) [],
        ST OFFSET(28) NUMBITS(4) [],
        AT OFFSET(32) NUMBITS(4) [],
        IDS OFFSET(36) NUMBITS(4) [],
        TTL OFFSET(48) NUMBITS(4) [],
        BBM OFFSET(52) NUMBITS(4) [],
        E0PD OFFSET(60) NUMBITS(4) []
    ]
];

pub(crate) const MIDR_EL1: SysReg<{ id(3, 0, 0, 0, 0) }> = SysReg::new();
pub(crate) const MPIDR_EL1: SysReg<{ id(3, 0, 0, 0, 5) }, MPIDR::Register> = SysReg::new();
pub(crate) const ID_AA64PFR0_EL1: SysReg<{ id(3, 0, 0, 4, 0) }, PFR0::Register> = SysReg::new();
pub(crate) const ID_AA64PFR1_EL1: SysReg<{ id(3, 0, 0, 4, 1) }, PFR1::Register> = SysReg::new();
pub(crate) const ID_AA64ZFR0_EL1: SysReg<{ id(3, 0, 0, 4, 4) }> = SysReg::new();
pub(crate) const ID_AA64DFR0_EL1: SysReg<{ id(3, 0, 0, 5, 0) }, DFR0::Register> = SysReg::new();
pub(crate) const ID_AA64ISAR0_EL1: SysReg<{ id(3, 0, 0, 6, 0) }, ISAR0::Register> = SysReg::new();
pub(crate) const ID_AA64ISAR1_EL1: SysReg<{ id(3, 0, 0, 6, 1) }, ISAR1::Register> = SysReg::new();
pub(crate) const ID_AA64ISAR2_EL1: SysReg<{ id(3, 0, 0, 6, 2) }, ISAR2::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR0_EL1: SysReg<{ id(3, 0, 0, 7, 0) }, MMFR0::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR1_EL1: SysReg<{ id(3, 0, 0, 7, 1) }, MMFR1::Register> = SysReg::new();
pub(crate) const ID_AA64MMFR2_EL1: SysReg<{ id(3, 0, 0, 7, 2) }, MMFR2::Register> = SysReg::new();
pub(crate) const CNTFRQ_EL0: SysReg<{ id(3, 3, 14, 0, 0) }> = SysReg::new();
pub(crate) const CNTPCT_EL0: SysReg<{ id(3, 3, 14, 0, 1) }> = SysReg::new();
