// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's thread: run the guest, handle what comes out, until the VM ends.
//!
//! The registers are bound to a physical CPU while the thread runs and put away
//! when it is switched out or waits. Whatever takes the lock of the
//! architecture's vCPU does so with preemption off, so that the switch hooks
//! never find it taken.

use alloc::{format, string::String, sync::Arc};

use axdevice::AccessFault;
use axdevice::Lock;
use axvm_types::{AccessWidth, GuestPhysAddr, VCpuId, VMId};

use crate::{
    ArchVm, AxArchVCpu, AxVCpuExitReason as Exit, AxVCpuHal, AxVCpuRef, CpuPower, CpuUpStatus,
    Error, GuestAccess, IpiTargets, Machine, MappingFlags, Request, Result, VCpuState, VCpuTask,
    VmFault, VmOutcome, console,
    machine::{Parks, Wish},
    power::StartAt,
};

/// The version that the hypercall of number 0 answers: major in the high half.
const HYPERCALL_VERSION: u64 = 1 << 16;
/// What an unknown hypercall answers.
const HYPERCALL_UNKNOWN: u64 = u64::MAX;

/// One vCPU's thread.
pub(crate) struct VCpuThread<A: ArchVm> {
    id: (VMId, VCpuId),
    hal: A::Hal,
    /// Both go when the thread's work ends, whenever the host forgets the thread.
    parts: Lock<Option<Parts<A>>>,
}

struct Parts<A: ArchVm> {
    machine: Arc<Machine<A>>,
    vcpu: AxVCpuRef<A>,
}

impl<A: ArchVm> Clone for Parts<A> {
    fn clone(&self) -> Self {
        Self {
            machine: self.machine.clone(),
            vcpu: self.vcpu.clone(),
        }
    }
}

impl<A: ArchVm> VCpuThread<A> {
    pub(crate) fn new(machine: Arc<Machine<A>>, vcpu: AxVCpuRef<A>) -> Self {
        Self {
            id: (vcpu.control().vm_id(), vcpu.id()),
            hal: machine.hal.clone(),
            parts: Lock::new(Some(Parts { machine, vcpu })),
        }
    }
}

impl<A: ArchVm> VCpuTask for VCpuThread<A> {
    fn id(&self) -> (VMId, VCpuId) {
        self.id
    }

    fn main(&self) {
        let parts = self.hal.without_preemption(|| self.parts.lock().clone());
        let Some(parts) = parts else {
            return;
        };
        if let Err(error) = parts.run_until_end() {
            parts.crash(format!("{error}"));
        }
        self.hal.without_preemption(|| {
            if parts.vcpu.state() == VCpuState::Ready {
                // A failure leaves it Invalid, which is as good here.
                let _ = parts.vcpu.unbind();
            }
            self.parts.lock().take();
        });
        // The verbs count on the last thread's machine being theirs alone.
        let run = parts.machine.run.clone();
        drop(parts);
        run.thread_ends();
    }

    fn on_enter(&self) {
        if let Some(parts) = &*self.parts.lock()
            && parts.vcpu.state() == VCpuState::Free
        {
            // A failure leaves the vCPU Invalid, and the next run reports it.
            let _ = parts.vcpu.bind();
        }
    }

    fn on_leave(&self) {
        if let Some(parts) = &*self.parts.lock()
            && parts.vcpu.state() == VCpuState::Ready
        {
            let _ = parts.vcpu.unbind();
        }
    }
}

impl<A: ArchVm> Parts<A> {
    fn run_until_end(&self) -> Result<()> {
        while self.look_around()? {
            let run = || self.vcpu.run_with(|vcpu, exit| self.finish(vcpu, exit));
            if let Some(exit) = self.hal().without_preemption(run)? {
                self.handle(exit)?;
            }
        }
        Ok(())
    }

    /// Handles what needs only a device, while the vCPU's registers are at hand;
    /// anything else comes back.
    fn finish(&self, vcpu: &mut A::VCpu, exit: Exit) -> Option<Exit> {
        match exit {
            Exit::MmioRead { .. } => self.mmio_read(vcpu, exit),
            Exit::MmioWrite { addr, width, data } => self.mmio_write(vcpu, (addr, width, data)),
            // Taken by the host as soon as `run` had opened interrupts again.
            Exit::ExternalInterrupt { .. } | Exit::Nothing => {}
            other => return Some(other),
        }
        None
    }

    fn hal(&self) -> &A::Hal {
        &self.machine.hal
    }

