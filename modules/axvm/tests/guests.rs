// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What leaves a guest and what comes back to it: devices of every width,
//! registers, ports, calls; and that counters and trace tell of it.

use arch_vm_host::{
    CONSOLE_IRQ, CONSOLE_MMIO, HostVm, Insn, Op, Program, RAM_START, Reg, SCRATCH_PORT,
    SCRATCH_SYS_REG, SysReg,
    testing::{Bench, StdHost, config, watchdog},
};
use axvm::{
    AccessWidth::{self, Byte, Dword, Qword, Word},
    AxVM, AxVMRef, ExitKind, TraceEntry, VmOutcome,
};

/// Where guests write what they saw, beyond the program.
const DATA: u64 = RAM_START + 0x10_0000;

/// Runs a program to its end, which must be a power-off.
#[track_caller]
fn run(bench: &Bench, cpus: usize, program: &Program) -> AxVMRef<HostVm<StdHost>> {
    let vm = bench.start(cpus, program);
    assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    vm
}

fn exits(vm: &AxVM<HostVm<StdHost>>, kind: ExitKind) -> u64 {
    vm.with_machine(|machine| machine.vcpus()[0].control().stats().exits(kind))
        .unwrap()
}

#[test]
fn guest_ram_holds_what_is_stored_in_every_width_and_sign() {
    let bench = Bench::default();
    let value = 0x8182_8384_8586_8788u64;
    let mut program = Program::new();
    let widths = [Byte, Word, Dword, Qword];
    for (i, width) in widths.into_iter().enumerate() {
        let at = DATA + 0x100 * i as u64;
        program = program
            .set(Reg(1), value)
            .store(Reg(1), at, width)
            .load(Reg(2), at, width)
            .store(Reg(2), at + 0x10, Qword)
            .load_signed(Reg(3), at, width)
            .store(Reg(3), at + 0x20, Qword);
    }
    let vm = run(&bench, 1, &program.power_off());
    for (i, width) in widths.into_iter().enumerate() {
        let at = DATA + 0x100 * i as u64;
        let unused = 64 - 8 * width.size() as u32;
        assert_eq!(Bench::peek(&vm, at), value << unused >> unused);
        assert_eq!(Bench::peek(&vm, at + 0x10), value << unused >> unused);
        let signed = (value << unused) as i64 >> unused;
        assert_eq!(Bench::peek(&vm, at + 0x20), signed as u64);
    }
    assert_eq!(exits(&vm, ExitKind::Mmio), 0);
}

#[test]
fn a_device_read_is_extended_as_the_guest_asked() {
    watchdog(|| {
        let bench = Bench::default();
        let program = Program::new()
            .label("wait")
            .load(Reg(4), CONSOLE_MMIO + 1, Byte)
            .jump_equal(Reg(4), Reg(0), "wait")
            .load(Reg(1), CONSOLE_MMIO, Byte)
            .load_signed(Reg(2), CONSOLE_MMIO, Byte)
            .store(Reg(1), DATA, Qword)
            .store(Reg(2), DATA + 8, Qword)
            .power_off();
        let vm = bench.start(1, &program);
        assert_eq!(vm.push_input(&[0x81, 0x82]), 2);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        assert_eq!(Bench::peek(&vm, DATA), 0x81);
        assert_eq!(Bench::peek(&vm, DATA + 8), 0xffff_ffff_ffff_ff82);
    });
}

#[test]
fn ports_and_system_registers_hold_what_is_written() {
    let bench = Bench::default();
    let port = u64::from(SCRATCH_PORT);
    let program = Program::new()
        .set(Reg(1), 0x1234)
        .insn(Insn::new(Op::PortOut).a(Reg(1)).imm(port).width(Word))
        .insn(Insn::new(Op::PortIn).imm(port).width(Word))
        .store(Reg(0), DATA, Qword)
        .set(Reg(1), 0x5678)
        .insn(Insn::new(Op::SysWrite).a(Reg(1)).imm(SCRATCH_SYS_REG))
        .insn(Insn::new(Op::SysRead).a(Reg(2)).imm(SCRATCH_SYS_REG))
        .store(Reg(2), DATA + 8, Qword)
        // A port that is not there reads as ones, and writes to it are lost.
        .insn(Insn::new(Op::PortOut).a(Reg(1)).imm(0xff00).width(Byte))
        .insn(Insn::new(Op::PortIn).imm(0xff00).width(Byte))
        .store(Reg(0), DATA + 16, Qword)
        .power_off();
    let vm = run(&bench, 1, &program);
    assert_eq!(Bench::peek(&vm, DATA), 0x1234);
    assert_eq!(Bench::peek(&vm, DATA + 8), 0x5678);
    assert_eq!(Bench::peek(&vm, DATA + 16), u64::MAX);
    assert_eq!(exits(&vm, ExitKind::Port), 4);
    assert_eq!(exits(&vm, ExitKind::SysReg), 2);
}

