// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! VM files: read, check, freeze.
//!
//! Called once at boot for every VM file of the bundle ([`check_all`]), and by
//! `vm create` for one ([`check`]). What comes out is an [`AxVMConfig`] in
//! which everything is resolved, or problems of one line each. Invariant: no
//! text panics, and one bad file never keeps another from its VM.
//!
//! `read` knows TOML, `freeze` knows the bounds; docs/vm-file.md is for users.

mod freeze;
mod keys;
pub mod pcpus;
mod problem;
mod read;
#[cfg(test)]
mod tests;
mod values;
mod written;

use alloc::{format, string::String, vec::Vec};

use axvm::{AxVMConfig, ConfigFault, ImageBytes, PCpuSet};

pub use problem::Problem;
use problem::{Place, Problems};
pub use written::AxVMCrateConfig;
use written::Places;

/// Finds a file by its path as written, or says why it cannot be had.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Result<ImageBytes, String>;

/// A VM file to check.
#[derive(Clone, Copy)]
pub struct VmFile<'a> {
    /// Its name, for messages.
    pub name: &'a str,
    /// Its text, or why there is none.
    pub text: Result<&'a str, &'a str>,
    /// Finds the files that it refers to.
    pub files: Lookup<'a>,
}

/// What this machine and this build allow.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The physical CPUs that there are.
    pub pcpus: PCpuSet,
    /// The kinds of `[[device]]` that are known.
    pub device_kinds: &'a [&'a str],
    /// The architecture's own check.
    pub arch: fn(&AxVMConfig) -> Result<(), ConfigFault>,
}

/// A configuration that was accepted, with where it comes from.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the VM is made from.
    pub config: AxVMConfig,
    file: String,
    places: Places,
}

impl Checked {
    /// Names the place of a fault that was found later, such as at boot.
    pub fn explain(&self, fault: &ConfigFault) -> Problem {
        let place = self.places.of(fault.key);
        Problem::new(&self.file, &place, &fault.cause, &fault.remedy)
    }

    /// Returns where the VM got its name: file and line.
    pub fn named_at(&self) -> String {
        format!("{}:{}", self.file, self.places.of(keys::NAME.path).line)
    }
}

/// What came of all VM files.
#[derive(Debug, Default)]
pub struct Report {
    /// What was accepted, in the order of the files.
    pub accepted: Vec<Checked>,
    /// What is wrong with the others.
    pub problems: Vec<Problem>,
}

/// Checks all files; names are unique among those accepted.
pub fn check_all<'a>(files: impl IntoIterator<Item = VmFile<'a>>, rules: &Rules<'_>) -> Report {
    let mut report = Report::default();
    for file in files {
        let holder = |name: &str| {
            let same = report.accepted.iter().find(|vm| vm.config.name == name);
            same.map(Checked::named_at)
        };
        match check(&file, rules, &holder) {
            Ok(checked) => report.accepted.push(checked),
            Err(problems) => report.problems.extend(problems),
        }
    }
    report
}

/// Checks one file; `holder` tells who has a name already.
pub fn check(
    file: &VmFile<'_>,
    rules: &Rules<'_>,
    holder: &dyn Fn(&str) -> Option<String>,
) -> Result<Checked, Vec<Problem>> {
    let mut problems = Problems::new(file.name);
    let Some(written) = read_file(file, &mut problems) else {
        return Err(problems.finish());
    };
    refuse_taken(&written, holder, &mut problems);
    let config = freeze::freeze(&written, rules, file.files, &mut problems);
    match config {
        Some(config) => finish(file, rules, config, written.places()),
        None => Err(problems.finish()),
    }
}

fn read_file(file: &VmFile<'_>, problems: &mut Problems<'_>) -> Option<AxVMCrateConfig> {
    match file.text {
        Ok(text) => read::read(text, problems),
        Err(cause) => {
            let remedy = "make the bundle again from a text file";
            problems.add(&Place::default(), cause, remedy);
            None
        }
    }
}

fn refuse_taken(
    written: &AxVMCrateConfig,
    holder: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems<'_>,
) {
    if let Some(name) = written.vm.name.get()
        && let Some(other) = holder(&name.value)
    {
        let cause = format!("{other} has this name already");
        problems.add(&name.place, &cause, "write another name");
    }
}

fn finish(
    file: &VmFile<'_>,
    rules: &Rules<'_>,
    config: AxVMConfig,
    places: Places,
) -> Result<Checked, Vec<Problem>> {
    let verdict = (rules.arch)(&config);
    let checked = Checked {
        config,
        file: String::from(file.name),
        places,
    };
    match verdict {
        Ok(()) => Ok(checked),
        Err(fault) => Err(alloc::vec![checked.explain(&fault)]),
    }
}
