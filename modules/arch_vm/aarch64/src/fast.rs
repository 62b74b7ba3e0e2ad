// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Exits that are finished before the world is switched.
//!
//! `entry.S` calls this on the host's stack, with interrupts closed and its own
//! vectors in force; the program counter is still in ELR_EL2. [`answer`] comes
//! first, when only x0 to x18 and x30 are in the frame, then [`finish`] with all of
//! the general registers. What an exit does is decided in `handle`; what is left
//! goes the full way. The vCPU counts as in its guest, so that whoever wants it
//! sends an interrupt, which it takes when it is back there.
//!
//! Spec: Arm Architecture Reference Manual, ESR_EL2; Arm Procedure Call Standard.

use axvm::{AxVMHal, ExitKind};
use tock_registers::interfaces::{Readable, Writeable};

use crate::{
    debug, exit,
    interrupts::Cause,
    irqchip::Sgi,
    psci,
    regs::{ELR_EL2, ESR_EL2},
    vcpu::Aarch64VCpu,
};

/// What is left to do of an exit.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left(pub(crate) u64);

impl Left {
    /// Nothing: the guest goes on.
    pub(crate) const NOTHING: Self = Self(0);
    /// A synchronous exception, with which nothing has happened yet.
    pub(crate) const TRAP: Self = Self(1);
    /// An interrupt of the host.
    pub(crate) const INTERRUPT: Self = Self(2);
    /// An FIQ.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "only the world switch uses it")
    )]
    pub(crate) const FIQ: Self = Self(3);
    /// An error that the system reports.
    #[cfg_attr(
        not(target_os = "none"),
        allow(dead_code, reason = "only the world switch uses it")
    )]
    pub(crate) const ERROR: Self = Self(4);
    /// Only what comes before each entry: a request, or an exception to take.
    pub(crate) const ENTRY: Self = Self(5);
}

/// How many general registers are in the frame before `finish`, from x0 on.
const STORED_FIRST: usize = 19;

/// Answers a call that always has the same answer, and an SGI to oneself.
pub(crate) extern "C" fn answer<H: AxVMHal>(vcpu: &mut Aarch64VCpu<H>) -> Left {
    let esr = ESR_EL2.get();
    if exit::is_call(esr)
        && let Some(value) = psci::constant(vcpu.frame.get(0))
    {
        vcpu.frame.set(0, value);
        vcpu.control.stats().count(ExitKind::Firmware);
        return Left::NOTHING;
    }
    match exit::is_sgi(esr) {
        true => send_own_sgi(vcpu, exit::register_of(esr)),
        false => Left::TRAP,
    }
}

/// Sends an SGI that is for this vCPU alone, if it has a list register.
// Not inlined, as all exits would pay for its registers.
#[inline(never)]
fn send_own_sgi<H: AxVMHal>(vcpu: &mut Aarch64VCpu<H>, rt: usize) -> Left {
    if rt >= STORED_FIRST {
        return Left::TRAP;
    }
    let sgi = Sgi::new(vcpu.id, vcpu.frame.get(rt));
    if !sgi.is_only_for(vcpu.id) || !vcpu.interrupts.is_again(sgi.intid) {
        return Left::TRAP;
    }
    ELR_EL2.set(ELR_EL2.get().wrapping_add(4));
    if debug::is_stepping() {
        debug::end_step();
    }
    vcpu.control.stats().count(ExitKind::SysReg);
    Left::NOTHING
}

/// Finishes a synchronous exception that does not leave the architecture.
pub(crate) extern "C" fn finish<H: AxVMHal>(vcpu: &mut Aarch64VCpu<H>) -> Left {
    let pc = ELR_EL2.get();
    vcpu.frame.pc = pc;
    if !vcpu.finish_trap(ESR_EL2.get()) {
        return Left::TRAP;
    }
    if vcpu.frame.pc != pc {
        ELR_EL2.set(vcpu.frame.pc);
        if debug::is_stepping() {
            debug::end_step();
        }
    }
    if vcpu.has_exception() || !vcpu.step_back() {
        return Left::ENTRY;
    }
    vcpu.show_interrupts();
    Left::NOTHING
}

/// Finishes an interrupt if it is the guest's own.
pub(crate) extern "C" fn finish_interrupt<H: AxVMHal>(vcpu: &mut Aarch64VCpu<H>) -> Left {
    match vcpu.interrupts.on_host_interrupt(&vcpu.machine.gic) {
        Cause::Guest => {
            vcpu.control.stats().count(ExitKind::Timer);
            vcpu.show_interrupts();
            Left::NOTHING
        }
        Cause::Host(_) => Left::INTERRUPT,
    }
}

#[cfg(test)]
mod tests {
    use arch_vm_host::testing::StdHost;

