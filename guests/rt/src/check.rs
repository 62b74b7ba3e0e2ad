// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What every check of a test guest ends with.

use crate::machine::Failure;

/// How a check ended.
pub type Checked = Result<(), Failure>;

/// Fails with `what` unless it is true.
pub fn hold(what: &'static str, is_true: bool) -> Checked {
    match is_true {
        true => Ok(()),
        false => Err(Failure(what)),
    }
}

/// Fails with `what`, and says both, unless the two are the same.
pub fn same<T: PartialEq + core::fmt::LowerHex>(
    what: &'static str,
    found: T,
    expected: T,
) -> Checked {
    if found == expected {
        return Ok(());
    }
    say!("{what}: {found:#x}, not {expected:#x}");
    Err(Failure(what))
}
