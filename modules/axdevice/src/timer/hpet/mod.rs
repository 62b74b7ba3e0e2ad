// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The HPET of a PC: a counter of 100 MHz and three timers.
//!
//! Each timer interrupts once or periodically, by edges or by a level that stays
//! until its status is written; it is wired to what its route names, or in place
//! of the 8254 and the clock. Matches that come while nobody looks are one.
//! There are no interrupts by messages, as in QEMU.
//!
//! Spec: Intel IA-PC HPET Specification 1.0a. Threats: docs/devices.md.

mod legacy;
#[cfg(test)]
mod tests;
mod timer;

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

use crate::{
    AccessFault, AccessWidth, Clock, IoDevice, IrqLine, IrqSink, TimedDevice,
    regs::hpet::{
        CAPABILITIES, CONFIGURATION, Part, REGION_BYTES, Register, TIMERS, decode, status_bit,
    },
};
pub use legacy::LegacyWires;
use timer::Timer;

const NS_PER_TICK: u64 = 10;
const FS_PER_TICK: u64 = 10_000_000;
const VENDOR: u64 = 0x8086;

/// An HPET.
pub struct Hpet {
    clock: Arc<dyn Clock>,
    sink: Arc<dyn IrqSink>,
    legacy: Arc<LegacyWires>,
    configuration: LocalRegisterCopy<u64, CONFIGURATION::Register>,
    status: u64,
    timers: [Timer; TIMERS],
    /// The count at `since_ns`, and for as long as it does not run.
    count: u64,
    since_ns: u64,
    /// Up to which count matches have been seen.
    seen: u64,
    /// The wires that levels hold up, timer by timer.
    held: [Option<IrqLine>; TIMERS],
}

impl Hpet {
    /// Size of its region.
    pub const REGION_BYTES: u64 = REGION_BYTES;

    /// Makes one that stands still; it drives the inputs of `sink` by number.
    pub fn new(clock: Arc<dyn Clock>, sink: Arc<dyn IrqSink>, legacy: Arc<LegacyWires>) -> Self {
        Self {
            clock,
            sink,
            legacy,
            configuration: LocalRegisterCopy::new(0),
            status: 0,
            timers: <[Timer; TIMERS]>::default(),
            count: 0,
            since_ns: 0,
            seen: 0,
            held: [None, None, None],
        }
    }

    fn runs(&self) -> bool {
        self.configuration.is_set(CONFIGURATION::ENABLE)
    }

    fn count_at(&self, now_ns: u64) -> u64 {
        match self.runs() {
            true => {
                let passed = now_ns.saturating_sub(self.since_ns) / NS_PER_TICK;
                self.count.wrapping_add(passed)
            }
            false => self.count,
        }
    }

    /// Sees the matches that have come.
    fn catch_up(&mut self, now_ns: u64) {
        let now = self.count_at(now_ns);
        let before = core::mem::replace(&mut self.seen, now);
        for index in 0..TIMERS {
            let timer = self.timers.get_mut(index);
            if timer.is_some_and(|timer| timer.pass(before, now)) {
                self.fire(index);
            }
        }
    }

    fn fire(&mut self, index: usize) {
        let Some(timer) = self.timers.get(index) else {
            return;
        };
        if timer.is_level() {
            self.status |= status_bit(index);
            self.update_line(index);
        } else if timer.is_enabled() {
            let line = self.line(index, timer);
            // A wire that a level holds up has no edges.
            if !self.is_held(line.irq()) {
                line.pulse();
            }
        }
    }

    fn is_held(&self, irq: u32) -> bool {
        self.held.iter().flatten().any(|line| line.irq() == irq)
    }

    fn line(&self, index: usize, timer: &Timer) -> IrqLine {
        let replaced = self.configuration.is_set(CONFIGURATION::LEGACY);
        match self.legacy.line(index).filter(|_| replaced) {
            Some(line) => line.clone(),
            None => IrqLine::new(self.sink.clone(), timer.route()),
        }
    }

    /// Holds a timer's wire up while its status says so, and lets go of the wire
    /// that it held before, unless another timer holds that up as well.
    fn update_line(&mut self, index: usize) {
        let Some(timer) = self.timers.get(index) else {
            return;
        };
        let is_high = self.status & status_bit(index) != 0
            && timer.is_level()
            && timer.is_enabled()
            && self.runs();
        let line = is_high.then(|| self.line(index, timer));
        let Some(held) = self.held.get_mut(index) else {
            return;
        };
        let number = |line: &Option<IrqLine>| line.as_ref().map(IrqLine::irq);
        if number(held) == number(&line) {
            return;
        }
        let old = core::mem::replace(held, line.clone());
        if let Some(line) = line {
            line.set_level(true);
        }
        if let Some(old) = old
            && !self.is_held(old.irq())
        {
            old.set_level(false);
        }
    }