    use super::*;
    use crate::{
        regs::{
            CPTR, CPTR_EL2, ESR, FAR_EL2, HPFAR, HPFAR_EL2, ICC_HPPIR1_EL1, ICC_IAR1_EL1, ICH_HCR,
            ICH_HCR_EL2, LR, read_list_register, write_list_register,
        },
        testing::with_bound_vcpu,
    };
    use axvm::{AccessWidth, AxArchVCpu};
    use tock_registers::interfaces::ReadWriteable;

    type VCpu = Aarch64VCpu<StdHost>;

    const PC: u64 = 0x4008_0000;
    const HVC: u64 = 0x16;
    const SMC: u64 = 0x17;
    const SYSREG: u64 = 0x18;
    const DATA_ABORT: u64 = 0x24;
    const TIMER: u64 = 27;
    const PENDING: u64 = LR::PENDING::SET.value;
    const HW: u64 = LR::HW::SET.value;

    /// Lets the guest leave with a syndrome.
    fn leave(vcpu: &mut VCpu, class: u64, iss: u64) -> Left {
        ELR_EL2.set(PC);
        ESR_EL2.write(ESR::EC.val(class) + ESR::IL::SET + ESR::ISS.val(iss));
        match answer(vcpu) {
            Left::NOTHING => Left::NOTHING,
            _ => finish(vcpu),
        }
    }

    fn call(vcpu: &mut VCpu, class: u64, registers: [u64; 3]) -> Left {
        for (reg, value) in registers.into_iter().enumerate() {
            vcpu.frame.set(reg, value);
        }
        leave(vcpu, class, 0)
    }

    /// A load or store of 32 bits.
    fn access(vcpu: &mut VCpu, address: u64, reg: u64, is_write: u64) -> Left {
        FAR_EL2.set(address & 0xfff);
        HPFAR_EL2.write(HPFAR::FIPA.val(address >> 12));
        leave(
            vcpu,
            DATA_ABORT,
            1 << 24 | 2 << 22 | reg << 16 | is_write << 6 | 7,
        )
    }

    /// Lets everything through that the guest's interrupt controller knows.
    fn open_gic(vcpu: &mut VCpu) {
        vcpu.machine.gic.change(|state| {
            let word = AccessWidth::Dword;
            state.write(0, (crate::irqchip::Frame::Distributor, 0), (word, 0x12));
            for offset in [0x1_0080, 0x1_0100] {
                let own = crate::irqchip::Frame::Redistributor(0);
                state.write(0, (own, offset), (word, u64::MAX));
            }
        });
    }

    #[test]
    fn versions_are_told_by_either_call() {
        with_bound_vcpu(0, |vcpu| {
            assert_eq!(call(vcpu, HVC, [0x8400_0000, 0, 0]), Left::NOTHING);
            assert_eq!((vcpu.frame.get(0), ELR_EL2.get()), (0x1_0001, PC));
            // The guest continues at an SMC unless it is moved on.
            assert_eq!(call(vcpu, SMC, [0x8000_0000, 0, 0]), Left::NOTHING);
            assert_eq!((vcpu.frame.get(0), ELR_EL2.get()), (0x1_0001, PC + 4));
        });
    }

    #[test]
    fn a_call_that_ends_elsewhere_is_left_alone() {
        with_bound_vcpu(0, |vcpu| {
            // CPU_ON of vCPU 1; AFFINITY_INFO of it is only an answer.
            let on = [0xc400_0003, 1, 0x4008_0000];
            assert_eq!(call(vcpu, HVC, on), Left::TRAP);
            assert_eq!((vcpu.frame.get(0), ELR_EL2.get()), (on[0], PC));
            assert_eq!(call(vcpu, HVC, [0xc400_0004, 1, 0]), Left::NOTHING);
            assert_eq!(vcpu.frame.get(0), 1);
        });
    }

    #[test]
    fn a_device_is_read_into_any_register() {
        with_bound_vcpu(0, |vcpu| {
            for reg in 0..31 {
                assert_eq!(access(vcpu, 0x0900_0018, reg, 0), Left::NOTHING);
                let value = vcpu.frame.get(reg as usize);
                assert_eq!((value, ELR_EL2.get()), (0x90, PC + 4));
            }
            assert!(vcpu.control.resides_on().is_some());
        });
    }

    #[test]
    fn what_no_device_answers_becomes_an_exception_at_the_access() {
        with_bound_vcpu(0, |vcpu| {
            assert_eq!(access(vcpu, 0x1000_0000, 5, 1), Left::ENTRY);
            assert!(vcpu.has_exception());
            assert_eq!(ELR_EL2.get(), PC);
        });
    }

    #[test]
    fn floating_point_is_loaded_at_its_first_use_and_put_away_with_the_vcpu() {
        with_bound_vcpu(0, |vcpu| {
            let is_open = || CPTR_EL2.matches_all(CPTR::FPEN::Open);
            assert!(!is_open());
            assert_eq!(leave(vcpu, 0x07, 0), Left::NOTHING);
            assert_eq!((is_open(), ELR_EL2.get()), (true, PC));
            vcpu.unbind().unwrap();
            vcpu.bind().unwrap();
            assert!(!is_open());
        });
    }

