// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU: a CPU of the guest.
//!
//! `bind` puts its system registers into the physical CPU and `unbind` takes them
//! back; in between, exits touch the [`TrapFrame`] only. `run` closes interrupts,
//! shows the guest what is pending, enters it, and lets `handle` finish what need
//! not leave the architecture. The guest's timers and list registers interrupt from
//! `run`'s start to its end only, so that the host never meets those. Interrupts open again
//! when `run` returns; the host takes then what ended the guest's time.
//!
//! Spec: Arm Architecture Reference Manual, "The AArch64 System Level
//! Programmers' Model"; Arm PSCI, "CPU_ON"; Linux, "Booting AArch64 Linux".

use alloc::sync::Arc;
use core::mem::offset_of;

use axdevice::AxVmDevices;
use axvm::{
    AxArchVCpu, AxVCpuExitReason as Exit, AxVMHal, Error, GuestAccess, GuestPhysAddr, HostPhysAddr,
    PCpuId, Request, Result, VCpuControl, VCpuId,
    vmid::{Flush, VmidPool},
};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use crate::{
    debug::DebugRegisters,
    entry,
    exit::{Exception, Interrupted, Refused},
    frame::{FloatRegisters, TrapFrame},
    handle::Step,
    insn::{LoadStore, SIMD_FIRST},
    interrupts::Interrupts,
    irqchip::affinity_of_vcpu,
    machine::Machine,
    regs::{
        CNTFRQ_EL0, CNTP_CTL_EL02, CNTP_CVAL_EL02, CNTPCT_EL0, CNTV_CTL_EL02, CNTV_CVAL_EL02,
        CNTVOFF_EL2, CPTR, CPTR_EL2, ELR_EL12, ESR_EL12, FAR_EL12, GuestSystemRegisters, HCR,
        HCR_EL2, ID_AA64MMFR1_EL1, MIDR_EL1, MMFR1, MPIDR, PointerKeys, SCTLR_EL12, SPSR,
        SPSR_EL12, VBAR_EL12, VMPIDR, VPIDR, VTCR, VTCR_EL2, VTTBR, VTTBR_EL2, flush_all_guests,
        flush_vmid, invalidate_instructions, synchronize,
    },
    stolen::Account,
    timer::{self, Now, Timer},
    vectors::VectorRegisters,
};

/// The VMIDs of this machine.
pub(crate) static VMIDS: VmidPool = VmidPool::new();

/// SCTLR_EL1 at reset: the bits that are one in Armv8.0, all else off.
const SCTLR_AT_RESET: u64 = 0x30d0_0800;
const DUMPED_PER_LINE: usize = 4;

/// What a vCPU is made from.
pub struct CreateConfig<H: AxVMHal> {
    pub(crate) machine: Arc<Machine<H>>,
    pub(crate) devices: Arc<AxVmDevices>,
    pub(crate) id: VCpuId,
}

/// An access whose instruction had to be decoded, element by element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) access: LoadStore,
    pub(crate) next: usize,
    pub(crate) address: GuestPhysAddr,
}

/// One vCPU; `entry` finds its frame at its start.
#[repr(C)]
pub struct Aarch64VCpu<H: AxVMHal> {
    pub(crate) frame: TrapFrame,
    pub(crate) machine: Arc<Machine<H>>,
    devices: Arc<AxVmDevices>,
    pub(crate) control: Arc<VCpuControl<H>>,
    pub(crate) id: VCpuId,
    registers: GuestSystemRegisters,
    keys: PointerKeys,
    float: FloatRegisters,
    is_float_loaded: bool,
    pub(crate) debug: DebugRegisters,
    /// There only if the guest may use them.
    vectors: Option<VectorRegisters>,
    /// CNTV_CTL and CNTP_CTL while the guest does not run.
    timer_controls: [u64; 2],
    pub(crate) interrupts: Interrupts,
    root: HostPhysAddr,
    pub(crate) transfer: Option<Transfer>,
    /// Where the access that was handed out was made.
    pub(crate) access_pc: u64,
    /// FAR_EL2 of the last trap.
    pub(crate) access_far: u64,
    /// What the guest takes before it goes on, and the address it is about.
    exception: Option<(Exception, u64)>,
    /// It does not count as in its guest, though it left it only for a device.
    is_outside: bool,
    deadline_ns: Option<u64>,
    stolen: Account,
    bound: Option<Bound>,
    came_from: Option<usize>,
}

