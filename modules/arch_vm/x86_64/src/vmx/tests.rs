// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's exits, on a VMCS that the tests fill as the hardware would.

use std::sync::Arc;

use arch_vm_host::testing::StdHost;
use axaddrspace::NestedPageTableOps;
use axvm::{AccessWidth, GuestPhysAddr, stage2::Stage2};
use proptest::prelude::*;

use super::{
    Features, Maps, Vmx,
    controls::{Primary, Secondary},
    cpu,
    fields::{
        CR0_MASK, CR4_MASK, ENTRY_EVENT, EOI_EXITS, EXCEPTION_BITMAP, EXIT_EVENT, EXIT_LENGTH,
        EXIT_REASON, GUEST_CR0, GUEST_CR4, GUEST_DR7, GUEST_PHYSICAL_ADDRESS, GUEST_RIP, GUEST_SS,
        GUEST_TR, INTERRUPT_STATUS, INTERRUPTIBILITY, MSR_BITMAP, PREEMPTION_TIMER,
        PRIMARY_CONTROLS, QUALIFICATION, SECONDARY_CONTROLS, TPR_THRESHOLD, VECTORING_ERROR,
        VECTORING_EVENT,
    },
    vmcs,
};
use crate::{
    backend,
    exit::{Event, Exception, Exit, MemoryAccess, MemoryKind, PortAccess},
    frame::{Frame, RBX},
    irqchip::lapic::{Given, Mode, Page},
    pc::boot::BootState,
    rights::Rights,
    testing::host,
};

const ENTRY: u64 = 0x10_0000;
pub(super) const FAILED: u32 = 1 << 31;

pub(super) fn state() -> BootState {
    BootState {
        rip: ENTRY,
        ..BootState::reset()
    }
}

/// PAE is what its guests have.
fn rights() -> Rights {
    Rights {
        cr4: 1 << 5,
        ..Rights::default()
    }
}

/// Makes a vCPU that is bound and at its start.
pub(super) fn bound(state: &BootState) -> Vmx<StdHost> {
    let host = host();
    let features = Features::of_an_able_cpu();
    let nested = backend::Features::Vmx(features).nested_format();
    let table = Stage2::new(&host, nested).unwrap();
    let maps = Arc::new(Maps::new(&host, features, (table.root_paddr(), nested)).unwrap());
    let apic = Page::new(&host).unwrap();
    let mut vmx = Vmx::new(&host, features, maps, apic, rights()).unwrap();
    vmx.start(state);
    vmx.bind();
    vmx
}

pub(super) fn enter(vmx: &mut Vmx<StdHost>, frame: &mut Frame) -> Exit {
    // SAFETY: nothing is entered here.
    unsafe { vmx.enter(frame) }
}

pub(super) fn leave(vmx: &mut Vmx<StdHost>, reason: u32, qualification: u64) -> Exit {
    vmcs::write(EXIT_REASON, reason);
    vmcs::write(QUALIFICATION, qualification);
    vmcs::write(EXIT_LENGTH, 2);
    enter(vmx, &mut Frame::default())
}

#[test]
fn what_is_set_while_it_is_nowhere_is_there_when_it_comes() {
    let vmx = bound(&state());
    assert_eq!(vmcs::read(GUEST_RIP), ENTRY);
    assert_eq!(vmx.rip(), ENTRY);
    assert_eq!(vmx.cr4(), 0, "the guest does not see what VMX keeps set");
    assert_ne!(vmcs::read(GUEST_CR4), 0);
}

#[test]
fn each_reason_is_told_in_common_terms() {
    let mut vmx = bound(&state());
    let input = PortAccess {
        port: 0x3fd,
        width: AccessWidth::Byte,
        is_input: true,
        is_string: false,
        next_rip: ENTRY + 2,
    };
    vmcs::write(GUEST_PHYSICAL_ADDRESS, 0xd000_0000);
    let walk = MemoryAccess {
        address: GuestPhysAddr::from_usize(0xd000_0000),
        kind: MemoryKind::Write,
        is_in_walk: true,
    };
    let access = |offset: usize, kind| MemoryAccess {
        address: GuestPhysAddr::from_usize(0xfee0_0000 + offset),
        kind,
        is_in_walk: false,
    };
    for (reason, qualification, exit) in [
        (1, 0, Exit::Host),
        (2, 0, Exit::Shutdown),
        (7, 0, Exit::Window),
        (10, 0, Exit::Cpuid),
        (12, 0, Exit::Halt),
        (18, 0, Exit::Hypercall),
        (27, 0, Exit::Undefined),
        (30, 0x3fd << 16 | 8, Exit::Port(input)),
        (43, 0, Exit::Window),
        (44, 0x390, Exit::Memory(access(0x390, MemoryKind::Read))),
        (
            44,
            1 << 12 | 0x80,
            Exit::Memory(access(0x80, MemoryKind::Write)),
        ),
        (44, 2 << 12, Exit::Memory(access(0, MemoryKind::Fetch))),
        (45, 0x61, Exit::EndOfLevel(0x61)),
        (48, 1 << 7 | 2, Exit::Memory(walk)),
        (56, 0x3f0, Exit::ApicWritten(0x3f0)),
        (52, 0, Exit::Host),
        (9, 3 << 30 | 0x28, Exit::NoTask(0x28)),
        (11, 0, Exit::Undefined),
        (77, 0, Exit::Undefined),
        (62, 5, Exit::Unknown(62, 5)),
    ] {
        assert_eq!(leave(&mut vmx, reason, qualification), exit, "{reason}");
    }
}

