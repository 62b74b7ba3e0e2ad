// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The clock against a clock that the test moves.

use alloc::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::pc::testing::{FakeClock, FakeIrq};

/// 2026-11-21 14:25:09, and a quarter of a second.
const START_NS: u64 = 1_795_271_109 * SECOND_NS + SECOND_NS / 4;
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE: u8 = 0x10;
const REQUEST: u8 = 0x80;
const SET: u8 = 0x80;

struct Bench {
    clock: Arc<FakeClock>,
    irq: Arc<FakeIrq>,
    rtc: Rtc,
}

impl Bench {
    fn new() -> Self {
        let clock = FakeClock::at(START_NS);
        let (irq, line) = FakeIrq::line();
        let rtc = Rtc::new(clock.clone(), line);
        Self { clock, irq, rtc }
    }

    fn read(&mut self, index: u8) -> u8 {
        self.rtc.read(Register::decode(index).unwrap())
    }

    fn write(&mut self, index: u8, value: u8) {
        self.rtc.write(Register::decode(index).unwrap(), value);
    }

    fn pass(&mut self, by_ns: u64) {
        self.clock.advance(by_ns);
        self.rtc.tick(self.clock.monotonic_ns());
    }

    fn time(&mut self) -> [u8; 3] {
        [self.read(4), self.read(2), self.read(0)]
    }
}

#[test]
fn it_shows_the_hosts_time() {
    let mut bench = Bench::new();
    assert_eq!(bench.time(), [0x14, 0x25, 0x09]);
    bench.clock.advance(SECOND_NS);
    assert_eq!(bench.time(), [0x14, 0x25, 0x10]);
    assert_eq!(bench.read(0x32), 0x20);
    assert_eq!(bench.read(0xd), 0x80);
    assert_eq!(bench.rtc.next_deadline_ns(), None);
}

#[test]
fn a_guest_that_sets_it_moves_its_own_time() {
    let mut bench = Bench::new();
    bench.write(0xb, SET | 0x02);
    bench.clock.advance(10 * SECOND_NS);
    assert_eq!(bench.time(), [0x14, 0x25, 0x09], "it stands");
    bench.write(4, 0x03);
    bench.write(0, 0x30);
    bench.write(0xb, 0x02);
    assert_eq!(bench.time(), [0x03, 0x25, 0x30]);
    bench.clock.advance(SECOND_NS);
    assert_eq!(bench.time(), [0x03, 0x25, 0x31]);
}

#[test]
fn a_divider_that_is_released_updates_half_a_second_later() {
    let mut bench = Bench::new();
    bench.write(0xa, 0x76);
    bench.clock.advance(10 * SECOND_NS);
    bench.write(0xa, 0x26);
    bench.clock.advance(SECOND_NS / 2 - 1);
    assert_eq!(bench.read(0), 0x09);
    bench.clock.advance(1);
    assert_eq!(bench.read(0), 0x10);
}

#[test]
fn an_update_is_announced_before_the_seconds_change() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(0xa), 0x26);
    bench.clock.advance(3 * SECOND_NS / 4 - UPDATE_NOTICE_NS);
    assert_eq!(bench.read(0xa), 0xa6);
    bench.clock.advance(UPDATE_NOTICE_NS);
    assert_eq!(bench.read(0xa), 0x26);
}

#[test]
fn an_update_interrupts_once_until_it_is_acknowledged() {
    let mut bench = Bench::new();
    bench.write(0xb, UPDATE | 0x02);
    let due = bench.rtc.next_deadline_ns().unwrap();
    assert_eq!(due - bench.clock.monotonic_ns(), 3 * SECOND_NS / 4);
    bench.pass(3 * SECOND_NS / 4);
    assert!(bench.irq.is_high());
    assert_eq!(bench.rtc.next_deadline_ns(), None, "the flag is up");
    bench.pass(5 * SECOND_NS);
    assert_eq!(bench.irq.rising_edges(), 1);
    let flags = bench.read(0xc);
    assert_eq!(flags & (REQUEST | UPDATE), REQUEST | UPDATE);
    assert!(!bench.irq.is_high());
    assert!(bench.rtc.next_deadline_ns().is_some());
}

#[test]
fn flags_rise_without_their_interrupts_too() {
    let mut bench = Bench::new();
    bench.clock.advance(SECOND_NS);
    assert_eq!(bench.read(0xc), UPDATE | PERIODIC);
    assert_eq!(bench.read(0xc), 0);
    assert_eq!(bench.irq.calls(), 0);
}

#[test]
fn the_alarm_rings_when_the_time_is_its_own() {
    let mut bench = Bench::new();
    bench.write(1, 0x15);
    bench.write(3, 0x25);
    bench.write(5, 0xff);
    bench.write(0xb, ALARM | 0x02);
    bench.pass(5 * SECOND_NS + 3 * SECOND_NS / 4 - 1);
    assert!(!bench.irq.is_high());
    bench.pass(1);
    assert!(bench.irq.is_high());
    assert_eq!(bench.read(0xc) & ALARM, ALARM);
    let wait = bench.rtc.next_deadline_ns().unwrap() - bench.clock.monotonic_ns();
    assert_eq!(wait, 3600 * SECOND_NS);
}

#[test]
fn periods_come_at_their_rate_in_the_long_run() {
    let mut bench = Bench::new();
    bench.write(0xb, PERIODIC | 0x02);
    let start = bench.clock.monotonic_ns();
    let mut count = 0;
    while let Some(due) = bench.rtc.next_deadline_ns() {
        if due > start + SECOND_NS {
            break;
        }
        let wait = due - bench.clock.monotonic_ns();
        bench.pass(wait);
        assert_eq!(bench.read(0xc) & PERIODIC, PERIODIC);
        count += 1;
    }
    assert_eq!(count, 1024);
}

#[test]
fn rate_zero_has_no_periods() {
    let mut bench = Bench::new();
    bench.write(0xa, 0x20);
    bench.write(0xb, PERIODIC | 0x02);
    assert_eq!(bench.rtc.next_deadline_ns(), None);
}

#[derive(Clone, Debug)]
enum Action {
    Read(u8),
    Write(u8, u8),
    Pass(u64),
}

fn any_action() -> impl Strategy<Value = Action> {
    let index = || prop_oneof![0..14u8, Just(0x32)];
    prop_oneof![
        index().prop_map(Action::Read),
        (index(), any::<u8>()).prop_map(|(index, value)| Action::Write(index, value)),
        (0..3 * SECOND_NS).prop_map(Action::Pass),
    ]
}

proptest! {
    #[test]
    fn the_line_is_high_exactly_while_an_enabled_flag_is_up(
        actions in prop::collection::vec(any_action(), 0..60),
    ) {
        let mut bench = Bench::new();
        for action in actions {
            match action {
                Action::Read(index) => {
                    bench.read(index);
                }
                Action::Write(index, value) => bench.write(index, value),
                Action::Pass(by_ns) => bench.pass(by_ns),
            }
            let now = bench.clock.monotonic_ns();
            if let Some(due) = bench.rtc.next_deadline_ns() {
                prop_assert!(due > now, "a deadline is in the future");
            }
            let is_up = bench.rtc.flags.bits() & bench.read(0xb) & 0x70 != 0;
            prop_assert_eq!(bench.irq.is_high(), is_up);
        }
    }
}
