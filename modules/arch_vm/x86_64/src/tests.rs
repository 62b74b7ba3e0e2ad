// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's exits, on a control block that the tests fill as the hardware would.

use std::vec::Vec;

use arch_vm_host::testing::StdHost;
use axdevice::GuestMemory;
use axvm::{AxVCpuExitReason as Leave, GuestPhysAddr, vmid::Flush};
use proptest::prelude::*;

use crate::{
    frame::{RAX, RBX, RCX, RDI, RDX, RSI, RSP},
    handle::Step,
    pc::boot::BootState,
    regs::{self, Msr, read_msr},
    svm::Svm,
    testing::{host, machine_on, with_bound_vcpu},
};

type VCpu = crate::vcpu::VCpu<StdHost, Svm<StdHost>>;

const INTR: u64 = 0x60;
const CR4_WRITE: u64 = 0x14;
const CR8_WRITE: u64 = 0x18;
const CPUID: u64 = 0x72;
const DEBUG: u64 = 0x41;
const IRET: u64 = 0x74;
const HLT: u64 = 0x78;
const IOIO: u64 = 0x7b;
const MSR: u64 = 0x7c;
const SHUTDOWN: u64 = 0x7f;
const VMRUN: u64 = 0x80;
const VMMCALL: u64 = 0x81;
const XSETBV: u64 = 0x8d;
const NESTED: u64 = 0x400;
/// A kind, a vector and an error code.
const PROTECTION: Option<(u64, u64, u64)> = Some((3, 13, 0));
const UNDEFINED: Option<(u64, u64, u64)> = Some((3, 6, 0));
const ENTRY: u64 = 0x10_0000;
const NOWHERE: u64 = 0xd000_0000;

/// Lets a vCPU leave with a code and two values.
fn leave(vcpu: &mut VCpu, code: u64, infos: [u64; 2]) -> Step {
    vcpu.backend.go_on_at(ENTRY);
    vcpu.backend.leave_with(code, infos);
    // SAFETY: nothing is entered here.
    let exit = unsafe { Svm::run(vcpu) };
    vcpu.backend.resume_event();
    vcpu.handle(exit)
}

fn write_code(vcpu: &VCpu, code: &[u8]) {
    let at = GuestPhysAddr::from_usize(ENTRY as usize);
    vcpu.machine.ram.write(at, code).unwrap();
}

#[test]
fn cpuid_is_answered_and_skipped() {
    with_bound_vcpu(1, |vcpu| {
        vcpu.frame.set(RAX, 0x4000_0000);
        assert_eq!(leave(vcpu, CPUID, [0; 2]), Step::Resume);
        assert_eq!(vcpu.backend.rip(), ENTRY + 2);
        assert_eq!(vcpu.frame.get(RBX) as u32, u32::from_le_bytes(*b"AxHi"));
        vcpu.frame.set(RAX, 1);
        leave(vcpu, CPUID, [0; 2]);
        assert_eq!(vcpu.frame.get(RBX) >> 24, 1, "its APIC id");
    });
}

#[test]
fn a_host_interrupt_leaves_and_changes_nothing() {
    with_bound_vcpu(0, |vcpu| {
        let left = Step::Leave(Leave::ExternalInterrupt { vector: 0 });
        assert_eq!(leave(vcpu, INTR, [0; 2]), left);
        assert_eq!(vcpu.backend.rip(), ENTRY);
    });
}

#[test]
fn unknown_registers_and_calls_do_what_hardware_does() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.frame.set(RCX, 0xc001_0117);
        for is_write in [0, 1] {
            assert_eq!(leave(vcpu, MSR, [is_write, 0]), Step::Resume);
            assert_eq!(
                (vcpu.backend.event(), vcpu.backend.rip()),
                (PROTECTION, ENTRY)
            );
        }
        assert_eq!(leave(vcpu, VMRUN, [0; 2]), Step::Resume);
        assert_eq!(vcpu.backend.event(), UNDEFINED);
        vcpu.frame.set(RAX, 0xffff_ff00);
        assert_eq!(leave(vcpu, VMMCALL, [0; 2]), Step::Resume);
        assert_eq!(
            (vcpu.frame.get(RAX), vcpu.backend.rip()),
            (u64::MAX, ENTRY + 3)
        );
        vcpu.frame.set(RAX, 0);
        let left = leave(vcpu, VMMCALL, [0; 2]);
        assert!(matches!(left, Step::Leave(Leave::Hypercall { nr: 0, .. })));
    });
}

