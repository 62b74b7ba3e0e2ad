// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers of EL1 and EL0 that belong to a guest.
//!
//! Under VHE the `_EL12` and `_EL02` encodings reach the guest's; registers
//! that VHE does not redirect have their own name. [`GuestSystemRegisters`] is
//! one vCPU's bank of them: it is in the CPU while the vCPU is bound, and here
//! otherwise. Nothing of it is touched by an exit.
//!
//! Spec: Arm Architecture Reference Manual, "Virtualization Host Extensions".

use tock_registers::{
    interfaces::{Readable, Writeable},
    register_bitfields,
};

use super::{SysReg, id};

register_bitfields![u64,
    pub(crate) TIMER [
        ENABLE OFFSET(0) NUMBITS(1) [],
        IMASK OFFSET(1) NUMBITS(1) [],
        ISTATUS OFFSET(2) NUMBITS(1) []
    ],

    pub(crate) TCR [
        /// How many bits of an address are not translated, in the low half.
        T0SZ OFFSET(0) NUMBITS(6) [],
        TG0 OFFSET(14) NUMBITS(2) [
            KiB4 = 0,
            KiB64 = 1,
            KiB16 = 2
        ],
        T1SZ OFFSET(16) NUMBITS(6) [],
        TG1 OFFSET(30) NUMBITS(2) [
            KiB16 = 1,
            KiB4 = 2,
            KiB64 = 3
        ]
    ]
];

pub(crate) const SCTLR_EL12: SysReg<{ id(3, 5, 1, 0, 0) }> = SysReg::new();
pub(crate) const CPACR_EL12: SysReg<{ id(3, 5, 1, 0, 2) }> = SysReg::new();
pub(crate) const ZCR_EL12: SysReg<{ id(3, 5, 1, 2, 0) }> = SysReg::new();
pub(crate) const TTBR0_EL12: SysReg<{ id(3, 5, 2, 0, 0) }> = SysReg::new();
pub(crate) const TTBR1_EL12: SysReg<{ id(3, 5, 2, 0, 1) }> = SysReg::new();
pub(crate) const TCR_EL12: SysReg<{ id(3, 5, 2, 0, 2) }> = SysReg::new();
pub(crate) const SPSR_EL12: SysReg<{ id(3, 5, 4, 0, 0) }> = SysReg::new();
pub(crate) const ELR_EL12: SysReg<{ id(3, 5, 4, 0, 1) }> = SysReg::new();
pub(crate) const AFSR0_EL12: SysReg<{ id(3, 5, 5, 1, 0) }> = SysReg::new();
pub(crate) const AFSR1_EL12: SysReg<{ id(3, 5, 5, 1, 1) }> = SysReg::new();
pub(crate) const ESR_EL12: SysReg<{ id(3, 5, 5, 2, 0) }> = SysReg::new();
pub(crate) const FAR_EL12: SysReg<{ id(3, 5, 6, 0, 0) }> = SysReg::new();
pub(crate) const MAIR_EL12: SysReg<{ id(3, 5, 10, 2, 0) }> = SysReg::new();
pub(crate) const AMAIR_EL12: SysReg<{ id(3, 5, 10, 3, 0) }> = SysReg::new();
pub(crate) const VBAR_EL12: SysReg<{ id(3, 5, 12, 0, 0) }> = SysReg::new();
pub(crate) const CONTEXTIDR_EL12: SysReg<{ id(3, 5, 13, 0, 1) }> = SysReg::new();
pub(crate) const CNTKCTL_EL12: SysReg<{ id(3, 5, 14, 1, 0) }> = SysReg::new();
pub(crate) const CNTP_CTL_EL02: SysReg<{ id(3, 5, 14, 2, 1) }, TIMER::Register> = SysReg::new();
pub(crate) const CNTP_CVAL_EL02: SysReg<{ id(3, 5, 14, 2, 2) }> = SysReg::new();
pub(crate) const CNTV_CTL_EL02: SysReg<{ id(3, 5, 14, 3, 1) }, TIMER::Register> = SysReg::new();
pub(crate) const CNTV_CVAL_EL02: SysReg<{ id(3, 5, 14, 3, 2) }> = SysReg::new();

