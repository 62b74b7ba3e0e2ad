// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Random lives against a model of a few lines: after each step the VM is in
//! the state that the model says, for the reason it says, holding what it says.

use arch_vm_host::{
    HostVm, Program, Reg, SysReg,
    testing::{Bench, Setup, StdHost, watchdog},
};
use axvm::{AxVM, VmOutcome, VmStatus};
use proptest::prelude::*;

const CPUS_MAX: usize = 4;

/// How the guest ends when an interrupt tells it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    PowerOff,
    Fail,
    Reset,
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Init,
    Boot,
    Pause,
    Resume,
    Shutdown,
    Reset,
    Delete,
    /// An interrupt makes the guest end.
    Tell(End),
    /// An interrupt that the guest takes no notice of.
    Noise,
    /// The next thing that the host is asked for is not there.
    Shortage,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Uninit,
    Inited(Vec<End>),
    Running,
    Paused(Vec<End>),
    Stopped(Option<End>),
    Failed,
}

struct Model {
    state: State,
    shortage: bool,
}

impl Model {
    /// Returns the VM's next state; `None` if it refuses.
    fn verb(&mut self, step: Step) -> Option<State> {
        use State::{Failed, Inited, Paused, Running, Stopped, Uninit};
        let shortage = std::mem::take(&mut self.shortage);
        let unless_short = |state| if shortage { Failed } else { state };
        Some(match (step, &self.state) {
            (Step::Init, Uninit | Failed) => unless_short(Inited(vec![])),
            (Step::Boot, Inited(told)) => unless_short(going_on(told)),
            (Step::Boot, Stopped(_)) => unless_short(Running),
            (Step::Pause, Running) => Paused(vec![]),
            (Step::Resume, Paused(told)) => going_on(told),
            (Step::Shutdown, Running | Paused(_)) => Stopped(None),
            (Step::Reset, Inited(_) | Running | Paused(_) | Stopped(_)) => unless_short(Running),
            (Step::Delete, _) => Uninit,
            _ => return None,
        })
    }

    fn tell(&mut self, end: End) {
        match &mut self.state {
            State::Running => self.state = State::Stopped(Some(end)),
            State::Inited(told) | State::Paused(told) => told.push(end),
            State::Uninit | State::Stopped(_) | State::Failed => {}
        }
    }
}

/// A guest takes the lowest interrupt first.
fn going_on(told: &[End]) -> State {
    match told.iter().min() {
        Some(end) => State::Stopped(Some(*end)),
        None => State::Running,
    }
}

fn status_of(state: &State) -> VmStatus {
    match state {
        State::Uninit => VmStatus::Uninit,
        State::Inited(_) => VmStatus::Inited,
        State::Running => VmStatus::Running,
        State::Paused(_) => VmStatus::Paused,
        State::Stopped(_) => VmStatus::Stopped,
        State::Failed => VmStatus::Failed,
    }
}

fn is_outcome(outcome: &VmOutcome, end: Option<End>) -> bool {
    match end {
        None => *outcome == VmOutcome::Stopped,
        Some(End::PowerOff) => *outcome == VmOutcome::PoweredOff,
        Some(End::Fail) => *outcome == VmOutcome::GuestFailed(3),
        Some(End::Reset) => *outcome == VmOutcome::ResetRequested,
        Some(End::Crash) => matches!(outcome, VmOutcome::Crashed(fault) if fault.vcpu == 0),
    }
}

/// Starts its other CPUs and ends as interrupts 10-13 tell it to.
fn guest(cpus: usize) -> Program {
    let ends = ["power_off", "fail", "reset", "crash"];
    let program = (1..cpus as u64).fold(Program::new(), |program, cpu| {
        program.cpu_start(cpu, "spin", 0)
    });
    let program = program
        .label("sleep")
        .halt()
        .sys_read(Reg(1), SysReg::Claim);
    ends.into_iter()
        .zip(10u64..)
        .fold(program, |program, (label, vector)| {
            program
                .set(Reg(2), vector + 1)
                .jump_equal(Reg(1), Reg(2), label)
        })
        .jump("sleep")
        .label("power_off")
        .power_off()
        .label("fail")
        .power_fail(3)
        .label("reset")
        .reset()
        .label("crash")
        .unhandled(1)
        .label("spin")
        .spin()
}

