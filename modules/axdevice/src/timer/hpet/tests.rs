// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the HPET.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{
    Lock,
    testing::{FakeClock, WIDTHS, any_width},
};

const CAP: u64 = 0x000;
const CONF: u64 = 0x010;
const STATUS: u64 = 0x020;
const COUNTER: u64 = 0x0f0;
const TIMER0: u64 = 0x100;
const COMPARE0: u64 = 0x108;
const QWORD: AccessWidth = AccessWidth::Qword;
const DWORD: AccessWidth = AccessWidth::Dword;

const LEVEL: u64 = 1 << 1;
const ENABLE: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const SET_VALUE: u64 = 1 << 6;
const NARROW: u64 = 1 << 8;

/// Remembers each change of a wire.
#[derive(Default)]
struct Wires(Lock<Vec<(u32, bool)>>);

impl IrqSink for Wires {
    fn set_level(&self, irq: u32, level: bool) {
        self.0.lock().push((irq, level));
    }
}

struct Bench {
    clock: Arc<FakeClock>,
    wires: Arc<Wires>,
    pit: IrqLine,
    hpet: Hpet,
}

impl Bench {
    fn new() -> Self {
        let clock = FakeClock::at(0);
        let wires = Arc::new(Wires::default());
        let line = |irq| IrqLine::new(wires.clone(), irq);
        let (legacy, pit, _) = LegacyWires::new(line(0), line(8));
        let hpet = Hpet::new(clock.clone(), wires.clone(), legacy);
        Self {
            clock,
            wires,
            pit,
            hpet,
        }
    }

    fn write(&mut self, offset: u64, value: u64) {
        self.hpet.write(offset, QWORD, value).unwrap();
    }

    fn read(&mut self, offset: u64) -> u64 {
        self.hpet.read(offset, QWORD).unwrap()
    }

    fn pass(&mut self, ticks: u64) {
        self.clock.advance(ticks * NS_PER_TICK);
        self.hpet.tick(self.clock.monotonic_ns());
    }

    fn wait_ticks(&self) -> Option<u64> {
        let at = self.hpet.next_deadline_ns()?;
        Some((at - self.clock.monotonic_ns()) / NS_PER_TICK)
    }

    fn changes(&self) -> Vec<(u32, bool)> {
        core::mem::take(&mut *self.wires.0.lock())
    }
}

const EDGE_AT_16: [(u32, bool); 2] = [(16, true), (16, false)];

#[test]
fn after_reset_the_registers_are_qemus() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(CAP), 0x0098_9680_8086_a201);
    for timer in 0..3 {
        assert_eq!(bench.read(TIMER0 + 0x20 * timer), 0x00ff_0104_0000_0030);
        assert_eq!(bench.read(COMPARE0 + 0x20 * timer), u64::MAX);
    }
    for offset in [CONF, STATUS, COUNTER, 0x160, 0x3f8] {
        assert_eq!(bench.read(offset), 0);
    }
    assert_eq!(bench.hpet.next_deadline_ns(), None);
}

#[test]
fn the_counter_runs_while_it_is_enabled_and_can_be_set_while_it_is_not() {
    let mut bench = Bench::new();
    bench.write(COUNTER, 0xffff_ffff);
    bench.pass(100);
    assert_eq!(bench.read(COUNTER), 0xffff_ffff);
    bench.write(CONF, 1);
    bench.pass(100);
    assert_eq!(bench.read(COUNTER), 0x1_0000_0063);
    bench.write(COUNTER, 5);
    assert_eq!(bench.hpet.read(COUNTER, DWORD), Ok(0x63));
    assert_eq!(bench.hpet.read(COUNTER + 4, DWORD), Ok(1));
    bench.write(CONF, 0);
    bench.pass(100);
    assert_eq!(bench.read(COUNTER), 0x1_0000_0063);
}

#[test]
fn a_one_shot_makes_one_edge_at_its_time() {
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    bench.write(TIMER0, 16 << 9 | ENABLE);
    bench.write(COMPARE0, 1000);
    assert_eq!(bench.wait_ticks(), Some(1000));
    bench.pass(999);
    assert!(bench.changes().is_empty());
    bench.pass(1);
    assert_eq!(bench.changes(), EDGE_AT_16);
    bench.pass(100_000);
    assert!(bench.changes().is_empty());
    assert_eq!(bench.hpet.next_deadline_ns(), None);
}

#[test]
fn a_comparator_that_has_passed_matches_when_the_counter_has_wrapped() {
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    bench.pass(500);
    bench.write(TIMER0, 16 << 9 | ENABLE | NARROW);
    bench.write(COMPARE0, 400);
    assert_eq!(bench.wait_ticks(), Some((1 << 32) - 100));
}

#[test]
fn a_periodic_timer_does_not_drift_and_merges_what_was_missed() {
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    bench.write(TIMER0, 16 << 9 | ENABLE | PERIODIC | SET_VALUE | NARROW);
    bench.write(COMPARE0, 1000);
    bench.write(COMPARE0, 300);
    bench.pass(1010);
    assert_eq!(bench.changes(), EDGE_AT_16);
    assert_eq!(
        (bench.wait_ticks(), bench.read(COMPARE0)),
        (Some(290), 1300)
    );
    bench.pass(1000);
    assert_eq!(bench.changes(), EDGE_AT_16);
    assert_eq!(
        (bench.wait_ticks(), bench.read(COMPARE0)),
        (Some(190), 2200)
    );
}