/// The physical CPU that the registers are in, and what it had before.
#[derive(Clone, Copy, Debug)]
struct Bound {
    cpu: PCpuId,
    hcr: u64,
    cptr: u64,
}

impl<H: AxVMHal> Aarch64VCpu<H> {
    /// Puts the registers to where firmware starts a CPU.
    pub(crate) fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) {
        self.frame = TrapFrame::default();
        self.frame.pc = entry.as_usize() as u64;
        self.frame.pstate = start_pstate();
        self.frame.set(0, arg);
        self.registers = GuestSystemRegisters {
            sctlr: SCTLR_AT_RESET,
            ..GuestSystemRegisters::default()
        };
        self.clear_float();
        self.debug.clear();
        self.timer_controls = [0; 2];
        self.transfer = None;
        self.exception = None;
        if self.bound.is_some() {
            self.registers.load();
        }
    }

    /// Takes back what list registers hold, so that the controller's state is whole.
    pub(crate) fn give_up_lists(&mut self) {
        self.interrupts.take_back(&self.machine.gic);
    }

    /// Makes the guest take an exception before it goes on, at the instruction
    /// of the program counter.
    pub(crate) fn throw(&mut self, exception: Exception, address: u64) {
        self.transfer = None;
        self.exception = Some((exception, address));
    }

    #[cold]
    fn take_exception(&mut self) {
        let Some((exception, address)) = self.exception.take() else {
            return;
        };
        let entered = exception.enter(Interrupted {
            pstate: self.frame.pstate,
            vbar: VBAR_EL12.get(),
            sctlr: SCTLR_EL12.get(),
        });
        ESR_EL12.set(entered.esr);
        if exception != Exception::Undefined {
            FAR_EL12.set(address);
        }
        ELR_EL12.set(self.frame.pc);
        SPSR_EL12.set(self.frame.pstate);
        self.frame.pc = entered.pc;
        self.frame.pstate = entered.pstate;
    }

    /// Loads the floating-point registers, which trap until then.
    pub(crate) fn load_float(&mut self) {
        let vectors = self.vectors.as_ref().filter(|vectors| vectors.is_used());
        match vectors {
            None => CPTR_EL2.modify(CPTR::FPEN::Open),
            Some(_) => CPTR_EL2.modify(CPTR::FPEN::Open + CPTR::ZEN::Open),
        }
        synchronize();
        entry::load_float(&self.float);
        if let Some(vectors) = vectors {
            vectors.load();
        }
        self.is_float_loaded = true;
    }

    /// Loads the wide vectors, too, which trap until then, if there are any.
    pub(crate) fn load_vectors(&mut self) -> bool {
        self.store_float();
        let Some(vectors) = &mut self.vectors else {
            return false;
        };
        if !vectors.is_used() {
            CPTR_EL2.modify(CPTR::FPEN::Open + CPTR::ZEN::Open);
            synchronize();
            vectors.begin(&self.float);
        }
        self.load_float();
        true
    }

    /// Puts the floating-point registers away; they trap from now on.
    fn store_float(&mut self) {
        if !self.is_float_loaded {
            return;
        }
        entry::store_float(&mut self.float);
        if let Some(vectors) = self.vectors.as_mut().filter(|vectors| vectors.is_used()) {
            vectors.store();
        }
        self.trap_float();
    }

    fn trap_float(&mut self) {
        self.is_float_loaded = false;
        CPTR_EL2.modify(CPTR::FPEN::Trap + CPTR::ZEN::Trap);
    }

    /// Zeroes the floating-point registers and the wide vectors.
    fn clear_float(&mut self) {
        if self.is_float_loaded {
            self.trap_float();
        }
        self.float = FloatRegisters::default();
        if let Some(vectors) = &mut self.vectors {
            vectors.clear();
        }
    }

    /// Reads a register by the number that exits use.
    pub(crate) fn get_gpr(&mut self, reg: usize) -> u64 {
        match reg.checked_sub(SIMD_FIRST) {
            None => self.frame.get(reg),
            Some(half) => {
                self.store_float();
                self.float.get_half(half)
            }
        }
    }

    /// Writes half a floating-point register.
    fn set_float(&mut self, half: usize, value: u64) {
        self.store_float();
        self.float.set_half(half, value);
        let register = half >> 1;
        if let Some(vectors) = self.vectors.as_mut().filter(|vectors| vectors.is_used())
            && let Some(halves) = self.float.v.get(register)
        {
            vectors.set_low(register, *halves);
        }
    }

    /// Notes when the timers fire next, for a wait.
    pub(crate) fn note_deadline(&mut self) {
        let now = Now {
            counter: CNTPCT_EL0.get(),
            hz: CNTFRQ_EL0.get(),
            ns: self.machine.hal.current_time_nanos(),
        };
        let virtual_timer = Timer {
            control: CNTV_CTL_EL02.get(),
            compare: CNTV_CVAL_EL02.get(),
            offset: self.machine.counter_offset,
        };
        let physical_timer = Timer {
            control: CNTP_CTL_EL02.get(),
            compare: CNTP_CVAL_EL02.get(),
            offset: 0,
        };
        let deadlines = [virtual_timer, physical_timer].map(|timer| timer.deadline_ns(now));
        self.deadline_ns = timer::earlier(deadlines[0], deadlines[1]);
    }

    /// Tells whether the guest takes an exception before it goes on.
    pub(crate) fn has_exception(&self) -> bool {
        self.exception.is_some()
    }

    /// Lets the guest's timers and list registers interrupt.
    fn open_guest(&self) {
        self.interrupts.open(&self.machine.gic);
        CNTV_CTL_EL02.set(self.timer_controls[0]);
        CNTP_CTL_EL02.set(self.timer_controls[1]);
    }

    /// Keeps the guest's timers and list registers from interrupting the host.
    fn close_guest(&mut self) {
        self.interrupts.close(&self.machine.gic);
        self.timer_controls = [CNTV_CTL_EL02.get(), CNTP_CTL_EL02.get()];
        CNTV_CTL_EL02.set(0);
        CNTP_CTL_EL02.set(0);
        synchronize();
    }

    /// Publishes that the vCPU is not in its guest for a while.
    pub(crate) fn step_out(&mut self) {
        self.control.leave_guest();
        self.is_outside = true;
    }

    /// Publishes that the vCPU is in its guest, and tells whether it may be.
    fn step_in(&mut self, cpu: PCpuId) -> bool {
        self.is_outside = false;
        self.interrupts.is_stale |= self.control.take(Request::Event);
        self.control.enter_guest(cpu)
    }

    /// Is in the guest again if it stepped out, and tells whether it may be.
    pub(crate) fn step_back(&mut self) -> bool {
        match self.bound {
            Some(bound) if self.is_outside => self.step_in(bound.cpu),
            _ => true,
        }
    }

    /// Shows the guest what is pending.
    pub(crate) fn show_interrupts(&mut self) {
        if self.interrupts.is_stale {
            self.interrupts.sync(&self.machine.gic);
        }
    }

    /// Runs the guest from one exit that leaves the architecture to the next.
    fn run_guest(&mut self, cpu: PCpuId) -> Exit {
        const { assert!(offset_of!(Self, frame) == 0, "as `entry` has it") };
        loop {
            if self.transfer.is_some() {
                self.finish_transfer();
            }
            if self.exception.is_some() {
                self.take_exception();
            }
            if !self.step_in(cpu) {
                return Exit::Nothing;
            }
            self.show_interrupts();
            // SAFETY: `bind` and `open_guest` have loaded the guest; `run` has
            // closed interrupts.
            let left = unsafe { entry::enter(self) };
            if let Step::Leave(exit) = self.handle(left) {
                return exit;
            }
        }
    }

    fn load_stage2(&mut self, cpu: PCpuId) {
        let lease = self
            .machine
            .tlb
            .enter(&VMIDS, self.id, cpu.0, self.came_from);
        let root = self.root.as_usize() as u64;
        let mut vtcr = self.machine.format.vtcr(self.machine.pa_range);
        if has_16_bit_vmids() {
            vtcr += VTCR::VS::SET;
        }
        VTCR_EL2.write(vtcr);
        VTTBR_EL2.write(VTTBR::BADDR.val(root >> 1) + VTTBR::VMID.val(lease.vmid));
        synchronize();
        match lease.flush {
            Flush::None => {}
            Flush::OwnTables => {
                flush_vmid();
                invalidate_instructions();
            }
            Flush::Everything => flush_all_guests(),
        }
        self.came_from = Some(cpu.0);
    }

    fn load_controls(&self) {
        let mut hcr = HCR::VM::SET
            + HCR::SWIO::SET
            + HCR::PTW::SET
            + HCR::FMO::SET
            + HCR::IMO::SET
            + HCR::AMO::SET
            + HCR::FB::SET
            + HCR::BSU::InnerShareable
            + HCR::TWI::SET
            + HCR::TID3::SET
            + HCR::TSC::SET
            + HCR::TIDCP::SET
            + HCR::TACR::SET
            + HCR::TLOR::SET
            + HCR::TERR::SET
            + HCR::RW::SET
            + HCR::E2H::SET;
        if self.machine.ids.has_pointer_keys() {
            hcr += HCR::APK::SET + HCR::API::SET;
        }
        HCR_EL2.write(hcr);
        CPTR_EL2.write(CPTR::FPEN::Trap + CPTR::TTA::SET + CPTR::TAM::SET);
        CNTVOFF_EL2.set(self.machine.counter_offset);
        VPIDR.set(MIDR_EL1.get());
        VMPIDR.set(MPIDR::RES1::SET.value | affinity_of_vcpu(self.id));
    }
}

