// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the 8254 and of port 0x61.

use alloc::vec::Vec;

use proptest::prelude::*;

use super::{channel::FREQUENCY_HZ, *};
use crate::{
    DeviceTimers,
    testing::{FakeAlarm, FakeClock, FakeIrq, any_width},
};

const MODES: [u8; 6] = [0, 1, 2, 3, 4, 5];
const SECOND_NS: u64 = 1_000_000_000;

struct Bench {
    clock: Arc<FakeClock>,
    irq: Arc<FakeIrq>,
    alarm: Arc<FakeAlarm>,
    pit: Arc<Lock<Timed<Pit>>>,
    port61: SystemControl,
}

impl Bench {
    fn new() -> Self {
        let clock = FakeClock::at(0);
        let (irq, line) = FakeIrq::line();
        let alarm = FakeAlarm::new();
        let timers = DeviceTimers::new(alarm.clone());
        let pit = timers.timed(Pit::new(clock.clone(), line));
        let port61 = SystemControl::new(clock.clone(), pit.clone());
        Self {
            clock,
            irq,
            alarm,
            pit,
            port61,
        }
    }

    fn write(&self, offset: u64, value: u64) {
        let written = self.pit.lock().write(offset, AccessWidth::Byte, value);
        written.unwrap();
    }

    fn read(&self, offset: u64) -> u64 {
        self.pit.lock().read(offset, AccessWidth::Byte).unwrap()
    }

    fn program(&self, channel: u64, mode: u8, count: u64) {
        self.write(3, channel << 6 | 0x30 | u64::from(mode) << 1);
        self.write(channel, count & 0xff);
        self.write(channel, count >> 8);
    }

    fn count(&self, channel: u64) -> u64 {
        self.write(3, channel << 6);
        self.read(channel) | self.read(channel) << 8
    }

    fn status(&self, channel: u64) -> u64 {
        self.write(3, 0xe0 | 2 << channel);
        self.read(channel)
    }

    /// Lets so many ticks of the counter pass, as the timer's owner sees them.
    fn pass(&self, ticks: u64) {
        self.clock
            .advance((ticks * SECOND_NS).div_ceil(FREQUENCY_HZ));
        self.pit.lock().tick(self.clock.monotonic_ns());
    }

    fn deadline_ticks(&self) -> Option<u64> {
        let at = self.pit.lock().next_deadline_ns()?;
        let wait = at - self.clock.monotonic_ns();
        Some(wait * FREQUENCY_HZ / SECOND_NS)
    }

    fn gate(&mut self, value: u64) {
        self.port61.write(0, AccessWidth::Byte, value).unwrap();
    }

    fn port61(&mut self) -> u64 {
        self.port61.read(0, AccessWidth::Byte).unwrap()
    }
}

#[test]
fn nothing_happens_before_it_is_programmed() {
    let bench = Bench::new();
    bench.pass(1_000_000);
    assert_eq!(bench.deadline_ticks(), None);
    assert_eq!(bench.irq.calls(), 0);
    assert_eq!([bench.count(0), bench.count(1), bench.count(2)], [0; 3]);
    assert_eq!(bench.status(0), 0x70, "mode 0, both bytes, no count");
}

#[test]
fn terminal_count_raises_the_line_once() {
    let bench = Bench::new();
    bench.program(0, 0, 1000);
    assert_eq!(bench.deadline_ticks(), Some(1000));
    let deadline = bench.pit.lock().next_deadline_ns();
    assert_eq!(Some(bench.alarm.rings_at()), deadline);
    bench.pass(999);
    assert_eq!((bench.count(0), bench.irq.is_high()), (1, false));
    bench.pass(1);
    assert!(bench.irq.is_high());
    bench.pass(1);
    assert_eq!(bench.count(0), 0xffff, "it counts on");
    assert_eq!(bench.deadline_ticks(), None);
    bench.program(0, 0, 1000);
    assert!(!bench.irq.is_high());
}

#[test]
fn a_rate_generator_ticks_without_drift_and_merges_what_was_missed() {
    let bench = Bench::new();
    bench.program(0, 2, 11_932);
    let before = bench.irq.rising_edges();
    for tick in 1..=100 {
        let deadline = bench.pit.lock().next_deadline_ns().unwrap();
        let ideal = 1_000 + (tick * 11_932 * SECOND_NS).div_ceil(FREQUENCY_HZ);
        assert_eq!(deadline, ideal);
        bench.clock.advance(deadline - bench.clock.monotonic_ns());
        bench.pit.lock().tick(deadline);
    }
    assert_eq!(bench.irq.rising_edges() - before, 100);
    bench.pass(11_932 * 5);
    assert_eq!(bench.irq.rising_edges() - before, 101);
}

#[test]
fn a_square_wave_is_high_for_the_longer_half() {
    let bench = Bench::new();
    bench.program(2, 3, 9);
    let mut bench = bench;
    bench.gate(1);
    let mut levels = Vec::new();
    for _ in 0..18 {
        levels.push(bench.port61() >> 5 & 1);
        bench.clock.advance(SECOND_NS / FREQUENCY_HZ + 1);
    }
    assert_eq!(levels[..9], [1, 1, 1, 1, 1, 0, 0, 0, 0]);
}

#[test]
fn the_gate_starts_a_one_shot_and_each_edge_starts_it_again() {
    let mut bench = Bench::new();
    bench.program(2, 1, 100);
    bench.pass(500);
    assert_eq!(bench.port61() & 0x21, 0x20);
    bench.gate(1);
    assert_eq!(bench.port61() & 0x21, 1);
    bench.pass(60);
    bench.gate(0);
    bench.gate(1);
    bench.pass(60);
    assert_eq!(bench.port61() & 0x20, 0);
    bench.pass(40);
    assert_eq!(bench.port61() & 0x20, 0x20);
}

