// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools check`: compares every file in a bundle with its checksum.
//!
//! The index is checked by opening the bundle. A file that was missing when the
//! bundle was made is a warning, since the bundle is as it was made.

use std::path::Path;

use bundle::{Bundle, File, FileError, VmEntry};

use crate::open;
use crate::print;
use crate::problem::{Problem, Severity};

/// Verifies the bundle at `path`.
pub fn run(path: &Path) -> Vec<Problem> {
    open::with_bundle(path, |bundle| {
        let mut problems: Vec<_> = bundle
            .vms()
            .flat_map(|vm| problems_of(path, bundle, &vm))
            .collect();
        let count: usize = bundle.vms().map(|vm| 1 + bundle.files(&vm).len()).sum();
        let good = count - problems.len();
        problems.extend(
            print::text(&format!(
                "{good} of {count} files are as they were packed\n"
            ))
            .err(),
        );
        problems
    })
}

fn problems_of(path: &Path, bundle: &Bundle<'_>, vm: &VmEntry<'_>) -> Vec<Problem> {
    let files = std::iter::once(*vm.file()).chain(bundle.files(vm));
    files
        .filter_map(|file| Some(problem(path, vm, &file, file.verify().err()?)))
        .collect()
}

/// Returns the problem with a file of `vm` in the bundle at `path`.
pub fn problem(path: &Path, vm: &VmEntry<'_>, file: &File<'_>, error: FileError<'_>) -> Problem {
    let cause = match file.path() == vm.name() {
        true => format!("VM file {}: {error}", vm.name()),
        false => format!("{} of VM file {}: {error}", file.path(), vm.name()),
    };
    let problem = Problem::error(path, cause, "make the bundle again");
    match error {
        FileError::Missing { .. } => problem.with_severity(Severity::Warning),
        _ => problem,
    }
}
