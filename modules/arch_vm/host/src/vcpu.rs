// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU: its registers, and the rules that hardware would enforce.
//!
//! Driven by axvm. The registers count as loaded into the physical CPU that
//! `bind` was called on, and running them anywhere else is refused, so that a
//! host that loses track is noticed. `run` keeps KVM's order: take the event
//! request, look at pending interrupts, publish "in guest", look again, enter.

use alloc::sync::Arc;
use core::fmt::Write;

use axdevice::AxVmDevices;
use axvm::{
    AxArchVCpu, AxVCpuExitReason, AxVMHal, Error, GuestAccess, GuestPhysAddr, HostPhysAddr, PCpuId,
    Request, Result, VCpuControl, VCpuId,
};

use crate::{
    insn::Reg,
    irqchip::IrqChip,
    phys::Frame,
    regs::{Cause, Regs},
    stage2::LEVELS,
};

/// `bind` while the registers were loaded.
const BOUND_TWICE: u64 = 0xb001;
/// `run` or `unbind` on a CPU that does not have the registers.
const BOUND_ELSEWHERE: u64 = 0xb002;
/// The save area does not hold what `unbind` put there.
const SAVE_AREA_LOST: u64 = 0xb003;

/// What a vCPU is made from.
pub struct HostVCpuConfig<H: AxVMHal> {
    pub(crate) hal: H,
    pub(crate) control: Arc<VCpuControl<H>>,
    pub(crate) chip: Arc<IrqChip<H>>,
    pub(crate) devices: Arc<AxVmDevices>,
    pub(crate) levels: usize,
}

/// A vCPU of the host profile.
pub struct HostVCpu<H: AxVMHal> {
    pub(crate) hal: H,
    pub(crate) control: Arc<VCpuControl<H>>,
    pub(crate) chip: Arc<IrqChip<H>>,
    devices: Arc<AxVmDevices>,
    pub(crate) root: HostPhysAddr,
    pub(crate) regs: Regs,
    /// Instructions finished since power-on.
    pub(crate) retired: u64,
    /// Where the registers are loaded.
    bound_to: Option<PCpuId>,
    /// Where they are kept meanwhile, as a VMCB is: its first word must come
    /// back as it was put away.
    save_area: Frame<H>,
}

impl<H: AxVMHal> HostVCpu<H> {
    /// Returns its number in its VM.
    pub(crate) fn id(&self) -> VCpuId {
        self.control.id()
    }

    /// Returns the interrupts that are pending, bit `n` for interrupt `n`.
    pub fn pending_interrupts(&self) -> u64 {
        self.chip.pending(self.id())
    }

    fn check_bound_here(&self) -> Result<PCpuId> {
        let here = self.hal.current_pcpu_id();
        match self.bound_to == Some(here) {
            true => Ok(here),
            false => Err(Error::Hardware(BOUND_ELSEWHERE)),
        }
    }
}

impl<H: AxVMHal> AxArchVCpu for HostVCpu<H> {
    type CreateConfig = HostVCpuConfig<H>;
    type SetupConfig = ();

    fn new(config: HostVCpuConfig<H>) -> Result<Self> {
        if config.levels != LEVELS {
            return Err(Error::Unsupported("stage 2 has three levels"));
        }
        let save_area = Frame::new(&config.hal).ok_or(Error::NoFrames)?;
        Ok(Self {
            hal: config.hal,
            control: config.control,
            chip: config.chip,
            devices: config.devices,
            root: HostPhysAddr::from_usize(0),
            regs: Regs::default(),
            retired: 0,
            bound_to: None,
            save_area,
        })
    }

    fn set_entry(&mut self, entry: GuestPhysAddr) -> Result<()> {
        self.regs.start_at(entry.as_usize() as u64);
        Ok(())
    }

    fn set_ept_root(&mut self, root: HostPhysAddr) -> Result<()> {
        self.root = root;
        Ok(())
    }

    fn setup(&mut self, (): ()) -> Result<()> {
        self.regs = Regs::default();
        self.retired = 0;
        Ok(())
    }

    fn devices(&self) -> &AxVmDevices {
        &self.devices
    }

    fn run(&mut self) -> Result<AxVCpuExitReason> {
        let here = self.check_bound_here()?;
        self.control.take(Request::Event);
        let exit = match self.control.enter_guest(here) {
            true => self.run_quantum(),
            false => AxVCpuExitReason::Nothing,
        };
        self.control.leave_guest();
        Ok(exit)
    }

    fn bind(&mut self) -> Result<()> {
        if self.bound_to.is_some() {
            return Err(Error::Hardware(BOUND_TWICE));
        }
        if self.save_area.get(0) != self.retired {
            return Err(Error::Hardware(SAVE_AREA_LOST));
        }
        self.bound_to = Some(self.hal.current_pcpu_id());
        Ok(())
    }

    fn unbind(&mut self) -> Result<()> {
        self.check_bound_here()?;
        self.save_area.set(0, self.retired);
        self.bound_to = None;
        Ok(())
    }

    fn set_gpr(&mut self, reg: usize, value: u64) {
        if let Ok(reg) = u8::try_from(reg) {
            self.regs.set(Reg(reg), value);
        }
    }

    fn inject_interrupt(&mut self, vector: u64) -> Result<()> {
        self.chip.inject(self.id(), vector);
        Ok(())
    }

    fn set_return_value(&mut self, value: u64) {
        self.regs.set(Reg(0), value);
    }

    fn refuse_access(&mut self, access: GuestAccess) {
        let (cause, address) = match access {
            GuestAccess::Read(address) => (Cause::Read, address.as_usize() as u64),
            GuestAccess::Write(address) => (Cause::Write, address.as_usize() as u64),
            GuestAccess::Fetch(address) => (Cause::Fetch, address.as_usize() as u64),
            GuestAccess::SysReg => (Cause::Illegal, self.regs.at),
            GuestAccess::PortRead => return self.set_return_value(u64::MAX),
            GuestAccess::PortWrite => return,
        };
        self.regs.raise(cause, address);
    }

    fn guest_pc(&self) -> u64 {
        self.regs.at
    }

    fn next_timer_ns(&self) -> Option<u64> {
        self.regs.timer_ns
    }

    fn dump(&self, out: &mut dyn Write) -> core::fmt::Result {
        let Regs { pc, at, cause, .. } = self.regs;
        writeln!(
            out,
            "pc {pc:#x} at {at:#x} cause {cause:#x} retired {}",
            self.retired
        )?;
        for (number, value) in self.regs.file().iter().enumerate() {
            writeln!(out, "r{number} {value:#x}")?;
        }
        Ok(())
    }
}