#[test]
fn an_exception_has_no_error_code_in_real_mode() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.frame.set(RCX, 0xc001_0117);
        for (cr0, has_code) in [(0x10, false), (0x11, true)] {
            vcpu.backend.set_cr0(cr0);
            leave(vcpu, MSR, [0; 2]);
            assert_eq!(vcpu.backend.event(), PROTECTION);
            assert_eq!(vcpu.backend.has_error_code(), has_code);
        }
    });
}

#[test]
fn efer_hides_svm_and_keeps_long_mode_while_paging() {
    with_bound_vcpu(0, |vcpu| {
        let write = |vcpu: &mut VCpu, value: u64| {
            vcpu.frame.set(RCX, 0xc000_0080);
            vcpu.frame.set(RAX, value);
            vcpu.frame.set(RDX, 0);
            leave(vcpu, MSR, [1, 0]);
            vcpu.backend.event()
        };
        assert_eq!(write(vcpu, 0x901), None);
        assert_eq!(vcpu.backend.efer(), 0x901);
        assert_eq!(write(vcpu, 0x1901), PROTECTION, "SVME");
        leave(vcpu, MSR, [0, 0]);
        assert_eq!(vcpu.frame.get(RAX), 0x901);
    });
}

#[test]
fn a_written_counter_goes_on_from_there() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.frame.set(RCX, Msr::TSC.0.into());
        vcpu.frame.set(RAX, 1000);
        vcpu.frame.set(RDX, 0);
        leave(vcpu, MSR, [1, 0]);
        let offset = 1000_u64.wrapping_sub(read_msr(Msr::TSC));
        assert_eq!((vcpu.tsc_offset, vcpu.tsc()), (offset, 1000));
    });
}

#[test]
fn xcr0_is_set_only_to_what_is_there() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.frame.set(RDX, 0);
        vcpu.frame.set(RAX, 7);
        leave(vcpu, XSETBV, [0; 2]);
        assert_eq!(vcpu.backend.event(), PROTECTION);
        vcpu.frame.set(RAX, 3);
        leave(vcpu, XSETBV, [0; 2]);
        assert_eq!((vcpu.backend.event(), vcpu.extended.xcr0()), (None, 3));
    });
}

#[test]
fn ports_reach_devices_or_read_all_ones() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.frame.set(RAX, 0x1111_1111_1111_1111);
        // in al, dx from COM1's line status, one byte long.
        leave(vcpu, IOIO, [0x3fd << 16 | 0x10 | 1, ENTRY + 1]);
        assert_eq!(vcpu.frame.get(RAX), 0x1111_1111_1111_1160);
        assert_eq!(vcpu.backend.rip(), ENTRY + 1);
        leave(vcpu, IOIO, [0x2f0 << 16 | 0x40 | 1, ENTRY + 1]);
        assert_eq!(vcpu.frame.get(RAX), 0xffff_ffff);
        assert_eq!(
            leave(vcpu, IOIO, [0x2f0 << 16 | 0x40, ENTRY + 2]),
            Step::Resume
        );
    });
}

