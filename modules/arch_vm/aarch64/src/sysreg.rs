// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! System registers that trap, and the identification that a guest sees.
//!
//! [`classify`] says what a trapped register is; whatever it does not know is
//! undefined to the guest. [`IdRegisters`] is this CPU's identification with
//! everything taken out that a guest cannot use here; it is read once for each
//! VM and does not change while the VM lives.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 System Register
//! Descriptions"; HCR_EL2.TID3, MDCR_EL2.

use tock_registers::{LocalRegisterCopy, interfaces::Readable};

use crate::{
    irqchip::Version,
    regs::{
        DFR0, ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, ID_AA64ISAR1_EL1, ID_AA64ISAR2_EL1,
        ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1,
        ISAR1, ISAR2, MMFR0, MMFR1, MMFR2, PFR0, PFR1, SysRegId,
    },
};

/// What a trapped register is to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SysReg {
    /// Reads as this value, ignores writes.
    Fixed(u64),
    /// An identification register, which cannot be written.
    Id(SysRegId),
    /// Sends a software-generated interrupt; write-only.
    SendSgi,
    /// Does not exist.
    Undefined,
}

/// OSLSR_EL1: the lock is implemented and open.
const OS_LOCK_OPEN: u64 = 1 << 3;

/// ICC_SGI1R_EL1, which guests write all the time.
const SEND_SGI: SysRegId = SysRegId::new(3, 0, 12, 11, 5);

/// Says what a trapped register is.
#[inline]
pub(crate) fn classify(id: SysRegId) -> SysReg {
    match id {
        SEND_SGI => SysReg::SendSgi,
        other => classify_rare(other),
    }
}

fn classify_rare(id: SysRegId) -> SysReg {
    match (id.op0(), id.op1(), id.crn(), id.crm(), id.op2()) {
        (3, 0, 0, 1..=7, _) => SysReg::Id(id),
        // ACTLR_EL1.
        (3, 0, 1, 0, 1) => SysReg::Fixed(0),
        // ICC_ASGI1R_EL1, ICC_SGI0R_EL1.
        (3, 0, 12, 11, 6 | 7) => SysReg::SendSgi,
        // Performance counters: none are there.
        (3, 3, 9, 12..=14, _) | (3, 3, 14, 8..=15, _) | (3, 0, 9, 14, 1 | 2 | 6) => {
            SysReg::Fixed(0)
        }
        // OSLSR_EL1, then the debug registers.
        (2, 0, 1, 1, 4) => SysReg::Fixed(OS_LOCK_OPEN),
        (2, 0 | 3, ..) => SysReg::Fixed(0),
        _ => SysReg::Undefined,
    }
}

/// What this CPU says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdRegisters {
    pfr0: u64,
    pfr1: u64,
    dfr0: u64,
    isar0: u64,
    isar1: u64,
    isar2: u64,
    mmfr0: u64,
    mmfr1: u64,
    mmfr2: u64,
}

impl IdRegisters {
    /// Reads the hardware's.
    pub(crate) fn read() -> Self {
        Self {
            pfr0: ID_AA64PFR0_EL1.get(),
            pfr1: ID_AA64PFR1_EL1.get(),
            dfr0: ID_AA64DFR0_EL1.get(),
            isar0: ID_AA64ISAR0_EL1.get(),
            isar1: ID_AA64ISAR1_EL1.get(),
            isar2: ID_AA64ISAR2_EL1.get(),
            mmfr0: ID_AA64MMFR0_EL1.get(),
            mmfr1: ID_AA64MMFR1_EL1.get(),
            mmfr2: ID_AA64MMFR2_EL1.get(),
        }
    }

    /// Takes out what a guest with this interrupt controller cannot use.
    pub(crate) fn for_guest(self, gic: Version) -> Self {
        Self {
            pfr0: guest_pfr0(self.pfr0, gic),
            pfr1: without(
                self.pfr1,
                &[
                    PFR1::MTE.mask << PFR1::MTE.shift,
                    PFR1::RAS_FRAC.mask << PFR1::RAS_FRAC.shift,
                    PFR1::MPAM_FRAC.mask << PFR1::MPAM_FRAC.shift,
                    PFR1::SME.mask << PFR1::SME.shift,
                    PFR1::NMI.mask << PFR1::NMI.shift,
                ],
            ),
            dfr0: guest_dfr0(self.dfr0),
            isar0: self.isar0,
            isar1: without(self.isar1, &[ISAR1::LS64.mask << ISAR1::LS64.shift]),
            isar2: without(self.isar2, &[ISAR2::MOPS.mask << ISAR2::MOPS.shift]),
            mmfr0: without(
                self.mmfr0,
                &[
                    MMFR0::FGT.mask << MMFR0::FGT.shift,
                    MMFR0::ECV.mask << MMFR0::ECV.shift,
                ],
            ),
            mmfr1: without(
                self.mmfr1,
                &[
                    MMFR1::VH.mask << MMFR1::VH.shift,
                    MMFR1::LO.mask << MMFR1::LO.shift,
                    MMFR1::HCX.mask << MMFR1::HCX.shift,
                ],
            ),
            mmfr2: without(self.mmfr2, &[MMFR2::NV.mask << MMFR2::NV.shift]),
        }
    }

