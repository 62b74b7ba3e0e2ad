// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the reader against bytes that no writer made.
//!
//! Each refusal of `Bundle::parse` has a test that changes one thing in a valid
//! bundle, mends the index checksum so that the change itself is met, and
//! names the error with the offending value. Random bytes and random changes
//! must give an error or a bundle that can be walked, never a panic.

use std::mem::offset_of;

use proptest::prelude::*;

use crate::layout::{BodyRecord, CHECKED_FROM, FileRecord, Header, VmRecord};
use crate::limits::{MAX_BODIES, MAX_FILES};
use crate::{
    Bundle, BundleError, FileError, FileInput, FileSource, MAX_FILES_PER_VM, MAX_NAME_SIZE,
    MAX_NAMES_SIZE, MAX_TEXT_SIZE, MAX_VMS, VERSION, VmInput, Writer, checksum,
};

const HEADER: usize = size_of::<Header>();
const VMS: usize = HEADER;
const FILES: usize = VMS + 2 * size_of::<VmRecord>();
const BODIES: usize = FILES + 3 * size_of::<FileRecord>();
const NAMES: usize = BODIES + 4 * size_of::<BodyRecord>();

/// Two VM files, three files (one of them missing), four bodies, the names
/// "a.toml", "Image", "disk", "gone" and "b.toml".
fn valid() -> Vec<u8> {
    let mut writer = Writer::new();
    let file = |path, source| FileInput { path, source };
    let files = vec![
        file("Image", FileSource::Present(b"kernel")),
        file("disk", FileSource::Present(b"sectors")),
    ];
    writer
        .push(VmInput {
            name: "a.toml",
            text: b"a",
            files,
        })
        .unwrap();
    let files = vec![file("gone", FileSource::Missing("ENOENT"))];
    writer
        .push(VmInput {
            name: "b.toml",
            text: b"b",
            files,
        })
        .unwrap();
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    bytes
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    bytes[at..at + N].copy_from_slice(&value);
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    put(bytes, at, value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    put(bytes, at, value.to_le_bytes());
}

fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn mend(bytes: &mut [u8]) {
    let size = offset_of!(Header, index_size);
    let end = u32::from_le_bytes(bytes[size..size + 4].try_into().unwrap()) as usize;
    if let Some(index) = bytes.get(CHECKED_FROM..end) {
        let checksum = checksum::digest(index);
        put_u64(bytes, offset_of!(Header, index_checksum), checksum);
    }
}

/// Returns the error after `change`, with the index checksum mended.
fn error_after(change: impl FnOnce(&mut Vec<u8>)) -> BundleError {
    let mut bytes = valid();
    change(&mut bytes);
    mend(&mut bytes);
    Bundle::parse(&bytes).expect_err("the change is harmful")
}

/// Uses everything a bundle offers.
fn walk(bytes: &[u8]) {
    let Ok(bundle) = Bundle::parse(bytes) else {
        return;
    };
    assert!(bundle.size() <= bytes.len());
    assert_eq!(bundle.vms().count(), bundle.vms().len());
    for vm in bundle.vms() {
        let _ = (vm.name(), vm.text());
        assert_eq!(bundle.files(&vm).count(), bundle.files(&vm).len());
        for file in bundle.files(&vm) {
            let _ = file.verify();
            let same = bundle
                .file(&vm, file.path())
                .expect("what is listed is found");
            assert_eq!(same.path(), file.path());
        }
    }
}

#[test]
fn the_bundle_of_these_tests_is_valid_wherever_it_lies_and_whatever_follows() {
    for shift in 0..8 {
        let mut bytes = vec![0xEE; shift];
        bytes.extend(valid());
        bytes.extend([0xEE; 5000]);
        let bundle = Bundle::parse(&bytes[shift..]).unwrap();
        assert_eq!(bundle.size(), valid().len());
        let vm = bundle.vms().next().unwrap();
        assert_eq!(
            bundle.file(&vm, "disk").unwrap().bytes(),
            Ok(&b"sectors"[..])
        );
    }
}

#[test]
fn too_few_bytes_for_a_header_are_refused() {
    for actual in 0..HEADER {
        let bytes = valid();
        assert_eq!(
            Bundle::parse(&bytes[..actual]).unwrap_err(),
            BundleError::NoHeader { actual }
        );
    }
}

#[test]
fn another_magic_is_refused() {
    let error = error_after(|bytes| bytes[7] = b'X');
    assert_eq!(
        error,
        BundleError::WrongMagic {
            found: *b"AXBUNDLX"
        }
    );
}

#[test]
fn an_unknown_version_is_refused_before_anything_else_is_believed() {
    let error = error_after(|bytes| {
        bytes[12..HEADER].fill(0xFF);
        put_u32(bytes, offset_of!(Header, version), VERSION + 1);
    });
    assert_eq!(error, BundleError::UnknownVersion { found: VERSION + 1 });
}

#[test]
fn every_truncation_is_refused_with_both_sizes() {
    let bytes = valid();
    let stated = bytes.len() as u64;
    for actual in HEADER..bytes.len() {
        let error = Bundle::parse(&bytes[..actual]).unwrap_err();
        assert_eq!(
            error,
            BundleError::Truncated {
                stated,
                actual: actual as u64
            }
        );
    }
}

#[test]
fn counts_that_do_not_make_the_index_size_are_refused() {
    let error = error_after(|bytes| put_u32(bytes, offset_of!(Header, body_count), 5));
    assert!(
        matches!(error, BundleError::IndexSize { stated, computed, .. } if computed == stated + 24)
    );
}

#[test]
fn an_index_larger_than_the_bundle_is_refused() {
    let error = error_after(|bytes| put_u64(bytes, offset_of!(Header, total_size), 100));
    assert!(matches!(error, BundleError::IndexSize { total: 100, .. }));
}

#[test]
fn every_changed_byte_of_the_index_is_noticed() {
    let bytes = valid();
    let size = NAMES + "a.tomlImagediskb.tomlgoneENOENT".len();
    for at in 0..size {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert!(Bundle::parse(&changed).is_err(), "byte {at}");
    }
    let mut changed = bytes.clone();
    changed[NAMES] ^= 1;
    let stated = get_u64(&bytes, offset_of!(Header, index_checksum));
    let error = Bundle::parse(&changed).unwrap_err();
    assert!(matches!(error, BundleError::IndexChecksum { stated: s, .. } if s == stated));
}

#[test]
fn too_many_of_anything_are_refused() {
    let cases = [
        (offset_of!(Header, vm_count), MAX_VMS),
        (offset_of!(Header, file_count), MAX_FILES),
        (offset_of!(Header, body_count), MAX_BODIES),
        (offset_of!(Header, names_size), MAX_NAMES_SIZE),
    ];
    let errors = cases.map(|(at, limit)| error_after(|bytes| put_u32(bytes, at, limit as u32 + 1)));
    assert_eq!(errors[0], BundleError::TooManyVms { count: 257 });
    assert_eq!(errors[1], BundleError::TooManyFiles { count: 16385 });
    assert_eq!(errors[2], BundleError::TooManyBodies { count: 16641 });
    assert_eq!(
        errors[3],
        BundleError::TooManyNames {
            size: (4 << 20) + 1
        }
    );
}

#[test]
fn too_many_files_of_one_vm_file_are_refused() {
    let count = MAX_FILES_PER_VM as u32 + 1;
    let at = VMS + size_of::<VmRecord>() + offset_of!(VmRecord, file_count);
    let error = error_after(|bytes| put_u32(bytes, at, count));
    assert_eq!(error, BundleError::TooManyFilesOfVm { vm: 1, count });
}

#[test]
fn names_that_are_not_utf8_are_refused() {
    let error = error_after(|bytes| bytes[NAMES + 3] = 0xFF);
    assert_eq!(error, BundleError::NameNotUtf8 { offset: 3 });
}

#[test]
fn a_name_outside_the_names_or_inside_a_character_is_refused() {
    let error = error_after(|bytes| put_u32(bytes, VMS, u32::MAX));
    assert_eq!(
        error,
        BundleError::NameRange {
            offset: u32::MAX,
            size: 6
        }
    );
    let error = error_after(|bytes| {
        put(bytes, NAMES, *"ü".as_bytes().first_chunk::<2>().unwrap());
        put_u32(bytes, VMS, 1);
    });
    assert_eq!(error, BundleError::NameRange { offset: 1, size: 6 });
}

#[test]
fn an_empty_or_overlong_name_is_refused() {
    for size in [0, MAX_NAME_SIZE as u32 + 1] {
        let error = error_after(|bytes| put_u32(bytes, VMS + 4, size));
        assert_eq!(error, BundleError::NameSize { size });
        let reason = FILES + 2 * size_of::<FileRecord>() + offset_of!(FileRecord, reason) + 4;
        let error = error_after(|bytes| put_u32(bytes, reason, size));
        assert_eq!(error, BundleError::NameSize { size });
    }
}

#[test]
fn a_body_off_its_page_is_refused() {
    let error = error_after(|bytes| put_u64(bytes, BODIES, 4097));
    assert_eq!(
        error,
        BundleError::BodyMisaligned {
            body: 0,
            offset: 4097
        }
    );
}

#[test]
fn a_body_over_the_index_or_another_body_is_refused() {
    let error = error_after(|bytes| put_u64(bytes, BODIES, 0));
    assert!(matches!(
        error,
        BundleError::BodyOverlap {
            body: 0,
            offset: 0,
            ..
        }
    ));
    let error = error_after(|bytes| put_u64(bytes, BODIES + size_of::<BodyRecord>(), 4096));
    assert_eq!(
        error,
        BundleError::BodyOverlap {
            body: 1,
            offset: 4096,
            free_from: 4097
        }
    );
    let error = error_after(|bytes| put_u64(bytes, BODIES + 8, 4097));
    assert_eq!(
        error,
        BundleError::BodyOverlap {
            body: 1,
            offset: 8192,
            free_from: 8193
        }
    );
}

#[test]
fn a_body_outside_the_bundle_is_refused_even_where_the_sum_wraps() {
    for size in [0, 1, u64::MAX] {
        let offset = 0xFFFF_FFFF_FFFF_F000;
        let error = error_after(|bytes| {
            put_u64(bytes, BODIES, offset);
            put_u64(bytes, BODIES + 8, size);
        });
        assert_eq!(
            error,
            BundleError::BodyRange {
                body: 0,
                offset,
                size
            }
        );
    }
}

#[test]
fn a_body_that_does_not_exist_is_refused() {
    let error = error_after(|bytes| put_u32(bytes, VMS + offset_of!(VmRecord, body), 4));
    assert_eq!(error, BundleError::NoSuchBody { body: 4 });
    let error = error_after(|bytes| put_u32(bytes, VMS + offset_of!(VmRecord, body), u32::MAX));
    assert_eq!(error, BundleError::NoSuchBody { body: u32::MAX });
    let error = error_after(|bytes| put_u32(bytes, FILES + offset_of!(FileRecord, body), 9));
    assert_eq!(error, BundleError::NoSuchBody { body: 9 });
}

#[test]
fn files_that_belong_to_no_vm_file_or_to_two_are_refused() {
    for (count, claimed) in [(1, 2), (3, 4)] {
        let error = error_after(|bytes| {
            put_u32(bytes, VMS + offset_of!(VmRecord, file_count), count);
        });
        assert_eq!(error, BundleError::FileCount { stated: 3, claimed });
    }
}

#[test]
fn two_vm_files_of_one_name_are_refused() {
    let error = error_after(|bytes| {
        let name: [u8; 8] = bytes[VMS..VMS + 8].try_into().unwrap();
        put(bytes, VMS + size_of::<VmRecord>(), name);
    });
    assert_eq!(
        error,
        BundleError::DuplicateVm {
            first: 0,
            second: 1
        }
    );
}

#[test]
fn a_path_twice_or_out_of_order_in_one_vm_file_is_refused() {
    let second = FILES + size_of::<FileRecord>();
    let error = error_after(|bytes| {
        let path: [u8; 8] = bytes[FILES..FILES + 8].try_into().unwrap();
        put(bytes, second, path);
    });
    assert_eq!(error, BundleError::DuplicateFile { vm: 0, file: 0 });
    let error = error_after(|bytes| {
        let (one, two) = (FILES, second);
        for at in 0..size_of::<FileRecord>() {
            bytes.swap(one + at, two + at);
        }
    });
    assert_eq!(error, BundleError::FilesUnordered { vm: 0, file: 0 });
}

#[test]
fn a_changed_body_is_refused_by_its_own_file_only() {
    let mut bytes = valid();
    let at = get_u64(&bytes, BODIES + size_of::<BodyRecord>()) as usize;
    bytes[at] ^= 1;
    let bundle = Bundle::parse(&bytes).unwrap();
    let vm = bundle.vms().next().unwrap();
    let error = bundle.file(&vm, "Image").unwrap().verify().unwrap_err();
    let stated = checksum::digest(b"kernel");
    assert_eq!(
        error,
        FileError::Checksum {
            stated,
            found: checksum::digest(b"jernel")
        }
    );
    assert_eq!(bundle.file(&vm, "disk").unwrap().verify(), Ok(()));
    assert_eq!(vm.text(), Ok("a"));
}

#[test]
fn a_vm_file_that_is_no_text_or_too_large_is_refused_by_itself_only() {
    let mut writer = Writer::new();
    writer
        .push(VmInput {
            name: "x",
            text: b"ab\xFF",
            files: vec![],
        })
        .unwrap();
    writer
        .push(VmInput {
            name: "y",
            text: b"y",
            files: vec![],
        })
        .unwrap();
    let mut bytes = Vec::new();
    writer.write_to(&mut bytes).unwrap();
    let texts: Vec<_> = Bundle::parse(&bytes)
        .unwrap()
        .vms()
        .map(|vm| vm.text())
        .collect();
    assert_eq!(texts, [Err(FileError::TextNotUtf8 { offset: 2 }), Ok("y")]);

    let size = MAX_TEXT_SIZE + 1;
    let total = size_of::<Header>() + 2 * size_of::<VmRecord>();
    let last = total + size_of::<BodyRecord>();
    put_u64(&mut bytes, last + 8, size as u64);
    bytes.resize(8192 + size, 0);
    let stated = bytes.len() as u64;
    put_u64(&mut bytes, offset_of!(Header, total_size), stated);
    mend(&mut bytes);
    let texts: Vec<_> = Bundle::parse(&bytes)
        .unwrap()
        .vms()
        .map(|vm| vm.text())
        .collect();
    assert_eq!(texts[1], Err(FileError::TextTooLarge { size }));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
        walk(&bytes);
    }

    #[test]
    fn no_bytes_behind_a_plausible_header_make_the_reader_panic(
        rest in prop::collection::vec(any::<u8>(), 40..400),
        counts in prop::array::uniform4(0u32..8),
    ) {
        let mut bytes = valid()[..12].to_vec();
        bytes.extend(rest);
        let total = bytes.len() as u64;
        put_u64(&mut bytes, offset_of!(Header, total_size), total);
        for (number, count) in counts.iter().enumerate() {
            put_u32(&mut bytes, offset_of!(Header, vm_count) + 4 * number, *count);
        }
        let index = HEADER as u32 + counts[0] * 16 + counts[1] * 20 + counts[2] * 24 + counts[3];
        put_u32(&mut bytes, offset_of!(Header, index_size), index);
        mend(&mut bytes);
        walk(&bytes);
    }

    #[test]
    fn no_change_to_a_valid_bundle_makes_the_reader_panic(
        changes in prop::collection::vec((0usize..NAMES + 40, any::<u8>()), 1..6),
        is_mended: bool,
        cut in 0usize..20000,
    ) {
        let mut bytes = valid();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if is_mended {
            mend(&mut bytes);
        }
        walk(&bytes);
        bytes.truncate(cut);
        walk(&bytes);
    }

    #[test]
    fn no_small_number_in_any_field_makes_the_reader_panic(
        changes in prop::collection::vec((2usize..NAMES / 4, 0u32..64), 1..4),
    ) {
        let mut bytes = valid();
        for (word, value) in changes {
            put_u32(&mut bytes, word * 4, value);
        }
        mend(&mut bytes);
        walk(&bytes);
    }
}
