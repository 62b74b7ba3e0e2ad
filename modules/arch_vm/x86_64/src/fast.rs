// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Exits that concern nothing but their vCPU: calls, CPUID, its local APIC.
//!
//! Called by a backend before the world is switched, so that nothing here may use
//! what the host keeps for each CPU, nor wait. What an exit does is decided in
//! `handle` and the local APIC; here is only what needs no more than that, and all
//! else is left untouched for them.
//!
//! Spec: Intel SDM 3, "x2APIC Register Address Space", "TSC-Deadline Mode".

use axvm::{AxVMHal, ExitKind};

use crate::{
    backend::Backend,
    exit::Event,
    frame::RCX,
    handle::{CALL_VERSION, LENGTH_CALL, LENGTH_CPUID, LENGTH_MSR},
    regs::Msr,
    vcpu::VCpu,
};

/// An exit that may be answered alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simple {
    Cpuid,
    Hypercall,
    WriteMsr,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alone {
    /// Nothing has happened yet.
    Untouched,
    /// The guest goes on.
    Done,
    /// It is done, but what comes before an entry has changed.
    Look,
}

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Answers an exit if that needs nothing but this vCPU; its guest does not step.
    #[inline]
    pub(crate) fn answer_alone(&mut self, exit: Simple) -> Alone {
        match exit {
            Simple::Cpuid => {
                self.fill_cpuid();
                self.pass(LENGTH_CPUID, ExitKind::SysReg);
                Alone::Done
            }
            Simple::Hypercall if self.call_number() == CALL_VERSION => Alone::Untouched,
            Simple::Hypercall => {
                self.refuse_call();
                self.pass(LENGTH_CALL, ExitKind::Hypercall);
                Alone::Done
            }
            Simple::WriteMsr => self.write_msr_alone(),
        }
    }

    #[inline]
    fn write_msr_alone(&mut self) -> Alone {
        let value = self.edx_eax();
        match Msr(self.frame.get_32(RCX)) {
            Msr::TSC_DEADLINE => self.set_deadline(value),
            Msr::X2APIC_END if value == 0 => self.end_interrupt(),
            Msr::X2APIC_SELF_IPI => match u8::try_from(value) {
                Ok(vector) => self.interrupt_itself(vector),
                Err(_) => Alone::Untouched,
            },
            _ => Alone::Untouched,
        }
    }

    /// Sets the timer; the host's is left as it is unless it comes too late.
    #[inline]
    fn set_deadline(&mut self, tsc: u64) -> Alone {
        let is_late = self.set_tsc_deadline(tsc);
        self.pass(LENGTH_MSR, ExitKind::SysReg);
        match is_late {
            true => Alone::Look,
            false => Alone::Done,
        }
    }

    /// Ends an interrupt that nobody else hears the end of.
    #[inline]
    fn end_interrupt(&mut self) -> Alone {
        if self.interrupts.apic.end_alone().is_none() {
            return Alone::Untouched;
        }
        self.pass(LENGTH_MSR, ExitKind::SysReg);
        match self.interrupts.must_look() {
            true => Alone::Look,
            false => Alone::Done,
        }
    }

    /// Delivers an interrupt of the guest to itself, at once if it can be taken.
    #[inline]
    fn interrupt_itself(&mut self, vector: u8) -> Alone {
        if !self.interrupts.apic.is_x2apic() {
            return Alone::Untouched;
        }
        self.pass(LENGTH_MSR, ExitKind::SysReg);
        self.take_task_priority();
        if self.backend.can_interrupt()
            && !self.machine.fabric.has_external(self.id)
            && self.interrupts.apic.take_own(vector)
        {
            self.backend.inject(Event::Interrupt(vector));
            return Alone::Done;
        }
        self.interrupts.apic.send_self(vector);
        Alone::Look
    }
}
