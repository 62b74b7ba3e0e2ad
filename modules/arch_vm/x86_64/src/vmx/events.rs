// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is delivered to the guest, and making it leave when it can take more.
//!
//! An event waits in the vCPU until the next entry. CR8 is in the page of the local
//! APIC's registers, where the guest changes it without an exit unless it falls
//! below the threshold.
//!
//! Spec: Intel SDM 3, "Event Injection", "TPR Shadow", "Interrupt-Window Exiting
//! and Virtual-Interrupt Delivery", "Virtual NMIs".

use axvm::AxVMHal;
use tock_registers::LocalRegisterCopy;

use super::{
    Vmx,
    controls::{Blocking, EVENT, Primary},
    fields::{INTERRUPTIBILITY, PRIMARY_CONTROLS, VECTORING_ERROR, VECTORING_EVENT},
    state::Pending,
    vmcs,
};
use crate::{
    backend::{DebugOwner, NmiWatch},
    exit::{Event, Exception},
    regs::{RFLAGS, bits},
};

impl<H: AxVMHal> Vmx<H> {
    /// Tells whether the guest takes an interrupt now.
    #[inline]
    pub(crate) fn can_interrupt(&self) -> bool {
        self.has_interrupts_open() && self.can_take_nmi() && !self.has_event()
    }

    /// Tells whether the guest takes an NMI now that has none; if it does not,
    /// watching for the end of an NMI tells when it does.
    pub(crate) fn can_take_nmi(&self) -> bool {
        let blocking = self.on(|| vmcs::read(INTERRUPTIBILITY));
        blocking & Blocking::SHADOW.bits() == 0
    }

    /// Tells whether IF is set.
    pub(super) fn has_interrupts_open(&self) -> bool {
        bits::<RFLAGS::Register>(self.rflags).is_set(RFLAGS::INTERRUPT)
    }

    /// Tells whether something is delivered on the next entry.
    #[inline]
    pub(crate) fn has_event(&self) -> bool {
        self.pending.event != 0
    }

    /// Delivers an event on the next entry.
    ///
    /// Before a #DB nothing else comes, so that no shadow is left; an entry with one
    /// and TF fails, as the step's trap is what was pending.
    pub(crate) fn inject(&mut self, event: Event) {
        if event == Event::Exception(Exception::DEBUG) {
            let shadow = Blocking::SHADOW.bits();
            self.on(|| vmcs::modify(INTERRUPTIBILITY, |word| word & !shadow));
        }
        let number = |vector: u8| EVENT::VALID::SET + EVENT::VECTOR.val(vector.into());
        let (value, error) = match event {
            Event::Interrupt(vector) => (number(vector) + EVENT::KIND::External, None),
            Event::Nmi => (number(2) + EVENT::KIND::Nmi, None),
            Event::Exception(Exception { vector, error }) => {
                let value = number(vector) + EVENT::KIND::Exception;
                match error {
                    None => (value, None),
                    error => (value + EVENT::HAS_ERROR::SET, error),
                }
            }
        };
        self.pending = Pending {
            event: value.value,
            error: error.unwrap_or(0),
        };
    }

    /// Tells whether the last exit interrupted the delivery of an event.
    pub(crate) fn was_delivering(&self) -> bool {
        let value = self.on(|| vmcs::read(VECTORING_EVENT));
        LocalRegisterCopy::<u32, EVENT::Register>::new(value).is_set(EVENT::VALID)
    }

    /// Takes up an event again whose delivery was interrupted by this exit.
    ///
    /// Software interrupts and breakpoints are executed again, as RIP is still
    /// on them.
    #[inline]
    pub(crate) fn resume_event(&mut self) {
        let value = self.on(|| vmcs::read(VECTORING_EVENT));
        let event = LocalRegisterCopy::<u32, EVENT::Register>::new(value);
        if !event.is_set(EVENT::VALID) {
            return;
        }
        let is_nmi = event.matches_all(EVENT::KIND::Nmi);
        let is_hardware = is_nmi
            || event.matches_all(EVENT::KIND::External)
            || event.matches_all(EVENT::KIND::Exception);
        if is_nmi {
            // Delivering it blocks NMIs anew.
            let blocking = Blocking::NMI.bits();
            self.on(|| vmcs::modify(INTERRUPTIBILITY, |word| word & !blocking));
        }
        if is_hardware {
            // Bit 12 is undefined where it is read and reserved where it is written.
            let kept = (EVENT::VALID::SET + EVENT::HAS_ERROR::SET).value | 0x7ff;
            self.pending = Pending {
                event: value & kept,
                error: self.on(|| vmcs::read(VECTORING_ERROR)),
            };
        }
    }

    fn change_primary(&self, change: impl FnOnce(Primary) -> Primary) {
        self.on(|| {
            vmcs::modify(PRIMARY_CONTROLS, |word| {
                change(Primary::from_bits_retain(word)).bits()
            });
        });
    }

    /// Makes the guest leave as soon as it can take an interrupt of this priority.
    pub(crate) fn open_window(&mut self, priority: u8) {
        // A CPU that has the local APIC leaves for no threshold, nor has to.
        if self.is_apic_given() || priority > self.task_priority() {
            self.change_primary(|word| word | Primary::INTERRUPT_WINDOW);
        } else {
            self.close_window();
            // The guest leaves when CR8 falls below.
            self.set_threshold(priority);
        }
    }

    /// Withdraws [`Self::open_window`].
    pub(crate) fn close_window(&mut self) {
        self.change_primary(|word| word.difference(Primary::INTERRUPT_WINDOW));
        self.set_threshold(0);
    }

    /// Returns CR8.
    #[inline]
    pub(crate) fn task_priority(&self) -> u8 {
        self.apic.task_class()
    }

    /// Sets CR8.
    #[inline]
    pub(crate) fn set_task_priority(&mut self, priority: u8) {
        self.apic.set_task_class(priority);
    }

    /// Makes the guest leave when its NMI ends.
    pub(crate) fn watch_nmi_end(&mut self, watch: NmiWatch) {
        self.change_primary(|word| match watch {
            NmiWatch::On => word | Primary::NMI_WINDOW,
            NmiWatch::Off => word.difference(Primary::NMI_WINDOW),
        });
    }

    /// Lets the guest have the debug registers, or makes it leave at the first access.
    pub(crate) fn give_debug(&mut self, to: DebugOwner) {
        self.change_primary(|word| match to {
            DebugOwner::Guest => word.difference(Primary::MOV_DR),
            DebugOwner::Nobody => word | Primary::MOV_DR,
        });
    }
}
