// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What guests do to their own power: end, fail, restart, crash, and start and
//! stop their CPUs.

use arch_vm_host::{
    Cause, HostVm, Insn, Op, POWER_MMIO, Program, RAM_START, Reg, SysReg,
    testing::{Bench, StdHost, watchdog},
};
use axvm::{
    AccessWidth::{Dword, Qword},
    AxVM, CpuPower, VmOutcome, VmStatus,
};

/// Where guests write what they saw, beyond the program.
const DATA: u64 = RAM_START + 0x10_0000;

fn outcome_of(program: &Program) -> VmOutcome {
    let program = program.clone();
    watchdog(move || {
        let bench = Bench::switching(1);
        let vm = bench.start(1, &program);
        let outcome = vm.wait_stopped().unwrap();
        assert_eq!(vm.status(), VmStatus::Stopped);
        assert_eq!(vm.outcome(), Some(outcome.clone()));
        drop(vm);
        bench.host.check();
        outcome
    })
}

#[test]
fn each_end_that_a_guest_asks_for_is_its_outcome() {
    let ends = [
        (Program::new().power_off(), VmOutcome::PoweredOff),
        (Program::new().power_fail(7), VmOutcome::GuestFailed(7)),
        (Program::new().reset(), VmOutcome::ResetRequested),
        (
            Program::new().write(POWER_MMIO, Dword, 0),
            VmOutcome::PoweredOff,
        ),
        (
            Program::new().write(POWER_MMIO, Dword, 1),
            VmOutcome::ResetRequested,
        ),
        (
            Program::new().write(POWER_MMIO, Dword, 9),
            VmOutcome::GuestFailed(9),
        ),
    ];
    for (program, outcome) in ends {
        assert_eq!(outcome_of(&program), outcome);
    }
}

/// Returns the fault of a program whose second line does what crashes it.
#[track_caller]
fn crash_of(second: Insn) -> axvm::VmFault {
    let outcome = outcome_of(&Program::new().set(Reg(3), 0xabc).insn(second).spin());
    assert!(outcome.is_failure());
    let VmOutcome::Crashed(fault) = outcome else {
        panic!("it did not crash: {outcome}");
    };
    fault
}

#[test]
fn a_crash_names_vcpu_address_and_cause_and_shows_the_registers() {
    let wild = Reg(3);
    let crashes = [
        (Insn::new(Op::Unhandled).imm(0x77).a(wild), "0x77"),
        (Insn::new(Op::FailEntry).imm(0x55), "0x55"),
        (Insn::new(Op::Load).b(wild).imm(4).width(Dword), "0xac0"),
        (Insn::new(Op::Touch).imm(DATA).mode(1), "stage 2"),
        (Insn::new(Op::SysRead).imm(0xffff), "unhandled"),
    ];
    for (insn, part) in crashes {
        let fault = crash_of(insn);
        assert_eq!(fault.vcpu, 0, "{insn:?}");
        assert_eq!(fault.pc, RAM_START + 16, "{insn:?}");
        assert!(fault.cause.contains(part), "{insn:?}: {}", fault.cause);
        assert!(
            fault.registers.contains("r3 0xabc"),
            "{insn:?}: {}",
            fault.registers
        );
    }
}

#[test]
fn a_jump_into_nothing_crashes_where_it_went() {
    for to in [
        0,
        0x4000_0000,
        RAM_START + (2 << 20),
        u64::MAX,
        u64::MAX - 7,
    ] {
        let fault = crash_of(Insn::new(Op::Jump).imm(to));
        assert_eq!(fault.pc, to);
    }
    // Fresh RAM is zeros, which are no instruction.
    let fault = crash_of(Insn::new(Op::Jump).imm(DATA));
    assert_eq!(fault.pc, DATA);
}

#[test]
fn a_crash_on_another_vcpu_names_that_one() {
    watchdog(|| {
        let bench = Bench::switching(1);
        let program = Program::new()
            .cpu_start(2, "other", 0)
            .spin()
            .label("other")
            .unhandled(5);
        let vm = bench.start(4, &program);
        let Some(VmOutcome::Crashed(fault)) = vm.wait_stopped() else {
            panic!("it did not crash");
        };
        assert_eq!(fault.vcpu, 2);
        assert_eq!(fault.pc, program.address_of("other").unwrap());
        vm.boot().unwrap();
        assert!(matches!(vm.wait_stopped(), Some(VmOutcome::Crashed(_))));
        drop(vm);
        bench.host.check();
    });
}

#[test]
fn a_handled_fault_is_the_guests_own_affair() {
    watchdog(|| {
        let bench = Bench::switching(1);
        let program = Program::new()
            .handler("handler")
            .load(Reg(1), 0x1234_5678, Dword)
            .label("handler")
            .sys_read(Reg(2), SysReg::Cause)
            .store(Reg(2), DATA, Qword)
            .power_off();
        let vm = bench.start(1, &program);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        assert_eq!(Bench::peek(&vm, DATA), Cause::Read.number());
    });
}

/// Every vCPU in turn starts the last one and writes what it was told.
fn racing(cpus: u64) -> Program {
    let last = cpus - 1;
    let starters = 1..last;
    let waits = Program::new()
        .label("start")
        // All wait until everybody is here.
        .count(DATA)
        .label("wait")
        .load(Reg(1), DATA, Qword)
        .set(Reg(2), last)
        .jump_less(Reg(1), Reg(2), "wait")
        .cpu_start(last, "target", 0x99)
        .sys_read(Reg(1), SysReg::Id)
        .set(Reg(2), 0)
        .set(Reg(3), DATA + 0x100)
        .label("shift")
        .jump_equal(Reg(1), Reg(2), "tell")
        .add(Reg(2), 1)
        .add(Reg(3), 8)
        .jump("shift")
        .label("tell")
        .add(Reg(0), 1)
        .insn(Insn::new(Op::Store).a(Reg(0)).b(Reg(3)).width(Qword))
        .count(DATA + 8)
        .label("sleep")
        .halt()
        .jump("sleep")
        .label("target")
        .store(Reg(1), DATA + 0x18, Qword)
        .count(DATA + 0x10)
        .label("target_sleep")
        .halt()
        .jump("target_sleep");
    starters
        .fold(Program::new(), |program, cpu| {
            program.cpu_start(cpu, "start", 0)
        })
        .append(waits)
}

