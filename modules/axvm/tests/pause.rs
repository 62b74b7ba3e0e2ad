// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Pause and stop are true when they return, whatever the guest does and
//! whoever interrupts it meanwhile.

use std::time::Duration;

use arch_vm_host::{
    HostVm, Insn, Op, Program, RAM_START, Reg, SysReg,
    testing::{Bench, StdHost, watchdog},
};
use axvm::{AxVM, Error, ExitKind, VmOutcome, VmStatus};

/// Where guests count, beyond the program.
const COUNTER: u64 = RAM_START + 0x10_0000;

/// Every vCPU counts at its own place; vCPU 0 starts the others.
fn counting(cpus: u64) -> Program {
    (1..cpus)
        .fold(Program::new(), |program, cpu| {
            program.cpu_start(cpu, "count", 0)
        })
        .label("count")
        .sys_read(Reg(1), SysReg::Id)
        .set(Reg(2), 0)
        .label("shift")
        .jump_equal(Reg(1), Reg(2), "go")
        .add(Reg(2), 1)
        .add(Reg(3), 8)
        .jump("shift")
        .label("go")
        .add(Reg(3), COUNTER)
        .label("loop")
        .insn(Insn::new(Op::Count).a(Reg(4)).b(Reg(3)))
        .jump("loop")
}

fn counts(vm: &AxVM<HostVm<StdHost>>, cpus: u64) -> Vec<u64> {
    (0..cpus)
        .map(|cpu| Bench::peek(vm, COUNTER + 8 * cpu))
        .collect()
}

fn rest() {
    std::thread::sleep(Duration::from_millis(5));
}

#[test]
fn no_guest_instruction_runs_while_a_vm_is_paused() {
    watchdog(|| {
        let bench = Bench::switching(3);
        let vm = bench.start(4, &counting(4));
        Bench::until("all count", || {
            counts(&vm, 4).iter().all(|count| *count > 0)
        });
        for _ in 0..20 {
            vm.pause().unwrap();
            let before = counts(&vm, 4);
            rest();
            assert_eq!(counts(&vm, 4), before, "it counts while it is paused");
            vm.resume().unwrap();
            Bench::until("all go on", || {
                counts(&vm, 4)
                    .iter()
                    .zip(&before)
                    .all(|(now, then)| now > then)
            });
        }
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn an_interrupt_does_not_wake_a_paused_vm_and_is_there_when_it_goes_on() {
    watchdog(|| {
        let bench = Bench::switching(4);
        let vm = bench.start(2, &counting(2));
        Bench::until("both count", || {
            counts(&vm, 2).iter().all(|count| *count > 0)
        });
        vm.pause().unwrap();
        let before = counts(&vm, 2);
        for vector in 0..10 {
            assert!(vm.inject_irq((vector % 2) as usize, vector));
            assert_eq!(vm.push_input(b"x"), 1);
            rest();
        }
        assert_eq!(counts(&vm, 2), before, "an interrupt woke a paused VM");
        assert_eq!(vm.status(), VmStatus::Paused);
        vm.resume().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_paused_vcpus_registers_are_put_away() {
    watchdog(|| {
        let bench = Bench::default();
        let vm = bench.start(3, &counting(2));
        for _ in 0..50 {
            vm.pause().unwrap();
            let states = vm.with_machine(|machine| {
                let vcpus = machine.vcpus().iter();
                vcpus.map(|vcpu| vcpu.state()).collect::<Vec<_>>()
            });
            assert_eq!(states, Some(vec![axvm::VCpuState::Blocked; 3]));
            vm.resume().unwrap();
        }
        vm.delete().unwrap();
    });
}

#[test]
fn a_vcpu_that_is_off_sleeps_even_with_an_interrupt_pending() {
    watchdog(|| {
        let bench = Bench::default();
        let vm = bench.start(2, &Program::new().label("loop").halt().jump("loop"));
        assert!(vm.inject_irq(1, 5));
        rest();
        let state = || {
            vm.with_machine(|machine| machine.vcpus()[1].state())
                .unwrap()
        };
        Bench::until("it sleeps", || state() == axvm::VCpuState::Blocked);
        // A thread that looks around for ever is seldom found asleep.
        for _ in 0..200 {
            std::thread::sleep(Duration::from_micros(50));
            assert_eq!(state(), axvm::VCpuState::Blocked);
        }
        vm.delete().unwrap();
    });
}

#[test]
fn a_guest_that_spins_with_interrupts_closed_stops() {
    watchdog(|| {
        let bench = Bench::default();
        let vm = bench.start(
            2,
            &Program::new().cpu_start(1, "spin", 0).label("spin").spin(),
        );
        Bench::until("it spins", || bench.host.books(|books| books.requests) > 0);
        vm.shutdown().unwrap();
        assert_eq!(vm.outcome(), Some(VmOutcome::Stopped));
        vm.boot().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_guest_that_faults_in_its_handler_for_ever_stops() {
    watchdog(|| {
        let bench = Bench::default();
        // The handler returns to what faulted.
        let program = Program::new()
            .handler("handler")
            .load(Reg(1), 0x1234_5678, axvm::AccessWidth::Dword)
            .label("handler")
            .insn(Insn::new(Op::Return));
        let vm = bench.start(1, &program);
        let mmio = || {
            vm.with_machine(|m| m.vcpus()[0].control().stats().exits(ExitKind::Mmio))
                .unwrap()
        };
        Bench::until("it faults", || mmio() > 10);
        vm.pause().unwrap();
        vm.resume().unwrap();
        vm.shutdown().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_pause_that_returned_well_paused_and_nothing_else() {
    watchdog(|| {
        let bench = Bench::switching(9);
        // Long enough that some pauses come first and some come late.
        let work = (0..40).fold(Program::new(), |program, _| program.hypercall(0));
        let vm = bench.vm(3, &work.cpu_start(1, "off", 0).label("off").power_off());
        vm.init().unwrap();
        let mut paused = 0;
        for _ in 0..100 {
            vm.boot().unwrap();
            match vm.pause() {
                Ok(()) => {
                    paused += 1;
                    assert_eq!(vm.status(), VmStatus::Paused);
                    std::thread::yield_now();
                    assert_eq!(vm.status(), VmStatus::Paused, "a paused guest ended itself");
                    vm.resume().unwrap();
                }
                Err(error) => {
                    let refusal = Error::WrongState {
                        verb: "pause",
                        state: VmStatus::Stopped,
                    };
                    assert_eq!(error, refusal);
                }
            }
            assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        }
        println!("{paused} of 100 pauses came first");
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_halted_guest_wakes_by_interrupt_by_timer_and_by_its_neighbour() {
    watchdog(|| {
        let bench = Bench::switching(5);
        let program = Program::new()
            .cpu_start(1, "other", 0)
            .halt()
            .sys_read(Reg(1), SysReg::Claim)
            .timer_in(2_000_000)
            .label("timer")
            .halt()
            .sys_read(Reg(2), SysReg::Claim)
            .set(Reg(3), 64)
            .jump_equal(Reg(2), Reg(3), "done")
            .jump("timer")
            .label("done")
            .store(Reg(1), COUNTER, axvm::AccessWidth::Qword)
            .power_off()
            .label("other")
            .ipi(1, 9)
            .label("sleep")
            .halt()
            .jump("sleep");
        let vm = bench.start(2, &program);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        assert_eq!(Bench::peek(&vm, COUNTER), 10);
        drop(vm);
        bench.host.check();
    });
}
