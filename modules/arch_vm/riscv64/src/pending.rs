// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is pending for a guest, as far as the hardware does not know itself.
//!
//! Before each entry the vCPU shows its hart's wires and its software timer in
//! hvip. The software interrupt is the guest's to clear, so it is only ever set
//! here; the external interrupt follows the interrupt controller's output.
//!
//! Spec: RISC-V Privileged, "H" extension, hvip, hip; "Sstc" extension.

use axvm::AxVMHal;
use tock_registers::{
    LocalRegisterCopy,
    interfaces::{Readable, Writeable},
};

use crate::{
    bank::TimerRegister,
    regs::{HVIP, S_INTERRUPTS, TIME, VS_INTERRUPTS, VSIE, VSIP, VSTIMECMP},
    timer::HostTime,
    vcpu::RiscvVCpu,
};

/// How far an interrupt's place in hvip is from that in vsip.
const VS_SHIFT: u32 = 1;

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Sets when the guest's timer fires.
    pub(crate) fn set_timer(&mut self, deadline: u64) {
        match self.host.timer {
            TimerRegister::Present => VSTIMECMP.set(deadline),
            TimerRegister::Absent => self.soft_timer.deadline = deadline,
        }
    }

    /// Shows the guest what is pending, as far as the hardware does not.
    #[inline]
    pub(crate) fn show_pending(&mut self) {
        if self.hart.take_software() {
            HVIP.set_bits(VS_INTERRUPTS::SOFTWARE::SET.value);
        }
        let external = self.harts.external(self.id);
        if external != self.shows_external {
            self.shows_external = external;
            drive(VS_INTERRUPTS::EXTERNAL::SET.value, external);
            if self.host.has_aia {
                self.show_in_stopi();
            }
        }
        if self.host.timer == TimerRegister::Absent {
            self.show_soft_timer();
        }
    }

    #[inline(never)]
    fn show_soft_timer(&self) {
        let ticks = self.harts.time.ticks(TIME.get());
        let is_pending = self.soft_timer.is_pending(ticks);
        drive(VS_INTERRUPTS::TIMER::SET.value, is_pending);
        let deadline = self.soft_timer.deadline;
        if let Some(at_ns) = self.host_ns(deadline).filter(|_| !is_pending) {
            self.harts.hal.interrupt_at(at_ns);
        }
    }

    fn host_ns(&self, deadline: u64) -> Option<u64> {
        let host = HostTime {
            ticks: TIME.get(),
            ns: self.harts.hal.current_time_nanos(),
        };
        self.harts.time.host_ns(deadline, host)
    }

    /// Tells whether an interrupt that the guest enabled is pending.
    pub(crate) fn has_interrupt(&mut self) -> bool {
        self.show_pending();
        self.pending_interrupts() != 0
    }

    /// Returns what is both pending and enabled, where sip and sie have it.
    ///
    /// QEMU 7.2 takes interrupts that it does not show in vsip: what hvip says,
    /// what is in a file, and, once hvip was written, the timer.
    pub(crate) fn pending_interrupts(&self) -> u64 {
        let mut shown = VSIP.get() | HVIP.get().wrapping_shr(VS_SHIFT);
        if self.host.has_aia && self.has_message() {
            shown |= S_INTERRUPTS::EXTERNAL::SET.value;
        }
        let enabled = shown & VSIE.get();
        match self.is_timer_due() {
            true => enabled | S_INTERRUPTS::TIMER::SET.value,
            false => enabled,
        }
    }

    /// Tells whether the guest's own timer is due and enabled.
    fn is_timer_due(&self) -> bool {
        self.host.timer == TimerRegister::Present
            && VSIE.is_set(S_INTERRUPTS::TIMER)
            && self.harts.time.ticks(TIME.get()) >= VSTIMECMP.get()
    }

    /// Returns when the guest's timer fires on the host's clock; never, if the
    /// guest would not notice.
    pub(crate) fn timer_deadline_ns(&self) -> Option<u64> {
        let is_bound = self.bound_on.is_some();
        let enabled = match is_bound {
            true => LocalRegisterCopy::new(VSIE.get()),
            false => self.bank.interrupts_enabled,
        };
        if !enabled.is_set(S_INTERRUPTS::TIMER) {
            return None;
        }
        let deadline = match (self.host.timer, is_bound) {
            (TimerRegister::Absent, _) => self.soft_timer.deadline,
            (TimerRegister::Present, true) => VSTIMECMP.get(),
            (TimerRegister::Present, false) => self.bank.timer,
        };
        self.host_ns(deadline)
    }
}

/// Sets or clears a bit of HVIP.
fn drive(bit: u64, is_high: bool) {
    match is_high {
        true => HVIP.set_bits(bit),
        false => HVIP.clear_bits(bit),
    };
}