#[test]
fn of_several_starts_of_one_cpu_exactly_one_succeeds() {
    watchdog(|| {
        let bench = Bench::switching(11);
        let cpus = 6;
        let vm = bench.vm(cpus, &racing(cpus as u64));
        vm.init().unwrap();
        for _ in 0..50 {
            vm.reset().unwrap();
            let starters = cpus as u64 - 1;
            Bench::until("all have told", || {
                Bench::peek(&vm, DATA + 8) == starters && Bench::peek(&vm, DATA + 0x10) > 0
            });
            let told: Vec<_> = (0..starters)
                .map(|cpu| Bench::peek(&vm, DATA + 0x100 + 8 * cpu) - 1)
                .collect();
            let started = told.iter().filter(|answer| **answer == 0).count();
            assert_eq!(started, 1, "{told:?}");
            // The others learn that it is on, or about to be.
            assert!(
                told.iter().all(|answer| [0, 2, 3].contains(answer)),
                "{told:?}"
            );
            assert_eq!(Bench::peek(&vm, DATA + 0x10), 1, "it started once");
            assert_eq!(Bench::peek(&vm, DATA + 0x18), 0x99, "with its argument");
        }
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_start_that_cannot_be_is_answered_with_its_reason() {
    watchdog(|| {
        let bench = Bench::default();
        let start = |cpu, entry| Insn::new(Op::CpuStart).a(cpu).imm(entry);
        let program = Program::new()
            .set(Reg(1), 0)
            .insn(start(Reg(1), RAM_START))
            .store(Reg(0), DATA, Qword)
            .set(Reg(1), 2)
            .insn(start(Reg(1), RAM_START))
            .store(Reg(0), DATA + 8, Qword)
            .set(Reg(1), u64::MAX)
            .insn(start(Reg(1), RAM_START))
            .store(Reg(0), DATA + 16, Qword)
            .set(Reg(1), 1)
            .insn(start(Reg(1), 0x1000))
            .store(Reg(0), DATA + 24, Qword)
            .power_off();
        let vm = bench.start(2, &program);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        let told: Vec<_> = (0..4).map(|i| Bench::peek(&vm, DATA + 8 * i)).collect();
        assert_eq!(told, [2, 1, 1, 4]);
    });
}

fn power_of(vm: &AxVM<HostVm<StdHost>>, cpu: usize) -> CpuPower {
    vm.with_machine(|machine| machine.vcpus()[cpu].power())
        .unwrap()
}

#[test]
fn a_cpu_goes_off_and_comes_back_many_times() {
    watchdog(|| {
        let bench = Bench::switching(13);
        let rounds = 200;
        // CPU 0 starts CPU 1 again whenever it has gone.
        let program = Program::new()
            .label("again")
            .cpu_start(1, "visit", 0)
            .load(Reg(1), DATA, Qword)
            .set(Reg(2), rounds)
            .jump_less(Reg(1), Reg(2), "again")
            .power_off()
            .label("visit")
            .count(DATA)
            .cpu_stop();
        let vm = bench.start(2, &program);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        assert!(Bench::peek(&vm, DATA) >= rounds);
        drop(vm);
        bench.host.check();
    });
}

#[test]
fn a_machine_whose_cpus_are_all_off_waits_and_stops_when_told() {
    watchdog(|| {
        let bench = Bench::switching(17);
        let vm = bench.start(3, &Program::new().cpu_stop());
        Bench::until("it is off", || power_of(&vm, 0) == CpuPower::Off);
        assert_eq!(vm.status(), VmStatus::Running);
        vm.pause().unwrap();
        vm.resume().unwrap();
        vm.shutdown().unwrap();
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn a_restarted_vm_finds_zeros_and_its_image_only() {
    watchdog(|| {
        let bench = Bench::switching(19);
        // Fails if anything is left of the last run, and leaves something.
        let program = Program::new()
            .load(Reg(1), DATA, Qword)
            .set(Reg(2), 0)
            .jump_equal(Reg(1), Reg(2), "clean")
            .power_fail(1)
            .label("clean")
            .write(DATA, Qword, 0xbad)
            .write(RAM_START, Qword, 0xbad)
            .write(RAM_START + (2 << 20) - 8, Qword, 0xbad)
            .power_off();
        let vm = bench.vm(2, &program);
        vm.init().unwrap();
        let image = program.image().unwrap();
        for _ in 0..10 {
            vm.reset().unwrap();
            assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
            assert_eq!(Bench::peek(&vm, DATA), 0xbad);
        }
        // A VM that is built and not started holds its image and zeros.
        vm.delete().unwrap();
        vm.init().unwrap();
        let ram = vm.with_machine(|machine| {
            let mut all = vec![0; machine.ram().size_bytes()];
            let start = axvm::GuestPhysAddr::from_usize(RAM_START as usize);
            axdevice::GuestMemory::read(machine.ram(), start, &mut all).unwrap();
            all
        });
        let ram = ram.unwrap();
        let payload = &image[24..];
        assert_eq!(&ram[..payload.len()], payload);
        assert!(ram[payload.len()..].iter().all(|byte| *byte == 0));
    });
}
