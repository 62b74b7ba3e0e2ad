// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The line that is being typed.
//!
//! Called by the shell for each key. Text, cursor and history are the editline
//! crate's; this file binds keys to them, bounds the line, and says how it
//! looks. Invariant: the line is printable ASCII and never too long.

use alloc::string::String;

use editline::{History, LineBuffer};

use super::keys::Key;

/// The longest line.
pub const LINE_BYTES_MAX: usize = 256;
/// How many lines are remembered.
pub const HISTORY_LINES_MAX: usize = 32;
/// What stands before the line.
pub const PROMPT: &str = "axhive> ";
/// How wide the terminal is taken to be; a longer line is scrolled.
const COLUMNS: usize = 80;

/// What a key did.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The line looks different now.
    Changed,
    /// Nothing: the key has no meaning here.
    Nothing,
    /// The line is to be run.
    Submitted(String),
    /// The line was given up.
    Interrupted,
    /// The word is to be completed.
    Complete,
    /// The screen is to be cleared.
    ClearScreen,
}

/// How the line looks: the text, and how many columns the cursor is from its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// The prompt and what of the line fits.
    pub text: String,
    /// How far the cursor is from the end of `text`.
    pub cursor_back: usize,
}

/// The line and its history.
pub struct Editor {
    line: LineBuffer,
    history: History,
}

impl Default for Editor {
    fn default() -> Self {
        Self {
            line: LineBuffer::new(LINE_BYTES_MAX),
            history: History::new(HISTORY_LINES_MAX),
        }
    }
}

impl Editor {
    /// Acts on a key.
    pub fn press(&mut self, key: Key) -> Effect {
        match key {
            Key::Char(c) => changed(self.insert(c)),
            Key::Enter => self.submit(),
            Key::Tab => Effect::Complete,
            Key::Interrupt => self.interrupt(),
            Key::ClearScreen => Effect::ClearScreen,
            Key::Up | Key::Down => self.recall(key),
            Key::Unknown => Effect::Nothing,
            _ => changed(self.edit(key)),
        }
    }

    /// Adds text at the cursor, as far as it fits.
    pub fn insert_text(&mut self, text: &str) {
        for c in text.chars() {
            self.insert(c);
        }
    }

    /// Returns what stands before the cursor.
    pub fn before_cursor(&self) -> &str {
        self.text().get(..self.line.cursor_pos()).unwrap_or("")
    }

    /// Returns how the line looks.
    pub fn shown(&self) -> Shown {
        let width = COLUMNS.saturating_sub(PROMPT.len()).saturating_sub(1);
        let cursor = self.line.cursor_pos();
        let first = cursor.saturating_sub(width);
        let end = first.saturating_add(width).min(self.line.len());
        let visible = self.text().get(first..end).unwrap_or("");
        Shown {
            text: alloc::format!("{PROMPT}{visible}"),
            cursor_back: end.saturating_sub(cursor),
        }
    }

    fn text(&self) -> &str {
        // Only ASCII is ever inserted.
        self.line.as_str().unwrap_or("")
    }

    fn insert(&mut self, c: char) -> bool {
        let is_wanted = c.is_ascii_graphic() || c == ' ';
        let fits = is_wanted && self.line.len() < LINE_BYTES_MAX;
        if fits {
            self.line.insert_char(c);
        }
        fits
    }

    fn edit(&mut self, key: Key) -> bool {
        let line = &mut self.line;
        match key {
            Key::Backspace => line.delete_before_cursor(),
            Key::Delete => line.delete_at_cursor(),
            Key::Left => line.move_cursor_left(),
            Key::Right => line.move_cursor_right(),
            Key::WordLeft => line.move_cursor_word_left() > 0,
            Key::WordRight => line.move_cursor_word_right() > 0,
            Key::Home => line.move_cursor_to_start() > 0,
            Key::End => line.move_cursor_to_end() > 0,
            Key::KillWord => line.delete_word_left() > 0,
            Key::KillToStart => repeat(|| line.delete_before_cursor()),
            Key::KillToEnd => repeat(|| line.delete_at_cursor()),
            _ => false,
        }
    }

    fn submit(&mut self) -> Effect {
        let text = String::from(self.text());
        self.history.add(&text);
        self.history.reset_view();
        self.line.clear();
        Effect::Submitted(text)
    }

