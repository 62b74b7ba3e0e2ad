// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the local APIC.

use core::cell::Cell;
use std::{collections::BTreeSet, vec::Vec};

use arch_vm_host::testing::StdHost;
use axdevice::AccessWidth;
use proptest::prelude::*;

use super::*;
use crate::{
    irqchip::message::{Destination, EVERYBODY},
    testing::host,
};

const ID: u32 = 0x802;
const VERSION: u32 = 0x803;
const TPR: u32 = 0x808;
const PPR: u32 = 0x80a;
const EOI: u32 = 0x80b;
const LDR: u32 = 0x80d;
const SVR: u32 = 0x80f;
const ISR: u32 = 0x810;
const IRR: u32 = 0x820;
const ESR: u32 = 0x828;
const ICR: u32 = 0x830;
const LVT_TIMER: u32 = 0x832;
const LVT_LINT0: u32 = 0x835;
const LVT_LINT1: u32 = 0x836;
const LVT_ERROR: u32 = 0x837;
const INITIAL: u32 = 0x838;
const CURRENT: u32 = 0x839;
const DIVIDE: u32 = 0x83e;
const SELF_IPI: u32 = 0x83f;
const BASE: u32 = 0x1b;
const TSC_DEADLINE: u32 = 0x6e0;

const BASE_XAPIC: u64 = PAGE | 0x800;
const BASE_X2APIC: u64 = PAGE | 0xc00;

/// A counter of 2 GHz that began when the host's clock showed 1000.
#[derive(Default)]
struct FakeTime(Cell<u64>);

impl FakeTime {
    fn pass(&self, ns: u64) {
        self.0.set(self.0.get().saturating_add(ns));
    }
}

impl Time for FakeTime {
    fn now_ns(&self) -> u64 {
        self.0.get() + 1000
    }

    fn tsc(&self) -> u64 {
        self.0.get() * 2
    }

    fn ns_at_tsc(&self, tsc: u64) -> u64 {
        tsc.div_ceil(2).saturating_add(1000)
    }
}

struct Bench {
    apic: LocalApic<StdHost>,
    time: FakeTime,
}

impl Bench {
    /// The boot CPU's, in x2APIC mode and enabled.
    fn new() -> Self {
        Self::of(0)
    }

    fn of(id: u32) -> Self {
        let mut bench = Self::in_memory(id);
        bench.write(BASE, BASE_X2APIC);
        bench.write(SVR, 0x1ff);
        bench
    }

    /// In xAPIC mode, as at reset.
    fn in_memory(id: u32) -> Self {
        Self {
            apic: LocalApic::new(&host(), id).unwrap(),
            time: FakeTime::default(),
        }
    }

    fn try_write(&mut self, msr: u32, value: u64) -> Result<Effect, GeneralProtection> {
        self.apic.write_msr(msr, value, &self.time)
    }

    fn write(&mut self, msr: u32, value: u64) {
        assert_eq!(self.try_write(msr, value), Ok(Effect::Nothing));
    }

    fn read(&self, msr: u32) -> u64 {
        self.apic.read_msr(msr, &self.time).unwrap()
    }

    fn page(&self, offset: u64) -> u64 {
        self.apic.read_page(offset, AccessWidth::Dword, &self.time)
    }

    fn write_page(&mut self, offset: u64, value: u64) -> Effect {
        let width = AccessWidth::Dword;
        self.apic.write_page(offset, width, value, &self.time)
    }

    fn pass(&mut self, ns: u64) {
        self.time.pass(ns);
        self.apic.poll_timer(&self.time);
    }

    fn post(&self, vector: u8) {
        self.apic.inbox().post(vector, Trigger::Edge);
    }

    /// Takes what comes, as a CPU that can.
    fn take(&mut self) -> Option<u8> {
        let vector = self.apic.next()?;
        self.apic.acknowledge(vector);
        Some(vector)
    }

