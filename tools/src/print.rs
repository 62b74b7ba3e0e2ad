// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Printing to the user's terminal.
//!
//! Called by every command. Names in a bundle or a VM file are anyone's, so
//! they are printed through `Printable`, which keeps them on one line and
//! harmless to the terminal.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use crate::problem::Problem;
use crate::source;

/// Prints `text`; that nobody reads it to its end is no problem.
pub fn text(text: &str) -> Result<(), Problem> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let place = Path::new("standard output");
            Err(Problem::error(
                place,
                source::reason(&error),
                "write to a place with room",
            ))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Text of unknown origin, printed on one line without control characters.
pub struct Printable<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => write!(f, "{character}")?,
            }
        }
        Ok(())
    }
}
