// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The VM's state machine: every state with every verb, in the story's order
//! and out of it.

use arch_vm_host::{
    HostVm, Program,
    testing::{Bench, Resource, StdHost, watchdog},
};
use axvm::{AxVM, AxVMRef, Error, Result, VmOutcome, VmStatus};

type Vm = AxVM<HostVm<StdHost>>;

/// A verb, its name in errors, and where it leads from each state it is allowed in.
struct Verb {
    name: &'static str,
    call: fn(&Vm) -> Result<()>,
    steps: &'static [(VmStatus, VmStatus)],
}

use VmStatus::{Failed, Inited, Paused, Running, Stopped, Stopping, Uninit};

/// A run that ended by itself counts as stopped for every verb.
const VERBS: [Verb; 7] = [
    Verb {
        name: "be created",
        call: Vm::init,
        steps: &[(Uninit, Inited), (Failed, Inited)],
    },
    Verb {
        name: "start",
        call: Vm::boot,
        steps: &[(Inited, Running), (Stopped, Running), (Stopping, Running)],
    },
    Verb {
        name: "pause",
        call: Vm::pause,
        steps: &[(Running, Paused)],
    },
    Verb {
        name: "resume",
        call: Vm::resume,
        steps: &[(Paused, Running)],
    },
    Verb {
        name: "stop",
        call: Vm::shutdown,
        steps: &[(Running, Stopped), (Paused, Stopped)],
    },
    Verb {
        name: "reset",
        call: Vm::reset,
        steps: &[
            (Inited, Running),
            (Running, Running),
            (Paused, Running),
            (Stopped, Running),
            (Stopping, Running),
        ],
    },
    Verb {
        name: "be deleted",
        call: Vm::delete,
        steps: &[
            (Uninit, Uninit),
            (Inited, Uninit),
            (Running, Uninit),
            (Paused, Uninit),
            (Stopped, Uninit),
            (Stopping, Uninit),
            (Failed, Uninit),
        ],
    },
];

const STATES: [VmStatus; 7] = [Uninit, Inited, Running, Paused, Stopping, Stopped, Failed];

fn vm_in(bench: &Bench, state: VmStatus) -> AxVMRef<HostVm<StdHost>> {
    let spins = Program::new().spin();
    let vm = match state {
        Stopping => bench.vm(2, &Program::new().power_off()),
        _ => bench.vm(2, &spins),
    };
    match state {
        Uninit => {}
        Inited => vm.init().unwrap(),
        Failed => {
            bench.host.fail_after(Some(Resource::Ram), 0);
            vm.init().unwrap_err();
        }
        _ => {
            vm.init().unwrap();
            vm.boot().unwrap();
        }
    }
    match state {
        Paused => vm.pause().unwrap(),
        Stopped => vm.shutdown().unwrap(),
        Stopping => Bench::until("it has ended", || vm.status() == Stopping),
        _ => {}
    }
    assert_eq!(vm.status(), state);
    vm
}

#[test]
fn every_verb_does_what_it_says_or_refuses_and_changes_nothing() {
    watchdog(|| {
        let bench = Bench::default();
        for state in STATES {
            for verb in &VERBS {
                try_verb(&bench, state, verb);
            }
        }
        bench.host.check();
    });
}

fn try_verb(bench: &Bench, state: VmStatus, verb: &Verb) {
    let vm = vm_in(bench, state);
    let told = (verb.call)(&vm);
    let name = verb.name;
    let seen = if state == Stopping { Stopped } else { state };
    match verb.steps.iter().find(|(from, _)| *from == state) {
        Some((_, to)) => {
            assert_eq!(told, Ok(()), "{name} when {state}");
            let may_have_ended = state == Stopping && *to == Running;
            let status = vm.status();
            let is_there = status == *to || (may_have_ended && status == Stopping);
            assert!(is_there, "{name} when {state} leads to {status}");
        }
        None => {
            let refusal = Error::WrongState {
                verb: name,
                state: seen,
            };
            assert_eq!(told, Err(refusal), "{name} when {state}");
            assert_eq!(vm.status(), seen, "{name} when {state}");
        }
    }
    vm.delete().unwrap();
    assert_eq!(bench.host.books(|books| books.frames), 0);
}

#[test]
fn a_whole_life_with_one_to_eight_vcpus_leaves_nothing_behind() {
    watchdog(|| {
        for cpus in 1..=8 {
            let bench = Bench::switching(cpus as u64);
            let vm = bench.vm(cpus, &Program::new().spin());
            let verbs: [fn(&Vm) -> Result<()>; 9] = [
                Vm::init,
                Vm::boot,
                Vm::pause,
                Vm::resume,
                Vm::reset,
                Vm::pause,
                Vm::reset,
                Vm::shutdown,
                Vm::delete,
            ];
            for verb in verbs {
                verb(&vm).unwrap();
            }
            assert_eq!(vm.status(), Uninit);
            bench.host.check();
        }
    });
}

#[test]
fn several_vms_live_at_once_and_end_by_themselves() {
    watchdog(|| {
        let bench = Bench::switching(7);
        let vms: Vec<_> = (0..6)
            .map(|i| bench.start(1 + i % 3, &Program::new().print("x").power_off()))
            .collect();
        for vm in &vms {
            assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
            assert_eq!(vm.status(), Stopped);
        }
        assert_eq!(bench.output.text(), "xxxxxx");
        drop(vms);
        bench.host.check();
    });
}

#[test]
fn a_vm_that_is_dropped_gives_back_everything() {
    let bench = Bench::default();
    let vm = vm_in(&bench, Inited);
    assert_ne!(bench.host.books(|books| books.frames), 0);
    drop(vm);
    bench.host.check();
}

#[test]
fn a_vm_that_is_dropped_while_it_runs_or_is_paused_ends_first() {
    watchdog(|| {
        let bench = Bench::switching(5);
        for state in [Running, Paused, Stopping] {
            drop(vm_in(&bench, state));
            bench.host.check();
        }
    });
}

#[test]
fn a_configuration_that_cannot_be_built_is_refused_with_its_key() {
    let bench = Bench::default();
    let mut no_cpus = arch_vm_host::testing::config("none", 1, &Program::new().halt());
    no_cpus.vcpus.clear();
    let mut odd_ram = arch_vm_host::testing::config("odd", 1, &Program::new().halt());
    odd_ram.memory_bytes = 4096;
    let mut no_kernel = arch_vm_host::testing::config("empty", 1, &Program::new().halt());
    no_kernel.boot.kernel = axvm::ImageBytes::Static(b"garbage");
    for (config, key) in [
        (no_cpus, "vm.cpus"),
        (odd_ram, "vm.memory"),
        (no_kernel, "boot.kernel"),
    ] {
        let vm = bench.vm_of(config);
        let Err(Error::Config(fault)) = vm.init() else {
            panic!("{key} was accepted");
        };
        assert_eq!(fault.key, key);
        assert_eq!(vm.status(), Failed);
        assert_eq!(vm.failure(), Some(Error::Config(fault)));
    }
    bench.host.check();
}

#[test]
fn a_program_that_does_not_fit_fails_the_creation_and_gives_back_the_rest() {
    let bench = Bench::default();
    let mut config = arch_vm_host::testing::config("far", 1, &Program::new().halt());
    config.boot.load = Some(u64::MAX - 8);
    let vm = bench.vm_of(config);
    assert!(matches!(vm.init(), Err(Error::OutsideRam(_))));
    bench.host.check();
}
