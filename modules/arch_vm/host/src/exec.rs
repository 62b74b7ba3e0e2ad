// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interpreter: instructions until one leaves the guest.
//!
//! Called by the vCPU's `run` while it counts as in its guest. A quantum ends
//! as hardware's does: by an exit of the guest, by a kick (a request that came
//! meanwhile), or by the host's tick after so many instructions. Whatever the
//! guest does, one step takes bounded time.

use axvm::{
    AxVCpuExitReason as Exit, AxVMHal, ConsoleCall, ExitKind, GuestPhysAddr, IpiTargets,
    MappingFlags, Port, SysRegAddr,
};

use axdevice::PowerRequest;

use crate::{
    insn::{INSN_BYTES, Insn, Op, Reg},
    irqchip::TIMER_IRQ,
    phys,
    regs::{Cause, SysReg},
    stage2,
    vcpu::HostVCpu,
};

/// How many instructions lie between two ticks of the host.
const QUANTUM: usize = 2048;
/// How many instructions lie between two looks at the clock.
const CLOCK_EVERY: usize = 64;
/// How many bytes a console call is about; less than a page, so that two looks
/// tell whether all of it is RAM.
const CONSOLE_BYTES_MAX: usize = 1024;
/// The host interrupt that a tick shows as.
const TICK_VECTOR: u64 = 0;
/// The host interrupt that a kick shows as.
const KICK_VECTOR: u64 = 1;

/// What one instruction came to: nothing, or an exit.
type Step = Option<Exit>;

impl<H: AxVMHal> HostVCpu<H> {
    /// Runs the guest until it leaves, is kicked, or the host's tick comes.
    pub(crate) fn run_quantum(&mut self) -> Exit {
        for step in 0..QUANTUM {
            if self.control.has_request() {
                return Exit::ExternalInterrupt {
                    vector: KICK_VECTOR,
                };
            }
            if step % CLOCK_EVERY == 0 {
                self.look_at_timer();
            }
            let pending = self.chip.pending(self.id());
            self.regs.take_interrupt(pending);
            if let Some(exit) = self.fatal_exit().or_else(|| self.step()) {
                return exit;
            }
        }
        Exit::ExternalInterrupt {
            vector: TICK_VECTOR,
        }
    }

    fn look_at_timer(&mut self) {
        let now = self.hal.current_time_nanos();
        if self.regs.timer_ns.is_some_and(|due| due <= now) {
            self.regs.timer_ns = None;
            self.control.stats().count(ExitKind::Timer);
            self.chip.raise_own(self.id(), TIMER_IRQ);
        }
    }

    /// Returns the exit of a fault that has no handler.
    fn fatal_exit(&self) -> Step {
        self.regs.fatal.map(|fatal| Exit::Unhandled {
            code: fatal.cause.number(),
            detail: fatal.address,
        })
    }

    fn step(&mut self) -> Step {
        let pc = self.regs.pc;
        self.regs.at = pc;
        let Some((low, imm)) = self.fetch(pc) else {
            return Some(page_fault(pc, MappingFlags::EXECUTE));
        };
        self.regs.pc = pc.wrapping_add(INSN_BYTES as u64);
        self.retired = self.retired.wrapping_add(1);
        match Insn::decode(low, imm) {
            Some(insn) => self.execute(insn),
            None => {
                self.regs.raise(Cause::Illegal, low);
                None
            }
        }
    }

    fn fetch(&self, pc: u64) -> Option<(u64, u64)> {
        let word = |address: u64| {
            let found = self.translate(address)?;
            let may = found.flags.contains(MappingFlags::EXECUTE) && address.is_multiple_of(8);
            may.then(|| phys::load(&self.hal, found.host, axvm::AccessWidth::Qword))
        };
        Some((word(pc)?, word(pc.checked_add(8)?)?))
    }

    fn translate(&self, address: u64) -> Option<stage2::Translation> {
        let address = GuestPhysAddr::from_usize(usize::try_from(address).ok()?);
        stage2::walk(&self.hal, self.root, address)
    }

