// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What to do when a guest has trapped.
//!
//! Called by the vCPU after each exit, interrupts closed and the trap's CSRs
//! untouched. Firmware calls, waits with something pending and accesses to the
//! interrupt controller end here; the rest leaves to axvm.
//!
//! Spec: RISC-V Privileged, "H" extension, "Trap Cause Codes", htval, htinst.

use core::sync::atomic::Ordering;

use axvm::{
    AccessWidth, AxVCpuExitReason as Exit, AxVMHal, CpuPower, ExitKind, GuestPhysAddr, MappingFlags,
};
use tock_registers::interfaces::Readable;

use crate::{
    entry,
    fence::Fence,
    frame::{A0, A1, A6, A7},
    harts,
    insn::{self, Access, Extension, Kind, Transformed},
    regs::{CAUSE, HTINST, HTVAL, HVIP, SCAUSE, SSTATUS, STVAL, VS_INTERRUPTS},
    sbi::{self, Call, Hart, HartSet, Outcome},
    trap::{Cause, Fault},
    vcpu::{RiscvVCpu, Trapped},
    vm::PLIC,
};

/// Causes of traps that come out of a guest.
const SUPERVISOR_ECALL: u64 = 10;
const FETCH_GUEST_PAGE_FAULT: u64 = 20;
const LOAD_GUEST_PAGE_FAULT: u64 = 21;
const VIRTUAL_INSTRUCTION: u64 = 22;
const STORE_GUEST_PAGE_FAULT: u64 = 23;

const ECALL_BYTES: u64 = 4;
const WFI: u64 = 0x1050_0073;
const WRS_NTO: u64 = 0x00d0_0073;

/// What follows an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The guest goes on.
    Resume,
    /// axvm takes it.
    Leave(Exit),
}

/// Handles a trap.
pub(crate) fn handle<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let cause = SCAUSE.extract();
    let code = cause.read(CAUSE::CODE);
    if cause.is_set(CAUSE::INTERRUPT) {
        return Step::Leave(Exit::ExternalInterrupt { vector: code });
    }
    match code {
        SUPERVISOR_ECALL => firmware_call(vcpu),
        FETCH_GUEST_PAGE_FAULT => fetch_fault(vcpu),
        LOAD_GUEST_PAGE_FAULT => data_fault(vcpu, Cause::LoadAccessFault),
        STORE_GUEST_PAGE_FAULT => data_fault(vcpu, Cause::StoreAccessFault),
        VIRTUAL_INSTRUCTION => virtual_instruction(vcpu),
        _ => unhandled(code),
    }
}

fn unhandled(code: u64) -> Step {
    let detail = STVAL.get();
    Step::Leave(Exit::Unhandled { code, detail })
}

/// Answers a call of the guest's supervisor.
fn firmware_call<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let call = Call {
        extension: vcpu.frame.gpr(A7),
        function: vcpu.frame.gpr(A6),
        args: core::array::from_fn(|i| vcpu.frame.gpr(A0.wrapping_add(i))),
    };
    count(vcpu, ExitKind::Firmware);
    match sbi::answer(vcpu, &call) {
        Outcome::Return(ret) => {
            vcpu.frame.set_gpr(A0, ret.error);
            vcpu.frame.set_gpr(A1, ret.value);
        }
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
            return Step::Leave(exit);
        }
    }
    vcpu.frame.skip(ECALL_BYTES);
    Step::Resume
}

fn count<H: AxVMHal>(vcpu: &RiscvVCpu<H>, kind: ExitKind) {
    if let Some(hart) = vcpu.hart() {
        hart.control.stats().count(kind);
    }
}

/// Returns the guest physical address of a guest page fault.
fn faulting_address() -> u64 {
    (HTVAL.get() << 2) | (STVAL.get() & 3)
}

fn physical(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address as usize)
}

fn fetch_fault<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let value = STVAL.get();
    if insn::transformed(HTINST.get()) == Transformed::TableWalk {
        let cause = Cause::FetchAccessFault;
        vcpu.inject(Fault { cause, value });
        return Step::Resume;
    }
    vcpu.trapped = Some(Trapped {
        pc: vcpu.frame.pc,
        address: value,
    });
    Step::Leave(Exit::NestedPageFault {
        addr: physical(faulting_address()),
        access_flags: MappingFlags::EXECUTE,
    })
}