    /// Does what others asked for, and tells whether the VM goes on.
    fn look_around(&self) -> Result<bool> {
        let run = &self.machine.run;
        let control = self.vcpu.control();
        loop {
            let is_on = control.power() == CpuPower::On;
            if !control.is_called() && is_on {
                return Ok(true);
            }
            if control.take(Request::Tick) {
                self.machine.timers.tick(self.hal().current_time_nanos());
            }
            control.take(Request::Look);
            match run.wish() {
                Wish::Stop => return Ok(false),
                Wish::Pause => self.park()?,
                Wish::Run if is_on => return Ok(true),
                Wish::Run => self.wait_for_start()?,
            }
        }
    }

    fn park(&self) -> Result<()> {
        let run = &self.machine.run;
        // It counts as parked only while its registers are put away.
        self.hal().without_preemption(|| self.vcpu.block())?;
        run.thread_parks(Parks::Yes);
        self.vcpu
            .control()
            .wait(None, &|| run.wish() != Wish::Pause);
        run.thread_parks(Parks::No);
        self.hal().without_preemption(|| self.vcpu.unblock())
    }

    fn wait_for_start(&self) -> Result<()> {
        if let Some(at) = self.vcpu.control().switch.take_start() {
            let arch = &self.machine.arch;
            return self.with_vcpu(|vcpu| arch.start_vcpu(vcpu, at.entry, at.arg));
        }
        // Not for an event: a CPU that is off sleeps through its interrupts.
        let control = self.vcpu.control();
        self.wait_unbound(None, &|| {
            control.power() == CpuPower::Starting || control.is_called()
        })
    }

    /// Waits with the registers put away.
    fn wait_unbound(&self, deadline_ns: Option<u64>, ready: &dyn Fn() -> bool) -> Result<()> {
        self.hal().without_preemption(|| self.vcpu.block())?;
        self.vcpu.control().wait(deadline_ns, ready);
        self.hal().without_preemption(|| self.vcpu.unblock())
    }

    fn with_vcpu<T>(&self, f: impl FnOnce(&mut A::VCpu) -> T) -> T {
        self.vcpu.with_arch(f)
    }

    /// Handles one exit; each arm is one call.
    fn handle(&self, exit: Exit) -> Result<()> {
        match exit {
            Exit::Hypercall { nr, args: _ } => self.hypercall(nr),
            Exit::SysRegRead { addr, reg } => {
                let read = self.machine.devices.handle_sys_reg_read(addr);
                self.finish_read(read, GuestAccess::SysReg, |vcpu, v| vcpu.set_gpr(reg, v));
            }
            Exit::SysRegWrite { addr, value } => {
                let written = self.machine.devices.handle_sys_reg_write(addr, value);
                self.finish_write(written, GuestAccess::SysReg);
            }
            Exit::IoRead { port, width } => {
                let read = self.machine.devices.handle_port_read(port, width);
                self.finish_read(read, GuestAccess::PortRead, A::VCpu::set_return_value);
            }
            Exit::IoWrite { port, width, data } => {
                let written = self.machine.devices.handle_port_write(port, width, data);
                self.finish_write(written, GuestAccess::PortWrite);
            }
            // Done by `finish`.
            Exit::MmioRead { .. } | Exit::MmioWrite { .. } => {}
            Exit::ExternalInterrupt { .. } | Exit::Nothing => {}
            Exit::NestedPageFault { addr, access_flags } => self.page_fault(addr, access_flags),
            Exit::Halt => self.halt()?,
            Exit::CpuUp { .. } => self.cpu_up(exit),
            Exit::CpuDown { state: _ } => self.vcpu.control().switch.off(),
            Exit::SystemDown { request } => self.machine.run.end(request.into()),
            Exit::Console { call } => {
                let answer =
                    console::answer(call, &self.machine.console, &*self.machine.memory.ram);
                self.with_vcpu(|vcpu| vcpu.set_return_value(answer));
            }
            Exit::FailEntry {
                hardware_entry_failure_reason: reason,
            } => return Err(Error::Hardware(reason)),
            Exit::SendIPI { targets, vector } => self.send_ipi(targets, vector),
            Exit::Unhandled { code, detail } => {
                self.crash(format!("unhandled exit {code:#x} with {detail:#x}"));
            }
        }
        Ok(())
    }

    fn hypercall(&self, nr: u64) {
        let answer = match nr {
            0 => HYPERCALL_VERSION,
            _ => HYPERCALL_UNKNOWN,
        };
        self.with_vcpu(|vcpu| vcpu.set_return_value(answer));
    }

    fn mmio_read(&self, vcpu: &mut A::VCpu, exit: Exit) {
        let Exit::MmioRead {
            addr,
            width,
            reg,
            reg_width,
            signed_ext,
        } = exit
        else {
            return;
        };
        let Ok(raw) = self.machine.devices.handle_mmio_read(addr, width) else {
            return vcpu.refuse_access(GuestAccess::Read(addr));
        };
        let value = match signed_ext {
            true => sign_extend(raw, width, reg_width),
            false => truncate(raw, width),
        };
        vcpu.set_gpr(reg, value);
    }

