// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The parts of one VM from power-on to power-off.
//!
//! A machine is built whole or not at all: whatever was taken is given back by
//! drop when a later step fails. Its memory (RAM and stage 2) outlives a restart;
//! everything else is built anew, so that nothing of the last run can be left.

use alloc::{sync::Arc, vec::Vec};

use axaddrspace::{AddrSpace, AddrSpaceError, NestedPageTableOps};
use axdevice::Lock;
use axdevice::{
    AlarmListener, AxVmDevices, Console, ConsoleOutput, DeviceTimers, PowerRequest, PowerSink,
};
use axvm_types::{GuestPhysAddr, VMId};

use crate::{
    ArchVm, AxVCpu, AxVCpuRef, AxVMConfig, AxVMHal, Error, HostEvent, MachineParts, MappingFlags,
    Ram, RecordPage, Request, Result, VCpuControl, VCpuParts, VmOutcome, hal::AxVCpuHal,
};

/// The guest physical addresses that stage 2 can hold on every architecture.
const GUEST_SPACE_BYTES: usize = 1 << 39;

/// What a machine takes at most of the host's own memory besides frames and threads:
/// for itself, for a while even to be booted, and for each vCPU.
const OWN_BYTES: usize = 256 << 10;
const OWN_BYTES_PER_VCPU: usize = 32 << 10;

/// RAM and the stage-2 tables that map it.
pub(crate) struct VmMemory<A: ArchVm> {
    pub(crate) ram: Arc<Ram<A::Hal>>,
    pub(crate) stage2: AddrSpace<A::PageTable>,
    pub(crate) records: Option<Arc<RecordPage<A::Hal>>>,
}

impl<A: ArchVm> VmMemory<A> {
    fn new(hal: &A::Hal, config: &AxVMConfig) -> Result<Self> {
        let ram = Arc::new(Ram::new(hal, &A::ram_layout(config))?);
        let table = A::new_page_table(hal)?;
        let base = GuestPhysAddr::from_usize(0);
        let mut stage2 = AddrSpace::new_empty(table, base, GUEST_SPACE_BYTES)?;
        let flags = MappingFlags::READ | MappingFlags::WRITE | MappingFlags::EXECUTE;
        for (region, host) in ram.regions() {
            stage2
                .map_linear(region.start, host, region.size_bytes, flags)
                .map_err(out_of_frames)?;
        }
        let records = A::record_page()
            .map(|at| map_records(hal, &mut stage2, at))
            .transpose()?;
        Ok(Self {
            ram,
            stage2,
            records,
        })
    }
}

fn map_records<H: AxVMHal, T: NestedPageTableOps>(
    hal: &H,
    stage2: &mut AddrSpace<T>,
    at: GuestPhysAddr,
) -> Result<Arc<RecordPage<H>>> {
    let page = RecordPage::new(hal)?;
    stage2
        .map_linear(at, page.frame(), RecordPage::<H>::BYTES, MappingFlags::READ)
        .map_err(out_of_frames)?;
    Ok(Arc::new(page))
}

/// A mapping of fresh RAM into an empty table fails for want of a table only.
fn out_of_frames(error: AddrSpaceError) -> Error {
    match error {
        AddrSpaceError::MappingState => Error::NoFrames,
        other => other.into(),
    }
}

/// What has become of a run, shared by its threads and its verbs.
///
/// Hosts look at a wait's condition with preemption off, so nobody may be
/// switched out while holding the books: the next look on that CPU would spin.
pub(crate) struct RunState<H: AxVCpuHal> {
    hal: H,
    phase: Lock<Phase>,
    event: H::Event,
    controls: Vec<Arc<VCpuControl<H>>>,
}

/// The books of one run.
struct Phase {
    wish: Wish,
    /// Threads that have not ended.
    alive: usize,
    /// Threads that wait for a resume.
    parked: usize,
    /// Why the run ends, once that is known.
    outcome: Option<VmOutcome>,
    /// Whether somebody has taken note of its end.
    is_told: bool,
}

/// What the threads of a run are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Run,
    Pause,
    Stop,
}

impl<H: AxVCpuHal> RunState<H> {
    fn new(hal: &H, controls: Vec<Arc<VCpuControl<H>>>) -> Self {
        Self {
            hal: hal.clone(),
            phase: Lock::new(Phase {
                wish: Wish::Run,
                alive: 0,
                parked: 0,
                outcome: None,
                is_told: false,
            }),
            event: hal.new_event(),
            controls,
        }
    }

