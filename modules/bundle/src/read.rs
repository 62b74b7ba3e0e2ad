// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The reader: a bundle in memory, without copying or allocating.
//!
//! Called by the hypervisor's configuration code and by the host CLI. `parse`
//! checks header, tables and names once; the accessors only follow what it has
//! accepted. They fall back to "nothing there" instead of
//! indexing, so a mistake here cannot become a panic. All slices
//! handed out live as long as the bundle's bytes, not as the `Bundle`.
//!
//! Spec: docs/bundle.md.

use core::slice;

use zerocopy::FromBytes;

use crate::check;
use crate::checksum;
use crate::error::{BundleError, FileError};
use crate::layout::{BodyRecord, FileRecord, Header, NO_BODY, NameRecord, VmRecord};
use crate::limits::MAX_TEXT_SIZE;

/// A bundle whose index has been checked.
#[derive(Clone, Copy)]
pub struct Bundle<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) vms: &'a [VmRecord],
    pub(crate) files: &'a [FileRecord],
    pub(crate) bodies: &'a [BodyRecord],
    pub(crate) names: &'a str,
}

impl<'a> Bundle<'a> {
    /// Checks the index of the bundle that `bytes` start with; bytes after the bundle's end are ignored.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let actual = bytes.len();
        let (header, _) =
            Header::ref_from_prefix(bytes).map_err(|_| BundleError::NoHeader { actual })?;
        check::header(header)?;
        let bytes = check::whole(header, bytes)?;
        let index = check::index(header, bytes)?;
        let bundle = Self::split(header, bytes, index)?;
        check::bodies(&bundle, index.len() as u64)?;
        check::vms(&bundle)?;
        Ok(bundle)
    }

    /// Takes the index apart; its size is known to be what the counts make.
    fn split(header: &Header, bytes: &'a [u8], index: &'a [u8]) -> Result<Self, BundleError> {
        let (_, rest) = split_table::<Header>(header, index, 1)?;
        let (vms, rest) = split_table(header, rest, header.vm_count.get())?;
        let (files, rest) = split_table(header, rest, header.file_count.get())?;
        let (bodies, names) = split_table(header, rest, header.body_count.get())?;
        let names = core::str::from_utf8(names).map_err(|error| BundleError::NameNotUtf8 {
            offset: error.valid_up_to(),
        })?;
        Ok(Self {
            bytes,
            vms,
            files,
            bodies,
            names,
        })
    }

    /// Returns the bundle's own size in bytes, without what follows it.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the VM files in the order in which they were named.
    pub fn vms(&self) -> Vms<'a> {
        Vms {
            bundle: *self,
            records: self.vms.iter(),
            files: self.files,
        }
    }

    /// Returns the files that `vm` refers to, in ascending order of their paths.
    pub fn files(&self, vm: &VmEntry<'a>) -> Files<'a> {
        Files {
            bundle: *self,
            records: vm.files.iter(),
        }
    }

    /// Looks up the file that `vm` refers to by `path`, exactly as its VM file has it.
    pub fn file(&self, vm: &VmEntry<'a>, path: &str) -> Option<File<'a>> {
        let found = vm
            .files
            .binary_search_by(|record| self.name(record.path).unwrap_or("").cmp(path))
            .ok()?;
        self.resolve(vm.files.get(found)?)
    }

    pub(crate) fn name(&self, name: NameRecord) -> Option<&'a str> {
        let start = usize::try_from(name.offset.get()).ok()?;
        let size = usize::try_from(name.size.get()).ok()?;
        self.names.get(start..start.checked_add(size)?)
    }

    fn body(&self, number: u32) -> Option<Body<'a>> {
        let record = self.bodies.get(usize::try_from(number).ok()?)?;
        let offset = usize::try_from(record.offset.get()).ok()?;
        let size = usize::try_from(record.size.get()).ok()?;
        let bytes = self.bytes.get(offset..offset.checked_add(size)?)?;
        Some(Body {
            offset,
            bytes,
            checksum: record.checksum.get(),
        })
    }

    fn resolve(&self, record: &FileRecord) -> Option<File<'a>> {
        let path = self.name(record.path)?;
        let content = match record.body.get() {
            NO_BODY => Err(self.name(record.reason)?),
            number => Ok(self.body(number)?),
        };
        Some(File { path, content })
    }

    fn resolve_vm(&self, record: &VmRecord, files: &'a [FileRecord]) -> Option<VmEntry<'a>> {
        let file = File {
            path: self.name(record.name)?,
            content: Ok(self.body(record.body.get())?),
        };
        Some(VmEntry { file, files })
    }
}

