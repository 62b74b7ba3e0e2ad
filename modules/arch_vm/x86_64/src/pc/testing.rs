// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The outside world of this folder's models, for their tests.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use axdevice::{
    AccessWidth, Alarm, Clock, IoDevice, IrqLine, IrqSink, Lock, PowerRequest, PowerSink,
};

/// One input of an interrupt controller.
#[derive(Default)]
pub(super) struct FakeIrq {
    level: AtomicBool,
    calls: AtomicUsize,
    rising_edges: AtomicUsize,
}

impl FakeIrq {
    pub(super) fn line() -> (Arc<Self>, IrqLine) {
        let sink = Arc::new(Self::default());
        (sink.clone(), IrqLine::new(sink, 0))
    }

    pub(super) fn is_high(&self) -> bool {
        self.level.load(Relaxed)
    }

    pub(super) fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub(super) fn rising_edges(&self) -> usize {
        self.rising_edges.load(Relaxed)
    }
}

impl IrqSink for FakeIrq {
    fn set_level(&self, _irq: u32, level: bool) {
        self.calls.fetch_add(1, Relaxed);
        if !self.level.swap(level, Relaxed) && level {
            self.rising_edges.fetch_add(1, Relaxed);
        }
    }
}

/// A clock that a test moves.
#[derive(Default)]
pub(super) struct FakeClock {
    monotonic_ns: AtomicU64,
    wall_ns: AtomicU64,
}

impl FakeClock {
    pub(super) fn at(wall_ns: u64) -> Arc<Self> {
        let clock = Self::default();
        clock.wall_ns.store(wall_ns, Relaxed);
        Arc::new(clock)
    }

    pub(super) fn advance(&self, by_ns: u64) {
        self.monotonic_ns.fetch_add(by_ns, Relaxed);
        self.wall_ns.fetch_add(by_ns, Relaxed);
    }
}

impl Clock for FakeClock {
    fn monotonic_ns(&self) -> u64 {
        self.monotonic_ns.load(Relaxed)
    }

    fn wall_ns(&self) -> u64 {
        self.wall_ns.load(Relaxed)
    }
}

/// An alarm that notes when it has to ring.
pub(super) struct FakeAlarm(AtomicU64);

impl Default for FakeAlarm {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl FakeAlarm {
    /// Takes the time at which it has to ring.
    pub(super) fn take(&self) -> u64 {
        self.0.swap(u64::MAX, Relaxed)
    }
}

impl Alarm for FakeAlarm {
    fn ring_by(&self, at_ns: u64) {
        self.0.fetch_min(at_ns, Relaxed);
    }
}

/// A machine's power switch.
#[derive(Default)]
pub(super) struct FakePower(Lock<Vec<PowerRequest>>);

impl FakePower {
    pub(super) fn requests(&self) -> Vec<PowerRequest> {
        self.0.lock().clone()
    }
}

impl PowerSink for FakePower {
    fn request(&self, request: PowerRequest) {
        self.0.lock().push(request);
    }
}

/// Reads a byte of a device that answers.
pub(super) fn read(device: &mut dyn IoDevice, offset: u64) -> u8 {
    device.read(offset, AccessWidth::Byte).unwrap() as u8
}

/// Writes a byte to a device that takes it.
pub(super) fn write(device: &mut dyn IoDevice, offset: u64, value: u8) {
    let written = device.write(offset, AccessWidth::Byte, value.into());
    written.unwrap();
}
