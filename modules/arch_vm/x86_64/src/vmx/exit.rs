// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the hardware's exit reasons mean.
//!
//! Reads what an exit brought from the VMCS that this CPU has loaded.
//!
//! Spec: Intel SDM 3, appendix C, "VMX Basic Exit Reasons"; "Exit Qualification".

use axvm::{AccessWidth, GuestPhysAddr};
use tock_registers::LocalRegisterCopy;

use super::{
    check,
    controls::{self, EPT_VIOLATION, EVENT, IO, REASON, TASK},
    cpu,
    fields::{
        EXIT_ERROR, EXIT_EVENT, EXIT_LENGTH, EXIT_REASON, GUEST_DR7, GUEST_PHYSICAL_ADDRESS,
        GUEST_RIP, QUALIFICATION, VECTORING_EVENT,
    },
    vmcs,
};
use crate::{
    debug::{DR6_BREAKPOINTS, DR6_DETECT, DR6_STEP},
    exit::{Exception, Exit, MemoryAccess, MemoryKind, PortAccess},
    irqchip::lapic,
    regs::bits,
};

const EXCEPTION_OR_NMI: u32 = 0;
const EXTERNAL_INTERRUPT: u32 = 1;
const TRIPLE_FAULT: u32 = 2;
const INIT: u32 = 3;
const INTERRUPT_WINDOW: u32 = 7;
const NMI_WINDOW: u32 = 8;
const TASK_SWITCH: u32 = 9;
const CPUID: u32 = 10;
const GETSEC: u32 = 11;
const HLT: u32 = 12;
const INVD: u32 = 13;
const RDPMC: u32 = 15;
const RSM: u32 = 17;
const VMCALL: u32 = 18;
const VMCLEAR: u32 = 19;
const VMXON: u32 = 27;
pub(super) const CONTROL_REGISTER: u32 = 28;
const DEBUG_REGISTER: u32 = 29;
const PORT: u32 = 30;
const RDMSR: u32 = 31;
const WRMSR: u32 = 32;
const MWAIT: u32 = 36;
const MONITOR: u32 = 39;
const TPR_BELOW_THRESHOLD: u32 = 43;
const APIC_ACCESS: u32 = 44;
const END_OF_INTERRUPT: u32 = 45;
const EPT_VIOLATION_REASON: u32 = 48;
const INVEPT: u32 = 50;
const PREEMPTION_TIMER: u32 = 52;
const INVVPID: u32 = 53;
const WBINVD: u32 = 54;
const XSETBV: u32 = 55;
const APIC_WRITE: u32 = 56;
const VMFUNC: u32 = 59;
const ENCLS: u32 = 60;
const RDSEED: u32 = 61;
const XSAVES: u32 = 63;
const XRSTORS: u32 = 64;
const UMWAIT: u32 = 67;
const TPAUSE: u32 = 68;
const SEAMCALL: u32 = 76;
const TDCALL: u32 = 77;

/// In DR7: each access to a debug register is an exception.
const GENERAL_DETECT: u64 = 1 << 13;

const VECTOR_DEBUG: u32 = 1;
const VECTOR_PROTECTION: u32 = 13;
const VECTOR_ALIGNMENT: u32 = 17;

/// Says what an exit was; one at a control register is the caller's.
#[inline]
pub(super) fn decode() -> Exit {
    let reason = LocalRegisterCopy::<u32, REASON::Register>::new(vmcs::read(EXIT_REASON));
    if reason.is_set(REASON::ENTRY_FAILED) {
        return Exit::Failed(check::failure(reason.read(REASON::BASIC)));
    }
    match reason.read(REASON::BASIC) {
        RDMSR => Exit::ReadMsr,
        WRMSR => Exit::WriteMsr,
        PORT => port(),
        EPT_VIOLATION_REASON => memory(),
        APIC_ACCESS => apic_access(),
        EXTERNAL_INTERRUPT | PREEMPTION_TIMER | INIT => Exit::Host,
        INTERRUPT_WINDOW | TPR_BELOW_THRESHOLD => Exit::Window,
        HLT => Exit::Halt,
        CPUID => Exit::Cpuid,
        VMCALL => Exit::Hypercall,
        rare => rare_exit(rare),
    }
}

#[cold]
fn rare_exit(reason: u32) -> Exit {
    match reason {
        EXCEPTION_OR_NMI => event(),
        NMI_WINDOW => Exit::NmiEnds,
        END_OF_INTERRUPT => Exit::EndOfLevel(vmcs::read(QUALIFICATION) as u8),
        APIC_WRITE => Exit::ApicWritten(vmcs::read(QUALIFICATION)),
        XSETBV => Exit::SetXcr,
        WBINVD | INVD => Exit::Skip(2),
        RDPMC => Exit::Protection,
        GETSEC
        | RSM
        | VMCLEAR..=VMXON
        | MWAIT
        | MONITOR
        | INVEPT
        | INVVPID
        | VMFUNC
        | ENCLS..=RDSEED
        | XSAVES..=XRSTORS
        | UMWAIT..=TPAUSE
        | SEAMCALL..=TDCALL => Exit::Undefined,
        TASK_SWITCH => task_switch(),
        DEBUG_REGISTER => Exit::DebugRegister,
        TRIPLE_FAULT => Exit::Shutdown,
        _ => Exit::Unknown(reason.into(), vmcs::read(QUALIFICATION)),
    }
}

