// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The power management registers at 0x600: PM1 events, PM1 control, the timer.
//!
//! The machine is in ACPI mode always. S5 switches it off; other sleep states
//! do not exist. The timer is a function of the host's clock: nothing runs for
//! it but a deadline while a guest wants to hear of its overflow.
//!
//! Spec: ACPI, "PM1 Event Registers", "PM1 Control Registers", "Power Management
//! Timer".

use alloc::sync::Arc;

use axdevice::{
    AccessFault, AccessWidth, Clock, IoDevice, IrqLine, LevelLine, PowerRequest, PowerSink,
    TimedDevice,
};
use tock_registers::LocalRegisterCopy;

use super::registers::{Events, PM1_CONTROL, SLEEP_TYPE_OFF};

/// Offsets in the region.
pub const STATUS: u64 = 0;
const ENABLE: u64 = 2;
/// PM1 control.
pub const CONTROL: u64 = 4;
/// The timer.
pub const TIMER: u64 = 8;
/// The region's size.
pub const SIZE: u64 = 12;

const TIMER_HZ: u128 = 3_579_545;
const SECOND_NS: u128 = 1_000_000_000;
const TIMER_MASK: u32 = 0xff_ffff;
/// How often the timer's highest bit changes, in its ticks.
const HALF_TURN: u128 = 0x80_0000;

/// The registers.
pub struct PowerManagement {
    clock: Arc<dyn Clock>,
    power: Arc<dyn PowerSink>,
    sci: LevelLine,
    status: Events,
    enable: Events,
    control: LocalRegisterCopy<u16, PM1_CONTROL::Register>,
    /// When the timer's highest bit changes next, in monotonic time.
    overflow_ns: u64,
}

impl PowerManagement {
    /// Makes the registers of a machine that was just switched on.
    pub fn new(clock: Arc<dyn Clock>, power: Arc<dyn PowerSink>, sci: IrqLine) -> Self {
        let overflow_ns = overflow_after(clock.monotonic_ns());
        Self {
            clock,
            power,
            sci: LevelLine::new(sci),
            status: Events::empty(),
            enable: Events::empty(),
            control: LocalRegisterCopy::new(PM1_CONTROL::SCI_ENABLE::SET.value),
            overflow_ns,
        }
    }

    /// Notes an overflow of the timer.
    fn look_at_timer(&mut self, now_ns: u64) {
        if self.overflow_ns <= now_ns {
            self.status.insert(Events::TIMER);
            self.overflow_ns = overflow_after(now_ns);
        }
    }

    fn update_line(&mut self) {
        self.sci.drive(self.status.intersects(self.enable));
    }

    fn timer(&self) -> u32 {
        ticks(self.clock.monotonic_ns()) as u32 & TIMER_MASK
    }

    fn set_control(&mut self, value: u16) {
        let written = LocalRegisterCopy::<u16, PM1_CONTROL::Register>::new(value);
        let sleep_type = written.read(PM1_CONTROL::SLEEP_TYPE) as u8;
        if written.is_set(PM1_CONTROL::SLEEP_ENABLE) && sleep_type == SLEEP_TYPE_OFF {
            self.power.request(PowerRequest::Off);
        }
        self.control.set(value);
        self.control.modify(PM1_CONTROL::SLEEP_ENABLE::CLEAR);
        // Without a firmware to take over, ACPI mode cannot be left.
        self.control.modify(PM1_CONTROL::SCI_ENABLE::SET);
    }

    /// Reads a 16-bit register, or a half of the timer.
    fn read_half(&self, offset: u64) -> u16 {
        match offset {
            STATUS => self.status.bits(),
            ENABLE => self.enable.bits(),
            CONTROL => self.control.get(),
            TIMER => self.timer() as u16,
            _ => 0,
        }
    }

    /// Writes the bytes that `mask` names of a 16-bit register.
    fn write_half(&mut self, offset: u64, value: u16, mask: u16) {
        let merged = |old: u16| old & !mask | value & mask;
        match offset {
            STATUS => self.status.remove(Events::from_bits_truncate(value & mask)),
            ENABLE => self.enable = Events::from_bits_truncate(merged(self.enable.bits())),
            CONTROL => self.set_control(merged(self.control.get())),
            _ => {}
        }
    }
}

impl IoDevice for PowerManagement {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let bytes = span(offset, width)?;
        self.look_at_timer(self.clock.monotonic_ns());
        self.update_line();
        if offset == TIMER {
            return Ok(u64::from(self.timer()) & width_mask(width));
        }
        let value = bytes.rev().fold(0, |value, at| {
            let half = self.read_half(at & !1);
            let [low, high] = half.to_le_bytes();
            value << 8 | u64::from(if at & 1 == 0 { low } else { high })
        });
        Ok(value)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let bytes = span(offset, width)?;
        self.look_at_timer(self.clock.monotonic_ns());
        let first = offset & !1;
        let shift = (offset & 1).wrapping_mul(8) as u32;
        let lanes = width_mask(width).wrapping_shl(shift);
        let value = value.wrapping_shl(shift);
        for (index, at) in (first..bytes.end).step_by(2).enumerate() {
            let shift = (index as u32).wrapping_mul(16);
            let half = |word: u64| word.wrapping_shr(shift) as u16;
            self.write_half(at, half(value), half(lanes));
        }
        self.update_line();
        Ok(())
    }
}

impl TimedDevice for PowerManagement {
    fn next_deadline_ns(&self) -> Option<u64> {
        let waits = self.enable.contains(Events::TIMER) && !self.status.contains(Events::TIMER);
        waits.then_some(self.overflow_ns)
    }

    fn tick(&mut self, now_ns: u64) {
        self.look_at_timer(now_ns);
        self.update_line();
    }
}