#[test]
fn an_entry_that_fails_names_the_field_that_was_wrong() {
    let failed = |spoil: fn()| {
        let mut vmx = bound(&state());
        spoil();
        leave(&mut vmx, FAILED | 33, 0)
    };
    let named = |encoding: u64| Exit::Failed(encoding << 32 | 33);
    assert_eq!(failed(|| vmcs::write(GUEST_CR4, 0)), named(0x6804));
    assert_eq!(failed(|| vmcs::write(GUEST_CR0, 1 << 31)), named(0x6800));
    assert_eq!(failed(|| vmcs::write(GUEST_TR.rights, 0)), named(0x4822));
    assert_eq!(failed(|| vmcs::write(GUEST_SS.rights, 0x13)), named(0x4818));
    assert_eq!(failed(|| {}), named(0), "none that is known here");
}

#[test]
fn an_instruction_that_left_is_skipped_by_its_length() {
    let mut vmx = bound(&state());
    leave(&mut vmx, 10, 0);
    vmx.skip(9);
    assert_eq!(vmcs::read(GUEST_RIP), ENTRY + 2);
}

#[test]
fn a_write_that_changes_ne_is_left_to_the_cpu() {
    const NE: u64 = 1 << 5;
    let mut vmx = bound(&state());
    let before = vmcs::read(GUEST_CR0);
    let mut frame = Frame::default();
    let mut write = |vmx: &mut Vmx<StdHost>, value: u64| {
        frame.set(RBX, value);
        vmcs::write(EXIT_REASON, 28);
        vmcs::write(QUALIFICATION, (RBX as u64) << 8);
        enter(vmx, &mut frame)
    };
    for value in [1 << 31 | 1, NE | 1 << 31, 0] {
        assert_eq!(write(&mut vmx, value), Exit::Answered);
        assert_eq!(vmx.cr0() & NE, value & NE, "so that it leaves no more");
        assert_eq!(vmx.rip(), ENTRY, "executed again");
        assert_eq!(vmcs::read(GUEST_CR0), before);
    }
    // CR4.
    assert_eq!(
        vmcs::read(CR4_MASK),
        !(1 << 5),
        "VMXE and what is hidden leave"
    );
    assert_eq!(leave(&mut vmx, 28, 4), Exit::Protection);
}

#[test]
fn a_guest_switches_no_cache_off_but_in_what_it_sees() {
    const NW: u64 = 1 << 29;
    const CD: u64 = 1 << 30;
    let mut vmx = bound(&state());
    assert_eq!(
        vmcs::read(CR0_MASK) & (NW | CD),
        NW | CD,
        "its writes leave"
    );
    assert_eq!(vmx.cr0() & (NW | CD), NW | CD, "as after reset");
    let mut frame = Frame::default();
    for (value, exit) in [
        (CD | 1, Exit::Answered),
        (NW | 1, Exit::Protection),
        (NW | CD | 1, Exit::Answered),
        (1, Exit::Answered),
    ] {
        let before = vmx.cr0();
        frame.set(RBX, value);
        vmcs::write(EXIT_REASON, 28);
        vmcs::write(QUALIFICATION, (RBX as u64) << 8);
        assert_eq!(enter(&mut vmx, &mut frame), exit, "{value:#x}");
        let seen = if exit == Exit::Protection {
            before
        } else {
            value
        };
        assert_eq!(vmx.cr0() & (NW | CD), seen & (NW | CD), "{value:#x}");
        assert_eq!(vmcs::read(GUEST_CR0) & (NW | CD), 0, "{value:#x}");
    }
}