fn split_table<'a, T>(
    header: &Header,
    bytes: &'a [u8],
    count: u32,
) -> Result<(&'a [T], &'a [u8]), BundleError>
where
    T: FromBytes + zerocopy::Immutable + zerocopy::KnownLayout + zerocopy::Unaligned,
{
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    <[T]>::ref_from_prefix_with_elems(bytes, count).map_err(|_| check::index_size(header))
}

impl core::fmt::Debug for Bundle<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Bundle")
            .field("size", &self.bytes.len())
            .field("vms", &self.vms.len())
            .field("files", &self.files.len())
            .field("bodies", &self.bodies.len())
            .finish()
    }
}

/// A VM file and the files it refers to.
#[derive(Clone, Copy)]
pub struct VmEntry<'a> {
    file: File<'a>,
    files: &'a [FileRecord],
}

impl<'a> VmEntry<'a> {
    /// Returns the VM file's path as it was named on the command line.
    pub fn name(&self) -> &'a str {
        self.file.path
    }

    /// Returns the VM file itself.
    pub fn file(&self) -> &File<'a> {
        &self.file
    }

    /// Returns the text of the VM file after checking it.
    pub fn text(&self) -> Result<&'a str, FileError<'a>> {
        if let Some(size) = self.file.size().filter(|size| *size > MAX_TEXT_SIZE) {
            return Err(FileError::TextTooLarge { size });
        }
        core::str::from_utf8(self.file.bytes()?).map_err(|error| FileError::TextNotUtf8 {
            offset: error.valid_up_to(),
        })
    }
}

/// A file of a bundle, present or missing.
#[derive(Clone, Copy)]
pub struct File<'a> {
    path: &'a str,
    content: Result<Body<'a>, &'a str>,
}

impl<'a> File<'a> {
    /// Returns the path as the VM file has it.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Returns the content, after comparing it with its checksum.
    ///
    /// This reads all of it: keep the slice, which lives as long as the bundle's bytes, instead of asking again.
    pub fn bytes(&self) -> Result<&'a [u8], FileError<'a>> {
        self.content
            .map_err(|reason| FileError::Missing { reason })?
            .checked()
    }

    /// Checks that the file is present and unchanged.
    pub fn verify(&self) -> Result<(), FileError<'a>> {
        self.bytes().map(|_| ())
    }

    /// Returns the size in bytes unless the file is missing.
    pub fn size(&self) -> Option<usize> {
        self.body().map(|body| body.bytes.len())
    }

    /// Returns why the file is missing, if it is.
    pub fn missing(&self) -> Option<&'a str> {
        self.content.err()
    }

    /// Returns where the content lies unless the file is missing.
    pub fn body(&self) -> Option<Body<'a>> {
        self.content.ok()
    }
}

/// Where the content of a file lies; several files may share one.
#[derive(Clone, Copy)]
pub struct Body<'a> {
    offset: usize,
    bytes: &'a [u8],
    checksum: u64,
}

impl<'a> Body<'a> {
    /// Returns the distance from the bundle's first byte.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Returns the checksum that the bundle states.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    fn checked(self) -> Result<&'a [u8], FileError<'a>> {
        let found = checksum::digest(self.bytes);
        if found != self.checksum {
            return Err(FileError::Checksum {
                stated: self.checksum,
                found,
            });
        }
        Ok(self.bytes)
    }
}

/// Iterator over the VM files of a bundle.
#[derive(Clone)]
pub struct Vms<'a> {
    bundle: Bundle<'a>,
    records: slice::Iter<'a, VmRecord>,
    files: &'a [FileRecord],
}

impl<'a> Iterator for Vms<'a> {
    type Item = VmEntry<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.records.next()?;
        let count = usize::try_from(record.file_count.get()).ok()?;
        let (files, rest) = self.files.split_at_checked(count)?;
        self.files = rest;
        self.bundle.resolve_vm(record, files)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for Vms<'_> {}

/// Iterator over the files that one VM file refers to.
#[derive(Clone)]
pub struct Files<'a> {
    bundle: Bundle<'a>,
    records: slice::Iter<'a, FileRecord>,
}

impl<'a> Iterator for Files<'a> {
    type Item = File<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.bundle.resolve(self.records.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl ExactSizeIterator for Files<'_> {}