#[test]
fn the_gate_holds_a_count_and_lets_it_go_on() {
    let mut bench = Bench::new();
    bench.gate(1);
    bench.program(2, 0, 100);
    bench.pass(30);
    bench.gate(0);
    bench.pass(1000);
    assert_eq!(bench.count(2), 70);
    bench.gate(1);
    bench.pass(69);
    assert_eq!(bench.port61() & 0x20, 0);
    bench.pass(1);
    assert_eq!(bench.port61() & 0x20, 0x20);
}

#[test]
fn a_latched_count_stays_until_it_is_read() {
    let bench = Bench::new();
    bench.program(0, 2, 0x8000);
    bench.pass(0x100);
    bench.write(3, 0);
    bench.pass(0x100);
    bench.write(3, 0);
    assert_eq!(bench.read(0) | bench.read(0) << 8, 0x7f00);
    assert_eq!(bench.read(0) | bench.read(0) << 8, 0x7e00);
}

#[test]
fn read_back_latches_status_before_count_on_every_channel_named() {
    let mut bench = Bench::new();
    bench.gate(1);
    bench.program(0, 2, 500);
    bench.program(2, 0, 700);
    bench.write(3, 0xca);
    assert_eq!([bench.read(0), bench.read(2)], [0xb4, 0x30]);
    assert_eq!(bench.read(0) | bench.read(0) << 8, 500);
    assert_eq!(bench.read(2) | bench.read(2) << 8, 700);
}

#[test]
fn decimal_counts_are_written_and_read_in_decimal() {
    let bench = Bench::new();
    bench.write(3, 0x35);
    bench.write(0, 0x34);
    bench.write(0, 0x12);
    bench.pass(235);
    assert_eq!(bench.count(0), 0x999);
    bench.write(3, 0x31);
    bench.write(0, 0);
    bench.write(0, 0);
    assert_eq!(bench.deadline_ticks(), Some(10_000));
}

#[test]
fn single_bytes_are_loaded_at_once() {
    let bench = Bench::new();
    bench.write(3, 0x10);
    bench.write(0, 0x80);
    assert_eq!(bench.deadline_ticks(), Some(0x80));
    bench.write(3, 0x20);
    bench.write(0, 0x80);
    assert_eq!(bench.deadline_ticks(), Some(0x8000));
    bench.pass(1);
    assert_eq!((bench.read(0), bench.read(0)), (0x7f, 0x7f));
}

#[test]
fn the_refresh_bit_toggles_with_time() {
    let mut bench = Bench::new();
    let mut toggles = 0;
    let mut last = bench.port61() & 0x10;
    for _ in 0..100 {
        bench.clock.advance(REFRESH_NS);
        let now = bench.port61() & 0x10;
        toggles += u32::from(now != last);
        last = now;
    }
    assert_eq!(toggles, 100);
}

#[test]
fn port_61_keeps_its_four_bits() {
    let mut bench = Bench::new();
    bench.gate(0xff);
    assert_eq!(bench.port61() & 0xcf, 0x0f);
}

#[derive(Clone, Debug)]
enum Action {
    Read(u64, AccessWidth),
    Write(u64, AccessWidth, u64),
    Port61(u64),
    Pass(u64),
}

fn any_action() -> impl Strategy<Value = Action> {
    let offset = prop_oneof![8 => 0..4_u64, 1 => any::<u64>()];
    let width = prop_oneof![8 => Just(AccessWidth::Byte), 1 => any_width()];
    prop_oneof![
        (offset.clone(), width.clone()).prop_map(|(o, w)| Action::Read(o, w)),
        (offset, width, any::<u64>()).prop_map(|(o, w, v)| Action::Write(o, w, v)),
        any::<u64>().prop_map(Action::Port61),
        (0..SECOND_NS).prop_map(Action::Pass),
        Just(Action::Pass(u64::MAX / 4)),
    ]
}

proptest! {
    #[test]
    fn whatever_is_done_deadlines_lie_ahead_and_ticks_reach_them(
        actions in prop::collection::vec(any_action(), 0..100),
    ) {
        let mut bench = Bench::new();
        for action in actions {
            match action {
                Action::Read(offset, width) => {
                    let _ = bench.pit.lock().read(offset, width);
                }
                Action::Write(offset, width, value) => {
                    let _ = bench.pit.lock().write(offset, width, value);
                }
                Action::Port61(value) => bench.gate(value),
                Action::Pass(ns) => {
                    let room = u64::MAX / 2 - bench.clock.monotonic_ns().min(u64::MAX / 2);
                    bench.clock.advance(ns.min(room));
                    bench.pit.lock().tick(bench.clock.monotonic_ns());
                    let deadline = bench.pit.lock().next_deadline_ns();
                    prop_assert!(deadline.is_none_or(|at| at > bench.clock.monotonic_ns()));
                }
            }
        }
    }

    #[test]
    fn a_counter_counts_down_from_what_was_written(
        mode in prop::sample::select(MODES.to_vec()),
        count in 2..=0xffff_u64,
        ticks in 0..200_000_u64,
    ) {
        let mut bench = Bench::new();
        bench.program(2, mode, count);
        bench.gate(1);
        bench.pass(ticks);
        let expected = match mode {
            2 => count - ticks % count,
            3 => count - 2 * ticks % count,
            _ => count.wrapping_sub(ticks) & 0xffff,
        };
        prop_assert_eq!(bench.count(2), expected);
    }
}
