// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guests that a case needs, built before its time runs.
//!
//! scripts/test-guests.sh knows how to build each; what is built already costs
//! it a second. Cases that run on what is embedded in the hypervisor need none.

use std::{path::Path, process::Command};

use crate::{Failure, case::Case};

/// Builds the guests of a case.
pub fn build(case: &Case, arch: &str) -> Result<(), Failure> {
    if case.needs.is_empty() {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(root.join("scripts/test-guests.sh"))
        .arg(arch)
        .args(&case.needs)
        .status()?;
    if status.success() {
        Ok(())
    } else {
        Err(Failure::Guests(case.needs.clone()))
    }
}
