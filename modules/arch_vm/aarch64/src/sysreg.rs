// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! System registers that trap, and the identification that a guest sees.
//!
//! [`classify`] says what a trapped register is; whatever it does not know is
//! undefined to the guest. [`IdRegisters`] is this CPU's identification with
//! nothing left in but what is known here and a guest can use; it is read once
//! for each VM and does not change while the VM lives.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 System Register
//! Descriptions"; HCR_EL2.TID3, MDCR_EL2.

use tock_registers::{LocalRegisterCopy, RegisterLongName, fields::Field, interfaces::Readable};

use crate::{
    irqchip::Version,
    regs::{
        DFR0, ID_AA64DFR0_EL1, ID_AA64ISAR0_EL1, ID_AA64ISAR1_EL1, ID_AA64ISAR2_EL1,
        ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64MMFR2_EL1, ID_AA64PFR0_EL1, ID_AA64PFR1_EL1,
        ID_AA64ZFR0_EL1, ISAR0, ISAR1, ISAR2, MMFR0, MMFR1, MMFR2, PFR0, PFR1, SysRegId,
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
    /// Belongs to the guest's debugger.
    Debug,
    /// Does not exist.
    Undefined,
}

/// The largest physical addresses that a guest can have: 48 bits.
pub(crate) const PARANGE_MAX: u64 = 5;
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
        // OSLSR_EL1, then the other locks, power control and the ROM's address.
        (2, 0, 1, 1, 4) => SysReg::Fixed(OS_LOCK_OPEN),
        (2, 0, 1, 0, 0 | 4) | (2, 0, 1, 3 | 4, 4) => SysReg::Fixed(0),
        (2, 0 | 3, ..) => SysReg::Debug,
        _ => SysReg::Undefined,
    }
}

