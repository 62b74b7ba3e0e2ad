// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The header of Linux's `Image` for riscv and arm64.
//!
//! Both have the same 64 bytes with the magic in the same place. The kernel
//! starts at its first byte, `text_offset` after a multiple of 2 MiB.
//!
//! Spec: Linux, Documentation/arch/riscv/boot-image-header.rst and
//! Documentation/arch/arm64/booting.rst.

use super::{
    ImageError, ImageFormat,
    bytes::{has_magic, le64, length},
};

const HEADER_BYTES: u64 = 64;
const TEXT_OFFSET: usize = 8;
const IMAGE_SIZE: usize = 16;
const FLAGS: usize = 24;
const RISCV_MAGIC: usize = 48;
const MAGIC: usize = 56;
const FLAG_BIG_ENDIAN: u64 = 1;

/// The `text_offset` of arm64 kernels that state no `image_size`.
const ARM64_OLD_TEXT_OFFSET: u64 = 0x8_0000;

/// Whose header it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxKind {
    /// riscv.
    Riscv,
    /// arm64.
    Arm64,
}

impl LinuxKind {
    /// Returns the format's name in messages.
    pub fn format(self) -> ImageFormat {
        match self {
            Self::Riscv => ImageFormat::LinuxRiscv,
            Self::Arm64 => ImageFormat::LinuxArm64,
        }
    }
}

/// A Linux `Image`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinuxImage<'a> {
    /// Whose it is.
    pub kind: LinuxKind,
    /// The whole file, which is loaded as it is.
    pub bytes: &'a [u8],
    /// Where it is loaded, from a multiple of 2 MiB.
    pub text_offset: u64,
    /// How much memory it uses, its bss included.
    pub memory_bytes: u64,
}

/// Recognises the header.
pub(super) fn recognise(bytes: &[u8]) -> Option<Result<LinuxImage<'_>, ImageError>> {
    let kind =
        if has_magic(bytes, MAGIC, b"RSC\x05") || has_magic(bytes, RISCV_MAGIC, b"RISCV\0\0\0") {
            LinuxKind::Riscv
        } else if has_magic(bytes, MAGIC, b"ARM\x64") {
            LinuxKind::Arm64
        } else {
            return None;
        };
    Some(parse(kind, bytes))
}

fn parse(kind: LinuxKind, bytes: &[u8]) -> Result<LinuxImage<'_>, ImageError> {
    let file_bytes = length(bytes);
    if file_bytes < HEADER_BYTES {
        return Err(ImageError::Truncated {
            format: kind.format(),
            needed_bytes: HEADER_BYTES,
            file_bytes,
        });
    }
    let field = |offset| le64(bytes, offset).unwrap_or_default();
    if field(FLAGS) & FLAG_BIG_ENDIAN != 0 {
        return Err(ImageError::LinuxBigEndian);
    }
    let image_bytes = field(IMAGE_SIZE);
    let is_old = image_bytes == 0;
    if !is_old && image_bytes < file_bytes {
        return Err(ImageError::LinuxSize {
            image_bytes,
            file_bytes,
        });
    }
    let text_offset = match kind {
        LinuxKind::Arm64 if is_old => ARM64_OLD_TEXT_OFFSET,
        _ => field(TEXT_OFFSET),
    };
    Ok(LinuxImage {
        kind,
        bytes,
        text_offset,
        memory_bytes: image_bytes.max(file_bytes),
    })
}
