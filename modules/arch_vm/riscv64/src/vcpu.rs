// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU: a hart of the guest.
//!
//! `bind` puts its CSRs into the physical hart, `unbind` takes them back (its other
//! units follow when they are used, see `units`); in between, exits touch the
//! [`Frame`] only. `run`
//! closes interrupts and goes into the guest (see the file of that name), until an
//! exit comes that leaves the architecture. Interrupts open again when `run`
//! returns; the host takes then what ended the guest's time.
//!
//! Spec: RISC-V Privileged, "H" extension; SBI, "Hart State Management".

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use axdevice::AxVmDevices;
use axvm::{
    AxArchVCpu, AxVCpuExitReason, AxVMHal, Error, ExitKind, GuestAccess, GuestPhysAddr,
    HostPhysAddr, PCpuId, Result, VCpuControl, VCpuId,
    vmid::{Flush, VmidPool},
};
use tock_registers::interfaces::Writeable;

use crate::{
    aia::Interface,
    bank::Bank,
    entry, firmware,
    frame::{A0, A1, FloatRegisters, Frame},
    harts::{Hart, Harts},
    host::Host,
    regs::{HGATP, HSTATUS, HTIMEDELTA, SSTATUS},
    sbi::{Answer, HartSet, State, Suspend},
    settle::Place,
    stage2::Mode,
    timer::SoftTimer,
    trap::{self, Cause, Fault, TrapRegisters},
    vector::VectorRegisters,
};

/// The VMIDs of this machine.
pub(crate) static VMIDS: VmidPool = VmidPool::new();

/// The interrupt that [`AxArchVCpu::inject_interrupt`] knows: the software one.
pub(crate) const SOFTWARE_INTERRUPT: u64 = 1;
const PAGE_SHIFT: usize = 12;
const DUMPED_PER_LINE: usize = 4;
const NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4",
    "a5", "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4",
    "t5", "t6",
];

/// What a vCPU is made from.
pub struct CreateConfig<H: AxVMHal> {
    pub(crate) harts: Arc<Harts<H>>,
    pub(crate) devices: Arc<AxVmDevices>,
    pub(crate) host: &'static Host,
    pub(crate) id: VCpuId,
    pub(crate) mode: Mode,
}

/// An access that left the architecture, in case nothing answers it.
#[derive(Clone, Copy)]
pub(crate) struct Trapped {
    /// Where the instruction is.
    pub(crate) pc: u64,
    /// The guest's address.
    pub(crate) address: u64,
}