/// Returns the bytes of an access that lies in the region; the widest is 32 bits.
fn span(offset: u64, width: AccessWidth) -> Result<core::ops::Range<u64>, AccessFault> {
    let size = width.size() as u64;
    let end = offset.checked_add(size).ok_or(AccessFault)?;
    match size <= 4 && end <= SIZE {
        true => Ok(offset..end),
        false => Err(AccessFault),
    }
}

fn width_mask(width: AccessWidth) -> u64 {
    let bits = (width.size() as u32).wrapping_mul(8);
    u64::MAX.checked_shr(64u32.wrapping_sub(bits)).unwrap_or(0)
}

fn ticks(now_ns: u64) -> u128 {
    u128::from(now_ns).saturating_mul(TIMER_HZ) / SECOND_NS
}

/// Returns when the timer's highest bit changes next.
fn overflow_after(now_ns: u64) -> u64 {
    let turns = (ticks(now_ns) / HALF_TURN).saturating_add(1);
    let at = turns.saturating_mul(HALF_TURN).saturating_mul(SECOND_NS);
    u64::try_from(at.div_ceil(TIMER_HZ)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pc::testing::{FakeClock, FakeIrq, FakePower};

    const SECOND: u64 = 1_000_000_000;
    const WORD: AccessWidth = AccessWidth::Word;
    const DWORD: AccessWidth = AccessWidth::Dword;

    struct Bench {
        clock: Arc<FakeClock>,
        irq: Arc<FakeIrq>,
        power: Arc<FakePower>,
        pm: PowerManagement,
    }

    impl Bench {
        fn new() -> Self {
            let clock = FakeClock::at(0);
            let (irq, line) = FakeIrq::line();
            let power = Arc::new(FakePower::default());
            let pm = PowerManagement::new(clock.clone(), power.clone(), line);
            Self {
                clock,
                irq,
                power,
                pm,
            }
        }

        fn read(&mut self, offset: u64, width: AccessWidth) -> u64 {
            self.pm.read(offset, width).unwrap()
        }

        fn write(&mut self, offset: u64, width: AccessWidth, value: u64) {
            self.pm.write(offset, width, value).unwrap();
        }
    }

    #[test]
    fn the_timer_counts_24_bits_at_3_579545_mhz() {
        let mut bench = Bench::new();
        assert_eq!(bench.read(TIMER, DWORD), 0);
        bench.clock.advance(SECOND);
        assert_eq!(bench.read(TIMER, DWORD), 3_579_545);
        bench.clock.advance(9 * SECOND);
        assert_eq!(bench.read(TIMER, DWORD), 35_795_450 % (1 << 24));
    }

    #[test]
    fn s5_switches_off_and_other_sleep_states_do_nothing() {
        let mut bench = Bench::new();
        bench.write(CONTROL, WORD, 1 << 13 | 1 << 10);
        assert_eq!(bench.power.requests(), []);
        assert_eq!(bench.read(CONTROL, WORD), 1 << 10 | 1);
        bench.write(CONTROL, WORD, 1 << 13);
        assert_eq!(bench.power.requests(), [PowerRequest::Off]);
    }

    #[test]
    fn power_off_works_by_bytes_too() {
        let mut bench = Bench::new();
        bench.write(CONTROL, AccessWidth::Byte, 1);
        assert_eq!(bench.power.requests(), []);
        bench.write(CONTROL + 1, AccessWidth::Byte, 0x20);
        assert_eq!(bench.power.requests(), [PowerRequest::Off]);
    }

    #[test]
    fn the_machine_is_always_in_acpi_mode() {
        let mut bench = Bench::new();
        assert_eq!(bench.read(CONTROL, WORD), 1);
        bench.write(CONTROL, WORD, 0);
        assert_eq!(bench.read(CONTROL, WORD), 1);
    }

    #[test]
    fn an_overflow_interrupts_when_it_is_enabled_and_is_acknowledged_by_a_one() {
        let mut bench = Bench::new();
        assert_eq!(bench.pm.next_deadline_ns(), None);
        bench.write(ENABLE, WORD, 1);
        let due = bench.pm.next_deadline_ns().unwrap();
        bench.clock.advance(due - 1);
        bench.pm.tick(due - 1);
        assert!(!bench.irq.is_high());
        bench.clock.advance(1);
        bench.pm.tick(due);
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(TIMER, DWORD), 0x80_0000);
        assert_eq!(bench.pm.next_deadline_ns(), None);
        assert_eq!(bench.read(STATUS, DWORD), 1 << 16 | 1);
        bench.write(STATUS, WORD, 0);
        assert!(bench.irq.is_high());
        bench.write(STATUS, WORD, 1);
        assert!(!bench.irq.is_high());
    }

    #[test]
    fn accesses_outside_of_the_region_or_wider_than_the_bus_are_refused() {
        let mut bench = Bench::new();
        for (offset, width) in [
            (SIZE, AccessWidth::Byte),
            (SIZE - 1, WORD),
            (0, AccessWidth::Qword),
            (u64::MAX, WORD),
        ] {
            assert!(bench.pm.read(offset, width).is_err());
            assert!(bench.pm.write(offset, width, 0).is_err());
        }
    }

    proptest! {
        #[test]
        fn bytes_and_words_show_the_same_registers(
            writes in prop::collection::vec((0..8u64, any::<u8>()), 0..20),
        ) {
            let mut bench = Bench::new();
            for (offset, value) in writes {
                bench.write(offset, AccessWidth::Byte, value.into());
            }
            for offset in 0..8 {
                let bytes = bench.read(offset, AccessWidth::Byte)
                    | bench.read(offset + 1, AccessWidth::Byte) << 8;
                prop_assert_eq!(bench.read(offset, WORD), bytes);
            }
        }
    }
}
