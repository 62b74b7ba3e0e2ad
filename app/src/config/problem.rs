// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What is wrong with a VM's file, in one line for a person to act on.
//!
//! Made by the rest of this folder, shown by the console. Invariant: a problem
//! names the file, a line inside it, the cause and the remedy, and prints as
//! exactly one line whatever the file contains.

use alloc::{string::String, vec::Vec};
use core::fmt;

use crate::text::one_line;

/// How many problems of one file are told; the others are counted.
pub const PROBLEMS_MAX: usize = 8;
/// How much is shown of what a file says.
pub const SHOWN_CHARS_MAX: usize = 60;
/// How much is shown of a cause or a remedy.
const SENTENCE_CHARS_MAX: usize = 240;

/// A place in a VM's file: the line, and what stands there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// What stands there, such as `cpus = 9`.
    pub shown: String,
}

/// One thing that is wrong with a VM's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    file: String,
    place: Place,
    cause: String,
    remedy: String,
}

impl Problem {
    /// Names a problem at a place of `file`.
    pub fn new(file: &str, place: &Place, cause: &str, remedy: &str) -> Self {
        Self {
            file: one_line(file, SENTENCE_CHARS_MAX),
            place: Place {
                line: place.line.max(1),
                shown: one_line(&place.shown, SHOWN_CHARS_MAX),
            },
            cause: one_line(cause, SENTENCE_CHARS_MAX),
            remedy: one_line(remedy, SENTENCE_CHARS_MAX),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.place.line)?;
        if !self.place.shown.is_empty() {
            write!(f, "{}: ", self.place.shown)?;
        }
        write!(f, "{}; {}", self.cause, self.remedy)
    }
}

/// The problems of one file, a bounded number of them.
pub struct Problems<'f> {
    file: &'f str,
    told: Vec<Problem>,
    first_untold: Option<Place>,
    untold: usize,
}

impl<'f> Problems<'f> {
    /// Makes an empty list for `file`.
    pub fn new(file: &'f str) -> Self {
        Self {
            file,
            told: Vec::new(),
            first_untold: None,
            untold: 0,
        }
    }

    /// Adds a problem, or counts it if enough are told already.
    pub fn add(&mut self, place: &Place, cause: &str, remedy: &str) {
        if self.told.len() < PROBLEMS_MAX {
            self.told
                .push(Problem::new(self.file, place, cause, remedy));
        } else {
            self.untold = self.untold.saturating_add(1);
            self.first_untold.get_or_insert_with(|| place.clone());
        }
    }

    /// Tells whether nothing is wrong so far.
    pub fn is_empty(&self) -> bool {
        self.told.is_empty()
    }

    /// Returns the problems by line, with a last one if some were only counted.
    pub fn finish(mut self) -> Vec<Problem> {
        self.told.sort_by_key(|problem| problem.place.line);
        if let Some(place) = self.first_untold {
            let cause = alloc::format!("this and {} more are wrong too", self.untold);
            let remedy = "mend the ones above first";
            self.told
                .push(Problem::new(self.file, &place, &cause, remedy));
        }
        self.told
    }
}