/// One hart of a guest; `entry` has its frame at the start.
#[repr(C)]
pub struct RiscvVCpu<H: AxVMHal> {
    pub(crate) frame: Frame,
    pub(crate) bank: Bank,
    pub(crate) float: FloatRegisters,
    pub(crate) vector: VectorRegisters,
    pub(crate) harts: Arc<Harts<H>>,
    /// What others see of this hart.
    pub(crate) hart: Arc<Hart<H>>,
    devices: Arc<AxVmDevices>,
    pub(crate) control: Arc<VCpuControl<H>>,
    pub(crate) id: VCpuId,
    pub(crate) host: &'static Host,
    mode: Mode,
    root: HostPhysAddr,
    /// The CPU that has its registers.
    pub(crate) bound_on: Option<PCpuId>,
    /// The CPU that had them last.
    pub(crate) came_from: Option<usize>,
    pub(crate) soft_timer: SoftTimer,
    /// What HVIP shows of the external interrupt.
    pub(crate) shows_external: bool,
    pub(crate) aia: Interface,
    /// Where its interrupt file is.
    pub(crate) place: Place,
    pub(crate) trapped: Option<Trapped>,
    pub(crate) answer: Answer,
    /// What its firmware remembers.
    pub(crate) firmware: State,
    /// What its last run ended with.
    pub(crate) left: AxVCpuExitReason,
    /// It left because it has nothing to run.
    pub(crate) is_waiting: bool,
}

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Counts an exit that ends here.
    #[inline]
    pub(crate) fn count(&self, kind: ExitKind) {
        self.control.stats().count(kind);
    }

    /// Puts the hart where firmware starts one: a0 is its id.
    pub(crate) fn start_at(&mut self, entry: GuestPhysAddr, arg: u64) {
        self.reset();
        self.frame.pc = entry.as_usize() as u64;
        self.frame.set_gpr(A0, self.id as u64);
        self.frame.set_gpr(A1, arg);
    }

    fn reset(&mut self) {
        self.frame = Frame::new();
        self.bank = Bank::new();
        self.float = FloatRegisters::new();
        self.vector.reset();
        if self.vector.is_present() {
            self.bank.status.modify(SSTATUS::VS::Initial);
        }
        self.soft_timer = SoftTimer::new();
        self.shows_external = false;
        self.aia = Interface::default();
        self.trapped = None;
        self.answer = Answer::None;
        self.firmware = firmware::state_at_start(self.host);
        self.hart.take_software();
        self.hart.is_suspended.store(false, Ordering::SeqCst);
        if self.bound_on.is_some() {
            self.load();
        }
    }

    fn load(&mut self) {
        HTIMEDELTA.set(self.harts.time.delta);
        self.bank.load(self.host.timer);
        self.units_enter();
        self.aia_enters();
        self.firmware_enters();
    }

    fn save(&mut self) {
        self.firmware_leaves();
        self.aia_leaves();
        self.bank.save(self.host.timer);
        self.units_leave();
    }

    /// Loads the VM's stage 2 under its VMID, and drops what may be remembered of
    /// another; called where the vCPU is bound.
    #[inline(never)]
    pub(crate) fn take_vmid(&self) {
        let Some(cpu) = self.bound_on else { return };
        let lease = self.harts.tlb.enter(&VMIDS, self.id, cpu.0, self.came_from);
        let page = (self.root.as_usize() >> PAGE_SHIFT) as u64;
        HGATP.write(self.mode.field() + HGATP::VMID.val(lease.vmid) + HGATP::PPN.val(page));
        match lease.flush {
            Flush::None => {}
            Flush::OwnTables => entry::fence_tables(),
            Flush::Everything => entry::fence_all_guests(),
        }
    }

    /// Changes CSRs, wherever they are.
    fn with_bank<T>(&mut self, change: impl FnOnce(&mut Self) -> T) -> T {
        let is_bound = self.bound_on.is_some();
        if is_bound {
            self.bank.save(self.host.timer);
        }
        let result = change(self);
        if is_bound {
            self.bank.load(self.host.timer);
        }
        result
    }

    /// Lets the guest take an exception where it is.
    pub(crate) fn inject(&mut self, fault: Fault) {
        self.with_bank(|vcpu| {
            let mut registers = TrapRegisters {
                status: vcpu.bank.status,
                vector: vcpu.bank.vector,
                pc: vcpu.frame.pc,
                exception_pc: 0,
                cause: 0,
                value: 0,
            };
            let mode = vcpu.frame.sstatus.read(SSTATUS::SPP);
            trap::deliver(&mut registers, fault, mode);
            vcpu.bank.status = registers.status;
            vcpu.bank.exception_pc = registers.exception_pc;
            vcpu.bank.cause = registers.cause;
            vcpu.bank.value = registers.value;
            vcpu.frame.pc = registers.pc;
        });
        self.frame.sstatus.modify(SSTATUS::SPP::Supervisor);
    }

    /// Puts the hart to sleep; it wakes by an interrupt that it enabled.
    pub(crate) fn suspend(&mut self, suspend: Suspend) {
        match suspend {
            Suspend::Retentive => {
                self.frame.set_gpr(A0, 0);
                self.frame.set_gpr(A1, 0);
            }
            Suspend::NonRetentive { resume, opaque } => self.sleep_anew(resume, opaque),
        }
        self.hart.is_suspended.store(true, Ordering::SeqCst);
    }

    /// Lets the hart wake as if started, but with its interrupts and timer kept.
    fn sleep_anew(&mut self, resume: GuestPhysAddr, opaque: u64) {
        self.with_bank(|vcpu| {
            vcpu.bank.status.modify(SSTATUS::SIE::CLEAR);
            vcpu.bank.address_translation = 0;
        });
        self.frame.pc = resume.as_usize() as u64;
        self.frame.set_gpr(A0, self.id as u64);
        self.frame.set_gpr(A1, opaque);
        self.frame.sstatus.modify(SSTATUS::SPP::Supervisor);
    }
}

impl<H: AxVMHal> AxArchVCpu for RiscvVCpu<H> {
    type CreateConfig = CreateConfig<H>;
    type SetupConfig = ();

