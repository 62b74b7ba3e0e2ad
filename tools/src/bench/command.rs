// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Running other programs: the scripts of the repository, make, QEMU and git.
//!
//! Each is run in the repository's root, with nothing to read and a bounded
//! time. A program that fails becomes a problem with the end of its output.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::problem::Problem;

/// The longest that any program may take, in seconds.
const PATIENCE_S: &str = "1800";
const LAST_LINES: usize = 5;

/// Runs a program and returns what it wrote to its standard output.
pub fn output(words: &[&str], variables: &[(&str, &str)]) -> Result<String, Problem> {
    let program = words.first().copied().unwrap_or_default();
    let fail = |cause: String| {
        let remedy = "run it by hand: ".to_string() + &words.join(" ");
        Problem::error(Path::new(program), cause, remedy)
    };
    let output = Command::new("timeout")
        .args(["-k", "5", PATIENCE_S])
        .args(words)
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| fail(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let end = last_lines(&text);
        return Err(fail(format!("{}, after: {end}", output.status)));
    }
    Ok(text)
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let start = lines.len().saturating_sub(LAST_LINES);
    lines.get(start..).unwrap_or_default().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::output;

    #[test]
    fn output_is_what_the_program_writes() {
        let text = output(&["sh", "-c", "echo $WORD"], &[("WORD", "here")]);
        assert_eq!(text.ok().as_deref(), Some("here\n"));
    }

    #[test]
    fn a_failure_quotes_the_end_of_the_output() {
        let problem = output(&["sh", "-c", "echo first; echo last; exit 3"], &[]).unwrap_err();
        let line = problem.to_string();
        assert!(
            line.contains("exit status: 3, after: first / last"),
            "{line}"
        );
    }

    #[test]
    fn a_program_that_is_missing_is_a_problem() {
        assert!(output(&["/nowhere/program"], &[]).is_err());
    }
}