    /// Returns the value of one, zero for those that say nothing here.
    ///
    /// AArch32's are among these: it is not offered.
    pub(crate) fn get(&self, id: SysRegId) -> u64 {
        match (id.crm(), id.op2()) {
            (4, 0) => self.pfr0,
            (4, 1) => self.pfr1,
            (5, 0) => self.dfr0,
            (6, 0) => self.isar0,
            (6, 1) => self.isar1,
            (6, 2) => self.isar2,
            (7, 0) => self.mmfr0,
            (7, 1) => self.mmfr1,
            (7, 2) => self.mmfr2,
            _ => 0,
        }
    }

    /// Tells whether there are pointer authentication keys.
    pub(crate) fn has_pointer_keys(&self) -> bool {
        let isar1 = LocalRegisterCopy::<u64, ISAR1::Register>::new(self.isar1);
        let isar2 = LocalRegisterCopy::<u64, ISAR2::Register>::new(self.isar2);
        let address = isar1.read(ISAR1::APA) | isar1.read(ISAR1::API) | isar2.read(ISAR2::APA3);
        let generic = isar1.read(ISAR1::GPA) | isar1.read(ISAR1::GPI) | isar2.read(ISAR2::GPA3);
        address | generic != 0
    }
}

fn without(value: u64, masks: &[u64]) -> u64 {
    masks.iter().fold(value, |value, mask| value & !mask)
}

/// EL0 and EL1 in AArch64 only, no SVE, RAS, MPAM, activity monitors or realms.
fn guest_pfr0(value: u64, gic: Version) -> u64 {
    let mut pfr0 = LocalRegisterCopy::<u64, PFR0::Register>::new(value);
    pfr0.modify(
        PFR0::EL0::AArch64Only
            + PFR0::EL1::AArch64Only
            + PFR0::EL2.val(0)
            + PFR0::EL3.val(0)
            + PFR0::RAS.val(0)
            + PFR0::SVE.val(0)
            + PFR0::SEL2.val(0)
            + PFR0::MPAM.val(0)
            + PFR0::AMU.val(0)
            + PFR0::RME.val(0),
    );
    pfr0.modify(match gic {
        Version::V3 => PFR0::GIC::SystemRegisters,
        Version::V2 => PFR0::GIC.val(0),
    });
    pfr0.get()
}

/// Debug as the architecture's first version has it, and nothing else.
fn guest_dfr0(value: u64) -> u64 {
    let found = LocalRegisterCopy::<u64, DFR0::Register>::new(value);
    let mut dfr0 = LocalRegisterCopy::<u64, DFR0::Register>::new(0);
    dfr0.modify(
        DFR0::DEBUG::Armv8
            + DFR0::BREAKPOINTS.val(found.read(DFR0::BREAKPOINTS))
            + DFR0::WATCHPOINTS.val(found.read(DFR0::WATCHPOINTS))
            + DFR0::CONTEXTS.val(found.read(DFR0::CONTEXTS)),
    );
    dfr0.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identification_is_what_the_guest_has() {
        let all = IdRegisters {
            pfr0: u64::MAX,
            pfr1: u64::MAX,
            dfr0: u64::MAX,
            isar0: u64::MAX,
            isar1: u64::MAX,
            isar2: u64::MAX,
            mmfr0: u64::MAX,
            mmfr1: u64::MAX,
            mmfr2: u64::MAX,
        };
        let guest = all.for_guest(Version::V3);
        let pfr0 = guest.get(SysRegId::new(3, 0, 0, 4, 0));
        assert_eq!(pfr0 & 0xffff, 0x0011, "EL0 and EL1, nothing above");
        assert_eq!(pfr0 >> 24 & 0xf, 1, "the GIC's system registers");
        assert_eq!(pfr0 >> 28 & 0xff, 0, "no RAS, no SVE");
        assert_eq!(guest.get(SysRegId::new(3, 0, 0, 5, 0)) & 0xfff, 6, "no PMU");
        assert_eq!(guest.get(SysRegId::new(3, 0, 0, 1, 0)), 0, "no AArch32");
        let old = all.for_guest(Version::V2).get(SysRegId::new(3, 0, 0, 4, 0));
        assert_eq!(old >> 24 & 0xf, 0);
        assert!(all.has_pointer_keys() && !IdRegisters::default().has_pointer_keys());
    }

    #[test]
    fn what_nobody_knows_is_undefined() {
        // An implementation defined register, LORC_EL1, and SCTLR_EL2.
        for id in [
            SysRegId::new(3, 0, 11, 0, 0),
            SysRegId::new(3, 0, 10, 4, 3),
            SysRegId::new(3, 4, 1, 0, 0),
        ] {
            assert_eq!(classify(id), SysReg::Undefined);
        }
        assert_eq!(classify(SysRegId::new(3, 0, 12, 11, 5)), SysReg::SendSgi);
        assert_eq!(classify(SysRegId::new(2, 0, 0, 2, 2)), SysReg::Fixed(0));
    }

    proptest! {
        #[test]
        fn an_encoding_keeps_its_fields(op0 in 0_u16..4, op1 in 0_u16..8, crn in 0_u16..16, crm in 0_u16..16, op2 in 0_u16..8) {
            let id = SysRegId::new(op0, op1, crn, crm, op2);
            prop_assert_eq!((id.op0(), id.op1(), id.crn(), id.crm(), id.op2()), (op0, op1, crn, crm, op2));
        }
    }
}