/// VMX leaves a hardware task switch to the hypervisor, which has none: the task is
/// refused like one that the caller may not enter. One that a double fault needed
/// is a triple fault.
fn task_switch() -> Exit {
    const DOUBLE_FAULT: u32 = 8;
    let info = bits::<TASK::Register>(vmcs::read(QUALIFICATION));
    let event = LocalRegisterCopy::<u32, EVENT::Register>::new(vmcs::read(VECTORING_EVENT));
    let is_event = info.matches_all(TASK::SOURCE::Gate) && event.is_set(EVENT::VALID);
    if is_event && event.matches_all(EVENT::KIND::Exception + EVENT::VECTOR.val(DOUBLE_FAULT)) {
        return Exit::Shutdown;
    }
    Exit::NoTask(info.read(TASK::SELECTOR) as u16)
}

/// An NMI is the host's; the guest's exceptions are given back to it.
fn event() -> Exit {
    let event = LocalRegisterCopy::<u32, EVENT::Register>::new(vmcs::read(EXIT_EVENT));
    if event.matches_all(EVENT::KIND::Nmi) {
        cpu::take_nmi();
        return Exit::Host;
    }
    match event.read(EVENT::VECTOR) {
        VECTOR_DEBUG => debug(event.matches_all(EVENT::KIND::Int1)),
        VECTOR_ALIGNMENT => Exit::Exception(Exception::ALIGNMENT),
        VECTOR_PROTECTION => Exit::Exception(Exception {
            error: Some(vmcs::read(EXIT_ERROR)),
            ..Exception::PROTECTION
        }),
        vector => Exit::Unknown(EXCEPTION_OR_NMI.into(), vector.into()),
    }
}

/// A #DB: the hardware says here what it has written neither into DR6 nor into DR7.
fn debug(is_int1: bool) -> Exit {
    // Other bits mean something else there than here.
    let causes = vmcs::read(QUALIFICATION) & (DR6_BREAKPOINTS | DR6_DETECT | DR6_STEP);
    cpu::set_dr6(cpu::dr6() & !DR6_BREAKPOINTS | causes);
    if causes & DR6_DETECT != 0 {
        vmcs::modify(GUEST_DR7, |dr7| dr7 & !GENERAL_DETECT);
    }
    match is_int1 {
        true => Exit::Int1,
        false => Exit::Exception(Exception::DEBUG),
    }
}

fn port() -> Exit {
    let info = bits::<IO::Register>(vmcs::read(QUALIFICATION));
    let width = match info.read(IO::SIZE) {
        0 => AccessWidth::Byte,
        1 => AccessWidth::Word,
        _ => AccessWidth::Dword,
    };
    let length = u64::from(vmcs::read(EXIT_LENGTH));
    Exit::Port(PortAccess {
        port: info.read(IO::PORT) as u16,
        width,
        is_input: info.is_set(IO::IS_INPUT),
        is_string: info.is_set(IO::IS_STRING),
        next_rip: vmcs::read(GUEST_RIP).wrapping_add(length),
    })
}

/// An access to the local APIC's page that the CPU has not done.
fn apic_access() -> Exit {
    use controls::APIC_ACCESS::KIND::Value as Kind;
    let info = bits::<controls::APIC_ACCESS::Register>(vmcs::read(QUALIFICATION));
    let offset = info.read(controls::APIC_ACCESS::OFFSET);
    let access = info.read_as_enum(controls::APIC_ACCESS::KIND);
    let kind = match access {
        Some(Kind::Write) => MemoryKind::Write,
        Some(Kind::Fetch) => MemoryKind::Fetch,
        _ => MemoryKind::Read,
    };
    Exit::Memory(MemoryAccess {
        address: GuestPhysAddr::from_usize(lapic::PAGE.wrapping_add(offset) as usize),
        kind,
        is_in_walk: matches!(access, Some(Kind::PhysicalDelivery | Kind::Walk)),
    })
}

fn memory() -> Exit {
    let info = bits::<EPT_VIOLATION::Register>(vmcs::read(QUALIFICATION));
    let kind = if info.is_set(EPT_VIOLATION::FETCH) {
        MemoryKind::Fetch
    } else if info.is_set(EPT_VIOLATION::WRITE) {
        MemoryKind::Write
    } else {
        MemoryKind::Read
    };
    let address = vmcs::read(GUEST_PHYSICAL_ADDRESS) as usize;
    Exit::Memory(MemoryAccess {
        address: GuestPhysAddr::from_usize(address),
        kind,
        is_in_walk: info.is_set(EPT_VIOLATION::HAS_LINEAR) && !info.is_set(EPT_VIOLATION::IS_FINAL),
    })
}
