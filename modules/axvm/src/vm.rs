// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A VM and the verbs of its life.
//!
//! Every verb returns when it is true: [`AxVM::pause`] after each vCPU's thread
//! has parked, [`AxVM::shutdown`] after each has ended. Verbs on one VM take
//! turns; two VMs never wait for each other. A vCPU's own thread calls no verb:
//! what a guest asks of its power ends the run, and [`AxVM::wait_stopped`]
//! hands the outcome to whoever decides what follows.

use alloc::{format, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};

use axdevice::ConsoleOutput;
use axdevice::Lock;
use axvm_types::{VCpuId, VMId};

use crate::{
    ArchVm, AxVMConfig, AxVMHal, Error, HostEvent, HostThread, Machine, Result, VmMachineState,
    VmOutcome, VmStatus,
    hal::AxVCpuHal,
    machine::{Blueprint, Wish},
    run::VCpuThread,
    state::Run,
};

/// A shared VM.
pub type AxVMRef<A> = Arc<AxVM<A>>;

/// What identifies a VM, and where it is in its life.
pub struct VmData<A: ArchVm> {
    id: VMId,
    name: String,
    state: Lock<VmMachineState<A>>,
}

/// One virtual machine.
pub struct AxVM<A: ArchVm> {
    data: VmData<A>,
    hal: A::Hal,
    config: AxVMConfig,
    output: Arc<dyn ConsoleOutput>,
    turn: Turn<A::Hal>,
}

/// Lets verbs take turns; those that wait sleep.
///
/// No lock: hosts look at a wait's condition with preemption off, and would
/// spin for a holder that was switched out.
struct Turn<H: AxVCpuHal> {
    is_taken: AtomicBool,
    event: H::Event,
}

impl<H: AxVCpuHal> Turn<H> {
    fn take<T>(&self, verb: impl FnOnce() -> T) -> T {
        self.event
            .wait_until(None, &|| !self.is_taken.swap(true, Ordering::Acquire));
        let result = verb();
        self.is_taken.store(false, Ordering::Release);
        self.event.wake();
        result
    }
}

impl<A: ArchVm> AxVM<A> {
    /// Makes a VM of which nothing but the configuration exists.
    pub fn new(
        id: VMId,
        hal: &A::Hal,
        config: AxVMConfig,
        output: Arc<dyn ConsoleOutput>,
    ) -> AxVMRef<A> {
        Arc::new(Self {
            data: VmData {
                id,
                name: config.name.clone(),
                state: Lock::new(VmMachineState::Uninit),
            },
            hal: hal.clone(),
            config,
            output,
            turn: Turn {
                is_taken: AtomicBool::new(false),
                event: hal.new_event(),
            },
        })
    }

    /// Returns its number.
    pub fn id(&self) -> VMId {
        self.data.id
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.data.name
    }

    /// Returns the configuration it is made from.
    pub fn config(&self) -> &AxVMConfig {
        &self.config
    }

    /// Returns where it is in its life.
    pub fn status(&self) -> VmStatus {
        self.data.state.lock().status()
    }

    /// Looks at its machine, in the states that have one.
    ///
    /// `look` must be short and may not wait: the VM's state cannot change
    /// meanwhile.
    pub fn with_machine<T>(&self, look: impl FnOnce(&Machine<A>) -> T) -> Option<T> {
        self.data.state.lock().machine().map(look)
    }

