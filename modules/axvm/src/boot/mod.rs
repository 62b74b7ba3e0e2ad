// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From a kernel's file to a machine that boots it.
//!
//! Called by each architecture's `ArchVm::boot`, in this order: [`recognise`]
//! says what the kernel's bytes are, [`place`] decides where everything goes
//! under the machine's [`BootRules`], [`fdt`] writes the device tree, [`load`]
//! and [`load_fdt`] copy. All but the last two are functions of values.
//!
//! Every byte of an image is hostile: no image, command line or device tree
//! may panic the hypervisor or make it use memory without bound, and nothing
//! is loaded outside the VM's RAM.

mod bytes;
mod bzimage;
mod check;
mod elf;
mod error;
pub mod fdt;
mod foreign;
mod image;
mod kernel;
mod linux;
mod load;
mod multiboot;
mod place;
mod rules;
#[cfg(test)]
mod samples;
mod space;

pub use bzimage::BzImage;
pub use check::check;
pub use elf::{ElfImage, ElfSegment};
pub use error::{FdtFault, Foreign, ImageError, ImageFormat};
pub use image::{Image, recognise};
pub use linux::{LinuxImage, LinuxKind};
pub use load::{load, load_fdt};
pub use multiboot::{LoadAddresses, Multiboot};
pub use place::{Placed, Placement, Protocol, place};
pub use rules::{BootRules, FdtPosition, Handover, LinuxFormat};
pub use space::GuestRange;
