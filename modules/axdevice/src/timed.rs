// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The devices of a VM that act at a time, and the alarm that they share.
//!
//! Made by axvm for each machine, with an alarm that makes the boot vCPU's
//! thread call [`DeviceTimers::tick`], in its guest or asleep: what a guest's
//! timers cost is spent by the guest. A device is put on the bus inside
//! [`Timed`], which asks for its deadline after each access and tells the alarm.
//! A model of several regions is added as it is, and tells [`DeviceTimers::alarm`].
//!
//! The alarm may ring for a deadline that has been given up; then the tick does
//! nothing but look at what comes next. Lock order: the list, then a device.

use alloc::{sync::Arc, vec::Vec};

use axvm_types::AccessWidth;

use crate::{AccessFault, IoDevice, Lock, SharedAlarm, TimedDevice, shared};

/// How long the devices rest after a tick, however soon the next deadline is.
///
/// A guest may choose any period; each ring costs the host an interrupt.
const REST_NS: u64 = 50_000;

/// The timed devices of one VM.
pub struct DeviceTimers {
    alarm: SharedAlarm,
    devices: Lock<Vec<Arc<Lock<dyn TimedDevice>>>>,
}

impl DeviceTimers {
    /// Makes a list without devices.
    pub fn new(alarm: SharedAlarm) -> Self {
        Self {
            alarm,
            devices: Lock::default(),
        }
    }

    /// Returns the alarm, for a device that tells its deadlines itself.
    pub fn alarm(&self) -> &SharedAlarm {
        &self.alarm
    }

    /// Adds a device that is behind its lock already.
    pub fn add(&self, device: Arc<Lock<dyn TimedDevice>>) {
        self.devices.lock().push(device);
    }

    /// Adds a device and returns what to put on the bus.
    pub fn timed<D: IoDevice + TimedDevice + 'static>(&self, device: D) -> Arc<Lock<Timed<D>>> {
        let alarm = self.alarm.clone();
        let timed = shared(Timed { device, alarm });
        self.add(timed.clone());
        timed
    }

    /// Does what is due at `now_ns`, and sets the alarm for what comes next.
    pub fn tick(&self, now_ns: u64) {
        let devices = self.devices.lock();
        let next = devices.iter().filter_map(|device| {
            let mut device = device.lock();
            device.tick(now_ns);
            device.next_deadline_ns()
        });
        if let Some(at_ns) = next.min() {
            self.alarm
                .ring_by(at_ns.max(now_ns.saturating_add(REST_NS)));
        }
    }
}

/// A device whose deadlines the alarm learns of.
pub struct Timed<D> {
    device: D,
    alarm: SharedAlarm,
}

impl<D> Timed<D> {
    /// Returns the device, for whom it is connected with beside the bus; what
    /// they do there may not bring its deadline nearer.
    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }
}

impl<D: TimedDevice> Timed<D> {
    fn tell_alarm(&self) {
        if let Some(at_ns) = self.device.next_deadline_ns() {
            self.alarm.ring_by(at_ns);
        }
    }
}

impl<D: IoDevice + TimedDevice> IoDevice for Timed<D> {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let read = self.device.read(offset, width);
        self.tell_alarm();
        read
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let written = self.device.write(offset, width, value);
        self.tell_alarm();
        written
    }
}

impl<D: TimedDevice> TimedDevice for Timed<D> {
    fn next_deadline_ns(&self) -> Option<u64> {
        self.device.next_deadline_ns()
    }

