// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What to do when a guest has trapped.
//!
//! Called by `run` after each exit that `fast` did not finish, interrupts closed
//! and the trap's CSRs untouched. Firmware calls, waits with something pending and
//! device accesses (`mmio`) end here; the rest leaves to axvm.
//!
//! Spec: RISC-V Privileged, "H" extension, "Trap Cause Codes", htval, htinst.

use core::sync::atomic::Ordering;

use axdevice::GuestMemory;
use axvm::{AxVCpuExitReason as Exit, AxVMHal, CpuPower, ExitKind, GuestPhysAddr, MappingFlags};
use sbi_spec::pmu::firmware_event::{
    FENCE_I_SENT, IPI_SENT, SET_TIMER, SFENCE_VMA_ASID_SENT, SFENCE_VMA_SENT,
};
use tock_registers::interfaces::Readable;

use crate::{
    entry,
    fence::{Asid, Fence},
    flush,
    frame::A0,
    insn, mmio,
    regs::{CAUSE, HTINST, HTVAL, HVIP, SCAUSE, SSTATUS, STVAL, VS_INTERRUPTS},
    sbi::{self, Counters, Hart, HartSet, Now, Outcome, State},
    trap::{Cause, Fault},
    vcpu::{RiscvVCpu, Trapped},
};

/// Causes of traps that come out of a guest.
const ILLEGAL_INSTRUCTION: u64 = 2;
const LOAD_ACCESS_FAULT: u64 = 5;
const STORE_ACCESS_FAULT: u64 = 7;
pub(crate) const SUPERVISOR_ECALL: u64 = 10;
const FETCH_GUEST_PAGE_FAULT: u64 = 20;
const LOAD_GUEST_PAGE_FAULT: u64 = 21;
const VIRTUAL_INSTRUCTION: u64 = 22;
const STORE_GUEST_PAGE_FAULT: u64 = 23;

/// What a load for the guest ends with where its page tables do not allow it.
const LOAD_PAGE_FAULT: u64 = Cause::LoadPageFault as u64;

const ECALL_BYTES: u64 = 4;
const WFI: u64 = 0x1050_0073;
const WRS_NTO: u64 = 0x00d0_0073;

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The guest goes on.
    Resume,
    /// axvm takes it: it is in [`RiscvVCpu::left`].
    Leave,
}

/// Handles a trap.
///
/// What it calls is not inlined but for the accesses to devices, which are the most
/// and would pay for the registers of the rest.
#[inline]
pub(crate) fn handle<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let cause = SCAUSE.extract();
    if cause.is_set(CAUSE::INTERRUPT) {
        let vector = cause.read(CAUSE::CODE);
        return vcpu.leave(Exit::ExternalInterrupt { vector });
    }
    match cause.get() {
        SUPERVISOR_ECALL => firmware_call(vcpu),
        FETCH_GUEST_PAGE_FAULT => fetch_fault(vcpu),
        LOAD_GUEST_PAGE_FAULT => mmio::fault(vcpu, Cause::LoadAccessFault),
        STORE_GUEST_PAGE_FAULT => mmio::fault(vcpu, Cause::StoreAccessFault),
        VIRTUAL_INSTRUCTION => virtual_instruction(vcpu),
        ILLEGAL_INSTRUCTION if vcpu.bring_unit() => Step::Resume,
        ILLEGAL_INSTRUCTION => virtual_instruction(vcpu),
        LOAD_ACCESS_FAULT => refused_by_hardware(vcpu, Cause::LoadAccessFault),
        STORE_ACCESS_FAULT => refused_by_hardware(vcpu, Cause::StoreAccessFault),
        code => unhandled(vcpu, code),
    }
}

/// Passes on what a device that the guest has for itself does not take.
#[cold]
fn refused_by_hardware<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, cause: Cause) -> Step {
    let value = STVAL.get();
    vcpu.inject(Fault { cause, value });
    Step::Resume
}

#[cold]
fn unhandled<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, code: u64) -> Step {
    let detail = STVAL.get();
    vcpu.leave(Exit::Unhandled { code, detail })
}