    /// Tells when the timer's interrupt comes, from now.
    fn wait_ns(&self) -> Option<u64> {
        let deadline = self.apic.timer_deadline_ns();
        (deadline != NEVER).then(|| deadline - self.time.now_ns())
    }
}

#[test]
fn at_power_on_registers_are_those_of_a_real_one() {
    let bench = Bench::in_memory(3);
    assert_eq!(bench.page(0x20), 0x0300_0000);
    assert_eq!(bench.page(0x30), 0x0005_0014);
    assert_eq!(bench.page(0xe0), 0xffff_ffff);
    assert_eq!(bench.page(0xf0), 0xff);
    assert_eq!(
        [0x320, 0x350, 0x370].map(|at| bench.page(at)),
        [0x1_0000; 3]
    );
    assert_eq!(bench.read(BASE), BASE_XAPIC);
    assert_eq!(Bench::in_memory(0).read(BASE), BASE_XAPIC | 0x100);
}

#[test]
fn the_boot_cpus_is_wired_to_the_8259_and_the_others_are_not() {
    assert_eq!(Bench::in_memory(0).apic.inbox().lint0(), Lint0::External);
    assert_eq!(Bench::in_memory(1).apic.inbox().lint0(), Lint0::Masked);
}

#[test]
fn the_highest_vector_is_taken_first_and_holds_back_its_class() {
    let mut bench = Bench::new();
    [0x31, 0x45, 0x3f]
        .into_iter()
        .for_each(|vector| bench.post(vector));
    assert_eq!(bench.take(), Some(0x45));
    assert_eq!(bench.take(), None);
    bench.post(0x46);
    assert_eq!(bench.take(), None, "the same class");
    bench.post(0x51);
    assert_eq!(bench.take(), Some(0x51));
    assert_eq!(bench.read(PPR), 0x50);
    bench.write(EOI, 0);
    assert_eq!(bench.read(ISR + 2), 1 << 5);
    bench.write(EOI, 0);
    assert_eq!(bench.take(), Some(0x46));
    bench.write(EOI, 0);
    assert_eq!(bench.take(), Some(0x3f));
}

#[test]
fn the_task_priority_holds_back_what_is_not_above_it() {
    let mut bench = Bench::new();
    bench.write(TPR, 0x41);
    bench.post(0x4f);
    assert_eq!((bench.take(), bench.read(PPR)), (None, 0x41));
    assert_eq!(bench.read(IRR + 2), 1 << 15);
    bench.write(TPR, 0x3f);
    assert!(bench.apic.is_stale());
    assert_eq!(bench.take(), Some(0x4f));
}

#[test]
fn the_end_of_a_level_is_told_and_that_of_an_edge_is_not() {
    let mut bench = Bench::new();
    bench.apic.inbox().post(0x61, Trigger::Level);
    assert_eq!(bench.take(), Some(0x61));
    assert_eq!(bench.try_write(EOI, 0), Ok(Effect::End(0x61)));
    assert_eq!(bench.try_write(EOI, 0), Ok(Effect::Nothing), "none is left");
    bench.post(0x61);
    assert_eq!(bench.take(), Some(0x61));
    bench.write(EOI, 0);
}

#[test]
fn given_to_hardware_it_moves_what_others_request_into_the_page() {
    let mut bench = Bench::new();
    bench.post(0x45);
    bench.apic.inbox().post(0x61, Trigger::Level);
    let given = bench.apic.give();
    assert_eq!((given.requested, given.serving), (0x61, Some(0)));
    assert_eq!(given.levels, Some([0, 1 << 0x21, 0, 0]));
    assert!(bench.apic.is_due());
    assert_eq!(bench.read(IRR + 2), 1 << 5, "read as before");
    assert_eq!(bench.take(), None, "the hardware takes it");
    // What the hardware does to deliver it.
    bench.apic.page().remove(Set::Requests, 0x61);
    bench.apic.page().insert(Set::InService, 0x61);
    bench.post(0x33);
    let given = bench.apic.give();
    assert_eq!(
        (given.requested, given.serving),
        (0x33, None),
        "what is new"
    );
    assert_eq!(given.levels, None);
    assert!(!bench.apic.is_due());
    bench.apic.take_back();
    assert_eq!(bench.take(), None, "its class is below what is in service");
    assert_eq!(bench.try_write(EOI, 0), Ok(Effect::End(0x61)));
    assert_eq!(bench.take(), Some(0x45));
    bench.write(EOI, 0);
    assert_eq!(bench.take(), Some(0x33));
    let given = bench.apic.give();
    assert_eq!((given.requested, given.serving), (0, Some(0x33)));
}

