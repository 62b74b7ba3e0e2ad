// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One channel of the 8254: a counter, its output and its latches.
//!
//! Nothing counts: what a register shows is computed from the time at which
//! counting began. A count that is written is loaded at once, in periodic modes
//! too (a real chip finishes the period), as in QEMU.
//!
//! Spec: Intel 82C54, "Mode Definitions", "Read Operations".

use core::num::{NonZeroU32, NonZeroU64};

use tock_registers::LocalRegisterCopy;

use crate::regs::i8254::{self, CONTROL, ControlWord, Mode, STATUS};

/// The rate of the counter.
pub const FREQUENCY_HZ: u64 = 1_193_182;
const NS_PER_SECOND: u64 = 1_000_000_000;
/// What a count of zero means, in binary and in decimal.
const BINARY_PERIOD: NonZeroU32 = NonZeroU32::new(0x1_0000).unwrap();
const BCD_PERIOD: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Returns the whole ticks in a time.
fn ticks(ns: u64) -> u64 {
    let seconds = ns / NS_PER_SECOND;
    let rest = ns % NS_PER_SECOND;
    let of_rest = rest.wrapping_mul(FREQUENCY_HZ) / NS_PER_SECOND;
    seconds.saturating_mul(FREQUENCY_HZ).saturating_add(of_rest)
}

/// Returns the first time at which so many ticks have passed.
fn nanoseconds(ticks: u64) -> u64 {
    let seconds = ticks / FREQUENCY_HZ;
    let rest = ticks % FREQUENCY_HZ;
    let of_rest = rest.wrapping_mul(NS_PER_SECOND).div_ceil(FREQUENCY_HZ);
    seconds
        .saturating_mul(NS_PER_SECOND)
        .saturating_add(of_rest)
}

/// Since when a channel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// Not yet: nothing was loaded, or the trigger is awaited.
    Idle,
    /// Since this time.
    Since(u64),
    /// The gate holds it; so much had passed.
    Held(u64),
}

/// Which byte of a count comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Low,
    High,
}

/// A channel.
#[derive(Clone, Debug)]
pub struct Channel {
    control: ControlWord,
    /// In ticks, if one was written since the control word.
    reload: Option<NonZeroU32>,
    counting: Counting,
    gate: bool,
    low_written: u8,
    writes: Next,
    reads: Next,
    latched_status: Option<u8>,
    /// The count, and the byte that is read next.
    latched_count: Option<(u16, Next)>,
}

impl Channel {
    /// Makes a channel that is idle, with its output low: mode 0 without a count.
    pub fn new(gate: bool) -> Self {
        Self {
            control: LocalRegisterCopy::new(CONTROL::ACCESS::Both.value),
            reload: None,
            counting: Counting::Idle,
            gate,
            low_written: 0,
            writes: Next::Low,
            reads: Next::Low,
            latched_status: None,
            latched_count: None,
        }
    }

    fn mode(&self) -> Mode {
        Mode::of(self.control)
    }

    /// Takes a control word: counting stops until a count is written.
    pub fn control(&mut self, word: ControlWord) {
        let first = match word.read_as_enum(CONTROL::ACCESS) {
            Some(CONTROL::ACCESS::Value::High) => Next::High,
            _ => Next::Low,
        };
        *self = Self {
            control: word,
            writes: first,
            reads: first,
            latched_status: self.latched_status,
            ..Self::new(self.gate)
        };
    }

    /// Moves the gate.
    pub fn set_gate(&mut self, gate: bool, now_ns: u64) {
        let is_rising = gate && !self.gate;
        self.gate = gate;
        match self.mode() {
            _ if self.reload.is_none() => {}
            Mode::Terminal | Mode::Strobe => self.hold(!gate, now_ns),
            Mode::OneShot | Mode::TriggeredStrobe if is_rising => self.start(now_ns),
            Mode::OneShot | Mode::TriggeredStrobe => {}
            Mode::Rate | Mode::Square if is_rising => self.start(now_ns),
            Mode::Rate | Mode::Square => {
                if !gate {
                    self.counting = Counting::Held(0);
                }
            }
        }
    }

    fn start(&mut self, now_ns: u64) {
        self.counting = match self.gate {
            true => Counting::Since(now_ns),
            false => Counting::Held(0),
        };
    }

    fn hold(&mut self, holds: bool, now_ns: u64) {
        self.counting = match (self.counting, holds) {
            (Counting::Since(_), true) => Counting::Held(self.passed_ns(now_ns)),
            (Counting::Held(passed), false) => Counting::Since(now_ns.saturating_sub(passed)),
            (same, _) => same,
        };
    }

    fn passed_ns(&self, now_ns: u64) -> u64 {
        match self.counting {
            Counting::Idle => 0,
            Counting::Since(start) => now_ns.saturating_sub(start),
            Counting::Held(passed) => passed,
        }
    }

