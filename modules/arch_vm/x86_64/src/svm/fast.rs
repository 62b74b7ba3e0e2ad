// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Exits that are finished before the world is switched.
//!
//! `entry` calls this with only the caller-saved registers put away, on the host's
//! stack, but with the guest's FS and GS: nothing here may use what ArceOS keeps
//! for each CPU, so no lock, no allocation, no log. No interrupt is taken, not even
//! an NMI, and the vCPU still counts as in its guest: whoever wants it sends an
//! interrupt, which ends the guest's time at once when it is back there.
//!
//! Spec: AMD64 APM 2, "Event Injection", "Global Interrupt Flag".

use axvm::AxVMHal;

use super::{Svm, exit};
use crate::{
    fast::{Alone, Simple},
    frame::RAX,
    vcpu::VCpu,
};

/// The vCPU if its guest goes on at once.
type Answer<'a, H> = Option<&'a mut VCpu<H, Svm<H>>>;

/// Finishes an exit that needs nothing but the vCPU. If the guest does not go on
/// at once nothing has happened yet, or the exit says that it is answered.
pub(super) extern "C" fn answer<H: AxVMHal>(vcpu: &mut VCpu<H, Svm<H>>) -> Answer<'_, H> {
    vcpu.backend.note_exit();
    if vcpu.backend.interrupted_event().is_some() || vcpu.is_debugged() {
        return None;
    }
    match vcpu.backend.exit_code() {
        exit::MSR => register(vcpu),
        exit::CPUID => cpuid(vcpu),
        exit::VMMCALL => call(vcpu),
        _ => None,
    }
}

// Apart from each other, as each would pay for the registers of all.

#[inline(never)]
fn register<H: AxVMHal>(vcpu: &mut VCpu<H, Svm<H>>) -> Answer<'_, H> {
    match vcpu.backend.is_msr_write() {
        true => finish(vcpu, Simple::WriteMsr),
        false => None,
    }
}

#[inline(never)]
fn cpuid<H: AxVMHal>(vcpu: &mut VCpu<H, Svm<H>>) -> Answer<'_, H> {
    finish(vcpu, Simple::Cpuid)
}

#[inline(never)]
fn call<H: AxVMHal>(vcpu: &mut VCpu<H, Svm<H>>) -> Answer<'_, H> {
    finish(vcpu, Simple::Hypercall)
}

#[inline(always)]
fn finish<H: AxVMHal>(vcpu: &mut VCpu<H, Svm<H>>, exit: Simple) -> Answer<'_, H> {
    vcpu.frame.set(RAX, vcpu.backend.rax());
    let alone = vcpu.answer_alone(exit);
    if alone == Alone::Untouched {
        return None;
    }
    vcpu.backend.set_rax(vcpu.frame.get(RAX));
    if alone == Alone::Look {
        vcpu.backend.set_answered();
        return None;
    }
    Some(vcpu)
}