#[test]
fn a_level_stays_until_its_status_is_written() {
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    bench.write(TIMER0, 17 << 9 | ENABLE | LEVEL);
    bench.write(COMPARE0, 100);
    bench.pass(200);
    assert_eq!(
        (bench.changes(), bench.read(STATUS)),
        ([(17, true)].into(), 1)
    );
    bench.write(STATUS, 6);
    assert!(bench.changes().is_empty());
    bench.write(STATUS, 1);
    assert_eq!(
        (bench.changes(), bench.read(STATUS)),
        ([(17, false)].into(), 0)
    );
}

#[test]
fn a_level_moves_with_its_route_and_goes_with_its_enable() {
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    bench.write(TIMER0, 17 << 9 | ENABLE | LEVEL);
    bench.write(COMPARE0, 100);
    bench.pass(200);
    bench.changes();
    bench.write(TIMER0, 18 << 9 | ENABLE | LEVEL);
    assert_eq!(bench.changes(), [(18, true), (17, false)]);
    bench.write(TIMER0, 18 << 9 | LEVEL);
    assert_eq!(bench.changes(), [(18, false)]);
}

#[test]
fn a_wire_that_timers_share_is_up_while_one_of_them_holds_it() {
    const TIMER1: u64 = TIMER0 + 0x20;
    let mut bench = Bench::new();
    bench.write(CONF, 1);
    for timer in [TIMER0, TIMER1] {
        bench.write(timer, 17 << 9 | ENABLE | LEVEL);
        bench.write(timer + 8, 100);
    }
    bench.pass(200);
    assert_eq!(bench.changes(), [(17, true); 2]);
    bench.write(STATUS, 1);
    assert!(bench.changes().is_empty());
    // An edge of the other does not pull it down either.
    bench.write(TIMER0, 17 << 9 | ENABLE);
    bench.write(COMPARE0, 300);
    bench.pass(200);
    assert!(bench.changes().is_empty());
    bench.write(STATUS, 2);
    assert_eq!(bench.changes(), [(17, false)]);
}

#[test]
fn only_the_routes_that_there_are_can_be_chosen() {
    let mut bench = Bench::new();
    for route in 0..32 {
        bench.write(TIMER0, route << 9);
        let has = matches!(route, 2 | 8 | 16..=23);
        let kept = bench.read(TIMER0) >> 9 & 0x1f;
        assert_eq!(kept, if has { route } else { 0 });
    }
}

#[test]
fn the_legacy_wires_are_the_hpets_while_it_replaces_them() {
    let mut bench = Bench::new();
    bench.pit.set_level(true);
    assert_eq!(bench.changes(), [(0, true)]);
    bench.write(CONF, 3);
    assert_eq!(bench.changes(), [(0, false), (8, false)]);
    bench.pit.pulse();
    assert!(bench.changes().is_empty());
    for timer in [0, 1] {
        bench.write(TIMER0 + 0x20 * timer, ENABLE | 16 << 9);
        bench.write(COMPARE0 + 0x20 * timer, 100);
    }
    bench.pass(100);
    let both = [(0, true), (0, false), (8, true), (8, false)];
    assert_eq!(bench.changes(), both);
    bench.pit.set_level(true);
    bench.write(CONF, 1);
    assert_eq!(bench.changes(), [(0, true), (8, false)]);
}

#[test]
fn aligned_words_and_double_words_are_decoded_and_nothing_else() {
    let mut bench = Bench::new();
    for (width, size) in WIDTHS {
        for offset in (0..0x410).chain([u64::MAX - 7, u64::MAX]) {
            let decoded = size >= 4 && offset % size == 0 && offset < 0x400;
            assert_eq!(bench.hpet.read(offset, width).is_ok(), decoded);
            assert_eq!(bench.hpet.write(offset, width, 0).is_ok(), decoded);
        }
    }
}

#[derive(Clone, Debug)]
enum Action {
    Read(u64, AccessWidth),
    Write(u64, AccessWidth, u64),
    Pass(u64),
}

fn any_action() -> impl Strategy<Value = Action> {
    let known = [
        CONF, STATUS, COUNTER, TIMER0, COMPARE0, 0x120, 0x128, 0x140, 0x148,
    ];
    let offset = prop_oneof![8 => prop::sample::select(known.to_vec()), 1 => 0..0x400_u64];
    let width = prop_oneof![3 => Just(QWORD), 1 => any_width()];
    let value = prop_oneof![0..0x400_u64, any::<u64>()];
    prop_oneof![
        (offset.clone(), width.clone()).prop_map(|(o, w)| Action::Read(o, w)),
        (offset, width, value).prop_map(|(o, w, v)| Action::Write(o, w, v)),
        prop_oneof![0..2000_u64, 0..1_000_000_000_000_u64].prop_map(Action::Pass),
    ]
}

proptest! {
    #[test]
    fn whatever_is_done_deadlines_lie_ahead_and_levels_are_what_the_status_says(
        actions in prop::collection::vec(any_action(), 0..100),
    ) {
        let mut bench = Bench::new();
        let mut levels = [false; 32];
        for action in actions {
            match action {
                Action::Read(offset, width) => drop(bench.hpet.read(offset, width)),
                Action::Write(offset, width, value) => drop(bench.hpet.write(offset, width, value)),
                Action::Pass(ns) => bench.clock.advance(ns),
            }
            let now_ns = bench.clock.monotonic_ns();
            bench.hpet.tick(now_ns);
            prop_assert!(bench.hpet.next_deadline_ns().is_none_or(|at| at > now_ns));
            for (irq, level) in bench.changes() {
                levels[irq as usize] = level;
            }
            let raised = bench.hpet.held.iter().flatten().map(IrqLine::irq);
            let raised: Vec<_> = raised.collect();
            for (irq, level) in levels.iter().enumerate() {
                prop_assert_eq!(*level, raised.contains(&(irq as u32)));
            }
        }
    }
}
