// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What this CPU's VMX has, the controls that follow, and switching it on.
//!
//! A control that guests cannot do without is required by its name; one that
//! only helps is used where it is.
//!
//! Spec: Intel SDM 3, appendix A, "VMX Capability Reporting Facility";
//! "Enabling and Entering VMX Operation".

use axvm::{Error, Result};
use bitflags::bitflags;

use super::{
    controls::{EntryControls, ExitControls, Pin, Primary, Secondary},
    cpu,
    fields::{
        ENTRY_CONTROLS, EXIT_CONTROLS, Field, PIN_CONTROLS, PRIMARY_CONTROLS, SECONDARY_CONTROLS,
    },
};
use crate::regs::{self, CR4, Msr};

const FEATURES: u32 = 1;
/// In ecx of the features.
const HAS_VMX: u32 = 1 << 5;

const FEATURE_CONTROL: Msr = Msr(0x3a);
const LOCKED: u64 = 1 << 0;
const VMX_OUTSIDE_SMX: u64 = 1 << 2;

const BASIC: Msr = Msr(0x480);
const PIN: Msr = Msr(0x481);
const PRIMARY: Msr = Msr(0x482);
const EXIT: Msr = Msr(0x483);
const ENTRY: Msr = Msr(0x484);
const CR0_ONES: Msr = Msr(0x486);
const CR4_ONES: Msr = Msr(0x488);
const SECONDARY: Msr = Msr(0x48b);
const EPT_VPID: Msr = Msr(0x48c);
/// What the registers above from PIN on are called where BASIC says that these are
/// there: they tell which default controls may be off.
const TRUE_OFFSET: u32 = 0xc;
const HAS_TRUE_CONTROLS: u64 = 1 << 55;
const REVISION_MASK: u64 = 0x7fff_ffff;

bitflags! {
    /// What EPT and VPID have.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Translation: u64 {
        const FOUR_LEVELS = 1 << 6;
        const WRITE_BACK = 1 << 14;
        const PAGES_2_MIB = 1 << 16;
        const PAGES_1_GIB = 1 << 17;
        const INVEPT = 1 << 20;
        const ACCESSED_DIRTY = 1 << 21;
        const INVEPT_ONE = 1 << 25;
        const INVEPT_ALL = 1 << 26;
        const INVVPID = 1 << 32;
        const INVVPID_ONE = 1 << 41;
        const INVVPID_ALL = 1 << 42;
    }
}

/// What no guest can do without.
const TRANSLATION_REQUIRED: Translation = Translation::FOUR_LEVELS
    .union(Translation::WRITE_BACK)
    .union(Translation::PAGES_2_MIB)
    .union(Translation::INVEPT)
    .union(Translation::INVEPT_ALL)
    .union(Translation::INVVPID)
    .union(Translation::INVVPID_ALL);

/// What a CPU's VMX has, as the controls that a VMCS begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    pub(super) revision: u32,
    pub(super) pin: u32,
    pub(super) primary: u32,
    pub(super) secondary: u32,
    pub(super) exit: u32,
    pub(super) entry: u32,
    pub(super) translation: Translation,
    /// What there is of [`APIC`].
    pub(super) apic: Secondary,
}

/// What virtualizes local APICs.
const APIC: Secondary = Secondary::APIC_ACCESSES
    .union(Secondary::X2APIC)
    .union(Secondary::APIC_REGISTERS)
    .union(Secondary::INTERRUPT_DELIVERY);

/// A word of controls as its capability register describes it.
#[derive(Clone, Copy)]
pub(super) struct Word {
    must_be_one: u32,
    may_be_one: u32,
}

impl Word {
    fn of(msr: Msr) -> Self {
        let value = regs::read_msr(msr);
        Self {
            must_be_one: value as u32,
            may_be_one: (value >> 32) as u32,
        }
    }

    /// Tells whether the word may be this.
    pub(super) fn allows(self, value: u32) -> bool {
        value & self.must_be_one == self.must_be_one && value & !self.may_be_one == 0
    }

