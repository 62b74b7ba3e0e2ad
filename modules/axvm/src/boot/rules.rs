// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a machine says about booting.
//!
//! Each architecture makes one [`BootRules`] of its memory map and gives it to
//! `place`; nothing else here knows which machine it is.

use super::{GuestRange, LinuxKind};
use crate::RamRegion;

/// What a machine boots, and with what around it.
#[derive(Clone, Copy, Debug)]
pub struct BootRules<'a> {
    /// Its RAM; flat and Linux images count from the first region's start.
    pub ram: &'a [RamRegion],
    /// RAM that the machine keeps for its own tables, such as a PC's first MiB.
    pub reserved: &'a [GuestRange],
    /// The `e_machine` of ELFs that it runs, the usual one first.
    pub elf_machines: &'a [u16],
    /// The Linux format that it boots.
    pub linux: Option<LinuxFormat>,
    /// Where flat images go, from the start of RAM; `None` refuses them.
    pub flat_offset: Option<u64>,
    /// How the kernel is told about the machine.
    pub handover: Handover,
}

/// The Linux format that a machine boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxFormat {
    /// `Image` with the header of riscv or arm64.
    Image(LinuxKind),
    /// `bzImage`.
    BzImage,
}

/// How a kernel is told about its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// By nothing in memory.
    Nothing,
    /// By a device tree.
    Fdt {
        /// Room for the tree that the machine writes.
        room_bytes: u64,
        /// Where it goes for kernels that are ELFs.
        elf: FdtPosition,
    },
    /// By a PC's structures, which the architecture writes into reserved RAM;
    /// makes multiboot headers and PVH notes count.
    Pc,
}

/// Where a device tree goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FdtPosition {
    /// High, where Linux accepts it.
    High,
    /// At the start of RAM, where QEMU's arm boards leave it for bare-metal
    /// kernels that are not told the address; high if that is not free.
    RamStart,
}
