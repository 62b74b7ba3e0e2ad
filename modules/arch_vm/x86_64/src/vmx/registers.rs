// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guest's registers as the rest of the crate reads and writes them.
//!
//! What a person looks at while another CPU has the VMCS reads as zero, but for
//! RIP and RFLAGS, which are kept here as of the last exit.
//!
//! Spec: Intel SDM 3, "Guest Register State".

use axvm::AxVMHal;
use tock_registers::LocalRegisterCopy;

use super::{
    Vmx,
    controls::{Blocking, RIGHTS},
    cpu,
    fields::{
        CR0_SHADOW, CR4_SHADOW, EXIT_LENGTH, GUEST_CR0, GUEST_CR3, GUEST_CR4, GUEST_CS, GUEST_DR7,
        GUEST_DS, GUEST_EFER, GUEST_ES, GUEST_FS, GUEST_GS, GUEST_PAT, GUEST_RFLAGS, GUEST_RIP,
        GUEST_SS, INTERRUPTIBILITY, SegmentFields,
    },
    state::{CR0_OWNED, CR4_OWNED},
    vmcs,
};
use crate::{
    insn::{CodeSize, SegmentName},
    regs::{EFER, bits},
};

impl<H: AxVMHal> Vmx<H> {
    /// Returns the address of the next instruction to execute.
    pub(crate) fn rip(&self) -> u64 {
        self.rip
    }

    /// Goes on behind the instruction that left.
    #[inline]
    pub(crate) fn skip(&mut self, _length: u8) {
        let length = self.on(|| vmcs::read(EXIT_LENGTH));
        self.go_on_at(self.rip.wrapping_add(length.into()));
    }

    /// Goes on at an address: the instruction before it is done.
    #[inline]
    pub(crate) fn go_on_at(&mut self, next: u64) {
        let rip = match self.rights(GUEST_CS).is_set(RIGHTS::LONG) {
            true => next,
            false => next & u64::from(u32::MAX),
        };
        self.rip = rip;
        self.on(|| {
            vmcs::write(GUEST_RIP, rip);
            vmcs::modify(INTERRUPTIBILITY, |word| word & !Blocking::SHADOW.bits());
        });
    }

    pub(super) fn rights(&self, fields: SegmentFields) -> LocalRegisterCopy<u32, RIGHTS::Register> {
        LocalRegisterCopy::new(self.on(|| vmcs::read(fields.rights)))
    }

    pub(crate) fn rflags(&self) -> u64 {
        self.rflags
    }

    pub(crate) fn set_rflags(&mut self, rflags: u64) {
        self.rflags = rflags;
        self.on(|| vmcs::write(GUEST_RFLAGS, rflags));
    }

    /// Returns CR0 as the guest sees it.
    pub(crate) fn cr0(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_CR0) & !CR0_OWNED | vmcs::read(CR0_SHADOW) & CR0_OWNED)
    }

    pub(crate) fn cr3(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_CR3))
    }

    /// Returns CR4 as the guest sees it.
    pub(crate) fn cr4(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_CR4) & !CR4_OWNED | vmcs::read(CR4_SHADOW) & CR4_OWNED)
    }

    /// Is not asked for: a write that is allowed does not leave.
    pub(crate) fn set_cr4(&mut self, _value: u64) {}

    pub(crate) fn efer(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_EFER))
    }

    /// Sets EFER; the caller has checked the value.
    pub(crate) fn set_efer(&mut self, value: u64) {
        self.on(|| vmcs::write(GUEST_EFER, value));
    }

    pub(crate) fn pat(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_PAT))
    }

    pub(crate) fn set_pat(&mut self, value: u64) {
        self.on(|| vmcs::write(GUEST_PAT, value));
    }

    /// Sets the address of a page fault.
    pub(crate) fn set_cr2(&mut self, address: u64) {
        self.cr2 = address;
        if self.here.is_some() {
            cpu::set_cr2(address);
        }
    }

    /// Returns DR6.
    pub(crate) fn dr6(&self) -> u64 {
        match self.here {
            Some(_) => cpu::dr6(),
            None => self.dr6,
        }
    }

    /// Sets DR6.
    pub(crate) fn set_dr6(&mut self, value: u64) {
        self.dr6 = value;
        if self.here.is_some() {
            cpu::set_dr6(value);
        }
    }

    /// Returns DR7.
    pub(crate) fn dr7(&self) -> u64 {
        self.on(|| vmcs::read(GUEST_DR7))
    }

    /// Returns the privilege level: 3 is user code.
    pub(crate) fn cpl(&self) -> u8 {
        self.rights(GUEST_SS).read(RIGHTS::PRIVILEGE) as u8
    }

    /// Returns the size of the code that runs.
    pub(crate) fn code_size(&self) -> CodeSize {
        let code = self.rights(GUEST_CS);
        let is_long = bits::<EFER::Register>(self.efer()).is_set(EFER::LMA);
        if is_long && code.is_set(RIGHTS::LONG) {
            CodeSize::Bits64
        } else if code.is_set(RIGHTS::BIG) {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    /// Returns where a segment starts.
    pub(crate) fn segment_base(&self, name: SegmentName) -> u64 {
        let is_flat = self.code_size() == CodeSize::Bits64;
        let fields = match name {
            SegmentName::Fs => GUEST_FS,
            SegmentName::Gs => GUEST_GS,
            _ if is_flat => return 0,
            SegmentName::Es => GUEST_ES,
            SegmentName::Cs => GUEST_CS,
            SegmentName::Ss => GUEST_SS,
            SegmentName::Ds => GUEST_DS,
        };
        self.on(|| vmcs::read(fields.base))
    }

    /// VMX does not tell the bytes of an instruction.
    pub(crate) fn fetched(&self) -> Option<&[u8]> {
        None
    }
}
