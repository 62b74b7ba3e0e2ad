// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A case as its file says it.
//!
//! One folder a case, `tests/qemu/NAME/case.toml`; tests/qemu/README.md
//! explains the keys. Unknown keys are refused.

use std::{fs, path::Path};

use serde::Deserialize;

use crate::Failure;

/// What the Makefile says of `SMP`.
const DEFAULT_SMP: usize = 2;

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The folder's name.
    #[serde(skip)]
    pub name: String,
    /// What it shows, in one sentence.
    pub what: String,
    /// The architectures it is for.
    pub arch: Vec<String>,
    /// The guests to build first, folders of guests/.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Variables for make, such as `SMP` or `VM`; `{arch}` and `{case}` are filled in.
    #[serde(default)]
    pub make: std::collections::BTreeMap<String, String>,
    /// How long it may take.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// The exit status of make.
    #[serde(default)]
    pub status: i32,
    /// What is waited for and typed, in order.
    #[serde(default)]
    pub step: Vec<Step>,
    /// Patterns that must have appeared in the end.
    #[serde(default)]
    pub expect: Vec<String>,
    /// Patterns that must never appear, beside those that never may.
    #[serde(default)]
    pub refuse: Vec<String>,
}

/// One step: wait, then type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The pattern to wait for, in what came after the last one.
    pub wait: String,
    /// What to type then.
    #[serde(default)]
    pub send: String,
}

fn default_timeout_s() -> u64 {
    300
}

impl Case {
    /// Fills `{arch}` and `{case}` into a text of the case.
    pub fn fill(&self, text: &str, arch: &str) -> String {
        text.replace("{arch}", arch).replace("{case}", &self.name)
    }

    /// Returns how many CPUs of this machine it keeps busy.
    ///
    /// QEMU runs all CPUs in one thread where it counts instructions, and those of
    /// x86_64 (scripts/qemu.sh says why); Bochs has one thread anyway.
    pub fn cpus(&self, arch: &str) -> usize {
        let counts = |arguments: &String| arguments.contains("-icount");
        if arch == "x86_64" || self.make.get("QEMU_ARGS").is_some_and(counts) {
            return 1;
        }
        let smp = self.make.get("SMP").and_then(|smp| smp.parse().ok());
        smp.unwrap_or(DEFAULT_SMP)
    }

    /// Reads every case of a folder, in the order of their names.
    pub fn all(folder: &Path) -> Result<Vec<Self>, Failure> {
        let mut cases = Vec::new();
        for entry in fs::read_dir(folder)? {
            let file = entry?.path().join("case.toml");
            if file.is_file() {
                cases.push(Self::read(&file)?);
            }
        }
        cases.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(cases)
    }

    fn read(file: &Path) -> Result<Self, Failure> {
        let fault = |cause: String| Failure::Case {
            path: file.display().to_string(),
            cause,
        };
        let text = fs::read_to_string(file)?;
        let mut case: Self = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
        let folder = file.parent().and_then(Path::file_name);
        let folder = folder.ok_or_else(|| fault("has no folder".into()))?;
        case.name = folder.to_string_lossy().into_owned();
        if case.what.is_empty() || case.arch.is_empty() {
            return Err(fault("what and arch may not be empty".into()));
        }
        Ok(case)
    }
}

#[cfg(test)]
mod tests {
    use super::Case;

    fn case(make: &str) -> Case {
        let text = format!("what = 'x'\narch = ['riscv64']\nmake = {{ {make} }}");
        toml::from_str(&text).expect("a case")
    }

    #[test]
    fn a_case_keeps_as_many_cpus_busy_as_qemu_has_threads_for_them() {
        assert_eq!(case("").cpus("riscv64"), 2);
        assert_eq!(case("SMP = '4'").cpus("aarch64"), 4);
        assert_eq!(case("SMP = '4'").cpus("x86_64"), 1);
        let counted = case("SMP = '4', QEMU_ARGS = '-icount shift=0,sleep=off'");
        assert_eq!(counted.cpus("riscv64"), 1);
    }
}
