// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time that devices see, and how they ask to be woken by it.
//!
//! A device model has no timer of its own. One that must act at a later time
//! is a [`TimedDevice`]; [`DeviceTimers`](crate::DeviceTimers) asks it for the
//! deadline after the guest has accessed it, and calls `tick` when that has
//! come. The host's side is one [`Alarm`] for each VM.

use alloc::sync::Arc;

/// Time as the host provides it to device models.
pub trait Clock: Send + Sync {
    /// Returns nanoseconds of a clock that never goes back.
    fn monotonic_ns(&self) -> u64;

    /// Returns nanoseconds since 1970-01-01 00:00 UTC.
    fn wall_ns(&self) -> u64;
}

/// A device that has to act at a time, not only when it is accessed.
pub trait TimedDevice: Send {
    /// Returns the [`Clock::monotonic_ns`] at which `tick` has something to do, if any.
    fn next_deadline_ns(&self) -> Option<u64>;

    /// Does what was due at or before `now_ns` of [`Clock::monotonic_ns`]; early calls do nothing.
    fn tick(&mut self, now_ns: u64);
}

/// A timer of the host that rings once at a time.
pub trait Alarm: Send + Sync {
    /// Makes it ring at `at_ns` of [`Clock::monotonic_ns`], or earlier.
    ///
    /// It is never put off: what was asked for before still rings. Whoever no
    /// longer wants that finds nothing to do then, which is cheaper than to
    /// cancel. Any thread may call, whatever it has locked.
    fn ring_by(&self, at_ns: u64);
}

/// Whoever an [`Alarm`] rings for.
pub trait AlarmListener: Send + Sync {
    /// The alarm has rung, and does not ring again before it is asked to.
    ///
    /// Called in an interrupt handler: it may take no lock of a VM, and leaves
    /// the work to a thread.
    fn alarm_rings(&self);
}

/// An alarm that many share.
pub type SharedAlarm = Arc<dyn Alarm>;
