// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Text that comes from outside, made fit to be shown.
//!
//! Used by `config` and `shell`. What a user or a file wrote may hold line ends
//! and terminal escapes; [`one_line`] makes it one short harmless line, and
//! [`nearest`] finds the known word that somebody probably meant.

use alloc::{string::String, vec::Vec};

/// The longest word that is compared with the known ones.
const WORD_CHARS_MAX: usize = 64;

/// Returns `text` on one line, without control characters, cut to `chars_max`.
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for (shown, c) in text.chars().enumerate() {
        if shown >= chars_max {
            line.push_str("...");
            break;
        }
        push_harmless(&mut line, c);
    }
    line
}

/// Tells whether a character shows itself and leaves the others alone.
///
/// Not so are control characters and those that reorder or hide text.
pub fn is_harmless(c: char) -> bool {
    let reorders =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !reorders && c != '\u{feff}'
}

fn push_harmless(line: &mut String, c: char) {
    if is_harmless(c) {
        line.push(c);
    } else {
        line.extend(c.escape_default());
    }
}

/// Returns the known word that `word` was probably meant to be.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word
        .chars()
        .take(WORD_CHARS_MAX)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    known
        .into_iter()
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= tolerance(word.len().max(candidate.len())))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters of a word may be wrong.
fn tolerance(letters: usize) -> usize {
    letters.div_ceil(3)
}

/// Counts the letters to insert, drop or replace to make one word the other.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.chars().collect();
    let mut row: Vec<usize> = (0..=candidate.len()).collect();
    for (letters, c) in (1_usize..).zip(word) {
        row = next_row(&row, letters, |other| *c == other, &candidate);
    }
    row.last().copied().unwrap_or(0)
}

fn next_row(
    above: &[usize],
    first: usize,
    is_same: impl Fn(char) -> bool,
    candidate: &[char],
) -> Vec<usize> {
    let mut left = first;
    let rest = above.iter().zip(above.iter().skip(1)).zip(candidate);
    let rest = rest.map(|((diagonal, up), other)| {
        let replaced = diagonal.saturating_add(usize::from(!is_same(*other)));
        left = replaced.min(up.min(&left).saturating_add(1));
        left
    });
    core::iter::once(first).chain(rest).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_misspelt_word_finds_the_word_that_was_meant() {
        let known = ["name", "cpus", "memory", "pcpus", "kernel"];
        assert_eq!(nearest("memroy", known), Some("memory"));
        assert_eq!(nearest("Kernel", known), Some("kernel"));
        assert_eq!(nearest("cpu", known), Some("cpus"));
        assert_eq!(nearest("watchdog", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn control_characters_are_escaped_and_long_text_is_cut() {
        assert_eq!(one_line("a\nb\x1b[2J", 40), "a\\nb\\u{1b}[2J");
        assert_eq!(one_line("abcdef", 3), "abc...");
        assert_eq!(one_line("\u{202e}x", 9), "\\u{202e}x");
    }

    proptest! {
        #[test]
        fn one_line_is_one_harmless_line(text in ".*", max in 0_usize..50) {
            let line = one_line(&text, max);
            prop_assert!(line.chars().all(is_harmless));
        }

        #[test]
        fn a_known_word_is_nearest_to_itself(word in "[a-z]{1,20}", other in "[a-z]{1,20}") {
            prop_assert_eq!(nearest(&word, [other.as_str(), word.as_str()]), Some(word.as_str()));
        }

        #[test]
        fn any_word_is_compared_without_panic(word in ".{0,200}") {
            nearest(&word, ["vm list", "help"]);
        }
    }
}
