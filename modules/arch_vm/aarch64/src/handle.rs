// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is done about each exit.
//!
//! Called with interrupts closed, by `fast` before and by `vcpu`'s loop after the
//! world is switched. Firmware calls, system registers, the interrupt controller
//! and devices end here; power and waiting leave the architecture.
//!
//! Spec: Arm Architecture Reference Manual, ESR_EL2; Arm PSCI.

use axdevice::GuestMemory;
use axvm::{
    AccessWidth, AxArchVCpu, AxVCpuExitReason as Exit, AxVMHal, CpuUpStatus, ExitKind,
    GuestPhysAddr, MappingFlags, access,
};
use tock_registers::{
    LocalRegisterCopy,
    interfaces::{Readable, Writeable},
};

use crate::{
    debug,
    exit::{self, AbortDetail, DataAbort, Exception, Refused, RegisterAccess, SysRegAccess, Trap},
    fast::Left,
    insn::{self, WriteBack},
    interrupts::Cause,
    irqchip::{Frame, Sgi},
    machine::Siblings,
    psci::{self, Action},
    regs::{
        ESR_EL2, FAR_EL2, HPFAR_EL2, PAR, SP_EL0, SP_EL1, SPSR, TCR_EL12, TTBR0_EL12, TTBR1_EL12,
        firmware_call, translate_read,
    },
    sysreg::{self, SysReg},
    vcpu::{Aarch64VCpu, Transfer},
    walk::Tables,
};

/// What follows of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The guest goes on.
    Resume,
    /// Somebody else has to look.
    Leave(Exit),
}

/// Where unhandled exits that are no syndrome begin.
const NO_SYNDROME: u64 = 1 << 32;

impl<H: AxVMHal> Aarch64VCpu<H> {
    /// Handles what the world switch left of an exit.
    pub(crate) fn handle(&mut self, left: Left) -> Step {
        match left {
            Left::NOTHING | Left::ENTRY => Step::Resume,
            Left::TRAP => {
                let pc = self.frame.pc;
                let step = self.handle_trap(ESR_EL2.get());
                self.end_step(pc);
                step
            }
            Left::INTERRUPT => match self.interrupts.on_host_interrupt(&self.machine.gic) {
                Cause::Guest => self.count(ExitKind::Timer),
                Cause::Host(vector) => Step::Leave(Exit::ExternalInterrupt {
                    vector: vector.into(),
                }),
            },
            Left(other) => Step::Leave(Exit::Unhandled {
                code: NO_SYNDROME | other,
                detail: ESR_EL2.get(),
            }),
        }
    }

    /// Ends the guest's single step if an instruction was emulated.
    fn end_step(&mut self, pc: u64) {
        if self.frame.pc != pc && debug::is_stepping() {
            self.frame.end_step();
        }
    }

    fn count(&self, kind: ExitKind) -> Step {
        self.control.stats().count(kind);
        Step::Resume
    }

    /// Reads what the last synchronous exit was about.
    #[inline(always)]
    fn decode(&mut self, esr: u64) -> Trap {
        let far = FAR_EL2.get();
        self.access_far = far;
        exit::decode(esr, far, HPFAR_EL2.get())
    }

    /// Finishes what ends here, and tells whether it did; otherwise nothing has
    /// happened yet.
    #[inline]
    pub(crate) fn finish_trap(&mut self, esr: u64) -> bool {
        match self.decode(esr) {
            Trap::Hvc => return self.answer(),
            Trap::Smc => {
                let is_answered = self.answer();
                if is_answered {
                    self.frame.skip();
                }
                return is_answered;
            }
            Trap::SysReg(access) => self.system_register(access),
            Trap::Data(abort) => return self.finish_abort(abort),
            Trap::WaitForEvent => self.frame.skip(),
            Trap::FloatingPoint => self.load_float(),
            Trap::Vectors => return self.load_vectors(),
            _ => return false,
        }
        true
    }