#[test]
fn a_string_is_read_from_a_port_until_somebody_wants_something() {
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0xf3, 0x6d]); // rep insd
        vcpu.frame.set(RCX, 2);
        vcpu.frame.set(RDI, 0x5000);
        let string = [0x2f0 << 16 | 0x40 | 5, ENTRY + 2];
        vcpu.interrupts.is_stale = true;
        leave(vcpu, IOIO, string);
        assert_eq!((vcpu.backend.rip(), vcpu.frame.get(RCX)), (ENTRY, 1));
        leave(vcpu, IOIO, string);
        assert_eq!(
            (vcpu.backend.rip(), vcpu.frame.get(RDI)),
            (ENTRY + 2, 0x5008)
        );
        let mut bytes = [0; 9];
        let at = GuestPhysAddr::from_usize(0x5000);
        vcpu.machine.ram.read(at, &mut bytes).unwrap();
        assert_eq!(bytes, [255, 255, 255, 255, 255, 255, 255, 255, 0]);
        // A long one lets the host have its turn.
        assert_eq!(vcpu.show_interrupts(), Step::Resume);
        assert!(!vcpu.interrupts.must_look());
        vcpu.frame.set(RCX, 100);
        leave(vcpu, IOIO, string);
        assert_eq!((vcpu.backend.rip(), vcpu.frame.get(RCX)), (ENTRY, 36));
        leave(vcpu, IOIO, string);
        assert_eq!((vcpu.backend.rip(), vcpu.frame.get(RCX)), (ENTRY + 2, 0));
    });
}

#[test]
fn memory_that_is_not_there_reads_all_ones_and_takes_nothing() {
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0x8b, 0x06]); // mov eax, [esi]
        vcpu.frame.set(RSI, NOWHERE);
        assert_eq!(leave(vcpu, NESTED, [4, NOWHERE]), Step::Resume);
        assert_eq!(vcpu.frame.get(RAX), 0xffff_ffff);
        assert_eq!(vcpu.backend.rip(), ENTRY + 2);
        write_code(vcpu, &[0xff, 0x06]); // inc dword [esi]
        assert_eq!(leave(vcpu, NESTED, [6, NOWHERE]), Step::Resume);
        assert_eq!(
            vcpu.backend.rflags() & 1 << 6,
            1 << 6,
            "all ones and one are zero"
        );
    });
}

#[test]
fn a_copy_to_a_device_reads_ram_by_the_guests_tables() {
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0xa5]); // movsd
        vcpu.frame.set(RSI, 0x6000);
        vcpu.frame.set(RDI, NOWHERE);
        assert_eq!(leave(vcpu, NESTED, [6, NOWHERE]), Step::Resume);
        assert_eq!(
            (vcpu.frame.get(RSI), vcpu.frame.get(RDI)),
            (0x6004, NOWHERE + 4)
        );
        assert_eq!(vcpu.backend.rip(), ENTRY + 1);
    });
}

#[test]
fn what_a_cpu_cannot_do_it_says() {
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0xd9, 0x00]); // fld dword [eax]
        assert_eq!(leave(vcpu, NESTED, [4, NOWHERE]), Step::Resume);
        assert_eq!(
            (vcpu.backend.event(), vcpu.backend.rip()),
            (UNDEFINED, ENTRY)
        );
        let fetch = 1 << 4;
        let left = leave(vcpu, NESTED, [fetch, NOWHERE]);
        assert_eq!(left, Step::Leave(Leave::Nothing), "the host takes its turn");
        assert_eq!(
            vcpu.backend.event(),
            UNDEFINED,
            "all ones are no instruction"
        );
        let dead = Step::Leave(Leave::TripleFault);
        assert_eq!(leave(vcpu, SHUTDOWN, [0; 2]), dead);
        let left = leave(vcpu, 0xffff_ffff, [0; 2]);
        assert!(
            matches!(left, Step::Leave(Leave::FailEntry { .. })),
            "{left:?}"
        );
    });
}

