// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the benchmarks must know of each architecture.
//!
//! Used by all files of this folder. The bare machine is the one whose model a
//! guest of AxHive sees.

use clap::ValueEnum;

/// An architecture that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    /// RISC-V with the hypervisor extension.
    #[value(name = "riscv64")]
    Riscv64,
    /// Arm with EL2.
    #[value(name = "aarch64")]
    Aarch64,
    /// AMD64 with SVM.
    #[value(name = "x86_64")]
    X86_64,
}

impl Arch {
    /// All of them, in the order in which they are documented.
    pub const ALL: [Self; 3] = [Self::Riscv64, Self::Aarch64, Self::X86_64];

    /// Returns its name, as in `ARCH=`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Riscv64 => "riscv64",
            Self::Aarch64 => "aarch64",
            Self::X86_64 => "x86_64",
        }
    }

    /// Returns QEMU's arguments for the bare machine.
    pub fn bare_machine(self) -> &'static [&'static str] {
        match self {
            Self::Riscv64 => &["-machine", "virt", "-cpu", "rv64,h=true"],
            Self::Aarch64 => &["-machine", "virt,gic-version=3", "-cpu", "max"],
            Self::X86_64 => &["-machine", "q35", "-cpu", "EPYC"],
        }
    }

    /// Returns where AxHive is entered, and where Linux is in a VM, in hexadecimal.
    ///
    /// Where both begin at the same address, it is Linux's second instruction,
    /// which is none of AxHive's.
    pub fn entries(self) -> (&'static str, &'static str) {
        match self {
            Self::Riscv64 => ("80200000", "80200002"),
            Self::Aarch64 => ("40200000", "40200004"),
            Self::X86_64 => ("200000", "1000200"),
        }
    }
}
