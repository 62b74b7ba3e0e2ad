// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the I/O APIC.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

const DWORD: AccessWidth = AccessWidth::Dword;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const REMOTE: u64 = 1 << 14;

struct Bench {
    ioapic: IoApic,
    sent: Vec<Message>,
    is_taken: bool,
}

impl Bench {
    fn new() -> Self {
        Self {
            ioapic: IoApic::new(),
            sent: Vec::new(),
            is_taken: true,
        }
    }

    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut IoApic, &mut dyn FnMut(Message) -> bool) -> T,
    ) -> T {
        let (sent, is_taken) = (&mut self.sent, self.is_taken);
        act(&mut self.ioapic, &mut |message| {
            sent.push(message);
            is_taken
        })
    }

    fn wire(&mut self, pin: usize, high: bool) {
        self.with(|ioapic, mut send| ioapic.set_level(pin, high, &mut send));
    }

    fn end(&mut self, vector: u8) {
        self.with(|ioapic, mut send| ioapic.end(vector, &mut send));
    }

    fn write_at(&mut self, offset: u64, width: AccessWidth, value: u64) {
        self.with(|ioapic, mut send| ioapic.write(offset, width, value, &mut send));
    }

    fn write(&mut self, index: u64, value: u64) {
        self.write_at(SELECT, DWORD, index);
        self.write_at(WINDOW, DWORD, value);
    }

    fn read(&mut self, index: u64) -> u64 {
        self.write_at(SELECT, DWORD, index);
        self.ioapic.read(WINDOW, DWORD)
    }

    fn entry(&mut self, pin: u64, entry: u64) {
        self.write(0x11 + 2 * pin, entry >> 32);
        self.write(0x10 + 2 * pin, entry & 0xffff_ffff);
    }

    fn taken(&mut self) -> Vec<Message> {
        core::mem::take(&mut self.sent)
    }
}

fn fixed(vector: u8, trigger: Trigger) -> Message {
    Message {
        destination: Destination::Physical(1),
        delivery: Delivery::Fixed,
        vector,
        trigger,
    }
}

const TO_ONE: u64 = 1 << 56;

#[test]
fn after_reset_it_is_qemus_with_every_pin_masked() {
    let mut bench = Bench::new();
    assert_eq!(bench.read(1), 0x0017_0020);
    for pin in 0..24 {
        assert_eq!(bench.read(0x10 + 2 * pin), MASKED);
        assert_eq!(bench.read(0x11 + 2 * pin), 0);
    }
    assert_eq!([bench.read(3), bench.read(0x40), bench.read(0xff)], [0; 3]);
    bench.write(0, 0xffff_ffff);
    assert_eq!([bench.read(0), bench.read(2)], [0x0f00_0000; 2]);
}

#[test]
fn each_edge_is_sent_once() {
    let mut bench = Bench::new();
    bench.entry(4, TO_ONE | 0x44);
    for level in [true, true, false, true] {
        bench.wire(4, level);
    }
    assert_eq!(bench.taken(), [fixed(0x44, Trigger::Edge); 2]);
}

#[test]
fn an_edge_at_a_masked_pin_is_lost() {
    let mut bench = Bench::new();
    bench.wire(4, true);
    bench.entry(4, TO_ONE | 0x44);
    assert!(bench.taken().is_empty());
}

#[test]
fn a_level_is_sent_again_when_it_was_ended_and_is_still_high() {
    let mut bench = Bench::new();
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    bench.wire(9, true);
    assert_eq!(bench.read(0x10 + 18) & REMOTE, REMOTE);
    bench.wire(9, false);
    bench.wire(9, true);
    assert_eq!(bench.taken(), [fixed(0x59, Trigger::Level)]);
    bench.end(0x58);
    assert!(bench.taken().is_empty(), "of another vector");
    bench.end(0x59);
    assert_eq!(bench.taken(), [fixed(0x59, Trigger::Level)]);
    bench.wire(9, false);
    bench.write_at(END, DWORD, 0x59);
    assert!(bench.taken().is_empty());
    assert_eq!(bench.read(0x10 + 18) & REMOTE, 0);
}