#[test]
fn what_hardware_has_written_is_done_and_what_is_read_only_stays() {
    let mut bench = Bench::in_memory(3);
    let (id, spurious) = (0x20, 0xf0);
    bench.apic.page().write(id / 16, 0);
    assert_eq!(bench.apic.written(id.into(), &bench.time), Effect::Nothing);
    assert_eq!(bench.page(id.into()), 0x0300_0000);
    bench.apic.page().write(spurious / 16, u32::MAX);
    let _ = bench.apic.written(spurious.into(), &bench.time);
    assert_eq!(bench.page(spurious.into()), 0x3ff);
    assert_eq!(bench.apic.enabled_mode(), Mode::XApic);
}

#[test]
fn cr8_leaves_the_low_half_of_a_task_priority_of_its_class() {
    let mut bench = Bench::new();
    bench.write(TPR, 0x2f);
    bench.apic.set_task_class(2);
    assert_eq!(bench.read(TPR), 0x2f);
    bench.apic.set_task_class(3);
    assert_eq!((bench.read(TPR), bench.read(PPR)), (0x30, 0x30));
}

#[test]
fn disabled_by_software_it_holds_interrupts_and_masks_its_entries() {
    let mut bench = Bench::new();
    bench.write(LVT_TIMER, 0x40);
    bench.post(0x50);
    bench.write(SVR, 0xff);
    assert!(!bench.apic.inbox().is_enabled());
    assert_eq!(bench.take(), None);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0040);
    bench.write(LVT_TIMER, 0x41);
    assert_eq!(bench.read(LVT_TIMER), 0x1_0041);
    bench.write(SVR, 0x1ff);
    assert_eq!(bench.take(), Some(0x50));
}

#[test]
fn a_self_ipi_is_pending_at_once() {
    let mut bench = Bench::new();
    bench.write(SELF_IPI, 0x77);
    assert!(bench.apic.is_stale());
    assert_eq!(bench.take(), Some(0x77));
    bench.write(EOI, 0);
    bench.write(ICR, 0x4_0078);
    assert_eq!(bench.take(), Some(0x78));
}

#[test]
fn commands_become_messages() {
    let mut bench = Bench::new();
    let to = |destination, delivery| Message {
        destination,
        delivery,
        vector: 0x99,
        trigger: Trigger::Edge,
    };
    let (three, all) = (Destination::Physical(3), Destination::Physical(EVERYBODY));
    let some = Destination::Logical(0x1_0003);
    let cases = [
        (3 << 32 | 0x99, to(three, Delivery::Fixed)),
        (0x1_0003 << 32 | 0x899, to(some, Delivery::Fixed)),
        (0xc_0099, to(Destination::Others, Delivery::Fixed)),
        (0x8_0499, to(Destination::All, Delivery::Nmi)),
        (3 << 32 | 0x4599, to(three, Delivery::Init)),
        (3 << 32 | 0x0699, to(three, Delivery::Startup)),
        (0xffff_ffff << 32 | 0x199, to(all, Delivery::LowestPriority)),
    ];
    for (command, message) in cases {
        assert_eq!(bench.try_write(ICR, command), Ok(Effect::Send(message)));
        assert_eq!(bench.read(ICR), command);
    }
    // The end of an INIT, SMI, ExtINT and a reserved mode.
    for command in [0x8500, 0x200, 0x700, 0x300] {
        bench.write(ICR, 3 << 32 | command);
    }
}

