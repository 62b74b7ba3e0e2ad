// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How many instructions Linux takes to user space, bare and in AxHive.
//!
//! Called by `bench --linux`. guests/linux/count.sh stops QEMU at an address and
//! asks it how many instructions it has executed: where the kernel is entered, and
//! at the first instruction of init's shell, which prints its line at once. This
//! works alike for a kernel on the bare machine and for one in a VM.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::arch::Arch;
use super::command::output;
use super::figures::Figures;
use super::measure;
use crate::print;
use crate::problem::Problem;

/// What the names of these figures start with.
pub const PREFIX: &str = "linux-";

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

// `linux-bare-ARCH: N instructions before the kernel's entry`
fn before_entry(text: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.contains("before the kernel's entry"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Measures AxHive.
///
/// Any small change moves a kernel's count by some ticks: as on the bare machine,
/// the figures are means over initramfs files that differ by one file's size.
pub fn in_axhive(arch: Arch) -> Result<Figures, Problem> {
    measure::make(arch, VM, "build")?;
    let mut runs = Vec::new();
    for (initramfs, vm_file) in vm_files(arch)? {
        let counts = counts(arch, &vm_file)?;
        print::text(&format!("{initramfs}: {}\n", counts.user - counts.linux))?;
        runs.push(counts);
    }
    let mut figures = figures(&runs).ok_or_else(|| {
        let remedy = "run guests/linux/measure-bare.sh first";
        Problem::error(Path::new("build/guests"), "no initramfs to measure", remedy)
    })?;
    figures.extend(exits(arch)?);
    Ok(figures)
}

/// Counts the exits of a boot to user space and of switching off, by their kinds.
fn exits(arch: Arch) -> Result<Figures, Problem> {
    let vm_file = measure::vm_file(arch, VM);
    let console = measure::make_with(arch, &vm_file, "justrun", &[("LOG", "info")])?;
    Ok(exits_of(&console))
}

// `linux: exits: port 40114, interrupt 463`
fn exits_of(console: &str) -> Figures {
    let line = console
        .lines()
        .find_map(|line| line.split_once(": exits: "));
    let (_, kinds) = line.unwrap_or_default();
    let kinds = kinds.split(',').filter_map(|kind| {
        let (name, count) = kind.trim().split_once(' ')?;
        Some((name, count.parse::<f64>().ok()?))
    });
    let mut figures = Figures::default();
    let mut all = 0.0;
    for (name, count) in kinds {
        figures.add(&format!("linux-exits-{name}"), count);
        all += count;
    }
    figures.add("linux-exits", all);
    figures
}

/// Writes a VM file for each initramfs that the bare machine was measured with.
fn vm_files(arch: Arch) -> Result<Vec<(String, PathBuf)>, Problem> {
    let origin = measure::vm_file(arch, VM);
    let fail = |path: &Path, error: io::Error| {
        Problem::error(path, error.to_string(), "make it readable and writable")
    };
    let text = fs::read_to_string(&origin).map_err(|error| fail(&origin, error))?;
    let folder = Path::new("build/bench").join(arch.name());
    fs::create_dir_all(&folder).map_err(|error| fail(&folder, error))?;
    let guests = Path::new("build/guests").join(arch.name());
    let mut names: Vec<String> = fs::read_dir(&guests)
        .map_err(|error| fail(&guests, error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("initramfs-") && name.ends_with(".cpio"))
        .collect();
    names.sort();
    let write = |name: String| {
        let file = folder.join(&name).with_extension("toml");
        let text = text.replace("initramfs.cpio", &name);
        fs::write(&file, text).map_err(|error| fail(&file, error))?;
        Ok((name, file))
    };
    names.into_iter().map(write).collect()
}

/// Instructions since the machine's reset, at the three places that count.
struct Counts {
    axhive: u64,
    linux: u64,
    user: u64,
}

fn counts(arch: Arch, vm_file: &Path) -> Result<Counts, Problem> {
    measure::make_vm(arch, vm_file, "bundle")?;
    let (axhive, linux) = arch.entries();
    let user = user_entry(arch)?;
    let image = format!("build/{}/release/app", arch.name());
    let bundle = format!("build/{}/vms.bundle", arch.name());
    let words = [
        "guests/linux/count.sh",
        axhive,
        linux,
        &user,
        "--",
        "scripts/qemu.sh",
        arch.name(),
        &image,
        &bundle,
    ];
    let text = output(&words, &[("SMP", "1"), ("ONIDLE", "poweroff")])?;
    parse(&text).ok_or_else(|| {
        let place = Path::new("guests/linux/count.sh");
        Problem::error(place, "it printed too few counts", "run it by hand")
    })
}

fn parse(text: &str) -> Option<Counts> {
    let mut counts = text.lines().map(|line| line.trim().parse().ok());
    let (axhive, linux, user) = (counts.next()??, counts.next()??, counts.next()??);
    (axhive <= linux && linux <= user).then_some(Counts {
        axhive,
        linux,
        user,
    })
}

fn figures(runs: &[Counts]) -> Option<Figures> {
    let mean = |of: fn(&Counts) -> u64| {
        let sum: u64 = runs.iter().map(of).sum();
        sum.checked_div(runs.len() as u64).map(|mean| mean as f64)
    };
    let mut figures = Figures::default();
    figures.add("linux-boot", mean(|run| run.user - run.linux)?);
    figures.add("linux-power-on", mean(|run| run.user)?);
    figures.add(
        "linux-first-instruction",
        mean(|run| run.linux - run.axhive)?,
    );
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
    use super::{before_entry, exits_of, figures, parse};

    #[test]
    fn exits_are_told_by_kind_and_together() {
        let figures = exits_of("x\r\nlinux: exits: port 40, interrupt 2\r\n");
        assert_eq!(figures.get("linux-exits-port"), Some(40.0));
        assert_eq!(figures.get("linux-exits-interrupt"), Some(2.0));
        assert_eq!(figures.get("linux-exits"), Some(42.0));
    }

    #[test]
    fn counts_become_their_means() {
        let run = |text| parse(text).expect("all are there");
        let runs = [run("10\n100\n1100\n"), run("10\n110\n1310\n")];
        let figures = figures(&runs).expect("there are runs");
        assert_eq!(figures.get("linux-boot"), Some(1100.0));
        assert_eq!(figures.get("linux-power-on"), Some(1205.0));
        assert_eq!(figures.get("linux-first-instruction"), Some(95.0));
        assert!(super::figures(&[]).is_none());
    }

    #[test]
    fn too_few_counts_and_those_that_go_back_are_none() {
        assert!(parse("10\n100\n").is_none());
        assert!(parse("10\nx\n1000\n").is_none());
        assert!(parse("10\n9\n1000\n").is_none());
    }

    #[test]
    fn what_comes_before_the_kernel_is_found() {
        let text = "linux-bare-x: y\nlinux-bare-x: 12 instructions before the kernel's entry\n";
        assert_eq!(before_entry(text), Some(12.0));
    }
}
