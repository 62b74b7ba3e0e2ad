// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The writer: lays VM files and the files they refer to out as a bundle.
//!
//! Called by the host CLI, which decides what a VM file refers to. Contents are
//! borrowed until they are written, and equal contents are stored once.
//! Invariant: whatever `push` has accepted is within the limits of the format,
//! so that `Bundle::parse` accepts what `write_to` writes; a refused `push`
//! changes nothing.
//!
//! Spec: docs/bundle.md.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use thiserror::Error;
use zerocopy::IntoBytes;

use crate::checksum;
use crate::layout::{
    BODY_ALIGN, BodyRecord, CHECKED_FROM, FileRecord, Header, MAGIC, NO_BODY, NameRecord, VERSION,
    VmRecord,
};
use crate::limits::{MAX_FILES_PER_VM, MAX_NAME_SIZE, MAX_NAMES_SIZE, MAX_TEXT_SIZE, MAX_VMS};

/// What the host found at a path.
#[derive(Clone, Copy, Debug)]
pub enum FileSource<'a> {
    /// The content of the file.
    Present(&'a [u8]),
    /// The reason why there is none, for the hypervisor to report.
    Missing(&'a str),
}

/// A file that a VM file refers to.
#[derive(Clone, Copy, Debug)]
pub struct FileInput<'a> {
    /// The path exactly as the VM file has it.
    pub path: &'a str,
    /// Its content, or why there is none.
    pub source: FileSource<'a>,
}

/// A VM file.
#[derive(Clone, Debug)]
pub struct VmInput<'a> {
    /// Its path as it was named on the command line.
    pub name: &'a str,
    /// Its content.
    pub text: &'a [u8],
    /// The files it refers to, in any order, each path once.
    pub files: Vec<FileInput<'a>>,
}

/// Why something does not fit into a bundle, or could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The bundle is full.
    #[error("more than {MAX_VMS} VM files")]
    TooManyVms,
    /// A VM file refers to too many files.
    #[error("it refers to {count} files, at most {MAX_FILES_PER_VM} are allowed")]
    TooManyFiles {
        /// To how many it refers.
        count: usize,
    },
    /// A VM file is too large.
    #[error("it has {size} bytes, a VM file at most {MAX_TEXT_SIZE}")]
    TextTooLarge {
        /// Its size in bytes.
        size: usize,
    },
    /// A name, path or reason is empty or too long.
    #[error("a name of {size} bytes, 1 to {MAX_NAME_SIZE} are allowed")]
    NameSize {
        /// Its size in bytes.
        size: usize,
    },
    /// All names together are too long.
    #[error("the names take {size} bytes, at most {MAX_NAMES_SIZE} are allowed")]
    TooManyNames {
        /// Their size in bytes.
        size: usize,
    },
    /// There is a VM file of this name already.
    #[error("{name} is in the bundle already")]
    DuplicateVm {
        /// The name.
        name: String,
    },
    /// A VM file has the same path twice.
    #[error("{path} is given twice")]
    DuplicateFile {
        /// The path.
        path: String,
    },
    /// The bundle could not be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A bundle in the making.
#[derive(Default)]
pub struct Writer<'a> {
    vms: Vec<VmRecord>,
    files: Vec<FileRecord>,
    names: String,
    vm_names: BTreeSet<&'a str>,
    bodies: Bodies<'a>,
}

impl<'a> Writer<'a> {
    /// Returns an empty bundle.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a VM file and the files it refers to.
    pub fn push(&mut self, vm: VmInput<'a>) -> Result<(), WriteError> {
        self.check(&vm)?;
        let record = VmRecord {
            name: self.add_name(vm.name),
            body: self.bodies.add(vm.text).into(),
            file_count: to_u32(vm.files.len()).into(),
        };
        self.vms.push(record);
        self.vm_names.insert(vm.name);
        let mut files = vm.files;
        files.sort_unstable_by_key(|file| file.path);
        files.into_iter().for_each(|file| self.add_file(file));
        Ok(())
    }

    fn check(&self, vm: &VmInput<'_>) -> Result<(), WriteError> {
        if self.vms.len() >= MAX_VMS {
            return Err(WriteError::TooManyVms);
        }
        if vm.files.len() > MAX_FILES_PER_VM {
            return Err(WriteError::TooManyFiles {
                count: vm.files.len(),
            });
        }
        if vm.text.len() > MAX_TEXT_SIZE {
            return Err(WriteError::TextTooLarge {
                size: vm.text.len(),
            });
        }
        if self.vm_names.contains(vm.name) {
            return Err(WriteError::DuplicateVm {
                name: vm.name.to_owned(),
            });
        }
        let size = names_of(vm).try_fold(self.names.len(), |sum, name| match name.len() {
            size @ 1..=MAX_NAME_SIZE => Ok(sum.saturating_add(size)),
            size => Err(WriteError::NameSize { size }),
        })?;
        if size > MAX_NAMES_SIZE {
            return Err(WriteError::TooManyNames { size });
        }
        let mut paths = BTreeSet::new();
        match vm.files.iter().find(|file| !paths.insert(file.path)) {
            Some(twice) => Err(WriteError::DuplicateFile {
                path: twice.path.to_owned(),
            }),
            None => Ok(()),
        }
    }

