// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools extract`: unpacks a bundle into a directory.
//!
//! Paths in a bundle may be absolute or lead upwards, and the bundle may be
//! anyone's, so no path from it is used as such: VM file n becomes
//! `DIR/n-STEM/vm.toml` and the m-th file it refers to `DIR/n-STEM/m-NAME`,
//! where STEM and NAME are last components. What came from where is printed.
//! Nothing that exists is overwritten.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bundle::{Bundle, File, VmEntry};

use crate::check;
use crate::open;
use crate::print::{self, Printable};
use crate::problem::Problem;
use crate::source;

/// The longest component that is taken over into a file name.
const MAX_COMPONENT_SIZE: usize = 200;

/// Unpacks the bundle at `path` into `directory`.
pub fn run(path: &Path, directory: &Path) -> Vec<Problem> {
    open::with_bundle(path, |bundle| match prepare(directory) {
        Ok(()) => bundle
            .vms()
            .enumerate()
            .flat_map(|(number, vm)| {
                let stem = Path::new(vm.name()).file_stem();
                let target = directory.join(numbered(number, stem));
                extract_vm(path, bundle, &vm, &target)
            })
            .collect(),
        Err(error) => vec![Problem::error(directory, source::reason(&error), EMPTY)],
    })
}

const EMPTY: &str = "name a new or empty directory";

fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    match fs::read_dir(directory)?.next() {
        None => Ok(()),
        Some(_) => Err(io::Error::other("it is not empty")),
    }
}

fn extract_vm(path: &Path, bundle: &Bundle<'_>, vm: &VmEntry<'_>, target: &Path) -> Vec<Problem> {
    if let Err(error) = fs::create_dir(target) {
        return vec![Problem::error(target, source::reason(&error), EMPTY)];
    }
    let files = bundle.files(vm).enumerate().map(|(number, file)| {
        let name = numbered(number, Path::new(file.path()).file_name());
        (target.join(name), file)
    });
    std::iter::once((target.join("vm.toml"), *vm.file()))
        .chain(files)
        .filter_map(|(target, file)| extract_file(path, vm, &file, &target).err())
        .collect()
}

fn extract_file(
    path: &Path,
    vm: &VmEntry<'_>,
    file: &File<'_>,
    target: &Path,
) -> Result<(), Problem> {
    let bytes = file
        .bytes()
        .map_err(|error| check::problem(path, vm, file, error))?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(target)
        .and_then(|mut output| output.write_all(bytes))
        .map_err(|error| Problem::error(target, source::reason(&error), EMPTY))?;
    let target = target.display().to_string();
    print::text(&format!(
        "{} <- {}\n",
        Printable(&target),
        Printable(file.path())
    ))
}

/// Returns a file name that is new within its directory, ending in `component` if that will do.
fn numbered(number: usize, component: Option<&std::ffi::OsStr>) -> PathBuf {
    let component = component
        .and_then(std::ffi::OsStr::to_str)
        .filter(|name| name.len() <= MAX_COMPONENT_SIZE && !name.contains('\0'));
    match component {
        Some(name) => format!("{number:02}-{name}").into(),
        None => format!("{number:02}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_for(path: &str) -> PathBuf {
        numbered(3, Path::new(path).file_name())
    }

    #[test]
    fn no_path_leads_out_of_the_directory() {
        assert_eq!(name_for("/etc/../passwd"), Path::new("03-passwd"));
        assert_eq!(name_for("../../a b.img"), Path::new("03-a b.img"));
        for path in ["..", "/", "a/..", "nul\0", &"x".repeat(201)] {
            assert_eq!(name_for(path), Path::new("03"));
        }
    }
}
