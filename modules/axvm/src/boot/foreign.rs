// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Files that people name as kernels and that are none.
//!
//! A flat binary may be anything, so that these would be run as code. Called
//! by `image` after every format of kernels was tried.

use super::{
    Foreign,
    bytes::{has_magic, le64},
};

/// What begins with what.
const MAGICS: &[(&[u8], Foreign)] = &[
    (b"\x1f\x8b", Foreign::Gzip),
    (b"\x28\xb5\x2f\xfd", Foreign::Zstd),
    (b"\xfd7zXZ\0", Foreign::Xz),
    (b"BZh", Foreign::Bzip2),
    (b"\x04\x22\x4d\x18", Foreign::Lz4),
    (b"\x02\x21\x4c\x18", Foreign::Lz4),
    (b"\x27\x05\x19\x56", Foreign::UImage),
    (b"\xd0\x0d\xfe\xed", Foreign::DeviceTree),
    (b"07070", Foreign::Cpio),
    (b"QFI\xfb", Foreign::Qcow2),
];

/// Offset of the header that marks a PE file, in its DOS header.
const PE_OFFSET_FIELD: usize = 0x3c;

/// Recognises a file that is known and no kernel.
pub(super) fn recognise(bytes: &[u8]) -> Option<Foreign> {
    let known = MAGICS
        .iter()
        .find(|(magic, _)| bytes.starts_with(magic))
        .map(|&(_, foreign)| foreign);
    known.or_else(|| efi(bytes)).or_else(|| blank(bytes))
}

/// Recognises an EFI application.
fn efi(bytes: &[u8]) -> Option<Foreign> {
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    if has_magic(bytes, 4, b"zimg") {
        return Some(Foreign::EfiZboot);
    }
    let header = super::bytes::le32(bytes, PE_OFFSET_FIELD)?;
    has_magic(bytes, usize::try_from(header).ok()?, b"PE\0\0").then_some(Foreign::Efi)
}

/// Recognises a file of zeros.
fn blank(bytes: &[u8]) -> Option<Foreign> {
    let is_blank = le64(bytes, 0) == Some(0) && bytes.iter().all(|&byte| byte == 0);
    is_blank.then_some(Foreign::Blank)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_magic_names_its_file() {
        for (magic, foreign) in MAGICS {
            assert_eq!(recognise(magic), Some(*foreign));
        }
    }

    #[test]
    fn an_efi_zboot_image_is_told_from_other_efi_applications() {
        let mut image = [0; 0x100];
        image[..2].copy_from_slice(b"MZ");
        image[PE_OFFSET_FIELD] = 0x80;
        image[0x80..0x84].copy_from_slice(b"PE\0\0");
        assert_eq!(recognise(&image), Some(Foreign::Efi));
        image[4..8].copy_from_slice(b"zimg");
        assert_eq!(recognise(&image), Some(Foreign::EfiZboot));
    }

    #[test]
    fn zeros_are_no_kernel_but_a_short_zero_word_is_code() {
        assert_eq!(recognise(&[0; 64]), Some(Foreign::Blank));
        assert_eq!(recognise(&[0; 4]), None);
    }
}
