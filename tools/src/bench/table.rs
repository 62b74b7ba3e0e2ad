// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The table of all figures: Markdown that is also readable on a terminal.
//!
//! Called by `bench` for what was just measured and by `document` for what is
//! committed. Figures without a target come last.

use super::arch::Arch;
use super::results::Results;
use super::targets::{self, Target};

type Row = Vec<String>;

/// Writes the table.
pub fn table(arch: Arch, results: &Results) -> String {
    let mut rows = vec![head(arch)];
    let targets = targets::targets(arch);
    rows.extend(targets.iter().map(|target| with_target(target, results)));
    let is_free = |name: &&str| !targets.iter().any(|target| target.name == *name);
    let free = names(results).into_iter().filter(is_free);
    rows.extend(free.map(|name| without_target(name, results, targets::peers(arch).len())));
    render(&rows)
}

fn head(arch: Arch) -> Row {
    let own = ["", "bare QEMU", "AxHive", "must", ""];
    let peers = targets::peers(arch);
    own.iter().chain(peers).map(ToString::to_string).collect()
}

fn names(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in results.axhive.iter().chain(results.bare.iter()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn with_target(target: &Target, results: &Results) -> Row {
    let (bare, axhive) = (
        results.bare.get(target.name),
        results.axhive.get(target.name),
    );
    let verdict = match (axhive, target.limit.resolve(bare)) {
        (Some(figure), Some(most)) if figure <= most => "ok",
        (Some(_), Some(_)) => "MISSED",
        _ => "",
    };
    let own = [
        target.name.to_string(),
        cell(bare),
        cell(axhive),
        target.limit.text(),
        verdict.to_string(),
    ];
    let peers = target.peers.iter().map(ToString::to_string);
    own.into_iter().chain(peers).collect()
}

fn without_target(name: &str, results: &Results, peers: usize) -> Row {
    let (bare, axhive) = (results.bare.get(name), results.axhive.get(name));
    let own = [name.to_string(), cell(bare), cell(axhive)];
    let rest = std::iter::repeat_n(String::new(), 2 + peers);
    own.into_iter().chain(rest).collect()
}

fn cell(figure: Option<f64>) -> String {
    match figure {
        None => "–".to_string(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}").trim_end_matches(".0").to_string(),
    }
}

fn render(rows: &[Row]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut lines: Vec<String> = rows.iter().map(|row| line(row, &widths)).collect();
    lines.insert(1, rule(&widths));
    lines.concat()
}

// Names to the left, everything else to the right.
fn line(row: &Row, widths: &[usize]) -> String {
    let cells = row
        .iter()
        .zip(widths)
        .enumerate()
        .map(|(column, (cell, width))| {
            if column == 0 {
                format!(" {cell:<width$} |")
            } else {
                format!(" {cell:>width$} |")
            }
        });
    format!("|{}\n", cells.collect::<String>())
}

fn rule(widths: &[usize]) -> String {
    let cells = widths
        .iter()
        .enumerate()
        .map(|(column, width)| match column {
            0 => format!("{:-<1$}|", "", width + 2),
            _ => format!("{:-<1$}:|", "", width + 1),
        });
    format!("|{}\n", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::{Arch, Results, table};
    use crate::bench::figures::Figures;

    fn results() -> Results {
        Results {
            bare: Figures::of_console("BENCH timer-interrupt 1 x\nBENCH extra 2.5 x\n"),
            axhive: Figures::of_console("BENCH timer-interrupt 202 x\nBENCH sbi-base-probe 60 x\n"),
            ..Results::default()
        }
    }

    fn line_of<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
        let mut lines = table.lines().map(|line| line.split('|').map(str::trim));
        let found = lines.find(|cells| cells.clone().nth(1) == Some(name));
        found.expect("the name has a line").skip(1).collect()
    }

    #[test]
    fn what_misses_its_target_is_marked() {
        let riscv64 = table(Arch::Riscv64, &results());
        assert_eq!(
            line_of(&riscv64, "sbi-base-probe")[1..5],
            ["–", "60", "≤ 110", "ok"]
        );
        assert_eq!(line_of(&riscv64, "ipi-self")[4], "");
        let aarch64 = table(Arch::Aarch64, &results());
        assert_eq!(line_of(&aarch64, "timer-interrupt")[4], "MISSED");
    }

    #[test]
    fn figures_without_a_target_are_shown_too() {
        let table = table(Arch::Riscv64, &results());
        assert_eq!(line_of(&table, "extra")[1..4], ["2.5", "–", ""]);
    }

    #[test]
    fn all_lines_are_equally_long() {
        let table = table(Arch::Aarch64, &results());
        let lengths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{table}");
    }
}