#[test]
fn an_access_across_the_end_of_ram_is_made_on_both_sides() {
    // The RAM of a machine of 16 MiB ends here.
    const END: u64 = 16 << 20;
    with_bound_vcpu(0, |vcpu| {
        let last = GuestPhysAddr::from_usize(END as usize - 2);
        let ram = vcpu.machine.ram.clone();
        ram.write(last, &[0x34, 0x12]).unwrap();
        write_code(vcpu, &[0x8b, 0x06]); // mov eax, [esi]
        vcpu.frame.set(RSI, END - 2);
        assert_eq!(leave(vcpu, NESTED, [4, END]), Step::Resume);
        assert_eq!(vcpu.frame.get(RAX), 0xffff_1234);
        write_code(vcpu, &[0x89, 0x06]); // mov [esi], eax
        vcpu.frame.set(RAX, 0x7788_99aa);
        assert_eq!(leave(vcpu, NESTED, [6, END]), Step::Resume);
        let mut bytes = [0; 2];
        ram.read(last, &mut bytes).unwrap();
        assert_eq!(bytes, [0xaa, 0x99]);
    });
}

#[test]
fn what_a_guest_may_only_read_it_does_not_write_by_a_change_of_mind() {
    with_bound_vcpu(0, |vcpu| {
        // Tables of 32 bits: one page for the code, and the device's without W.
        let tables = [
            (0x2000_usize, 0x3000_u32 | 7),
            (0x2000 + 4 * (NOWHERE as usize >> 22), 0x4000 | 7),
            (0x3400, ENTRY as u32 | 7),
            (0x4000, NOWHERE as u32 | 5),
        ];
        for (at, entry) in tables {
            let at = GuestPhysAddr::from_usize(at);
            vcpu.machine.ram.write(at, &entry.to_le_bytes()).unwrap();
        }
        vcpu.backend.set_cr3(0x2000);
        vcpu.backend.set_cr0(0x8001_0001);
        write_code(vcpu, &[0x01, 0x06]); // add [esi], eax
        vcpu.frame.set(RSI, NOWHERE);
        assert_eq!(leave(vcpu, NESTED, [4, NOWHERE]), Step::Resume);
        assert_eq!(vcpu.backend.event(), Some((3, 14, 3)));
        assert_eq!(vcpu.backend.rip(), ENTRY);
        // What is popped there stays on the stack.
        write_code(vcpu, &[0x8f, 0x06]); // pop [esi]
        vcpu.frame.set(RSP, ENTRY);
        assert_eq!(leave(vcpu, NESTED, [4, NOWHERE]), Step::Resume);
        assert_eq!(vcpu.backend.event(), Some((3, 14, 3)));
        assert_eq!((vcpu.backend.rip(), vcpu.frame.get(RSP)), (ENTRY, ENTRY));
    });
}

fn write_msr(vcpu: &mut VCpu, msr: u64, value: u64) -> Step {
    vcpu.frame.set(RCX, msr);
    vcpu.frame.set(RAX, value & 0xffff_ffff);
    vcpu.frame.set(RDX, value >> 32);
    leave(vcpu, MSR, [1, 0])
}

/// Switches a boot CPU's local APIC to x2APIC and on, and opens interrupts.
fn open_x2apic(vcpu: &mut VCpu) {
    write_msr(vcpu, 0x1b, 0xfee0_0d00);
    write_msr(vcpu, 0x80f, 0x1ff);
    vcpu.backend.set_rflags(1 << 9 | 2);
    assert_eq!(vcpu.show_interrupts(), Step::Resume);
}

#[test]
fn an_interrupt_to_oneself_is_taken_at_once_if_it_can_be() {
    with_bound_vcpu(0, |vcpu| {
        open_x2apic(vcpu);
        assert_eq!(write_msr(vcpu, 0x83f, 0x41), Step::Resume);
        assert_eq!(vcpu.backend.event(), Some((0, 0x41, 0)));
        assert_eq!(vcpu.backend.rip(), ENTRY + 2);
        // One of the same class waits for its end.
        write_msr(vcpu, 0x83f, 0x42);
        assert_eq!(vcpu.backend.event(), None);
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.event(), None);
        write_msr(vcpu, 0x80b, 0);
        assert!(vcpu.interrupts.must_look());
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.event(), Some((0, 0x42, 0)));
        write_msr(vcpu, 0x80b, 0);
        assert!(!vcpu.interrupts.must_look(), "nothing is left");
    });
}

