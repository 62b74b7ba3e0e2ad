// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The container of VMs on the software architecture.

use std::sync::{Arc, Mutex};

use crate::arch::{
    HostVm, Program,
    testing::{Bench, Output, Setup, StdHost, config, watchdog},
};
use axvm::{CrashPolicy, VmOutcome, VmStatus};

use super::{Announce, Spawn, Vmm, VmmError};

impl Spawn for StdHost {
    fn spawn(&self, _name: &str, body: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(body);
    }
}

/// Remembers what was announced, and does something at the next end of a run.
#[derive(Default)]
struct Notes {
    lines: Mutex<Vec<String>>,
    at_end: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Announce for Notes {
    fn announce(&self, vm: &str, line: core::fmt::Arguments<'_>) {
        let line = format!("{vm}: {line}");
        self.lines.lock().unwrap().push(line);
    }

    fn ended(&self, _vm: axvm::VMId) {
        let deed = self.at_end.lock().unwrap().take();
        if let Some(deed) = deed {
            deed();
        }
    }
}

struct Rig {
    bench: Bench,
    notes: Arc<Notes>,
    vmm: Arc<Vmm<HostVm<StdHost>>>,
}

impl Rig {
    fn new() -> Self {
        // Time does not pass, so that crashes follow each other at once on any machine.
        let bench = Bench::new(Setup {
            stopped_at_ns: Some(0),
            ..Setup::default()
        });
        let notes = Arc::new(Notes::default());
        let vmm = Vmm::new(bench.host.clone(), notes.clone());
        Self { bench, notes, vmm }
    }

    fn add(&self, name: &str, program: &Program, on_crash: CrashPolicy) {
        let mut config = config(name, 1, program);
        config.policy.autostart = true;
        config.policy.on_crash = on_crash;
        self.vmm.add(config, |_, _| Arc::new(Output::default()));
    }

    fn noted(&self, text: &str) -> usize {
        let notes = self.notes.lines.lock().unwrap();
        notes.iter().filter(|note| note.contains(text)).count()
    }
}

#[test]
fn a_machine_whose_vms_all_power_off_is_idle_and_well() {
    watchdog(|| {
        let rig = Rig::new();
        for name in ["one", "two"] {
            rig.add(name, &Program::new().power_off(), CrashPolicy::Stop);
        }
        rig.vmm.autostart();
        assert!(rig.vmm.wait_idle());
        for vm in rig.vmm.vms() {
            assert_eq!(vm.outcome(), Some(VmOutcome::PoweredOff));
        }
        assert_eq!(rig.noted("powered off"), 2);
    });
}

#[test]
fn a_vm_that_cannot_be_built_keeps_no_other_from_starting() {
    watchdog(|| {
        let rig = Rig::new();
        let mut bad = config("bad", 1, &Program::new().power_off());
        bad.memory_bytes = 1 << 60;
        bad.policy.autostart = true;
        rig.vmm.add(bad, |_, _| Arc::new(Output::default()));
        rig.add("good", &Program::new().power_off(), CrashPolicy::Stop);
        rig.vmm.autostart();
        assert!(
            !rig.vmm.wait_idle(),
            "a VM that could not start is a failure"
        );
        let good = rig.vmm.vm(1).unwrap();
        assert_eq!(good.outcome(), Some(VmOutcome::PoweredOff));
        assert_eq!(rig.noted("bad: cannot start"), 1);
    });
}

#[test]
fn a_crash_stops_a_vm_or_restarts_it_as_its_file_says_but_not_for_ever() {
    watchdog(|| {
        let rig = Rig::new();
        let crash = Program::new().unhandled(7);
        rig.add("stays", &crash, CrashPolicy::Stop);
        rig.add("again", &crash, CrashPolicy::Restart);
        rig.vmm.autostart();
        assert!(!rig.vmm.wait_idle());
        assert_eq!(rig.noted("stays: crashed"), 1);
        assert_eq!(
            rig.noted("again: crashed"),
            1 + super::watch::QUICK_CRASHES_MAX
        );
        let status = |id| rig.vmm.vm(id).unwrap().status();
        assert_eq!([status(0), status(1)], [VmStatus::Stopped; 2]);
    });
}

#[test]
fn a_guest_that_reports_failure_is_a_failure() {
    watchdog(|| {
        let rig = Rig::new();
        rig.add("fails", &Program::new().power_fail(3), CrashPolicy::Stop);
        rig.vmm.autostart();
        assert!(!rig.vmm.wait_idle());
        // Started anew on request, it gets another chance.
        rig.vmm.start(0).unwrap();
        assert!(!rig.vmm.wait_idle());
        assert_eq!(rig.noted("reporting failure 3"), 2);
    });
}

#[test]
fn a_guest_that_asks_for_a_restart_gets_it_until_it_is_stopped() {
    watchdog(|| {
        let rig = Rig::new();
        rig.add("loops", &Program::new().reset(), CrashPolicy::Stop);
        rig.vmm.autostart();
        Bench::until("it restarts", || rig.noted("asked for a restart") > 3);
        // A stop may come between two runs, where there is nothing to stop.
        let vm = rig.vmm.vm(0).unwrap();
        Bench::until("it is stopped", || {
            vm.shutdown().is_ok() && vm.outcome() == Some(VmOutcome::Stopped)
        });
        assert!(rig.vmm.wait_idle());
    });
}

#[test]
fn an_end_is_followed_once_also_of_a_run_that_begins_while_the_last_is_followed() {
    watchdog(|| {
        let rig = Rig::new();
        rig.add("brief", &Program::new().power_off(), CrashPolicy::Stop);
        let vmm = rig.vmm.clone();
        // A second run comes and goes before its watcher looks again.
        *rig.notes.at_end.lock().unwrap() = Some(Box::new(move || {
            vmm.start(0).unwrap();
            vmm.vm(0).unwrap().wait_stopped();
        }));
        rig.vmm.start(0).unwrap();
        assert!(rig.vmm.wait_idle());
        assert_eq!(rig.noted("powered off"), 2);
        // One who comes to watch when its end was followed already finds nothing.
        rig.vmm.watch(&rig.vmm.entries()[0]);
        assert!(rig.vmm.wait_idle());
        assert_eq!(rig.noted("powered off"), 2);
    });
}

#[test]
fn verbs_name_what_they_cannot_find_and_give_everything_back() {
    watchdog(|| {
        let rig = Rig::new();
        assert_eq!(rig.vmm.start(3), Err(VmmError::NoSuchVm(3)));
        rig.add("spins", &Program::new().spin(), CrashPolicy::Stop);
        rig.vmm.start(0).unwrap();
        rig.vmm.reset(0).unwrap();
        rig.vmm.stop_all();
        assert!(rig.vmm.wait_idle());
        rig.vmm.vm(0).unwrap().delete().unwrap();
        rig.vmm.start(0).unwrap();
        rig.vmm.vm(0).unwrap().delete().unwrap();
        assert!(rig.vmm.wait_idle());
        rig.bench.host.check();
    });
}