#[test]
fn in_memory_the_low_half_of_a_command_sends_it() {
    let mut bench = Bench::in_memory(0);
    assert_eq!(bench.write_page(0x310, 0xff00_0000), Effect::Nothing);
    let everybody = Message {
        destination: Destination::Physical(EVERYBODY),
        delivery: Delivery::Fixed,
        vector: 0x44,
        trigger: Trigger::Edge,
    };
    assert_eq!(bench.write_page(0x300, 0x1044), Effect::Send(everybody));
    assert_eq!((bench.page(0x310), bench.page(0x300)), (0xff00_0000, 0x44));
}

#[test]
fn illegal_vectors_are_errors_and_not_interrupts() {
    let mut bench = Bench::new();
    bench.write(LVT_ERROR, 0xfe);
    bench.write(ICR, 3 << 32 | 0x0f);
    assert_eq!(bench.take(), Some(0xfe));
    bench.write(EOI, 0);
    assert_eq!(bench.read(ESR), 0);
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), 0x20);
    assert!(bench.apic.inbox().post(3, Trigger::Edge));
    let signals = bench.apic.take_signals().unwrap();
    assert_eq!(
        (signals.init, signals.startup, signals.nmi),
        (false, None, false)
    );
    assert_eq!(bench.take(), Some(0xfe));
    bench.write(ESR, 0);
    assert_eq!(bench.read(ESR), 0x40);
    bench.write(LVT_ERROR, 0);
    bench.write(SELF_IPI, 1);
    bench.write(ESR, 0);
    assert_eq!((bench.read(ESR), bench.take()), (0x60, None));
}

#[test]
fn a_one_shot_timer_fires_once_at_its_time() {
    let mut bench = Bench::new();
    bench.write(LVT_TIMER, 0x40);
    bench.write(DIVIDE, 0b0001);
    bench.write(INITIAL, 1000);
    assert_eq!(bench.wait_ns(), Some(4000));
    bench.pass(1000);
    assert_eq!((bench.read(CURRENT), bench.take()), (750, None));
    bench.pass(3000);
    assert_eq!((bench.read(CURRENT), bench.take()), (0, Some(0x40)));
    assert_eq!((bench.wait_ns(), bench.read(INITIAL)), (None, 1000));
}

#[test]
fn a_periodic_timer_does_not_drift_and_merges_what_was_missed() {
    let mut bench = Bench::new();
    bench.write(LVT_TIMER, 0x2_0040);
    bench.write(DIVIDE, 0b1011);
    bench.write(INITIAL, 1_000_000);
    bench.pass(1_000_300);
    assert_eq!(bench.take(), Some(0x40));
    bench.write(EOI, 0);
    assert_eq!(bench.wait_ns(), Some(999_700));
    assert_eq!(bench.read(CURRENT), 999_700);
    bench.pass(3_999_700);
    assert_eq!((bench.take(), bench.take()), (Some(0x40), None));
    assert_eq!(bench.wait_ns(), Some(1_000_000));
    bench.write(INITIAL, 0);
    assert_eq!(bench.wait_ns(), None);
}

#[test]
fn a_period_that_is_too_short_does_not_tire_the_host() {
    let mut bench = Bench::new();
    bench.write(LVT_TIMER, 0x2_0040);
    bench.write(INITIAL, 1);
    bench.pass(10);
    assert!(bench.wait_ns().unwrap() >= 19_990);
}

#[test]
fn a_masked_timer_counts_and_does_not_interrupt() {
    let mut bench = Bench::new();
    bench.write(LVT_TIMER, 0x1_0040);
    bench.write(INITIAL, 100);
    bench.pass(1000);
    assert_eq!((bench.take(), bench.wait_ns()), (None, None));
}

