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
