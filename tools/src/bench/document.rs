// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes docs/benchmarks.md from the committed results of all architectures.
//!
//! Called by `bench --write`. The text is a function of docs/benchmarks/*.toml.

use std::fs;
use std::path::Path;

use super::arch::Arch;
use super::results::{self, Results};
use super::table::table;
use crate::problem::Problem;

const FILE: &str = "docs/benchmarks.md";

const INTRODUCTION: &str = "\
# Benchmarks

Written by `make bench ARCH=… BENCH=--write`; do not edit.

All figures are instructions, the same in each run: QEMU with `-icount shift=0,sleep=off` and one CPU. The guest is
`guests/bench`, the same file on bare QEMU and in AxHive; a figure is what the guest sees, from the first instruction after
it read its clock to the next reading, or to the first instruction of the interrupt's handler. `bare QEMU` includes the
firmware, which on riscv64 is OpenSBI. `fresh-ram-4k` is what a first write to a page costs more than one to a page in use.
`linux-boot` counts from the kernel's entry to user space, `linux-power-on` from the machine's reset, `linux-first-instruction`
from AxHive's first instruction to the guest's; each is the mean over boots that differ by the size of a file in the initramfs, since
where in a tick a kernel is moves its count by some ticks. The figures of others were measured with one guest program on QEMU 10.0.2, or are
published ones where it says so. `image-bytes` is the size of AxHive's image, in bytes. `linux-exits` counts how often Linux
leaves its guest until it is switched off again behind that, by kinds as the console shows them (with `LOG=info` for each VM
that ends). `make bench ARCH=… BENCH=--check` fails if a figure has grown by more than a tenth.
";

/// Writes the document.
pub fn write() -> Result<(), Problem> {
    let mut text = INTRODUCTION.to_string();
    for arch in Arch::ALL {
        if let Some(results) = results::read(arch)? {
            text += &section(arch, &results);
        }
    }
    fs::write(FILE, text)
        .map_err(|error| Problem::error(Path::new(FILE), error.to_string(), "make it writable"))
}

fn section(arch: Arch, results: &Results) -> String {
    let Results { commit, qemu, .. } = results;
    let name = arch.name();
    format!(
        "\n## {name}\n\nCommit {commit}, QEMU {qemu}.\n\n{}",
        table(arch, results)
    )
}

#[cfg(test)]
mod tests {
    use super::{Arch, Results, section};

    #[test]
    fn a_section_says_what_was_measured_with_what() {
        let results = Results {
            commit: "0123abc".to_string(),
            qemu: "7.2.22".to_string(),
            ..Results::default()
        };
        let text = section(Arch::X86_64, &results);
        assert!(text.starts_with("\n## x86_64\n\nCommit 0123abc, QEMU 7.2.22.\n\n| "));
    }
}