/// Answers a call of the guest's supervisor.
#[inline(never)]
fn firmware_call<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let call = vcpu.frame.call();
    vcpu.count(ExitKind::Firmware);
    match sbi::answer(vcpu, &call) {
        Outcome::Return(ret) => vcpu.frame.set_return(ret),
        Outcome::ReturnLegacy(value) => vcpu.frame.set_gpr(A0, value),
        Outcome::Fault(fault) => {
            vcpu.inject(fault);
            return Step::Resume;
        }
        Outcome::Suspend(suspend) => {
            vcpu.frame.skip(ECALL_BYTES);
            vcpu.suspend(suspend);
            return Step::Resume;
        }
        Outcome::Leave(exit, answer) => {
            vcpu.frame.skip(ECALL_BYTES);
            vcpu.answer = answer;
            return vcpu.leave(exit);
        }
    }
    vcpu.frame.skip(ECALL_BYTES);
    Step::Resume
}

/// Returns the guest physical address of a guest page fault.
#[inline]
pub(crate) fn faulting_address() -> u64 {
    (HTVAL.get() << 2) | (STVAL.get() & 3)
}

#[inline]
pub(crate) fn physical(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address as usize)
}

#[inline(never)]
fn fetch_fault<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let value = STVAL.get();
    if insn::is_table_walk(HTINST.get()) {
        let cause = Cause::FetchAccessFault;
        vcpu.inject(Fault { cause, value });
        return Step::Resume;
    }
    vcpu.trapped = Some(Trapped {
        pc: vcpu.frame.pc,
        address: value,
    });
    vcpu.leave(Exit::NestedPageFault {
        addr: physical(faulting_address()),
        access_flags: MappingFlags::EXECUTE,
    })
}

/// Fetches the instruction at `pc`; a compressed one is in the low half.
pub(crate) fn fetch(pc: u64) -> Option<u32> {
    match pc.is_multiple_of(4) {
        true => entry::fetch_aligned(pc),
        false => entry::fetch(pc),
    }
}

/// Lets the guest take the fault that [`fetch`] met.
///
/// Its tables have changed under it, and its hart may remember the old ones: to let
/// it try again might never end.
#[cold]
pub(crate) fn fetch_failed<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let cause = match SCAUSE.read(CAUSE::CODE) {
        LOAD_PAGE_FAULT => Cause::FetchPageFault,
        _ => Cause::FetchAccessFault,
    };
    let value = STVAL.get();
    vcpu.inject(Fault { cause, value });
    Step::Resume
}

/// Handles an instruction that is the hypervisor's to decide: waits, counters,
/// interrupt CSRs. Any other does not exist for the guest.
#[inline(never)]
fn virtual_instruction<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let told = STVAL.get();
    let word = match told {
        0 => match fetch(vcpu.frame.pc) {
            Some(word) => u64::from(word),
            None => return fetch_failed(vcpu),
        },
        _ => told,
    };
    let is_supervisor = vcpu.frame.sstatus.matches_all(SSTATUS::SPP::Supervisor);
    match word {
        WFI if is_supervisor => wait(vcpu),
        WRS_NTO => {
            vcpu.frame.skip(4);
            Step::Resume
        }
        _ if vcpu.read_counter(word) || vcpu.use_interrupt_csr(word) => {
            vcpu.frame.skip(4);
            Step::Resume
        }
        _ => {
            let cause = Cause::IllegalInstruction;
            vcpu.inject(Fault { cause, value: word });
            Step::Resume
        }
    }
}

fn wait<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    vcpu.frame.skip(4);
    match vcpu.has_interrupt() {
        true => {
            vcpu.count(ExitKind::Halt);
            Step::Resume
        }
        false => vcpu.leave(Exit::Halt),
    }
}

impl<H: AxVMHal> Hart for RiscvVCpu<H> {
    fn count(&self) -> usize {
        self.harts.count()
    }

    fn id(&self) -> usize {
        self.id
    }

    fn ram(&self) -> &dyn GuestMemory {
        self.harts.ram()
    }

    fn state(&mut self) -> &mut State {
        &mut self.firmware
    }

    fn with_counters(&mut self, act: &mut dyn FnMut(&mut Counters, Now)) {
        self.change_counters(act);
    }

    fn apply_features(&mut self) {
        self.use_features();
    }

    fn set_timer(&mut self, deadline_ticks: u64) {
        self.count_event(SET_TIMER, 1);
        RiscvVCpu::set_timer(self, deadline_ticks);
    }

