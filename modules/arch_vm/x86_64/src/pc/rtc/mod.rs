// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The MC146818's clock: time, alarm, and its three interrupts.
//!
//! Driven by `cmos`. The time is the host's plus an offset that the guest
//! moves by setting the clock. Nothing runs between accesses: each flag knows
//! when it is due next and is raised when somebody looks, or by `tick` if its
//! interrupt is enabled. A flag that is up has no deadline, so that a guest
//! that does not acknowledge costs nothing.
//!
//! Spec: Motorola MC146818 data sheet; ACPI, FADT "CENTURY".

mod calendar;
mod registers;

use alloc::sync::Arc;

use axdevice::{Clock, IrqLine, LevelLine};
use tock_registers::LocalRegisterCopy;

use calendar::{Alarm, Format, Hands};
pub use registers::{CENTURY, Register};
use registers::{Flags, REGISTER_A, REGISTER_B};

const SECOND_NS: u64 = 1_000_000_000;
/// How long before an update UIP is up.
const UPDATE_NOTICE_NS: u64 = 244_000;
/// How far into a second a divider is that was just released.
const DIVIDER_PHASE_NS: u64 = SECOND_NS / 2;
/// The rate of the oscillator.
const OSCILLATOR_HZ: u128 = 32_768;
/// Register D: the battery is good.
const VALID: u8 = 0x80;

/// The time when the clock stands still.
#[derive(Clone, Copy)]
struct Stopped {
    hands: Hands,
    /// How far into its second the clock will start.
    phase_ns: u64,
}

/// When each flag rises next, in monotonic time.
#[derive(Clone, Copy, Default)]
struct Due {
    periodic: Option<u64>,
    alarm: Option<u64>,
    update: Option<u64>,
}

/// The clock.
pub(super) struct Rtc {
    clock: Arc<dyn Clock>,
    line: LevelLine,
    /// What the guest's time is ahead of the host's, modulo 2^64.
    offset_ns: u64,
    stopped: Option<Stopped>,
    alarm: Alarm,
    a: LocalRegisterCopy<u8, REGISTER_A::Register>,
    b: LocalRegisterCopy<u8, REGISTER_B::Register>,
    flags: Flags,
    due: Due,
}

impl Rtc {
    /// Makes a clock that shows the host's time.
    pub(super) fn new(clock: Arc<dyn Clock>, irq: IrqLine) -> Self {
        let mut rtc = Self {
            clock,
            line: LevelLine::new(irq),
            offset_ns: 0,
            stopped: None,
            alarm: Alarm::default(),
            a: LocalRegisterCopy::new(registers::A_AT_RESET),
            b: LocalRegisterCopy::new(registers::B_AT_RESET),
            flags: Flags::empty(),
            due: Due::default(),
        };
        rtc.arm();
        rtc
    }

    /// Reads a register.
    pub(super) fn read(&mut self, register: Register) -> u8 {
        match register {
            Register::Hand(hand) => self.hands().get(hand),
            Register::Alarm(hand) => self.alarm.get(hand),
            Register::A => self.a.get() | self.update_in_progress(),
            Register::B => self.b.get(),
            Register::C => self.acknowledge(),
            Register::D => VALID,
        }
    }

    /// Writes a register.
    pub(super) fn write(&mut self, register: Register, value: u8) {
        self.raise_due(self.clock.monotonic_ns());
        match register {
            Register::Hand(hand) => self.set_hand(hand, value),
            Register::Alarm(hand) => self.alarm.set(hand, value),
            Register::A => self.set_a(value),
            Register::B => self.set_b(value),
            Register::C | Register::D => {}
        }
        self.arm();
        self.update_line();
    }