    /// Does what a trap asks for that [`Self::finish_trap`] did not finish.
    fn handle_trap(&mut self, esr: u64) -> Step {
        let trap = self.decode(esr);
        match trap {
            Trap::Hvc => self.call(),
            Trap::Smc => {
                self.frame.skip();
                self.call()
            }
            Trap::Data(abort) if abort.detail == AbortDetail::Instruction => {
                self.begin_transfer(abort)
            }
            Trap::Data(abort) if abort.detail == AbortDetail::Walk => {
                self.refuse(abort.is_write, self.failing_walk())
            }
            Trap::Data(abort) => self.refuse(abort.is_write, Refused::Access),
            Trap::FetchWalk => {
                let refused = self.failing_walk();
                self.throw(Exception::FetchAbort { refused }, self.access_far);
                self.count(ExitKind::PageFault)
            }
            Trap::WaitForInterrupt => {
                self.frame.skip();
                self.wait()
            }
            Trap::Fetch(addr) => self.fetch_abort(addr),
            Trap::Undefined | Trap::Vectors => {
                self.undefined();
                Step::Resume
            }
            _ => Step::Leave(Exit::Unhandled {
                code: esr,
                detail: self.access_far,
            }),
        }
    }

    fn undefined(&mut self) {
        self.throw(Exception::Undefined, 0);
        self.control.stats().count(ExitKind::Other);
    }

    /// Waits, unless there is something to wake up for.
    fn wait(&mut self) -> Step {
        if self.interrupts.has_pending(&self.machine.gic) {
            return self.count(ExitKind::Halt);
        }
        self.note_deadline();
        Step::Leave(Exit::Halt)
    }

    fn fetch_abort(&mut self, addr: GuestPhysAddr) -> Step {
        self.access_pc = self.frame.pc;
        Step::Leave(Exit::NestedPageFault {
            addr,
            access_flags: MappingFlags::EXECUTE,
        })
    }

    fn system_register(&mut self, access: SysRegAccess) {
        let SysRegAccess { id, rt, is_read } = access;
        match (sysreg::classify(id), is_read) {
            (SysReg::Fixed(value), true) => self.frame.set(rt, value),
            (SysReg::Fixed(_), false) => {}
            (SysReg::Id(id), true) => self.frame.set(rt, self.machine.ids.get(id)),
            (SysReg::SendSgi, false) => self.send_sgi(rt),
            // Once they are loaded, they do not trap.
            (SysReg::Debug, _) if self.debug.load() => return,
            (SysReg::Debug, true) => self.frame.set(rt, 0),
            (SysReg::Debug, false) => {}
            (SysReg::Id(_), false) | (SysReg::SendSgi, true) | (SysReg::Undefined, _) => {
                return self.undefined();
            }
        }
        self.frame.skip();
        self.control.stats().count(ExitKind::SysReg);
    }

    fn send_sgi(&mut self, rt: usize) {
        let id = self.id;
        let (others, is_own) = Sgi::new(id, self.frame.get(rt)).without(id);
        if others.targets != 0 {
            self.send_to_others(others);
        }
        if is_own {
            self.interrupts
                .raise_own_sgi(&self.machine.gic, others.intid);
        }
    }

    // Not inlined, as `fast` would pay for its registers.
    #[inline(never)]
    fn send_to_others(&mut self, sgi: Sgi) {
        let id = self.id;
        let gic = &self.machine.gic;
        self.interrupts.is_stale |= gic.change_as(id, |state| state.send_sgis(id, sgi));
    }

    /// Returns what follows of the firmware call that the registers say.
    fn action(&self) -> Action {
        let registers = [0, 1, 2, 3].map(|reg| self.frame.get(reg));
        let siblings = Siblings {
            machine: &self.machine,
            own: self.id,
        };
        psci::answer(registers, &siblings)
    }

    /// Answers a firmware call, if an answer is all that follows of it.
    fn answer(&mut self) -> bool {
        match self.action() {
            Action::Answer(value) => self.frame.set(0, value),
            Action::AnswerFour(values) => {
                for (reg, value) in values.into_iter().enumerate() {
                    self.frame.set(reg, value);
                }
            }
            _ => return false,
        }
        self.control.stats().count(ExitKind::Firmware);
        true
    }

