// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time that devices see, and how they ask to be woken by it.
//!
//! A device model has no timer of its own. One that must act at a later time
//! is a [`TimedDevice`]: its owner asks for the deadline, after the guest has
//! written to it, and calls `tick` when the deadline has come.

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
