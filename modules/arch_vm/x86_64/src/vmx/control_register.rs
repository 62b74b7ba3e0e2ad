// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes of control registers that touched what VMX keeps.
//!
//! VMX keeps CR0.NE and CR4.VMXE set, and the cache on; the guest sees its own from
//! the shadows, and leaves when it writes another value, or a bit of CR4 that it has
//! no right to. Other bits never exit. A write of CR0 that would change NE, NW or CD
//! changes the shadow's and is executed again: now it touches nothing that is kept,
//! and the CPU makes all its checks and loads what follows, such as the entries of
//! PAE's page directory pointers. Until the guest is seen elsewhere its #GP leaves:
//! one of that write takes the new bits back.
//!
//! Spec: Intel SDM 3, "Guest/Host Masks and Read Shadows for CR0 and CR4".

use axvm::AxVMHal;

use super::{
    Vmx,
    controls::CR_ACCESS,
    exit,
    fields::{CR0_SHADOW, EXCEPTION_BITMAP},
    state::CR0_OWNED,
    vmcs,
};
use crate::{
    exit::{Exception, Exit},
    frame::Frame,
    regs::{CR0, bits},
};

const PROTECTION: u8 = Exception::PROTECTION.vector;
const FAULTS: u32 = 1 << PROTECTION;

/// A write of CR0 that is executed again.
#[derive(Clone, Copy)]
pub(super) struct Trial {
    rip: u64,
    shadow: u64,
}

impl<H: AxVMHal> Vmx<H> {
    /// Does what a write of a control register that touched what VMX keeps asks for;
    /// other exits are as they were, but for a #GP that tells of the last such write.
    #[inline]
    pub(super) fn finish(&mut self, exit: Exit, frame: &Frame) -> Exit {
        let exit = match self.trial {
            Some(trial) => self.judge(trial, exit),
            None => exit,
        };
        match exit {
            Exit::Unknown(code, qualification) if code == exit::CONTROL_REGISTER.into() => {
                self.write_control(qualification, frame)
            }
            other => other,
        }
    }

    #[cold]
    fn write_control(&mut self, qualification: u64, frame: &Frame) -> Exit {
        let access = bits::<CR_ACCESS::Register>(qualification);
        let is_write = access.matches_all(CR_ACCESS::KIND::ToRegister);
        let value = frame.get(access.read(CR_ACCESS::GPR) as usize);
        match access.read(CR_ACCESS::NUMBER) {
            0 if is_write && !has_no_cache_mode(value) => {
                let (rip, shadow) = (self.rip, vmcs::read(CR0_SHADOW));
                self.trial = Some(Trial { rip, shadow });
                vmcs::write(CR0_SHADOW, shadow & !CR0_OWNED | value & CR0_OWNED);
                vmcs::modify(EXCEPTION_BITMAP, |bitmap| bitmap | FAULTS);
                Exit::Answered
            }
            // Else only what this CPU does not have for its guests leaves.
            _ => Exit::Protection,
        }
    }

    /// Looks whether a write that is executed again was refused.
    #[cold]
    fn judge(&mut self, trial: Trial, exit: Exit) -> Exit {
        let is_there = self.rip == trial.rip;
        let is_fault = matches!(
            exit,
            Exit::Exception(Exception {
                vector: PROTECTION,
                ..
            })
        );
        if is_there && !is_fault {
            // It may not have been executed yet.
            return exit;
        }
        self.trial = None;
        vmcs::modify(EXCEPTION_BITMAP, |bitmap| bitmap & !FAULTS);
        if is_there {
            vmcs::write(CR0_SHADOW, trial.shadow);
        }
        match is_fault && self.was_delivering() {
            // The event comes again, and the CPU says what becomes of both.
            true => Exit::Answered,
            false => exit,
        }
    }
}

/// Tells whether NW is set without CD, which no CPU takes; of bits that are kept it
/// does not look at what is written.
fn has_no_cache_mode(cr0: u64) -> bool {
    let cr0 = bits::<CR0::Register>(cr0);
    cr0.is_set(CR0::NW) && !cr0.is_set(CR0::CD)
}
