// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC, as far as the CPU takes it over.
//!
//! Where the CPU has all that it needs, it delivers the vectors that are requested
//! in the page of registers, ends them, and takes those that the guest sends to
//! itself; the guest then reads all registers but the timer's count without an
//! exit. It leaves for the end of a level-triggered interrupt, and for writes that
//! reach beyond its local APIC. Elsewhere CR8 alone is the CPU's.
//!
//! Spec: Intel SDM 3, "APIC Virtualization and Virtual Interrupts".

use axvm::AxVMHal;

use super::{
    Vmx,
    controls::Secondary,
    fields::{EOI_EXITS, INTERRUPT_STATUS, MSR_BITMAP, SECONDARY_CONTROLS},
    vmcs,
};
use crate::irqchip::lapic::{Given, Mode};

/// What a local APIC that is reached by MSRs needs of the CPU.
pub(super) const BY_MSRS: Secondary = Secondary::X2APIC
    .union(Secondary::APIC_REGISTERS)
    .union(Secondary::INTERRUPT_DELIVERY);

impl<H: AxVMHal> Vmx<H> {
    /// Tells whether the CPU delivers the vectors of a local APIC that is enabled
    /// and reached like this.
    #[inline]
    pub(crate) fn delivers(&self, mode: Mode) -> bool {
        mode == Mode::X2Apic && self.features.apic.contains(BY_MSRS)
    }

    /// Has the CPU deliver the local APIC's vectors.
    pub(crate) fn give_apic(&mut self, mode: Mode, given: Given) {
        self.set_apic_mode(mode);
        let status = u16::from(given.serving) << u8::BITS | u16::from(given.requested);
        self.on(|| vmcs::write(INTERRUPT_STATUS, status));
        if given.levels != self.levels {
            self.levels = given.levels;
            self.on(|| {
                for (field, word) in EOI_EXITS.into_iter().zip(given.levels) {
                    vmcs::write(field, word);
                }
            });
        }
    }

    /// Withdraws [`Self::give_apic`].
    #[inline]
    pub(crate) fn take_apic(&mut self) {
        self.set_apic_mode(Mode::Disabled);
    }

    fn set_apic_mode(&mut self, mode: Mode) {
        if mode == self.apic_mode {
            return;
        }
        self.apic_mode = mode;
        let used = match mode {
            Mode::X2Apic => BY_MSRS,
            Mode::XApic | Mode::Disabled => Secondary::empty(),
        };
        let bitmap = self.maps.msr(mode);
        self.on(|| {
            vmcs::write(SECONDARY_CONTROLS, self.features.secondary | used.bits());
            vmcs::write(MSR_BITMAP, bitmap);
        });
    }

    /// Tells whether the CPU has been given the local APIC.
    pub(super) fn is_apic_given(&self) -> bool {
        self.apic_mode != Mode::Disabled
    }
}
