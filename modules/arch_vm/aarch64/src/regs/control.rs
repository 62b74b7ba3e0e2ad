// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! EL2's own registers: what traps, what is translated, why a guest came out.
//!
//! Layouts are those under HCR_EL2.E2H = 1.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 System Register
//! Descriptions".

use tock_registers::register_bitfields;

use super::{SysReg, id};

register_bitfields![u64,
    /// A register without fields.
    pub(crate) PLAIN [
        VALUE OFFSET(0) NUMBITS(64) []
    ],

    pub(crate) HCR [
        /// Stage 2 translates.
        VM OFFSET(0) NUMBITS(1) [],
        /// Set/way invalidation cleans, too.
        SWIO OFFSET(1) NUMBITS(1) [],
        /// Stage-1 walks may not touch device memory.
        PTW OFFSET(2) NUMBITS(1) [],
        FMO OFFSET(3) NUMBITS(1) [],
        IMO OFFSET(4) NUMBITS(1) [],
        AMO OFFSET(5) NUMBITS(1) [],
        /// A virtual FIQ is pending.
        VF OFFSET(6) NUMBITS(1) [],
        /// A virtual IRQ is pending.
        VI OFFSET(7) NUMBITS(1) [],
        /// Guests' maintenance is broadcast.
        FB OFFSET(9) NUMBITS(1) [],
        /// Guests' barriers reach at least this far.
        BSU OFFSET(10) NUMBITS(2) [ InnerShareable = 1 ],
        /// WFI traps.
        TWI OFFSET(13) NUMBITS(1) [],
        /// Identification registers trap.
        TID3 OFFSET(18) NUMBITS(1) [],
        /// SMC traps.
        TSC OFFSET(19) NUMBITS(1) [],
        /// Implementation defined registers trap.
        TIDCP OFFSET(20) NUMBITS(1) [],
        /// ACTLR_EL1 traps.
        TACR OFFSET(21) NUMBITS(1) [],
        /// EL1 is AArch64.
        RW OFFSET(31) NUMBITS(1) [],
        /// VHE.
        E2H OFFSET(34) NUMBITS(1) [],
        /// Limited ordering regions trap.
        TLOR OFFSET(35) NUMBITS(1) [],
        /// Error records trap.
        TERR OFFSET(36) NUMBITS(1) [],
        /// Pointer authentication keys do not trap.
        APK OFFSET(40) NUMBITS(1) [],
        /// Pointer authentication does not trap.
        API OFFSET(41) NUMBITS(1) []
    ],

    pub(crate) VTCR [
        T0SZ OFFSET(0) NUMBITS(6) [],
        SL0 OFFSET(6) NUMBITS(2) [],
        IRGN0 OFFSET(8) NUMBITS(2) [ WriteBack = 1 ],
        ORGN0 OFFSET(10) NUMBITS(2) [ WriteBack = 1 ],
        SH0 OFFSET(12) NUMBITS(2) [ Inner = 3 ],
        TG0 OFFSET(14) NUMBITS(2) [ Granule4K = 0 ],
        PS OFFSET(16) NUMBITS(3) [],
        /// VMIDs have 16 bits.
        VS OFFSET(19) NUMBITS(1) [],
        RES1 OFFSET(31) NUMBITS(1) []
    ],

    pub(crate) VTTBR [
        CNP OFFSET(0) NUMBITS(1) [],
        /// The root without its lowest bit.
        BADDR OFFSET(1) NUMBITS(47) [],
        VMID OFFSET(48) NUMBITS(16) []
    ],

    pub(crate) CPTR [
        ZEN OFFSET(16) NUMBITS(2) [ Trap = 0, Open = 3 ],
        FPEN OFFSET(20) NUMBITS(2) [ Trap = 0, Open = 3 ],
        SMEN OFFSET(24) NUMBITS(2) [ Trap = 0 ],
        /// Trace registers trap.
        TTA OFFSET(28) NUMBITS(1) [],
        /// Activity monitors trap.
        TAM OFFSET(30) NUMBITS(1) []
    ],

    pub(crate) MDCR [
        /// Counters that EL1 has.
        HPMN OFFSET(0) NUMBITS(5) [],
        TPMCR OFFSET(5) NUMBITS(1) [],
        TPM OFFSET(6) NUMBITS(1) [],
        TDE OFFSET(8) NUMBITS(1) [],
        TDA OFFSET(9) NUMBITS(1) [],
        TDOSA OFFSET(10) NUMBITS(1) [],
        TDRA OFFSET(11) NUMBITS(1) [],
        /// Statistical profiling traps.
        TPMS OFFSET(14) NUMBITS(1) [],
        /// Trace filtering traps.
        TTRF OFFSET(19) NUMBITS(1) []
    ],

    pub(crate) CNTHCTL [
        EL1PCTEN OFFSET(10) NUMBITS(1) [],
        EL1PTEN OFFSET(11) NUMBITS(1) []
    ],

    pub(crate) ESR [
        ISS OFFSET(0) NUMBITS(25) [],
        /// The trapped instruction has four bytes.
        IL OFFSET(25) NUMBITS(1) [],
        EC OFFSET(26) NUMBITS(6) []
    ],

    /// ESR's syndrome of a data or instruction abort.
    pub(crate) ABORT [
        /// Fault status; the two low bits are the level.
        FSC OFFSET(0) NUMBITS(6) [],
        WNR OFFSET(6) NUMBITS(1) [],
        S1PTW OFFSET(7) NUMBITS(1) [],
        /// Cache maintenance.
        CM OFFSET(8) NUMBITS(1) [],
        EA OFFSET(9) NUMBITS(1) [],
        /// FAR is not valid.
        FNV OFFSET(10) NUMBITS(1) [],
        /// The register has 64 bits.
        SF OFFSET(15) NUMBITS(1) [],
        SRT OFFSET(16) NUMBITS(5) [],
        SSE OFFSET(21) NUMBITS(1) [],
        SAS OFFSET(22) NUMBITS(2) [],
        ISV OFFSET(24) NUMBITS(1) []
    ],

    /// ESR's syndrome of a trapped system register access.
    pub(crate) SYSREG_ISS [
        READ OFFSET(0) NUMBITS(1) [],
        CRM OFFSET(1) NUMBITS(4) [],
        RT OFFSET(5) NUMBITS(5) [],
        CRN OFFSET(10) NUMBITS(4) [],
        OP1 OFFSET(14) NUMBITS(3) [],
        OP2 OFFSET(17) NUMBITS(3) [],
        OP0 OFFSET(20) NUMBITS(2) []
    ],

    pub(crate) HPFAR [
        /// Bits 51 to 12 of the guest physical address.
        FIPA OFFSET(4) NUMBITS(40) []
    ],

    pub(crate) PAR [
        F OFFSET(0) NUMBITS(1) [],
        /// Bits 51 to 12 of the address.
        PA OFFSET(12) NUMBITS(40) []
    ],

    pub(crate) SPSR [
        /// Exception level and stack pointer.
        M OFFSET(0) NUMBITS(4) [ El0t = 0, El1t = 4, El1h = 5 ],
        AARCH32 OFFSET(4) NUMBITS(1) [],
        F OFFSET(6) NUMBITS(1) [],
        I OFFSET(7) NUMBITS(1) [],
        A OFFSET(8) NUMBITS(1) [],
        D OFFSET(9) NUMBITS(1) [],
        SS OFFSET(21) NUMBITS(1) [],
        PAN OFFSET(22) NUMBITS(1) []
    ]
];

