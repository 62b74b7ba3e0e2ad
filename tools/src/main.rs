// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! `axhive-tools`: the host side of AxHive.
//!
//! Called by `make run`, `make bench` and by hand. Each subcommand is one function that takes
//! its arguments and returns the problems it met; this file prints
//! them and turns them into the exit status (0, or 1 if any is an error).
//! Text that comes from a bundle or a VM file is printed with its control
//! characters escaped.
#![forbid(unsafe_code)]

mod bench;
mod check;
mod extract;
mod list;
mod open;
mod pack;
mod print;
mod problem;
mod references;
mod source;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::problem::Severity;

/// Makes and inspects the bundles that AxHive boots from, and measures it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pack VM files and the files they refer to into one bundle
    Bundle(BundleArgs),
    /// Print what is in a bundle
    List {
        /// The bundle to read
        bundle: PathBuf,
    },
    /// Compare every file in a bundle with its checksum
    Check {
        /// The bundle to read
        bundle: PathBuf,
    },
    /// Unpack a bundle into a new or empty directory
    Extract {
        /// The bundle to read
        bundle: PathBuf,
        /// The directory to unpack into
        directory: PathBuf,
    },
    /// Measure what VMs cost, in instructions, and compare
    Bench(bench::BenchArgs),
}

#[derive(Args)]
struct BundleArgs {
    /// Where to write the bundle
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Refuse to make a bundle in which something is missing
    #[arg(long)]
    strict: bool,
    /// The VM files, in the order in which their VMs are to start
    #[arg(required = true, value_name = "FILE.toml")]
    vm_files: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let problems = match Cli::parse().command {
        Command::Bundle(args) => pack::run(&args.output, &args.vm_files, severity(args.strict)),
        Command::List { bundle } => list::run(&bundle),
        Command::Check { bundle } => check::run(&bundle),
        Command::Extract { bundle, directory } => extract::run(&bundle, &directory),
        Command::Bench(args) => bench::run(&args),
    };
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    match problem::worst(&problems) {
        Some(Severity::Error) => ExitCode::FAILURE,
        Some(Severity::Warning) | None => ExitCode::SUCCESS,
    }
}

/// What it is if something that a VM file refers to cannot be packed.
fn severity(is_strict: bool) -> Severity {
    if is_strict {
        Severity::Error
    } else {
        Severity::Warning
    }
}
