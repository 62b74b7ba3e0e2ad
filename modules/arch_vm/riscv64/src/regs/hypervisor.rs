// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hypervisor CSRs, and the VS CSRs that stand for a guest's own.
//!
//! Spec: RISC-V Privileged, "H" extension, "Hypervisor and Virtual Supervisor
//! CSRs".

use tock_registers::register_bitfields;

use super::Csr;

register_bitfields![u64,
    pub(crate) HSTATUS [
        /// Byte order of VS-mode.
        VSBE OFFSET(5) NUMBITS(1) [],
        /// stval holds a guest virtual address.
        GVA OFFSET(6) NUMBITS(1) [],
        /// The trap came from V=1; sret goes there.
        SPV OFFSET(7) NUMBITS(1) [],
        /// The guest's mode at the trap, which HLV uses.
        SPVP OFFSET(8) NUMBITS(1) [ User = 0, Supervisor = 1 ],
        /// HLV allowed in U-mode.
        HU OFFSET(9) NUMBITS(1) [],
        /// The guest interrupt file.
        VGEIN OFFSET(12) NUMBITS(6) [],
        /// SFENCE and satp trap.
        VTVM OFFSET(20) NUMBITS(1) [],
        /// WFI traps.
        VTW OFFSET(21) NUMBITS(1) [],
        /// SRET traps.
        VTSR OFFSET(22) NUMBITS(1) [],
        /// XLEN of VS-mode.
        VSXL OFFSET(32) NUMBITS(2) [ Xlen64 = 2 ]
    ],

    /// Exceptions, in hedeleg and wherever a cause is a bit.
    pub(crate) EXCEPTIONS [
        FETCH_MISALIGNED OFFSET(0) NUMBITS(1) [],
        ILLEGAL_INSTRUCTION OFFSET(2) NUMBITS(1) [],
        BREAKPOINT OFFSET(3) NUMBITS(1) [],
        LOAD_MISALIGNED OFFSET(4) NUMBITS(1) [],
        STORE_MISALIGNED OFFSET(6) NUMBITS(1) [],
        USER_ECALL OFFSET(8) NUMBITS(1) [],
        FETCH_PAGE_FAULT OFFSET(12) NUMBITS(1) [],
        LOAD_PAGE_FAULT OFFSET(13) NUMBITS(1) [],
        STORE_PAGE_FAULT OFFSET(15) NUMBITS(1) []
    ],

    /// VS-level interrupts where hideleg, hip and hvip have them.
    pub(crate) VS_INTERRUPTS [
        SOFTWARE OFFSET(2) NUMBITS(1) [],
        TIMER OFFSET(6) NUMBITS(1) [],
        EXTERNAL OFFSET(10) NUMBITS(1) []
    ],

    /// The hypervisor's own interrupts in hie.
    pub(crate) HYPERVISOR_INTERRUPTS [
        /// Of a guest interrupt file that hgeie names.
        GUEST_EXTERNAL OFFSET(12) NUMBITS(1) []
    ],

    pub(crate) HENVCFG [
        /// FENCE of I/O orders memory too.
        FIOM OFFSET(0) NUMBITS(1) [],
        /// CBO.INVAL works, as a flush or as itself.
        CBIE OFFSET(4) NUMBITS(2) [ Flush = 1, Invalidate = 3 ],
        /// CBO.CLEAN and CBO.FLUSH work.
        CBCFE OFFSET(6) NUMBITS(1) [],
        /// CBO.ZERO works.
        CBZE OFFSET(7) NUMBITS(1) [],
        /// The hardware updates accessed and dirty bits.
        ADUE OFFSET(61) NUMBITS(1) [],
        /// Page-based memory types work.
        PBMTE OFFSET(62) NUMBITS(1) [],
        /// stimecmp works.
        STCE OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) HGATP [
        PPN OFFSET(0) NUMBITS(44) [],
        VMID OFFSET(44) NUMBITS(14) [],
        MODE OFFSET(60) NUMBITS(4) [ Bare = 0, Sv39x4 = 8, Sv48x4 = 9, Sv57x4 = 10 ]
    ],

    /// The counters that hcounteren and scounteren open.
    pub(crate) COUNTERS [
        CYCLE OFFSET(0) NUMBITS(1) [],
        TIME OFFSET(1) NUMBITS(1) [],
        INSTRET OFFSET(2) NUMBITS(1) []
    ],

    pub(crate) STATE_ENABLE [
        /// The interrupt file's own registers may be used.
        IMSIC OFFSET(58) NUMBITS(1) [],
        /// The rest of AIA's CSRs may be used.
        AIA OFFSET(59) NUMBITS(1) [],
        /// siselect and sireg may be used.
        CSRIND OFFSET(60) NUMBITS(1) [],
        /// senvcfg may be used.
        ENVCFG OFFSET(62) NUMBITS(1) [],
        /// sstateen0 may be used.
        SE0 OFFSET(63) NUMBITS(1) []
    ],

    /// An interrupt of the hypervisor's making.
    pub(crate) HVICTL [
        IPRIO OFFSET(0) NUMBITS(8) [],
        IPRIOM OFFSET(8) NUMBITS(1) [],
        DPR OFFSET(9) NUMBITS(1) [],
        IID OFFSET(16) NUMBITS(12) [ SupervisorExternal = 9 ],
        VTI OFFSET(30) NUMBITS(1) []
    ],

    /// A register without fields.
    pub(crate) PLAIN [
        VALUE OFFSET(0) NUMBITS(64) []
    ]
];

