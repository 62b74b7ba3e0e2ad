// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt controllers of the machine, as pure models.
//!
//! They know sources, harts and registers, and neither vCPUs nor locks: `harts`
//! and `interrupts` connect their outputs to the vCPUs. [`Intc`] says which of them
//! a machine has: a `plic`, an `aplic` with a wire to each hart, or an `aplic`
//! that sends to `imsic` files; `aia` says where the last two are.

pub mod aia;
pub mod aplic;
pub mod imsic;
pub mod plic;

/// Which interrupt controllers a machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intc {
    /// QEMU's `aia=none`.
    Plic,
    /// QEMU's `aia=aplic`: wires to the harts.
    Aplic,
    /// QEMU's `aia=aplic-imsic`: messages to the harts.
    Aia,
}

impl Intc {
    /// Returns the controllers of a name in a VM's file.
    pub fn named(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("plic") => Some(Self::Plic),
            Some("aplic") => Some(Self::Aplic),
            Some("aia") => Some(Self::Aia),
            Some(_) => None,
        }
    }
}