    fn send_ipi(&mut self, targets: HartSet) {
        self.count_sent(targets, IPI_SENT);
        if targets.contains(self.id) {
            HVIP.set_bits(VS_INTERRUPTS::SOFTWARE::SET.value);
        }
        let others = targets.without(self.id);
        if !others.is_empty() {
            self.harts.send_ipi(others);
        }
    }

    fn clear_ipi(&mut self) {
        self.hart.take_software();
        HVIP.clear_bits(VS_INTERRUPTS::SOFTWARE::SET.value);
    }

    fn fence(&mut self, targets: HartSet, fence: Fence) {
        self.count_sent(targets, sent(fence));
        let others = targets.without(self.id);
        if !others.is_empty() {
            self.harts.fence_others(others, fence);
        }
        if targets.contains(self.id) {
            flush::fence(fence);
        }
    }

    fn power(&self, hart: usize) -> CpuPower {
        self.harts.power(hart)
    }

    fn is_suspended(&self, hart: usize) -> bool {
        let hart = self.harts.get(hart);
        hart.is_some_and(|hart| hart.is_suspended.load(Ordering::SeqCst))
    }

    fn is_ram(&self, start: GuestPhysAddr, size_bytes: usize) -> bool {
        self.harts.is_ram(start, size_bytes)
    }

    fn read_virtual(&mut self, address: u64) -> Result<u64, Fault> {
        entry::load(address).ok_or_else(|| Fault {
            cause: load_fault(SCAUSE.read(CAUSE::CODE)),
            value: STVAL.get(),
        })
    }
}

/// Returns the firmware event that sending a fence is.
fn sent(fence: Fence) -> usize {
    match fence {
        Fence::Instructions => FENCE_I_SENT,
        Fence::Tables {
            asid: Asid::Every, ..
        } => SFENCE_VMA_SENT,
        Fence::Tables { .. } => SFENCE_VMA_ASID_SENT,
    }
}

/// Returns what a guest's load that trapped with this cause is to the guest.
fn load_fault(code: u64) -> Cause {
    match code {
        LOAD_PAGE_FAULT => Cause::LoadPageFault,
        _ => Cause::LoadAccessFault,
    }
}

#[cfg(test)]
mod tests {
    use arch_vm_host::testing::StdHost;

    use super::*;
    use crate::{
        frame::{A1, A6, A7},
        vm::PLIC,
    };
    use crate::{
        regs::{VSCAUSE, VSEPC, VSIE, VSIP, VSSTATUS, VSTVAL, VSTVEC},
        testing::with_bound_vcpu,
    };
    use axvm::{AxArchVCpu, GuestAccess};
    use tock_registers::interfaces::Writeable;

    type VCpu = RiscvVCpu<StdHost>;

    const PC: u64 = 0x8020_0000;
    const HANDLER: u64 = 0x8030_0000;
    const UART_STATUS: u64 = 0x1000_0005;
    const UART_SCRATCH: u64 = 0x1000_0007;
    /// Between the devices.
    const NOTHING: u64 = 0x2000_0000;
    /// lbu a0, 0(x0), as hardware leaves it in htinst.
    const LBU_A0: u64 = 0x0000_4503;
    /// sw a1, 0(x0).
    const SW_A1: u64 = 0x00b0_2023;

    /// Lets a vCPU trap, and returns what leaves.
    fn trap(vcpu: &mut VCpu, cause: u64) -> Option<Exit> {
        vcpu.frame.pc = PC;
        VSTVEC.set(HANDLER);
        SCAUSE.set(cause);
        (handle(vcpu) == Step::Leave).then_some(vcpu.left)
    }

    fn access(vcpu: &mut VCpu, cause: u64, address: u64, instruction: u64) -> Option<Exit> {
        HTVAL.set(address >> 2);
        STVAL.set(address);
        HTINST.set(instruction);
        trap(vcpu, cause)
    }

    /// The cause and the value of the fault that the guest took at [`PC`].
    fn taken(vcpu: &VCpu) -> (u64, u64) {
        assert_eq!((vcpu.frame.pc, VSEPC.get()), (HANDLER, PC));
        (VSCAUSE.get(), VSTVAL.get())
    }

