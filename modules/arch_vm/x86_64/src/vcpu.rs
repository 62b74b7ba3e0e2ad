// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU: a CPU of the guest.
//!
//! `bind` brings what exits leave in the physical CPU (floating point, the
//! address space), `unbind` puts it away; the rest is in the backend's block. `run`
//! closes interrupts, shows the guest what is pending, enters it, and lets
//! `handle` finish what need not leave the architecture, devices included.
//!
//! Spec: AMD64 APM 2, "Secure Virtual Machine"; Intel SDM 3, "MP Initialization".

use alloc::sync::Arc;

use axdevice::AxVmDevices;
use axvm::{AxVCpuExitReason, AxVMHal, Error, PCpuId, Request, Result, VCpuControl, VCpuId};

use crate::{
    backend::{Backend, DebugOwner},
    chosen::CreateConfig,
    debug::Breakpoints,
    exit::{Event, Exception},
    extended::Extended,
    fetch::Recent,
    frame::{Frame, RAX, RBX, RDX, RSI, RSP},
    handle::Step,
    insn::SegmentName,
    interrupts::Interrupts,
    machine::Machine,
    msr::Msrs,
    paravirt::Clocks,
    pc::boot::BootState,
    percpu::ASIDS,
    regs::{self, CR0, Msr, bits},
};

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
const DUMPED_PER_LINE: usize = 4;
/// In DR7: a breakpoint is enabled.
const BREAKPOINTS_ON: u64 = 0xff;

