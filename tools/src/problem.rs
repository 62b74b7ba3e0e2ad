// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the user is told: one line for each problem.
//!
//! `error: FILE:LINE: cause; remedy`, the form that the hypervisor's own
//! configuration errors have. Paths and causes may stem from a file that
//! nobody has checked, so control characters are escaped: a problem stays one
//! line and cannot drive the terminal.

use std::fmt;
use std::path::Path;

use crate::print::Printable;

/// Whether the command failed or only has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The command does what it was asked to; one VM may not start.
    Warning,
    /// The command failed.
    Error,
}

/// One problem, printed as one line.
#[derive(Debug)]
pub struct Problem {
    severity: Severity,
    place: String,
    line: Option<usize>,
    cause: String,
    remedy: String,
}

impl Problem {
    /// Returns an error about `place`, a file or what stands for one.
    pub fn error(place: &Path, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            place: place.display().to_string(),
            line: None,
            cause: cause.into(),
            remedy: remedy.into(),
        }
    }

    /// Returns this problem with the line it is about, counted from 1.
    pub fn at_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// Returns this problem with another severity.
    pub fn with_severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }
}

/// Returns the worst severity among `problems`.
pub fn worst(problems: &[Problem]) -> Option<Severity> {
    problems.iter().map(|problem| problem.severity).max()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}", Printable(&self.place))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(
            f,
            ": {}; {}",
            Printable(&self.cause),
            Printable(&self.remedy)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_it_quotes() {
        let problem = Problem::error(Path::new("a\n.toml"), "x\x1b[2Jü", "do y").at_line(3);
        assert_eq!(
            problem.to_string(),
            "error: a\\n.toml:3: x\\u{1b}[2Jü; do y"
        );
    }

    #[test]
    fn an_error_is_worse_than_a_warning() {
        let error = || Problem::error(Path::new("x"), "c", "r");
        let warning = || error().with_severity(Severity::Warning);
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[warning()]), Some(Severity::Warning));
        assert_eq!(
            worst(&[warning(), error(), warning()]),
            Some(Severity::Error)
        );
    }
}