    fn phase<T>(&self, f: impl FnOnce(&mut Phase) -> T) -> T {
        self.hal.without_preemption(|| f(&mut self.phase.lock()))
    }

    pub(crate) fn wish(&self) -> Wish {
        self.phase(|phase| phase.wish)
    }

    /// Asks all threads to pause or to go on; an end that has begun goes on.
    pub(crate) fn ask(&self, wish: Wish) {
        self.phase(|phase| {
            if phase.wish != Wish::Stop {
                phase.wish = wish;
            }
        });
        self.call_all();
    }

    /// Ends the run; the first reason stays.
    pub(crate) fn end(&self, outcome: VmOutcome) {
        self.phase(|phase| {
            phase.wish = Wish::Stop;
            phase.outcome.get_or_insert(outcome);
        });
        self.call_all();
    }

    fn call_all(&self) {
        for control in &self.controls {
            control.request(Request::Look);
        }
    }

    /// Counts all threads of the run as alive, before the first one is.
    pub(crate) fn threads_start(&self) {
        self.phase(|phase| phase.alive = self.controls.len());
    }

    pub(crate) fn thread_ends(&self) {
        self.phase(|phase| phase.alive = phase.alive.saturating_sub(1));
        self.event.wake();
    }

    /// Counts the calling thread as parked, or as going on.
    pub(crate) fn thread_parks(&self, parks: Parks) {
        self.phase(|phase| {
            phase.parked = match parks {
                Parks::Yes => phase.parked.saturating_add(1),
                Parks::No => phase.parked.saturating_sub(1),
            };
        });
        self.event.wake();
    }

    /// Tells whether every thread has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.phase(|phase| phase.alive == 0)
    }

    /// Waits until every thread is parked, or all have ended: once the run's
    /// end has begun, those that are parked are about to wake.
    pub(crate) fn wait_quiet(&self) {
        self.event.wait_until(None, &|| {
            self.phase(|phase| match phase.wish {
                Wish::Stop => phase.alive == 0,
                Wish::Run | Wish::Pause => phase.parked >= phase.alive,
            })
        });
    }

    /// Waits until no thread is parked, or all have ended.
    pub(crate) fn wait_moving(&self) {
        self.event
            .wait_until(None, &|| self.phase(|phase| phase.parked == 0));
    }

    /// Waits until every thread has ended.
    pub(crate) fn wait_over(&self) {
        self.event.wait_until(None, &|| self.is_over());
    }

    /// Returns why the run ended; the host's stop if nobody said.
    pub(crate) fn outcome(&self) -> VmOutcome {
        let outcome = self.phase(|phase| phase.outcome.clone());
        outcome.unwrap_or(VmOutcome::Stopped)
    }

    /// Tells whether nobody has taken note of its end.
    pub(crate) fn is_untold(&self) -> bool {
        self.phase(|phase| !phase.is_told)
    }

    /// Takes note of its end, for the first who asks.
    pub(crate) fn take_note(&self) -> bool {
        self.phase(|phase| !core::mem::replace(&mut phase.is_told, true))
    }
}

/// Whether a thread parks or goes on.
#[derive(Clone, Copy)]
pub(crate) enum Parks {
    Yes,
    No,
}

impl<H: AxVCpuHal> PowerSink for RunState<H> {
    fn request(&self, request: PowerRequest) {
        self.end(request.into());
    }
}

/// Everything of a VM that exists from power-on to power-off.
pub struct Machine<A: ArchVm> {
    pub(crate) run: Arc<RunState<A::Hal>>,
    pub(crate) vcpus: Vec<AxVCpuRef<A>>,
    pub(crate) timers: DeviceTimers,
    pub(crate) arch: A,
    pub(crate) memory: VmMemory<A>,
    pub(crate) console: Arc<Console>,
    pub(crate) hal: A::Hal,
}

/// What stays the same when a machine is built again.
pub(crate) struct Blueprint<'a, H> {
    pub(crate) id: VMId,
    pub(crate) hal: &'a H,
    pub(crate) config: &'a AxVMConfig,
    pub(crate) output: &'a Arc<dyn ConsoleOutput>,
}

