// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The words of the command line that the loader handed over.
//!
//! Kept by the readers of boot information, asked by the guest. A word counts
//! only when it stands alone; a line that is too long loses its end.

use heapless::String;

/// The most bytes of a command line that are looked at.
pub const MAX_BYTES: usize = 1024;

/// A command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine(String<MAX_BYTES>);

impl CommandLine {
    /// Keeps a copy of `line`.
    pub fn new(line: &str) -> Self {
        let mut kept = Self::default();
        line.chars().all(|character| kept.0.push(character).is_ok());
        kept
    }

    /// Tells whether `word` stands on the line.
    pub fn has(&self, word: &str) -> bool {
        self.0.split_ascii_whitespace().any(|found| found == word)
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, MAX_BYTES};

    #[test]
    fn only_whole_words_count() {
        let line = CommandLine::new("/tmp/spin/hello console=ttyS0 reboot  echo\tfaulty");
        assert!(line.has("reboot") && line.has("echo"));
        assert!(!line.has("spin") && !line.has("fault"));
    }

    #[test]
    fn a_line_that_is_too_long_loses_its_end() {
        let line = CommandLine::new(&format!("first {} last", "x".repeat(MAX_BYTES)));
        assert!(line.has("first") && !line.has("last"));
    }
}
