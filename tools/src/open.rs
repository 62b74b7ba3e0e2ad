// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Opening a bundle, for every command that reads one.
//!
//! What is wrong with the bundle as a whole is reported here, in one line that
//! names the bundle and the reason; a command sees only bundles whose index is
//! sound.

use std::path::Path;

use bundle::Bundle;

use crate::problem::Problem;
use crate::source;

/// Reads and parses the bundle at `path` and hands it to `command`.
pub fn with_bundle(path: &Path, command: impl FnOnce(&Bundle<'_>) -> Vec<Problem>) -> Vec<Problem> {
    let bytes = match source::read_regular(path) {
        Ok(bytes) => bytes,
        Err(reason) => {
            let cause = format!("the bundle cannot be read: {reason}");
            return vec![Problem::error(path, cause, "name a bundle that exists")];
        }
    };
    match Bundle::parse(&bytes) {
        Ok(bundle) => command(&bundle),
        Err(error) => {
            let remedy = "make it again with `axhive-tools bundle`";
            vec![Problem::error(path, error.to_string(), remedy)]
        }
    }
}