#[test]
fn a_debugger_is_told_what_the_hardware_only_reports() {
    const HARDWARE: u32 = 1 << 31 | 3 << 8 | 1;
    const INT1: u32 = 1 << 31 | 5 << 8 | 1;
    const DETECT: u64 = 1 << 13;
    let mut vmx = bound(&state());
    for (event, cause, exit, dr7) in [
        (HARDWARE, 1, Exit::Exception(Exception::DEBUG), DETECT | 1),
        (HARDWARE, DETECT, Exit::Exception(Exception::DEBUG), 1),
        (INT1, 0, Exit::Int1, DETECT | 1),
    ] {
        vmcs::write(GUEST_DR7, DETECT | 1);
        vmcs::write(EXIT_EVENT, event);
        assert_eq!(leave(&mut vmx, 0, cause), exit);
        assert_eq!(vmcs::read(GUEST_DR7), dr7);
    }
}

#[test]
fn a_cpu_that_starts_anew_forgets_what_paging_has_found() {
    let mut vmx = bound(&state());
    let before = cpu::drops();
    vmx.start(&BootState::sipi(9));
    assert_eq!(cpu::drops(), before + 1);
}

#[test]
fn no_shadow_is_left_where_a_step_traps() {
    const STI: u32 = 1 << 0;
    const NMI: u32 = 1 << 3;
    let mut vmx = bound(&state());
    for (exception, left) in [(Exception::PROTECTION, STI | NMI), (Exception::DEBUG, NMI)] {
        vmcs::write(INTERRUPTIBILITY, STI | NMI);
        vmx.inject(Event::Exception(exception));
        assert_eq!(vmcs::read(INTERRUPTIBILITY), left, "else the entry fails");
    }
}

#[test]
fn a_write_of_ne_that_the_cpu_refuses_leaves_it_as_it_was() {
    const NE: u64 = 1 << 5;
    const FAULT: u32 = 1 << 31 | 1 << 11 | 3 << 8 | 13;
    const FAULTS: u32 = 1 << 13;
    let mut vmx = bound(&state());
    let refused = |error| {
        Exit::Exception(Exception {
            error: Some(error),
            ..Exception::PROTECTION
        })
    };
    vmcs::write(EXIT_EVENT, FAULT);
    for (delivering, rip, is_kept, exit) in [
        (0, ENTRY, true, refused(0)),
        (0, ENTRY + 3, false, refused(0)),
        (1 << 31 | 0x20, ENTRY, true, Exit::Answered),
    ] {
        vmcs::write(GUEST_RIP, ENTRY);
        vmcs::write(VECTORING_EVENT, 0);
        vmx.start(&state());
        assert_eq!(leave(&mut vmx, 28, 0), Exit::Answered);
        assert_eq!(vmx.cr0() & NE, 0);
        assert_eq!(leave(&mut vmx, 1, 0), Exit::Host, "before it is executed");
        assert_ne!(vmcs::read(EXCEPTION_BITMAP) & FAULTS, 0);
        vmcs::write(GUEST_RIP, rip);
        vmcs::write(VECTORING_EVENT, delivering);
        assert_eq!(leave(&mut vmx, 0, 0), exit);
        assert_eq!(vmx.cr0() & NE != 0, is_kept);
        assert_eq!(vmcs::read(EXCEPTION_BITMAP) & FAULTS, 0);
    }
}

#[test]
fn an_nmi_waits_until_a_stack_is_whole() {
    const MOV_SS: u32 = 1 << 1;
    const NMI: u32 = 1 << 3;
    let vmx = bound(&state());
    assert!(vmx.can_take_nmi());
    vmcs::write(INTERRUPTIBILITY, MOV_SS);
    assert!(!vmx.can_take_nmi(), "the entry would fail");
    vmcs::write(INTERRUPTIBILITY, NMI);
    assert!(vmx.can_take_nmi(), "that is not asked here");
}

#[test]
fn an_event_whose_delivery_left_is_delivered_again_unless_it_is_executed_again() {
    let mut vmx = bound(&state());
    leave(&mut vmx, 48, 0);
    vmcs::write(VECTORING_EVENT, 1 << 31 | 1 << 12 | 1 << 11 | 3 << 8 | 14);
    vmcs::write(VECTORING_ERROR, 2);
    vmx.resume_event();
    assert!(vmx.has_event());
    vmcs::write(VECTORING_EVENT, 0);
    leave(&mut vmx, 1, 0);
    assert_eq!(vmcs::read(ENTRY_EVENT), 1 << 31 | 1 << 11 | 3 << 8 | 14);
    assert!(!vmx.has_event(), "once");
    for software in [4, 5, 6] {
        vmcs::write(VECTORING_EVENT, 1 << 31 | software << 8 | 3);
        vmx.resume_event();
        assert!(!vmx.has_event());
    }
}