#[test]
fn hypercall_zero_answers_the_version_and_others_that_they_are_unknown() {
    let bench = Bench::default();
    let program = Program::new()
        .hypercall(0)
        .store(Reg(0), DATA, Qword)
        .hypercall(12345)
        .store(Reg(0), DATA + 8, Qword)
        .power_off();
    let vm = run(&bench, 1, &program);
    assert_eq!(Bench::peek(&vm, DATA), 1 << 16);
    assert_eq!(Bench::peek(&vm, DATA + 8), u64::MAX);
    assert_eq!(exits(&vm, ExitKind::Hypercall), 2);
}

#[test]
fn a_refused_access_is_a_fault_of_that_kind_at_that_instruction() {
    let refused: [(Insn, u64); 6] = [
        (Insn::new(Op::Load).imm(0x10).width(Dword), 5),
        (Insn::new(Op::Store).imm(0x10).width(Dword), 7),
        (Insn::new(Op::Load).imm(CONSOLE_MMIO).width(Qword), 5),
        (Insn::new(Op::Load).imm(DATA + 1).width(Word), 4),
        (Insn::new(Op::SysWrite).imm(0xdead), 2),
        (Insn::new(Op::Jump).imm(0x4000), 1),
    ];
    let bench = Bench::default();
    for (insn, cause) in refused {
        let program = Program::new()
            .handler("handler")
            .label("refused")
            .insn(insn)
            .label("handler")
            .sys_read(Reg(1), SysReg::Cause)
            .sys_read(Reg(2), SysReg::Return)
            .store(Reg(1), DATA, Qword)
            .store(Reg(2), DATA + 8, Qword)
            .power_off();
        let vm = run(&bench, 1, &program);
        assert_eq!(Bench::peek(&vm, DATA), cause, "{insn:?}");
        let at = match insn.op {
            Op::Jump => insn.imm,
            _ => program.address_of("refused").unwrap(),
        };
        assert_eq!(Bench::peek(&vm, DATA + 8), at, "{insn:?}");
    }
}

#[test]
fn an_ipi_reaches_its_targets_and_nobody_else() {
    watchdog(|| {
        let bench = Bench::switching(23);
        // (mode, mask, who has it): mask, all others, all.
        for (mode, mask, reached) in [(0u8, 0b1010u64, 0b1010u64), (1, 0, 0b1110), (2, 0, 0b1111)] {
            let ipi = Insn::new(Op::Ipi).a(Reg(5)).mode(mode).imm(6);
            let program = (1..4)
                .fold(Program::new(), |program, cpu| {
                    program.cpu_start(cpu, "wait", 0)
                })
                .set(Reg(5), mask)
                .insn(ipi)
                // Far too high a number goes nowhere.
                .insn(Insn::new(Op::Ipi).a(Reg(5)).mode(2).imm(u64::MAX))
                .label("wait")
                .count(DATA)
                .spin();
            let vm = bench.start(4, &program);
            Bench::until("all are there", || Bench::peek(&vm, DATA) == 4);
            vm.pause().unwrap();
            vm.shutdown().unwrap();
            let got = vm.with_machine(|machine| {
                machine.vcpus().iter().fold(0, |got, vcpu| {
                    let pending = vcpu.with_arch(|arch| arch.pending_interrupts());
                    got | (u64::from(pending == 1 << 6) << vcpu.id())
                })
            });
            assert_eq!(got, Some(reached), "mode {mode}");
            vm.delete().unwrap();
        }
        bench.host.check();
    });
}

