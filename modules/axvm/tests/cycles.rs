// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Many lives one after the other: every page is accounted for after each.

use arch_vm_host::{
    Program,
    testing::{Bench, Setup, watchdog},
};
use axvm::VmOutcome;

const CYCLES: usize = 10_000;

#[test]
fn ten_thousand_vms_are_created_and_deleted_and_every_page_comes_back() {
    let bench = Bench::new(Setup {
        frames: 16,
        ram_blocks: 1,
        ..Setup::default()
    });
    let program = Program::new().halt();
    for cycle in 0..CYCLES {
        let vm = bench.vm(1 + cycle % 4, &program);
        vm.init().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    }
}

#[test]
fn a_thousand_vms_are_run_and_every_page_and_thread_comes_back() {
    watchdog(|| {
        let bench = Bench::new(Setup {
            frames: 16,
            ram_blocks: 1,
            switch_one_in: 5,
            ..Setup::default()
        });
        let program = Program::new()
            .cpu_start(1, "off", 0)
            .label("off")
            .power_off();
        for cycle in 0..CYCLES / 10 {
            let vm = bench.start(1 + cycle % 3, &program);
            if cycle % 2 == 0 {
                assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
            }
            vm.delete().unwrap();
            bench.host.check();
        }
    });
}