#[test]
fn a_guest_that_keeps_leaving_with_interrupts_closed_gets_no_more_time() {
    let mut vmx = bound(&state());
    leave(&mut vmx, 1, 0);
    leave(&mut vmx, 10, 0);
    let given = vmcs::read(PREEMPTION_TIMER);
    // The hardware saves what is left.
    vmcs::write(PREEMPTION_TIMER, 5);
    leave(&mut vmx, 10, 0);
    assert_eq!(vmcs::read(PREEMPTION_TIMER), 5);
    leave(&mut vmx, 52, 0);
    leave(&mut vmx, 10, 0);
    assert_eq!(
        vmcs::read(PREEMPTION_TIMER),
        given,
        "the host has had its turn"
    );
}

#[test]
fn an_interrupt_below_the_task_priority_waits_for_that_to_fall() {
    let mut vmx = bound(&state());
    let has_window = || {
        let controls = Primary::from_bits_retain(vmcs::read(PRIMARY_CONTROLS));
        controls.contains(Primary::INTERRUPT_WINDOW)
    };
    vmx.open_window(5);
    assert!(has_window());
    vmx.set_task_priority(8);
    vmx.open_window(5);
    assert!(!has_window());
    assert_eq!(vmcs::read(TPR_THRESHOLD), 5);
    vmx.set_task_priority(3);
    leave(&mut vmx, 1, 0);
    assert_eq!(
        vmcs::read(TPR_THRESHOLD),
        0,
        "an entry with more would fail"
    );
}

#[test]
fn a_local_apic_is_given_to_the_cpu_and_taken_back() {
    let mut vmx = bound(&state());
    let controls = || Secondary::from_bits_retain(vmcs::read(SECONDARY_CONTROLS));
    let (own_map, delivery) = (vmcs::read(MSR_BITMAP), Secondary::INTERRUPT_DELIVERY);
    assert!(!controls().contains(delivery));
    let given = Given {
        requested: 0x51,
        serving: Some(0x30),
        levels: Some([0, 1 << 33, 0, 0]),
    };
    assert!(controls().contains(Secondary::APIC_ACCESSES), "they leave");
    assert!(vmx.delivers(Mode::X2Apic) && !vmx.delivers(Mode::Disabled));
    vmx.give_apic(Mode::XApic, given);
    assert!(controls().contains(delivery | Secondary::APIC_ACCESSES));
    assert_eq!(vmcs::read(MSR_BITMAP), own_map, "its registers are no MSRs");
    vmx.give_apic(Mode::X2Apic, given);
    assert!(controls().contains(delivery | Secondary::X2APIC | Secondary::APIC_REGISTERS));
    assert_eq!(vmcs::read(INTERRUPT_STATUS), 0x3051);
    assert_eq!(Some(EOI_EXITS.map(vmcs::read)), given.levels);
    assert_ne!(vmcs::read(MSR_BITMAP), own_map);
    let more = |requested| Given {
        requested,
        serving: None,
        levels: None,
    };
    vmx.give_apic(Mode::X2Apic, more(0x41));
    assert_eq!(
        vmcs::read(INTERRUPT_STATUS),
        0x3051,
        "what the CPU knows is higher"
    );
    vmx.give_apic(Mode::X2Apic, more(0x61));
    assert_eq!(vmcs::read(INTERRUPT_STATUS), 0x3061);
    vmx.take_apic();
    assert!(!controls().intersects(delivery | Secondary::X2APIC));
    assert_eq!(
        vmcs::read(MSR_BITMAP),
        own_map,
        "else it reaches the host's"
    );
}

proptest! {
    #[test]
    fn no_exit_makes_the_hypervisor_panic(
        exits in prop::collection::vec((0u32..70, any::<bool>(), any::<[u64; 4]>()), 1..20),
    ) {
        let mut vmx = bound(&state());
        for (reason, has_failed, [qualification, event, address, cr0]) in exits {
            vmcs::write(VECTORING_EVENT, event as u32);
            vmcs::write(GUEST_PHYSICAL_ADDRESS, address);
            vmcs::write(GUEST_CR0, cr0);
            let failed = if has_failed { FAILED } else { 0 };
            leave(&mut vmx, reason | failed, qualification);
            vmx.resume_event();
            vmx.skip(1);
            let _ = (vmx.cpl(), vmx.code_size(), vmx.can_interrupt());
        }
        vmx.unbind();
    }
}