/// Tells whether this CPU's VMIDs have 16 bits rather than 8.
pub(crate) fn has_16_bit_vmids() -> bool {
    ID_AA64MMFR1_EL1.matches_all(MMFR1::VMID_BITS::Bits16)
}

/// EL1 with its own stack, everything masked.
fn start_pstate() -> u64 {
    let pstate = SPSR::M::El1h + SPSR::D::SET + SPSR::A::SET + SPSR::I::SET + SPSR::F::SET;
    pstate.value
}

impl<H: AxVMHal> AxArchVCpu for Aarch64VCpu<H> {
    type CreateConfig = CreateConfig<H>;
    type SetupConfig = ();

    fn new(config: CreateConfig<H>) -> Result<Self> {
        let CreateConfig {
            machine,
            devices,
            id,
        } = config;
        let control = machine.controls.get(id).ok_or(Error::NoSuchVCpu(id))?;
        let has_vectors = machine.ids.has_vectors();
        Ok(Self {
            control: control.clone(),
            machine,
            devices,
            id,
            frame: TrapFrame::default(),
            registers: GuestSystemRegisters::default(),
            keys: PointerKeys::default(),
            float: FloatRegisters::default(),
            is_float_loaded: false,
            debug: DebugRegisters::default(),
            vectors: has_vectors.then(VectorRegisters::new),
            timer_controls: [0; 2],
            interrupts: Interrupts::new(id),
            root: HostPhysAddr::from_usize(0),
            transfer: None,
            access_pc: 0,
            access_far: 0,
            exception: None,
            is_outside: false,
            deadline_ns: None,
            stolen: Account::default(),
            bound: None,
            came_from: None,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<()> {
        self.frame.pc = entry.as_usize() as u64;
        Ok(())
    }

    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<()> {
        self.root = root;
        Ok(())
    }

    fn setup(&mut self, (): ()) -> Result<()> {
        self.start_at(GuestPhysAddr::from_usize(0), 0);
        Ok(())
    }

    fn devices(&self) -> &AxVmDevices {
        &self.devices
    }

    fn run(&mut self) -> Result<Exit> {
        let bound = self.bound.ok_or(Error::Unsupported("not bound"))?;
        let interrupts = entry::close_interrupts();
        self.open_guest();
        let exit = self.run_guest(bound.cpu);
        self.stolen.is_waiting = matches!(exit, Exit::Halt | Exit::CpuDown { .. });
        self.control.leave_guest();
        self.close_guest();
        entry::restore_interrupts(interrupts);
        Ok(exit)
    }

    fn bind(&mut self) -> Result<()> {
        let cpu = self.machine.hal.current_pcpu_id();
        self.stolen.enters(self.id, &self.machine.stolen_time);
        self.bound = Some(Bound {
            cpu,
            hcr: HCR_EL2.get(),
            cptr: CPTR_EL2.get(),
        });
        self.load_controls();
        self.load_stage2(cpu);
        self.registers.load();
        if self.machine.ids.has_pointer_keys() {
            self.keys.load();
        }
        self.debug.bind();
        self.interrupts.bind(&self.machine.gic);
        synchronize();
        Ok(())
    }

    fn unbind(&mut self) -> Result<()> {
        let Some(bound) = self.bound.take() else {
            return Ok(());
        };
        self.stolen.leaves(&self.machine.hal);
        self.interrupts.unbind(&self.machine.gic);
        self.store_float();
        self.debug.unbind();
        self.registers.store();
        if self.machine.ids.has_pointer_keys() {
            self.keys.store();
        }
        HCR_EL2.set(bound.hcr);
        CPTR_EL2.set(bound.cptr);
        synchronize();
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, value: u64) {
        match reg.checked_sub(SIMD_FIRST) {
            None => self.frame.set(reg, value),
            Some(half) => self.set_float(half, value),
        }
    }

    fn inject_interrupt(&mut self, vector: u64) -> Result<()> {
        let id = self.id;
        let gic = &self.machine.gic;
        self.interrupts.is_stale |= gic.change_as(id, |state| state.pend(id, vector as u32));
        Ok(())
    }

    fn set_return_value(&mut self, value: u64) {
        self.frame.set(0, value);
    }

    fn refuse_access(&mut self, access: GuestAccess) {
        let refused = Refused::Access;
        let data = |is_write| Exception::DataAbort { is_write, refused };
        let exception = match access {
            GuestAccess::Read(_) => data(false),
            GuestAccess::Write(_) => data(true),
            GuestAccess::Fetch(_) => Exception::FetchAbort { refused },
            GuestAccess::SysReg | GuestAccess::PortRead | GuestAccess::PortWrite => {
                Exception::Undefined
            }
        };
        self.frame.pc = self.access_pc;
        self.throw(exception, self.access_far);
    }

    fn guest_pc(&self) -> u64 {
        self.frame.pc
    }

    fn next_timer_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let TrapFrame { x, pc, pstate, .. } = &self.frame;
        writeln!(out, "pc {pc:016x} pstate {pstate:x}")?;
        for (line, registers) in x.chunks(DUMPED_PER_LINE).enumerate() {
            let first = line.saturating_mul(DUMPED_PER_LINE);
            for (reg, value) in (first..).zip(registers) {
                write!(out, " x{reg:<2} {value:016x}")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}
