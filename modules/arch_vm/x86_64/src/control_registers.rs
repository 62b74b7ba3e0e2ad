// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes of control registers that a guest left for.
//!
//! CR8 leaves while an interrupt waits for it to fall, CR4 on a CPU with bits that
//! the guest has no right to (`rights`); called by `handle`. The CPU has found the
//! instruction to be privileged enough before it left.
//!
//! Spec: AMD64 APM 3, "MOV CRn"; APM 2, "Control-Register Intercepts".

use axvm::{AxVMHal, ExitKind};

use crate::{
    backend::Backend,
    exit::Exception,
    handle::Step,
    insn::{self, CodeSize, Refusal},
    regs::{CR4, EFER, bits},
    vcpu::VCpu,
};

/// The highest that CR8 can be.
const TASK_PRIORITY_MAX: u8 = 15;

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Carries out MOV to CR8.
    #[cold]
    pub(crate) fn write_task_priority(&mut self) -> Step {
        self.write_control(|vcpu, value| match u8::try_from(value) {
            Ok(priority @ 0..=TASK_PRIORITY_MAX) => {
                vcpu.backend.set_task_priority(priority);
                vcpu.take_task_priority();
                true
            }
            _ => false,
        })
    }

    /// Carries out MOV to CR4.
    #[cold]
    pub(crate) fn write_cr4(&mut self) -> Step {
        self.write_control(|vcpu, value| {
            let is_long = bits::<EFER::Register>(vcpu.backend.efer()).is_set(EFER::LMA);
            let keeps_mode = !is_long || bits::<CR4::Register>(value).is_set(CR4::PAE);
            let is_allowed = keeps_mode && value & !vcpu.machine.cpuid.rights().cr4 == 0;
            if is_allowed && value != vcpu.backend.cr4() {
                vcpu.backend.set_cr4(value);
            }
            is_allowed
        })
    }

    /// Carries out a MOV with the register's value, which may be refused.
    fn write_control(&mut self, take: impl FnOnce(&mut Self, u64) -> bool) -> Step {
        let bytes = match self.instruction_bytes() {
            Ok(bytes) => bytes,
            Err(refusal) => return self.refuse(refusal),
        };
        let size = self.backend.code_size();
        let Some((from, length)) = insn::move_to_control(&bytes, size) else {
            return self.refuse(Refusal::Changed);
        };
        let value = match size {
            CodeSize::Bits64 => self.frame.get(from),
            _ => self.frame.get_32(from).into(),
        };
        if !take(self, value) {
            return self.fault(Exception::PROTECTION);
        }
        let next = self.backend.rip().wrapping_add(length.into());
        self.done_at(next, ExitKind::SysReg)
    }
}
