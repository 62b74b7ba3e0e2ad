// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The system tests: each case boots the hypervisor in QEMU and talks to it.
//!
//! `system-tests ARCH [CASE …]` runs the cases in tests/qemu that name the
//! architecture, one after the other, prints a line for each and ends with the
//! plain line `N passed, N failed`. A failed case leaves its console in
//! build/tests/ARCH/CASE.log and shows the end of it.

mod case;
mod console;
mod guests;
mod machine;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use case::Case;

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
    let mut arguments = env::args().skip(1);
    let Some(arch) = arguments.next() else {
        eprintln!("usage: system-tests ARCH [CASE ...]");
        return ExitCode::from(2);
    };
    let wanted: Vec<String> = arguments.collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = match Case::all(&root.join("qemu")) {
        Ok(cases) => cases,
        Err(failure) => {
            eprintln!("error: {failure}");
            return ExitCode::from(2);
        }
    };
    let chosen = cases
        .iter()
        .filter(|case| case.arch.contains(&arch))
        .filter(|case| wanted.is_empty() || wanted.contains(&case.name));
    let results: Vec<bool> = chosen.map(|case| run_one(case, &arch)).collect();
    let passed = results.iter().filter(|passed| **passed).count();
    let failed = results.len() - passed;
    println!("{passed} passed, {failed} failed");
    let found_none = results.is_empty() && !wanted.is_empty();
    ExitCode::from(u8::from(failed > 0 || found_none))
}

fn run_one(case: &Case, arch: &str) -> bool {
    let log = log_path(arch, &case.name);
    // What an earlier run left must not pass for this one's.
    let _ = fs::remove_file(&log);
    let built = guests::build(case, arch);
    let begin = Instant::now();
    let result = built.and_then(|()| machine::run(case, arch, &log));
    let seconds = begin.elapsed().as_secs_f32();
    match &result {
        Ok(()) => println!("ok      {arch} {} ({seconds:.1} s)", case.name),
        Err(failure) => {
            println!("FAILED  {arch} {} ({seconds:.1} s): {failure}", case.name);
            show_end(&log);
        }
    }
    result.is_ok()
}

fn log_path(arch: &str, case: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.join(format!("build/tests/{arch}/{case}.log"))
}

/// Shows the last lines of a failed case's console.
fn show_end(log: &Path) {
    const LINES: usize = 40;
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(LINES);
    for line in &lines[first..] {
        println!("    | {line}");
    }
}