    fn execute(&mut self, insn: Insn) -> Step {
        match insn.op {
            Op::Nop
            | Op::Set
            | Op::Add
            | Op::AddReg
            | Op::Jump
            | Op::JumpEqual
            | Op::JumpLess
            | Op::Return => self.compute(insn),
            Op::Load => self.load(insn),
            Op::Store => self.store(insn),
            Op::Count => self.count(insn),
            Op::SysRead => self.sys_read(insn),
            Op::SysWrite => self.sys_write(insn),
            Op::Halt => self.halt(),
            Op::Print | Op::ConsoleGet | Op::ConsoleWrite | Op::ConsoleRead => self.console(insn),
            _ => Some(self.exit_of(insn)),
        }
    }

    fn compute(&mut self, insn: Insn) -> Step {
        let (a, b) = (self.regs.get(insn.a), self.regs.get(insn.b));
        match insn.op {
            Op::Set => self.regs.set(insn.a, insn.imm),
            Op::Add => self.regs.set(insn.a, b.wrapping_add(insn.imm)),
            Op::AddReg => self.regs.set(insn.a, a.wrapping_add(b)),
            Op::Jump => self.regs.pc = insn.imm,
            Op::JumpEqual if a == b => self.regs.pc = insn.imm,
            Op::JumpLess if a < b => self.regs.pc = insn.imm,
            Op::Return => self.regs.leave_handler(),
            _ => {}
        }
        None
    }

    /// Returns the address of an access, or raises the guest's fault.
    fn address(&mut self, insn: Insn, size: usize) -> Option<u64> {
        let address = self.regs.get(insn.b).wrapping_add(insn.imm);
        if address.is_multiple_of(size as u64) {
            return Some(address);
        }
        self.regs.raise(Cause::Misaligned, address);
        None
    }

    fn load(&mut self, insn: Insn) -> Step {
        let width = insn.access_width();
        let address = self.address(insn, width.size())?;
        let Some(found) = self.translate(address) else {
            return Some(Exit::MmioRead {
                addr: gpa(address),
                width,
                reg: insn.a.index(),
                reg_width: axvm::AccessWidth::Qword,
                signed_ext: insn.is_signed(),
            });
        };
        if !found.flags.contains(MappingFlags::READ) {
            return Some(page_fault(address, MappingFlags::READ));
        }
        let raw = phys::load(&self.hal, found.host, width);
        let value = match insn.is_signed() {
            true => sign_extend(raw, width.size()),
            false => raw,
        };
        self.regs.set(insn.a, value);
        None
    }

    fn store(&mut self, insn: Insn) -> Step {
        let width = insn.access_width();
        let address = self.address(insn, width.size())?;
        let data = self.regs.get(insn.a);
        let Some(found) = self.translate(address) else {
            return Some(Exit::MmioWrite {
                addr: gpa(address),
                width,
                data,
            });
        };
        if !found.flags.contains(MappingFlags::WRITE) {
            return Some(page_fault(address, MappingFlags::WRITE));
        }
        phys::store(&self.hal, found.host, width, data);
        None
    }

    fn count(&mut self, insn: Insn) -> Step {
        let address = self.address(insn, size_of::<u64>())?;
        let access = MappingFlags::READ | MappingFlags::WRITE;
        let found = self.translate(address);
        let Some(found) = found.filter(|found| found.flags.contains(access)) else {
            return Some(page_fault(address, access));
        };
        let was = phys::count(&self.hal, found.host);
        self.regs.set(insn.a, was);
        None
    }

    fn sys_read(&mut self, insn: Insn) -> Step {
        let Some(register) = SysReg::from_number(insn.imm) else {
            return Some(Exit::SysRegRead {
                addr: SysRegAddr::new(insn.imm as usize),
                reg: insn.a.index(),
            });
        };
        let value = match register {
            SysReg::Id => self.id() as u64,
            SysReg::Time => self.hal.current_time_nanos(),
            SysReg::Timer => self.regs.timer_ns.unwrap_or(u64::MAX),
            SysReg::Handler => self.regs.handler,
            SysReg::Cause => self.regs.cause,
            SysReg::Return => self.regs.return_to,
            SysReg::Enabled => self.regs.enabled,
            SysReg::Claim => self.claim(),
            SysReg::Pending => self.chip.pending(self.id()),
        };
        self.regs.set(insn.a, value);
        None
    }

    fn claim(&self) -> u64 {
        let claimed = self.chip.claim(self.id());
        claimed.map_or(0, |vector| u64::from(vector).wrapping_add(1))
    }

