// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The supervisor CSRs that a guest shares with the hypervisor, and the fields
//! that the VS CSRs have from them.
//!
//! Spec: RISC-V Privileged, "Supervisor-Level ISA", "Supervisor CSRs".

use tock_registers::register_bitfields;

use super::{Csr, PLAIN};

register_bitfields![u64,
    pub(crate) SSTATUS [
        SIE OFFSET(1) NUMBITS(1) [],
        SPIE OFFSET(5) NUMBITS(1) [],
        SPP OFFSET(8) NUMBITS(1) [ User = 0, Supervisor = 1 ],
        VS OFFSET(9) NUMBITS(2) [ Off = 0, Initial = 1, Clean = 2, Dirty = 3 ],
        FS OFFSET(13) NUMBITS(2) [ Off = 0, Initial = 1, Clean = 2, Dirty = 3 ],
        XS OFFSET(15) NUMBITS(2) [],
        SUM OFFSET(18) NUMBITS(1) [],
        MXR OFFSET(19) NUMBITS(1) [],
        UXL OFFSET(32) NUMBITS(2) [ Xlen64 = 2 ],
        SD OFFSET(63) NUMBITS(1) []
    ],

    /// Interrupts where sie, sip, vsie and vsip have them.
    pub(crate) S_INTERRUPTS [
        SOFTWARE OFFSET(1) NUMBITS(1) [],
        TIMER OFFSET(5) NUMBITS(1) [],
        EXTERNAL OFFSET(9) NUMBITS(1) []
    ],

    pub(crate) CAUSE [
        CODE OFFSET(0) NUMBITS(63) [],
        INTERRUPT OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) TVEC [
        MODE OFFSET(0) NUMBITS(2) [ Direct = 0, Vectored = 1 ],
        /// The address without its two low bits.
        BASE OFFSET(2) NUMBITS(62) []
    ]
];

pub(crate) const SSTATUS: Csr<0x100, SSTATUS::Register> = Csr::new();
pub(crate) const SCOUNTEREN: Csr<0x106, super::COUNTERS::Register> = Csr::new();
pub(crate) const SENVCFG: Csr<0x10a, PLAIN::Register> = Csr::new();
pub(crate) const SCAUSE: Csr<0x142, CAUSE::Register> = Csr::new();
pub(crate) const STVAL: Csr<0x143, PLAIN::Register> = Csr::new();
pub(crate) const CYCLE: Csr<0xc00, PLAIN::Register> = Csr::new();
pub(crate) const TIME: Csr<0xc01, PLAIN::Register> = Csr::new();
pub(crate) const INSTRET: Csr<0xc02, PLAIN::Register> = Csr::new();
