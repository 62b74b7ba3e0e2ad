// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The multiboot 1 header.
//!
//! It lies anywhere in a file's first 8 KiB, in an ELF or in a file that is
//! none and then says itself where it is loaded. Only PCs boot it.
//!
//! Spec: Multiboot Specification 0.6.96, "The header layout of Multiboot
//! header" and "The address fields of Multiboot header".

use super::{
    ImageError, ImageFormat,
    bytes::{le32, length},
};

const SEARCH_BYTES: usize = 8192;
const MAGIC: u32 = 0x1bad_b002;
/// Features that a loader must know or else refuse.
const FLAGS_REQUIRED: u32 = 0xffff;
/// Modules on pages, memory information, video mode.
const FLAGS_KNOWN: u32 = 0b111;
const FLAG_ADDRESSES: u32 = 1 << 16;

/// Where a header says that its file is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadAddresses {
    /// The first address.
    pub load: u32,
    /// Offset in the file of what is loaded there.
    pub file_offset: usize,
    /// How many bytes of the file are loaded.
    pub file_bytes: u32,
    /// How much memory they and the zeros behind them take.
    pub memory_bytes: u32,
    /// Where the kernel starts.
    pub entry: u32,
}

/// A multiboot header and the file that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiboot<'a> {
    /// The whole file.
    pub bytes: &'a [u8],
    /// The features that it asks for.
    pub flags: u32,
    /// Its addresses; without them the file is an ELF.
    pub addresses: Option<LoadAddresses>,
}

impl<'a> Multiboot<'a> {
    /// Returns the bytes to be loaded, where the header says which.
    pub fn loaded(&self) -> Option<(&'a [u8], LoadAddresses)> {
        let addresses = self.addresses?;
        let bytes = self.bytes.get(addresses.file_offset..)?;
        let size = usize::try_from(addresses.file_bytes).ok()?;
        Some((bytes.get(..size)?, addresses))
    }
}

/// Recognises the header.
pub(super) fn recognise(bytes: &[u8]) -> Option<Result<Multiboot<'_>, ImageError>> {
    let offset = (0..SEARCH_BYTES.min(bytes.len()))
        .step_by(4)
        .find(|&offset| is_header(bytes, offset))?;
    Some(parse(bytes, offset))
}

/// Tells whether a header with a right checksum is at `offset`.
fn is_header(bytes: &[u8], offset: usize) -> bool {
    let word = |index: usize| le32(bytes, offset.saturating_add(index));
    let sum = || Some(MAGIC.wrapping_add(word(4)?).wrapping_add(word(8)?));
    word(0) == Some(MAGIC) && sum() == Some(0)
}

fn parse(bytes: &[u8], offset: usize) -> Result<Multiboot<'_>, ImageError> {
    let flags = le32(bytes, offset.saturating_add(4)).unwrap_or_default();
    let unknown = flags & FLAGS_REQUIRED & !FLAGS_KNOWN;
    if unknown != 0 {
        return Err(ImageError::MultibootFeatures(unknown));
    }
    let addresses = match flags & FLAG_ADDRESSES {
        0 => None,
        _ => Some(addresses(bytes, offset)?),
    };
    Ok(Multiboot {
        bytes,
        flags,
        addresses,
    })
}

/// Reads the five address fields and checks them against each other.
fn addresses(bytes: &[u8], offset: usize) -> Result<LoadAddresses, ImageError> {
    let file_bytes = length(bytes);
    let word = |index: usize| {
        le32(bytes, offset.saturating_add(index)).ok_or(ImageError::Truncated {
            format: ImageFormat::Multiboot,
            needed_bytes: offset.saturating_add(32) as u64,
            file_bytes,
        })
    };
    let (header, load) = (word(12)?, word(16)?);
    let (load_end, bss_end, entry) = (word(20)?, word(24)?, word(28)?);
    let wrong = ImageError::MultibootAddresses {
        header,
        load,
        load_end,
        bss_end,
    };
    let before = header.checked_sub(load).ok_or(wrong)?;
    let file_offset = offset.checked_sub(before as usize).ok_or(wrong)?;
    let rest = bytes.len().saturating_sub(file_offset);
    let file_bytes = match load_end {
        0 => u32::try_from(rest).map_err(|_| wrong)?,
        end => end.checked_sub(load).ok_or(wrong)?,
    };
    let memory_bytes = match bss_end {
        0 => file_bytes,
        end => end.checked_sub(load).ok_or(wrong)?,
    };
    if file_bytes == 0 || memory_bytes < file_bytes || file_bytes as usize > rest {
        return Err(wrong);
    }
    Ok(LoadAddresses {
        load,
        file_offset,
        file_bytes,
        memory_bytes,
        entry,
    })
}