fn call(vm: &AxVM<HostVm<StdHost>>, step: Step) -> Option<axvm::Result<()>> {
    match step {
        Step::Init => Some(vm.init()),
        Step::Boot => Some(vm.boot()),
        Step::Pause => Some(vm.pause()),
        Step::Resume => Some(vm.resume()),
        Step::Shutdown => Some(vm.shutdown()),
        Step::Reset => Some(vm.reset()),
        Step::Delete => Some(vm.delete()),
        Step::Tell(_) | Step::Noise | Step::Shortage => None,
    }
}

fn take_step(bench: &Bench, vm: &AxVM<HostVm<StdHost>>, model: &mut Model, step: Step) {
    match step {
        Step::Tell(end) => {
            vm.inject_irq(0, 10 + end as u64);
            model.tell(end);
        }
        Step::Noise => {
            vm.inject_irq(0, 40);
            vm.push_input(b"noise");
        }
        Step::Shortage => {
            bench.host.fail_after(None, 0);
            model.shortage = true;
        }
        verb => {
            let told = call(vm, verb).unwrap();
            bench.host.has_failed();
            let next = model.verb(verb);
            let is_well = next.as_ref().is_some_and(|next| *next != State::Failed);
            let was_failed = model.state == State::Failed;
            assert_eq!(
                told.is_ok(),
                is_well,
                "{verb:?} in {:?}: {told:?}",
                model.state
            );
            if let Some(next) = next {
                model.state = next;
            } else {
                assert_eq!(was_failed, model.state == State::Failed);
            }
        }
    }
}

fn compare(bench: &Bench, vm: &AxVM<HostVm<StdHost>>, model: &Model, cpus: usize) {
    if let State::Stopped(end) = &model.state {
        let outcome = vm.wait_stopped().expect("it has ended");
        assert!(is_outcome(&outcome, *end), "{outcome} is not {end:?}");
    }
    assert_eq!(vm.status(), status_of(&model.state));
    let books = bench.host.books(|books| books.clone());
    assert!(books.wrongs.is_empty(), "{:?}", books.wrongs);
    let has_machine = !matches!(model.state, State::Uninit | State::Failed);
    let runs = matches!(model.state, State::Running | State::Paused(_));
    assert_eq!(books.frames, if has_machine { 2 + cpus } else { 0 });
    assert_eq!(books.ram_blocks, usize::from(has_machine));
    assert_eq!(books.threads, if runs { cpus } else { 0 });
}

fn any_step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        Just(End::PowerOff),
        Just(End::Fail),
        Just(End::Reset),
        Just(End::Crash),
    ];
    prop_oneof![
        3 => Just(Step::Init),
        4 => Just(Step::Boot),
        3 => Just(Step::Pause),
        3 => Just(Step::Resume),
        2 => Just(Step::Shutdown),
        2 => Just(Step::Reset),
        1 => Just(Step::Delete),
        2 => end.prop_map(Step::Tell),
        2 => Just(Step::Noise),
        1 => Just(Step::Shortage),
    ]
}

#[test]
fn random_lives_agree_with_the_model() {
    let steps = proptest::collection::vec(any_step(), 1..30);
    let config = ProptestConfig {
        cases: 500,
        // A life that hangs is not made shorter by others that hang as long.
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    };
    proptest!(config, |(cpus in 1..=CPUS_MAX, seed: u64, steps in steps)| {
        watchdog(move || {
            let bench = Bench::new(Setup { switch_one_in: 3, seed, ..Setup::default() });
            let vm = bench.vm(cpus, &guest(cpus));
            let mut model = Model { state: State::Uninit, shortage: false };
            for step in steps {
                take_step(&bench, &vm, &mut model, step);
                compare(&bench, &vm, &model, cpus);
            }
            drop(vm);
            bench.host.check();
        });
    });
}
