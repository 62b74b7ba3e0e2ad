// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools bench`: measures, compares, and keeps the results.
//!
//! Called from `main`, in the repository's root. The benchmark guest is run bare
//! and in AxHive, Linux too if asked for; the table of all figures is printed.
//! Only `--check` makes a slow figure a failure.

mod arch;
mod command;
mod document;
mod figures;
mod linux;
mod measure;
mod results;
mod table;
mod targets;

use std::path::Path;

use clap::Args;

use self::arch::Arch;
use self::figures::Figures;
use self::results::Results;
use crate::print;
use crate::problem::{self, Problem, Severity};

/// What to measure, and what to do with the results.
#[derive(Args)]
pub struct BenchArgs {
    /// The architecture to measure
    #[arg(long, value_enum)]
    arch: Arch,
    /// Measure Linux to user space, too (guests/linux must have been built)
    #[arg(long)]
    linux: bool,
    /// Measure the bare machine alone, as where AxHive runs no VMs yet
    #[arg(long)]
    bare: bool,
    /// Fail if a figure is more than 10 % above the committed one
    #[arg(long)]
    check: bool,
    /// Keep the results in docs/benchmarks
    #[arg(long, conflicts_with = "check")]
    write: bool,
}

/// Measures one architecture and prints the table.
pub fn run(args: &BenchArgs) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Err(problem) = try_run(args, &mut problems) {
        problems.push(problem);
    }
    problems
}

fn try_run(args: &BenchArgs, problems: &mut Vec<Problem>) -> Result<(), Problem> {
    in_repository()?;
    let mut measured = measure_bare(args)?;
    if !args.bare {
        // What was measured is shown even if AxHive fails.
        match measure_axhive(args) {
            Ok(figures) => measured.axhive = figures,
            Err(problem) => problems.push(problem),
        }
    }
    print::text(&format!(
        "{}: commit {}, QEMU {}, instructions\n{}",
        args.arch.name(),
        measured.commit,
        measured.qemu,
        table::table(args.arch, &measured)
    ))?;
    if args.check {
        problems.extend(check(args, &measured)?);
    }
    if args.write && problem::worst(problems) != Some(Severity::Error) {
        results::write(args.arch, &measured)?;
        document::write()?;
    }
    Ok(())
}

fn in_repository() -> Result<(), Problem> {
    if Path::new("guests/bench/Cargo.toml").exists() {
        return Ok(());
    }
    let cause = "guests/bench is not here";
    Err(Problem::error(
        Path::new("."),
        cause,
        "run this in AxHive's repository",
    ))
}

fn measure_bare(args: &BenchArgs) -> Result<Results, Problem> {
    let mut results = Results {
        commit: measure::commit(),
        qemu: measure::qemu_version(args.arch)?,
        ..Results::default()
    };
    measure::build(args.arch)?;
    results.bare = measure::bare(args.arch)?;
    if args.linux {
        results.bare.extend(linux::bare(args.arch)?);
    }
    Ok(results)
}

// An architecture that runs VMs has one of our smallest guest.
fn measure_axhive(args: &BenchArgs) -> Result<Figures, Problem> {
    if !measure::vm_file(args.arch, "hello").exists() {
        return Ok(Figures::default());
    }
    let mut figures = measure::in_axhive(args.arch)?;
    figures.add("image-bytes", measure::image_bytes(args.arch)?);
    if args.linux {
        figures.extend(linux::in_axhive(args.arch)?);
    }
    Ok(figures)
}

fn check(args: &BenchArgs, measured: &Results) -> Result<Vec<Problem>, Problem> {
    let Some(mut committed) = results::read(args.arch)? else {
        let cause = "there is nothing to compare with";
        let file = results::file_of(args.arch);
        return Err(Problem::error(&file, cause, "use --write first"));
    };
    if !args.linux {
        committed.axhive.leave_out(linux::PREFIX);
    }
    Ok(results::regressions(args.arch, &committed, measured))
}
