// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The checks behind `Bundle::parse`, in the order in which it makes them.
//!
//! Each function may rely on those before it and on nothing else. The work is
//! linear in the size of the index, which has an upper bound (`limits.rs`),
//! but for the VM names, of which there are few enough to compare in pairs.
//!
//! Spec: docs/bundle.md, "Checks on reading".

use core::cmp::Ordering;

use crate::checksum;
use crate::error::BundleError;
use crate::layout::{
    BODY_ALIGN, BodyRecord, CHECKED_FROM, FileRecord, Header, MAGIC, NO_BODY, NameRecord, VERSION,
    VmRecord,
};
use crate::limits::{
    MAX_BODIES, MAX_FILES, MAX_FILES_PER_VM, MAX_NAME_SIZE, MAX_NAMES_SIZE, MAX_VMS,
};
use crate::read::Bundle;

/// Checks what the header says of itself.
pub(crate) fn header(header: &Header) -> Result<(), BundleError> {
    if header.magic != MAGIC {
        return Err(BundleError::WrongMagic {
            found: header.magic,
        });
    }
    if header.version.get() != VERSION {
        return Err(BundleError::UnknownVersion {
            found: header.version.get(),
        });
    }
    at_most(header.vm_count.get(), MAX_VMS, |count| {
        BundleError::TooManyVms { count }
    })?;
    at_most(header.file_count.get(), MAX_FILES, |count| {
        BundleError::TooManyFiles { count }
    })?;
    at_most(header.body_count.get(), MAX_BODIES, |count| {
        BundleError::TooManyBodies { count }
    })?;
    at_most(header.names_size.get(), MAX_NAMES_SIZE, |size| {
        BundleError::TooManyNames { size }
    })
}

fn at_most(
    value: u32,
    limit: usize,
    error: impl FnOnce(u32) -> BundleError,
) -> Result<(), BundleError> {
    if u64::from(value) > limit as u64 {
        Err(error(value))
    } else {
        Ok(())
    }
}

/// Cuts `bytes` to the size that the header states.
pub(crate) fn whole<'a>(header: &Header, bytes: &'a [u8]) -> Result<&'a [u8], BundleError> {
    let stated = header.total_size.get();
    usize::try_from(stated)
        .ok()
        .and_then(|size| bytes.get(..size))
        .ok_or(BundleError::Truncated {
            stated,
            actual: bytes.len() as u64,
        })
}

/// Cuts `bytes` to the index after checking its size and checksum.
pub(crate) fn index<'a>(header: &Header, bytes: &'a [u8]) -> Result<&'a [u8], BundleError> {
    if u64::from(header.index_size.get()) != counted_index_size(header) {
        return Err(index_size(header));
    }
    let size = usize::try_from(header.index_size.get()).unwrap_or(usize::MAX);
    let index = bytes.get(..size).ok_or(index_size(header))?;
    let found = checksum::digest(index.get(CHECKED_FROM..).unwrap_or(&[]));
    let stated = header.index_checksum.get();
    if found != stated {
        return Err(BundleError::IndexChecksum { stated, found });
    }
    Ok(index)
}

/// Returns the error for an index that is not as long as its parts.
pub(crate) fn index_size(header: &Header) -> BundleError {
    BundleError::IndexSize {
        stated: u64::from(header.index_size.get()),
        computed: counted_index_size(header),
        total: header.total_size.get(),
    }
}

fn counted_index_size(header: &Header) -> u64 {
    let table = |count: u32, record: usize| u64::from(count).saturating_mul(record as u64);
    [
        table(header.vm_count.get(), size_of::<VmRecord>()),
        table(header.file_count.get(), size_of::<FileRecord>()),
        table(header.body_count.get(), size_of::<BodyRecord>()),
        table(header.names_size.get(), 1),
    ]
    .iter()
    .fold(size_of::<Header>() as u64, |sum, size| {
        sum.saturating_add(*size)
    })
}

