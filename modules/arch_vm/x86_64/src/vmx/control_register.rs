// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes of control registers that touched what VMX keeps.
//!
//! VMX keeps CR0.NE and CR4.VMXE set; the guest sees its own from the shadows,
//! and leaves when it writes another value. Other bits never exit.
//!
//! Spec: Intel SDM 3, "Guest/Host Masks and Read Shadows for CR0 and CR4",
//! "Control Registers" (the checks that MOV to CR0 makes).

use axvm::AxVMHal;

use super::{
    Vmx,
    controls::CR_ACCESS,
    exit,
    fields::{CR0_SHADOW, ENTRY_CONTROLS, GUEST_CR0, GUEST_EFER},
    state::{CR0_OWNED, with_long_mode},
    vmcs,
};
use crate::{
    exit::Exit,
    frame::Frame,
    regs::{CR0, CR4, EFER, bits},
};

impl<H: AxVMHal> Vmx<H> {
    /// Does a write of a control register that touched what VMX keeps.
    #[inline]
    pub(super) fn control_register(&mut self, exit: Exit, frame: &Frame) -> Exit {
        match exit {
            Exit::Unknown(code, qualification) if code == exit::CONTROL_REGISTER.into() => {
                self.write_control_register(qualification, frame)
            }
            other => other,
        }
    }

    #[cold]
    fn write_control_register(&mut self, qualification: u64, frame: &Frame) -> Exit {
        let access = bits::<CR_ACCESS::Register>(qualification);
        let is_write = access.matches_all(CR_ACCESS::KIND::ToRegister);
        let value = frame.get(access.read(CR_ACCESS::GPR) as usize);
        match access.read(CR_ACCESS::NUMBER) {
            0 if is_write => self.write_cr0(value),
            // Only VMXE leaves, which this CPU does not have for its guests.
            _ => Exit::Protection,
        }
    }

    fn write_cr0(&mut self, value: u64) -> Exit {
        let new = bits::<CR0::Register>(value);
        let old = bits::<CR0::Register>(vmcs::read(GUEST_CR0));
        let (cr4, efer) = (
            bits::<CR4::Register>(self.cr4()),
            bits::<EFER::Register>(self.efer()),
        );
        let turns_on = new.is_set(CR0::PG) && !old.is_set(CR0::PG);
        let long_without_pae = turns_on && efer.is_set(EFER::LME) && !cr4.is_set(CR4::PAE);
        let is_wrong = value >> 32 != 0
            || new.is_set(CR0::PG) && !new.is_set(CR0::PE)
            || new.is_set(CR0::NW) && !new.is_set(CR0::CD)
            || long_without_pae;
        if is_wrong {
            return Exit::Protection;
        }
        let is_active = new.is_set(CR0::PG) && efer.is_set(EFER::LME);
        let active = EFER::LMA::SET.value;
        vmcs::modify(GUEST_EFER, |efer| match is_active {
            true => efer | active,
            false => efer & !active,
        });
        vmcs::modify(ENTRY_CONTROLS, |word| with_long_mode(word, is_active));
        vmcs::write(GUEST_CR0, value | CR0_OWNED);
        vmcs::write(CR0_SHADOW, value);
        // The length is the hardware's to tell.
        Exit::Skip(0)
    }
}