    /// Returns when `tick` has something to do.
    pub(super) fn next_deadline_ns(&self) -> Option<u64> {
        let enabled = self.enabled().difference(self.flags);
        let due = |flag: Flags, at: Option<u64>| at.filter(|_| enabled.contains(flag));
        [
            due(Flags::PERIODIC, self.due.periodic),
            due(Flags::ALARM, self.due.alarm),
            due(Flags::UPDATE, self.due.update),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Raises what was due at or before `now_ns`.
    pub(super) fn tick(&mut self, now_ns: u64) {
        self.raise_due(now_ns);
        self.update_line();
    }

    fn enabled(&self) -> Flags {
        Flags::from_bits_truncate(self.b.get())
    }

    fn format(&self) -> Format {
        Format {
            is_binary: self.b.is_set(REGISTER_B::BINARY),
            is_24_hours: self.b.is_set(REGISTER_B::HOURS_24),
        }
    }

    fn time_ns(&self) -> u64 {
        self.clock.wall_ns().wrapping_add(self.offset_ns)
    }

    fn hands(&self) -> Hands {
        match &self.stopped {
            Some(stopped) => stopped.hands,
            None => Hands::at(self.time_ns() / SECOND_NS, self.format()),
        }
    }

    fn set_hand(&mut self, hand: registers::Hand, value: u8) {
        let mut hands = self.hands();
        hands.set(hand, value);
        match &mut self.stopped {
            Some(stopped) => stopped.hands = hands,
            None => self.set_time(hands, self.time_ns() % SECOND_NS),
        }
    }

    fn set_time(&mut self, hands: Hands, phase_ns: u64) {
        let seconds = hands.seconds(self.format());
        let time = seconds.saturating_mul(SECOND_NS).saturating_add(phase_ns);
        self.offset_ns = time.wrapping_sub(self.clock.wall_ns());
    }

    fn set_a(&mut self, value: u8) {
        self.a.set(value);
        self.a.modify(REGISTER_A::UPDATING::CLEAR);
        self.run_or_stop();
    }

    fn set_b(&mut self, value: u8) {
        let format = self.format();
        self.b.set(value);
        // The hands of a clock that runs are written anew in the new format;
        // those of one that stands are the guest's to write.
        if self.stopped.is_none() && self.b.is_set(REGISTER_B::SET) {
            let hands = Hands::at(self.time_ns() / SECOND_NS, format);
            self.stop(hands);
        }
        self.run_or_stop();
    }

    /// Stops the clock while its divider is in reset or it is being set, and
    /// lets it go on afterwards.
    fn run_or_stop(&mut self) {
        let in_reset = self.a.read(REGISTER_A::DIVIDER) >= registers::DIVIDER_RESET;
        let stands = in_reset || self.b.is_set(REGISTER_B::SET);
        match (stands, self.stopped) {
            (true, None) => self.stop(self.hands()),
            (false, Some(stopped)) => {
                self.stopped = None;
                self.set_time(stopped.hands, stopped.phase_ns);
            }
            _ => {}
        }
        if let Some(stopped) = self.stopped.as_mut().filter(|_| in_reset) {
            stopped.phase_ns = DIVIDER_PHASE_NS;
        }
    }

    fn stop(&mut self, hands: Hands) {
        self.stopped = Some(Stopped {
            hands,
            phase_ns: self.time_ns() % SECOND_NS,
        });
    }

    fn update_in_progress(&self) -> u8 {
        let rest = SECOND_NS.saturating_sub(self.time_ns() % SECOND_NS);
        let is_near = self.stopped.is_none() && rest <= UPDATE_NOTICE_NS;
        match is_near {
            true => REGISTER_A::UPDATING::SET.value,
            false => 0,
        }
    }

    /// Reads register C, which takes the flags down.
    fn acknowledge(&mut self) -> u8 {
        self.raise_due(self.clock.monotonic_ns());
        let request = match self.flags.intersects(self.enabled()) {
            true => Flags::REQUEST,
            false => Flags::empty(),
        };
        let value = self.flags.union(request).bits();
        self.flags = Flags::empty();
        self.update_line();
        value
    }

    fn update_line(&mut self) {
        self.line.drive(self.flags.intersects(self.enabled()));
    }

    /// Raises each flag whose time has come, and finds its next time.
    fn raise_due(&mut self, now_ns: u64) {
        let is_due = |at: Option<u64>| at.is_some_and(|at| at <= now_ns);
        let due = self.due;
        self.flags.set_if(Flags::PERIODIC, is_due(due.periodic));
        self.flags.set_if(Flags::ALARM, is_due(due.alarm));
        self.flags.set_if(Flags::UPDATE, is_due(due.update));
        if is_due(due.periodic) || is_due(due.alarm) || is_due(due.update) {
            self.arm();
        }
    }

    /// Finds when each flag rises next.
    fn arm(&mut self) {
        let now_ns = self.clock.monotonic_ns();
        let time_ns = self.time_ns();
        let into_second = time_ns % SECOND_NS;
        let after = |seconds: u64| {
            let wait = seconds.saturating_mul(SECOND_NS);
            now_ns.saturating_add(wait.saturating_sub(into_second))
        };
        let runs = self.stopped.is_none();
        let alarm = || self.alarm.wait_s(time_ns / SECOND_NS, self.format());
        self.due = Due {
            periodic: self.next_period(now_ns),
            alarm: runs.then(alarm).flatten().map(after),
            update: runs.then(|| after(1)),
        };
    }

    /// Returns when the next period ends: periods count from the host's start.
    fn next_period(&self, now_ns: u64) -> Option<u64> {
        const SECOND: u128 = SECOND_NS as u128;
        let is_in_reset = self.a.read(REGISTER_A::DIVIDER) >= registers::DIVIDER_RESET;
        let rate = self.a.read(REGISTER_A::RATE);
        let shift = match rate {
            0 => return None,
            _ if is_in_reset => return None,
            // The two highest rates are those of 8 and 9.
            1 | 2 => rate.saturating_add(6),
            _ => rate.saturating_sub(1),
        };
        let period = OSCILLATOR_HZ.min(1u128.checked_shl(shift.into())?);
        let passed = u128::from(now_ns).checked_mul(OSCILLATOR_HZ)? / SECOND;
        let periods = passed.checked_div(period)?.checked_add(1)?;
        let ticks = periods.checked_mul(period)?;
        let at = ticks.checked_mul(SECOND)?.div_ceil(OSCILLATOR_HZ);
        u64::try_from(at).ok()
    }
}

#[cfg(test)]
mod tests;
