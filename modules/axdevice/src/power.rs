// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How a device asks to end or restart its machine, and the devices that do.

mod sifive_test;

pub use sifive_test::SifiveTest;

/// What a guest asked of its machine's power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRequest {
    /// Switch off, all well.
    Off,
    /// Switch off; the guest reports failure with this code.
    Failed(u32),
    /// Restart.
    Reset,
}

/// Whoever carries out a [`PowerRequest`]; it returns at once, and the machine
/// stops as soon as the access that asked for it is finished.
pub trait PowerSink: Send + Sync {
    /// Takes note of the request; the first one wins.
    fn request(&self, request: PowerRequest);
}