#[test]
fn an_interrupt_to_oneself_waits_for_its_time() {
    with_bound_vcpu(0, |vcpu| {
        open_x2apic(vcpu);
        vcpu.backend.set_rflags(2);
        write_msr(vcpu, 0x83f, 0x41);
        assert_eq!(vcpu.backend.event(), None, "IF");
        vcpu.backend.set_rflags(1 << 9 | 2);
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.event(), Some((0, 0x41, 0)));
        write_msr(vcpu, 0x80b, 0);
        vcpu.backend.set_task_priority(5);
        write_msr(vcpu, 0x83f, 0x51);
        assert_eq!(vcpu.backend.event(), None, "CR8");
        // What no register has is refused, as is everything by MSRs without x2APIC.
        write_msr(vcpu, 0x83f, 0x141);
        assert_eq!(vcpu.backend.event(), PROTECTION);
        write_msr(vcpu, 0x80b, 1);
        assert_eq!(vcpu.backend.event(), PROTECTION);
        write_msr(vcpu, 0x1b, 0xfee0_0100);
        write_msr(vcpu, 0x83f, 0x41);
        assert_eq!(vcpu.backend.event(), PROTECTION);
    });
}

#[test]
fn a_guest_leaves_to_lower_cr8_below_what_waits() {
    with_bound_vcpu(0, |vcpu| {
        open_x2apic(vcpu);
        write_code(vcpu, &[0xf0, 0x0f, 0x22, 0xc1]); // mov cr8, ecx
        vcpu.backend.set_task_priority(5);
        write_msr(vcpu, 0x83f, 0x41);
        vcpu.take_task_priority();
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.window(), (false, true));
        let write = |vcpu: &mut VCpu, value| {
            vcpu.frame.set(RCX, value);
            assert_eq!(leave(vcpu, CR8_WRITE, [0; 2]), Step::Resume);
            vcpu.show_interrupts();
            vcpu.backend.event()
        };
        assert_eq!(write(vcpu, 4), None);
        assert_eq!(
            (vcpu.backend.task_priority(), vcpu.backend.rip()),
            (4, ENTRY + 4)
        );
        assert_eq!(write(vcpu, 16), PROTECTION);
        assert_eq!(write(vcpu, 3), Some((0, 0x41, 0)));
        leave(vcpu, INTR, [0; 2]);
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.window(), (false, false));
        // With interrupts closed the window is theirs as well.
        vcpu.backend.set_rflags(2);
        write_msr(vcpu, 0x83f, 0x51);
        vcpu.show_interrupts();
        assert_eq!(vcpu.backend.window(), (true, true));
    });
}

#[test]
fn a_guest_sets_of_cr4_what_it_is_shown_and_nothing_else() {
    const PAE_PGE: u64 = 1 << 5 | 1 << 7;
    let bit = |number: u32| 1_u64 << number;
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0x0f, 0x22, 0xe1]); // mov cr4, ecx
        let write = |vcpu: &mut VCpu, value| {
            vcpu.frame.set(RCX, value);
            assert_eq!(leave(vcpu, CR4_WRITE, [0; 2]), Step::Resume);
            vcpu.backend.event()
        };
        assert_eq!(write(vcpu, PAE_PGE), None);
        assert_eq!(
            (vcpu.backend.cr4(), vcpu.backend.rip()),
            (PAE_PGE, ENTRY + 3)
        );
        assert!(vcpu.backend.forgets(), "what it knew of the guest's tables");
        // 57 bits, VMX, process contexts, keys of both kinds, shadow stacks, none.
        for hidden in [12, 13, 17, 22, 24, 23, 15, 31].map(bit) {
            assert_eq!(write(vcpu, PAE_PGE | hidden), PROTECTION, "{hidden:#x}");
            assert_eq!((vcpu.backend.cr4(), vcpu.backend.rip()), (PAE_PGE, ENTRY));
        }
        vcpu.backend.set_efer(bit(8) | bit(10));
        assert_eq!(write(vcpu, bit(7)), PROTECTION, "long mode needs PAE");
    });
}