    /// Writes a byte of the count.
    pub fn write(&mut self, byte: u8, now_ns: u64) {
        match (self.control.read_as_enum(CONTROL::ACCESS), self.writes) {
            (Some(CONTROL::ACCESS::Value::Low), _) => self.load([byte, 0], now_ns),
            (Some(CONTROL::ACCESS::Value::High), _) => self.load([0, byte], now_ns),
            (_, Next::Low) => {
                self.low_written = byte;
                self.writes = Next::High;
            }
            (_, Next::High) => {
                self.writes = Next::Low;
                self.load([self.low_written, byte], now_ns);
            }
        }
    }

    fn load(&mut self, bytes: [u8; 2], now_ns: u64) {
        let count = u16::from_le_bytes(bytes);
        let ticks = match self.is_bcd() {
            true => i8254::from_bcd(count),
            false => count.into(),
        };
        self.reload = NonZeroU32::new(ticks).or(Some(self.modulus()));
        if !self.mode().is_triggered() {
            self.start(now_ns);
        }
    }

    fn is_bcd(&self) -> bool {
        self.control.is_set(CONTROL::BCD)
    }

    fn modulus(&self) -> NonZeroU32 {
        match self.is_bcd() {
            true => BCD_PERIOD,
            false => BINARY_PERIOD,
        }
    }

    /// Returns the count as it is read now.
    fn count(&self, now_ns: u64) -> u16 {
        let Some(reload) = self.reload else {
            return 0;
        };
        let passed = ticks(self.passed_ns(now_ns));
        let period = NonZeroU64::from(reload);
        let left = match self.mode() {
            Mode::Rate => period.get().wrapping_sub(passed % period),
            Mode::Square => {
                let steps = passed.wrapping_mul(2) % period;
                period.get().wrapping_sub(steps)
            }
            _ => {
                let modulus = NonZeroU64::from(self.modulus());
                let up = modulus.get().wrapping_sub(passed % modulus);
                period.get().wrapping_add(up) % modulus
            }
        };
        match self.is_bcd() {
            true => i8254::to_bcd(left as u32),
            false => left as u16,
        }
    }

    /// Returns the level of the output.
    pub fn output(&self, now_ns: u64) -> bool {
        let (Some(reload), true) = (self.reload, self.counting != Counting::Idle) else {
            return self.mode() != Mode::Terminal;
        };
        if self.mode().is_periodic() && !self.gate {
            return true;
        }
        let passed = ticks(self.passed_ns(now_ns));
        let period = NonZeroU64::from(reload);
        match self.mode() {
            Mode::Terminal | Mode::OneShot => passed >= period.get(),
            Mode::Rate => passed % period != period.get().wrapping_sub(1),
            Mode::Square => passed % period < period.get().div_ceil(2),
            Mode::Strobe | Mode::TriggeredStrobe => passed != period.get(),
        }
    }

    /// Returns the first time after `after_ns` at which the output rises.
    pub fn next_rise_ns(&self, after_ns: u64) -> Option<u64> {
        let (Some(reload), Counting::Since(start)) = (self.reload, self.counting) else {
            return None;
        };
        let period = NonZeroU64::from(reload);
        let rise = match self.mode() {
            Mode::Terminal | Mode::OneShot => period.get(),
            Mode::Strobe | Mode::TriggeredStrobe => period.get().wrapping_add(1),
            Mode::Rate | Mode::Square => {
                let passed = ticks(after_ns.saturating_sub(start));
                let periods = (passed / period).saturating_add(1);
                periods.saturating_mul(period.get())
            }
        };
        let at = start.saturating_add(nanoseconds(rise));
        (at > after_ns).then_some(at)
    }

    /// Latches the count, unless one is latched already.
    pub fn latch_count(&mut self, now_ns: u64) {
        let first = match self.control.read_as_enum(CONTROL::ACCESS) {
            Some(CONTROL::ACCESS::Value::High) => Next::High,
            _ => Next::Low,
        };
        let count = self.count(now_ns);
        self.latched_count.get_or_insert((count, first));
    }

    /// Latches the status, unless one is latched already.
    pub fn latch_status(&mut self, now_ns: u64) {
        let output = STATUS::OUTPUT.val(self.output(now_ns).into());
        let null = STATUS::NULL_COUNT.val(self.reload.is_none().into());
        let programmed = CONTROL::BCD.val(self.control.read(CONTROL::BCD))
            + CONTROL::MODE.val(self.control.read(CONTROL::MODE))
            + CONTROL::ACCESS.val(self.control.read(CONTROL::ACCESS));
        let status = programmed.value | (output + null).value;
        self.latched_status.get_or_insert(status);
    }

    /// Reads the next byte: of the latched status, the latched count, the count.
    pub fn read(&mut self, now_ns: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let both = self.control.matches_all(CONTROL::ACCESS::Both);
        if let Some((count, next)) = self.latched_count.take() {
            if both && next == Next::Low {
                self.latched_count = Some((count, Next::High));
            }
            return byte_of(count, next);
        }
        let next = self.reads;
        if both {
            self.reads = match next {
                Next::Low => Next::High,
                Next::High => Next::Low,
            };
        }
        byte_of(self.count(now_ns), next)
    }
}

fn byte_of(count: u16, which: Next) -> u8 {
    let [low, high] = i8254::bytes(count);
    match which {
        Next::Low => low,
        Next::High => high,
    }
}