#[test]
fn console_input_raises_its_interrupt_and_is_bounded() {
    watchdog(|| {
        let bench = Bench::default();
        let program = Program::new()
            .label("sleep")
            .halt()
            .sys_read(Reg(1), SysReg::Claim)
            .set(Reg(2), u64::from(CONSOLE_IRQ) + 1)
            .jump_equal(Reg(1), Reg(2), "look")
            .jump("sleep")
            // What came while it echoed is echoed already when its interrupt comes.
            .label("look")
            .load(Reg(4), CONSOLE_MMIO + 1, Byte)
            .jump_equal(Reg(4), Reg(0), "sleep")
            .load(Reg(3), CONSOLE_MMIO, Byte)
            .store(Reg(3), CONSOLE_MMIO, Byte)
            .jump("look");
        let vm = bench.start(1, &program);
        assert_eq!(vm.push_input(b"hello"), 5);
        Bench::until("it echoes", || bench.output.text() == "hello");
        vm.pause().unwrap();
        let flood = vec![b'x'; 1 << 20];
        let taken = vm.push_input(&flood);
        assert!((1..=1 << 16).contains(&taken), "{taken} bytes were taken");
        assert_eq!(vm.push_input(&flood), 0, "a full queue takes nothing");
        vm.resume().unwrap();
        Bench::until("it echoes all", || bench.output.text().len() == 5 + taken);
        vm.delete().unwrap();
        assert_eq!(
            vm.push_input(b"x"),
            0,
            "a VM without a machine takes nothing"
        );
        bench.host.check();
    });
}

#[test]
fn counters_and_trace_tell_what_happened_in_its_order() {
    let bench = Bench::default();
    let program = Program::new()
        .hypercall(42)
        .load(Reg(1), CONSOLE_MMIO + 1, Byte)
        .print("ab")
        .power_off();
    let vm = run(&bench, 1, &program);
    let told = vm.with_machine(|machine| machine.vcpus()[0].control().stats().last_exits());
    let entry = |kind, line: u64, detail| TraceEntry {
        kind,
        pc: RAM_START + 16 * line,
        detail,
    };
    let guest_exits: Vec<_> = told
        .unwrap()
        .into_iter()
        .filter(|entry| entry.kind != ExitKind::Interrupt)
        .collect();
    let expected = [
        entry(ExitKind::Hypercall, 0, 42),
        entry(ExitKind::Mmio, 2, CONSOLE_MMIO + 1),
        entry(ExitKind::Firmware, 3, 0),
        entry(ExitKind::Firmware, 4, 0),
        entry(ExitKind::Power, 5, 0),
    ];
    assert_eq!(guest_exits, expected);
    assert_eq!(exits(&vm, ExitKind::Firmware), 2);
    assert_eq!(exits(&vm, ExitKind::Power), 1);
    assert_eq!(bench.output.text(), "ab");
}

#[test]
fn the_trace_remembers_the_last_exits_of_many() {
    let bench = Bench::default();
    let program = (0..300).fold(Program::new(), |program, nr| program.hypercall(nr));
    let vm = run(&bench, 1, &program.power_off());
    let stats = |machine: &axvm::Machine<_>| machine.vcpus()[0].control().stats().last_exits();
    let told = vm.with_machine(stats).unwrap();
    assert_eq!(told.len(), 64);
    let calls: Vec<_> = told
        .iter()
        .filter(|entry| entry.kind == ExitKind::Hypercall)
        .map(|entry| entry.detail)
        .collect();
    let first = 300 - calls.len() as u64;
    assert_eq!(calls, (first..300).collect::<Vec<_>>());
    assert_eq!(exits(&vm, ExitKind::Hypercall), 300);
}