    #[test]
    fn a_firmware_call_is_answered_and_skipped() {
        with_bound_vcpu(0, |vcpu| {
            vcpu.frame.set_gpr(A7, 0x10);
            vcpu.frame.set_gpr(A6, 0);
            assert_eq!(trap(vcpu, SUPERVISOR_ECALL), None);
            assert_eq!((vcpu.frame.gpr(A0), vcpu.frame.gpr(A1)), (0, 0x0300_0000));
            assert_eq!(vcpu.frame.pc, PC + 4);
        });
    }

    #[test]
    fn a_start_of_another_hart_leaves_and_gets_its_answer() {
        with_bound_vcpu(0, |vcpu| {
            vcpu.frame.set_gpr(A7, 0x48534d);
            vcpu.frame.set_gpr(A0, 1);
            let left = trap(vcpu, SUPERVISOR_ECALL);
            assert!(matches!(left, Some(Exit::CpuUp { target_cpu: 1, .. })));
            vcpu.set_return_value(u64::MAX - 5);
            assert_eq!((vcpu.frame.gpr(A0), vcpu.frame.gpr(A1)), (u64::MAX - 5, 0));
        });
    }

    #[test]
    fn a_device_answers_at_once_and_what_nobody_answers_is_the_guests_fault() {
        with_bound_vcpu(0, |vcpu| {
            VSSTATUS.set(1 << 1);
            vcpu.frame.set_gpr(A0, u64::MAX);
            let read = access(vcpu, LOAD_GUEST_PAGE_FAULT, UART_STATUS, LBU_A0);
            assert_eq!((read, vcpu.frame.gpr(A0)), (None, 0x60));
            assert_eq!(vcpu.frame.pc, PC + 4);
            assert_eq!(vcpu.control.stats().exits(ExitKind::Mmio), 1);
            for (cause, instruction, taken_as) in [
                (LOAD_GUEST_PAGE_FAULT, LBU_A0, 5),
                (STORE_GUEST_PAGE_FAULT, SW_A1, 7),
            ] {
                VSSTATUS.set(1 << 1);
                assert_eq!(access(vcpu, cause, NOTHING, instruction), None);
                assert_eq!(taken(vcpu), (taken_as, NOTHING));
                // From supervisor mode with interrupts open.
                assert_eq!(VSSTATUS.get(), (1 << 8) | (1 << 5));
            }
        });
    }

    #[test]
    fn a_store_gives_the_device_its_register() {
        with_bound_vcpu(0, |vcpu| {
            // sb a1, 0(x0) to the scratch register, and back by lb.
            vcpu.frame.set_gpr(A1, 0x1_9c);
            assert_eq!(
                access(vcpu, STORE_GUEST_PAGE_FAULT, UART_SCRATCH, 0x00b0_0023),
                None
            );
            assert_eq!(
                access(vcpu, LOAD_GUEST_PAGE_FAULT, UART_SCRATCH, 0x0000_0503),
                None
            );
            assert_eq!(vcpu.frame.gpr(A0), (-0x64_i64).cast_unsigned());
        });
    }

    #[test]
    fn a_misaligned_access_to_a_device_is_a_fault_at_its_own_address() {
        with_bound_vcpu(0, |vcpu| {
            let address = UART_STATUS;
            // lw a0, 0(x0).
            let read = access(vcpu, LOAD_GUEST_PAGE_FAULT, address, 0x0000_2503);
            assert_eq!((read, taken(vcpu)), (None, (5, address)));
            let written = access(vcpu, STORE_GUEST_PAGE_FAULT, address, SW_A1);
            assert_eq!((written, taken(vcpu)), (None, (7, address)));
        });
    }

    #[test]
    fn the_interrupt_controller_is_answered_here() {
        with_bound_vcpu(0, |vcpu| {
            let priority = PLIC.start + 4 * 10;
            vcpu.frame.set_gpr(A1, 7);
            let written = access(vcpu, STORE_GUEST_PAGE_FAULT, priority, SW_A1);
            assert_eq!((written, vcpu.frame.pc), (None, PC + 4));
            // lw a0, 0(x0), from a compressed instruction.
            let read = access(vcpu, LOAD_GUEST_PAGE_FAULT, priority, 0x2501);
            assert_eq!((read, vcpu.frame.gpr(A0)), (None, 7));
            assert_eq!(vcpu.frame.pc, PC + 2);
            access(vcpu, LOAD_GUEST_PAGE_FAULT, priority, LBU_A0);
            assert_eq!(taken(vcpu), (5, priority));
        });
    }

