// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time that devices see.

/// Time as the host provides it to device models.
pub trait Clock: Send + Sync {
    /// Returns nanoseconds of a clock that never goes back.
    fn monotonic_ns(&self) -> u64;

    /// Returns nanoseconds since 1970-01-01 00:00 UTC.
    fn wall_ns(&self) -> u64;
}
