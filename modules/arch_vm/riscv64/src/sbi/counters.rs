// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One hart's performance counters: what each counts, and how much it has.
//!
//! A counter is a difference to a source that never stops: the physical hart's
//! cycles and retired instructions, or what [`Events`] has counted. Until a guest
//! configures them, `cycle` and `instret` are the hardware's own and cost no exit;
//! from then on they count what the hart itself used, its guest's reads trap, and
//! [`Counters::swap`] is called whenever the hart gets or leaves a physical one.
//!
//! Spec: SBI, "Performance Monitoring Unit Extension", "Event: Firmware Events";
//! RISC-V Privileged, hcounteren.

use core::sync::atomic::{AtomicU64, Ordering};

use sbi_spec::pmu::{
    event_type, firmware_event,
    hardware_event::{CPU_CYCLES, INSTRUCTIONS},
};

/// The counters that are registers.
const FIXED: usize = 2;
/// The firmware events that are counted, from [`FIRST_EVENT`] on.
const EVENTS: usize = 9;
const FIRST_EVENT: usize = firmware_event::SET_TIMER;
const TYPE_SHIFT: u32 = 16;
const CODE_MASK: u64 = 0xffff;
/// csrrs, with x0 as the source: a read.
const CSR_READ_MASK: u64 = 0x000f_f07f;
const CSR_READ: u64 = 0x0000_2073;
const CSR_CYCLE: u16 = 0xc00;
const CSR_INSTRET: u16 = 0xc02;

/// How many counters a hart has: any firmware event may be counted at once.
pub(crate) const COUNTERS: usize = FIXED + EVENTS;

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cycles of the physical hart.
    Cycles,
    /// Its retired instructions.
    Instructions,
    /// A firmware event, by its code.
    Event(u16),
}

impl Source {
    /// Reads an event's index; `None` if nothing here counts it.
    pub(crate) fn of_event(index: u64) -> Option<Self> {
        let code = index & CODE_MASK;
        match (index.wrapping_shr(TYPE_SHIFT) as usize, code as usize) {
            (event_type::HARDWARE_GENERAL, CPU_CYCLES) => Some(Self::Cycles),
            (event_type::HARDWARE_GENERAL, INSTRUCTIONS) => Some(Self::Instructions),
            (event_type::FIRMWARE, event) => {
                slot(event)?;
                Some(Self::Event(code as u16))
            }
            _ => None,
        }
    }

    /// Tells whether the counter of this number can count it.
    fn fits(self, number: usize) -> bool {
        match self {
            Self::Cycles => number == 0,
            Self::Instructions => number == 1,
            Self::Event(_) => (FIXED..COUNTERS).contains(&number),
        }
    }
}

/// Returns where an event is counted.
fn slot(event: usize) -> Option<usize> {
    event.checked_sub(FIRST_EVENT).filter(|slot| *slot < EVENTS)
}

/// How often each firmware event has happened to a hart.
#[derive(Default)]
pub(crate) struct Events([AtomicU64; EVENTS]);

impl Events {
    /// Counts; from any hart.
    pub(crate) fn count(&self, event: usize, times: u64) {
        if let Some(counter) = slot(event).and_then(|slot| self.0.get(slot)) {
            counter.fetch_add(times, Ordering::Relaxed);
        }
    }

    /// Returns how often it happened.
    pub(crate) fn get(&self, event: usize) -> u64 {
        let counter = slot(event).and_then(|slot| self.0.get(slot));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// One counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counter {
    /// Nobody configured it.
    Free,
    /// It stands still.
    Stopped { source: Source, value: u64 },
    /// It is the difference of its source to `base`.
    Running { source: Source, base: u64 },
}

/// What is there to read in each source now.
pub(crate) type Now<'a> = &'a dyn Fn(Source) -> u64;

/// What kind of counter a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A register of 64 bits.
    Register(u16),
    /// Read by a call.
    Firmware,
}

/// A hart's counters.
#[derive(Clone, Debug)]
pub(crate) struct Counters([Counter; COUNTERS]);

impl Counters {
    /// Makes counters as a hart has them when it starts.
    pub(crate) const fn new() -> Self {
        Self([Counter::Free; COUNTERS])
    }

    /// Returns what a counter is; `None` if there is no such counter.
    pub(crate) fn shape(number: u64) -> Option<Shape> {
        match number {
            0 => Some(Shape::Register(CSR_CYCLE)),
            1 => Some(Shape::Register(CSR_INSTRET)),
            _ if number < COUNTERS as u64 => Some(Shape::Firmware),
            _ => None,
        }
    }

    /// Tells whether a counter can be given a new event.
    pub(crate) fn is_free_for(&self, number: usize, source: Source) -> bool {
        source.fits(number) && self.get(number) == Counter::Free
    }

    /// Tells whether a counter counts this already, or could.
    pub(crate) fn is_fit_for(number: usize, source: Source) -> bool {
        source.fits(number)
    }

    fn get(&self, number: usize) -> Counter {
        self.0.get(number).copied().unwrap_or(Counter::Free)
    }

    fn set(&mut self, number: usize, counter: Counter) {
        if let Some(slot) = self.0.get_mut(number) {
            *slot = counter;
        }
    }

    /// Gives a counter an event; it stands still then.
    pub(crate) fn configure(&mut self, number: usize, source: Source, now: Now) {
        let value = match self.get(number) {
            Counter::Free if number < FIXED => now(source),
            Counter::Free => 0,
            Counter::Stopped { value, .. } => value,
            Counter::Running { source, base } => now(source).wrapping_sub(base),
        };
        self.set(number, Counter::Stopped { source, value });
    }