    fn new(config: CreateConfig<H>) -> Result<Self> {
        const { assert!(core::mem::offset_of!(Self, frame) == 0) };
        let hart = config.harts.get(config.id);
        let hart = hart.ok_or(Error::NoSuchVCpu(config.id))?.clone();
        Ok(Self {
            frame: Frame::new(),
            bank: Bank::new(),
            float: FloatRegisters::new(),
            vector: VectorRegisters::new(config.host.vector_bytes),
            harts: config.harts,
            devices: config.devices,
            control: hart.control.clone(),
            hart,
            id: config.id,
            host: config.host,
            mode: config.mode,
            root: HostPhysAddr::from_usize(0),
            bound_on: None,
            came_from: None,
            soft_timer: SoftTimer::new(),
            shows_external: false,
            aia: Interface::default(),
            place: Place::default(),
            trapped: None,
            answer: Answer::None,
            firmware: firmware::state_at_start(config.host),
            left: AxVCpuExitReason::Nothing,
            is_waiting: false,
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
        self.reset();
        Ok(())
    }

    fn devices(&self) -> &AxVmDevices {
        &self.devices
    }

    fn run(&mut self) -> Result<AxVCpuExitReason> {
        if self.place.is_wrong() {
            self.settle();
        }
        // QEMU 7.2 fetches for the hypervisor by loads, which may not read from a page
        // that can only be executed but with this; to fetches it makes no difference.
        SSTATUS.set_bits(SSTATUS::MXR::SET.value);
        let were_open = entry::close_interrupts();
        let exit = self.run_closed();
        self.is_waiting = exit.as_ref().is_ok_and(firmware::waits_after);
        // The host's own trap returns do not restore SPV: one that was taken
        // before this thread ran would return into the guest.
        HSTATUS.clear_bits(HSTATUS::SPV::SET.value);
        entry::restore_interrupts(were_open);
        exit
    }

    fn bind(&mut self) -> Result<()> {
        let cpu = self.harts.pcpu();
        self.bound_on = Some(cpu);
        self.take_vmid();
        if self.came_from != Some(cpu.0) {
            entry::fence_instructions();
        }
        self.load();
        self.came_from = Some(cpu.0);
        Ok(())
    }

    fn unbind(&mut self) -> Result<()> {
        self.save();
        self.bound_on = None;
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, value: u64) {
        self.frame.set_gpr(reg, value);
    }

    fn inject_interrupt(&mut self, vector: u64) -> Result<()> {
        match vector {
            SOFTWARE_INTERRUPT => {
                self.harts.send_ipi(HartSet::only(self.id));
                Ok(())
            }
            _ => Err(Error::Unsupported(
                "only software interrupts are a vCPU's own",
            )),
        }
    }

    fn set_return_value(&mut self, value: u64) {
        match core::mem::replace(&mut self.answer, Answer::None) {
            Answer::None => {}
            Answer::Legacy => self.frame.set_gpr(A0, value),
            Answer::Error => {
                self.frame.set_gpr(A0, value);
                self.frame.set_gpr(A1, 0);
            }
            Answer::Value => {
                self.frame.set_gpr(A0, 0);
                self.frame.set_gpr(A1, value);
            }
        }
    }

    fn refuse_access(&mut self, access: GuestAccess) {
        let Some(trapped) = self.trapped.take() else {
            return;
        };
        let cause = match access {
            GuestAccess::Fetch(_) => Cause::FetchAccessFault,
            GuestAccess::Write(_) | GuestAccess::PortWrite => Cause::StoreAccessFault,
            GuestAccess::Read(_) | GuestAccess::PortRead | GuestAccess::SysReg => {
                Cause::LoadAccessFault
            }
        };
        self.frame.pc = trapped.pc;
        let value = trapped.address;
        self.inject(Fault { cause, value });
    }

    fn guest_pc(&self) -> u64 {
        self.frame.pc
    }

    fn next_timer_ns(&self) -> Option<u64> {
        self.timer_deadline_ns()
    }

    fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        writeln!(out, "pc    {:#018x}", self.frame.pc)?;
        for (number, name) in NAMES.iter().enumerate().skip(1) {
            let end = if number % DUMPED_PER_LINE == 0 {
                "\n"
            } else {
                "  "
            };
            write!(out, "{name:<5} {:#018x}{end}", self.frame.gpr(number))?;
        }
        writeln!(out)?;
        let mut bank = self.bank.clone();
        if self.bound_on.is_some() {
            bank.look();
        }
        bank.dump(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        regs::{HVIP, VSIE, VSTIMECMP},
        testing::{machine, with_bound_vcpu},
    };
    use axdevice::IrqSink;
    use axvm::{ArchVm, Request};
    use tock_registers::interfaces::Readable;

    const EXTERNAL: u64 = 1 << 10;
    const SOFTWARE: u64 = 1 << 2;

    #[test]
    fn a_vcpu_takes_its_csrs_with_it() {
        with_bound_vcpu(0, |vcpu| {
            assert_eq!(HGATP.read(HGATP::MODE), 8);
            assert_eq!(
                HGATP.read(HGATP::PPN) << PAGE_SHIFT,
                vcpu.root.as_usize() as u64
            );
            VSIE.set(0x20);
            VSTIMECMP.set(99);
            vcpu.unbind().unwrap();
            assert_eq!(VSIE.get(), 0);
            VSTIMECMP.set(1);
            vcpu.bind().unwrap();
            assert_eq!((VSIE.get(), VSTIMECMP.get()), (0x20, 99));
        });
    }

    #[test]
    fn interrupts_are_shown_as_they_come_and_go() {
        with_bound_vcpu(0, |vcpu| {
            vcpu.harts.with_plic(None, |plic| {
                plic.write(4 * 10, 1);
                plic.write(0x2080, 1 << 10);
            });
            vcpu.harts.set_level(10, true);
            vcpu.harts.send_ipi(HartSet::only(0));
            vcpu.show_pending();
            assert_eq!(HVIP.get(), EXTERNAL | SOFTWARE);
            // The guest clears its own software interrupt, and it stays clear; the
            // other one is pending until it is claimed.
            HVIP.set(EXTERNAL);
            vcpu.harts.set_level(10, false);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), EXTERNAL);
            vcpu.harts.with_plic(None, |plic| plic.read(0x20_1004));
            vcpu.show_pending();
            assert_eq!(HVIP.get(), 0);
        });
    }

