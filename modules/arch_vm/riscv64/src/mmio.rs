// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's loads and stores outside of RAM.
//!
//! Called by `exit` for a guest page fault of a load or store. The instruction is
//! the one that the hardware left in htinst, or is fetched as the guest would. The
//! interrupt controller answers here, every device by axvm's `access::finish`: no
//! access to a device leaves the architecture.
//!
//! Spec: RISC-V Privileged, "H" extension, htval, htinst.

use axvm::{
    AccessWidth, AxArchVCpu, AxVCpuExitReason as Exit, AxVMHal, ExitKind, GuestAccess,
    GuestPhysAddr, MappingFlags, access,
};
use tock_registers::interfaces::Readable;

use crate::{
    exit::{self, Step, faulting_address, fetch, physical},
    harts,
    insn::{self, Access, Extension, Kind},
    interrupts::Registers,
    irqchip::Intc,
    regs::{HTINST, STVAL},
    trap::{Cause, Fault},
    vcpu::{RiscvVCpu, Trapped},
    vm::{PLIC, RAM_START},
};

/// Emulates a load or store; `refusal` is what else it would be.
pub(crate) fn fault<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, refusal: Cause) -> Step {
    let access = match HTINST.get() {
        0 => match fetch(vcpu.frame.pc) {
            Some(word) => insn::decode(word),
            None => return exit::fetch_failed(vcpu),
        },
        transformed => insn::transformed(transformed),
    };
    let address = faulting_address();
    if address >= RAM_START && vcpu.harts.is_ram(physical(address), 1) {
        return unmapped_ram(vcpu, address, refusal);
    }
    match access {
        Some(access) => emulate(vcpu, address, access),
        None => refused(vcpu, refusal),
    }
}

#[inline(never)]
fn refused<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, cause: Cause) -> Step {
    let value = STVAL.get();
    vcpu.inject(Fault { cause, value });
    Step::Resume
}

/// All RAM is mapped, so that this is a fault of the hypervisor's own books.
#[inline(never)]
fn unmapped_ram<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, address: u64, refusal: Cause) -> Step {
    vcpu.leave(Exit::NestedPageFault {
        addr: physical(address),
        access_flags: match refusal {
            Cause::StoreAccessFault => MappingFlags::WRITE,
            _ => MappingFlags::READ,
        },
    })
}

/// Does an access to a guest physical address.
#[inline]
fn emulate<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, address: u64, access: Access) -> Step {
    vcpu.trapped = Some(Trapped {
        pc: vcpu.frame.pc,
        address: STVAL.get(),
    });
    vcpu.frame.skip(u64::from(access.length));
    if vcpu.harts.intc == Intc::Plic {
        if let Some(offset) = PLIC.offset_of(address) {
            interrupt_controller(vcpu, offset, access);
            return Step::Resume;
        }
    } else if let Some(at) = vcpu.harts.interrupt_registers(address) {
        other_interrupt_controller(vcpu, at, access);
        return Step::Resume;
    }
    let (addr, width) = (physical(address), access.width);
    match access.kind {
        Kind::Load { to, extension } => {
            let exit = Exit::MmioRead {
                addr,
                width,
                reg: usize::from(to),
                reg_width: AccessWidth::Qword,
                signed_ext: extension == Extension::Sign,
            };
            device(vcpu, exit)
        }
        Kind::Store { from } => {
            let data = vcpu.frame.gpr(usize::from(from));
            device(vcpu, Exit::MmioWrite { addr, width, data })
        }
    }
}

#[inline(always)]
fn device<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, exit: Exit) -> Step {
    vcpu.control.stats().trace(exit.trace(vcpu.frame.pc));
    match access::finish(vcpu, exit) {
        None => Step::Resume,
        Some(exit) => vcpu.leave(exit),
    }
}

fn interrupt_controller<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>, offset: u64, access: Access) {
    vcpu.count(ExitKind::Mmio);
    let own = Some(vcpu.id);
    match access.kind {
        Kind::Load { to, extension } => {
            match harts::read_plic(&vcpu.harts, own, offset, access.width) {
                Ok(value) => {
                    let value = extend(value as u32, extension);
                    vcpu.frame.set_gpr(usize::from(to), value);
                }
                Err(_) => vcpu.refuse_access(GuestAccess::Read(NOWHERE)),
            }
        }
        Kind::Store { from } => {
            let written = (access.width, vcpu.frame.gpr(usize::from(from)));
            if harts::write_plic(&vcpu.harts, own, offset, written).is_err() {
                vcpu.refuse_access(GuestAccess::Write(NOWHERE));
            }
        }
    }
}

#[inline(never)]
fn other_interrupt_controller<H: AxVMHal>(
    vcpu: &mut RiscvVCpu<H>,
    at: (Registers, u64),
    access: Access,
) {
    vcpu.count(ExitKind::Mmio);
    let own = Some(vcpu.id);
    match access.kind {
        Kind::Load { to, extension } => match vcpu.harts.read_interrupts(own, at, access.width) {
            Ok(value) => {
                let value = extend(value as u32, extension);
                vcpu.frame.set_gpr(usize::from(to), value);
            }
            Err(_) => vcpu.refuse_access(GuestAccess::Read(NOWHERE)),
        },
        Kind::Store { from } => {
            let written = (access.width, vcpu.frame.gpr(usize::from(from)));
            if vcpu.harts.write_interrupts(own, at, written).is_err() {
                vcpu.refuse_access(GuestAccess::Write(NOWHERE));
            }
        }
    }
}

/// A refusal is told by [`Trapped`], not by its address.
const NOWHERE: GuestPhysAddr = GuestPhysAddr::from_usize(0);

/// Extends a word to a register.
fn extend(word: u32, extension: Extension) -> u64 {
    match extension {
        Extension::Sign => i64::from(word.cast_signed()).cast_unsigned(),
        Extension::Zero => u64::from(word),
    }
}