/// Checks that the bodies lie on pages, in order, apart, and within the bundle.
pub(crate) fn bodies(bundle: &Bundle<'_>, index_size: u64) -> Result<(), BundleError> {
    let mut free_from = index_size;
    for (body, record) in bundle.bodies.iter().enumerate() {
        let (offset, size) = (record.offset.get(), record.size.get());
        if !offset.is_multiple_of(BODY_ALIGN) {
            return Err(BundleError::BodyMisaligned { body, offset });
        }
        if offset < free_from {
            return Err(BundleError::BodyOverlap {
                body,
                offset,
                free_from,
            });
        }
        free_from = offset
            .checked_add(size)
            .filter(|end| *end <= bundle.bytes.len() as u64)
            .ok_or(BundleError::BodyRange { body, offset, size })?;
    }
    Ok(())
}

/// Checks the VM table, and with it the file table.
pub(crate) fn vms(bundle: &Bundle<'_>) -> Result<(), BundleError> {
    let mut rest = bundle.files;
    for (vm, record) in bundle.vms.iter().enumerate() {
        name(bundle, record.name)?;
        body(bundle, record.body.get())?;
        let count = record.file_count.get();
        at_most(count, MAX_FILES_PER_VM, |count| {
            BundleError::TooManyFilesOfVm { vm, count }
        })?;
        let (files, after) = usize::try_from(count)
            .ok()
            .and_then(|count| rest.split_at_checked(count))
            .ok_or_else(|| file_count(bundle))?;
        files_of_vm(bundle, vm, files)?;
        rest = after;
    }
    if !rest.is_empty() {
        return Err(file_count(bundle));
    }
    vm_names_differ(bundle)
}

fn file_count(bundle: &Bundle<'_>) -> BundleError {
    let claimed = bundle.vms.iter().fold(0u64, |sum, vm| {
        sum.saturating_add(u64::from(vm.file_count.get()))
    });
    BundleError::FileCount {
        stated: bundle.files.len() as u64,
        claimed,
    }
}

fn vm_names_differ(bundle: &Bundle<'_>) -> Result<(), BundleError> {
    for (second, record) in bundle.vms.iter().enumerate() {
        let name = bundle.name(record.name);
        let earlier = bundle.vms.iter().take(second);
        if let Some(first) = earlier
            .into_iter()
            .position(|vm| bundle.name(vm.name) == name)
        {
            return Err(BundleError::DuplicateVm { first, second });
        }
    }
    Ok(())
}

fn files_of_vm(bundle: &Bundle<'_>, vm: usize, files: &[FileRecord]) -> Result<(), BundleError> {
    let mut previous = None;
    for (entry, record) in files.iter().enumerate() {
        let path = name(bundle, record.path)?;
        match record.body.get() {
            NO_BODY => name(bundle, record.reason).map(|_| ())?,
            number => body(bundle, number)?,
        }
        let file = entry.saturating_sub(1);
        match previous.map(|previous: &str| previous.cmp(path)) {
            Some(Ordering::Equal) => return Err(BundleError::DuplicateFile { vm, file }),
            Some(Ordering::Greater) => return Err(BundleError::FilesUnordered { vm, file }),
            Some(Ordering::Less) | None => previous = Some(path),
        }
    }
    Ok(())
}

fn name<'a>(bundle: &Bundle<'a>, name: NameRecord) -> Result<&'a str, BundleError> {
    let (offset, size) = (name.offset.get(), name.size.get());
    if size == 0 {
        return Err(BundleError::NameSize { size });
    }
    at_most(size, MAX_NAME_SIZE, |size| BundleError::NameSize { size })?;
    bundle
        .name(name)
        .ok_or(BundleError::NameRange { offset, size })
}

fn body(bundle: &Bundle<'_>, number: u32) -> Result<(), BundleError> {
    match usize::try_from(number) {
        Ok(index) if index < bundle.bodies.len() => Ok(()),
        _ => Err(BundleError::NoSuchBody { body: number }),
    }
}