#[test]
fn the_firmwares_console_reads_and_writes_guest_ram_and_answers_how_much() {
    watchdog(|| {
        let bench = Bench::default();
        let call = |op, size, at| Insn::new(op).a(size).b(Reg(9)).imm(at);
        let size = Reg(1);
        let program = Program::new()
            .set(Reg(2), u64::MAX)
            .label("wait")
            .insn(Insn::new(Op::ConsoleGet))
            .jump_equal(Reg(0), Reg(2), "wait")
            .store(Reg(0), DATA, Qword)
            .set(size, 3)
            .insn(call(Op::ConsoleRead, size, DATA + 8))
            .store(Reg(0), DATA + 16, Qword)
            .insn(call(Op::ConsoleWrite, size, DATA + 8))
            .store(Reg(0), DATA + 24, Qword)
            // Far too much, and then what is no RAM.
            .set(size, u64::MAX)
            .insn(call(Op::ConsoleWrite, size, DATA + 0x100))
            .store(Reg(0), DATA + 32, Qword)
            .insn(call(Op::ConsoleWrite, size, RAM_START + (2 << 20) - 1))
            .store(Reg(0), DATA + 40, Qword)
            .insn(call(Op::ConsoleRead, size, 0x1000))
            .store(Reg(0), DATA + 48, Qword)
            .insn(Insn::new(Op::ConsoleGet))
            .store(Reg(0), DATA + 56, Qword)
            .power_off();
        let vm = bench.start(1, &program);
        assert_eq!(vm.push_input(b"gabcd"), 5);
        assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
        let words: Vec<_> = (0..8).map(|i| Bench::peek(&vm, DATA + 8 * i)).collect();
        let abc = u64::from_le_bytes(*b"abc\0\0\0\0\0");
        let taken = words[4];
        let left = u64::from(b'd');
        assert_eq!(words, [u64::from(b'g'), abc, 3, 3, taken, 0, 0, left]);
        assert!((1..=1024).contains(&taken), "{taken}");
        assert!(bench.output.text().starts_with("abc\0"));
        assert_eq!(bench.output.text().len() as u64, 3 + taken);
    });
}

#[test]
fn a_guest_gets_its_command_line_and_initrd() {
    let bench = Bench::default();
    let copy = |program: Program, from: Reg, to| {
        program
            .insn(Insn::new(Op::Load).a(Reg(9)).b(from).width(Qword))
            .store(Reg(9), to, Qword)
    };
    let program = copy(copy(Program::new(), Reg(1), DATA), Reg(2), DATA + 8)
        .store(Reg(3), DATA + 16, Qword)
        .power_off();
    let mut config = config("boot", 1, &program);
    config.boot.cmdline = "a=b c".into();
    config.boot.initrd = Some(axvm::ImageBytes::Static(b"initrd!!"));
    let vm = bench.vm_of(config);
    vm.init().unwrap();
    vm.boot().unwrap();
    assert_eq!(vm.wait_stopped(), Some(VmOutcome::PoweredOff));
    assert_eq!(Bench::peek(&vm, DATA), u64::from_le_bytes(*b"a=b c\0\0\0"));
    assert_eq!(Bench::peek(&vm, DATA + 8), u64::from_le_bytes(*b"initrd!!"));
    assert_eq!(Bench::peek(&vm, DATA + 16), 8);
}

#[test]
fn random_bytes_as_a_program_hurt_nobody() {
    use proptest::prelude::*;
    // Mostly instructions, with whatever operands.
    let insn = (
        0u8..32,
        any::<[u8; 3]>(),
        prop_oneof![
            any::<u64>(),
            Just(DATA),
            RAM_START..RAM_START + 0x400,
            CONSOLE_MMIO..CONSOLE_MMIO + 4,
            0u64..300,
        ],
    );
    let programs = proptest::collection::vec(insn, 1..40);
    let bench = Bench::switching(29);
    proptest!(ProptestConfig::with_cases(150), |(insns in programs)| {
        let mut payload = Vec::new();
        for (op, [a, b, mode], imm) in &insns {
            payload.extend([*op, *a, *b, *mode, 0, 0, 0, 0]);
            payload.extend(imm.to_le_bytes());
        }
        let mut image = arch_vm_host::MAGIC.to_vec();
        image.extend(0u64.to_le_bytes());
        image.extend((payload.len() as u64).to_le_bytes());
        image.extend(payload);
        let mut config = config("random", 3, &Program::new());
        config.boot.kernel = axvm::ImageBytes::Shared(image.into());
        let vm = bench.vm_of(config);
        vm.init().unwrap();
        vm.boot().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(300));
        vm.delete().unwrap();
        bench.host.check();
    });
}

#[test]
fn widths_are_what_the_bus_is_asked_for() {
    // The console decodes bytes only: every other width is refused.
    let bench = Bench::default();
    for width in [AccessWidth::Word, Dword, Qword] {
        let program = Program::new()
            .handler("handler")
            .write(CONSOLE_MMIO, width, 0x41)
            .power_fail(1)
            .label("handler")
            .power_off();
        run(&bench, 1, &program);
    }
    assert_eq!(bench.output.text(), "");
}