    #[test]
    fn an_sgi_to_oneself_is_in_a_list_register_at_once() {
        with_bound_vcpu(0, |vcpu| {
            open_gic(vcpu);
            vcpu.show_interrupts();
            // MSR ICC_SGI1R_EL1, first from a register that is stored late.
            for (rt, first_tier) in [(20, Left::TRAP), (3, Left::NOTHING), (20, Left::TRAP)] {
                vcpu.frame.set(rt as usize, 5 << 24 | 1);
                let iss = 3 << 20 | 5 << 17 | 12 << 10 | rt << 5 | 11 << 1;
                ELR_EL2.set(PC);
                ESR_EL2.write(ESR::EC.val(SYSREG) + ESR::IL::SET + ESR::ISS.val(iss));
                assert_eq!(answer(vcpu), first_tier);
                if first_tier == Left::TRAP {
                    assert_eq!(finish(vcpu), Left::NOTHING);
                }
                assert_eq!(ELR_EL2.get(), PC + 4);
                let list = read_list_register(0);
                assert_eq!((list & PENDING, list & 0xffff), (PENDING, 5));
                // The guest takes and ends it.
                write_list_register(0, list & !PENDING);
            }
            assert_eq!(read_list_register(1), 0);
        });
    }

    #[test]
    fn a_timer_is_linked_to_the_hardware_and_pending_again_each_time() {
        with_bound_vcpu(0, |vcpu| {
            open_gic(vcpu);
            vcpu.show_interrupts();
            ICC_HPPIR1_EL1.set(TIMER);
            ICC_IAR1_EL1.set(TIMER);
            for _ in 0..3 {
                assert_eq!(finish_interrupt(vcpu), Left::NOTHING);
                let list = read_list_register(0);
                assert_eq!(list & (PENDING | HW | 0xffff), PENDING | HW | TIMER);
                write_list_register(0, list & !PENDING);
            }
            assert_eq!(read_list_register(1), 0);
        });
    }

    #[test]
    fn a_timer_that_fires_while_software_alone_serves_the_last_is_linked_again() {
        with_bound_vcpu(0, |vcpu| {
            open_gic(vcpu);
            ICC_HPPIR1_EL1.set(TIMER);
            ICC_IAR1_EL1.set(TIMER);
            assert_eq!(finish_interrupt(vcpu), Left::NOTHING);
            // The guest serves it when its thread is switched out and in.
            let list = read_list_register(0);
            write_list_register(0, list & !PENDING | LR::ACTIVE::SET.value);
            vcpu.unbind().unwrap();
            vcpu.bind().unwrap();
            vcpu.show_interrupts();
            assert_eq!(read_list_register(0) & HW, 0);
            assert_eq!(finish_interrupt(vcpu), Left::NOTHING);
            assert_eq!(read_list_register(0) & (HW | 0xffff), HW | TIMER);
        });
    }

    #[test]
    fn list_registers_interrupt_only_while_the_guest_runs() {
        with_bound_vcpu(0, |vcpu| {
            open_gic(vcpu);
            vcpu.machine.gic.change(|state| state.link(0, TIMER as u32));
            ICC_HPPIR1_EL1.set(40);
            vcpu.run().unwrap();
            assert_ne!(read_list_register(0), 0);
            assert!(!ICH_HCR_EL2.is_set(ICH_HCR::EN));
        });
    }

    #[test]
    fn what_the_guest_ends_outside_of_list_registers_stays_ended_when_it_is_switched_out() {
        with_bound_vcpu(0, |vcpu| {
            open_gic(vcpu);
            let own = crate::irqchip::Frame::Redistributor(0);
            let active = (AccessWidth::Dword, 0x3f);
            vcpu.machine
                .gic
                .change(|state| state.write(0, (own, 0x1_0300), active));
            vcpu.interrupts.sync(&vcpu.machine.gic);
            let listed = (0..4).map(|list| 1 << (read_list_register(list) & 0xffff));
            let listed: u64 = listed.sum();
            ICH_HCR_EL2.modify(ICH_HCR::EOI_COUNT.val(2));
            vcpu.unbind().unwrap();
            let read = |state: &mut crate::irqchip::State| {
                state.read(0, (own, 0x1_0300), AccessWidth::Dword)
            };
            assert_eq!(vcpu.machine.gic.look(read), listed);
            vcpu.bind().unwrap();
        });
    }

    #[test]
    fn an_interrupt_of_the_host_is_left_to_it() {
        with_bound_vcpu(0, |vcpu| {
            ICC_HPPIR1_EL1.set(40);
            assert_eq!(finish_interrupt(vcpu), Left::INTERRUPT);
        });
    }
}