pub(crate) const SP_EL0: SysReg<{ id(3, 0, 4, 1, 0) }> = SysReg::new();
pub(crate) const SP_EL1: SysReg<{ id(3, 4, 4, 1, 0) }> = SysReg::new();
const PAR_EL1: SysReg<{ id(3, 0, 7, 4, 0) }> = SysReg::new();
const TPIDR_EL1: SysReg<{ id(3, 0, 13, 0, 4) }> = SysReg::new();
const TPIDR_EL0: SysReg<{ id(3, 3, 13, 0, 2) }> = SysReg::new();
const TPIDRRO_EL0: SysReg<{ id(3, 3, 13, 0, 3) }> = SysReg::new();
const CSSELR_EL1: SysReg<{ id(3, 2, 0, 0, 0) }> = SysReg::new();

const APIAKEYLO: SysReg<{ id(3, 0, 2, 1, 0) }> = SysReg::new();
const APIAKEYHI: SysReg<{ id(3, 0, 2, 1, 1) }> = SysReg::new();
const APIBKEYLO: SysReg<{ id(3, 0, 2, 1, 2) }> = SysReg::new();
const APIBKEYHI: SysReg<{ id(3, 0, 2, 1, 3) }> = SysReg::new();
const APDAKEYLO: SysReg<{ id(3, 0, 2, 2, 0) }> = SysReg::new();
const APDAKEYHI: SysReg<{ id(3, 0, 2, 2, 1) }> = SysReg::new();
const APDBKEYLO: SysReg<{ id(3, 0, 2, 2, 2) }> = SysReg::new();
const APDBKEYHI: SysReg<{ id(3, 0, 2, 2, 3) }> = SysReg::new();
const APGAKEYLO: SysReg<{ id(3, 0, 2, 3, 0) }> = SysReg::new();
const APGAKEYHI: SysReg<{ id(3, 0, 2, 3, 1) }> = SysReg::new();

/// Declares a bank: for each field the register that it keeps.
macro_rules! bank {
    ($(#[$doc:meta])* $visibility:vis $name:ident { $($field:ident: $register:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default)]
        $visibility struct $name {
            $(pub(crate) $field: u64,)*
        }

        impl $name {
            /// Loads the bank into the CPU.
            pub(crate) fn load(&self) {
                $($register.set(self.$field);)*
            }

            /// Stores the CPU's registers into the bank.
            pub(crate) fn store(&mut self) {
                $(self.$field = $register.get();)*
            }
        }
    };
}

bank! {
    /// The system registers of one vCPU's EL1 and EL0.
    pub GuestSystemRegisters {
        sctlr: SCTLR_EL12,
        cpacr: CPACR_EL12,
        ttbr0: TTBR0_EL12,
        ttbr1: TTBR1_EL12,
        tcr: TCR_EL12,
        spsr: SPSR_EL12,
        elr: ELR_EL12,
        afsr0: AFSR0_EL12,
        afsr1: AFSR1_EL12,
        esr: ESR_EL12,
        far: FAR_EL12,
        mair: MAIR_EL12,
        amair: AMAIR_EL12,
        vbar: VBAR_EL12,
        contextidr: CONTEXTIDR_EL12,
        cntkctl: CNTKCTL_EL12,
        cntp_cval: CNTP_CVAL_EL02,
        cntv_cval: CNTV_CVAL_EL02,
        sp_el0: SP_EL0,
        sp_el1: SP_EL1,
        par: PAR_EL1,
        tpidr_el1: TPIDR_EL1,
        tpidr_el0: TPIDR_EL0,
        tpidrro_el0: TPIDRRO_EL0,
        csselr: CSSELR_EL1,
    }
}

bank! {
    /// The pointer authentication keys of one vCPU.
    pub(crate) PointerKeys {
        ia_low: APIAKEYLO,
        ia_high: APIAKEYHI,
        ib_low: APIBKEYLO,
        ib_high: APIBKEYHI,
        da_low: APDAKEYLO,
        da_high: APDAKEYHI,
        db_low: APDBKEYLO,
        db_high: APDBKEYHI,
        ga_low: APGAKEYLO,
        ga_high: APGAKEYHI,
    }
}
