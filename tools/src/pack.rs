// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools bundle`: packs VM files and what they refer to.
//!
//! A VM file that cannot be read, or is named twice, is a mistake on the
//! command line: an error, and no bundle. What is wrong inside one VM file (a
//! referenced file that is missing, a syntax error) must not keep the other
//! VMs from starting: it is packed as it is, with the reason, and reported by
//! the hypervisor; here it is a warning, or with `--strict` an error.
//! The bundle appears under its name only when it is complete.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bundle::{
    FileInput, FileSource, MAX_FILES_PER_VM, MAX_NAME_SIZE, MAX_TEXT_SIZE, VmInput, WriteError,
    Writer,
};

use crate::print;
use crate::problem::{self, Problem, Severity};
use crate::references::{self, Reference};
use crate::source::{self, Sources};

/// Packs `vm_files` into `output`; `incomplete` says how bad a missing file is.
pub fn run(output: &Path, vm_files: &[PathBuf], incomplete: Severity) -> Vec<Problem> {
    let mut pack = Pack::new(incomplete);
    vm_files.iter().for_each(|path| pack.load(path));
    if pack.sources.contains(output) {
        let remedy = "write the bundle to another file";
        pack.problems.push(Problem::error(
            output,
            "it is one of the files to be packed",
            remedy,
        ));
    }
    if problem::worst(&pack.problems) != Some(Severity::Error)
        && let Err(problem) = pack.write(output)
    {
        pack.problems.push(problem);
    }
    pack.problems
}

/// A VM file that was read.
struct VmFile {
    name: String,
    canonical: PathBuf,
    files: Vec<Referenced>,
}

/// A file that a VM file refers to, and where it is on the host or why it is not.
struct Referenced {
    path: String,
    found: Result<PathBuf, String>,
}

struct Pack {
    incomplete: Severity,
    sources: Sources,
    vms: Vec<VmFile>,
    problems: Vec<Problem>,
}