    /// Does what a firmware call asks for that has more than an answer.
    fn call(&mut self) -> Step {
        match self.action() {
            // Only now: the other vCPUs have changed meanwhile.
            Action::Answer(_) | Action::AnswerFour(_) => {
                self.answer();
                Step::Resume
            }
            Action::CpuOn {
                affinity,
                entry,
                context,
            } => Step::Leave(Exit::CpuUp {
                target_cpu: affinity,
                entry_point: GuestPhysAddr::from_usize(entry as usize),
                arg: context,
            }),
            Action::CpuOff => Step::Leave(Exit::CpuDown { state: 0 }),
            Action::Standby => {
                self.frame.set(0, psci::SUCCESS);
                self.wait()
            }
            Action::PowerDown { entry, context } => self.power_down(entry, context),
            Action::System(request) => Step::Leave(Exit::SystemDown { request }),
            Action::Forward { function, argument } => {
                self.frame.set(0, firmware_call(function, argument) as u64);
                self.count(ExitKind::Firmware)
            }
            Action::Hypercall(nr) => Step::Leave(Exit::Hypercall {
                nr,
                args: [1, 2, 3, 4, 5, 6].map(|reg| self.frame.get(reg)),
            }),
        }
    }

    /// Loses all registers, waits for an interrupt and goes on at `entry`.
    fn power_down(&mut self, entry: u64, context: u64) -> Step {
        let entry = GuestPhysAddr::from_usize(entry as usize);
        if !self.machine.ram.contains(entry, 4) {
            self.frame.set(0, psci::INVALID_ADDRESS);
            return self.count(ExitKind::Firmware);
        }
        let step = self.wait();
        self.start_at(entry, context);
        step
    }

    /// Handles a data abort that its syndrome describes, if this is one.
    fn finish_abort(&mut self, abort: DataAbort) -> bool {
        self.access_pc = self.frame.pc;
        match abort.detail {
            AbortDetail::Register(register) => {
                self.frame.skip();
                self.access(abort.address, abort.is_write, register);
            }
            AbortDetail::CacheMaintenance => self.frame.skip(),
            AbortDetail::Instruction | AbortDetail::Walk | AbortDetail::Refused => return false,
        }
        true
    }

    fn refuse(&mut self, is_write: bool, refused: Refused) -> Step {
        self.throw(Exception::DataAbort { is_write, refused }, self.access_far);
        self.count(ExitKind::PageFault)
    }

