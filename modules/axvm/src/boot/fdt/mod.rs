// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Guest device trees.
//!
//! [`Fdt`] writes a tree by closures, so that nodes always close; `devices`
//! has the nodes that several machines share; [`given()`] takes the tree that a
//! VM's file names instead. Architectures add their CPUs and interrupt
//! controllers. Used between `place` and `load_fdt`.
//!
//! Spec: Devicetree Specification 0.4.

mod devices;
mod given;
mod write;

pub use devices::{Interrupt, Pl011, Syscon, Uart16550, VirtioMmio};
pub use given::given;
pub(super) use given::given_room_bytes;
pub use write::{Chosen, Fdt, random};

/// The most that Linux accepts.
pub const MAX_BYTES: u64 = 2 << 20;
/// Room that suits the derived tree of every machine with up to 64 vCPUs.
pub const USUAL_ROOM_BYTES: u64 = 128 << 10;
/// The longest command line.
pub const MAX_CMDLINE_BYTES: usize = 4096;
