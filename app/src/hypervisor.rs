// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hypervisor as its console sees it: VMs, host, terminal in one piece.
//!
//! Everything that the shell asks for is answered here from [`crate::vmm`] and
//! [`crate::host`]; nothing is decided here.

use alloc::{boxed::Box, format, string::ToString, sync::Arc, vec::Vec};

use axdevice::{ConsoleOutput, Lock};
use axvm::{AxVCpuHal, AxVM, ExitKind, TraceEntry, VMId, VmOutcome};
use spin::Lazy;

use crate::{
    arch,
    host::{self, Host},
    shell::{
        HostInfo, LogLevel, Refusal, Screen, SharedScreen, Terminal, VCpuDetails, VmDetails,
        VmSummary, VmVerb,
    },
    vmm::{Announce, Vmm},
};

/// The machine of this build's architecture.
pub type Vm = arch::Vm<Host>;

/// The host's terminal, shared by the shell and by the guests that print.
///
/// Held with preemption off: whoever waits for it waits for another CPU only.
pub static SCREEN: Lazy<Lock<Screen>> =
    Lazy::new(|| Lock::new(Screen::new(Box::new(HostTerminal))));

/// The machine's own console.
struct HostTerminal;

impl Terminal for HostTerminal {
    fn write(&mut self, bytes: &[u8]) {
        axhal::console::write_bytes(bytes);
    }
}

/// The way to [`SCREEN`] that is handed around.
pub struct HostScreen;

impl SharedScreen for HostScreen {
    fn with(&self, work: &mut dyn FnMut(&mut Screen)) {
        work(&mut SCREEN.lock());
    }
}

impl Announce for HostScreen {
    fn announce(&self, vm: &str, text: core::fmt::Arguments<'_>) {
        for line in format!("{text}").lines() {
            SCREEN.lock().message(&format!("{vm}: {line}"));
        }
    }

    fn ended(&self, vm: VMId) {
        SCREEN.lock().vm_ended(vm);
    }

    fn wants_costs(&self) -> bool {
        log::max_level() >= log::LevelFilter::Info
    }
}

/// Shows a line of the hypervisor's own.
pub fn say(text: core::fmt::Arguments<'_>) {
    SCREEN.lock().message(&format!("{text}"));
}

/// Where a VM's console goes.
struct VmScreen {
    vm: VMId,
    name: Box<str>,
}

impl ConsoleOutput for VmScreen {
    fn write(&self, bytes: &[u8]) {
        SCREEN.lock().vm_output(self.vm, &self.name, bytes);
    }
}

/// Makes the place where a VM's console goes.
pub fn vm_screen(vm: VMId, name: &str) -> Arc<dyn ConsoleOutput> {
    Arc::new(VmScreen {
        vm,
        name: name.into(),
    })
}

/// What the shell talks to.
pub struct Hypervisor {
    /// All VMs.
    pub vmm: Arc<Vmm<Vm>>,
    /// All memory for guests that there was at boot.
    pub guest_bytes: u64,
}

impl Hypervisor {
    fn apply(&self, vm: VMId, verb: VmVerb) -> Result<(), crate::vmm::VmmError> {
        match verb {
            VmVerb::Start => self.vmm.start(vm)?,
            VmVerb::Reset => self.vmm.reset(vm)?,
            VmVerb::Create => self.vmm.vm(vm)?.init()?,
            VmVerb::Stop => self.vmm.vm(vm)?.shutdown()?,
            VmVerb::Pause => self.vmm.vm(vm)?.pause()?,
            VmVerb::Resume => self.vmm.vm(vm)?.resume()?,
            VmVerb::Delete => self.vmm.vm(vm)?.delete()?,
        }
        Ok(())
    }
}

impl crate::shell::Vmm for Hypervisor {
    fn list(&self) -> Vec<VmSummary> {
        self.vmm.vms().iter().map(|vm| summary(vm)).collect()
    }

    fn show(&self, vm: VMId) -> Option<VmDetails> {
        self.vmm.vm(vm).ok().map(|vm| details(&vm))
    }

    fn act(&self, vm: VMId, verb: VmVerb) -> Result<(), Refusal> {
        self.apply(vm, verb).map_err(Refusal::new)
    }

    fn console_input(&self, vm: VMId, bytes: &[u8]) -> usize {
        self.vmm.vm(vm).map_or(0, |vm| vm.push_input(bytes))
    }

    fn host(&self) -> HostInfo {
        HostInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            arch: arch::NAME.into(),
            cpus: axhal::cpu_num(),
            guest_bytes: self.guest_bytes,
            guest_free_bytes: host::free_bytes() as u64,
            heap_free_bytes: host::heap_free_bytes() as u64,
            uptime_ns: Host.current_time_nanos(),
        }
    }

    fn set_log_level(&self, level: LogLevel) {
        if let Ok(filter) = level.name().parse() {
            log::set_max_level(filter);
        }
    }

    fn power_off(&self) {
        self.vmm.stop_all();
        platform::power_off(platform::ExitStatus::Success);
    }
}

fn summary(vm: &AxVM<Vm>) -> VmSummary {
    let ended = vm.outcome().map(|outcome| outcome.to_string());
    VmSummary {
        id: vm.id(),
        name: vm.name().into(),
        status: vm.status(),
        vcpus: vm.config().vcpus.len(),
        memory_bytes: vm.config().memory_bytes,
        outcome: ended.or_else(|| vm.failure().map(|error| error.to_string())),
    }
}

fn details(vm: &AxVM<Vm>) -> VmDetails {
    let config = vm.config();
    let vcpus: Option<Vec<_>> = vm.with_machine(|machine| {
        let vcpus = machine.vcpus().iter();
        vcpus.map(|vcpu| vcpu_details(vcpu)).collect()
    });
    let registers = match vm.outcome() {
        Some(VmOutcome::Crashed(fault)) => Some(fault.registers),
        _ => None,
    };
    VmDetails {
        summary: summary(vm),
        cmdline: config.boot.cmdline.clone(),
        autostart: config.policy.autostart,
        on_crash: config.policy.on_crash,
        vcpus: vcpus.unwrap_or_default(),
        registers,
    }
}

fn vcpu_details(vcpu: &axvm::AxVCpu<Vm>) -> VCpuDetails {
    let stats = vcpu.control().stats();
    let count = |kind: ExitKind| (kind.name().into(), stats.exits(kind));
    let line = |entry: TraceEntry| {
        let kind = entry.kind.name();
        format!("{kind:<10} pc {:#x}, {:#x}", entry.pc, entry.detail)
    };
    VCpuDetails {
        state: format!("{:?}, power {:?}", vcpu.state(), vcpu.power()).to_lowercase(),
        pcpus: vcpu.pcpus(),
        exits: ExitKind::ALL.into_iter().map(count).collect(),
        trace: stats.last_exits().into_iter().map(line).collect(),
    }
}
