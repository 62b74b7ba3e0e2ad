// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The Goldfish RTC of QEMU's RISC-V `virt` machine.
//!
//! A clock of nanoseconds since 1970 and one alarm. Reading TIME_LOW latches
//! TIME_HIGH; writing ALARM_LOW arms the alarm, at once if it is in the past;
//! writing TIME_LOW, the last half of setting the time, moves an armed alarm
//! with it. The region is 0x24 bytes, 32-bit accesses only, as QEMU's. The line
//! is high while an alarm is pending and IRQ_ENABLED is set.
//!
//! Spec: "Goldfish Virtual Hardware", real-time clock. Threats: docs/devices.md.

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

use crate::{
    AccessFault, AccessWidth, Clock, IoDevice, IrqLine, LevelLine, TimedDevice,
    regs::{
        self,
        goldfish_rtc::{IRQ_ENABLED, Register},
    },
};

/// A Goldfish RTC.
pub struct GoldfishRtc {
    clock: Arc<dyn Clock>,
    line: LevelLine,
    /// What the guest's time is ahead of the host's, modulo 2^64.
    offset_ns: u64,
    /// TIME_HIGH as latched by the last read of TIME_LOW.
    time_high: u32,
    alarm_ns: u64,
    /// When the alarm is due, in monotonic time, while it is armed.
    deadline_ns: Option<u64>,
    is_pending: bool,
    irq_enabled: LocalRegisterCopy<u32, IRQ_ENABLED::Register>,
}

impl GoldfishRtc {
    /// Makes a clock that shows the host's time and has no alarm armed.
    pub fn new(clock: Arc<dyn Clock>, irq: IrqLine) -> Self {
        Self {
            clock,
            line: LevelLine::new(irq),
            offset_ns: 0,
            time_high: 0,
            alarm_ns: 0,
            deadline_ns: None,
            is_pending: false,
            irq_enabled: LocalRegisterCopy::new(0),
        }
    }

    fn time_ns(&self) -> u64 {
        self.clock.wall_ns().wrapping_add(self.offset_ns)
    }

    fn set_time(&mut self, time_ns: u64) {
        self.offset_ns = time_ns.wrapping_sub(self.clock.wall_ns());
    }

    fn latch_time(&mut self) -> u32 {
        let now = self.time_ns();
        self.time_high = regs::high_half(now);
        regs::low_half(now)
    }

    fn set_time_low(&mut self, low: u32) {
        let high = regs::high_half(self.time_ns());
        self.set_time(regs::join(low, high));
        if self.deadline_ns.is_some() {
            self.arm();
        }
    }

    fn set_time_high(&mut self, high: u32) {
        let low = regs::low_half(self.time_ns());
        self.set_time(regs::join(low, high));
    }

    fn set_alarm_low(&mut self, low: u32) {
        self.alarm_ns = regs::join(low, regs::high_half(self.alarm_ns));
        self.arm();
    }

    fn set_alarm_high(&mut self, high: u32) {
        self.alarm_ns = regs::join(regs::low_half(self.alarm_ns), high);
    }

    fn arm(&mut self) {
        let now = self.time_ns();
        if self.alarm_ns <= now {
            self.fire();
        } else {
            let wait = self.alarm_ns.saturating_sub(now);
            self.deadline_ns = Some(self.clock.monotonic_ns().saturating_add(wait));
        }
    }

    fn fire(&mut self) {
        self.deadline_ns = None;
        self.set_pending(true);
    }

    fn set_pending(&mut self, pending: bool) {
        self.is_pending = pending;
        self.update_line();
    }

    fn enable_irq(&mut self, value: u32) {
        let written = LocalRegisterCopy::<u32, IRQ_ENABLED::Register>::new(value);
        self.irq_enabled.set(written.read(IRQ_ENABLED::ENABLE));
        self.update_line();
    }

    fn update_line(&mut self) {
        let enabled = self.irq_enabled.is_set(IRQ_ENABLED::ENABLE);
        self.line.drive(self.is_pending && enabled);
    }
}

impl IoDevice for GoldfishRtc {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let value = match Register::decode(offset, width)? {
            Register::TimeLow => self.latch_time(),
            Register::TimeHigh => self.time_high,
            Register::AlarmLow => regs::low_half(self.alarm_ns),
            Register::AlarmHigh => regs::high_half(self.alarm_ns),
            Register::IrqEnabled => self.irq_enabled.get(),
            Register::AlarmStatus => u32::from(self.deadline_ns.is_some()),
            Register::ClearAlarm | Register::ClearInterrupt | Register::Reserved => 0,
        };
        Ok(value.into())
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let value = regs::low_half(value);
        match Register::decode(offset, width)? {
            Register::TimeLow => self.set_time_low(value),
            Register::TimeHigh => self.set_time_high(value),
            Register::AlarmLow => self.set_alarm_low(value),
            Register::AlarmHigh => self.set_alarm_high(value),
            Register::IrqEnabled => self.enable_irq(value),
            Register::ClearAlarm => self.deadline_ns = None,
            Register::ClearInterrupt => self.set_pending(false),
            Register::AlarmStatus | Register::Reserved => {}
        }
        Ok(())
    }
}