    /// Sets the value of a counter that stands still.
    pub(crate) fn put(&mut self, number: usize, value: u64) {
        if let Counter::Stopped { source, .. } = self.get(number) {
            self.set(number, Counter::Stopped { source, value });
        }
    }

    /// Lets a counter run.
    pub(crate) fn start(&mut self, number: usize, now: Now) -> Started {
        match self.get(number) {
            Counter::Free => Started::NoEvent,
            Counter::Running { .. } => Started::Before,
            Counter::Stopped { source, value } => {
                let base = now(source).wrapping_sub(value);
                self.set(number, Counter::Running { source, base });
                Started::Now
            }
        }
    }

    /// Stops a counter; false if it stood still or had no event.
    pub(crate) fn stop(&mut self, number: usize, now: Now) -> bool {
        let Counter::Running { source, base } = self.get(number) else {
            return false;
        };
        let value = now(source).wrapping_sub(base);
        self.set(number, Counter::Stopped { source, value });
        true
    }

    /// Takes a counter's event away.
    pub(crate) fn release(&mut self, number: usize) {
        self.set(number, Counter::Free);
    }

    /// Returns a counter's value.
    pub(crate) fn value(&self, number: usize, now: Now) -> u64 {
        match self.get(number) {
            Counter::Free => 0,
            Counter::Stopped { value, .. } => value,
            Counter::Running { source, base } => now(source).wrapping_sub(base),
        }
    }

    /// Tells whether a guest may read `cycle` or `instret` by itself.
    pub(crate) fn is_open(&self, number: usize) -> bool {
        self.get(number) == Counter::Free
    }

    /// Moves the running registers from a physical hart, or to one: what was
    /// the base becomes the value to keep, and the other way round.
    pub(crate) fn swap(&mut self, now: Now) {
        for counter in self.0.iter_mut().take(FIXED) {
            if let Counter::Running { source, base } = counter {
                *base = now(*source).wrapping_sub(*base);
            }
        }
    }
}

/// What came of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// It runs.
    Now,
    /// It ran before.
    Before,
    /// It has nothing to count.
    NoEvent,
}

/// A guest's read of a counter's register: the counter, and where its value goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) counter: usize,
    pub(crate) to: usize,
}

/// Decodes an instruction that reads `cycle` or `instret`.
pub(crate) fn read_by(word: u64) -> Option<Read> {
    if word & CSR_READ_MASK != CSR_READ {
        return None;
    }
    let counter = match word.wrapping_shr(20) as u16 {
        CSR_CYCLE => 0,
        CSR_INSTRET => 1,
        _ => return None,
    };
    let to = (word.wrapping_shr(7) & 31) as usize;
    Some(Read { counter, to })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(value: u64) -> impl Fn(Source) -> u64 {
        move |_| value
    }

    #[test]
    fn a_counter_counts_from_what_it_was_given_while_it_runs() {
        let mut counters = Counters::new();
        assert!(counters.is_open(0));
        counters.configure(0, Source::Cycles, &at(50));
        assert_eq!(counters.value(0, &at(70)), 50);
        assert!(!counters.is_open(0));
        counters.put(0, 7);
        assert_eq!(counters.start(0, &at(100)), Started::Now);
        assert_eq!(counters.start(0, &at(100)), Started::Before);
        assert_eq!(counters.value(0, &at(130)), 37);
        assert!(counters.stop(0, &at(140)));
        assert!(!counters.stop(0, &at(150)));
        assert_eq!(counters.value(0, &at(999)), 47);
        counters.release(0);
        assert!(counters.is_open(0));
        assert_eq!(counters.start(0, &at(0)), Started::NoEvent);
    }

    #[test]
    fn time_away_from_a_physical_hart_is_not_counted() {
        let mut counters = Counters::new();
        counters.configure(1, Source::Instructions, &at(0));
        counters.start(1, &at(1000));
        counters.swap(&at(1100));
        counters.swap(&at(5));
        assert_eq!(counters.value(1, &at(15)), 110);
    }

    #[test]
    fn events_are_found_by_their_index() {
        assert_eq!(Source::of_event(1), Some(Source::Cycles));
        assert_eq!(Source::of_event(2), Some(Source::Instructions));
        assert_eq!(Source::of_event(0xf_0005), Some(Source::Event(5)));
        assert_eq!(Source::of_event(0xf_000d), Some(Source::Event(13)));
        for index in [0, 3, 10, 0x1_0001, 0x2_0000, 0xf_0004, 0xf_000e, 0xf_ffff] {
            assert_eq!(Source::of_event(index), None, "{index:#x}");
        }
        assert_eq!(Source::of_event(0x10_0001), None);
        assert_eq!(Source::of_event(u64::MAX), None);
    }

    #[test]
    fn reads_of_the_two_registers_are_known() {
        let read = |counter, to| Some(Read { counter, to });
        assert_eq!(read_by(0xc000_2573), read(0, 10)); // rdcycle a0
        assert_eq!(read_by(0xc020_25f3), read(1, 11)); // rdinstret a1
        assert_eq!(read_by(0xc010_2573), None); // rdtime a0
        assert_eq!(read_by(0xc00f_a573), None); // csrrs a0, cycle, t6
        assert_eq!(read_by(0xc000_1573), None); // csrrw a0, cycle, zero
        assert_eq!(read_by(u64::MAX), None);
    }
}
