// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the hardware's exit codes mean.
//!
//! Spec: AMD64 APM 2, appendix C, "SVM Intercept Exit Codes"; "IOIO Intercept
//! Information", "Nested Page Faults".

use axvm::{AccessWidth, GuestPhysAddr};

use super::vmcb::{Control, IOIO, NPF};
use crate::{
    exit::{Exception, Exit, MemoryAccess, MemoryKind, PortAccess},
    regs::bits,
};

const CR4_WRITE: u64 = 0x14;
const CR8_WRITE: u64 = 0x18;
const DEBUG_REGISTERS: core::ops::RangeInclusive<u64> = 0x20..=0x3f;
const EXCEPTION_DEBUG: u64 = 0x41;
const EXCEPTION_ALIGNMENT: u64 = 0x51;
const EXCEPTION_MACHINE_CHECK: u64 = 0x52;
const INTR: u64 = 0x60;
const NMI: u64 = 0x61;
const SMI: u64 = 0x62;
const INIT: u64 = 0x63;
const VINTR: u64 = 0x64;
const RDPMC: u64 = 0x6f;
pub(super) const CPUID: u64 = 0x72;
const RSM: u64 = 0x73;
const IRET: u64 = 0x74;
const INVD: u64 = 0x76;
const HLT: u64 = 0x78;
const INVLPGA: u64 = 0x7a;
const IOIO_CODE: u64 = 0x7b;
pub(super) const MSR: u64 = 0x7c;
const FERR_FREEZE: u64 = 0x7e;
const SHUTDOWN: u64 = 0x7f;
const VMRUN: u64 = 0x80;
pub(super) const VMMCALL: u64 = 0x81;
const VMLOAD: u64 = 0x82;
const SKINIT: u64 = 0x86;
const WBINVD: u64 = 0x89;
const MONITOR: u64 = 0x8a;
const MWAIT_ARMED: u64 = 0x8c;
const XSETBV: u64 = 0x8d;
const RDPRU: u64 = 0x8e;
const INVLPGB: u64 = 0xa0;
const TLBSYNC: u64 = 0xa4;
pub(super) const NESTED_PAGE_FAULT: u64 = 0x400;
/// Of the codes that are left to software: `fast` has finished the exit.
pub(super) const ANSWERED: u64 = 0xf000_0000;
/// The code of an entry that failed; QEMU stores its low half only.
const INVALID: u32 = u32::MAX;

/// Says what an exit was.
#[inline]
pub(super) fn decode(control: &Control) -> Exit {
    let code = control.exit_code;
    match code {
        MSR if control.exit_info_1 == 0 => Exit::ReadMsr,
        MSR => Exit::WriteMsr,
        IOIO_CODE => port(control),
        NESTED_PAGE_FAULT => memory(control),
        INTR | NMI | SMI | INIT => Exit::Host,
        VINTR => Exit::Window,
        HLT => Exit::Halt,
        CPUID => Exit::Cpuid,
        VMMCALL => Exit::Hypercall,
        ANSWERED => Exit::Answered,
        _ => rare(code, control),
    }
}

#[cold]
fn rare(code: u64, control: &Control) -> Exit {
    match code {
        _ if code as u32 == INVALID => Exit::Failed(code),
        IRET => Exit::NmiReturns,
        CR8_WRITE => Exit::TaskPriority,
        CR4_WRITE => Exit::WriteCr4,
        XSETBV => Exit::SetXcr,
        WBINVD | INVD => Exit::Skip(2),
        RDPMC => Exit::Protection,
        RSM | INVLPGA | VMRUN | VMLOAD..=SKINIT | RDPRU => Exit::Undefined,
        MONITOR..=MWAIT_ARMED | INVLPGB..=TLBSYNC => Exit::Undefined,
        EXCEPTION_DEBUG => Exit::Exception(Exception::DEBUG),
        EXCEPTION_ALIGNMENT => Exit::Exception(Exception::ALIGNMENT),
        FERR_FREEZE => Exit::Exception(Exception::FLOATING_POINT),
        EXCEPTION_MACHINE_CHECK => Exit::Unknown(code, control.exit_info_1),
        SHUTDOWN => Exit::Shutdown,
        _ if DEBUG_REGISTERS.contains(&code) => Exit::DebugRegister,
        _ => Exit::Unknown(code, control.exit_info_1),
    }
}

fn port(control: &Control) -> Exit {
    let info = bits::<IOIO::Register>(control.exit_info_1);
    let width = if info.is_set(IOIO::IS_BYTE) {
        AccessWidth::Byte
    } else if info.is_set(IOIO::IS_WORD) {
        AccessWidth::Word
    } else {
        AccessWidth::Dword
    };
    Exit::Port(PortAccess {
        port: info.read(IOIO::PORT) as u16,
        width,
        is_input: info.is_set(IOIO::IS_INPUT),
        is_string: info.is_set(IOIO::IS_STRING),
        next_rip: control.exit_info_2,
    })
}

fn memory(control: &Control) -> Exit {
    let info = bits::<NPF::Register>(control.exit_info_1);
    let kind = if info.is_set(NPF::FETCH) {
        MemoryKind::Fetch
    } else if info.is_set(NPF::WRITE) {
        MemoryKind::Write
    } else {
        MemoryKind::Read
    };
    Exit::Memory(MemoryAccess {
        address: GuestPhysAddr::from_usize(control.exit_info_2 as usize),
        kind,
        is_in_walk: info.is_set(NPF::IN_WALK),
    })
}