    /// Finds out which of the guest's own tables is not in RAM.
    fn failing_walk(&self) -> Refused {
        let tables = Tables {
            tcr: TCR_EL12.get(),
            ttbr0: TTBR0_EL12.get(),
            ttbr1: TTBR1_EL12.get(),
        };
        let read = |at: u64| {
            let mut bytes = [0; 8];
            let at = GuestPhysAddr::from_usize(at as usize);
            self.machine.ram.read(at, &mut bytes).ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        Refused::Walk(tables.failing_level(self.access_far, read))
    }

    /// Accesses one register of the machine.
    #[inline]
    fn access(&mut self, addr: GuestPhysAddr, is_write: bool, register: RegisterAccess) {
        if let Some(at) = self.machine.gic.frame_at(addr) {
            return match is_write {
                true => self.write_gic(at, register),
                false => self.read_gic(at, register),
            };
        }
        let RegisterAccess {
            width,
            reg,
            reg_width,
            is_signed,
        } = register;
        if is_write {
            let data = self.get_gpr(reg) & width_mask(width);
            return self.access_device(Exit::MmioWrite { addr, width, data });
        }
        self.access_device(Exit::MmioRead {
            addr,
            width,
            reg,
            reg_width,
            signed_ext: is_signed,
        });
    }

    /// Accesses a device.
    // Always inlined, as what it calls: the exit is never in memory.
    #[inline(always)]
    fn access_device(&mut self, exit: Exit) {
        // A device that interrupts this vCPU need not send an interrupt for it.
        self.step_out();
        self.control.stats().trace(exit.trace(self.access_pc));
        access::finish(self, exit);
    }

    // Neither of these two is inlined, as every access of a device would pay for
    // their registers.
    #[inline(never)]
    fn read_gic(&mut self, at: (Frame, u64), register: RegisterAccess) {
        self.give_up_lists();
        let (value, is_stale) = self.machine.gic.read(self.id, at, register.width);
        self.interrupts.is_stale |= is_stale;
        self.set_gpr(register.reg, register.extend(value));
        self.control.stats().count(ExitKind::Mmio);
    }

    #[inline(never)]
    fn write_gic(&mut self, at: (Frame, u64), register: RegisterAccess) {
        self.give_up_lists();
        let value = self.get_gpr(register.reg) & width_mask(register.width);
        let data = (register.width, value);
        self.interrupts.is_stale |= self.machine.gic.write(self.id, at, data);
        self.control.stats().count(ExitKind::Mmio);
    }

    /// Looks at the instruction of an access that the syndrome does not describe.
    fn begin_transfer(&mut self, abort: DataAbort) -> Step {
        let Some(access) = self.instruction().and_then(insn::decode) else {
            return self.refuse(abort.is_write, Refused::Access);
        };
        let is_first = access
            .address
            .is_none_or(|at| self.base(at).wrapping_add_signed(at.offset) == self.access_far);
        if !is_first || access.is_store != abort.is_write {
            return self.refuse(abort.is_write, Refused::Access);
        }
        self.transfer = Some(Transfer {
            access,
            next: 0,
            address: abort.address,
        });
        Step::Resume
    }

    /// Reads the instruction at the program counter, if it is in RAM.
    fn instruction(&self) -> Option<u32> {
        let pc = self.frame.pc;
        let par = LocalRegisterCopy::<u64, PAR::Register>::new(translate_read(pc));
        if par.is_set(PAR::F) {
            return None;
        }
        let address = par.read(PAR::PA) << 12 | pc & 0xfff;
        let mut bytes = [0; 4];
        let address = GuestPhysAddr::from_usize(address as usize);
        self.machine.ram.read(address, &mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    /// Does the accesses of a transfer, until one is refused or all are done.
    #[cold]
    pub(crate) fn finish_transfer(&mut self) {
        while let Some(transfer) = &mut self.transfer {
            let access = transfer.access;
            let Some(element) = access.element(transfer.next) else {
                return self.end_transfer();
            };
            transfer.next = transfer.next.saturating_add(1);
            let start = transfer.address.as_usize();
            let address = start.wrapping_add(element.offset as usize);
            let register = RegisterAccess {
                width: access.width,
                reg: element.reg,
                reg_width: access.reg_width,
                is_signed: access.is_signed,
            };
            let address = GuestPhysAddr::from_usize(address);
            self.access(address, access.is_store, register);
        }
    }

    fn end_transfer(&mut self) {
        let Some(transfer) = self.transfer.take() else {
            return;
        };
        let pc = self.frame.pc;
        self.frame.skip();
        self.end_step(pc);
        if let Some(write_back) = transfer.access.write_back {
            let value = self.base(write_back).wrapping_add_signed(write_back.offset);
            self.set_base(write_back, value);
        }
    }

    fn base(&self, at: WriteBack) -> u64 {
        match at.base {
            31 if self.uses_own_stack() => SP_EL1.get(),
            31 => SP_EL0.get(),
            reg => self.frame.get(reg),
        }
    }

    fn set_base(&mut self, at: WriteBack, value: u64) {
        match at.base {
            31 if self.uses_own_stack() => SP_EL1.set(value),
            31 => SP_EL0.set(value),
            reg => self.frame.set(reg, value),
        }
    }

    /// Tells whether the guest's stack pointer is EL1's own.
    fn uses_own_stack(&self) -> bool {
        let pstate = LocalRegisterCopy::<u64, SPSR::Register>::new(self.frame.pstate);
        pstate.matches_all(SPSR::M::El1h)
    }
}

/// Returns the bits of a value of this width.
fn width_mask(width: AccessWidth) -> u64 {
    let bits = (width.size() as u32).saturating_mul(8);
    u64::MAX.wrapping_shr(64_u32.saturating_sub(bits))
}

/// Returns what CPU_ON answers.
pub(crate) fn cpu_on_status(status: CpuUpStatus) -> u64 {
    match status {
        CpuUpStatus::Started => psci::SUCCESS,
        CpuUpStatus::NoSuchCpu => psci::INVALID_PARAMETERS,
        CpuUpStatus::AlreadyOn => psci::ALREADY_ON,
        CpuUpStatus::Pending => psci::ON_PENDING,
        CpuUpStatus::BadEntry => psci::INVALID_ADDRESS,
    }
}