    fn sys_write(&mut self, insn: Insn) -> Step {
        let value = self.regs.get(insn.a);
        let Some(register) = SysReg::from_number(insn.imm) else {
            return Some(Exit::SysRegWrite {
                addr: SysRegAddr::new(insn.imm as usize),
                value,
            });
        };
        match register {
            SysReg::Timer => self.regs.timer_ns = Some(value).filter(|due| *due != u64::MAX),
            SysReg::Handler => self.regs.handler = value,
            SysReg::Return => self.regs.return_to = value,
            SysReg::Enabled => self.regs.enabled = value,
            SysReg::Id | SysReg::Time | SysReg::Cause | SysReg::Claim | SysReg::Pending => {
                self.regs.raise(Cause::Illegal, insn.imm);
            }
        }
        None
    }

    /// Waits by leaving the guest, unless an interrupt is pending already.
    fn halt(&mut self) -> Step {
        self.look_at_timer();
        (self.chip.pending(self.id()) == 0).then_some(Exit::Halt)
    }

    /// Asks for the console; a range that is no RAM is answered here with zero.
    fn console(&mut self, insn: Insn) -> Step {
        let size_bytes = (self.regs.get(insn.a) as usize).min(CONSOLE_BYTES_MAX);
        let start = self.regs.get(insn.b).wrapping_add(insn.imm);
        let is_ram = || {
            let last = start.checked_add((size_bytes as u64).saturating_sub(1));
            let ends = [Some(start), last];
            ends.into_iter()
                .all(|end| end.is_some_and(|end| self.translate(end).is_some()))
        };
        let call = match insn.op {
            Op::Print => ConsoleCall::Put {
                byte: insn.imm as u8,
            },
            Op::ConsoleGet => ConsoleCall::Get,
            Op::ConsoleWrite if is_ram() => ConsoleCall::Write {
                from: gpa(start),
                size_bytes,
            },
            Op::ConsoleRead if is_ram() => ConsoleCall::Read {
                to: gpa(start),
                size_bytes,
            },
            _ => {
                self.regs.set(Reg(0), 0);
                return None;
            }
        };
        Some(Exit::Console { call })
    }

    /// Returns the exit of an instruction that always leaves.
    fn exit_of(&self, insn: Insn) -> Exit {
        let (a, b) = (self.regs.get(insn.a), self.regs.get(insn.b));
        let address = b.wrapping_add(insn.imm);
        let access = match insn.mode {
            0 => MappingFlags::READ,
            _ => MappingFlags::WRITE,
        };
        let width = insn.access_width();
        let port = Port::new(insn.imm as u16);
        match insn.op {
            Op::PortIn => Exit::IoRead { port, width },
            Op::PortOut => Exit::IoWrite {
                port,
                width,
                data: a,
            },
            Op::Hypercall => Exit::Hypercall {
                nr: insn.imm,
                args: core::array::from_fn(|i| self.regs.get(Reg((i as u8).wrapping_add(1)))),
            },
            Op::CpuStart => Exit::CpuUp {
                target_cpu: a,
                entry_point: gpa(insn.imm),
                arg: b,
            },
            Op::CpuStop => Exit::CpuDown { state: insn.imm },
            Op::Ipi => Exit::SendIPI {
                targets: ipi_targets(insn.mode, a),
                vector: insn.imm,
            },
            Op::PowerOff => down(PowerRequest::Off),
            Op::PowerFail => down(PowerRequest::Failed(insn.imm as u32)),
            Op::Reset => down(PowerRequest::Reset),
            Op::Touch => page_fault(address, access),
            Op::FailEntry => Exit::FailEntry {
                hardware_entry_failure_reason: insn.imm,
            },
            _ => Exit::Unhandled {
                code: insn.imm,
                detail: a,
            },
        }
    }
}

fn down(request: PowerRequest) -> Exit {
    Exit::SystemDown { request }
}

fn ipi_targets(mode: u8, mask: u64) -> IpiTargets {
    match mode {
        0 => IpiTargets::Mask(mask),
        1 => IpiTargets::Others,
        _ => IpiTargets::All,
    }
}

fn page_fault(address: u64, access_flags: MappingFlags) -> Exit {
    Exit::NestedPageFault {
        addr: gpa(address),
        access_flags,
    }
}

fn gpa(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address as usize)
}

/// Copies the sign of the low bytes up.
fn sign_extend(raw: u64, bytes: usize) -> u64 {
    let unused = 64u32.saturating_sub((bytes as u32).saturating_mul(8));
    (((raw << unused) as i64) >> unused) as u64
}