/// One vCPU.
#[repr(C)]
pub(crate) struct VCpu<H: AxVMHal, B> {
    /// The world switch finds it here.
    pub(crate) frame: Frame,
    pub(crate) backend: B,
    pub(crate) machine: Arc<Machine<H>>,
    pub(crate) control: Arc<VCpuControl<H>>,
    pub(crate) devices: Arc<AxVmDevices>,
    pub(crate) id: VCpuId,
    pub(crate) msrs: Msrs,
    pub(crate) clocks: Clocks,
    pub(crate) extended: Extended<H>,
    pub(crate) interrupts: Interrupts<H>,
    /// What its counter is ahead of the host's, modulo 2^64.
    pub(crate) tsc_offset: u64,
    /// It made a call whose answer goes to RAX.
    pub(crate) awaits_answer: bool,
    /// Others see it in its guest.
    is_published: bool,
    breakpoints: Breakpoints,
    pub(crate) recent: Recent,
    bound_on: Option<PCpuId>,
    came_from: Option<usize>,
}

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Makes a vCPU.
    pub(crate) fn new(config: CreateConfig<H>, backend: B) -> Result<Self> {
        let CreateConfig {
            machine,
            devices,
            id,
            interrupts,
        } = config;
        let control = machine.controls.get(id).ok_or(Error::NoSuchVCpu(id))?;
        let (has_xsave, states) = (machine.cpuid.has_xsave(), machine.cpuid.states());
        Ok(Self {
            frame: Frame::default(),
            backend,
            control: control.clone(),
            devices,
            id,
            msrs: Msrs::new(),
            clocks: Clocks::default(),
            extended: Extended::new(&machine.hal, has_xsave, states)?,
            interrupts,
            tsc_offset: 0,
            awaits_answer: false,
            is_published: false,
            breakpoints: Breakpoints::default(),
            recent: Recent::new(),
            bound_on: None,
            came_from: None,
            machine,
        })
    }

    /// Runs the guest until it leaves the architecture.
    pub(crate) fn run(&mut self) -> Result<AxVCpuExitReason> {
        let cpu = self.bound_on.ok_or(Error::Unsupported("not bound"))?;
        let interrupts = regs::close_interrupts();
        self.serve_timer();
        let exit = self.run_guest(cpu);
        self.step_outside();
        regs::restore_interrupts(interrupts);
        Ok(exit)
    }

    /// Brings the vCPU to this CPU.
    pub(crate) fn bind(&mut self) {
        let cpu = self.machine.hal.current_pcpu_id();
        let lease = self
            .machine
            .tlb
            .enter(&ASIDS, self.id, cpu.0, self.came_from);
        self.backend.bind();
        // The host's own is 0.
        let asid = u32::try_from(lease.vmid.saturating_add(1)).unwrap_or(1);
        self.backend.set_address_space(asid, lease.flush);
        self.backend.set_tsc_offset(self.tsc_offset);
        if self.machine.cpuid.has_tsc_aux() {
            regs::write_msr(Msr::TSC_AUX, self.msrs.tsc_aux);
        }
        self.extended.load(cpu.0);
        if self.backend.dr7() & BREAKPOINTS_ON != 0 {
            self.load_breakpoints();
        }
        self.interrupts.forget_alarm();
        self.came_from = Some(cpu.0);
        self.bound_on = Some(cpu);
    }

    /// Puts it away.
    pub(crate) fn unbind(&mut self) {
        let Some(cpu) = self.bound_on.take() else {
            return;
        };
        self.extended.store(cpu.0);
        if self.breakpoints.store() {
            self.backend.give_debug(DebugOwner::Nobody);
        }
        self.backend.unbind();
    }

    /// Puts all registers to where the guest starts.
    pub(crate) fn start_at(&mut self, state: &BootState) {
        self.frame = Frame::default();
        let [signature, ..] = self.cpuid(1, 0);
        self.frame.set(RDX, signature.into());
        let given = [
            (RAX, state.rax),
            (RBX, state.rbx),
            (RSI, state.rsi),
            (RSP, state.rsp),
        ];
        for (register, value) in given {
            self.frame.set(register, value);
        }
        self.backend.start(state);
        self.breakpoints = Breakpoints::default();
        self.backend.give_debug(DebugOwner::Nobody);
        self.interrupts.restart();
    }

    /// Puts what INIT leaves alone to its state at power-on as well.
    pub(crate) fn power_on(&mut self) {
        self.msrs = Msrs::new();
        self.clocks = Clocks::default();
        self.extended.reset();
        self.tsc_offset = self.machine.time.offset;
        self.start_at(&BootState::reset());
    }

    /// Reads the counter as the guest does.
    pub(crate) fn tsc(&self) -> u64 {
        regs::tsc().wrapping_add(self.tsc_offset)
    }

    /// Makes the guest take an exception before it goes on; in real mode none has an
    /// error code.
    pub(crate) fn throw(&mut self, exception: Exception) {
        let is_protected = bits::<CR0::Register>(self.backend.cr0()).is_set(CR0::PE);
        let error = exception.error.filter(|_| is_protected);
        let exception = Exception { error, ..exception };
        self.backend.inject(Event::Exception(exception));
    }

    /// Lets the guest have the debug registers until it leaves this CPU.
    pub(crate) fn load_breakpoints(&mut self) {
        self.breakpoints.load();
        self.backend.give_debug(DebugOwner::Guest);
    }

    /// Tells others that the guest is not in its CPU, before a device may ask for it.
    pub(crate) fn step_outside(&mut self) {
        self.control.leave_guest();
        self.is_published = false;
    }

    /// Publishes that the guest is being entered, and tells whether it may be.
    ///
    /// While it stays published, whoever asks for something sends an interrupt,
    /// which waits until the entry and ends the guest's time at once.
    #[inline]
    fn may_enter(&mut self, cpu: PCpuId) -> bool {
        if self.is_published && !self.control.has_request() {
            return true;
        }
        loop {
            if self.control.take(Request::Event) {
                self.interrupts.is_stale = true;
            }
            self.is_published = true;
            if self.control.enter_guest(cpu) {
                return true;
            }
            if !self.control.has(Request::Event) {
                return false;
            }
        }
    }

    /// Runs the guest from one exit that leaves the architecture to the next.
    fn run_guest(&mut self, cpu: PCpuId) -> AxVCpuExitReason {
        loop {
            if !self.may_enter(cpu) {
                return AxVCpuExitReason::Nothing;
            }
            if self.interrupts.must_look()
                && let Step::Leave(exit) = self.show_interrupts()
            {
                return exit;
            }
            // SAFETY: `bind` has brought the vCPU to this CPU, `run` has closed
            // interrupts, and stage 2 maps the VM's RAM alone.
            let exit = unsafe { B::enter(self) };
            self.backend.resume_event();
            self.take_task_priority();
            if let Step::Leave(exit) = self.handle(exit) {
                return exit;
            }
        }
    }

    /// Returns the linear address of the next instruction.
    pub(crate) fn guest_pc(&self) -> u64 {
        let base = self.backend.segment_base(SegmentName::Cs);
        base.wrapping_add(self.backend.rip())
    }

    /// Prints the registers.
    pub(crate) fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let backend = &self.backend;
        let (rip, flags, cs) = (
            backend.rip(),
            backend.rflags(),
            backend.segment_base(SegmentName::Cs),
        );
        writeln!(
            out,
            "rip {rip:016x} rflags {flags:x} cs base {cs:x} cpl {}",
            backend.cpl()
        )?;
        let (cr0, cr3, cr4, efer) = (backend.cr0(), backend.cr3(), backend.cr4(), backend.efer());
        writeln!(out, "cr0 {cr0:x} cr3 {cr3:x} cr4 {cr4:x} efer {efer:x}")?;
        let lines = self.frame.all().chunks(DUMPED_PER_LINE);
        for (registers, names) in lines.zip(NAMES.chunks(DUMPED_PER_LINE)) {
            for (name, value) in names.iter().zip(registers) {
                write!(out, " {name:<3} {value:016x}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
