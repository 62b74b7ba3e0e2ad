// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Why a bundle, or one file of it, is refused.
//!
//! `BundleError` comes from `Bundle::parse`: nothing of the bundle can be
//! used. `FileError` comes from a single file and concerns only the VM that
//! refers to it; the other VMs still start. Each variant carries the offending
//! value, and its message says what it should have been.

use thiserror::Error;

use crate::layout::{BODY_ALIGN, VERSION};
use crate::limits::{
    MAX_BODIES, MAX_FILES, MAX_FILES_PER_VM, MAX_NAME_SIZE, MAX_NAMES_SIZE, MAX_TEXT_SIZE, MAX_VMS,
};

/// Why some bytes are not a usable bundle.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundleError {
    /// There are fewer bytes than a header has.
    #[error("{actual} bytes are too few for a bundle's header")]
    NoHeader {
        /// How many bytes there are.
        actual: usize,
    },
    /// The first bytes are those of something else.
    #[error("not a bundle: it starts with {found:02x?}")]
    WrongMagic {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// The bundle was made by another version of the tools.
    #[error("bundle version {found} is unknown, this is version {VERSION}; make the bundle again")]
    UnknownVersion {
        /// The version in the header.
        found: u32,
    },
    /// The bundle is longer than the bytes handed over.
    #[error("bundle is truncated: {stated} bytes stated, {actual} present")]
    Truncated {
        /// The size in the header.
        stated: u64,
        /// How many bytes there are.
        actual: u64,
    },
    /// The counts in the header do not add up to the index size beside them.
    #[error("index of {stated} bytes stated, its counts make {computed} (bundle of {total} bytes)")]
    IndexSize {
        /// The index size in the header.
        stated: u64,
        /// What the counts in the header make.
        computed: u64,
        /// The bundle's size in the header.
        total: u64,
    },
    /// The header, a table or a name was changed after the bundle was made.
    #[error("index checksum is {found:#018x}, {stated:#018x} stated: the bundle is corrupt")]
    IndexChecksum {
        /// The checksum in the header.
        stated: u64,
        /// The checksum of the bytes.
        found: u64,
    },
    /// There are more VM files than a bundle may have.
    #[error("{count} VM files, at most {MAX_VMS} are allowed")]
    TooManyVms {
        /// How many there are.
        count: u32,
    },
    /// There are more files than a bundle may have.
    #[error("{count} files, at most {MAX_FILES} are allowed")]
    TooManyFiles {
        /// How many there are.
        count: u32,
    },
    /// There are more bodies than a bundle may have.
    #[error("{count} bodies, at most {MAX_BODIES} are allowed")]
    TooManyBodies {
        /// How many there are.
        count: u32,
    },
    /// The names take more room than they may.
    #[error("names of {size} bytes, at most {MAX_NAMES_SIZE} are allowed")]
    TooManyNames {
        /// Their size in the header.
        size: u32,
    },
    /// The names are not UTF-8.
    #[error("names are not UTF-8 at byte {offset}")]
    NameNotUtf8 {
        /// The first wrong byte, from the start of the names.
        offset: usize,
    },
    /// A name lies outside the names or starts or ends inside a character.
    #[error("name of {size} bytes at {offset} is not within the names")]
    NameRange {
        /// Where it starts, from the start of the names.
        offset: u32,
        /// Its size in bytes.
        size: u32,
    },
    /// A name is empty or longer than it may be.
    #[error("name of {size} bytes, 1 to {MAX_NAME_SIZE} are allowed")]
    NameSize {
        /// Its size in bytes.
        size: u32,
    },
    /// A body does not start on a page.
    #[error("body {body} at {offset:#x} is not aligned to {BODY_ALIGN} bytes")]
    BodyMisaligned {
        /// The number of the body.
        body: usize,
        /// Where it starts.
        offset: u64,
    },
    /// A body starts before the end of what lies in front of it.
    #[error("body {body} at {offset:#x} overlaps what lies before {free_from:#x}")]
    BodyOverlap {
        /// The number of the body.
        body: usize,
        /// Where it starts.
        offset: u64,
        /// The end of the index or of the body before it.
        free_from: u64,
    },
    /// A body ends after the end of the bundle.
    #[error("body {body} of {size} bytes at {offset:#x} ends after the bundle")]
    BodyRange {
        /// The number of the body.
        body: usize,
        /// Where it starts.
        offset: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// An entry names a body that does not exist.
    #[error("body {body} does not exist")]
    NoSuchBody {
        /// The number of the body.
        body: u32,
    },
    /// A VM file refers to more files than it may.
    #[error("VM file {vm} refers to {count} files, at most {MAX_FILES_PER_VM} are allowed")]
    TooManyFilesOfVm {
        /// The number of the VM file.
        vm: usize,
        /// To how many it refers.
        count: u32,
    },
    /// The VM files refer to more or fewer files than the file table has.
    #[error("the file table has {stated} entries, the VM files refer to {claimed}")]
    FileCount {
        /// The number of entries in the table.
        stated: u64,
        /// The sum over all VM files.
        claimed: u64,
    },
    /// Two VM files have the same name.
    #[error("VM files {first} and {second} have the same name")]
    DuplicateVm {
        /// The number of the one VM file.
        first: usize,
        /// The number of the other VM file.
        second: usize,
    },
    /// A VM file has two entries for the same path.
    #[error("VM file {vm} has the same path twice, at entries {file} and the next")]
    DuplicateFile {
        /// The number of the VM file.
        vm: usize,
        /// The first of the two entries, counted within the VM file.
        file: usize,
    },
    /// The paths of a VM file are not in ascending order.
    #[error("VM file {vm} has its paths out of order after entry {file}")]
    FilesUnordered {
        /// The number of the VM file.
        vm: usize,
        /// The entry whose successor should come before it.
        file: usize,
    },
}

/// Why one file of a bundle cannot be used.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileError<'a> {
    /// The file could not be read when the bundle was made.
    #[error("it is missing from the bundle: {reason}")]
    Missing {
        /// What the host said, as text that was not checked for control characters.
        reason: &'a str,
    },
    /// The body was changed after the bundle was made.
    #[error("its checksum is {found:#018x}, {stated:#018x} stated: the bundle is corrupt")]
    Checksum {
        /// The checksum in the bundle.
        stated: u64,
        /// The checksum of the bytes.
        found: u64,
    },
    /// A VM file is larger than it may be.
    #[error("it has {size} bytes, a VM file at most {MAX_TEXT_SIZE}")]
    TextTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// A VM file is not text.
    #[error("it is not UTF-8 text at byte {offset}")]
    TextNotUtf8 {
        /// The first wrong byte.
        offset: usize,
    },
}