    fn add_file(&mut self, file: FileInput<'a>) {
        let path = self.add_name(file.path);
        let (body, reason) = match file.source {
            FileSource::Present(bytes) => (self.bodies.add(bytes), self.add_name("")),
            FileSource::Missing(reason) => (NO_BODY, self.add_name(reason)),
        };
        self.files.push(FileRecord {
            path,
            body: body.into(),
            reason,
        });
    }

    fn add_name(&mut self, name: &str) -> NameRecord {
        let offset = to_u32(self.names.len());
        self.names.push_str(name);
        NameRecord {
            offset: offset.into(),
            size: to_u32(name.len()).into(),
        }
    }

    /// Writes the bundle and returns its size in bytes.
    pub fn write_to(&self, out: &mut impl io::Write) -> Result<u64, WriteError> {
        let index = self.index();
        out.write_all(&index)?;
        let mut written = index.len() as u64;
        for bytes in &self.bodies.contents {
            let padding = next_page(written).saturating_sub(written);
            io::copy(&mut io::Read::take(io::repeat(0), padding), out)?;
            out.write_all(bytes)?;
            written = end_of(written, bytes);
        }
        Ok(written)
    }

    fn index(&self) -> Vec<u8> {
        let tables = [self.vms.as_bytes(), self.files.as_bytes()].concat();
        let bodies_size = size_of::<BodyRecord>().saturating_mul(self.bodies.contents.len());
        let index_size = [
            size_of::<Header>(),
            tables.len(),
            bodies_size,
            self.names.len(),
        ]
        .iter()
        .fold(0, |sum: usize, size| sum.saturating_add(*size));
        let (bodies, total_size) = self.bodies.lay_out(index_size as u64);
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            index_size: to_u32(index_size).into(),
            index_checksum: 0.into(),
            total_size: total_size.into(),
            vm_count: to_u32(self.vms.len()).into(),
            file_count: to_u32(self.files.len()).into(),
            body_count: to_u32(bodies.len()).into(),
            names_size: to_u32(self.names.len()).into(),
        };
        let rest = [tables.as_slice(), bodies.as_bytes(), self.names.as_bytes()].concat();
        let index = [header.as_bytes(), &rest].concat();
        header.index_checksum = checksum::digest(index.split_at(CHECKED_FROM).1).into();
        [header.as_bytes(), &rest].concat()
    }
}

fn names_of<'v>(vm: &'v VmInput<'_>) -> impl Iterator<Item = &'v str> {
    let reasons = vm.files.iter().filter_map(|file| match file.source {
        FileSource::Present(_) => None,
        FileSource::Missing(reason) => Some(reason),
    });
    let paths = vm.files.iter().map(|file| file.path);
    std::iter::once(vm.name).chain(paths).chain(reasons)
}

/// The limits keep every count and name offset within 32 bits.
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn next_page(offset: u64) -> u64 {
    offset.next_multiple_of(BODY_ALIGN)
}

fn end_of(free_from: u64, bytes: &[u8]) -> u64 {
    next_page(free_from).saturating_add(bytes.len() as u64)
}

/// The contents to be stored, each once.
#[derive(Default)]
struct Bodies<'a> {
    contents: Vec<&'a [u8]>,
    checksums: Vec<u64>,
    known: BTreeMap<(usize, u64), u32>,
}

impl<'a> Bodies<'a> {
    fn add(&mut self, bytes: &'a [u8]) -> u32 {
        let checksum = checksum::digest(bytes);
        let key = (bytes.len(), checksum);
        if let Some(number) = self
            .known
            .get(&key)
            .filter(|number| self.is(**number, bytes))
        {
            return *number;
        }
        let number = to_u32(self.contents.len());
        self.contents.push(bytes);
        self.checksums.push(checksum);
        self.known.insert(key, number);
        number
    }

    /// Compares the bytes: equal checksums alone may be a coincidence.
    fn is(&self, number: u32, bytes: &[u8]) -> bool {
        self.contents
            .get(number as usize)
            .is_some_and(|content| *content == bytes)
    }