impl<A: ArchVm> Machine<A> {
    /// Builds a machine with memory of its own, ready to run.
    pub(crate) fn build(plan: &Blueprint<'_, A::Hal>) -> Result<Self> {
        A::check(plan.config)?;
        let memory = VmMemory::new(plan.hal, plan.config)?;
        Self::assemble(plan, memory)
    }

    /// Builds the machine again over the same memory, which is zero afterwards
    /// but for the images.
    pub(crate) fn rebuild(self, plan: &Blueprint<'_, A::Hal>) -> Result<Self> {
        let memory = self.into_memory();
        memory.ram.zero();
        if let Some(records) = &memory.records {
            records.zero();
        }
        Self::assemble(plan, memory)
    }

    /// Gives back everything but the memory, so that a restart finds room for
    /// what it makes again.
    fn into_memory(self) -> VmMemory<A> {
        self.memory
    }

    fn assemble(plan: &Blueprint<'_, A::Hal>, memory: VmMemory<A>) -> Result<Self> {
        let ids = 0..plan.config.vcpus.len();
        let for_vcpus = ids.len().saturating_mul(OWN_BYTES_PER_VCPU);
        if !plan.hal.can_spare(OWN_BYTES.saturating_add(for_vcpus)) {
            return Err(Error::NoOwnMemory);
        }
        let controls: Vec<_> = ids
            .map(|vcpu| Arc::new(VCpuControl::new(plan.hal, plan.id, vcpu)))
            .collect();
        let run = Arc::new(RunState::new(plan.hal, controls.clone()));
        let power: Arc<dyn PowerSink> = run.clone();
        let console = Arc::new(Console::new(plan.output.clone()));
        let mut devices = AxVmDevices::new();
        let timers = new_timers(plan.hal, &controls)?;
        let parts = MachineParts {
            hal: plan.hal,
            config: plan.config,
            ram: &memory.ram,
            root: memory.stage2.page_table_root(),
            records: memory.records.as_ref(),
            controls: &controls,
            timers: &timers,
            console: &console,
            power: &power,
        };
        let arch = A::new(&parts, &mut devices)?;
        let parts = VCpuParts {
            root: memory.stage2.page_table_root(),
            levels: memory.stage2.page_table_levels(),
            devices: &Arc::new(devices),
        };
        let vcpus = new_vcpus(&arch, plan.config, &parts, &controls)?;
        if let Some(first) = vcpus.first() {
            first.with_arch(|vcpu| arch.boot(plan.config, &memory.ram, vcpu))?;
        }
        Ok(Self {
            run,
            vcpus,
            timers,
            arch,
            memory,
            console,
            hal: plan.hal.clone(),
        })
    }

    /// Returns the vCPUs, the boot vCPU first.
    pub fn vcpus(&self) -> &[AxVCpuRef<A>] {
        &self.vcpus
    }

    /// Returns the RAM.
    pub fn ram(&self) -> &Ram<A::Hal> {
        &self.memory.ram
    }

    /// Returns the stage-2 address space.
    pub fn stage2(&self) -> &AddrSpace<A::PageTable> {
        &self.memory.stage2
    }

    /// Returns the architecture's part.
    pub fn arch(&self) -> &A {
        &self.arch
    }

    /// Returns the console.
    pub fn console(&self) -> &Arc<Console> {
        &self.console
    }
}

/// Makes the list of timed devices; the boot vCPU is who looks after them.
fn new_timers<H: AxVCpuHal>(hal: &H, controls: &[Arc<VCpuControl<H>>]) -> Result<DeviceTimers> {
    let first = controls.first().ok_or(Error::NoSuchVCpu(0))?;
    let keeper: Arc<dyn AlarmListener> = first.clone();
    Ok(DeviceTimers::new(hal.new_alarm(keeper)))
}

/// Makes the vCPUs, all set up.
fn new_vcpus<A: ArchVm>(
    arch: &A,
    config: &AxVMConfig,
    parts: &VCpuParts<'_>,
    controls: &[Arc<VCpuControl<A::Hal>>],
) -> Result<Vec<AxVCpuRef<A>>> {
    let mut vcpus = Vec::with_capacity(controls.len());
    for (control, vcpu) in controls.iter().zip(&config.vcpus) {
        let arch_vcpu = arch.new_vcpu(control.id(), parts)?;
        let made = AxVCpu::new(arch_vcpu, vcpu.pcpus, control.clone());
        made.setup(parts.root)?;
        vcpus.push(Arc::new(made));
    }
    Ok(vcpus)
}