#[test]
fn changing_the_rate_or_the_mode_keeps_the_count() {
    let mut bench = Bench::new();
    bench.write(DIVIDE, 0b1011);
    bench.write(INITIAL, 1000);
    bench.pass(400);
    bench.write(DIVIDE, 0);
    assert_eq!((bench.read(CURRENT), bench.wait_ns()), (600, Some(1200)));
    bench.write(LVT_TIMER, 0x2_0040);
    assert_eq!(bench.read(CURRENT), 600);
    bench.pass(1200);
    assert_eq!((bench.take(), bench.wait_ns()), (Some(0x40), Some(20_000)));
}

#[test]
fn a_deadline_is_a_value_of_the_guests_counter() {
    let mut bench = Bench::new();
    bench.write(TSC_DEADLINE, 5000);
    assert_eq!(bench.read(TSC_DEADLINE), 0, "in another mode");
    bench.write(LVT_TIMER, 0x4_0040);
    bench.write(INITIAL, 1000);
    assert_eq!(bench.read(INITIAL), 0);
    bench.write(TSC_DEADLINE, 5001);
    assert_eq!(
        (bench.read(TSC_DEADLINE), bench.wait_ns()),
        (5001, Some(2501))
    );
    bench.pass(2500);
    assert_eq!(bench.take(), None);
    bench.pass(1);
    assert_eq!((bench.take(), bench.read(TSC_DEADLINE)), (Some(0x40), 0));
    bench.write(EOI, 0);
    bench.write(TSC_DEADLINE, 1);
    bench.pass(0);
    assert_eq!(bench.take(), Some(0x40), "a time that has passed");
    bench.write(TSC_DEADLINE, 9_000_000);
    bench.write(LVT_TIMER, 0x40);
    assert_eq!((bench.wait_ns(), bench.read(TSC_DEADLINE)), (None, 0));
}

#[test]
fn modes_change_only_along_the_allowed_ways() {
    let mut bench = Bench::in_memory(0);
    let gp = Err(GeneralProtection);
    assert_eq!(
        bench.try_write(BASE, PAGE | 0x400),
        gp,
        "x2APIC without APIC"
    );
    assert_eq!(bench.try_write(BASE, 0xfee1_0800), gp, "elsewhere");
    assert_eq!(bench.try_write(BASE, BASE_XAPIC | 1), gp, "reserved");
    assert_eq!(bench.try_write(SVR, 0x1ff), gp, "x2APIC is off");
    bench.write(BASE, BASE_X2APIC);
    assert_eq!(bench.read(BASE), BASE_X2APIC | 0x100);
    assert_eq!(bench.try_write(BASE, BASE_XAPIC), gp, "back to xAPIC");
    bench.write(BASE, PAGE);
    assert_eq!(bench.apic.mode(), Mode::Disabled);
    assert_eq!(bench.apic.inbox().lint0(), Lint0::External);
    assert_eq!(bench.try_write(BASE, BASE_X2APIC), gp, "at once from off");
    bench.write(BASE, BASE_XAPIC);
    assert_eq!((bench.page(0xf0), bench.page(0x350)), (0xff, 0x1_0000));
}

#[test]
fn x2apic_refuses_what_does_not_exist_or_is_reserved() {
    let mut bench = Bench::of(0x23);
    assert_eq!(bench.read(ID), 0x23);
    assert_eq!(bench.read(LDR), 0x2_0008);
    assert_eq!(bench.read(VERSION), 0x0005_0014);
    for msr in 0x800..0x900 {
        let has = matches!(msr, 0x802 | 0x803 | 0x808 | 0x80a | 0x80d | 0x80f..=0x828
            | 0x830 | 0x832..=0x839 | 0x83e);
        assert_eq!(
            bench.apic.read_msr(msr, &bench.time).is_ok(),
            has,
            "{msr:#x}"
        );
    }
    let refused = [
        (ID, 0),
        (VERSION, 0),
        (LDR, 0),
        (PPR, 0),
        (ISR, 0),
        (IRR, 0),
        (CURRENT, 0),
        (0x80e, 0),
        (0x831, 0),
        (0x82f, 0),
        (EOI, 1),
        (ESR, 1),
        (TPR, 0x100),
        (SVR, 0x400),
        (SVR, 1 << 32),
        (DIVIDE, 4),
        (INITIAL, 1 << 32),
        (ICR, 1 << 13),
        (ICR, 1 << 20),
        (SELF_IPI, 0x100),
        (LVT_TIMER, 1 << 8),
        (LVT_LINT1, 1 << 17),
        (LVT_ERROR, 1 << 10),
        (LVT_LINT0, 1 << 31),
    ];
    for (msr, value) in refused {
        assert_eq!(
            bench.try_write(msr, value),
            Err(GeneralProtection),
            "{msr:#x} {value:#x}"
        );
    }
}

