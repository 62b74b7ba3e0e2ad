// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What AxHive must reach, and what others have been measured at.
//!
//! Read by `table`. The others' figures were taken with one guest program on
//! QEMU 10.0.2 under `-icount shift=0,sleep=off`, or published where it says so.

use super::arch::Arch;

/// The most that a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many instructions.
    AtMost(f64),
    /// So many instructions more than on the bare machine.
    AboveBare(f64),
    /// So many times the instructions of the bare machine.
    TimesBare(f64),
}

/// What is known about one figure beforehand.
pub struct Target {
    /// The figure's name.
    pub name: &'static str,
    /// The most that it may be.
    pub limit: Limit,
    /// What the peers of this architecture take, in the order of [`peers`].
    pub peers: &'static [&'static str],
}

/// Returns who is compared with on an architecture.
pub fn peers(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Riscv64 => &["OpenSBI", "Bao", "Xvisor", "KVM 6.12"],
        Arch::Aarch64 => &["KVM 6.12"],
        Arch::X86_64 => &[],
    }
}

/// Returns the targets of an architecture.
pub fn targets(arch: Arch) -> &'static [Target] {
    match arch {
        Arch::Riscv64 => RISCV64,
        Arch::Aarch64 => AARCH64,
        Arch::X86_64 => X86_64,
    }
}

const fn target(name: &'static str, limit: Limit, peers: &'static [&'static str]) -> Target {
    Target { name, limit, peers }
}

use Limit::{AboveBare, AtMost, TimesBare};

const RISCV64: &[Target] = &[
    target(
        "sbi-base-probe",
        AtMost(110.0),
        &["311", "240", "737", "2383"],
    ),
    target(
        "sbi-set-timer-far",
        AtMost(130.0),
        &["341", "242", "760", "2445"],
    ),
    target("rfence-self", AtMost(350.0), &["3484", "", "", "4763"]),
    target("ipi-self", AtMost(400.0), &["3326", "", "", "4031"]),
    target("timer-past", AtMost(350.0), &["376", "", "", "1266"]),
    target("fresh-ram-4k", AtMost(20.0), &["2", "", "", "4789"]),
    target(
        "uart-status-read",
        AtMost(450.0),
        &["", "", "1101", "7550 (VMM)"],
    ),
    target(
        "device-interrupt",
        AtMost(200.0),
        &["", "188 (published, Arm)", "", ""],
    ),
    target("linux-boot", TimesBare(1.02), &["", "", "", "1.59 times"]),
    target("linux-power-on", TimesBare(1.10), &["", "", "", ""]),
    // 20 million, and 10 for copying 35 MB of images: two and a quarter a word.
    target("linux-first-instruction", AtMost(30e6), &["", "", "", ""]),
    target("image-bytes", AtMost(1_048_576.0), &["", "", "", ""]),
];

const AARCH64: &[Target] = &[
    target("psci-version", AtMost(110.0), &["2815"]),
    target("smccc-version", AtMost(120.0), &["2553"]),
    target("uart-status-read", AtMost(450.0), &["14614 (VMM)"]),
    target("gicd-read", AtMost(500.0), &["4382"]),
    target("fresh-ram-4k", AtMost(20.0), &["14077"]),
    target("second-touch-4k", AtMost(5.0), &["10946"]),
    target("timer-interrupt", AboveBare(188.0), &[""]),
    target("linux-boot", TimesBare(1.02), &["1.88 times"]),
    target("linux-power-on", TimesBare(1.10), &[""]),
];

const X86_64: &[Target] = &[
    target("vmmcall", AtMost(150.0), &[]),
    target("cpuid", AtMost(180.0), &[]),
    target("x2apic-self-ipi", AtMost(500.0), &[]),
    target("tsc-deadline-write", AtMost(200.0), &[]),
    target("com1-status-read", AtMost(450.0), &[]),
    target("linux-boot", TimesBare(1.05), &[]),
    target("linux-exits", AtMost(47_000.0), &[]),
];

impl Limit {
    /// Returns the most that the figure may be, if that is known.
    pub fn resolve(self, bare: Option<f64>) -> Option<f64> {
        match self {
            AtMost(value) => Some(value),
            AboveBare(value) => bare.map(|bare| bare + value),
            TimesBare(factor) => bare.map(|bare| bare * factor),
        }
    }

    /// Returns how it is written in a table.
    pub fn text(self) -> String {
        match self {
            AtMost(value) => format!("≤ {value}"),
            AboveBare(value) => format!("≤ bare + {value}"),
            TimesBare(factor) => format!("≤ bare × {factor:.2}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arch, Limit, peers, targets};

    #[test]
    fn every_target_has_a_cell_for_every_peer() {
        for arch in Arch::ALL {
            for target in targets(arch) {
                assert_eq!(target.peers.len(), peers(arch).len(), "{}", target.name);
            }
        }
    }

    #[test]
    fn limits_that_lean_on_the_bare_machine_need_its_figure() {
        assert_eq!(Limit::AtMost(110.0).resolve(None), Some(110.0));
        assert_eq!(Limit::AboveBare(200.0).resolve(Some(1.0)), Some(201.0));
        assert_eq!(Limit::TimesBare(1.5).resolve(None), None);
    }
}