pub(crate) const VPIDR: SysReg<{ id(3, 4, 0, 0, 0) }> = SysReg::new();
pub(crate) const VMPIDR: SysReg<{ id(3, 4, 0, 0, 5) }> = SysReg::new();
pub(crate) const HCR_EL2: SysReg<{ id(3, 4, 1, 1, 0) }, HCR::Register> = SysReg::new();
pub(crate) const MDCR_EL2: SysReg<{ id(3, 4, 1, 1, 1) }, MDCR::Register> = SysReg::new();
pub(crate) const CPTR_EL2: SysReg<{ id(3, 4, 1, 1, 2) }, CPTR::Register> = SysReg::new();
pub(crate) const HSTR_EL2: SysReg<{ id(3, 4, 1, 1, 3) }> = SysReg::new();
pub(crate) const ZCR_EL2: SysReg<{ id(3, 4, 1, 2, 0) }> = SysReg::new();
pub(crate) const HFGRTR_EL2: SysReg<{ id(3, 4, 1, 1, 4) }> = SysReg::new();
pub(crate) const HFGWTR_EL2: SysReg<{ id(3, 4, 1, 1, 5) }> = SysReg::new();
pub(crate) const HFGITR_EL2: SysReg<{ id(3, 4, 1, 1, 6) }> = SysReg::new();
pub(crate) const HCRX_EL2: SysReg<{ id(3, 4, 1, 2, 2) }> = SysReg::new();
pub(crate) const VTTBR_EL2: SysReg<{ id(3, 4, 2, 1, 0) }, VTTBR::Register> = SysReg::new();
pub(crate) const VTCR_EL2: SysReg<{ id(3, 4, 2, 1, 2) }, VTCR::Register> = SysReg::new();
pub(crate) const HDFGRTR_EL2: SysReg<{ id(3, 4, 3, 1, 4) }> = SysReg::new();
pub(crate) const HDFGWTR_EL2: SysReg<{ id(3, 4, 3, 1, 5) }> = SysReg::new();
pub(crate) const HAFGRTR_EL2: SysReg<{ id(3, 4, 3, 1, 6) }> = SysReg::new();
pub(crate) const SPSR_EL2: SysReg<{ id(3, 4, 4, 0, 0) }, SPSR::Register> = SysReg::new();
pub(crate) const ELR_EL2: SysReg<{ id(3, 4, 4, 0, 1) }> = SysReg::new();
pub(crate) const ESR_EL2: SysReg<{ id(3, 4, 5, 2, 0) }, ESR::Register> = SysReg::new();
pub(crate) const FAR_EL2: SysReg<{ id(3, 4, 6, 0, 0) }> = SysReg::new();
pub(crate) const HPFAR_EL2: SysReg<{ id(3, 4, 6, 0, 4) }, HPFAR::Register> = SysReg::new();
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the world switch uses it")
)]
pub(crate) const VBAR_EL2: SysReg<{ id(3, 4, 12, 0, 0) }> = SysReg::new();
pub(crate) const CNTVOFF_EL2: SysReg<{ id(3, 4, 14, 0, 3) }> = SysReg::new();
pub(crate) const CNTHCTL_EL2: SysReg<{ id(3, 4, 14, 1, 0) }, CNTHCTL::Register> = SysReg::new();
