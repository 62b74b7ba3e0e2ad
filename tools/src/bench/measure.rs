// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Runs the benchmark guest, bare and in AxHive.
//!
//! Called by `bench`. Both runs have one CPU and count instructions, so that
//! they give the same figures each time. QEMU's own random seed, clock and
//! network are fixed or left out for the same reason.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::arch::Arch;
use super::command::output;
use super::figures::Figures;
use crate::problem::Problem;

/// QEMU's arguments that make an instruction a nanosecond.
pub const COUNTING: &[&str] = &[
    "-icount",
    "shift=0,sleep=off",
    "-seed",
    "1",
    "-rtc",
    "clock=vm,base=2026-01-01",
    "-nic",
    "none",
];

/// Builds the benchmark guest.
pub fn build(arch: Arch) -> Result<(), Problem> {
    let image = image(arch);
    let script = "scripts/build.sh";
    let words = [script, arch.name(), "release", "guests/bench", &image];
    output(&words, &[]).map(drop)
}

fn image(arch: Arch) -> String {
    format!("build/{}/release/bench", arch.name())
}

/// Runs the guest on the bare machine.
pub fn bare(arch: Arch) -> Result<Figures, Problem> {
    let (qemu, image) = (qemu(arch), image(arch));
    let mut words = vec![qemu.as_str()];
    words.extend(arch.bare_machine());
    words.extend(COUNTING);
    words.extend(["-m", "128M", "-display", "none", "-monitor", "none"]);
    words.extend(["-serial", "stdio", "-no-reboot", "-kernel", &image]);
    finished(&qemu, &output(&words, &[])?)
}

/// Returns the size of AxHive's own image.
pub fn image_bytes(arch: Arch) -> Result<f64, Problem> {
    let file = format!("build/{}/release/app", arch.name());
    match fs::metadata(&file) {
        Ok(found) => Ok(found.len() as f64),
        Err(error) => {
            let place = Path::new(&file);
            Err(Problem::error(place, error.to_string(), "build A=app"))
        }
    }
}

/// Returns the VM file of a guest.
pub fn vm_file(arch: Arch, guest: &str) -> PathBuf {
    let folder = Path::new("configs/vms").join(arch.name());
    folder.join(format!("{guest}.toml"))
}

/// Runs the guest in AxHive.
pub fn in_axhive(arch: Arch) -> Result<Figures, Problem> {
    let console = make(arch, "bench", "run")?;
    finished("AxHive", &console)
}

/// Lets make build AxHive for the VM of one guest, or run it.
pub fn make(arch: Arch, guest: &str, goal: &str) -> Result<String, Problem> {
    make_vm(arch, &vm_file(arch, guest), goal)
}

/// Has make do something with AxHive and the VM of a file.
pub fn make_vm(arch: Arch, vm_file: &Path, goal: &str) -> Result<String, Problem> {
    make_with(arch, vm_file, goal, &[])
}

/// The same with variables in make's environment.
pub fn make_with(
    arch: Arch,
    vm_file: &Path,
    goal: &str,
    variables: &[(&str, &str)],
) -> Result<String, Problem> {
    let vm = format!("VM={}", vm_file.display());
    let arch = format!("ARCH={}", arch.name());
    let counting = format!("QEMU_ARGS={}", COUNTING.join(" "));
    let words = [
        "make",
        "--no-print-directory",
        "A=app",
        &arch,
        &vm,
        "SMP=1",
        "MODE=release",
        "ONIDLE=poweroff",
        &counting,
        goal,
    ];
    output(&words, variables)
}

fn finished(place: &str, console: &str) -> Result<Figures, Problem> {
    if console
        .lines()
        .any(|line| line.trim_end().ends_with("bench: done"))
    {
        return Ok(Figures::of_console(console));
    }
    let cause = "the benchmark guest did not come to its end";
    Err(Problem::error(
        Path::new(place),
        cause,
        "look at its console",
    ))
}

fn qemu(arch: Arch) -> String {
    format!("qemu-system-{}", arch.name())
}

/// Returns the version of QEMU.
pub fn qemu_version(arch: Arch) -> Result<String, Problem> {
    let text = output(&[&qemu(arch), "--version"], &[])?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "version");
    Ok(words.nth(1).unwrap_or("unknown").to_string())
}

/// Returns the commit that is checked out, marked if anything differs from it.
pub fn commit() -> String {
    let short = output(&["git", "rev-parse", "--short=12", "HEAD"], &[]);
    let Ok(short) = short else {
        return "unknown".to_string();
    };
    let others = [":!docs/benchmarks", ":!docs/benchmarks.md"];
    let words = [
        "git",
        "status",
        "--porcelain",
        "--",
        ".",
        others[0],
        others[1],
    ];
    let changes = output(&words, &[]).unwrap_or_default();
    let mark = if changes.is_empty() { "" } else { ", changed" };
    format!("{}{mark}", short.trim())
}

#[cfg(test)]
mod tests {
    use super::finished;

    #[test]
    fn a_guest_that_did_not_finish_gives_no_figures() {
        assert!(finished("x", "BENCH a 1 x\n[bench] bench: FAIL this\n").is_err());
        let figures = finished("x", "[bench] BENCH a 1 x\r\n[bench] bench: done\r\n");
        assert_eq!(figures.ok().and_then(|figures| figures.get("a")), Some(1.0));
    }
}