    /// Returns why its last run ended, while it is stopped.
    pub fn outcome(&self) -> Option<VmOutcome> {
        match &*self.data.state.lock() {
            VmMachineState::Stopped(_, outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// Returns why its last run ended, to the first who asks.
    pub fn take_outcome(&self) -> Option<VmOutcome> {
        match &*self.data.state.lock() {
            VmMachineState::Stopped(machine, outcome) if machine.run.take_note() => {
                Some(outcome.clone())
            }
            _ => None,
        }
    }

    /// Tells whether it is in a run, or has ended one without anybody taking note.
    pub fn needs_watching(&self) -> bool {
        match &*self.data.state.lock() {
            VmMachineState::Uninit | VmMachineState::Inited(_) | VmMachineState::Failed(_) => false,
            VmMachineState::Stopped(machine, _) => machine.run.is_untold(),
            VmMachineState::Running(_)
            | VmMachineState::Paused(_)
            | VmMachineState::Switching
            | VmMachineState::Stopping => true,
        }
    }

    /// Returns why it could not be built, if that is its state.
    pub fn failure(&self) -> Option<Error> {
        match &*self.data.state.lock() {
            VmMachineState::Failed(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Makes an interrupt pending at a vCPU; false if there is none such now.
    pub fn inject_irq(&self, vcpu: VCpuId, vector: u64) -> bool {
        let inject = |machine: &Machine<A>| {
            let exists = machine.vcpus.get(vcpu).is_some();
            if exists {
                machine.arch.inject_irq(vcpu, vector);
            }
            exists
        };
        self.with_machine(inject).unwrap_or(false)
    }

    /// Queues console input and returns how many bytes found room.
    pub fn push_input(&self, bytes: &[u8]) -> usize {
        let console = self.with_machine(|machine| machine.console.clone());
        console.map_or(0, |console| console.push_input(bytes))
    }

    /// Builds it: uninit or failed → inited.
    pub fn init(&self) -> Result<()> {
        self.verb("be created", |vm, state| match state {
            VmMachineState::Uninit | VmMachineState::Failed(_) => {
                vm.built(Machine::build(&vm.blueprint()))
            }
            other => refused(other),
        })
    }

    /// Starts it: inited → running, or stopped → running from its image again.
    pub fn boot(&self) -> Result<()> {
        self.verb("start", |vm, state| match state {
            VmMachineState::Inited(machine) => vm.started(machine),
            VmMachineState::Stopped(machine, _) => vm.restarted(machine),
            other => refused(other),
        })
    }

    /// Parks its vCPUs: running → paused.
    ///
    /// A guest that ends its run first is stopped, and this is refused.
    pub fn pause(&self) -> Result<()> {
        self.verb("pause", |vm, state| match state {
            VmMachineState::Running(run) => {
                run.machine.run.ask(Wish::Pause);
                run.machine.run.wait_quiet();
                match vm.settled(VmMachineState::Paused(run)) {
                    (VmMachineState::Stopped(machine, outcome), _) => {
                        refused(VmMachineState::Stopped(machine, outcome))
                    }
                    paused => paused,
                }
            }
            other => refused(other),
        })
    }

    /// Lets its vCPUs go on: paused → running.
    pub fn resume(&self) -> Result<()> {
        self.verb("resume", |vm, state| match state {
            VmMachineState::Paused(run) => {
                run.machine.run.ask(Wish::Run);
                run.machine.run.wait_moving();
                vm.settled(VmMachineState::Running(run))
            }
            other => refused(other),
        })
    }

    /// Ends its run, whatever its guest does: running or paused → stopped.
    pub fn shutdown(&self) -> Result<()> {
        self.verb("stop", |vm, state| match state {
            VmMachineState::Running(run) | VmMachineState::Paused(run) => {
                (vm.stopped(run, Some(VmOutcome::Stopped)), Ok(()))
            }
            other => refused(other),
        })
    }

    /// Boots it again from its image, from any state that has a machine.
    pub fn reset(&self) -> Result<()> {
        self.verb("reset", |vm, state| match state {
            VmMachineState::Running(run) | VmMachineState::Paused(run) => {
                match vm.stopped(run, Some(VmOutcome::Stopped)) {
                    VmMachineState::Stopped(machine, _) => vm.restarted(machine),
                    other => refused(other),
                }
            }
            VmMachineState::Inited(machine) | VmMachineState::Stopped(machine, _) => {
                vm.restarted(machine)
            }
            other => refused(other),
        })
    }

    /// Gives back everything it holds; running or not → uninit.
    pub fn delete(&self) -> Result<()> {
        self.verb("be deleted", |vm, state| {
            if let VmMachineState::Running(run) | VmMachineState::Paused(run) = state {
                drop(vm.stopped(run, Some(VmOutcome::Stopped)));
            }
            (VmMachineState::Uninit, Ok(()))
        })
    }

    /// Waits until the run that it is in has ended, and returns why.
    ///
    /// `None` if it has not ended its last run: it never ran, or a verb has
    /// started it again meanwhile.
    pub fn wait_stopped(&self) -> Option<VmOutcome> {
        let run = self.turn.take(|| match &*self.data.state.lock() {
            VmMachineState::Running(run) | VmMachineState::Paused(run) => {
                Some(run.machine.run.clone())
            }
            _ => None,
        });
        if let Some(run) = run {
            run.wait_over();
        }
        // A verb that does nothing but let the state settle.
        let _ = self.verb("settle", |_, state| (state, Ok(())));
        self.outcome()
    }

    fn blueprint(&self) -> Blueprint<'_, A::Hal> {
        Blueprint {
            id: self.data.id,
            hal: &self.hal,
            config: &self.config,
            output: &self.output,
        }
    }

    /// Takes one step of its life: `step` gets the state and returns the next.
    fn verb(
        &self,
        name: &'static str,
        step: impl FnOnce(&Self, VmMachineState<A>) -> Step<A>,
    ) -> Result<()> {
        self.turn.take(|| {
            let state = self.swap(VmMachineState::Switching);
            let (settled, _) = self.settled(state);
            let (after, result) = step(self, settled);
            // A refusal changed nothing, so this is what refused.
            let status = after.status();
            self.swap(after);
            result.map_err(|error| match error {
                Refusal::State => Error::WrongState {
                    verb: name,
                    state: status,
                },
                Refusal::Failed(error) => error,
            })
        })
    }

    fn swap(&self, state: VmMachineState<A>) -> VmMachineState<A> {
        core::mem::replace(&mut *self.data.state.lock(), state)
    }

    /// Notices a run that has ended by itself.
    fn settled(&self, state: VmMachineState<A>) -> Step<A> {
        let state = match state {
            VmMachineState::Running(run) | VmMachineState::Paused(run)
                if run.machine.run.is_over() =>
            {
                self.stopped(run, None)
            }
            other => other,
        };
        (state, Ok(()))
    }

    fn built(&self, machine: Result<Machine<A>>) -> Step<A> {
        match machine {
            Ok(machine) => (VmMachineState::Inited(machine), Ok(())),
            Err(error) => (
                VmMachineState::Failed(error.clone()),
                Err(Refusal::Failed(error)),
            ),
        }
    }

    fn restarted(&self, machine: Machine<A>) -> Step<A> {
        match self.built(machine.rebuild(&self.blueprint())) {
            (VmMachineState::Inited(machine), Ok(())) => self.started(machine),
            failed => failed,
        }
    }

    /// Starts one thread for each vCPU, or fails and leaves none.
    fn started(&self, machine: Machine<A>) -> Step<A> {
        let machine = Arc::new(machine);
        machine.run.threads_start();
        let spawned: Vec<_> = machine
            .vcpus
            .iter()
            .map(|vcpu| {
                let task = Arc::new(VCpuThread::new(machine.clone(), vcpu.clone()));
                let name = format!("{}/{}", self.data.name, vcpu.id());
                self.hal.spawn_vcpu(name, vcpu.pcpus(), task)
            })
            .collect();
        let missing = spawned.iter().position(Option::is_none);
        for _ in spawned.iter().filter(|thread| thread.is_none()) {
            machine.run.thread_ends();
        }
        let threads = spawned.into_iter().flatten().collect();
        let run = Run { machine, threads };
        match missing {
            None => (VmMachineState::Running(run), Ok(())),
            Some(vcpu) => {
                drop(self.stopped(run, Some(VmOutcome::Stopped)));
                self.built(Err(Error::NoThread { vcpu }))
            }
        }
    }

    /// Waits for the threads of a run to end, ending it first for `reason`.
    fn stopped(&self, run: Run<A>, reason: Option<VmOutcome>) -> VmMachineState<A> {
        self.swap(VmMachineState::Stopping);
        let Run { machine, threads } = run;
        if let Some(reason) = reason {
            machine.run.end(reason);
        }
        machine.run.wait_over();
        for thread in threads {
            thread.join();
        }
        let outcome = machine.run.outcome();
        // Each thread dropped its share before it counted as ended.
        match Arc::into_inner(machine) {
            Some(machine) => VmMachineState::Stopped(machine, outcome),
            None => VmMachineState::Uninit,
        }
    }
}

/// Whoever lets go of a VM last ends it, so that no thread runs on unowned.
impl<A: ArchVm> Drop for AxVM<A> {
    fn drop(&mut self) {
        // Deleting is allowed in every state.
        let _ = self.delete();
    }
}

/// The next state, and whether the verb did what it should.
type Step<A> = (VmMachineState<A>, core::result::Result<(), Refusal>);

/// Why a verb did not do what it should.
enum Refusal {
    /// The state does not allow it.
    State,
    /// Something failed on the way.
    Failed(Error),
}

fn refused<A: ArchVm>(state: VmMachineState<A>) -> Step<A> {
    (state, Err(Refusal::State))
}
