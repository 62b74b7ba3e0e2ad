// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The one checked way to guest RAM.
//!
//! A guest physical address that a guest supplied is an allegation: every
//! access names a start and a length, and the implementation (axvm's RAM)
//! refuses what is not wholly RAM, wrap-around included, before it touches a
//! byte. No reference into guest memory ever exists, since other vCPUs write it
//! at the same time.

use axvm_types::GuestPhysAddr;

/// Guest RAM as a device may use it.
pub trait GuestMemory: Send + Sync {
    /// Copies guest RAM at `from` into `to`.
    fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> Result<(), OutsideRam>;

    /// Copies `from` into guest RAM at `to`.
    fn write(&self, to: GuestPhysAddr, from: &[u8]) -> Result<(), OutsideRam>;
}

/// A range that is not wholly inside guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("guest range {start:#x} of {size_bytes:#x} bytes is not in the VM's RAM")]
pub struct OutsideRam {
    /// Where the range starts.
    pub start: GuestPhysAddr,
    /// How long it is.
    pub size_bytes: usize,
}
