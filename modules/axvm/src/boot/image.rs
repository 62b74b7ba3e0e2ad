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

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::{super::samples, *};
    use crate::boot::{Foreign, LinuxKind};

    const RAM: u64 = 0x8000_0000;

    fn formats(bytes: &[u8]) -> ImageFormat {
        recognise(bytes).unwrap().format()
    }

    fn plain_elf() -> Vec<u8> {
        let segment = samples::Segment::load(RAM, RAM, 64, 128);
        samples::elf(samples::EM_RISCV, RAM, &[segment])
    }

    /// One valid image of each format.
    fn all() -> Vec<Vec<u8>> {
        let mut multiboot = samples::multiboot_header(1 << 16, [0x10_0000, 0x10_0000, 0, 0, 0]);
        multiboot.extend([0xf4; 64]);
        let note = samples::Segment::pvh_note(0x10_0000);
        let segment = samples::Segment::load(0x10_0000, 0x10_0000, 64, 64);
        vec![
            plain_elf(),
            samples::elf(samples::EM_X86_64, 0x10_0000, &[segment, note]),
            samples::linux(LinuxKind::Riscv, 0x20_0000, 4096, 100),
            samples::linux(LinuxKind::Arm64, 0, 4096, 100),
            samples::bzimage(16 << 20, 1 << 20, 4096),
            multiboot,
        ]
    }

    #[test]
    fn each_format_is_recognised() {
        let formats: Vec<_> = all().iter().map(|image| formats(image)).collect();
        let expected = [
            ImageFormat::Elf,
            ImageFormat::Elf,
            ImageFormat::LinuxRiscv,
            ImageFormat::LinuxArm64,
            ImageFormat::BzImage,
            ImageFormat::Multiboot,
        ];
        assert_eq!(formats, expected);
    }

    #[test]
    fn what_is_nothing_else_is_flat_and_nothing_is_refused() {
        assert_eq!(formats(&[0x13, 0, 0, 0]), ImageFormat::Flat);
        assert_eq!(recognise(&[]), Err(ImageError::Empty));
    }

    #[test]
    fn compressed_kernels_are_refused_with_the_remedy() {
        let error = recognise(b"\x1f\x8b\x08 and more").unwrap_err();
        assert_eq!(error, ImageError::Foreign(Foreign::Gzip));
        assert!(alloc::format!("{error}").contains("gunzip"));
    }

    #[test]
    fn a_linux_image_that_is_an_efi_application_too_is_a_linux_image() {
        let mut image = samples::linux(LinuxKind::Arm64, 0, 4096, 100);
        samples::put(&mut image, 0, b"MZ");
        assert_eq!(formats(&image), ImageFormat::LinuxArm64);
    }

    #[test]
    fn an_elf_carries_its_multiboot_header_and_its_pvh_note() {
        let mut segment = samples::Segment::load(0x10_0000, 0x10_0000, 64, 64);
        segment.bytes = samples::multiboot_header(0, [0; 5]);
        let note = samples::Segment::pvh_note(0x10_0040);
        let image = samples::elf(samples::EM_X86_64, 0x10_0020, &[segment, note]);
        let Ok(Image::Elf(elf)) = recognise(&image) else {
            panic!("no ELF");
        };
        assert_eq!(elf.pvh_entry, Some(0x10_0040));
        assert_eq!(elf.multiboot.map(|image| image.addresses), Some(None));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = recognise(&bytes);
        }

        #[test]
        fn no_change_of_a_valid_image_panics(
            format in 0..6usize,
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
            length in any::<prop::sample::Index>(),
        ) {
            let mut image = all().swap_remove(format);
            // Headers are where it matters: most of a file is not looked at.
            let header = image.len().min(0x300);
            for (index, value) in changes {
                image[index.index(header)] = value;
            }
            let _ = recognise(&image);
            let _ = recognise(&image[..length.index(image.len())]);
        }

        #[test]
        fn no_extreme_field_panics(
            format in 0..6usize,
            offset in 0..0x280usize,
            value in prop::sample::select(vec![0, 1, 0xffff_ffff, 1 << 31, 1 << 63, u64::MAX]),
        ) {
            let mut image = all().swap_remove(format);
            let end = image.len().min(offset + 8);
            if offset < end {
                image[offset..end].copy_from_slice(&value.to_le_bytes()[..end - offset]);
            }
            let _ = recognise(&image);
        }
    }
}