#[test]
fn a_level_at_a_masked_pin_waits() {
    let mut bench = Bench::new();
    bench.entry(9, TO_ONE | LEVEL | MASKED | 0x59);
    bench.wire(9, true);
    assert!(bench.taken().is_empty());
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    assert_eq!(bench.taken(), [fixed(0x59, Trigger::Level)]);
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    assert!(bench.taken().is_empty(), "it is on its way");
}

#[test]
fn making_a_pin_edge_triggered_forgets_that_an_end_is_awaited() {
    let mut bench = Bench::new();
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    bench.wire(9, true);
    bench.entry(9, TO_ONE | MASKED | 0x59);
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    assert_eq!(bench.taken().len(), 2);
}

#[test]
fn a_level_that_nobody_took_is_not_awaited() {
    let mut bench = Bench::new();
    bench.is_taken = false;
    bench.entry(9, TO_ONE | LEVEL | 0x59);
    bench.wire(9, true);
    assert_eq!(bench.read(0x10 + 18) & REMOTE, 0);
}

#[test]
fn entries_say_how_and_to_whom() {
    let mut bench = Bench::new();
    bench.entry(1, 0xff << 56 | 0x0931);
    bench.entry(2, 0x03 << 56 | 0x0400 | LEVEL);
    bench.entry(3, 0x0700);
    [1, 2, 3].into_iter().for_each(|pin| bench.wire(pin, true));
    let lowest = Message {
        destination: Destination::Logical(u32::MAX),
        delivery: Delivery::LowestPriority,
        ..fixed(0x31, Trigger::Edge)
    };
    let nmi = Message {
        destination: Destination::Physical(3),
        delivery: Delivery::Nmi,
        ..fixed(0, Trigger::Edge)
    };
    assert_eq!(bench.taken(), [lowest, nmi]);
}

#[test]
fn only_what_has_bits_is_kept() {
    let mut bench = Bench::new();
    bench.entry(5, u64::MAX);
    assert_eq!(bench.read(0x1a), 0x1_afff);
    assert_eq!(bench.read(0x1b), 0xff00_0000);
    bench.write(1, 0);
    assert_eq!(bench.read(1), 0x0017_0020);
}

proptest! {
    #[test]
    fn whatever_is_done_a_level_is_sent_once_until_its_end(
        steps in prop::collection::vec((0..4_u8, any::<u64>(), any::<u64>()), 0..200),
    ) {
        let mut bench = Bench::new();
        for (kind, at, value) in steps {
            let index = 0x10 + at % 48;
            match kind {
                0 => bench.wire((at % 30) as usize, value & 1 == 1),
                1 => bench.write(index, value & 0xffff_ffff),
                2 => bench.end(value as u8),
                _ => {
                    let width = [AccessWidth::Byte, AccessWidth::Word, DWORD, AccessWidth::Qword];
                    bench.write_at(at % 0x1000, width[(value % 4) as usize], value);
                    bench.ioapic.read(at, width[(value % 4) as usize]);
                }
            }
            for pin in 0..PINS {
                let entry = bench.ioapic.entry(pin);
                let is_ready = entry.is_set(ENTRY::LEVEL) && !entry.is_set(ENTRY::MASK);
                let is_high = bench.ioapic.wires & bit(pin) != 0;
                let goes = Delivery::of(entry.read(ENTRY::DELIVERY) as u32).is_some();
                if is_ready && is_high && goes {
                    prop_assert!(entry.is_set(ENTRY::REMOTE_IRR));
                }
                if entry.is_set(ENTRY::REMOTE_IRR) {
                    prop_assert!(entry.is_set(ENTRY::LEVEL));
                }
            }
        }
    }
}
