// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The setup header of Linux's bzImage.
//!
//! The real-mode setup in front is not run: a PC's boot code enters the
//! protected-mode kernel behind it, by the 32-bit or the 64-bit protocol, with
//! a zero page into which it copies [`BzImage::setup_header`].
//!
//! Spec: Linux, Documentation/arch/x86/boot.rst.

use super::{
    ImageError, ImageFormat,
    bytes::{has_magic, le8, le16, le32, le64, length},
};

const SECTOR_BYTES: usize = 512;
const SETUP_SECTS: usize = 0x1f1;
const SYSSIZE: usize = 0x1f4;
const JUMP_LENGTH: usize = 0x201;
const HEADER_MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOADFLAGS: usize = 0x211;
const INITRD_ADDR_MAX: usize = 0x22c;
const KERNEL_ALIGNMENT: usize = 0x230;
const RELOCATABLE: usize = 0x234;
const XLOADFLAGS: usize = 0x236;
const CMDLINE_SIZE: usize = 0x238;
const PREF_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;
/// Where the last field that is read ends.
const HEADER_END: usize = 0x264;

/// The version that brought `pref_address` and `init_size`.
const VERSION_MIN: u16 = 0x020a;
/// The version that brought `xloadflags`.
const VERSION_XLOADFLAGS: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
const XLF_CAN_BE_LOADED_ABOVE_4G: u16 = 2;
/// `syssize` counts units of this.
const PARAGRAPH_BYTES: u64 = 16;
/// `setup_sects` of kernels that leave it 0.
const SETUP_SECTS_DEFAULT: usize = 4;
/// The 64-bit entry, from where the kernel is loaded.
const ENTRY_64: u64 = 0x200;

/// A Linux bzImage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BzImage<'a> {
    /// The setup header, to be copied to the same offset of the zero page.
    pub setup_header: &'a [u8],
    /// The protected-mode kernel, which is loaded.
    pub kernel: &'a [u8],
    /// The boot protocol's version, such as 0x20f.
    pub version: u16,
    /// Where it prefers to run.
    pub pref_address: u64,
    /// How much memory it uses from where it runs.
    pub memory_bytes: u64,
    /// What its address must be a multiple of.
    pub alignment: u64,
    /// Whether it runs elsewhere than it prefers.
    pub is_relocatable: bool,
    /// Whether it has the 64-bit entry.
    pub has_entry_64: bool,
    /// The highest address that an initrd's last byte may have.
    pub initrd_max: u64,
    /// The longest command line, without its NUL.
    pub cmdline_max_bytes: u32,
}

impl BzImage<'_> {
    /// Offset of [`Self::setup_header`] in the file and in the zero page.
    pub const SETUP_HEADER_OFFSET: usize = SETUP_SECTS;

    /// Returns the 64-bit entry's offset from where the kernel is loaded.
    pub const fn entry_64_offset() -> u64 {
        ENTRY_64
    }
}

/// Recognises the header.
pub(super) fn recognise(bytes: &[u8]) -> Option<Result<BzImage<'_>, ImageError>> {
    has_magic(bytes, HEADER_MAGIC, b"HdrS").then(|| parse(bytes))
}

fn parse(bytes: &[u8]) -> Result<BzImage<'_>, ImageError> {
    let version = le16(bytes, VERSION).unwrap_or_default();
    if version < VERSION_MIN {
        return Err(ImageError::BzImageOld(version));
    }
    if bytes.len() < HEADER_END {
        return Err(truncated(HEADER_END as u64, bytes));
    }
    let byte = |offset| le8(bytes, offset).unwrap_or_default();
    let half = |offset| le16(bytes, offset).unwrap_or_default();
    let word = |offset| le32(bytes, offset).unwrap_or_default();
    if byte(LOADFLAGS) & LOADED_HIGH == 0 {
        return Err(ImageError::BzImageLow);
    }
    let alignment = word(KERNEL_ALIGNMENT);
    if !alignment.is_power_of_two() {
        return Err(ImageError::BzImageAlignment(alignment));
    }
    let xloadflags = match version {
        VERSION_XLOADFLAGS.. => half(XLOADFLAGS),
        _ => 0,
    };
    let kernel = kernel(bytes, byte(SETUP_SECTS), word(SYSSIZE))?;
    Ok(BzImage {
        setup_header: setup_header(bytes, byte(JUMP_LENGTH)),
        kernel,
        version,
        pref_address: le64(bytes, PREF_ADDRESS).unwrap_or_default(),
        memory_bytes: u64::from(word(INIT_SIZE)).max(length(kernel)),
        alignment: u64::from(alignment),
        is_relocatable: byte(RELOCATABLE) != 0,
        has_entry_64: xloadflags & XLF_KERNEL_64 != 0,
        initrd_max: match xloadflags & XLF_CAN_BE_LOADED_ABOVE_4G {
            0 => u64::from(word(INITRD_ADDR_MAX)),
            _ => u64::MAX,
        },
        cmdline_max_bytes: word(CMDLINE_SIZE),
    })
}

/// Returns the setup header, whose end the jump over it tells.
fn setup_header(bytes: &[u8], jump_length: u8) -> &[u8] {
    let end = HEADER_MAGIC.saturating_add(usize::from(jump_length));
    let end = end.clamp(HEADER_END, bytes.len().max(HEADER_END));
    bytes.get(SETUP_SECTS..end).unwrap_or_default()
}

/// Returns what follows the boot sector and the setup sectors.
fn kernel(bytes: &[u8], setup_sects: u8, syssize: u32) -> Result<&[u8], ImageError> {
    let sectors = match usize::from(setup_sects) {
        0 => SETUP_SECTS_DEFAULT,
        sectors => sectors,
    };
    let start = sectors.saturating_add(1).saturating_mul(SECTOR_BYTES);
    let size = u64::from(syssize).saturating_mul(PARAGRAPH_BYTES);
    let needed = size.saturating_add(start as u64);
    let kernel = bytes.get(start..).unwrap_or_default();
    // The last paragraph may be incomplete in the file.
    let is_complete = length(kernel).saturating_add(PARAGRAPH_BYTES) > size;
    if kernel.is_empty() || !is_complete {
        return Err(truncated(needed, bytes));
    }
    Ok(kernel)
}

fn truncated(needed_bytes: u64, bytes: &[u8]) -> ImageError {
    ImageError::Truncated {
        format: ImageFormat::BzImage,
        needed_bytes,
        file_bytes: length(bytes),
    }
}
