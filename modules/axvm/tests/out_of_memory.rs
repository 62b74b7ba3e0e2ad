// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Running out of everything, at every place where it can happen: each time
//! everything comes back, and the next attempt succeeds.

use arch_vm_host::{
    HostVm, Program,
    testing::{Bench, Resource, Setup, StdHost, watchdog},
};
use axvm::{AxVM, Error, VmOutcome, VmStatus};

/// More requests than any creation makes.
const REQUESTS_MAX: u64 = 100;

fn is_shortage(error: &Error) -> bool {
    matches!(
        error,
        Error::NoFrames | Error::NoOwnMemory | Error::NoRam { .. } | Error::NoThread { .. }
    )
}

/// Lets the n-th request of `work` fail for every n until it succeeds, and
/// returns how many there were.
fn fail_everywhere(
    host: &StdHost,
    only: Option<Resource>,
    mut work: impl FnMut() -> axvm::Result<()>,
    mut after_failure: impl FnMut(),
) -> u64 {
    for n in 0..REQUESTS_MAX {
        host.fail_after(only, n);
        let result = work();
        if !host.has_failed() {
            assert_eq!(result, Ok(()));
            return n;
        }
        let error = result.expect_err("a refused request cannot be passed over");
        assert!(is_shortage(&error), "{error}");
        after_failure();
    }
    panic!("it never succeeds");
}

#[test]
fn creation_fails_cleanly_at_every_request_and_then_succeeds() {
    for cpus in 1..=8 {
        let bench = Bench::default();
        let vm = bench.vm(cpus, &Program::new().halt());
        let requests = fail_everywhere(
            &bench.host,
            None,
            || vm.init(),
            || {
                assert_eq!(vm.status(), VmStatus::Failed);
                bench.host.check();
            },
        );
        // RAM, a root and a table below it, what the host has for itself, and a save
        // area for each vCPU.
        assert_eq!(requests, 4 + cpus as u64);
        assert_eq!(vm.status(), VmStatus::Inited);
        drop(vm);
        bench.host.check();
    }
}

#[test]
fn creation_of_a_vm_whose_ram_needs_small_tables_fails_cleanly_too() {
    let bench = Bench::default();
    let mut config = arch_vm_host::testing::config("large", 2, &Program::new().halt());
    config.memory_bytes = 48 << 20;
    let vm = bench.vm_of(config);
    for only in [Resource::Frames, Resource::Ram] {
        let check = || bench.host.check();
        let requests = fail_everywhere(&bench.host, Some(only), || vm.init(), check);
        assert!(requests > 0);
        vm.delete().unwrap();
        check();
    }
}

#[test]
fn a_start_without_threads_leaves_none_and_the_vm_can_be_created_again() {
    watchdog(|| {
        for cpus in 1..=8 {
            let bench = Bench::switching(cpus as u64);
            let vm = bench.vm(cpus, &Program::new().spin());
            vm.init().unwrap();
            let requests = fail_everywhere(
                &bench.host,
                Some(Resource::Threads),
                || vm.boot(),
                || {
                    assert_eq!(vm.status(), VmStatus::Failed);
                    bench.host.check();
                    vm.init().unwrap();
                },
            );
            assert_eq!(requests, cpus as u64);
            vm.delete().unwrap();
            bench.host.check();
        }
    });
}

#[test]
fn a_reset_fails_cleanly_at_every_request_and_then_succeeds() {
    watchdog(|| {
        let bench = Bench::switching(2);
        let vm = bench.start(3, &Program::new().spin());
        let requests = fail_everywhere(
            &bench.host,
            None,
            || vm.reset(),
            || {
                assert_eq!(vm.status(), VmStatus::Failed);
                bench.host.check();
                vm.init().unwrap();
                vm.boot().unwrap();
            },
        );
        // Memory stays; the host is asked, save areas and threads are made again.
        assert_eq!(requests, 7);
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_restart_needs_no_more_than_the_first_boot_took() {
    watchdog(|| {
        let cpus = 4;
        let bench = Bench::new(Setup {
            frames: 2 + cpus,
            ram_blocks: 1,
            ..Setup::default()
        });
        let vm = bench.start(cpus, &Program::new().spin());
        for _ in 0..5 {
            vm.reset().unwrap();
        }
        vm.shutdown().unwrap();
        vm.boot().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_vm_too_many_fails_alone() {
    watchdog(|| {
        let bench = Bench::new(Setup {
            ram_blocks: 3,
            ..Setup::default()
        });
        let program = Program::new().spin();
        let vms: Vec<_> = (0..3).map(|_| bench.start(2, &program)).collect();
        let one_more = bench.vm(2, &program);
        let expected = Error::NoRam {
            size_bytes: 2 << 20,
        };
        assert_eq!(one_more.init(), Err(expected));
        assert!(vms.iter().all(|vm| vm.status() == VmStatus::Running));
        vms[0].delete().unwrap();
        one_more.init().unwrap();
        one_more.boot().unwrap();
        one_more.shutdown().unwrap();
        assert_eq!(one_more.outcome(), Some(VmOutcome::Stopped));
        for vm in vms.iter().chain([&one_more]) {
            delete(vm);
        }
        bench.host.check();
    });
}

fn delete(vm: &AxVM<HostVm<StdHost>>) {
    vm.delete().unwrap();
    assert_eq!(vm.status(), VmStatus::Uninit);
}