#[test]
fn writes_of_cr4_leave_only_where_the_cpu_has_more_than_its_guests() {
    let leaves = || with_bound_vcpu(0, |vcpu| vcpu.backend.leaves_for_cr4());
    assert!(!leaves());
    regs::set_cpuid(7, 0, [0, 0, 1 << 3, 0]);
    assert!(leaves(), "protection keys");
}

#[test]
fn a_deadline_is_kept_until_it_comes() {
    with_bound_vcpu(0, |vcpu| {
        open_x2apic(vcpu);
        write_msr(vcpu, 0x6e0, 1 << 40);
        assert_eq!(vcpu.timer_deadline_ns(), None, "another mode");
        write_msr(vcpu, 0x832, 2 << 17 | 0x41);
        write_msr(vcpu, 0x6e0, 1 << 40);
        let first = vcpu.timer_deadline_ns();
        assert!(first.is_some());
        assert_eq!(vcpu.backend.rip(), ENTRY + 2);
        write_msr(vcpu, 0x6e0, 1 << 41);
        assert!(vcpu.timer_deadline_ns() > first);
        write_msr(vcpu, 0x6e0, 0);
        assert_eq!(vcpu.timer_deadline_ns(), None);
    });
}

#[test]
fn a_deadline_that_the_counter_has_passed_is_due_and_one_far_ahead_is_not() {
    with_bound_vcpu(0, |vcpu| {
        open_x2apic(vcpu);
        write_msr(vcpu, 0x832, 2 << 17 | 0x41);
        regs::write_msr(Msr::TSC, 1 << 40);
        let now_ns = vcpu.machine.time.host_ns_at(1 << 40, 0);
        let due = |vcpu: &VCpu| {
            vcpu.timer_deadline_ns()
                .is_some_and(|at_ns| at_ns <= now_ns)
        };
        for counter in [0, 1 << 40, 1 << 63, u64::MAX - 100] {
            write_msr(vcpu, Msr::TSC.0.into(), counter);
            for (deadline, is_due) in [(1, counter != 0), (u64::MAX, false)] {
                write_msr(vcpu, 0x6e0, deadline);
                assert_eq!(due(vcpu), is_due, "{counter:#x} {deadline:#x}");
            }
        }
        // The counter moves, the deadline does not.
        write_msr(vcpu, Msr::TSC.0.into(), 0);
        write_msr(vcpu, 0x6e0, 1 << 50);
        assert!(!due(vcpu));
        write_msr(vcpu, Msr::TSC.0.into(), 1 << 51);
        assert!(due(vcpu));
        write_msr(vcpu, Msr::TSC.0.into(), 0);
        assert!(!due(vcpu));
    });
}

#[test]
fn what_the_tlb_must_forget_waits_for_an_entry() {
    with_bound_vcpu(0, |vcpu| {
        for flush in [Flush::OwnTables, Flush::Everything] {
            vcpu.backend.set_address_space(1, flush);
            vcpu.unbind();
            vcpu.bind();
            assert!(vcpu.backend.forgets(), "{flush:?}: nothing was entered");
            leave(vcpu, INTR, [0; 2]);
            // No bind here: it may say more, as other tests' guests share the CPU.
            vcpu.backend.set_address_space(1, Flush::None);
            assert!(!vcpu.backend.forgets(), "{flush:?}");
        }
    });
}

#[test]
fn a_cpu_that_starts_anew_forgets_what_paging_has_found() {
    with_bound_vcpu(1, |vcpu| {
        leave(vcpu, INTR, [0; 2]);
        assert!(!vcpu.backend.forgets());
        vcpu.start_at(&BootState::sipi(9));
        assert!(vcpu.backend.forgets());
    });
}