    /// Lets go of all wires, some of which may become those of others.
    fn let_go(&mut self) {
        for line in self.held.iter_mut().filter_map(Option::take) {
            line.set_level(false);
        }
    }

    fn update_lines(&mut self) {
        (0..TIMERS).for_each(|index| self.update_line(index));
    }

    /// Returns its capabilities; firmware's tables show the low half.
    pub fn capabilities() -> u64 {
        let last = (TIMERS as u64).saturating_sub(1);
        (CAPABILITIES::REVISION.val(1)
            + CAPABILITIES::LAST_TIMER.val(last)
            + CAPABILITIES::WIDE::SET
            + CAPABILITIES::LEGACY::SET
            + CAPABILITIES::VENDOR.val(VENDOR)
            + CAPABILITIES::PERIOD_FS.val(FS_PER_TICK))
        .value
    }

    fn read_register(&self, register: Register, now_ns: u64) -> u64 {
        let timer = |index: usize| self.timers.get(index);
        match register {
            Register::Capabilities => Self::capabilities(),
            Register::Configuration => self.configuration.get(),
            Register::Status => self.status,
            Register::Counter => self.count_at(now_ns),
            Register::Timer(index) => timer(index).map_or(0, Timer::configuration),
            Register::Comparator(index) => timer(index).map_or(0, Timer::comparator),
            Register::Reserved => 0,
        }
    }

    fn write_register(&mut self, register: Register, part: Part, value: u64, now_ns: u64) {
        match register {
            Register::Configuration => self.configure(part, value, now_ns),
            Register::Status => {
                self.status &= !part.replace(0, value);
                self.update_lines();
            }
            // It can be written only while it stands still.
            Register::Counter if !self.runs() => {
                self.count = part.replace(self.count, value);
                self.seen = self.count;
            }
            Register::Timer(index) => {
                if let Some(timer) = self.timers.get_mut(index) {
                    timer.configure(part, value);
                }
                self.update_line(index);
            }
            Register::Comparator(index) => {
                if let Some(timer) = self.timers.get_mut(index) {
                    timer.compare(part, value);
                }
            }
            Register::Counter | Register::Capabilities | Register::Reserved => {}
        }
    }

    fn configure(&mut self, part: Part, value: u64, now_ns: u64) {
        let written = part.replace(self.configuration.get(), value);
        let written = LocalRegisterCopy::<u64, CONFIGURATION::Register>::new(written);
        self.count = self.count_at(now_ns);
        self.since_ns = now_ns;
        let kept = CONFIGURATION::ENABLE.val(written.read(CONFIGURATION::ENABLE))
            + CONFIGURATION::LEGACY.val(written.read(CONFIGURATION::LEGACY));
        if self.configuration.read(CONFIGURATION::LEGACY) != written.read(CONFIGURATION::LEGACY) {
            self.let_go();
        }
        self.configuration.set(kept.value);
        self.legacy.replace(written.is_set(CONFIGURATION::LEGACY));
        self.update_lines();
    }
}

impl IoDevice for Hpet {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let (register, part) = decode(offset, width)?;
        let now_ns = self.clock.monotonic_ns();
        self.catch_up(now_ns);
        Ok(part.of(self.read_register(register, now_ns)))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let (register, part) = decode(offset, width)?;
        let now_ns = self.clock.monotonic_ns();
        self.catch_up(now_ns);
        self.write_register(register, part, value, now_ns);
        Ok(())
    }
}

impl TimedDevice for Hpet {
    fn next_deadline_ns(&self) -> Option<u64> {
        if !self.runs() {
            return None;
        }
        let behind_start = self.seen.wrapping_sub(self.count);
        let wanted = self.timers.iter().filter(|timer| timer.is_enabled());
        let ticks = wanted.filter_map(|timer| timer.distance(self.seen)).min()?;
        let wait = behind_start.checked_add(ticks)?.checked_mul(NS_PER_TICK)?;
        self.since_ns.checked_add(wait)
    }

    fn tick(&mut self, now_ns: u64) {
        self.catch_up(now_ns.max(self.since_ns));
    }
}
