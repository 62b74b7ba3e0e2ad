// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A local APIC that hardware has been given: it delivers interrupts by itself.
//!
//! While it is given, the requests that the hardware knows are in the page; those
//! of others still come to the inbox, and [`LocalApic::give`] moves them before each
//! entry that follows. All other registers are in the page anyway. Given is one
//! that is enabled alone, since the hardware does not know others.
//!
//! Spec: Intel SDM 3, "Virtual-Interrupt Delivery", "EOI-Exit Bitmap".

use axvm::AxVCpuHal;

use super::{LocalApic, Mode, page::Set, registers::CLASS};
use crate::irqchip::vectors::WORDS;

/// What hardware is told beside the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The highest vector that is requested, or 0.
    pub(crate) requested: u8,
    /// The highest vector in service, or 0.
    pub(crate) serving: u8,
    /// The vectors whose end somebody else hears.
    pub(crate) levels: [u64; WORDS],
    /// The highest vector that is requested has a priority to be taken.
    pub(crate) is_due: bool,
}

impl<H: AxVCpuHal> LocalApic<H> {
    /// Returns how the guest reaches the registers of one that is enabled.
    pub(crate) fn enabled_mode(&self) -> Mode {
        match self.is_enabled() {
            true => self.mode,
            false => Mode::Disabled,
        }
    }

    /// Gives the hardware what has been requested.
    pub(crate) fn give(&mut self) -> Given {
        self.is_given = true;
        let known = self.page.vectors(Set::Requests);
        let mut new = self.inbox.requests.take();
        new.iter_mut()
            .zip(known)
            .for_each(|(new, known)| *new |= known);
        self.page.set_vectors(Set::Requests, new);
        // A vector's trigger is there before its request.
        let levels = self.inbox.levels.words();
        self.page.set_vectors(Set::Levels, levels);
        let requested = self.page.highest(Set::Requests).unwrap_or(0);
        let serving = self.serving();
        let held_back = serving.max(self.task_priority()) & CLASS;
        Given {
            requested,
            serving,
            levels,
            is_due: requested & CLASS > held_back,
        }
    }

    /// Takes it back from the hardware, if that has it.
    pub(crate) fn take_back(&mut self) {
        if core::mem::take(&mut self.is_given) {
            self.inbox.requests.add(self.page.vectors(Set::Requests));
            self.page.set_vectors(Set::Requests, [0; WORDS]);
            self.highest = self.page.highest(Set::InService).unwrap_or(0);
            self.update_priority();
        }
    }

    /// Takes CR8 as the guest left it.
    pub(crate) fn set_task_class(&mut self, class: u8) {
        self.page.set_task_class(class);
        self.set_task_priority(self.task_priority());
    }
}
