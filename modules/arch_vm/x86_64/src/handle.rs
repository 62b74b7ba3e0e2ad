// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is done about each exit.
//!
//! Called by `vcpu`'s loop with interrupts closed. Everything ends here but
//! waiting, power, and what the host has of its own; devices are reached through
//! the bus without leaving.
//!
//! Spec: AMD64 APM 3, each instruction; APM 2, "Exceptions and Interrupts".

use axvm::{AxVCpuExitReason as Leave, AxVMHal, ExitKind, Port};

use crate::{
    backend::{Backend, NmiWatch},
    cpuid::Dynamic,
    debug::DR6_STEP,
    exit::{Exception, Exit, MemoryAccess, PortAccess},
    frame::{RAX, RBX, RCX, RDI, RDX, RSI, Reg, mask},
    msr,
    regs::{self, CR0, CR4, EFER, Leaf, Msr, RFLAGS, bits},
    vcpu::VCpu,
};

/// What follows of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The guest goes on.
    Resume,
    /// Somebody else has to look.
    Leave(Leave),
}

/// The call that axvm answers; all others are unknown to it.
pub(crate) const CALL_VERSION: u64 = 0;
const CALL_UNKNOWN: u64 = u64::MAX;
pub(crate) const LENGTH_CPUID: u8 = 2;
pub(crate) const LENGTH_MSR: u8 = 2;
const LENGTH_HLT: u8 = 1;
pub(crate) const LENGTH_CALL: u8 = 3;
const LENGTH_XSETBV: u8 = 3;
const LENGTH_INT1: u8 = 1;

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Handles an exit.
    #[inline]
    pub(crate) fn handle(&mut self, exit: Exit) -> Step {
        match exit {
            Exit::ReadMsr => self.read_msr(),
            Exit::WriteMsr => self.write_msr(),
            Exit::Port(access) => self.port(access),
            Exit::Memory(access) => self.memory(access),
            Exit::Cpuid => self.answer_cpuid(),
            Exit::Hypercall => self.hypercall(),
            Exit::Answered => {
                self.arm_timer();
                Step::Resume
            }
            Exit::Host => Step::Leave(Leave::ExternalInterrupt { vector: 0 }),
            Exit::Window => {
                self.interrupts.is_stale = true;
                self.count(ExitKind::Interrupt)
            }
            Exit::Halt => self.halt(),
            rare => self.handle_rare(rare),
        }
    }

    #[cold]
    fn handle_rare(&mut self, exit: Exit) -> Step {
        match exit {
            Exit::NmiEnds => {
                self.backend.watch_nmi_end(NmiWatch::Off);
                self.interrupts.nmi_ends();
                Step::Resume
            }
            Exit::NmiReturns => self.nmi_returns(),
            Exit::TaskPriority => self.write_task_priority(),
            Exit::WriteCr4 => self.write_cr4(),
            Exit::EndOfLevel(vector) => self.level_ends(vector),
            Exit::ApicWritten(offset) => self.apic_written(offset),
            Exit::SetXcr => self.set_xcr(),
            Exit::Skip(length) => self.done(length, ExitKind::Other),
            Exit::Undefined => self.fault(Exception::UNDEFINED),
            Exit::Protection => self.fault(Exception::PROTECTION),
            Exit::NoTask(selector) => self.deliver_again(Exception::of_selector(selector)),
            Exit::DebugRegister => {
                self.load_breakpoints();
                self.count(ExitKind::Other)
            }
            Exit::Int1 => {
                self.backend.skip(LENGTH_INT1);
                self.deliver_again(Exception::DEBUG)
            }
            Exit::Exception(Exception::DEBUG) if self.has_stepped_out() => Step::Resume,
            Exit::Exception(exception) => self.deliver_again(exception),
            Exit::Shutdown => Step::Leave(Leave::TripleFault),
            Exit::Failed(code) => Step::Leave(Leave::FailEntry {
                hardware_entry_failure_reason: code,
            }),
            Exit::Unknown(code, detail) => Step::Leave(Leave::Unhandled { code, detail }),
            _ => Step::Resume,
        }
    }

    #[inline]
    pub(crate) fn count(&self, kind: ExitKind) -> Step {
        self.control.stats().count(kind);
        Step::Resume
    }

    /// Gives the guest an exception instead of the instruction.
    pub(crate) fn fault(&mut self, exception: Exception) -> Step {
        self.throw(exception);
        self.count(ExitKind::Other)
    }

    /// Gives the guest an exception that delivering an event may have raised, and so
    /// may again before it executes anything: the host's interrupts come between.
    pub(crate) fn deliver_again(&mut self, exception: Exception) -> Step {
        self.fault(exception);
        Step::Leave(Leave::Nothing)
    }

    /// Tells whether the guest steps through its code.
    pub(crate) fn is_stepped(&self) -> bool {
        bits::<RFLAGS::Register>(self.backend.rflags()).is_set(RFLAGS::TRAP)
    }

    /// Tells whether the flags ask something of an instruction that is done: a trap,
    /// or that breakpoints count again.
    #[inline]
    pub(crate) fn is_debugged(&self) -> bool {
        let debugged = RFLAGS::TRAP::SET.value | RFLAGS::RESUME::SET.value;
        self.backend.rflags() & debugged != 0
    }

    /// Goes on behind an instruction of this length of a guest that is not debugged.
    #[inline]
    pub(crate) fn pass(&mut self, length: u8, kind: ExitKind) {
        self.backend.skip(length);
        self.count(kind);
    }

    /// Goes on behind an instruction of this length.
    #[inline]
    pub(crate) fn done(&mut self, length: u8, kind: ExitKind) -> Step {
        self.backend.skip(length);
        self.step_done();
        self.count(kind)
    }

    /// Goes on at an address, behind an instruction.
    #[inline]
    pub(crate) fn done_at(&mut self, next: u64, kind: ExitKind) -> Step {
        self.backend.go_on_at(next);
        self.step_done();
        self.count(kind)
    }

    /// Does what the flags ask of an emulated instruction.
    #[inline]
    fn step_done(&mut self) {
        if self.is_debugged() {
            self.end_debugged();
        }
    }

    #[cold]
    #[inline(never)]
    fn end_debugged(&mut self) {
        let flags = self.backend.rflags() & !RFLAGS::RESUME::SET.value;
        self.backend.set_rflags(flags);
        if self.is_stepped() {
            self.trap_step();
        }
    }

    /// Lets a guest that steps through its code see that something is done.
    #[cold]
    #[inline(never)]
    pub(crate) fn trap_step(&mut self) {
        let dr6 = self.backend.dr6() | DR6_STEP;
        self.backend.set_dr6(dr6);
        self.throw(Exception::DEBUG);
    }

    /// Returns what CPUID says to this vCPU now.
    #[inline]
    pub(crate) fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        match self.machine.cpuid.frozen(leaf) {
            Some(frozen) => *frozen,
            None => self.own_cpuid(leaf, subleaf),
        }
    }

    /// Returns a leaf that depends on this vCPU or on the subleaf.
    #[inline(never)]
    fn own_cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        let cr4 = bits::<CR4::Register>(self.backend.cr4());
        let dynamic = Dynamic {
            id: self.id,
            has_apic: self.has_apic(),
            uses_xsave: cr4.is_set(CR4::OSXSAVE),
            xcr0: self.extended.xcr0(),
        };
        self.machine.cpuid.get(leaf, subleaf, &dynamic)
    }

    #[inline]
    fn answer_cpuid(&mut self) -> Step {
        self.fill_cpuid();
        self.done(LENGTH_CPUID, ExitKind::SysReg)
    }

    /// Puts what CPUID says into its registers.
    #[inline]
    pub(crate) fn fill_cpuid(&mut self) {
        let [eax, ebx, ecx, edx] = self.cpuid(self.frame.get_32(RAX), self.frame.get_32(RCX));
        for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
            self.frame.set(register, value.into());
        }
    }

    /// Returns which call the guest makes.
    pub(crate) fn call_number(&self) -> u64 {
        self.frame.get(RAX)
    }

    #[inline]
    fn hypercall(&mut self) -> Step {
        let call = self.call_number();
        self.backend.skip(LENGTH_CALL);
        self.step_done();
        if call == CALL_VERSION {
            self.awaits_answer = true;
            return Step::Leave(Leave::Hypercall {
                nr: call,
                args: [RBX, RCX, RDX, RSI, RDI, RAX].map(|register| self.frame.get(register)),
            });
        }
        self.refuse_call();
        self.count(ExitKind::Hypercall)
    }

    /// Answers a call that there is not.
    #[inline]
    pub(crate) fn refuse_call(&mut self) {
        self.frame.set(RAX, CALL_UNKNOWN);
    }

    /// Takes the result of a call that left; a startup has none.
    pub(crate) fn answer(&mut self, value: u64) {
        if core::mem::take(&mut self.awaits_answer) {
            self.frame.set(RAX, value);
        }
    }

    fn halt(&mut self) -> Step {
        self.backend.skip(LENGTH_HLT);
        self.step_done();
        // The trap of a step ends it at once.
        self.interrupts.is_halted = !self.backend.has_event();
        self.interrupts.is_stale = true;
        self.count(ExitKind::Halt)
    }

    fn set_xcr(&mut self) -> Step {
        let value = self.edx_eax();
        let is_allowed = self.frame.get_32(RCX) == 0 && self.backend.cpl() == 0;
        let taken = is_allowed.then(|| self.extended.set_xcr0(value)).flatten();
        match taken {
            Some(()) => self.done(LENGTH_XSETBV, ExitKind::SysReg),
            None => self.fault(Exception::PROTECTION),
        }
    }

    pub(crate) fn edx_eax(&self) -> u64 {
        let (high, low) = (self.frame.get_32(RDX), self.frame.get_32(RAX));
        u64::from(high) << 32 | u64::from(low)
    }

    #[inline]
    fn read_msr(&mut self) -> Step {
        let msr = Msr(self.frame.get_32(RCX));
        match self.msr(msr) {
            Some(value) => {
                self.frame.set(RAX, value & 0xffff_ffff);
                self.frame.set(RDX, value >> 32);
                self.done(LENGTH_MSR, ExitKind::SysReg)
            }
            None => self.fault(Exception::PROTECTION),
        }
    }

    #[inline]
    fn write_msr(&mut self) -> Step {
        let msr = Msr(self.frame.get_32(RCX));
        match self.set_msr(msr, self.edx_eax()) {
            Some(()) => self.done(LENGTH_MSR, ExitKind::SysReg),
            None => self.fault(Exception::PROTECTION),
        }
    }

    fn msr(&mut self, msr: Msr) -> Option<u64> {
        match msr {
            _ if Self::is_apic_msr(msr) => self.read_apic_msr(msr),
            Msr::TSC => Some(self.tsc()),
            Msr::EFER => Some(self.backend.efer()),
            Msr::PAT => Some(self.backend.pat()),
            Msr::TSC_AUX if self.machine.cpuid.has_tsc_aux() => Some(self.msrs.tsc_aux),
            Msr::PV_SYSTEM_TIME => Some(self.clocks.system_time),
            Msr::PV_WALL_CLOCK => Some(self.clocks.wall_clock),
            _ => self.msrs.read(msr),
        }
    }

    pub(crate) fn set_msr(&mut self, msr: Msr, value: u64) -> Option<()> {
        match msr {
            _ if Self::is_apic_msr(msr) => self.write_apic_msr(msr, value)?,
            Msr::TSC => {
                self.tsc_offset = value.wrapping_sub(regs::tsc());
                self.backend.set_tsc_offset(self.tsc_offset);
                self.counter_was_set();
                self.tell_system_time();
            }
            Msr::EFER => self.set_efer(value)?,
            Msr::PAT if msr::is_page_attributes(value) => self.backend.set_pat(value),
            Msr::PAT => return None,
            Msr::TSC_AUX if self.machine.cpuid.has_tsc_aux() => {
                self.msrs.tsc_aux = u64::from(u32::try_from(value).ok()?);
                regs::write_msr(Msr::TSC_AUX, self.msrs.tsc_aux);
            }
            Msr::PV_SYSTEM_TIME => self.set_system_time(value)?,
            Msr::PV_WALL_CLOCK => self.set_wall_clock(value)?,
            _ => self.msrs.write(msr, value)?,
        }
        Some(())
    }

    /// Writes EFER: long mode cannot be switched while paging is on.
    fn set_efer(&mut self, value: u64) -> Option<()> {
        let old = self.backend.efer();
        let is_paged = bits::<CR0::Register>(self.backend.cr0()).is_set(CR0::PG);
        let switches = (old ^ value) & EFER::LME::SET.value != 0;
        if value & !self.machine.cpuid.rights().efer != 0 || is_paged && switches {
            return None;
        }
        let active = EFER::LMA::SET.value;
        self.backend.set_efer(value & !active | old & active);
        Some(())
    }

    #[inline]
    fn port(&mut self, access: PortAccess) -> Step {
        if access.is_string {
            return self.port_string(access);
        }
        let accumulator = Reg::new(RAX as u8);
        let PortAccess { port, width, .. } = access;
        if access.is_input {
            let value = self.read_port(port, width);
            self.frame.write(accumulator, width, value);
        } else {
            let value = self.frame.get(RAX) & mask(width);
            self.write_port(port, width, value);
        }
        self.done_at(access.next_rip, ExitKind::Port)
    }

    /// Reads a port; where nothing is, all bits are one.
    pub(crate) fn read_port(&mut self, port: u16, width: axvm::AccessWidth) -> u64 {
        self.step_outside();
        let read = self.devices.handle_port_read(Port::new(port), width);
        read.unwrap_or(u64::MAX) & mask(width)
    }

    /// Writes a port, if something is there.
    pub(crate) fn write_port(&mut self, port: u16, width: axvm::AccessWidth, value: u64) {
        self.step_outside();
        let _ = self
            .devices
            .handle_port_write(Port::new(port), width, value);
    }

    #[cold]
    fn memory(&mut self, access: MemoryAccess) -> Step {
        self.begin_emulation(access)
    }
}