impl Pack {
    fn new(incomplete: Severity) -> Self {
        Self {
            incomplete,
            sources: Sources::default(),
            vms: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn load(&mut self, path: &Path) {
        match self.read_vm_file(path) {
            Ok(vm) => self.vms.push(vm),
            Err(problem) => self.problems.push(problem),
        }
    }

    fn read_vm_file(&mut self, path: &Path) -> Result<VmFile, Problem> {
        let Some(name) = path.to_str() else {
            return Err(Problem::error(path, "its path is not UTF-8", "rename it"));
        };
        if let Some(size) = source::size_of(path).filter(|size| *size > MAX_TEXT_SIZE as u64) {
            let cause = format!("it has {size} bytes, a VM file at most {MAX_TEXT_SIZE}");
            return Err(Problem::error(
                path,
                cause,
                "name the VM file, not what it refers to",
            ));
        }
        let canonical = self.sources.read(path).map_err(|reason| {
            let cause = format!("the VM file cannot be read: {reason}");
            Problem::error(path, cause, "name a file that exists and is readable")
        })?;
        if let Some(first) = self.vms.iter().find(|vm| vm.canonical == canonical) {
            let cause = format!("it is the same VM file as {}", first.name);
            return Err(Problem::error(
                path,
                cause,
                "name each VM file once, or copy it",
            ));
        }
        let files = self.read_references(path, &canonical);
        Ok(VmFile {
            name: name.to_owned(),
            canonical,
            files,
        })
    }

    fn read_references(&mut self, vm_file: &Path, canonical: &Path) -> Vec<Referenced> {
        let references = match references_in(vm_file, self.sources.get(canonical)) {
            Ok(references) => references,
            Err(problem) => {
                self.problems.push(problem.with_severity(self.incomplete));
                return Vec::new();
            }
        };
        let (kept, problems) = within_limits(vm_file, references);
        let incomplete = self.incomplete;
        self.problems
            .extend(problems.into_iter().map(|it| it.with_severity(incomplete)));
        kept.into_iter()
            .map(|reference| self.read_reference(vm_file, reference))
            .collect()
    }

    fn read_reference(&mut self, vm_file: &Path, reference: Reference) -> Referenced {
        let host_path = vm_file.with_file_name(&reference.path);
        let found = self.sources.read(&host_path).map_err(|reason| {
            let cause = format!("{} cannot be read: {reason}", host_path.display());
            let remedy = "its VM will not start until it is there and the bundle is made again";
            let problem = Problem::error(vm_file, cause, remedy).at_line(reference.line);
            self.problems.push(problem.with_severity(self.incomplete));
            shortened(format!("{reason}: {}", host_path.display()))
        });
        Referenced {
            path: reference.path,
            found,
        }
    }

    fn write(&self, output: &Path) -> Result<(), Problem> {
        let writer = self.writer()?;
        let failed = |error: WriteError| {
            let cause = match error {
                WriteError::Io(error) => source::reason(&error),
                other => other.to_string(),
            };
            let cause = format!("the bundle cannot be written: {cause}");
            Problem::error(output, cause, "name a file in a writable directory")
        };
        let size = write_whole(&writer, output).map_err(failed)?;
        let missing = self.files().filter(|file| file.found.is_err()).count();
        let packed = self.files().count() - missing;
        let vms = self.vms.len();
        print::text(&format!(
            "{}: VM files: {vms}; files: {packed} packed, {missing} missing; {size} bytes\n",
            output.display()
        ))
    }

    fn files(&self) -> impl Iterator<Item = &Referenced> {
        self.vms.iter().flat_map(|vm| &vm.files)
    }

    fn writer(&self) -> Result<Writer<'_>, Problem> {
        let mut writer = Writer::new();
        for vm in &self.vms {
            let files = vm.files.iter().map(|file| self.input(file)).collect();
            let text = self.sources.get(&vm.canonical);
            writer
                .push(VmInput {
                    name: &vm.name,
                    text,
                    files,
                })
                .map_err(|error| {
                    let cause = format!("it does not fit into the bundle: {error}");
                    Problem::error(Path::new(&vm.name), cause, "make two bundles")
                })?;
        }
        Ok(writer)
    }

    fn input<'a>(&'a self, file: &'a Referenced) -> FileInput<'a> {
        let source = match &file.found {
            Ok(canonical) => FileSource::Present(self.sources.get(canonical)),
            Err(reason) => FileSource::Missing(reason),
        };
        FileInput {
            path: &file.path,
            source,
        }
    }
}

fn references_in(vm_file: &Path, text: &[u8]) -> Result<Vec<Reference>, Problem> {
    let remedy = "its VM will not start until this is mended";
    let text = str::from_utf8(text).map_err(|error| {
        let before = text.iter().take(error.valid_up_to());
        let line = before.filter(|byte| **byte == b'\n').count() + 1;
        Problem::error(vm_file, "it is not UTF-8 text", remedy).at_line(line)
    })?;
    references::find(text)
        .map_err(|error| Problem::error(vm_file, error.message, remedy).at_line(error.line))
}

/// Leaves out what the format has no room for; the hypervisor will not find it.
fn within_limits(vm_file: &Path, references: Vec<Reference>) -> (Vec<Reference>, Vec<Problem>) {
    let mut kept = Vec::new();
    let mut problems = Vec::new();
    for reference in references {
        let cause = match reference.path.len() {
            MAX_NAME_SIZE.. => format!("a path of more than {} bytes", MAX_NAME_SIZE - 1),
            _ if kept.len() == MAX_FILES_PER_VM => format!("more than {MAX_FILES_PER_VM} files"),
            _ => {
                kept.push(reference);
                continue;
            }
        };
        let remedy = "its VM will not start until it refers to less";
        problems.push(Problem::error(vm_file, cause, remedy).at_line(reference.line));
    }
    (kept, problems)
}

fn shortened(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_NAME_SIZE));
    reason
}

/// Writes beside `output` first, so that no half-written bundle has its name.
fn write_whole(writer: &Writer<'_>, output: &Path) -> Result<u64, WriteError> {
    if output.exists() && source::size_of(output).is_none() {
        let message = "it is not a regular file";
        return Err(std::io::Error::other(message).into());
    }
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = write_partial(writer, &partial, output);
    if result.is_err() {
        // It may not exist; what matters was reported already.
        let _ = fs::remove_file(&partial);
    }
    result
}

fn write_partial(writer: &Writer<'_>, partial: &Path, output: &Path) -> Result<u64, WriteError> {
    let mut file = File::create(partial)?;
    let size = writer.write_to(&mut file)?;
    fs::rename(partial, output)?;
    Ok(size)
}