#[test]
fn breakpoints_that_are_on_come_along_to_each_cpu() {
    const FIRST_READ: u64 = 0x20;
    let mine = [0x1000, 0x2000, 0x3000, 0x4000];
    with_bound_vcpu(0, |vcpu| {
        leave(vcpu, FIRST_READ, [0; 2]);
        regs::load_debug(&mine);
        vcpu.backend.set_dr7(0x400 | 1);
        vcpu.unbind();
        regs::load_debug(&[0; 4]);
        vcpu.bind();
        assert_eq!(regs::store_debug(), mine);
        vcpu.backend.set_dr7(0x400);
        vcpu.unbind();
        regs::load_debug(&[0; 4]);
        vcpu.bind();
        assert_eq!(regs::store_debug(), [0; 4], "nobody waits for them");
        leave(vcpu, FIRST_READ, [0; 2]);
        assert_eq!(regs::store_debug(), mine);
    });
}

#[test]
fn an_event_that_cannot_be_delivered_does_not_keep_the_cpu() {
    const INTERRUPTED: u64 = 1 << 31 | 3 << 8;
    with_bound_vcpu(0, |vcpu| {
        // Its stack is where no RAM is, and what stands at RIP is not to blame.
        write_code(vcpu, &[0x89, 0x06]); // mov [esi], eax
        for vector in [6, 14] {
            vcpu.backend.interrupt_delivery(INTERRUPTED | vector);
            let left = leave(vcpu, NESTED, [6, NOWHERE]);
            assert_eq!(left, Step::Leave(Leave::TripleFault));
            assert_eq!(vcpu.backend.rip(), ENTRY);
        }
        vcpu.backend.interrupt_delivery(0);
        vcpu.frame.set(RSI, NOWHERE);
        assert_eq!(leave(vcpu, NESTED, [6, NOWHERE]), Step::Resume);
        // Delivering a #DB or #AC may raise it again before any instruction.
        for exception in [0x41, 0x51] {
            let left = leave(vcpu, exception, [0; 2]);
            assert_eq!(left, Step::Leave(Leave::Nothing), "the host takes its turn");
            assert!(vcpu.backend.has_event());
        }
    });
}

/// Shows what is pending, and returns the event that comes of it.
fn shown(vcpu: &mut VCpu) -> Option<(u64, u64, u64)> {
    vcpu.show_interrupts();
    vcpu.backend.event()
}

#[test]
fn an_nmi_comes_behind_the_return_from_the_last_one() {
    const NMI_EVENT: Option<(u64, u64, u64)> = Some((2, 2, 0));
    const STEP: u64 = 1 << 8;
    with_bound_vcpu(0, |vcpu| {
        let send = |vcpu: &VCpu| vcpu.interrupts.apic.inbox().send_nmi();
        send(vcpu);
        assert_eq!(shown(vcpu), NMI_EVENT);
        leave(vcpu, INTR, [0; 2]);
        send(vcpu);
        assert_eq!(shown(vcpu), None, "the first has not ended");
        leave(vcpu, IRET, [0; 2]);
        assert_eq!(shown(vcpu), None, "nor has it now");
        assert_eq!(vcpu.backend.rflags() & STEP, STEP);
        leave(vcpu, DEBUG, [0; 2]);
        assert_eq!((shown(vcpu), vcpu.backend.dr6() & 1 << 14), (NMI_EVENT, 0));
        // Nobody waits for the end of this one, and the next comes long after.
        vcpu.backend.set_rflags(2);
        leave(vcpu, IRET, [0; 2]);
        assert_eq!((shown(vcpu), vcpu.backend.rflags()), (None, 2));
        leave(vcpu, CPUID, [0; 2]);
        send(vcpu);
        assert_eq!(shown(vcpu), NMI_EVENT);
    });
}

#[test]
fn an_nmi_that_an_exception_keeps_back_comes_soon() {
    with_bound_vcpu(0, |vcpu| {
        leave(vcpu, VMRUN, [0; 2]);
        vcpu.interrupts.apic.inbox().send_nmi();
        assert_eq!(shown(vcpu), UNDEFINED);
        assert!(vcpu.control.has_request(), "the guest is interrupted");
    });
}