    #[test]
    fn what_cannot_be_emulated_is_an_access_fault() {
        with_bound_vcpu(0, |vcpu| {
            // amoadd.w, and a walk of the guest's own tables.
            for instruction in [0x00b5_252f, 0x3000] {
                let step = access(vcpu, STORE_GUEST_PAGE_FAULT, UART_STATUS, instruction);
                assert_eq!(step, None);
                assert_eq!(taken(vcpu), (7, UART_STATUS));
            }
            let left = access(vcpu, FETCH_GUEST_PAGE_FAULT, UART_STATUS, 0);
            assert!(matches!(left, Some(Exit::NestedPageFault { .. })));
            vcpu.refuse_access(GuestAccess::Fetch(physical(UART_STATUS)));
            assert_eq!(taken(vcpu), (1, UART_STATUS));
        });
    }

    #[test]
    fn an_instruction_that_cannot_be_fetched_is_the_guests_own_fault() {
        with_bound_vcpu(0, |vcpu| {
            let step = access(vcpu, LOAD_GUEST_PAGE_FAULT, UART_STATUS, 0);
            // What the fetch left, which has trapped as the access had.
            assert_eq!((step, taken(vcpu)), (None, (1, UART_STATUS)));
            SCAUSE.set(LOAD_PAGE_FAULT);
            assert_eq!(fetch_failed(vcpu), Step::Resume);
            assert_eq!(VSCAUSE.get(), 12);
        });
    }

    #[test]
    fn a_wait_ends_at_once_if_an_enabled_interrupt_is_pending() {
        with_bound_vcpu(0, |vcpu| {
            STVAL.set(WFI);
            VSIP.set(1 << 5);
            VSIE.set(1 << 1);
            assert_eq!(trap(vcpu, VIRTUAL_INSTRUCTION), Some(Exit::Halt));
            VSIE.set(1 << 5);
            assert_eq!(trap(vcpu, VIRTUAL_INSTRUCTION), None);
            assert_eq!(vcpu.frame.pc, PC + 4);
        });
    }

    #[test]
    fn other_virtual_instructions_and_waits_of_users_are_illegal() {
        with_bound_vcpu(0, |vcpu| {
            STVAL.set(0x6000_2573);
            assert_eq!(trap(vcpu, VIRTUAL_INSTRUCTION), None);
            assert_eq!(taken(vcpu), (2, 0x6000_2573));
            STVAL.set(WFI);
            vcpu.frame.sstatus.modify(SSTATUS::SPP::User);
            assert_eq!(trap(vcpu, VIRTUAL_INSTRUCTION), None);
            assert_eq!(taken(vcpu), (2, WFI));
        });
    }

    #[test]
    fn host_interrupts_and_unknown_causes_leave() {
        with_bound_vcpu(0, |vcpu| {
            let interrupt = Exit::ExternalInterrupt { vector: 5 };
            assert_eq!(trap(vcpu, (1 << 63) | 5), Some(interrupt));
            STVAL.set(9);
            let unknown = Exit::Unhandled {
                code: 24,
                detail: 9,
            };
            assert_eq!(trap(vcpu, 24), Some(unknown));
        });
    }

    #[test]
    fn a_hart_that_slept_anew_starts_where_it_said() {
        with_bound_vcpu(1, |vcpu| {
            for (register, value) in [(A7, 0x48534d), (A6, 3), (A0, 0x8000_0000)] {
                vcpu.frame.set_gpr(register, value);
            }
            vcpu.frame.set_gpr(A1, 0x8010_0000);
            vcpu.frame.set_gpr(A1 + 1, 77);
            assert_eq!(trap(vcpu, SUPERVISOR_ECALL), None);
            assert_eq!(vcpu.frame.pc, 0x8010_0000);
            assert_eq!((vcpu.frame.gpr(A0), vcpu.frame.gpr(A1)), (1, 77));
            assert!(sbi::Hart::is_suspended(vcpu, 1));
            assert_eq!(vcpu.run(), Ok(Exit::Halt));
        });
    }
}