    fn tick(&mut self, now_ns: u64) {
        self.device.tick(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Clock, GoldfishRtc,
        testing::{FakeAlarm, FakeClock, FakeIrq, NEVER},
    };

    /// A device with one register: its next deadline; 0 is none.
    #[derive(Default)]
    struct Clockwork {
        deadline: u64,
        period: u64,
        ticks: u64,
    }

    impl IoDevice for Clockwork {
        fn read(&mut self, _: u64, _: AccessWidth) -> Result<u64, AccessFault> {
            Ok(self.ticks)
        }

        fn write(&mut self, _: u64, _: AccessWidth, value: u64) -> Result<(), AccessFault> {
            self.deadline = value;
            Ok(())
        }
    }

    impl TimedDevice for Clockwork {
        fn next_deadline_ns(&self) -> Option<u64> {
            (self.deadline != 0).then_some(self.deadline)
        }

        fn tick(&mut self, now_ns: u64) {
            if self.next_deadline_ns().is_some_and(|at| at <= now_ns) {
                self.ticks += 1;
                self.deadline = match self.period {
                    0 => 0,
                    period => self.deadline + period,
                };
            }
        }
    }

    fn write(device: &Lock<Timed<Clockwork>>, value: u64) {
        device.lock().write(0, AccessWidth::Qword, value).unwrap();
    }

    fn ticks(device: &Lock<Timed<Clockwork>>) -> u64 {
        device.lock().device.ticks
    }

    #[test]
    fn the_alarm_rings_for_the_first_of_all_deadlines() {
        let alarm = FakeAlarm::new();
        let timers = DeviceTimers::new(alarm.clone());
        let one = timers.timed(Clockwork::default());
        let two = timers.timed(Clockwork::default());
        write(&one, 3_000_000);
        assert_eq!(alarm.rings_at(), 3_000_000);
        write(&two, 2_000_000);
        assert_eq!(alarm.take(), 2_000_000);
        timers.tick(2_000_000);
        assert_eq!((ticks(&one), ticks(&two)), (0, 1));
        assert_eq!(alarm.take(), 3_000_000);
        timers.tick(3_000_000);
        assert_eq!((ticks(&one), ticks(&two)), (1, 1));
        assert_eq!(alarm.rings_at(), NEVER);
    }

    #[test]
    fn a_deadline_that_was_put_off_costs_a_ring_and_is_kept() {
        let alarm = FakeAlarm::new();
        let timers = DeviceTimers::new(alarm.clone());
        let device = timers.timed(Clockwork::default());
        write(&device, 1_000_000);
        write(&device, 5_000_000);
        let early = alarm.take();
        timers.tick(early);
        assert_eq!((early, ticks(&device)), (1_000_000, 0));
        assert_eq!(alarm.rings_at(), 5_000_000);
    }

    #[test]
    fn a_period_that_no_host_could_follow_is_followed_slowly() {
        let alarm = FakeAlarm::new();
        let timers = DeviceTimers::new(alarm.clone());
        let device = timers.timed(Clockwork {
            period: 1,
            ..Clockwork::default()
        });
        write(&device, 1_000_000);
        timers.tick(alarm.take());
        assert_eq!(alarm.rings_at(), 1_000_000 + REST_NS);
    }

    #[test]
    fn an_rtc_fires_by_the_alarm_alone() {
        let (clock, alarm) = (FakeClock::at(1_000_000_000), FakeAlarm::new());
        let (irq, line) = FakeIrq::line();
        let timers = DeviceTimers::new(alarm.clone());
        let rtc = timers.timed(GoldfishRtc::new(clock.clone(), line));
        let write = |offset, value| {
            let written = rtc.lock().write(offset, AccessWidth::Dword, value);
            written.unwrap();
        };
        // IRQ_ENABLED, ALARM_HIGH, ALARM_LOW.
        write(0x10, 1);
        write(0x0c, 0);
        write(0x08, 1_500_000_000);
        assert!(!irq.is_high());
        clock.advance(500_000_000);
        assert_eq!(alarm.take(), clock.monotonic_ns());
        timers.tick(clock.monotonic_ns());
        assert!(irq.is_high());
        assert_eq!(alarm.rings_at(), NEVER);
    }

    proptest! {
        #[test]
        fn no_deadline_is_missed_whatever_is_written(
            writes in prop::collection::vec((0..3_usize, 1..1_000_000_000_u64), 1..40),
        ) {
            let alarm = FakeAlarm::new();
            let timers = DeviceTimers::new(alarm.clone());
            let devices: Vec<_> = (0..3).map(|_| timers.timed(Clockwork::default())).collect();
            for (device, deadline) in writes {
                write(&devices[device], deadline);
            }
            let armed = devices.iter().filter(|d| d.lock().next_deadline_ns().is_some());
            let armed = armed.count() as u64;
            for _ in 0..100 {
                match alarm.take() {
                    NEVER => break,
                    at => timers.tick(at),
                }
            }
            let rung: u64 = devices.iter().map(|device| ticks(device)).sum();
            prop_assert_eq!(rung, armed);
        }
    }
}