#[test]
fn a_stepped_guest_traps_behind_an_emulated_instruction() {
    with_bound_vcpu(0, |vcpu| {
        vcpu.backend.set_rflags(1 << 8 | 2);
        leave(vcpu, CPUID, [0; 2]);
        assert_eq!(vcpu.backend.event(), Some((3, 1, 0)));
        assert_eq!(vcpu.backend.dr6() & 1 << 14, 1 << 14);
    });
}

#[test]
fn a_stepped_guest_does_not_wait_in_hlt() {
    with_bound_vcpu(0, |vcpu| {
        for (flags, next) in [(2, Step::Leave(Leave::Halt)), (1 << 8 | 2, Step::Resume)] {
            vcpu.backend.set_rflags(flags);
            assert_eq!(leave(vcpu, HLT, [0; 2]), Step::Resume);
            assert_eq!(vcpu.show_interrupts(), next);
        }
    });
}

#[test]
fn a_breakpoint_counts_again_behind_an_emulated_instruction() {
    const RESUME: u64 = 1 << 16;
    with_bound_vcpu(0, |vcpu| {
        vcpu.backend.set_rflags(RESUME | 2);
        leave(vcpu, CPUID, [0; 2]);
        assert_eq!((vcpu.backend.rflags(), vcpu.backend.event()), (2, None));
        // A string's stays until the last element.
        write_code(vcpu, &[0xf3, 0x6c]); // rep insb
        vcpu.backend.go_on_at(ENTRY);
        vcpu.frame.set(RCX, 3);
        vcpu.frame.set(RDI, 0x5000);
        vcpu.backend.set_rflags(RESUME | 2);
        while vcpu.frame.get(RCX) != 0 {
            assert_eq!(vcpu.backend.rflags(), RESUME | 2);
            leave(vcpu, IOIO, [0x2f0 << 16 | 0x10 | 5, ENTRY + 2]);
        }
        assert_eq!(vcpu.backend.rflags(), 2);
    });
}

#[test]
fn a_stepped_guest_traps_behind_each_element_of_a_string() {
    const TRAP: Option<(u64, u64, u64)> = Some((3, 1, 0));
    with_bound_vcpu(0, |vcpu| {
        write_code(vcpu, &[0xf3, 0x6c]); // rep insb
        vcpu.frame.set(RCX, 2);
        vcpu.frame.set(RDI, 0x5000);
        vcpu.backend.set_rflags(1 << 8 | 2);
        for (left, rip) in [(1, ENTRY), (0, ENTRY + 2)] {
            leave(vcpu, IOIO, [0x2f0 << 16 | 0x10 | 5, ENTRY + 2]);
            let found = (vcpu.frame.get(RCX), vcpu.backend.rip());
            assert_eq!((found, vcpu.backend.event()), ((left, rip), TRAP));
        }
    });
}

#[test]
fn a_machine_gives_back_every_frame() {
    let host = host();
    drop(machine_on(&host).unwrap());
    host.check();
}

#[test]
fn a_machine_without_enough_memory_is_not_built() {
    for after in 0.. {
        let host = host();
        host.fail_after(None, after);
        let made = machine_on(&host);
        let has_failed = host.has_failed();
        assert_eq!(made.is_err(), has_failed, "{after}");
        drop(made);
        host.check();
        if !has_failed {
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_exit_makes_the_hypervisor_panic(
        exits in prop::collection::vec((0u64..0x410, any::<[u64; 2]>(), any::<[u64; 4]>()), 1..20),
        code: Vec<u8>,
        cr3: u64,
    ) {
        with_bound_vcpu(0, |vcpu| {
            write_code(vcpu, &code);
            vcpu.backend.set_cr3(cr3);
            for (exit, infos, registers) in exits {
                for (register, value) in [RAX, RCX, RSI, RDI].into_iter().zip(registers) {
                    vcpu.frame.set(register, value);
                }
                leave(vcpu, exit, infos);
            }
            vcpu.unbind();
        });
    }
}
