// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How many instructions Linux takes to user space, bare and in AxHive.
//!
//! Called by `bench --linux`. guests/linux/count.sh stops QEMU at an address and
//! asks it how many instructions it has executed: first where the kernel is entered,
//! then where user space starts its second program, having printed its line.
//! This works alike for a kernel on the bare machine and for one in a VM.

use std::fs;
use std::path::Path;

use super::arch::Arch;
use super::command::output;
use super::figures::Figures;
use super::measure;
use crate::problem::Problem;

/// The guest's VM: one CPU, and the word `bench` on its command line.
const VM: &str = "linux-bench";

const ENTRY_OFFSET: usize = 24;

/// Measures the bare machine.
pub fn bare(arch: Arch) -> Result<Figures, Problem> {
    let text = output(&["guests/linux/measure-bare.sh", arch.name()], &[])?;
    let name = format!("linux-bare-{}", arch.name());
    let boot = Figures::of_console(&text).get(&name);
    let (Some(boot), Some(before)) = (boot, before_entry(&text)) else {
        let place = Path::new("guests/linux/measure-bare.sh");
        return Err(Problem::error(
            place,
            "it printed no counts",
            "run it by hand",
        ));
    };
    let mut figures = Figures::default();
    figures.add("linux-boot", boot);
    figures.add("linux-power-on", before + boot);
    Ok(figures)
}

// `linux-bare-ARCH: N before the kernel's entry, …`
fn before_entry(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.contains("before the kernel's entry"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Measures AxHive.
pub fn in_axhive(arch: Arch) -> Result<Figures, Problem> {
    measure::make(arch, VM, "build")?;
    measure::make(arch, VM, "bundle")?;
    let user = user_entry(arch)?;
    let visits = arch.linux_entry_visits();
    let image = format!("build/{}/release/app", arch.name());
    let mut words = vec!["guests/linux/count.sh"];
    words.extend(std::iter::repeat_n(arch.linux_entry(), visits));
    words.extend([user.as_str(), user.as_str(), "--"]);
    words.extend(["scripts/qemu.sh", arch.name(), &image, "build/vms.bundle"]);
    let text = output(&words, &[("SMP", "1"), ("ONIDLE", "poweroff")])?;
    let counts: Vec<f64> = text
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect();
    figures(&counts, visits).ok_or_else(|| {
        let place = Path::new("guests/linux/count.sh");
        Problem::error(place, "it printed too few counts", "run it by hand")
    })
}

fn figures(counts: &[f64], visits: usize) -> Option<Figures> {
    let entry = *counts.get(visits.checked_sub(1)?)?;
    let user = *counts.get(visits + 1)?;
    let mut figures = Figures::default();
    figures.add("linux-boot", user - entry);
    figures.add("linux-power-on", user);
    if visits > 1 {
        figures.add("linux-first-instruction", entry - counts.first()?);
    }
    Some(figures)
}

// The first instruction of user space: where the static busybox is entered.
fn user_entry(arch: Arch) -> Result<String, Problem> {
    let file = format!("build/guests/{}/busybox", arch.name());
    let fail = |cause: String| {
        let remedy = "run guests/linux/fetch.sh and guests/linux/initramfs.sh first";
        Problem::error(Path::new(&file), cause, remedy)
    };
    let elf = fs::read(&file).map_err(|error| fail(error.to_string()))?;
    let entry = elf.get(ENTRY_OFFSET..).and_then(|tail| tail.first_chunk());
    let entry = entry.ok_or_else(|| fail("it is no ELF file".to_string()))?;
    Ok(format!("{:x}", u64::from_le_bytes(*entry)))
}

#[cfg(test)]
mod tests {
    use super::{before_entry, figures};

    #[test]
    fn counts_become_figures() {
        let figures = figures(&[10.0, 100.0, 1000.0, 1100.0], 2).expect("all are there");
        assert_eq!(figures.get("linux-boot"), Some(1000.0));
        assert_eq!(figures.get("linux-power-on"), Some(1100.0));
        assert_eq!(figures.get("linux-first-instruction"), Some(90.0));
    }

    #[test]
    fn too_few_counts_are_no_figures() {
        assert!(figures(&[10.0, 100.0, 1000.0], 2).is_none());
        assert!(figures(&[], 0).is_none());
    }

    #[test]
    fn what_comes_before_the_kernel_is_found() {
        let text = "linux-bare-x: y\nlinux-bare-x: 12 before the kernel's entry, 7 from there\n";
        assert_eq!(before_entry(text), Some(12.0));
    }
}
