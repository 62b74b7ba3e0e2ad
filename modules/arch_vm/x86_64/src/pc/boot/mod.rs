// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a PC's loader hands over to a kernel, and where it leaves the CPU.
//!
//! A function of values: [`hand_over`] gets the placed images and returns the
//! bytes that go into the first MiB, with the boot vCPU's [`BootState`]. Called
//! by the machine's `boot` after the images were copied. One file for each boot
//! protocol; the addresses are in `layout`.

mod linux;
mod multiboot;
mod page;
mod paging;
mod pvh;
mod state;
#[cfg(test)]
mod testing;

use alloc::{vec, vec::Vec};

use axvm::{
    BootConfig, GuestPhysAddr, RamRegion,
    boot::{BootRules, GuestRange, Handover, ImageError, LinuxFormat, Placement, Protocol},
};

pub use state::{BootState, DescriptorTable, Segment};

use super::layout;

const ELF_MACHINE_X86_64: u16 = 62;
const ELF_MACHINE_386: u16 = 3;
/// Where flat images go that say nothing else: the start of extended memory.
const FLAT_OFFSET: u64 = layout::HIGH_MEMORY;

/// Returns what a PC with this RAM boots.
pub fn rules(ram: &[RamRegion]) -> BootRules<'_> {
    BootRules {
        ram,
        reserved: layout::RESERVED,
        elf_machines: &[ELF_MACHINE_X86_64, ELF_MACHINE_386],
        linux: Some(LinuxFormat::BzImage),
        flat_offset: Some(FLAT_OFFSET),
        handover: Handover::Pc,
    }
}

/// Some bytes for the guest's RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where they go.
    pub start: GuestPhysAddr,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Chunk {
    /// Makes a chunk for an address.
    pub fn new(start: u64, bytes: Vec<u8>) -> Self {
        let start = GuestRange::new(start, 0).start;
        Self { start, bytes }
    }
}

/// A machine that is ready to enter its kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What goes into RAM besides the images.
    pub chunks: Vec<Chunk>,
    /// How the boot vCPU starts.
    pub state: BootState,
}

/// What is handed over, in the terms of all protocols.
struct Information<'a> {
    cmdline: &'a str,
    initrd: Option<GuestRange>,
    ram: &'a [RamRegion],
    rsdp: u64,
    has_seed: bool,
}

/// What the firmware has to say.
pub struct Firmware {
    /// Where ACPI's tables start.
    pub rsdp: u64,
    /// Random bytes for the kernel, if the host has any.
    pub seed: Option<Seed>,
}

/// As many random bytes as a kernel wants to begin with.
pub type Seed = [u8; 32];

/// Writes what the kernel's protocol wants.
pub fn hand_over(
    placement: &Placement<'_>,
    boot: &BootConfig,
    ram: &[RamRegion],
    firmware: &Firmware,
) -> Result<Ready, ImageError> {
    let information = Information {
        cmdline: &boot.cmdline,
        initrd: placement.initrd.map(|initrd| initrd.range),
        ram,
        rsdp: firmware.rsdp,
        has_seed: firmware.seed.is_some(),
    };
    let entry = placement.entry.as_usize() as u64;
    let (structure, state) = match &placement.protocol {
        Protocol::LinuxPc(image) => linux::hand_over(image, entry, &information)?,
        Protocol::Multiboot(_) => multiboot::hand_over(entry, &information),
        Protocol::Pvh | Protocol::Direct => pvh::hand_over(entry, &information),
    };
    let mut chunks = vec![
        Chunk::new(layout::HANDOVER, structure),
        Chunk::new(layout::CMDLINE, command_line(&boot.cmdline)?),
        Chunk::new(layout::GDT, words(&state.gdt_entries())),
    ];
    if let (Protocol::LinuxPc(_), Some(seed)) = (&placement.protocol, &firmware.seed) {
        chunks.push(linux::seed_list(seed));
    }
    if state.is_long() {
        chunks.push(Chunk::new(layout::PAGE_TABLES, words(&paging::identity())));
    }
    Ok(Ready { chunks, state })
}

/// Returns the command line with its NUL.
fn command_line(cmdline: &str) -> Result<Vec<u8>, ImageError> {
    let max_bytes = layout::CMDLINE_BYTES.saturating_sub(1);
    check_cmdline(cmdline, max_bytes)?;
    let mut bytes = cmdline.as_bytes().to_vec();
    bytes.push(0);
    Ok(bytes)
}

fn check_cmdline(cmdline: &str, max_bytes: usize) -> Result<(), ImageError> {
    match cmdline.len() {
        size_bytes if size_bytes > max_bytes => Err(ImageError::CmdlineTooLong {
            size_bytes,
            max_bytes,
        }),
        _ => Ok(()),
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().copied().flat_map(u64::to_le_bytes).collect()
}