    /// Returns the word with what is required, and what helps and is there.
    fn choose(self, required: u32, helpful: u32, what: &'static str) -> Result<u32> {
        let chosen = required | helpful & self.may_be_one | self.must_be_one;
        match required & !self.may_be_one {
            0 => Ok(chosen),
            _ => Err(Error::Unsupported(what)),
        }
    }
}

/// Tells whether this CPU has VMX.
pub(crate) fn is_there() -> bool {
    let [_, _, ecx, _] = regs::cpuid(FEATURES, 0);
    ecx & HAS_VMX != 0
}

/// Finds the description of a word that has two.
fn word(msr: Msr) -> Word {
    let offset = match regs::read_msr(BASIC) & HAS_TRUE_CONTROLS {
        0 => 0,
        _ => TRUE_OFFSET,
    };
    Word::of(Msr(msr.0.wrapping_add(offset)))
}

/// Returns all words of controls with what this CPU lets them be.
#[cold]
pub(super) fn words() -> [(Field<u32>, Word); 5] {
    [
        (PIN_CONTROLS, word(PIN)),
        (PRIMARY_CONTROLS, word(PRIMARY)),
        (SECONDARY_CONTROLS, Word::of(SECONDARY)),
        (EXIT_CONTROLS, word(EXIT)),
        (ENTRY_CONTROLS, word(ENTRY)),
    ]
}

/// Returns what this CPU's EPT and VPID have.
pub(super) fn translation() -> Translation {
    Translation::from_bits_truncate(regs::read_msr(EPT_VPID))
}

/// Tells whether CR0 has what VMX wants of it.
pub(super) fn keeps_cr0(cr0: u64) -> bool {
    fits(cr0, CR0_ONES)
}

/// Tells whether CR4 has what VMX wants of it.
pub(super) fn keeps_cr4(cr4: u64) -> bool {
    fits(cr4, CR4_ONES)
}

/// Compares with the bits that must be one, and those of the next register, which
/// may.
fn fits(value: u64, ones: Msr) -> bool {
    let must_be_one = regs::read_msr(ones);
    let may_be_one = regs::read_msr(Msr(ones.0.wrapping_add(1)));
    value & must_be_one == must_be_one && value & !may_be_one == 0
}

impl Features {
    /// Asks this CPU; refuses one that lacks what guests need.
    pub(crate) fn detect() -> Result<Self> {
        let basic = regs::read_msr(BASIC);
        let pin = Pin::EXTERNAL_INTERRUPT | Pin::NMI | Pin::VIRTUAL_NMIS | Pin::PREEMPTION_TIMER;
        let primary = word(PRIMARY).choose(
            required_primary().bits(),
            0,
            "its VMX lacks TPR shadow, MSR bitmaps or secondary controls",
        )?;
        let cr3_exits = Primary::CR3_LOAD | Primary::CR3_STORE;
        if Primary::from_bits_truncate(primary).intersects(cr3_exits) {
            return Err(Error::Unsupported("its VMX exits at each write of CR3"));
        }
        let offered = Word::of(SECONDARY);
        let secondary = offered.choose(
            (Secondary::EPT | Secondary::VPID | Secondary::UNRESTRICTED_GUEST).bits(),
            (Secondary::RDTSCP | Secondary::INVPCID | Secondary::WBINVD).bits(),
            "its VMX lacks EPT, VPID or unrestricted guests",
        )?;
        let what = "its VMX cannot switch PAT, EFER and debug registers";
        let translation = translation();
        if !translation.contains(TRANSLATION_REQUIRED) {
            return Err(Error::Unsupported("its EPT lacks large pages or INVEPT"));
        }
        Ok(Self {
            revision: (basic & REVISION_MASK) as u32,
            pin: word(PIN).choose(pin.bits(), 0, "its VMX lacks virtual NMIs or its timer")?,
            primary,
            secondary,
            exit: word(EXIT).choose(
                required_exit().bits(),
                ExitControls::SAVE_TIMER.bits(),
                what,
            )?,
            entry: word(ENTRY).choose(required_entry().bits(), 0, what)?,
            translation,
            apic: Secondary::from_bits_truncate(offered.may_be_one) & APIC,
        })
    }