    fn lay_out(&self, index_size: u64) -> (Vec<BodyRecord>, u64) {
        let mut free_from = index_size;
        let record = |(bytes, checksum): (&&[u8], &u64)| {
            let offset = next_page(free_from);
            free_from = end_of(free_from, bytes);
            BodyRecord {
                offset: offset.into(),
                size: (bytes.len() as u64).into(),
                checksum: (*checksum).into(),
            }
        };
        let records = self
            .contents
            .iter()
            .zip(&self.checksums)
            .map(record)
            .collect();
        (records, free_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bundle, FileError};

    fn present<'a>(path: &'a str, bytes: &'a [u8]) -> FileInput<'a> {
        FileInput {
            path,
            source: FileSource::Present(bytes),
        }
    }

    fn vm<'a>(name: &'a str, files: Vec<FileInput<'a>>) -> VmInput<'a> {
        VmInput {
            name,
            text: b"[vm]\n",
            files,
        }
    }

    fn written(vms: Vec<VmInput<'_>>) -> Vec<u8> {
        let mut writer = Writer::new();
        vms.into_iter().for_each(|vm| writer.push(vm).unwrap());
        let mut out = Vec::new();
        let size = writer.write_to(&mut out).unwrap();
        assert_eq!(size, out.len() as u64);
        out
    }

    #[test]
    fn what_is_written_is_read_back_under_the_paths_as_written() {
        let missing = FileInput {
            path: "gone",
            source: FileSource::Missing("no such file"),
        };
        let files = vec![
            present("/abs/Ima ge", b"kernel"),
            present("../ü.img", b""),
            missing,
        ];
        let bytes = written(vec![vm("a b.toml", files), vm("ü.toml", vec![])]);
        let bundle = Bundle::parse(&bytes).unwrap();
        let names: Vec<_> = bundle.vms().map(|vm| vm.name()).collect();
        assert_eq!(names, ["a b.toml", "ü.toml"]);
        let first = bundle.vms().next().unwrap();
        assert_eq!(first.text(), Ok("[vm]\n"));
        assert_eq!(bundle.files(&first).len(), 3);
        let file = |path| bundle.file(&first, path).unwrap();
        assert_eq!(file("/abs/Ima ge").bytes(), Ok(&b"kernel"[..]));
        assert_eq!(file("../ü.img").bytes(), Ok(&b""[..]));
        assert_eq!(
            file("gone").bytes(),
            Err(FileError::Missing {
                reason: "no such file"
            })
        );
        assert!(bundle.file(&first, "abs/Ima ge").is_none());
    }

    #[test]
    fn the_same_path_in_two_vm_files_is_two_files() {
        let bytes = written(vec![
            vm("a", vec![present("Image", b"one")]),
            vm("b", vec![present("Image", b"two")]),
        ]);
        let bundle = Bundle::parse(&bytes).unwrap();
        let images: Vec<_> = bundle
            .vms()
            .map(|vm| bundle.file(&vm, "Image").unwrap().bytes().unwrap())
            .collect();
        assert_eq!(images, [b"one", b"two"]);
    }

    #[test]
    fn equal_contents_are_stored_once_on_a_page_of_their_own() {
        let image = vec![7; 5000];
        let bytes = written(vec![
            vm("a", vec![present("x", &image)]),
            vm("b", vec![present("y", &image)]),
        ]);
        let bundle = Bundle::parse(&bytes).unwrap();
        let offsets: Vec<_> = bundle
            .vms()
            .flat_map(|vm| bundle.files(&vm))
            .map(|file| file.body().unwrap().offset())
            .collect();
        assert_eq!(offsets, [8192, 8192]);
        assert_eq!(bytes.len(), 8192 + 5000);
    }

    #[test]
    fn an_empty_bundle_is_a_bundle() {
        let bytes = written(vec![]);
        assert_eq!(Bundle::parse(&bytes).unwrap().vms().count(), 0);
    }

    #[test]
    fn a_full_bundle_is_read_back() {
        let names: Vec<String> = (0..MAX_VMS).map(|n| format!("{n}.toml")).collect();
        let paths: Vec<String> = (0..MAX_FILES_PER_VM).map(|n| format!("{n}.img")).collect();
        let files: Vec<_> = paths
            .iter()
            .map(|path| present(path, path.as_bytes()))
            .collect();
        let bytes = written(names.iter().map(|name| vm(name, files.clone())).collect());
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(
            bundle.vms().flat_map(|vm| bundle.files(&vm)).count(),
            256 * 64
        );
    }

    #[test]
    fn what_exceeds_a_limit_or_comes_twice_is_refused_and_changes_nothing() {
        let mut writer = Writer::new();
        let long = "x".repeat(MAX_NAME_SIZE + 1);
        let text = vec![b' '; MAX_TEXT_SIZE + 1];
        writer.push(vm("a", vec![])).unwrap();
        let before = writer.index();
        let paths: Vec<String> = (0..=MAX_FILES_PER_VM).map(|n| n.to_string()).collect();
        let files: Vec<_> = paths.iter().map(|path| present(path, b"")).collect();
        let refused = [
            vm("a", vec![]),
            vm("", vec![]),
            vm(&long, vec![]),
            vm("b", vec![present("x", b"1"), present("x", b"2")]),
            vm(
                "b",
                vec![FileInput {
                    path: "x",
                    source: FileSource::Missing(""),
                }],
            ),
            vm("b", files),
            VmInput {
                name: "b",
                text: &text,
                files: vec![],
            },
        ];
        for (number, vm) in refused.into_iter().enumerate() {
            assert!(writer.push(vm).is_err(), "{number}");
            assert_eq!(writer.index(), before);
        }
    }
}
