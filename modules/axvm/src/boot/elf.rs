// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! ELF kernels: their segments, their entry, and the PVH note.
//!
//! The headers are read by the `elf` crate; what is checked here is that the
//! segments make sense together, so that `place` only has to find room.
//!
//! Spec: System V ABI, "Program Header"; Xen, "x86/HVM direct boot ABI" (PVH).

use alloc::vec::Vec;

use elf::{
    ElfBytes, ParseError,
    abi::{ELFMAGIC, ET_DYN, ET_EXEC, PT_LOAD, PT_NOTE},
    endian::AnyEndian,
    note::Note,
    segment::ProgramHeader,
};

use super::{
    ImageError, ImageFormat,
    bytes::{le32, length},
    multiboot::Multiboot,
};

/// More segments than any kernel has.
const MAX_SEGMENTS: usize = 64;
/// More notes than any kernel has.
const MAX_NOTES: usize = 256;
/// The note with the 32-bit physical entry.
const XEN_ELFNOTE_PHYS32_ENTRY: u64 = 18;

/// What one `PT_LOAD` header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElfSegment<'a> {
    /// Its physical address, `p_paddr`.
    pub physical: u64,
    /// Its virtual address, `p_vaddr`.
    pub virt: u64,
    /// What the file has of it.
    pub bytes: &'a [u8],
    /// How much memory it takes; zeros follow its bytes.
    pub memory_bytes: u64,
}

impl ElfSegment<'_> {
    /// Returns the address behind it, which was checked to exist.
    pub fn end(&self) -> u64 {
        self.physical.saturating_add(self.memory_bytes)
    }
}

/// An ELF kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElfImage<'a> {
    /// `e_machine`.
    pub machine: u16,
    /// `e_entry`, a virtual or a physical address.
    pub entry: u64,
    /// The segments to load, the lowest physical address first; at least one.
    pub segments: Vec<ElfSegment<'a>>,
    /// The entry of the PVH boot protocol.
    pub pvh_entry: Option<u32>,
    /// The multiboot header inside.
    pub multiboot: Option<Multiboot<'a>>,
}

/// Recognises an ELF; the caller looks for a multiboot header.
pub(super) fn recognise(bytes: &[u8]) -> Option<Result<ElfImage<'_>, ImageError>> {
    bytes.starts_with(&ELFMAGIC).then(|| parse(bytes))
}

fn parse(bytes: &[u8]) -> Result<ElfImage<'_>, ImageError> {
    let file =
        ElfBytes::<AnyEndian>::minimal_parse(bytes).map_err(|error| explain(&error, bytes))?;
    let header = &file.ehdr;
    if header.endianness != AnyEndian::Little {
        return Err(ImageError::ElfBigEndian);
    }
    if !matches!(header.e_type, ET_EXEC | ET_DYN) {
        return Err(ImageError::ElfType(header.e_type));
    }
    Ok(ElfImage {
        machine: header.e_machine,
        entry: header.e_entry,
        segments: segments(&file, bytes)?,
        pvh_entry: pvh_entry(&file),
        multiboot: None,
    })
}

/// Returns why the headers cannot be read.
fn explain(error: &ParseError, bytes: &[u8]) -> ImageError {
    match error {
        ParseError::SliceReadError((_, end)) => ImageError::Truncated {
            format: ImageFormat::Elf,
            needed_bytes: *end as u64,
            file_bytes: length(bytes),
        },
        _ => ImageError::ElfDamaged,
    }
}

/// Collects what is loaded, in the order of addresses.
fn segments<'a>(
    file: &ElfBytes<'a, AnyEndian>,
    bytes: &'a [u8],
) -> Result<Vec<ElfSegment<'a>>, ImageError> {
    let mut segments = Vec::new();
    let headers = file.segments().ok_or(ImageError::ElfEmpty)?;
    let loaded = |header: &ProgramHeader| header.p_type == PT_LOAD && header.p_memsz != 0;
    for (index, header) in headers.iter().enumerate() {
        if !loaded(&header) {
            continue;
        }
        if segments.len() == MAX_SEGMENTS {
            return Err(ImageError::ElfSegments { max: MAX_SEGMENTS });
        }
        check(index, &header)?;
        segments.push(ElfSegment {
            physical: header.p_paddr,
            virt: header.p_vaddr,
            bytes: file
                .segment_data(&header)
                .map_err(|error| explain(&error, bytes))?,
            memory_bytes: header.p_memsz,
        });
    }
    if segments.is_empty() {
        return Err(ImageError::ElfEmpty);
    }
    segments.sort_unstable_by_key(|segment| segment.physical);
    check_disjoint(&segments)?;
    Ok(segments)
}

/// Refuses a segment that contradicts itself.
fn check(index: usize, header: &ProgramHeader) -> Result<(), ImageError> {
    let memory_bytes = header.p_memsz;
    if header.p_filesz > memory_bytes {
        return Err(ImageError::SegmentSize {
            index,
            file_bytes: header.p_filesz,
            memory_bytes,
        });
    }
    for start in [header.p_paddr, header.p_vaddr] {
        start
            .checked_add(memory_bytes)
            .ok_or(ImageError::SegmentWraps {
                index,
                start,
                memory_bytes,
            })?;
    }
    Ok(())
}

/// Refuses segments that share memory.
fn check_disjoint(sorted: &[ElfSegment<'_>]) -> Result<(), ImageError> {
    let pairs = sorted.iter().zip(sorted.iter().skip(1));
    for (low, high) in pairs {
        if low.end() > high.physical {
            return Err(ImageError::SegmentsOverlap {
                first: low.physical,
                second: high.physical,
            });
        }
    }
    Ok(())
}

/// Finds the PVH entry among the notes; damaged notes are no entry.
fn pvh_entry(file: &ElfBytes<'_, AnyEndian>) -> Option<u32> {
    let headers = file.segments()?;
    headers
        .iter()
        .filter(|header| header.p_type == PT_NOTE)
        .filter_map(|header| file.segment_data_as_notes(&header).ok())
        .flat_map(|notes| notes.take(MAX_NOTES))
        .take(MAX_NOTES)
        .find_map(|note| match note {
            Note::Unknown(any) if is_phys32_entry(any.name, any.n_type) => le32(any.desc, 0),
            _ => None,
        })
}

fn is_phys32_entry(name: &[u8], kind: u64) -> bool {
    kind == XEN_ELFNOTE_PHYS32_ENTRY && matches!(name, b"Xen" | b"Xen\0")
}
