// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The outside world of a device model, for tests of the models.
//!
//! Each fake records what it is told; none interprets it.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::Lock;
use proptest::prelude::*;

use crate::{
    AccessWidth, Alarm, Clock, Console, ConsoleOutput, IrqLine, IrqSink, PowerRequest, PowerSink,
};

/// Every width of an access, with its size in bytes.
pub const WIDTHS: [(AccessWidth, u64); 4] = [
    (AccessWidth::Byte, 1),
    (AccessWidth::Word, 2),
    (AccessWidth::Dword, 4),
    (AccessWidth::Qword, 8),
];

/// Any of the four widths.
pub fn any_width() -> impl Strategy<Value = AccessWidth> {
    prop::sample::select(WIDTHS.map(|(width, _)| width).to_vec())
}

/// One input of an interrupt controller.
#[derive(Default)]
pub struct FakeIrq {
    level: AtomicBool,
    calls: AtomicUsize,
    rising_edges: AtomicUsize,
}

impl FakeIrq {
    pub fn line() -> (Arc<Self>, IrqLine) {
        let sink = Arc::new(Self::default());
        let line = IrqLine::new(sink.clone(), 10);
        (sink, line)
    }

    pub fn is_high(&self) -> bool {
        self.level.load(Relaxed)
    }

    /// How often the level was driven.
    pub fn calls(&self) -> usize {
        self.calls.load(Relaxed)
    }

    pub fn rising_edges(&self) -> usize {
        self.rising_edges.load(Relaxed)
    }
}

impl IrqSink for FakeIrq {
    fn set_level(&self, irq: u32, level: bool) {
        assert_eq!(irq, 10);
        self.calls.fetch_add(1, Relaxed);
        if !self.level.swap(level, Relaxed) && level {
            self.rising_edges.fetch_add(1, Relaxed);
        }
    }
}

/// The host's side of a console.
#[derive(Default)]
pub struct FakeOutput(Lock<Vec<u8>>);

impl FakeOutput {
    pub fn console() -> (Arc<Self>, Arc<Console>) {
        let output = Arc::new(Self::default());
        let console = Arc::new(Console::new(output.clone()));
        (output, console)
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.lock().clone()
    }
}

impl ConsoleOutput for FakeOutput {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().extend_from_slice(bytes);
    }
}

/// A clock that a test moves.
#[derive(Default)]
pub struct FakeClock {
    monotonic_ns: AtomicU64,
    wall_ns: AtomicU64,
}

impl FakeClock {
    pub fn at(wall_ns: u64) -> Arc<Self> {
        let clock = Self::default();
        clock.wall_ns.store(wall_ns, Relaxed);
        clock.monotonic_ns.store(1_000, Relaxed);
        Arc::new(clock)
    }

    pub fn advance(&self, by_ns: u64) {
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

/// When a [`FakeAlarm`] rings that was not asked to.
pub const NEVER: u64 = u64::MAX;

/// An alarm that a test looks at.
pub struct FakeAlarm(AtomicU64);

impl FakeAlarm {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NEVER)))
    }

    pub fn rings_at(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub fn take(&self) -> u64 {
        self.0.swap(NEVER, Relaxed)
    }
}

impl Alarm for FakeAlarm {
    fn ring_by(&self, at_ns: u64) {
        self.0.fetch_min(at_ns, Relaxed);
    }
}

/// A machine's power button.
#[derive(Default)]
pub struct FakePower(Lock<Vec<PowerRequest>>);

impl FakePower {
    pub fn requests(&self) -> Vec<PowerRequest> {
        self.0.lock().clone()
    }
}

impl PowerSink for FakePower {
    fn request(&self, request: PowerRequest) {
        self.0.lock().push(request);
    }
}
