// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From an APLIC and from messages to the harts.
//!
//! Devices drive wires, guests access registers and pages; what comes out is
//! left at the harts that it is for, and those are made to look. Accesses of a
//! vCPU come from `mmio` without the bus; [`Port`] is the same for the bus.
//! A PLIC is in `harts`.
//!
//! A hart's bit in `raised` says that its interrupt file may have something. It
//! is set after the message is in the file, and taken back before the file is
//! looked at for the last time, so that no message stays unseen.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use axdevice::{AccessFault, AccessWidth, IoDevice};
use axvm::AxVMHal;

use crate::{
    harts::{Harts, closed, output},
    irqchip::{
        Intc,
        aplic::{Aplic, Msi},
        imsic::Imsic,
    },
    vm::{APLIC, imsic_window},
};

/// The registers and pages of a machine without a PLIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Registers {
    /// Of the APLIC.
    Aplic,
    /// The pages that take messages.
    Files,
}

impl<H: AxVMHal> Harts<H> {
    /// Returns the registers at an address that are not a PLIC's, and the offset.
    pub(crate) fn interrupt_registers(&self, address: u64) -> Option<(Registers, u64)> {
        let aplic = APLIC.offset_of(address).filter(|_| self.intc != Intc::Plic);
        match (aplic, &self.imsic) {
            (Some(offset), _) => Some((Registers::Aplic, offset)),
            (None, Some(_)) => {
                let offset = imsic_window(self.count()).offset_of(address)?;
                Some((Registers::Files, offset))
            }
            (None, None) => None,
        }
    }

    /// Reads a register, which takes words only; interrupts are closed.
    pub(crate) fn read_interrupts(
        &self,
        own: Option<usize>,
        (registers, offset): (Registers, u64),
        width: AccessWidth,
    ) -> Result<u64, AccessFault> {
        check(offset, width)?;
        let value = match registers {
            Registers::Aplic => self.with_aplic(own, |aplic, _| aplic.read(offset)),
            Registers::Files => self.imsic.as_ref().map_or(0, |imsic| imsic.read(offset)),
        };
        Ok(u64::from(value))
    }

    /// Writes a register; interrupts are closed.
    pub(crate) fn write_interrupts(
        &self,
        own: Option<usize>,
        (registers, offset): (Registers, u64),
        (width, value): (AccessWidth, u64),
    ) -> Result<(), AccessFault> {
        check(offset, width)?;
        let value = value as u32;
        match registers {
            Registers::Aplic => {
                self.with_aplic(own, |aplic, send| aplic.write(offset, value, send));
            }
            Registers::Files => {
                let message = Imsic::message(offset, value);
                let risen = message.map_or(0, |msi| self.deliver(msi));
                self.tell(risen, own);
            }
        }
        Ok(())
    }

    /// Drives a wire of the APLIC.
    // Not inlined: a PLIC's wires would pay for its registers.
    #[inline(never)]
    pub(crate) fn drive_aplic(&self, source: usize, is_high: bool) {
        closed(|| self.with_aplic(None, |aplic, send| aplic.set_level(source, is_high, send)));
    }

    fn with_aplic<T>(
        &self,
        own: Option<usize>,
        act: impl FnOnce(&mut Aplic, &mut dyn FnMut(Msi)) -> T,
    ) -> T {
        let mut risen = 0;
        let result = {
            let mut aplic = self.aplic.lock();
            let result = act(&mut aplic, &mut |msi| risen |= self.deliver(msi));
            if self.intc == Intc::Aplic {
                risen = self.drive_harts(&aplic);
            }
            result
        };
        self.tell(risen, own);
        result
    }

    fn tell(&self, risen: u64, own: Option<usize>) {
        if risen != 0 {
            self.make_look(risen, own);
        }
    }

    /// Drives each hart's wire; returns those that have gone high.
    fn drive_harts(&self, aplic: &Aplic) -> u64 {
        let now = (0..self.count())
            .filter(|hart| aplic.is_raised(*hart))
            .fold(0, |bits, hart| bits | output(hart));
        // Changed by holders of the lock only.
        now & !self.raised.swap(now, Ordering::SeqCst)
    }

    /// Puts a message into a hart's file; returns the hart if it must look.
    ///
    /// A file of the hardware interrupts whoever must look by itself.
    fn deliver(&self, msi: Msi) -> u64 {
        let Some(hart) = self.get(msi.hart as usize) else {
            return 0;
        };
        let page = hart.page.lock();
        if let Some(page) = &*page {
            page.send(msi.identity);
            return 0;
        }
        match self.imsic.as_ref().and_then(|imsic| imsic.send(msi)) {
            Some(id) => {
                self.look_at_file(id);
                output(id)
            }
            None => 0,
        }
    }

    /// Notes that a hart's file may have something for it.
    pub(crate) fn look_at_file(&self, id: usize) {
        self.raised.fetch_or(output(id), Ordering::SeqCst);
    }

    /// Looks at a hart's file, on the hart itself.
    #[inline(never)]
    pub(crate) fn is_file_raised(&self, id: usize) -> bool {
        let file = self.imsic.as_ref().and_then(|imsic| imsic.file(id));
        self.raised.fetch_and(!output(id), Ordering::SeqCst);
        let is_raised = file.is_some_and(|file| file.is_raised());
        if is_raised {
            self.look_at_file(id);
        }
        is_raised
    }
}

/// Refuses what QEMU's controllers refuse: all but aligned words.
fn check(offset: u64, width: AccessWidth) -> Result<(), AccessFault> {
    match width {
        AccessWidth::Dword if offset.is_multiple_of(4) => Ok(()),
        _ => Err(AccessFault),
    }
}

/// Registers on the bus, for accesses that are not a vCPU's own.
pub(crate) struct Port<H: AxVMHal> {
    pub(crate) harts: Arc<Harts<H>>,
    pub(crate) registers: Registers,
}

impl<H: AxVMHal> IoDevice for Port<H> {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let at = (self.registers, offset);
        closed(|| self.harts.read_interrupts(None, at, width))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let at = (self.registers, offset);
        closed(|| self.harts.write_interrupts(None, at, (width, value)))
    }
}