    fn interrupt(&mut self) -> Effect {
        self.history.reset_view();
        self.line.clear();
        Effect::Interrupted
    }

    fn recall(&mut self, key: Key) -> Effect {
        let current = String::from(self.text());
        let found = match key {
            Key::Up => self.history.previous(&current),
            _ => self.history.next_entry(),
        };
        if let Some(text) = found {
            self.line.load(text);
        }
        changed(found.is_some())
    }
}

fn changed(is_changed: bool) -> Effect {
    if is_changed {
        Effect::Changed
    } else {
        Effect::Nothing
    }
}

/// Does a step until it does nothing; tells whether it did something at all.
fn repeat(mut step: impl FnMut() -> bool) -> bool {
    let did = step();
    while step() {}
    did
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn typed(keys: &[Key]) -> Editor {
        let mut editor = Editor::default();
        for key in keys {
            editor.press(*key);
        }
        editor
    }

    fn text(text: &str) -> Vec<Key> {
        text.chars().map(Key::Char).collect()
    }

    fn line_after(start: &str, keys: &[Key]) -> String {
        let keys = [&text(start), keys].concat();
        typed(&keys).text().to_owned()
    }

    #[test]
    fn keys_edit_the_line_where_the_cursor_is() {
        use Key::{
            Backspace, Char, Delete, End, Home, KillToEnd, KillToStart, KillWord, Left, WordLeft,
        };
        assert_eq!(line_after("abc", &[Left, Left, Char('x')]), "axbc");
        assert_eq!(line_after("abc", &[Home, Delete, End, Backspace]), "b");
        assert_eq!(line_after("one two", &[KillWord]), "one ");
        assert_eq!(line_after("one two", &[WordLeft, KillToStart]), "two");
        assert_eq!(line_after("one two", &[WordLeft, KillToEnd]), "one ");
        assert_eq!(line_after("one", &[KillToStart]), "");
    }

    #[test]
    fn history_goes_back_and_forth_and_keeps_what_was_typed() {
        let mut editor =
            typed(&[text("one"), vec![Key::Enter], text("two"), vec![Key::Enter]].concat());
        editor.insert_text("th");
        let mut seen = Vec::new();
        for key in [Key::Up, Key::Up, Key::Up, Key::Down, Key::Down, Key::Down] {
            editor.press(key);
            seen.push(editor.text().to_owned());
        }
        assert_eq!(seen, ["two", "one", "one", "two", "th", "th"]);
    }

    #[test]
    fn a_line_that_is_full_takes_no_more() {
        let mut editor = typed(&text(&"x".repeat(LINE_BYTES_MAX)));
        assert_eq!(editor.press(Key::Char('y')), Effect::Nothing);
        assert_eq!(
            editor.press(Key::Enter),
            Effect::Submitted("x".repeat(LINE_BYTES_MAX))
        );
    }

    #[test]
    fn a_long_line_is_scrolled_to_where_the_cursor_is() {
        let mut editor = typed(&text(&format!("a{}z", "x".repeat(100))));
        let end = editor.shown();
        assert!(end.text.ends_with("xz") && end.text.len() == 79 && end.cursor_back == 0);
        editor.press(Key::Home);
        let start = editor.shown();
        assert!(start.text.starts_with("axhive> ax") && start.cursor_back == 71);
    }

    fn any_key() -> impl Strategy<Value = Key> {
        use Key::*;
        prop_oneof![
            3 => prop::char::range(' ', '~').prop_map(Char),
            2 => prop::sample::select(vec![
                Enter, Tab, Backspace, Delete, Left, Right, WordLeft, WordRight, Up, Down, Home, End,
                KillToStart, KillToEnd, KillWord, ClearScreen, Interrupt, Unknown, Char('\u{fc}'),
            ]),
        ]
    }

    proptest! {
        #[test]
        fn no_keys_break_the_line_or_its_looks(keys in prop::collection::vec(any_key(), 0..700)) {
            let mut editor = Editor::default();
            for key in keys {
                editor.press(key);
                let shown = editor.shown();
                prop_assert!(editor.line.len() <= LINE_BYTES_MAX);
                prop_assert!(shown.text.len() < COLUMNS);
                prop_assert!(shown.text.len() - shown.cursor_back >= PROMPT.len());
                prop_assert!(editor.text().bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            }
        }
    }
}
