// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC, as far as the CPU takes it over.
//!
//! Where the CPU has all that it needs, it delivers the vectors that are requested
//! in the page of registers, ends them, and takes those that the guest sends to
//! itself; the guest then reads all registers but the timer's count without an
//! exit, as MSRs or in memory. It leaves for the end of a level-triggered interrupt,
//! and for writes that do more than that. Elsewhere CR8 alone is the CPU's.
//!
//! Spec: Intel SDM 3, "APIC Virtualization and Virtual Interrupts".

use axvm::AxVMHal;

use super::{
    Vmx,
    controls::Secondary,
    fields::{APIC_ACCESS, EOI_EXITS, INTERRUPT_STATUS, MSR_BITMAP, SECONDARY_CONTROLS},
    vmcs,
};
use crate::irqchip::lapic::{Given, Mode};

/// What a local APIC that is reached by MSRs needs of the CPU.
pub(super) const BY_MSRS: Secondary = Secondary::X2APIC
    .union(Secondary::APIC_REGISTERS)
    .union(Secondary::INTERRUPT_DELIVERY);

/// What one needs that is reached in memory.
pub(super) const BY_PAGE: Secondary = Secondary::APIC_ACCESSES
    .union(Secondary::APIC_REGISTERS)
    .union(Secondary::INTERRUPT_DELIVERY);

impl<H: AxVMHal> Vmx<H> {
    /// Tells whether the CPU delivers the vectors of a local APIC that is enabled
    /// and reached like this.
    #[inline]
    pub(crate) fn delivers(&self, mode: Mode) -> bool {
        match mode {
            Mode::Disabled => false,
            Mode::XApic => self.features.apic.contains(BY_PAGE),
            Mode::X2Apic => self.features.apic.contains(BY_MSRS),
        }
    }

    /// Has the CPU deliver the local APIC's vectors.
    pub(crate) fn give_apic(&mut self, mode: Mode, given: Given) {
        self.set_apic_mode(mode);
        self.on(|| {
            vmcs::modify(INTERRUPT_STATUS, |status| {
                let [known, serving] = status.to_le_bytes();
                u16::from_le_bytes(match given.serving {
                    Some(serving) => [given.requested, serving],
                    None => [given.requested.max(known), serving],
                })
            });
            for (field, word) in EOI_EXITS
                .into_iter()
                .zip(given.levels.into_iter().flatten())
            {
                vmcs::write(field, word);
            }
        });
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
        self.on(|| self.write_apic_controls());
    }

    /// Writes what follows of how the guest reaches its local APIC.
    pub(super) fn write_apic_controls(&self) {
        let used = match self.apic_mode {
            Mode::X2Apic => BY_MSRS,
            Mode::XApic => BY_PAGE,
            // Where there is a page, accesses to it must leave.
            Mode::Disabled if self.maps.apic_page().is_some() => Secondary::APIC_ACCESSES,
            Mode::Disabled => Secondary::empty(),
        };
        vmcs::write(SECONDARY_CONTROLS, self.features.secondary | used.bits());
        vmcs::write(MSR_BITMAP, self.maps.msr(self.apic_mode));
        vmcs::write(APIC_ACCESS, self.maps.apic_page().unwrap_or(0));
    }

    /// Tells whether the CPU has been given the local APIC.
    pub(super) fn is_apic_given(&self) -> bool {
        self.apic_mode != Mode::Disabled
    }
}