pub(crate) const HSTATUS: Csr<0x600, HSTATUS::Register> = Csr::new();
pub(crate) const HEDELEG: Csr<0x602, EXCEPTIONS::Register> = Csr::new();
pub(crate) const HIDELEG: Csr<0x603, VS_INTERRUPTS::Register> = Csr::new();
pub(crate) const HTIMEDELTA: Csr<0x605, PLAIN::Register> = Csr::new();
pub(crate) const HCOUNTEREN: Csr<0x606, COUNTERS::Register> = Csr::new();
pub(crate) const HIE: Csr<0x604, HYPERVISOR_INTERRUPTS::Register> = Csr::new();
pub(crate) const HGEIE: Csr<0x607, PLAIN::Register> = Csr::new();
pub(crate) const HVIEN: Csr<0x608, PLAIN::Register> = Csr::new();
pub(crate) const HVICTL: Csr<0x609, HVICTL::Register> = Csr::new();
pub(crate) const HENVCFG: Csr<0x60a, HENVCFG::Register> = Csr::new();
pub(crate) const HSTATEEN0: Csr<0x60c, STATE_ENABLE::Register> = Csr::new();
pub(crate) const HTVAL: Csr<0x643, PLAIN::Register> = Csr::new();
pub(crate) const HVIP: Csr<0x645, VS_INTERRUPTS::Register> = Csr::new();
pub(crate) const HVIPRIO1: Csr<0x646, PLAIN::Register> = Csr::new();
pub(crate) const HVIPRIO2: Csr<0x647, PLAIN::Register> = Csr::new();
pub(crate) const HTINST: Csr<0x64a, PLAIN::Register> = Csr::new();
pub(crate) const HGEIP: Csr<0xe12, PLAIN::Register> = Csr::new();
pub(crate) const HGATP: Csr<0x680, HGATP::Register> = Csr::new();

pub(crate) const VSSTATUS: Csr<0x200, super::SSTATUS::Register> = Csr::new();
pub(crate) const VSIE: Csr<0x204, super::S_INTERRUPTS::Register> = Csr::new();
pub(crate) const VSTVEC: Csr<0x205, super::TVEC::Register> = Csr::new();
pub(crate) const VSSCRATCH: Csr<0x240, PLAIN::Register> = Csr::new();
pub(crate) const VSEPC: Csr<0x241, PLAIN::Register> = Csr::new();
pub(crate) const VSCAUSE: Csr<0x242, super::CAUSE::Register> = Csr::new();
pub(crate) const VSTVAL: Csr<0x243, PLAIN::Register> = Csr::new();
pub(crate) const VSIP: Csr<0x244, super::S_INTERRUPTS::Register> = Csr::new();
pub(crate) const VSTIMECMP: Csr<0x24d, PLAIN::Register> = Csr::new();
pub(crate) const VSISELECT: Csr<0x250, PLAIN::Register> = Csr::new();
pub(crate) const VSIREG: Csr<0x251, PLAIN::Register> = Csr::new();
pub(crate) const VSATP: Csr<0x280, PLAIN::Register> = Csr::new();
