// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools list`: prints what is in a bundle.
//!
//! One row for each VM file and, below it and indented, for each file it refers
//! to. Files that share their content show the same offset.

use std::fmt::Write;
use std::path::Path;

use bundle::{Bundle, File, VERSION};

use crate::open;
use crate::print::{self, Printable};
use crate::problem::Problem;

/// Prints the table of contents of the bundle at `path`.
pub fn run(path: &Path) -> Vec<Problem> {
    open::with_bundle(path, |bundle| {
        print::text(&contents(bundle)).err().into_iter().collect()
    })
}

fn contents(bundle: &Bundle<'_>) -> String {
    let mut text = format!("bundle version {VERSION}, {} bytes\n", bundle.size());
    push_row(&mut text, ["SIZE", "OFFSET", "CHECKSUM"], "NAME");
    for vm in bundle.vms() {
        push_file(&mut text, vm.file(), "");
        bundle
            .files(&vm)
            .for_each(|file| push_file(&mut text, &file, "  "));
    }
    text
}

fn push_file(text: &mut String, file: &File<'_>, indent: &str) {
    let path = Printable(file.path());
    let Some(body) = file.body() else {
        let reason = Printable(file.missing().unwrap_or_default());
        return push_row(
            text,
            ["missing", "-", "-"],
            &format!("{indent}{path} ({reason})"),
        );
    };
    let size = file.size().unwrap_or_default().to_string();
    let offset = format!("{:#x}", body.offset());
    let checksum = format!("{:016x}", body.checksum());
    push_row(
        text,
        [&size, &offset, &checksum],
        &format!("{indent}{path}"),
    );
}

fn push_row(text: &mut String, [size, offset, checksum]: [&str; 3], name: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{size:>12}  {offset:>12}  {checksum:<16}  {name}");
}