    #[test]
    fn a_sleeping_guest_wakes_by_the_timer_that_it_enabled() {
        with_bound_vcpu(0, |vcpu| {
            VSTIMECMP.set(50);
            assert_eq!(vcpu.next_timer_ns(), None);
            VSIE.set(1 << 5);
            assert_eq!(vcpu.next_timer_ns(), Some(5_000));
            vcpu.unbind().unwrap();
            assert_eq!(vcpu.next_timer_ns(), Some(5_000));
        });
    }

    #[test]
    fn a_request_ends_a_run_before_the_guest() {
        with_bound_vcpu(0, |vcpu| {
            let control = vcpu.hart.control.clone();
            control.request(Request::Event);
            control.request(Request::Look);
            assert_eq!(vcpu.run(), Ok(AxVCpuExitReason::Nothing));
            assert!(control.has_request());
        });
    }

    #[test]
    fn a_started_hart_has_its_id_and_nothing_else() {
        let vm = machine();
        vm.with_machine(|machine| {
            machine.vcpus()[1].bind().unwrap();
            machine.vcpus()[1].with_arch(|vcpu| {
                vcpu.frame.set_gpr(5, 5);
                VSIE.set(u64::MAX);
                let entry = GuestPhysAddr::from_usize(0x8000_4000);
                machine.arch().start_vcpu(vcpu, entry, 7).unwrap();
                let registers = [A0, A1, 5].map(|register| vcpu.frame.gpr(register));
                assert_eq!((vcpu.frame.pc, registers), (0x8000_4000, [1, 7, 0]));
                assert_eq!(VSIE.get(), 0);
            });
        });
    }

    #[test]
    fn the_boot_hart_finds_the_device_tree() {
        use axdevice::GuestMemory;
        let vm = machine();
        vm.with_machine(|machine| {
            let (pc, tree) =
                machine.vcpus()[0].with_arch(|vcpu| (vcpu.frame.pc, vcpu.frame.gpr(A1)));
            assert_eq!(pc, 0x8020_0000);
            let mut magic = [0; 4];
            let at = GuestPhysAddr::from_usize(tree as usize);
            machine.ram().read(at, &mut magic).unwrap();
            assert_eq!(u32::from_be_bytes(magic), 0xd00d_feed);
        });
    }
}
