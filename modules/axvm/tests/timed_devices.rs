// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Devices that act at a time do so whatever the guest's vCPUs do meanwhile.

use arch_vm_host::{
    CONSOLE_MMIO, KITCHEN_TIMER_IRQ, KITCHEN_TIMER_MMIO, Program, Reg, SysReg,
    testing::{Bench, watchdog},
};
use axvm::{
    AccessWidth::{Byte, Qword},
    ExitKind, VmOutcome, VmStatus,
};

const MILLISECOND_NS: u64 = 1_000_000;

/// Sets the kitchen timer.
fn set_timer(program: Program, after_ns: u64) -> Program {
    program
        .set(Reg(1), after_ns)
        .store(Reg(1), KITCHEN_TIMER_MMIO, Qword)
}

/// Sleeps until there is an interrupt, which must be the kitchen timer's.
///
/// A halt ends early if the host wanted something of the vCPU meanwhile.
fn await_ring(program: Program) -> Program {
    program
        .set(Reg(2), u64::from(KITCHEN_TIMER_IRQ) + 1)
        .label("sleep")
        .halt()
        .sys_read(Reg(1), SysReg::Claim)
        .jump_equal(Reg(1), Reg(0), "sleep")
        .jump_equal(Reg(1), Reg(2), "rings")
        .power_fail(1)
        .label("rings")
}

/// Powers off when the kitchen timer rings.
fn end_on_ring(program: Program) -> Program {
    await_ring(program).power_off()
}

#[test]
fn a_ring_wakes_a_guest_that_sleeps() {
    watchdog(|| {
        let bench = Bench::default();
        let program = set_timer(Program::new(), MILLISECOND_NS);
        let vm = bench.start(1, &end_on_ring(program));
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    });
}

#[test]
fn a_ring_reaches_a_guest_that_spins() {
    watchdog(|| {
        let bench = Bench::switching(3);
        let program = set_timer(Program::new(), MILLISECOND_NS)
            .label("look")
            .sys_read(Reg(1), SysReg::Pending)
            .jump_equal(Reg(1), Reg(0), "look");
        let vm = bench.start(1, &end_on_ring(program));
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    });
}

#[test]
fn a_ring_comes_while_the_boot_vcpu_is_off() {
    watchdog(|| {
        let bench = Bench::default();
        // The timer reads as zero when it has rung, and so does an unused register.
        let program = Program::new().cpu_start(1, "second", 0).cpu_stop();
        let program = set_timer(program.label("second"), MILLISECOND_NS)
            .label("look")
            .load(Reg(1), KITCHEN_TIMER_MMIO, Qword)
            .jump_equal(Reg(1), Reg(3), "rung")
            .jump("look")
            .label("rung")
            .power_off();
        let vm = bench.start(2, &program);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    });
}

#[test]
fn a_ring_during_a_pause_is_handled_after_it() {
    watchdog(|| {
        let bench = Bench::default();
        // It ends only when it is told, as the pause may come late.
        let program = await_ring(set_timer(Program::new(), 20 * MILLISECOND_NS))
            .label("wait")
            .load(Reg(3), CONSOLE_MMIO + 1, Byte)
            .jump_equal(Reg(3), Reg(0), "wait")
            .power_off();
        let vm = bench.start(1, &program);
        vm.pause().unwrap();
        std::thread::sleep(core::time::Duration::from_millis(40));
        assert_eq!(vm.status(), VmStatus::Paused);
        vm.resume().unwrap();
        let mmio = || {
            vm.with_machine(|m| m.vcpus()[0].control().stats().exits(ExitKind::Mmio))
                .unwrap()
        };
        // One set the timer, and the others come after the ring.
        Bench::until("it rings", || mmio() > 1);
        vm.push_input(b"x");
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    });
}

#[test]
fn a_set_timer_outlives_neither_a_stop_nor_a_restart() {
    watchdog(|| {
        let bench = Bench::default();
        let program = set_timer(Program::new(), 5 * MILLISECOND_NS);
        let vm = bench.start(1, &end_on_ring(program));
        vm.reset().unwrap();
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        drop(vm);
        bench.host.check();
    });
}
