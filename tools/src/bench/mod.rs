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
use self::results::Results;
use crate::print;
use crate::problem::{Problem, Severity};

/// What to measure, and what to do with the results.
#[derive(Args)]
pub struct BenchArgs {
    /// The architecture to measure
    #[arg(long, value_enum)]
    arch: Arch,
    /// Measure Linux to user space, too (guests/linux must have been built)
    #[arg(long)]
    linux: bool,
    /// Measure the bare machine alone
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
    let measured = measure_all(args)?;
    if !args.bare && measured.axhive.is_empty() {
        problems.push(without_axhive(args));
    }
    print::text(&format!(
        "{}: commit {}, QEMU {}, instructions\n{}",
        args.arch.name(),
        measured.commit,
        measured.qemu,
        table::table(args.arch, &measured)
    ))?;
    if args.check {
        problems.extend(check(args.arch, &measured)?);
    }
    if args.write {
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

fn measure_all(args: &BenchArgs) -> Result<Results, Problem> {
    let arch = args.arch;
    let mut results = Results {
        commit: measure::commit(),
        qemu: measure::qemu_version(arch)?,
        ..Results::default()
    };
    measure::build(arch)?;
    results.bare = measure::bare(arch)?;
    if args.linux {
        results.bare.extend(linux::bare(arch)?);
    }
    if args.bare {
        return Ok(results);
    }
    if let Some(file) = measure::vm_file(arch, "bench") {
        results.axhive = measure::in_axhive(arch, &file)?;
    }
    if let Some(file) = measure::vm_file(arch, linux::VM).filter(|_| args.linux) {
        results.axhive.extend(linux::in_axhive(arch, &file)?);
    }
    Ok(results)
}

fn without_axhive(args: &BenchArgs) -> Problem {
    let place = format!("configs/vms/{}/bench.toml", args.arch.name());
    let cause = "there is none, so only the bare machine was measured";
    let problem = Problem::error(
        Path::new(&place),
        cause,
        "write one when AxHive runs VMs there",
    );
    problem.with_severity(Severity::Warning)
}

fn check(arch: Arch, measured: &Results) -> Result<Vec<Problem>, Problem> {
    let Some(committed) = results::read(arch)? else {
        let cause = "there is nothing to compare with";
        return Err(Problem::error(
            &results::file_of(arch),
            cause,
            "use --write first",
        ));
    };
    Ok(results::regressions(arch, &committed, measured))
}