/// Emulates a load or store outside RAM; `refusal` is what else it would be.
fn data_fault<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, refusal: Cause) -> Step {
    let address = faulting_address();
    let value = STVAL.get();
    if vcpu.harts.is_ram(physical(address), 1) {
        return unmapped_ram(address, refusal);
    }
    let access = match insn::transformed(HTINST.get()) {
        Transformed::Instruction(access) => access,
        Transformed::TableWalk => None,
        Transformed::Absent => match fetch(vcpu.frame.pc) {
            Some(word) => insn::decode(word),
            // The guest's tables changed under it: its own fetch will tell.
            None => return Step::Resume,
        },
    };
    let Some(access) = access else {
        let cause = refusal;
        vcpu.inject(Fault { cause, value });
        return Step::Resume;
    };
    vcpu.trapped = Some(Trapped {
        pc: vcpu.frame.pc,
        address: value,
    });
    vcpu.frame.skip(access.length);
    match PLIC.offset_of(address) {
        Some(offset) => interrupt_controller(vcpu, offset, access),
        None => Step::Leave(device_access(vcpu, physical(address), access)),
    }
}

/// All RAM is mapped, so that this is a fault of the hypervisor's own books.
fn unmapped_ram(address: u64, refusal: Cause) -> Step {
    Step::Leave(Exit::NestedPageFault {
        addr: physical(address),
        access_flags: match refusal {
            Cause::StoreAccessFault => MappingFlags::WRITE,
            _ => MappingFlags::READ,
        },
    })
}

/// Fetches the instruction at `pc`; a compressed one is in the low half.
fn fetch(pc: u64) -> Option<u32> {
    let low = entry::fetch(pc)?;
    if !insn::is_full_length(low) {
        return Some(u32::from(low));
    }
    let high = entry::fetch(pc.wrapping_add(2))?;
    Some(u32::from(low) | (u32::from(high) << 16))
}

fn device_access<H: AxVMHal>(vcpu: &RiscvVCpu<H>, addr: GuestPhysAddr, access: Access) -> Exit {
    let width = access.width;
    match access.kind {
        Kind::Load { to, extension } => Exit::MmioRead {
            addr,
            width,
            reg: to,
            reg_width: AccessWidth::Qword,
            signed_ext: extension == Extension::Sign,
        },
        Kind::Store { from } => Exit::MmioWrite {
            addr,
            width,
            data: vcpu.frame.gpr(from),
        },
    }
}

fn interrupt_controller<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, offset: u64, access: Access) -> Step {
    use axvm::{AxArchVCpu, GuestAccess};
    count(vcpu, ExitKind::Mmio);
    let own = Some(vcpu.id);
    let nowhere = physical(offset);
    match access.kind {
        Kind::Load { to, extension } => {
            match harts::read_plic(&vcpu.harts, own, offset, access.width) {
                Ok(value) => vcpu.frame.set_gpr(to, extend(value as u32, extension)),
                Err(_) => vcpu.refuse_access(GuestAccess::Read(nowhere)),
            }
        }
        Kind::Store { from } => {
            let written = (access.width, vcpu.frame.gpr(from));
            if harts::write_plic(&vcpu.harts, own, offset, written).is_err() {
                vcpu.refuse_access(GuestAccess::Write(nowhere));
            }
        }
    }
    Step::Resume
}

/// Extends a word to a register.
fn extend(word: u32, extension: Extension) -> u64 {
    match extension {
        Extension::Sign => i64::from(word.cast_signed()).cast_unsigned(),
        Extension::Zero => u64::from(word),
    }
}

/// Handles an instruction that is the hypervisor's to decide: waits. Any other
/// does not exist for the guest.
fn virtual_instruction<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) -> Step {
    let told = STVAL.get();
    let word = match told {
        0 => match fetch(vcpu.frame.pc) {
            Some(word) => u64::from(word),
            None => return Step::Resume,
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
            count(vcpu, ExitKind::Halt);
            Step::Resume
        }
        false => Step::Leave(Exit::Halt),
    }
}

impl<H: AxVMHal> Hart for RiscvVCpu<H> {
    fn count(&self) -> usize {
        self.harts.count()
    }

    fn set_timer(&mut self, deadline_ticks: u64) {
        RiscvVCpu::set_timer(self, deadline_ticks);
    }

    fn send_ipi(&mut self, targets: HartSet) {
        self.harts.send_ipi(targets, Some(self.id));
    }

    fn clear_ipi(&mut self) {
        if let Some(hart) = self.hart() {
            hart.take_software();
        }
        HVIP.clear_bits(VS_INTERRUPTS::SOFTWARE::SET.value);
    }

    fn fence(&mut self, targets: HartSet, fence: Fence) {
        self.harts.fence_others(targets, self.id, fence);
        if targets.contains(self.id) {
            Self::fence_here(fence);
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
            value: address,
        })
    }
}

/// Returns what a guest's load that trapped with this cause is to the guest.
fn load_fault(code: u64) -> Cause {
    const LOAD_PAGE_FAULT: u64 = Cause::LoadPageFault as u64;
    match code {
        LOAD_PAGE_FAULT => Cause::LoadPageFault,
        _ => Cause::LoadAccessFault,
    }
}