impl TimedDevice for GoldfishRtc {
    fn next_deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn tick(&mut self, now_ns: u64) {
        if self.deadline_ns.is_some_and(|deadline| deadline <= now_ns) {
            self.fire();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeClock, FakeIrq, WIDTHS, any_width};

    const TIME_LOW: u64 = 0x00;
    const TIME_HIGH: u64 = 0x04;
    const ALARM_LOW: u64 = 0x08;
    const ALARM_HIGH: u64 = 0x0c;
    const ENABLED: u64 = 0x10;
    const CLEAR_ALARM: u64 = 0x14;
    const ALARM_STATUS: u64 = 0x18;
    const CLEAR_INTERRUPT: u64 = 0x1c;

    const START_NS: u64 = 0x18ea_0c43_d9d4_fb80;

    struct Bench {
        clock: Arc<FakeClock>,
        irq: Arc<FakeIrq>,
        rtc: GoldfishRtc,
    }

    impl Bench {
        fn new() -> Self {
            let clock = FakeClock::at(START_NS);
            let (irq, line) = FakeIrq::line();
            let rtc = GoldfishRtc::new(clock.clone(), line);
            Self { clock, irq, rtc }
        }

        fn read(&mut self, offset: u64) -> u64 {
            self.rtc.read(offset, AccessWidth::Dword).unwrap()
        }

        fn write(&mut self, offset: u64, value: u64) {
            let written = self.rtc.write(offset, AccessWidth::Dword, value);
            written.unwrap();
        }

        fn time(&mut self) -> u64 {
            self.read(TIME_LOW) | self.read(TIME_HIGH) << 32
        }

        fn set_time(&mut self, time: u64) {
            self.write(TIME_HIGH, time >> 32);
            self.write(TIME_LOW, time);
        }

        fn set_alarm(&mut self, time: u64) {
            self.write(ALARM_HIGH, time >> 32);
            self.write(ALARM_LOW, time);
        }

        fn pass(&mut self, by_ns: u64) {
            self.clock.advance(by_ns);
            self.rtc.tick(self.clock.monotonic_ns());
        }
    }

    #[test]
    fn it_shows_the_hosts_time_and_nothing_else_after_reset() {
        let mut bench = Bench::new();
        assert_eq!(bench.time(), START_NS);
        for offset in (ALARM_LOW..0x24).step_by(4) {
            assert_eq!(bench.read(offset), 0);
        }
        assert_eq!(bench.rtc.next_deadline_ns(), None);
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn reading_the_low_half_latches_the_high_half() {
        let mut bench = Bench::new();
        assert_eq!(bench.read(TIME_HIGH), 0, "nothing latched yet");
        let low = bench.read(TIME_LOW);
        bench.clock.advance(1 << 33);
        assert_eq!(low | bench.read(TIME_HIGH) << 32, START_NS);
    }

    #[test]
    fn setting_the_time_shifts_it_and_it_runs_on() {
        let mut bench = Bench::new();
        for time in [0, 1_000_000_000, u64::MAX - 5] {
            bench.set_time(time);
            assert_eq!(bench.time(), time);
            bench.clock.advance(10);
            assert_eq!(bench.time(), time.wrapping_add(10));
        }
    }

    #[test]
    fn an_alarm_fires_at_its_time_and_not_before() {
        let mut bench = Bench::new();
        bench.write(ENABLED, 1);
        bench.set_alarm(START_NS + 500);
        assert_eq!(bench.read(ALARM_STATUS), 1);
        let deadline = bench.clock.monotonic_ns() + 500;
        assert_eq!(bench.rtc.next_deadline_ns(), Some(deadline));
        bench.pass(499);
        assert!(!bench.irq.is_high());
        bench.pass(1);
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(ALARM_STATUS), 0);
        assert_eq!(bench.rtc.next_deadline_ns(), None);
        bench.write(CLEAR_INTERRUPT, 0);
        assert!(!bench.irq.is_high());
        bench.pass(1_000);
        assert!(!bench.irq.is_high(), "an alarm fires once");
    }

    #[test]
    fn an_alarm_in_the_past_fires_at_once() {
        let mut bench = Bench::new();
        bench.write(ENABLED, 1);
        bench.set_alarm(START_NS);
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(ALARM_STATUS), 0);
    }

    #[test]
    fn a_disabled_interrupt_waits_until_it_is_enabled() {
        let mut bench = Bench::new();
        bench.set_alarm(0);
        assert!(!bench.irq.is_high());
        bench.write(ENABLED, 0xffff_fffe);
        assert!(!bench.irq.is_high(), "only bit 0 counts");
        bench.write(ENABLED, 0xffff_ffff);
        assert!(bench.irq.is_high());
        assert_eq!(bench.read(ENABLED), 1);
        bench.write(ENABLED, 0);
        assert!(!bench.irq.is_high());
    }

