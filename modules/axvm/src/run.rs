// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's thread: run the guest, handle what comes out, until the VM ends.
//!
//! The registers are bound to a physical CPU while the thread runs and put away
//! when it is switched out or waits. Whatever takes the lock of the
//! architecture's vCPU does so with preemption off, so that the switch hooks
//! never find it taken.

use alloc::{format, string::String, sync::Arc};

use axdevice::Lock;
use axvm_types::{GuestPhysAddr, VCpuId, VMId};

use crate::{
    ArchVm, AxArchVCpu, AxVCpuExitReason as Exit, AxVCpuHal, AxVCpuRef, CpuPower, CpuUpStatus,
    Error, GuestAccess, IpiTargets, Machine, MappingFlags, Request, Result, VCpuControl, VCpuState,
    VCpuTask, VmFault, VmOutcome, access, console,
    machine::{Parks, Wish},
    power::StartAt,
};

/// The version that the hypercall of number 0 answers: major in the high half.
const HYPERCALL_VERSION: u64 = 1 << 16;
/// What an unknown hypercall answers.
const HYPERCALL_UNKNOWN: u64 = u64::MAX;

/// One vCPU's thread.
pub(crate) struct VCpuThread<A: ArchVm> {
    control: Arc<VCpuControl<A::Hal>>,
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
            control: vcpu.control().clone(),
            parts: Lock::new(Some(Parts { machine, vcpu })),
        }
    }
}

impl<A: ArchVm> VCpuTask for VCpuThread<A> {
    fn id(&self) -> (VMId, VCpuId) {
        (self.control.vm_id(), self.control.id())
    }

    fn yield_soon(&self) {
        self.control.request(Request::Yield);
    }

    fn main(&self) {
        let parts = self
            .control
            .hal()
            .without_preemption(|| self.parts.lock().clone());
        let Some(parts) = parts else {
            return;
        };
        if let Err(error) = parts.run_until_end() {
            parts.crash(format!("{error}"));
        }
        self.control.hal().without_preemption(|| {
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
            // What needs only a device is done while the registers are at hand.
            let run = || self.vcpu.run_with(access::finish);
            if let Some(exit) = self.hal().without_preemption(run)? {
                self.handle(exit)?;
            }
        }
        Ok(())
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
            if control.take(Request::Yield) {
                control.yield_to_others(self.with_vcpu(|vcpu| vcpu.guest_pc()));
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
            // Done by `access::finish`.
            Exit::MmioRead { .. } | Exit::MmioWrite { .. } => {}
            Exit::IoRead { .. } | Exit::IoWrite { .. } => {}
            Exit::SysRegRead { .. } | Exit::SysRegWrite { .. } => {}
            // Taken by the host as soon as `run` had opened interrupts again.
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
            Exit::TripleFault => self.crash("triple fault".into()),
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
