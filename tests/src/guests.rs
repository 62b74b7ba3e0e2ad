// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the cases need beside the hypervisor, built before any of them runs.
//!
//! Cargo may keep a case waiting, and the case's time is not to run meanwhile.
//! scripts/test-guests.sh knows how to build each guest; what is built already
//! costs it a second. Cases on what is embedded in the hypervisor need none.

use std::{
    collections::BTreeSet,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Failure,
    case::Case,
    schedule::{self, Task},
};

/// Builds what makes bundles, so that no case waits for cargo.
pub fn build_tools() -> Result<(), Failure> {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet", "--package", "axhive-tools"]);
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Guests(vec!["axhive-tools".into()]))
    }
}

/// Returns where that is: beside this program.
pub fn tools() -> Result<PathBuf, Failure> {
    Ok(env::current_exe()?.with_file_name("axhive-tools"))
}

/// Guests that could not be built, with their architectures.
pub struct Missing<'a>(BTreeSet<(&'a str, &'a str)>);

impl<'a> Missing<'a> {
    /// Builds all guests of the cases, each once.
    pub fn after_building(cases: &[(&'a str, &'a Case)]) -> Self {
        let pairs = |&(arch, case): &(&'a str, &'a Case)| {
            case.needs.iter().map(move |guest| (arch, guest.as_str()))
        };
        let needed: BTreeSet<_> = cases.iter().flat_map(pairs).collect();
        // All at once: they wait for each other where they must, by cargo's locks.
        let tasks = needed.into_iter().map(|item| Task {
            cpus: 1,
            length: 0,
            item,
        });
        let tasks: Vec<_> = tasks.collect();
        let jobs = tasks.len();
        let built = schedule::run_all(tasks, jobs, |(arch, guest)| {
            (!build(arch, guest)).then_some((arch, guest))
        });
        Self(built.into_iter().flatten().collect())
    }

    /// Returns those that a case needs.
    pub fn of(&self, arch: &str, case: &Case) -> Vec<String> {
        let needed = case.needs.iter();
        let missing = needed.filter(|guest| self.0.contains(&(arch, guest.as_str())));
        missing.cloned().collect()
    }
}

fn build(arch: &str, guest: &str) -> bool {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut script = Command::new(root.join("scripts/test-guests.sh"));
    // Its words about what is there already are of no use here.
    let status = script.args([arch, guest]).stdout(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
