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
use crate::irqchip::vectors::{WORDS, highest};

/// What hardware is told beside the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    /// The highest vector that is requested, or 0; those that it knows left out if
    /// `serving` is.
    pub(crate) requested: u8,
    /// The highest vector in service, or 0, if the hardware does not know.
    pub(crate) serving: Option<u8>,
    /// The vectors whose end somebody else hears, if that has changed.
    pub(crate) levels: Option<[u64; WORDS]>,
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
        let knows = core::mem::replace(&mut self.is_given, true) && self.is_known;
        self.is_known = true;
        let more = self.inbox.requests.take();
        self.page.add_vectors(Set::Requests, more);
        // A vector's trigger is there before its request.
        let levels = self.inbox.levels.words();
        let has_changed = !knows || levels != self.page.vectors(Set::Levels);
        if has_changed {
            self.page.set_vectors(Set::Levels, levels);
        }
        let (requested, serving) = match knows {
            true => (highest(more), None),
            false => (self.page.highest(Set::Requests), Some(self.serving())),
        };
        Given {
            requested: requested.unwrap_or(0),
            serving,
            levels: has_changed.then_some(levels),
        }
    }

    /// Tells whether a vector that the hardware has been given may be taken.
    pub(crate) fn is_due(&self) -> bool {
        let held_back = self.serving().max(self.task_priority()) & CLASS;
        let requested = self.page.highest(Set::Requests).unwrap_or(0);
        self.is_given && requested & CLASS > held_back
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