    fn mmio_write(&self, vcpu: &mut A::VCpu, access: (GuestPhysAddr, AccessWidth, u64)) {
        let (addr, width, data) = access;
        let written = self.machine.devices.handle_mmio_write(addr, width, data);
        if written.is_err() {
            vcpu.refuse_access(GuestAccess::Write(addr));
        }
    }

    fn finish_read(
        &self,
        read: core::result::Result<u64, AccessFault>,
        access: GuestAccess,
        deliver: impl FnOnce(&mut A::VCpu, u64),
    ) {
        self.with_vcpu(|vcpu| match read {
            Ok(value) => deliver(vcpu, value),
            Err(AccessFault) => vcpu.refuse_access(access),
        });
    }

    fn finish_write(&self, written: core::result::Result<(), AccessFault>, access: GuestAccess) {
        if written.is_err() {
            self.with_vcpu(|vcpu| vcpu.refuse_access(access));
        }
    }

    fn page_fault(&self, addr: GuestPhysAddr, flags: MappingFlags) {
        if self.machine.memory.ram.contains(addr, 1) {
            return self.crash(format!("stage 2 refused {flags:?} of RAM at {addr:#x}"));
        }
        let access = if flags.contains(MappingFlags::WRITE) {
            GuestAccess::Write(addr)
        } else if flags.contains(MappingFlags::EXECUTE) {
            GuestAccess::Fetch(addr)
        } else {
            GuestAccess::Read(addr)
        };
        self.with_vcpu(|vcpu| vcpu.refuse_access(access));
    }

    /// Waits for an interrupt; a spurious end of the wait is allowed by every
    /// architecture's wait instruction.
    fn halt(&self) -> Result<()> {
        let deadline_ns = self.with_vcpu(|vcpu| vcpu.next_timer_ns());
        self.wait_unbound(deadline_ns, &|| self.vcpu.control().has_request())
    }

    fn cpu_up(&self, exit: Exit) {
        let Exit::CpuUp {
            target_cpu,
            entry_point: entry,
            arg,
        } = exit
        else {
            return;
        };
        let status = self.start_other(target_cpu, StartAt { entry, arg });
        self.with_vcpu(|vcpu| vcpu.set_return_value(A::cpu_up_status(status)));
    }

    fn start_other(&self, target_cpu: u64, at: StartAt) -> CpuUpStatus {
        let machine = &self.machine;
        let target = machine
            .arch
            .vcpu_of(target_cpu)
            .and_then(|id| machine.vcpus.get(id));
        let Some(target) = target else {
            return CpuUpStatus::NoSuchCpu;
        };
        if !machine.memory.ram.contains(at.entry, 1) {
            return CpuUpStatus::BadEntry;
        }
        let status = target.control().switch.start(at);
        if status == CpuUpStatus::Started {
            target.control().request(Request::Look);
        }
        status
    }

    fn send_ipi(&self, targets: IpiTargets, vector: u64) {
        let own = self.vcpu.id();
        for vcpu in &self.machine.vcpus {
            let id = vcpu.id();
            let is_target = match targets {
                IpiTargets::All => true,
                IpiTargets::Others => id != own,
                IpiTargets::Mask(mask) => id < 64 && (mask >> id) & 1 == 1,
            };
            if is_target {
                self.machine.arch.inject_irq(id, vector);
            }
        }
    }

    /// Ends the VM with a fault of this vCPU.
    fn crash(&self, cause: String) {
        let fault = self.with_vcpu(|vcpu| {
            let mut registers = String::new();
            // Writing to a String does not fail.
            let _ = vcpu.dump(&mut registers);
            VmFault {
                vcpu: self.vcpu.id(),
                pc: vcpu.guest_pc(),
                cause,
                registers,
            }
        });
        self.machine.run.end(VmOutcome::Crashed(fault));
    }
}

/// Returns the number of bits above the value of a width.
fn bits_above(width: AccessWidth) -> u32 {
    match width {
        AccessWidth::Byte => 56,
        AccessWidth::Word => 48,
        AccessWidth::Dword => 32,
        AccessWidth::Qword => 0,
    }
}

/// Keeps the low bytes of a value.
fn truncate(raw: u64, width: AccessWidth) -> u64 {
    raw & (u64::MAX >> bits_above(width))
}

/// Copies the sign of the low bytes up to the width of the register.
fn sign_extend(raw: u64, width: AccessWidth, reg_width: AccessWidth) -> u64 {
    let bits = bits_above(width);
    truncate((((raw << bits) as i64) >> bits) as u64, reg_width)
}