#[test]
fn destinations_name_whom_they_should() {
    let physical = |id| Destination::Physical(id);
    let logical = |id| Destination::Logical(id);
    let mut bench = Bench::in_memory(2);
    let names = |bench: &Bench, to| bench.apic.inbox().is_addressed(to, Some(0));
    assert!(names(&bench, physical(2)) && !names(&bench, physical(3)));
    assert!(names(&bench, physical(EVERYBODY)) && names(&bench, Destination::All));
    assert!(names(&bench, Destination::Others));
    assert!(
        !bench
            .apic
            .inbox()
            .is_addressed(Destination::Others, Some(2))
    );
    let _ = bench.write_page(0xd0, 0x0400_0000);
    assert!(names(&bench, logical(6)) && !names(&bench, logical(0x1b)));
    let _ = bench.write_page(0xe0, 0);
    let _ = bench.write_page(0xd0, 0x3200_0000);
    assert!(names(&bench, logical(0x3e)) && !names(&bench, logical(0x2e)));
    assert!(!names(&bench, logical(0x3d)) && names(&bench, logical(EVERYBODY)));
    let bench = Bench::of(0x12);
    assert!(names(&bench, physical(0x12)) && names(&bench, logical(0x1_0004)));
    assert!(!names(&bench, logical(4)) && !names(&bench, logical(0x1_0008)));
}

#[test]
fn signals_wait_until_they_are_taken_and_init_comes_first() {
    let mut bench = Bench::of(1);
    let inbox = bench.apic.inbox().clone();
    assert_eq!(bench.apic.take_signals(), None);
    inbox.send_startup(0x55);
    inbox.send_init();
    inbox.send_startup(0x9a);
    inbox.send_startup(0x9b);
    assert!(inbox.send_nmi() && !inbox.send_nmi());
    assert!(inbox.has_signals());
    let signals = bench.apic.take_signals().unwrap();
    assert_eq!(
        (signals.init, signals.startup, signals.nmi),
        (true, Some(0x9a), true)
    );
    assert_eq!(bench.apic.take_signals(), None);
}

#[test]
fn lint0_can_be_a_vector_or_an_nmi() {
    let mut bench = Bench::new();
    let inbox = bench.apic.inbox().clone();
    for (entry, meaning) in [
        (0x31, Lint0::Fixed(0x31)),
        (0x431, Lint0::Nmi),
        (0x700, Lint0::External),
        (0x231, Lint0::Masked),
        (0x1_0700, Lint0::Masked),
    ] {
        bench.write(LVT_LINT0, entry);
        assert!(bench.apic.is_stale());
        assert_eq!(inbox.lint0(), meaning);
        bench.apic.next();
    }
}

#[test]
fn init_resets_all_but_the_mode() {
    let mut bench = Bench::of(1);
    bench.post(0x50);
    bench.take();
    bench.post(0x60);
    bench.write(TPR, 0x20);
    bench.apic.reset();
    assert_eq!(bench.apic.mode(), Mode::X2Apic);
    assert_eq!(
        [SVR, TPR, PPR, IRR + 3, ISR + 2].map(|msr| bench.read(msr)),
        [0xff, 0, 0, 0, 0]
    );
}

