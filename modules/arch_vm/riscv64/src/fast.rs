// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Calls that are finished before the world is switched.
//!
//! `entry.S` calls this with only the caller-saved registers put away, on the
//! host's stack, but with the guest's gp and tp: nothing here may use what ArceOS
//! keeps for each CPU, so no lock, no allocation, no log. Interrupts are closed
//! and the vCPU still counts as in its guest: whoever wants it sends an interrupt,
//! which it takes when it is back there. It must not wait for other harts, as they
//! may wait for it.
//!
//! What a call does is decided in `sbi`, here as in `exit`.

use axvm::{AxVMHal, ExitKind};

use crate::{
    bank::TimerRegister,
    sbi::{self, Alone, Ret},
    vcpu::RiscvVCpu,
};

/// Answers the guest's call if that needs nothing but this hart, and returns the
/// vCPU if it did; otherwise nothing has happened yet.
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the world switch calls it")
)]
pub(crate) extern "C" fn finish_call<H: AxVMHal>(
    vcpu: &mut RiscvVCpu<H>,
) -> Option<&mut RiscvVCpu<H>> {
    let call = vcpu.frame.call();
    match sbi::answer_alone(vcpu, &call) {
        Some(ret) => Some(finished(vcpu, ret)),
        None => finish_call_to_itself(vcpu),
    }
}

/// The same for calls to other harts where this one is all of them. Apart from the
/// others, which would pay for its registers.
#[inline(never)]
extern "C" fn finish_call_to_itself<H: AxVMHal>(
    vcpu: &mut RiscvVCpu<H>,
) -> Option<&mut RiscvVCpu<H>> {
    let call = vcpu.frame.call();
    sbi::answer_to_itself(vcpu, &call).map(|ret| finished(vcpu, ret))
}

#[inline]
fn finished<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, ret: Ret) -> &mut RiscvVCpu<H> {
    vcpu.frame.set_return(ret);
    vcpu.count(ExitKind::Firmware);
    vcpu
}

impl<H: AxVMHal> Alone for RiscvVCpu<H> {
    fn has_timer_register(&self) -> bool {
        self.host.timer == TimerRegister::Present
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        frame::{A0, A1, A6, A7},
        regs::{HVIP, VS_INTERRUPTS, VSTIMECMP},
        testing::with_bound_vcpu,
    };
    use tock_registers::interfaces::Readable;

    const TIME: u64 = 0x5449_4d45;
    const IPI: u64 = 0x73_5049;
    const RFENCE: u64 = 0x5246_4e43;
    const STATE: u64 = 0x48_534d;

    /// Makes a call of function 0; returns a0 and a1 if it was finished.
    fn call(extension: u64, args: [u64; 2]) -> Option<(u64, u64)> {
        let mut answer = None;
        with_bound_vcpu(0, |vcpu| {
            vcpu.frame.set_gpr(A7, extension);
            vcpu.frame.set_gpr(A6, 0);
            vcpu.frame.set_gpr(A0, args[0]);
            vcpu.frame.set_gpr(A1, args[1]);
            answer = finish_call(vcpu).map(|vcpu| (vcpu.frame.gpr(A0), vcpu.frame.gpr(A1)));
        });
        answer
    }

    #[test]
    fn a_timer_is_set_and_a_version_told() {
        assert_eq!(call(0x10, [0, 0]), Some((0, 0x0300_0000)));
        assert_eq!(call(TIME, [77, 9]), Some((0, 0)));
        assert_eq!(VSTIMECMP.get(), 77);
    }

    #[test]
    fn an_interrupt_to_oneself_is_pending_at_once() {
        assert_eq!(call(IPI, [1, 0]), Some((0, 0)));
        assert_eq!(HVIP.read(VS_INTERRUPTS::SOFTWARE), 1);
    }

    #[test]
    fn calls_that_concern_others_are_left_alone() {
        for extension in [IPI, RFENCE] {
            assert_eq!(call(extension, [0b11, 0]), None);
            assert_eq!(call(extension, [0, u64::MAX]), None);
            assert_eq!(call(extension, [1, 64]), None);
        }
        assert_eq!(HVIP.get(), 0);
        assert_eq!(call(STATE, [1, 0]), None);
        assert_eq!(call(RFENCE, [1, 0]), Some((0, 0)));
    }
}
