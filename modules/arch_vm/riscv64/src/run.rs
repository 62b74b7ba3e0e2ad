// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Into the guest and out of it again, as far as that is not assembly.
//!
//! [`RiscvVCpu::run_closed`] goes in. Each exit that `fast` does not finish comes
//! to [`take_exit`], still inside of the world switch: it says whether the guest
//! goes on, or `run_closed` returns. Before the guest goes on, whoever may want
//! something of the vCPU is heard, in the order that `VCpuControl` asks for.
//! Interrupts are closed in all of this.

use core::sync::atomic::Ordering;

use axvm::{AxVCpuExitReason as Exit, AxVMHal, Error, Request, Result};

use crate::{
    entry,
    exit::{self, Step},
    flush,
    vcpu::RiscvVCpu,
};

/// Deals with an exit, and returns the vCPU if its guest goes on.
///
/// Called by the world switch on the host's stack, with everything as the host
/// has it but for the callee-saved registers, which are the guest's and in the
/// frame as well; what it changes of them there is what the guest gets.
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the world switch calls it")
)]
pub(crate) extern "C" fn take_exit<H: AxVMHal>(
    vcpu: &mut RiscvVCpu<H>,
) -> Option<&mut RiscvVCpu<H>> {
    vcpu.control.leave_guest();
    match exit::handle(vcpu) {
        Step::Resume => vcpu.may_enter().then_some(vcpu),
        Step::Leave => None,
    }
}

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Runs the guest until an exit leaves.
    pub(crate) fn run_closed(&mut self) -> Result<Exit> {
        self.bound_on.ok_or(Error::NoSuchVCpu(self.id))?;
        if self.may_enter() {
            // SAFETY: 1. the vCPU is borrowed mutably; 2. interrupts are closed
            // and the vCPU is bound; 3. the host runs with sscratch 0.
            unsafe { entry::enter(&raw mut *self) };
        }
        Ok(self.left)
    }

    /// Lets the run end with an exit.
    pub(crate) fn leave(&mut self, exit: Exit) -> Step {
        self.left = exit;
        Step::Leave
    }

    /// Hears what others want, and shows the guest what is pending for it. If it
    /// may go on, the vCPU counts as in its guest from here.
    #[inline]
    fn may_enter(&mut self) -> bool {
        self.enters() || self.enters_at_last()
    }

    /// Tells whether the guest may go on, if nobody wants anything while it looks.
    #[inline(always)]
    fn enters(&mut self) -> bool {
        let Some(cpu) = self.bound_on else {
            return false;
        };
        self.control.take(Request::Event);
        if self.hart.is_suspended.load(Ordering::Relaxed) && self.sleeps_on() {
            return false;
        }
        if self.hart.fences.is_full() {
            self.carry_fences_out();
        }
        self.show_pending();
        self.control.enter_guest(cpu)
    }

    /// Looks until the guest may go on, or the run must end.
    #[inline(never)]
    fn enters_at_last(&mut self) -> bool {
        loop {
            self.control.leave_guest();
            // What it stands for is looked at below.
            self.control.take(Request::Event);
            if self.control.has_request() || self.bound_on.is_none() {
                self.left = Exit::Nothing;
                return false;
            }
            if self.sleeps_on() {
                self.left = Exit::Halt;
                return false;
            }
            if self.enters() {
                return true;
            }
        }
    }

    #[inline(never)]
    fn carry_fences_out(&self) {
        if let Some(waiting) = self.hart.fences.take() {
            if waiting.vmid {
                self.take_vmid();
            }
            flush::waiting(&waiting);
        }
    }

    /// Tells whether the hart is suspended, and nothing wakes it. An IPI wakes it
    /// even where it is masked, as firmware that sleeps in machine mode takes it.
    #[inline(never)]
    fn sleeps_on(&mut self) -> bool {
        if !self.hart.is_suspended.load(Ordering::Relaxed) {
            return false;
        }
        let is_called = self.hart.has_software();
        let wakes = self.has_interrupt() || is_called;
        if wakes {
            self.hart.is_suspended.store(false, Ordering::SeqCst);
        }
        !wakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        regs::{HTINST, HTVAL, SCAUSE, STVAL},
        testing::with_bound_vcpu,
    };
    use tock_registers::interfaces::Writeable;

    const UART_STATUS: u64 = 0x1000_0005;
    /// lbu a0, 0(x0), as hardware leaves it in htinst.
    const LBU_A0: u64 = 0x0000_4503;

    /// Lets the vCPU, which is in its guest, read the UART; tells whether it goes on.
    fn reads_uart<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> bool {
        SCAUSE.set(21);
        HTVAL.set(UART_STATUS >> 2);
        STVAL.set(UART_STATUS);
        HTINST.set(LBU_A0);
        take_exit(vcpu).is_some()
    }

    #[test]
    fn after_an_exit_that_stays_the_vcpu_is_in_its_guest_again() {
        with_bound_vcpu(0, |vcpu| {
            vcpu.control.request(Request::Event);
            assert!(reads_uart(vcpu));
            assert!(vcpu.control.resides_on().is_some());
            assert!(!vcpu.control.has_request());
        });
    }

    #[test]
    fn whatever_the_thread_is_asked_for_ends_the_run_after_the_exit() {
        with_bound_vcpu(0, |vcpu| {
            for request in [Request::Look, Request::Tick] {
                vcpu.control.request(request);
                assert!(!reads_uart(vcpu));
                assert_eq!(vcpu.left, Exit::Nothing);
                assert_eq!(vcpu.control.resides_on(), None);
                assert!(vcpu.control.take(request));
            }
        });
    }

    #[test]
    fn an_interrupt_of_the_host_ends_the_run() {
        with_bound_vcpu(0, |vcpu| {
            SCAUSE.set((1 << 63) | 5);
            assert!(take_exit(vcpu).is_none());
            assert_eq!(vcpu.left, Exit::ExternalInterrupt { vector: 5 });
            assert_eq!(vcpu.control.resides_on(), None);
        });
    }
}