#[test]
fn the_page_shows_only_whole_registers_to_writes() {
    let mut bench = Bench::in_memory(0);
    let time = FakeTime::default();
    let read = |bench: &Bench, at, width| bench.apic.read_page(at, width, &time);
    assert_eq!(read(&bench, 0x32, AccessWidth::Byte), 0x05);
    assert_eq!(read(&bench, 0x32, AccessWidth::Word), 0x0005);
    assert_eq!(read(&bench, 0x30, AccessWidth::Qword), 0x0005_0014);
    assert_eq!(read(&bench, 0x34, AccessWidth::Dword), 0);
    for (at, width) in [
        (0x80, AccessWidth::Byte),
        (0x81, AccessWidth::Dword),
        (0x80, AccessWidth::Qword),
    ] {
        assert_eq!(
            bench.apic.write_page(at, width, 0x55, &time),
            Effect::Nothing
        );
    }
    assert_eq!(bench.page(0x80), 0);
    assert_eq!(bench.write_page(0x3f0, 0x55), Effect::Nothing);
    assert_eq!(bench.take(), None, "only x2APIC has it");
}

/// Vectors alone: requested, in service, and what is taken next.
#[derive(Default)]
struct Model {
    requested: BTreeSet<u8>,
    serving: BTreeSet<u8>,
    task_priority: u8,
}

impl Model {
    fn next(&self) -> Option<u8> {
        let floor = self
            .serving
            .last()
            .copied()
            .unwrap_or(0)
            .max(self.task_priority)
            >> 4;
        self.requested
            .last()
            .copied()
            .filter(|vector| vector >> 4 > floor)
    }
}

proptest! {
    #[test]
    fn vectors_are_taken_as_the_model_takes_them(
        steps in prop::collection::vec((0..5_u8, any::<u8>()), 0..200),
    ) {
        let mut bench = Bench::new();
        let mut model = Model::default();
        for (kind, value) in steps {
            match kind {
                0 => {
                    bench.post(value.max(16));
                    model.requested.insert(value.max(16));
                }
                1 => {
                    bench.write(TPR, value.into());
                    model.task_priority = value;
                }
                2 => {
                    bench.write(EOI, 0);
                    model.serving.pop_last();
                }
                _ => {
                    let next = model.next();
                    prop_assert_eq!(bench.take(), next);
                    if let Some(vector) = next {
                        model.requested.remove(&vector);
                        model.serving.insert(vector);
                    }
                }
            }
            prop_assert_eq!(bench.apic.next(), model.next());
        }
    }

    #[test]
    fn no_access_panics_and_deadlines_are_kept(
        steps in prop::collection::vec((0..4_u8, any::<u32>(), any::<u64>(), 0..4_usize), 0..100),
        is_msr in any::<bool>(),
    ) {
        let widths: Vec<_> = [1, 2, 4, 8].map(|size| AccessWidth::try_from(size).unwrap()).into();
        let mut bench = if is_msr { Bench::new() } else { Bench::in_memory(1) };
        for (kind, at, value, width) in steps {
            let known = 0x802 + at % 0x40;
            let msr = if at & 0x100 == 0 { known } else { at };
            match kind {
                0 => drop(bench.try_write(msr, value)),
                1 => drop(bench.try_write(known, value & 0x7_00ff)),
                2 => {
                    let offset = u64::from(at % 0x400) * 4;
                    let width = widths[width];
                    bench.apic.read_page(offset, width, &bench.time);
                    let _ = bench.apic.write_page(offset, width, value, &bench.time);
                }
                _ => bench.pass(value % 10_000_000),
            }
            let _ = bench.apic.read_msr(msr, &bench.time);
            bench.apic.poll_timer(&bench.time);
            let deadline = bench.apic.timer_deadline_ns();
            prop_assert!(deadline > bench.time.now_ns());
            bench.take();
        }
    }
}
