// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The results of an architecture, and the file that keeps them.
//!
//! `docs/benchmarks/<arch>.toml` is written by `bench --write` and is what
//! `bench --check` compares with. Figures repeat exactly with one compiler and
//! one QEMU; the margin is for other versions of either.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::arch::Arch;
use super::figures::Figures;
use crate::problem::Problem;

/// How much more than the committed figure a new one may be.
const MARGIN: f64 = 1.10;
/// What a figure may grow by in any case: one instruction of a short path is
/// more than the margin.
const SLACK: f64 = 2.0;

/// What was measured, and with what.
#[derive(Debug, Default, PartialEq)]
pub struct Results {
    /// The commit that was measured.
    pub commit: String,
    /// The version of QEMU.
    pub qemu: String,
    /// The guest on the bare machine.
    pub bare: Figures,
    /// The same guest in AxHive.
    pub axhive: Figures,
}

/// Returns the file that keeps an architecture's results.
pub fn file_of(arch: Arch) -> PathBuf {
    Path::new("docs/benchmarks").join(format!("{}.toml", arch.name()))
}

/// Reads an architecture's results, if they are kept.
pub fn read(arch: Arch) -> Result<Option<Results>, Problem> {
    let file = file_of(arch);
    if !file.exists() {
        return Ok(None);
    }
    let remedy = "write it anew with --write";
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Problem::error(&file, error.to_string(), remedy))?;
    let parsed = parse(&text).map_err(|cause| Problem::error(&file, cause, remedy))?;
    Ok(Some(parsed))
}

fn parse(text: &str) -> Result<Results, String> {
    let table = DeTable::parse(text).map_err(|error| error.message().to_string())?;
    let table = table.get_ref();
    let word = |key: &str| table.get(key).and_then(|value| value.get_ref().as_str());
    let figures = |key: &str| {
        let section = table.get(key).and_then(|value| value.get_ref().as_table());
        section.map(figures_of).unwrap_or_default()
    };
    Ok(Results {
        commit: word("commit").ok_or("no commit")?.to_string(),
        qemu: word("qemu").ok_or("no qemu")?.to_string(),
        bare: figures("bare"),
        axhive: figures("axhive"),
    })
}

fn figures_of(section: &DeTable) -> Figures {
    let mut figures = Figures::default();
    for (name, value) in section {
        let value = value.get_ref().as_float().map(|float| float.as_str());
        if let Some(Ok(value)) = value.map(str::parse) {
            figures.add(name.get_ref(), value);
        }
    }
    figures
}

/// Writes an architecture's results.
pub fn write(arch: Arch, results: &Results) -> Result<(), Problem> {
    let file = file_of(arch);
    let fail = |error: std::io::Error| {
        Problem::error(&file, error.to_string(), "make the folder writable")
    };
    std::fs::create_dir_all("docs/benchmarks").map_err(fail)?;
    std::fs::write(&file, text(arch, results)).map_err(fail)
}

fn text(arch: Arch, results: &Results) -> String {
    let mut text = format!(
        "# Written by `make bench ARCH={} BENCH=--write`; instructions.\n\
         commit = \"{}\"\nqemu = \"{}\"\n",
        arch.name(),
        results.commit.escape_default(),
        results.qemu.escape_default(),
    );
    for (section, figures) in [("bare", &results.bare), ("axhive", &results.axhive)] {
        if figures.is_empty() {
            continue;
        }
        let _ = write!(text, "\n[{section}]\n");
        for (name, value) in figures.iter() {
            let _ = writeln!(text, "{name} = {value:.2}");
        }
    }
    text
}

/// Returns what has become slower than the committed results allow, or is gone.
pub fn regressions(arch: Arch, committed: &Results, measured: &Results) -> Vec<Problem> {
    let file = file_of(arch);
    let judge = |(name, before): (&str, f64)| {
        let cause = match measured.axhive.get(name) {
            None => format!("{name} was {before:.0} and is not measured any more"),
            Some(now) if now > (before * MARGIN).max(before + SLACK) => {
                format!("{name} was {before:.0} and is {now:.0} instructions")
            }
            Some(_) => return None,
        };
        let remedy = "make it faster again, or justify it and use --write";
        Some(Problem::error(&file, cause, remedy))
    };
    committed.axhive.iter().filter_map(judge).collect()
}

#[cfg(test)]
mod tests {
    use super::{Arch, Figures, Results, parse, regressions, text};

    fn results(axhive: &str) -> Results {
        Results {
            commit: "0123abc".to_string(),
            qemu: "7.2.22".to_string(),
            bare: Figures::of_console("BENCH a 1 x\n"),
            axhive: Figures::of_console(axhive),
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let results = results("BENCH a 60.25 x\nBENCH b-c 7 x\n");
        assert_eq!(parse(&text(Arch::Riscv64, &results)), Ok(results));
    }

    #[test]
    fn a_tenth_more_is_allowed_and_no_more() {
        let committed = results("BENCH a 100 x\nBENCH b 1 x\n");
        let as_bad = results("BENCH a 110 x\nBENCH b 3 x\n");
        assert!(regressions(Arch::Riscv64, &committed, &as_bad).is_empty());
        let worse = results("BENCH a 111 x\nBENCH b 3.5 x\n");
        assert_eq!(regressions(Arch::Riscv64, &committed, &worse).len(), 2);
    }

    #[test]
    fn a_figure_that_is_gone_is_a_regression() {
        let committed = results("BENCH a 100 x\n");
        assert_eq!(
            regressions(Arch::Riscv64, &committed, &results("")).len(),
            1
        );
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        assert!(parse("commit = ").is_err());
        assert!(parse("commit = \"a\"").is_err());
    }
}