/// What this CPU says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdRegisters {
    pfr0: u64,
    pfr1: u64,
    zfr0: u64,
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
            zfr0: ID_AA64ZFR0_EL1.get(),
            dfr0: ID_AA64DFR0_EL1.get(),
            isar0: ID_AA64ISAR0_EL1.get(),
            isar1: ID_AA64ISAR1_EL1.get(),
            isar2: ID_AA64ISAR2_EL1.get(),
            mmfr0: ID_AA64MMFR0_EL1.get(),
            mmfr1: ID_AA64MMFR1_EL1.get(),
            mmfr2: ID_AA64MMFR2_EL1.get(),
        }
    }

    /// Leaves in what a guest with this interrupt controller can use.
    pub(crate) fn for_guest(self, gic: Version) -> Self {
        let pfr0 = guest_pfr0(self.pfr0, gic);
        Self {
            pfr0,
            pfr1: only(self.pfr1, &[PFR1::BT, PFR1::SSBS]),
            zfr0: if has_vectors(pfr0) { self.zfr0 } else { 0 },
            dfr0: guest_dfr0(self.dfr0),
            isar0: only(self.isar0, &[ISAR0::LOW, ISAR0::HIGH, ISAR0::RNDR]),
            isar1: guest_isar1(self.isar1),
            isar2: guest_isar2(self.isar2),
            mmfr0: guest_mmfr0(self.mmfr0),
            mmfr1: guest_mmfr1(self.mmfr1),
            mmfr2: guest_mmfr2(self.mmfr2),
        }
    }

    /// Tells whether there are the wide vectors of SVE.
    pub(crate) fn has_vectors(&self) -> bool {
        has_vectors(self.pfr0)
    }

    /// Returns the value of one, zero for those that say nothing here.
    ///
    /// AArch32's are among these: it is not offered.
    pub(crate) fn get(&self, id: SysRegId) -> u64 {
        match (id.crm(), id.op2()) {
            (4, 0) => self.pfr0,
            (4, 1) => self.pfr1,
            (4, 4) => self.zfr0,
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

    /// Tells whether the CPU has random numbers.
    pub(crate) fn has_rndr(&self) -> bool {
        LocalRegisterCopy::<u64, ISAR0::Register>::new(self.isar0).is_set(ISAR0::RNDR)
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

/// Returns a register with nothing but these fields of it.
fn only<R: RegisterLongName>(value: u64, fields: &[Field<u64, R>]) -> u64 {
    fields.iter().fold(0, |kept, field| {
        kept | value & field.mask.wrapping_shl(field.shift as u32)
    })
}

fn has_vectors(pfr0: u64) -> bool {
    LocalRegisterCopy::<u64, PFR0::Register>::new(pfr0).read(PFR0::SVE) != 0
}

/// EL0 and EL1 in AArch64 only; no RAS, MPAM, activity monitors or realms.
fn guest_pfr0(value: u64, gic: Version) -> u64 {
    let found = LocalRegisterCopy::<u64, PFR0::Register>::new(value);
    let kept = [PFR0::FP, PFR0::ADV_SIMD, PFR0::SVE, PFR0::DIT, PFR0::CSV3];
    let mut pfr0 = LocalRegisterCopy::<u64, PFR0::Register>::new(only(value, &kept));
    pfr0.modify(
        PFR0::EL0::AArch64Only
            + PFR0::EL1::AArch64Only
            // More would have SCXTNUM_EL1, which guests do not share.
            + PFR0::CSV2.val(found.read(PFR0::CSV2).min(1)),
    );
    if gic == Version::V3 {
        pfr0.modify(PFR0::GIC::SystemRegisters);
    }
    pfr0.get()
}

fn guest_isar1(value: u64) -> u64 {
    only(
        value,
        &[
            ISAR1::DPB,
            ISAR1::APA,
            ISAR1::API,
            ISAR1::ARITHMETIC,
            ISAR1::GPA,
            ISAR1::GPI,
            ISAR1::HIGH,
        ],
    )
}

/// Waits with a time-out are left out, and 128-bit registers.
fn guest_isar2(value: u64) -> u64 {
    only(
        value,
        &[
            ISAR2::RPRES,
            ISAR2::GPA3,
            ISAR2::APA3,
            ISAR2::BC,
            ISAR2::PAC_FRAC,
            ISAR2::CLRBHB,
        ],
    )
}

/// No fine-grained traps and no counter of its own for each VM.
fn guest_mmfr0(value: u64) -> u64 {
    let kept = [
        MMFR0::ASID_BITS,
        MMFR0::BIG_END,
        MMFR0::BIG_END_EL0,
        MMFR0::GRANULES,
        MMFR0::EXS,
    ];
    let found = LocalRegisterCopy::<u64, MMFR0::Register>::new(value);
    let range = found.read(MMFR0::PARANGE).min(PARANGE_MAX);
    only(value, &kept) | MMFR0::PARANGE.val(range).value
}

fn guest_mmfr1(value: u64) -> u64 {
    only(
        value,
        &[
            MMFR1::HAFDBS,
            MMFR1::HPDS,
            MMFR1::PAN,
            MMFR1::ETS,
            MMFR1::AFP,
            MMFR1::N_TLBPA,
            MMFR1::ECBHB,
        ],
    )
}

fn guest_mmfr2(value: u64) -> u64 {
    only(
        value,
        &[
            MMFR2::CNP,
            MMFR2::UAO,
            MMFR2::LSM,
            MMFR2::VA_RANGE,
            MMFR2::CCIDX,
            MMFR2::ST,
            MMFR2::AT,
            MMFR2::IDS,
            MMFR2::TTL,
            MMFR2::BBM,
            MMFR2::E0PD,
        ],
    )
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
            zfr0: u64::MAX,
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
        assert_eq!(pfr0 >> 28 & 0xf, 0, "no RAS");
        assert_eq!(
            pfr0 >> 36 & 0xfff,
            0,
            "no secure EL2, MPAM, activity monitors"
        );
        assert_eq!(pfr0 >> 56 & 0xf, 1, "no SCXTNUM_EL1");
        assert_eq!(guest.get(SysRegId::new(3, 0, 0, 4, 1)), 0xff);
        assert_eq!(guest.get(SysRegId::new(3, 0, 0, 7, 0)) & 0xf, 5, "48 bits");
        assert_eq!(guest.get(SysRegId::new(3, 0, 0, 6, 2)) & 0xf, 0, "no WFxT");
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
        assert_eq!(classify(SysRegId::new(2, 0, 0, 2, 2)), SysReg::Debug);
        assert_eq!(classify(SysRegId::new(2, 0, 1, 0, 4)), SysReg::Fixed(0));
    }

    proptest! {
        #[test]
        fn an_encoding_keeps_its_fields(op0 in 0_u16..4, op1 in 0_u16..8, crn in 0_u16..16, crm in 0_u16..16, op2 in 0_u16..8) {
            let id = SysRegId::new(op0, op1, crn, crm, op2);
            prop_assert_eq!((id.op0(), id.op1(), id.crn(), id.crm(), id.op2()), (op0, op1, crn, crm, op2));
        }
    }
}
