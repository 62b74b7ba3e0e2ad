// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a kernel's bytes are.
//!
//! Formats are told by their magic numbers alone, in an order in which none
//! hides another; whether this machine boots the format is for `place` to say.
//! A recognised image contradicts neither itself nor its file's length.

use super::{
    BzImage, ElfImage, ImageError, ImageFormat, LinuxImage, Multiboot, bzimage, elf, foreign,
    linux, multiboot,
};

/// A kernel of a known format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image<'a> {
    /// An ELF, perhaps with a multiboot header or a PVH note.
    Elf(ElfImage<'a>),
    /// Linux's `Image` for riscv or arm64.
    Linux(LinuxImage<'a>),
    /// Linux's bzImage for x86.
    BzImage(BzImage<'a>),
    /// A file that is no ELF, with load addresses in a multiboot header.
    Multiboot(Multiboot<'a>),
    /// Anything else: code that runs where it is put.
    Flat(&'a [u8]),
}

impl Image<'_> {
    /// Returns the format's name in messages.
    pub fn format(&self) -> ImageFormat {
        match self {
            Self::Elf(_) => ImageFormat::Elf,
            Self::Linux(image) => image.kind.format(),
            Self::BzImage(_) => ImageFormat::BzImage,
            Self::Multiboot(_) => ImageFormat::Multiboot,
            Self::Flat(_) => ImageFormat::Flat,
        }
    }
}

/// Tells what a kernel is, or why it is none.
pub fn recognise(bytes: &[u8]) -> Result<Image<'_>, ImageError> {
    if bytes.is_empty() {
        return Err(ImageError::Empty);
    }
    if let Some(elf) = elf::recognise(bytes) {
        return Ok(Image::Elf(with_multiboot(elf?, bytes)?));
    }
    if let Some(image) = linux::recognise(bytes) {
        return image.map(Image::Linux);
    }
    if let Some(image) = bzimage::recognise(bytes) {
        return image.map(Image::BzImage);
    }
    if let Some(foreign) = foreign::recognise(bytes) {
        return Err(ImageError::Foreign(foreign));
    }
    match multiboot::recognise(bytes).transpose()? {
        Some(image) if image.addresses.is_some() => Ok(Image::Multiboot(image)),
        _ => Ok(Image::Flat(bytes)),
    }
}

/// Adds the multiboot header that an ELF may contain.
fn with_multiboot<'a>(mut elf: ElfImage<'a>, bytes: &'a [u8]) -> Result<ElfImage<'a>, ImageError> {
    elf.multiboot = multiboot::recognise(bytes).transpose()?;
    Ok(elf)
}
