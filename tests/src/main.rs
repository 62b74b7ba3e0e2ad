// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The system tests: each case boots the hypervisor in QEMU and talks to it.
//!
//! `system-tests ARCH … [CASE …]` runs the cases in tests/qemu that name one of
//! the architectures, side by side as far as the CPUs suffice (or as many of them
//! as `JOBS` says), prints a line for each when it ends, and in the end the plain
//! line `N passed, N failed`. Each case leaves its console in
//! build/tests/ARCH/CASE.log; that of a failed one is shown.

mod case;
mod console;
mod guests;
mod machine;
mod schedule;

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Instant,
};

use case::Case;
use guests::Missing;
use schedule::Task;

const ARCHES: [&str; 3] = ["riscv64", "aarch64", "x86_64"];

/// Why a case failed or could not be run.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The case's own file is wrong.
    #[error("{path}: {cause}")]
    Case {
        /// The case's file.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// The machine could not be started or talked to.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The guests of a case could not be built.
    #[error("{0:?} could not be built")]
    Guests(Vec<String>),
    /// A pattern did not appear in time.
    #[error("no {0:?} within the time")]
    Missing(String),
    /// A pattern appeared that must not.
    #[error("{0:?} appeared")]
    Forbidden(String),
    /// The machine went on after its time.
    #[error("still running after {0} s")]
    Late(u64),
    /// The machine's exit status was another one.
    #[error("exit status {found:?}, not {expected}")]
    Status {
        /// What the case wants.
        expected: i32,
        /// What it was.
        found: Option<i32>,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (arches, wanted): (Vec<_>, Vec<_>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|word| ARCHES.contains(word));
    if arches.is_empty() {
        eprintln!("usage: system-tests ARCH ... [CASE ...]");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = match guests::build_tools().and_then(|()| Case::all(&root.join("qemu"))) {
        Ok(cases) => cases,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::from(2);
        }
    };
    let chosen = choose(&cases, &arches, &wanted);
    let results = run_all(&chosen);
    let passed = results.iter().filter(|passed| **passed).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
    let found_none = results.is_empty() && !wanted.is_empty();
    ExitCode::from(u8::from(failed > 0 || found_none))
}

/// Returns the wanted cases of some architectures; all if none is named.
fn choose<'a>(cases: &'a [Case], arches: &[&'a str], wanted: &[&str]) -> Vec<(&'a str, &'a Case)> {
    let is_wanted = |case: &&Case| wanted.is_empty() || wanted.contains(&case.name.as_str());
    let of_arch = |&arch: &&'a str| {
        let cases = cases.iter().filter(is_wanted);
        let cases = cases.filter(move |case| case.arch.iter().any(|one| one == arch));
        cases.map(move |case| (arch, case))
    };
    arches.iter().flat_map(of_arch).collect()
}

fn run_all(chosen: &[(&str, &Case)]) -> Vec<bool> {
    let missing = Missing::after_building(chosen);
    let tasks = chosen.iter().map(|&(arch, case)| Task {
        cpus: case.cpus(arch),
        length: case.timeout_s,
        item: (arch, case),
    });
    let tasks = tasks.collect();
    schedule::run_all(tasks, jobs(), |(arch, case)| run_one(case, arch, &missing))
}

/// Returns how many CPUs the cases may keep busy at a time.
fn jobs() -> usize {
    let asked = env::var("JOBS").ok().and_then(|jobs| jobs.parse().ok());
    asked.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from))
}

fn run_one(case: &Case, arch: &str, missing: &Missing) -> bool {
    let log = log_path(arch, &case.name);
    // What an earlier run left must not pass for this one's.
    let _ = fs::remove_file(&log);
    let begin = Instant::now();
    let result = match missing.of(arch, case) {
        guests if guests.is_empty() => machine::run(case, arch, &log),
        guests => Err(Failure::Guests(guests)),
    };
    let seconds = begin.elapsed().as_secs_f32();
    report(case, arch, seconds, &result, &log);
    result.is_ok()
}

/// Prints a case's line, and the console if it failed, with no other case's words between.
fn report(case: &Case, arch: &str, seconds: f32, result: &Result<(), Failure>, log: &Path) {
    let mut out = std::io::stdout().lock();
    // Whoever does not listen any more does not hear of that either.
    let _ = match result {
        Ok(()) => writeln!(out, "ok      {arch} {} ({seconds:.1} s)", case.name),
        Err(failure) => {
            let line = format!("FAILED  {arch} {} ({seconds:.1} s): {failure}", case.name);
            let text = fs::read(log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let console: String = text.lines().map(|line| format!("    | {line}\n")).collect();
            write!(out, "{line}\n{console}")
        }
    };
}

fn log_path(arch: &str, case: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(format!("build/tests/{arch}/{case}.log"))
}