    #[test]
    fn a_cleared_alarm_does_not_fire() {
        let mut bench = Bench::new();
        bench.write(ENABLED, 1);
        bench.set_alarm(START_NS + 500);
        bench.write(CLEAR_ALARM, 0);
        assert_eq!(bench.read(ALARM_STATUS), 0);
        bench.pass(1_000);
        assert!(!bench.irq.is_high());
    }

    #[test]
    fn the_alarm_reads_back_and_its_high_half_arms_nothing() {
        let mut bench = Bench::new();
        bench.write(ALARM_HIGH, 0x1234_5678);
        assert_eq!(bench.read(ALARM_STATUS), 0);
        bench.write(ALARM_LOW, 0x9abc_def0);
        assert_eq!(bench.read(ALARM_LOW), 0x9abc_def0);
        assert_eq!(bench.read(ALARM_HIGH), 0x1234_5678);
    }

    #[test]
    fn an_armed_alarm_moves_when_the_time_is_set() {
        let mut bench = Bench::new();
        bench.write(ENABLED, 1);
        bench.set_alarm(START_NS + 500);
        bench.set_time(START_NS + 400);
        bench.pass(100);
        assert!(bench.irq.is_high());
        bench.write(CLEAR_INTERRUPT, 0);
        bench.set_alarm(START_NS + 5_000);
        bench.set_time(START_NS + 6_000);
        assert!(bench.irq.is_high(), "the time jumped over it");
    }

    #[test]
    fn an_alarm_at_the_end_of_time_does_not_wrap() {
        let mut bench = Bench::new();
        bench.set_time(0);
        bench.clock.advance(u64::MAX / 2);
        bench.set_time(0);
        bench.set_alarm(u64::MAX);
        assert_eq!(bench.rtc.next_deadline_ns(), Some(u64::MAX));
    }

    #[test]
    fn only_aligned_words_inside_the_region_are_decoded() {
        let mut bench = Bench::new();
        for (width, size) in WIDTHS {
            for offset in (0..0x40).chain(u64::MAX - 8..=u64::MAX) {
                let decoded = size == 4 && offset % 4 == 0 && offset < 0x24;
                assert_eq!(bench.rtc.read(offset, width).is_ok(), decoded);
                assert_eq!(bench.rtc.write(offset, width, 0).is_ok(), decoded);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Action {
        Read(u64, AccessWidth),
        Write(u64, AccessWidth, u64),
        Pass(u64),
    }

    fn any_offset() -> impl Strategy<Value = u64> {
        prop_oneof![8 => (0..9u64).prop_map(|word| word * 4), 1 => any::<u64>()]
    }

    fn any_value() -> impl Strategy<Value = u64> {
        prop_oneof![
            Just(START_NS >> 32),
            Just(1),
            0xd9d4_0000..0xd9d8_0000u64,
            any::<u64>()
        ]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        let width = prop_oneof![4 => Just(AccessWidth::Dword), 1 => any_width()];
        prop_oneof![
            (any_offset(), any_width()).prop_map(|(o, w)| Action::Read(o, w)),
            (any_offset(), width, any_value()).prop_map(|(o, w, v)| Action::Write(o, w, v)),
            (0..0x4_0000u64).prop_map(Action::Pass),
        ]
    }

    proptest! {
        #[test]
        fn the_line_is_high_while_an_alarm_fired_and_is_enabled(
            actions in prop::collection::vec(any_action(), 0..100),
        ) {
            let mut bench = Bench::new();
            let mut fired = false;
            for action in actions {
                let was_armed = bench.read(ALARM_STATUS) == 1;
                match action {
                    Action::Read(offset, width) => {
                        let _ = bench.rtc.read(offset, width);
                    }
                    Action::Write(offset, width, value) => {
                        let done = bench.rtc.write(offset, width, value).is_ok();
                        let is_armed = bench.read(ALARM_STATUS) == 1;
                        let arms = offset == ALARM_LOW || offset == TIME_LOW && was_armed;
                        fired |= done && arms && !is_armed;
                        fired &= !(done && offset == CLEAR_INTERRUPT);
                    }
                    Action::Pass(by) => {
                        bench.pass(by);
                        fired |= was_armed && bench.read(ALARM_STATUS) == 0;
                    }
                }
                let alarm = bench.read(ALARM_LOW) | bench.read(ALARM_HIGH) << 32;
                if let Some(deadline) = bench.rtc.next_deadline_ns() {
                    prop_assert!(deadline > bench.clock.monotonic_ns());
                    prop_assert_eq!(bench.read(ALARM_STATUS), 1);
                    prop_assert!(alarm > 0);
                }
                prop_assert_eq!(bench.irq.is_high(), fired && bench.read(ENABLED) == 1);
            }
        }
    }
}
