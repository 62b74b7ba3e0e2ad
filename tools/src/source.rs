// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reading host files, each once.
//!
//! Called while packing. A file that several VM files refer to, by whatever
//! path, is read once and kept. Only regular files are read: opening a FIFO
//! would wait, and reading a device need not end.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files read so far, by their canonical path.
#[derive(Default)]
pub struct Sources {
    files: HashMap<PathBuf, Vec<u8>>,
}

impl Sources {
    /// Reads the file at `path` unless it was read before, and returns its canonical path.
    pub fn read(&mut self, path: &Path) -> Result<PathBuf, String> {
        let canonical = path.canonicalize().map_err(|error| reason(&error))?;
        if !self.files.contains_key(&canonical) {
            let bytes = read_regular(&canonical)?;
            self.files.insert(canonical.clone(), bytes);
        }
        Ok(canonical)
    }

    /// Returns the content of a file that was read.
    pub fn get(&self, canonical: &Path) -> &[u8] {
        self.files.get(canonical).map_or(&[], Vec::as_slice)
    }

    /// Returns whether `path` leads to a file that was read.
    pub fn contains(&self, path: &Path) -> bool {
        path.canonicalize()
            .is_ok_and(|path| self.files.contains_key(&path))
    }
}

/// Reads a regular file, or says in a few words why it cannot be read.
pub fn read_regular(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs::metadata(path).map_err(|error| reason(&error))?;
    match metadata.is_file() {
        true => fs::read(path).map_err(|error| reason(&error)),
        false if metadata.is_dir() => Err("it is a directory".to_owned()),
        false => Err("it is not a regular file".to_owned()),
    }
}

/// Returns the size of the file at `path` if it can be known without reading it.
pub fn size_of(path: &Path) -> Option<u64> {
    fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
}

/// Says in a few words what the operating system reported.
pub fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