    /// Tells whether leaves of 1 GiB can be used.
    pub(crate) fn has_huge_pages(&self) -> bool {
        self.translation.contains(Translation::PAGES_1_GIB)
    }
}

#[cfg(test)]
impl Features {
    /// Returns what a CPU has that can do everything.
    pub(super) fn of_an_able_cpu() -> Self {
        tests::able();
        Self::detect().expect("it lacks nothing")
    }
}

fn required_primary() -> Primary {
    Primary::TSC_OFFSET
        | Primary::HLT
        | Primary::MWAIT
        | Primary::RDPMC
        | Primary::TPR_SHADOW
        | Primary::MOV_DR
        | Primary::UNCONDITIONAL_IO
        | Primary::MSR_BITMAPS
        | Primary::MONITOR
        | Primary::SECONDARY
}

fn required_exit() -> ExitControls {
    ExitControls::all().difference(ExitControls::SAVE_TIMER)
}

/// Long mode is on or off with the guest's.
fn required_entry() -> EntryControls {
    EntryControls::LOAD_DEBUG | EntryControls::LOAD_PAT | EntryControls::LOAD_EFER
}

/// Lets VMX operation be switched on, if firmware lets it be used.
pub(crate) fn enable() -> Result<()> {
    let control = regs::read_msr(FEATURE_CONTROL);
    if control & LOCKED == 0 {
        regs::write_msr(FEATURE_CONTROL, control | LOCKED | VMX_OUTSIDE_SMX);
    } else if control & VMX_OUTSIDE_SMX == 0 {
        return Err(Error::Unsupported("its firmware has switched VMX off"));
    }
    cpu::set_numeric_errors();
    regs::set_cr4_bits(CR4::VMXE::SET.value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regs::write_msr;

    const ALL: u64 = (u32::MAX as u64) << 32;

    /// A CPU that can do everything and insists on nothing.
    pub(super) fn able() {
        write_msr(BASIC, HAS_TRUE_CONTROLS | 0x1234);
        for msr in [PIN, PRIMARY, EXIT, ENTRY] {
            write_msr(Msr(msr.0 + TRUE_OFFSET), ALL);
        }
        write_msr(SECONDARY, ALL);
        write_msr(EPT_VPID, u64::MAX);
        for ones in [CR0_ONES, CR4_ONES] {
            write_msr(ones, 0);
            write_msr(Msr(ones.0 + 1), u64::MAX);
        }
    }

    #[test]
    fn what_helps_is_used_where_it_is() {
        able();
        let features = Features::detect().unwrap();
        assert_eq!(features.revision, 0x1234);
        assert!(features.has_huge_pages());
        let secondary = Secondary::from_bits_truncate(features.secondary);
        assert!(secondary.contains(Secondary::INVPCID));
        write_msr(SECONDARY, ALL & !u64::from(Secondary::INVPCID.bits()) << 32);
        let secondary = Features::detect().unwrap().secondary;
        assert!(!Secondary::from_bits_truncate(secondary).contains(Secondary::INVPCID));
    }

    #[test]
    fn a_cpu_that_lacks_what_guests_need_is_refused() {
        able();
        write_msr(SECONDARY, ALL & !(u64::from(Secondary::EPT.bits()) << 32));
        assert!(Features::detect().is_err());
        able();
        let must = u64::from(Primary::CR3_LOAD.bits());
        write_msr(Msr(PRIMARY.0 + TRUE_OFFSET), ALL | must);
        assert!(Features::detect().is_err());
        able();
        write_msr(EPT_VPID, 0);
        assert!(Features::detect().is_err());
    }

    #[test]
    fn what_must_be_one_is_one() {
        able();
        write_msr(Msr(PIN.0 + TRUE_OFFSET), ALL | 0x16);
        assert_eq!(Features::detect().unwrap().pin & 0x16, 0x16);
    }
}
