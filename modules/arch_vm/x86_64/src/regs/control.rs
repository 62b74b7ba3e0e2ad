// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Fields of the control registers and of the flags.
//!
//! Spec: AMD64 APM 2, "CR0 Register", "CR4 Register", "Extended Feature Enable
//! Register (EFER)", "RFLAGS Register".

use tock_registers::{LocalRegisterCopy, RegisterLongName, register_bitfields};

register_bitfields![u64,
    pub(crate) RFLAGS [
        CARRY OFFSET(0) NUMBITS(1) [],
        ALWAYS_ONE OFFSET(1) NUMBITS(1) [],
        PARITY OFFSET(2) NUMBITS(1) [],
        ADJUST OFFSET(4) NUMBITS(1) [],
        ZERO OFFSET(6) NUMBITS(1) [],
        SIGN OFFSET(7) NUMBITS(1) [],
        TRAP OFFSET(8) NUMBITS(1) [],
        INTERRUPT OFFSET(9) NUMBITS(1) [],
        DIRECTION OFFSET(10) NUMBITS(1) [],
        OVERFLOW OFFSET(11) NUMBITS(1) [],
        RESUME OFFSET(16) NUMBITS(1) [],
        VIRTUAL_8086 OFFSET(17) NUMBITS(1) [],
        ALIGNMENT OFFSET(18) NUMBITS(1) [],
    ],
    pub(crate) CR0 [
        PE OFFSET(0) NUMBITS(1) [],
        EM OFFSET(2) NUMBITS(1) [],
        TS OFFSET(3) NUMBITS(1) [],
        ET OFFSET(4) NUMBITS(1) [],
        NE OFFSET(5) NUMBITS(1) [],
        WP OFFSET(16) NUMBITS(1) [],
        NW OFFSET(29) NUMBITS(1) [],
        CD OFFSET(30) NUMBITS(1) [],
        PG OFFSET(31) NUMBITS(1) [],
    ],
    pub(crate) CR4 [
        VME OFFSET(0) NUMBITS(1) [],
        PVI OFFSET(1) NUMBITS(1) [],
        TSD OFFSET(2) NUMBITS(1) [],
        DE OFFSET(3) NUMBITS(1) [],
        PSE OFFSET(4) NUMBITS(1) [],
        PAE OFFSET(5) NUMBITS(1) [],
        MCE OFFSET(6) NUMBITS(1) [],
        PGE OFFSET(7) NUMBITS(1) [],
        PCE OFFSET(8) NUMBITS(1) [],
        OSFXSR OFFSET(9) NUMBITS(1) [],
        OSXMMEXCPT OFFSET(10) NUMBITS(1) [],
        UMIP OFFSET(11) NUMBITS(1) [],
        LA57 OFFSET(12) NUMBITS(1) [],
        VMXE OFFSET(13) NUMBITS(1) [],
        SMXE OFFSET(14) NUMBITS(1) [],
        FSGSBASE OFFSET(16) NUMBITS(1) [],
        PCIDE OFFSET(17) NUMBITS(1) [],
        OSXSAVE OFFSET(18) NUMBITS(1) [],
        KL OFFSET(19) NUMBITS(1) [],
        SMEP OFFSET(20) NUMBITS(1) [],
        SMAP OFFSET(21) NUMBITS(1) [],
        PKE OFFSET(22) NUMBITS(1) [],
        CET OFFSET(23) NUMBITS(1) [],
        PKS OFFSET(24) NUMBITS(1) [],
        UINTR OFFSET(25) NUMBITS(1) [],
        LASS OFFSET(27) NUMBITS(1) [],
        LAM_SUP OFFSET(28) NUMBITS(1) [],
        FRED OFFSET(32) NUMBITS(1) [],
    ],
    pub(crate) EFER [
        SCE OFFSET(0) NUMBITS(1) [],
        LME OFFSET(8) NUMBITS(1) [],
        LMA OFFSET(10) NUMBITS(1) [],
        NXE OFFSET(11) NUMBITS(1) [],
        SVME OFFSET(12) NUMBITS(1) [],
        FFXSR OFFSET(14) NUMBITS(1) [],
    ],
];

/// Looks at a value by its register's fields.
pub(crate) fn bits<R: RegisterLongName>(value: u64) -> LocalRegisterCopy<u64, R> {
    LocalRegisterCopy::new(value)
}
