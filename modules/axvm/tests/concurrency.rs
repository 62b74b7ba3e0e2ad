// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Many callers, one VM: verbs, interrupts, input and looks from all sides,
//! while the guest ends by itself as it likes. Nothing hangs, nothing is lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{Scope, scope},
    time::Duration,
};

use arch_vm_host::{
    HostVm, Program, RAM_START,
    testing::{Bench, StdHost, watchdog},
};
use axvm::{AxVM, Error, VmStatus};

type Vm = AxVM<HostVm<StdHost>>;

const VERBS: [fn(&Vm) -> axvm::Result<()>; 7] = [
    Vm::init,
    Vm::boot,
    Vm::pause,
    Vm::resume,
    Vm::shutdown,
    Vm::reset,
    Vm::delete,
];

/// How long each storm lasts.
const STORM: Duration = Duration::from_millis(1200);

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Lets `callers` threads call verbs and others look on, for a while.
fn storm(bench: &Bench, vm: &Vm, callers: u64) {
    let is_over = AtomicBool::new(false);
    let done = AtomicU64::new(0);
    scope(|threads| {
        let call = |caller| {
            let (is_over, done) = (&is_over, &done);
            threads.spawn(move || call_verbs(vm, caller, is_over, done))
        };
        let callers: Vec<_> = (0..callers).map(call).collect();
        look_on(threads, vm, &is_over);
        std::thread::sleep(STORM);
        // On a busy machine nobody may have come that far.
        Bench::until("a verb does something", || done.load(Ordering::Relaxed) > 0);
        is_over.store(true, Ordering::Relaxed);
        let ended: Vec<_> = callers.into_iter().map(|caller| caller.join()).collect();
        // Nobody is left who could start it once more, so whoever waits for
        // the end of a run gets it. Refused if it does not run.
        let _ = vm.shutdown();
        for caller in ended {
            caller.expect("no verb fails");
        }
    });
    vm.delete().unwrap();
    assert_eq!(vm.status(), VmStatus::Uninit);
    bench.host.check();
}

fn call_verbs(vm: &Vm, caller: u64, is_over: &AtomicBool, done: &AtomicU64) {
    let mut random = Random(0x9e37_79b9 + caller);
    while !is_over.load(Ordering::Relaxed) {
        match VERBS[random.below(VERBS.len())](vm) {
            Ok(()) => {
                done.fetch_add(1, Ordering::Relaxed);
            }
            Err(Error::WrongState { .. }) => {}
            Err(error) => panic!("a verb failed: {error}"),
        }
    }
}

fn look_on<'scope>(
    threads: &'scope Scope<'scope, '_>,
    vm: &'scope Vm,
    is_over: &'scope AtomicBool,
) {
    threads.spawn(|| {
        let mut vector = 0;
        while !is_over.load(Ordering::Relaxed) {
            vector = (vector + 1) % 70;
            vm.inject_irq(vector as usize % 5, vector);
            vm.push_input(b"input");
        }
    });
    threads.spawn(|| {
        while !is_over.load(Ordering::Relaxed) {
            let _ = vm.wait_stopped();
            let _ = (vm.outcome(), vm.failure());
            // Otherwise nobody else would ever find it stopped.
            std::thread::sleep(Duration::from_micros(100));
        }
    });
    threads.spawn(|| {
        while !is_over.load(Ordering::Relaxed) {
            let _ = vm.status();
            vm.with_machine(|machine| {
                for vcpu in machine.vcpus() {
                    let stats = vcpu.control().stats();
                    let _ = (vcpu.state(), vcpu.power(), stats.last_exits());
                }
            });
            std::thread::sleep(Duration::from_micros(50));
        }
    });
}

#[test]
fn a_guest_that_runs_for_ever_survives_a_storm_of_verbs() {
    watchdog(|| {
        let bench = Bench::switching(31);
        let program = Program::new()
            .cpu_start(1, "count", 0)
            .label("count")
            .count(RAM_START + 0x10_0000)
            .halt()
            .jump("count");
        let vm = bench.vm(3, &program);
        storm(&bench, &vm, 4);
    });
}

#[test]
fn guests_that_end_by_themselves_survive_a_storm_of_verbs() {
    watchdog(|| {
        let ends = [
            Program::new().power_off(),
            Program::new()
                .cpu_start(1, "fail", 0)
                .label("fail")
                .unhandled(1),
        ];
        for (seed, end) in (37..).zip(ends) {
            let bench = Bench::switching(seed);
            let vm = bench.vm(4, &end);
            storm(&bench, &vm, 3);
        }
    });
}

#[test]
fn a_guest_that_asks_for_restarts_gets_them_from_its_keeper_in_a_storm() {
    watchdog(|| {
        let bench = Bench::switching(41);
        let vm = bench.start(2, &Program::new().reset());
        for _ in 0..20 {
            assert_eq!(vm.wait_stopped(), Some(axvm::VmOutcome::ResetRequested));
            vm.boot().unwrap();
        }
        storm(&bench, &vm, 3);
    });
}

#[test]
fn several_vms_on_one_host_do_not_wait_for_each_other() {
    watchdog(|| {
        let bench = Arc::new(Bench::switching(43));
        // One that nobody stops meanwhile.
        let spins = bench.start(2, &Program::new().spin());
        let lives = |seed: u64| {
            let bench = bench.clone();
            move || {
                let mut random = Random(seed);
                for _ in 0..30 {
                    let cpus = 1 + random.below(4);
                    let vm = bench.start(cpus, &Program::new().hypercall(1).power_off());
                    vm.wait_stopped().unwrap();
                    vm.boot().unwrap();
                    vm.delete().unwrap();
                }
            }
        };
        let threads: Vec<_> = (1..=4)
            .map(|seed| std::thread::spawn(lives(seed)))
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(spins.status(), VmStatus::Running);
        spins.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn callers_that_race_for_one_step_see_one_winner() {
    watchdog(|| {
        let bench = Bench::default();
        let vm = bench.vm(2, &Program::new().spin());
        for _ in 0..20 {
            vm.init().unwrap();
            for (verb, winners) in [
                (Vm::boot as fn(&Vm) -> _, 1),
                (Vm::pause, 1),
                (Vm::resume, 1),
            ] {
                let won: usize = scope(|threads| {
                    let callers: Vec<_> = (0..4).map(|_| threads.spawn(|| verb(&vm))).collect();
                    let results = callers.into_iter().map(|caller| caller.join().unwrap());
                    results.filter(Result::is_ok).count()
                });
                assert_eq!(won, winners);
            }
            vm.delete().unwrap();
        }
        bench.host.check();
    });
}
