// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The records of a bundle as they lie in the file.
//!
//! Read by `read.rs` and `check.rs`, written by `write.rs`. All numbers are
//! little-endian and no record needs alignment, so the index can be read
//! wherever the loader put it.
//!
//! ```text
//! Header | VmRecord.. | FileRecord.. | BodyRecord.. | names | bodies, 4 KiB-aligned
//! '------------- index: one checksum --------------------'
//! ```
//!
//! Spec: docs/bundle.md.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight bytes of every bundle.
pub const MAGIC: [u8; 8] = *b"AXBUNDLE";
/// The format version that this crate writes, and the only one it reads.
pub const VERSION: u32 = 3;
/// Every body starts at a multiple of this many bytes from the bundle's start.
pub const BODY_ALIGN: u64 = 4096;
/// The body number of a file that was missing when the bundle was made.
pub(crate) const NO_BODY: u32 = u32::MAX;
/// The index checksum covers the bytes from here to the end of the names.
pub(crate) const CHECKED_FROM: usize = 24;

/// The start of a bundle.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    pub magic: [u8; 8],
    pub version: U32,
    /// Size of header, tables and names.
    pub index_size: U32,
    pub index_checksum: U64,
    pub total_size: U64,
    pub vm_count: U32,
    pub file_count: U32,
    pub body_count: U32,
    pub names_size: U32,
}

/// A range of the names.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct NameRecord {
    pub offset: U32,
    pub size: U32,
}

/// A VM file; its files are the next `file_count` records of the file table.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct VmRecord {
    pub name: NameRecord,
    pub body: U32,
    pub file_count: U32,
}

/// A file that a VM file refers to, present (`body`) or missing (`reason`).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct FileRecord {
    pub path: NameRecord,
    pub body: U32,
    pub reason: NameRecord,
}

/// Where a body lies, from the start of the bundle, and its checksum.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct BodyRecord {
    pub offset: U64,
    pub size: U64,
    pub checksum: U64,
}

const _: () = {
    assert!(size_of::<Header>() == 48);
    assert!(core::mem::offset_of!(Header, total_size) == CHECKED_FROM);
    assert!(size_of::<NameRecord>() == 8);
    assert!(size_of::<VmRecord>() == 16);
    assert!(size_of::<FileRecord>() == 20);
    assert!(size_of::<BodyRecord>() == 24);
};
