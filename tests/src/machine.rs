// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One run of a machine: `make justrun` in its own process group.
//!
//! The machine is started as a user starts it, so that the tests see what a
//! user sees. Its whole process group is ended with the case, and if this
//! program is ended, by Ctrl-C or killed: make gets a signal then, it ends the
//! script that boots, and QEMU ends with that (`pdeathsig` here and there).
//! Machines run side by side: each writes files of its own in build/tests/ARCH.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Failure, case::Case, console::Console, guests};

/// What must never appear on any console.
const NEVER: [&str; 2] = ["panicked at", "Unhandled"];

/// Ends a machine when the case is over.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // The negative number names the process group.
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill")
            .args(["-KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.0.wait();
    }
}

/// Runs a case and leaves its console, and what it complained of behind it, in `log`.
pub fn run(case: &Case, arch: &str, log: &Path) -> Result<(), Failure> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let complaints = log.with_extension("errors");
    let errors = File::create(&complaints)?;
    let until = Instant::now() + Duration::from_secs(case.timeout_s);
    let mut machine = Machine(start(case, arch, log, errors)?);
    let output = machine.0.stdout.take();
    let mut input = machine.0.stdin.take();
    let Some(output) = output else {
        return Err(Failure::Io(std::io::ErrorKind::BrokenPipe.into()));
    };
    let mut console = Console::new(output);
    let mut result = talk(case, arch, &mut console, &mut input, until);
    if result.is_ok() {
        result = finish(case, &mut machine, &mut console, until);
    }
    let result = result.and_then(|()| check(case, arch, &console));
    let complained = fs::read(&complaints)?;
    let complained = String::from_utf8_lossy(&complained);
    fs::write(log, [console.text(), &complained].concat())?;
    fs::remove_file(&complaints)?;
    // The images in it are large, and there elsewhere.
    let _ = fs::remove_file(log.with_extension("bundle"));
    result
}

fn start(case: &Case, arch: &str, log: &Path, errors: File) -> Result<Child, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut make = Command::new("setpriv");
    make.current_dir(root)
        .args(["--pdeathsig", "TERM", "make"])
        .args(["-s", "--no-print-directory", "justrun", "A=app"])
        .arg(format!("ARCH={arch}"));
    for (name, value) in &case.make {
        make.arg(format!("{name}={}", case.fill(value, arch)));
    }
    if case.make.contains_key("VM") {
        let bundle = log.with_extension("bundle");
        make.arg(format!("BUNDLE={}", bundle.display()))
            .arg(format!("TOOLS={}", guests::tools()?.display()));
    }
    // The settings of an outer make are not for this one.
    make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    let child = make
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()?;
    Ok(child)
}

/// Waits for each step's pattern and types what follows it.
fn talk(
    case: &Case,
    arch: &str,
    console: &mut Console,
    input: &mut Option<std::process::ChildStdin>,
    until: Instant,
) -> Result<(), Failure> {
    for step in &case.step {
        console.wait(&case.fill(&step.wait, arch), until)?;
        if let Some(input) = input {
            input.write_all(step.send.as_bytes())?;
            input.flush()?;
        }
    }
    Ok(())
}

/// Waits for the machine's end and checks its exit status.
fn finish(
    case: &Case,
    machine: &mut Machine,
    console: &mut Console,
    until: Instant,
) -> Result<(), Failure> {
    if !console.wait_end(until) {
        return Err(Failure::Late(case.timeout_s));
    }
    match machine.0.wait()?.code() {
        Some(code) if code == case.status => Ok(()),
        found => Err(Failure::Status {
            expected: case.status,
            found,
        }),
    }
}

/// Checks all that was printed.
fn check(case: &Case, arch: &str, console: &Console) -> Result<(), Failure> {
    let refused = case.refuse.iter().map(String::as_str).chain(NEVER);
    for pattern in refused {
        if console.has(pattern)? {
            return Err(Failure::Forbidden(pattern.into()));
        }
    }
    for pattern in &case.expect {
        let pattern = case.fill(pattern, arch);
        if !console.has(&pattern)? {
            return Err(Failure::Missing(pattern));
        }
    }
    Ok(())
}
