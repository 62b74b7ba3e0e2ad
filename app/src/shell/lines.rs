// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From a guest's bytes to whole lines that are safe to show.
//!
//! For VMs whose console nobody is attached to. Escape sequences are dropped,
//! control characters acted on here or dropped, so that a guest can neither
//! forge a line of another VM or of the hypervisor, nor garble the terminal.
//! Invariant: a partial line is bounded, and a line end always ends what came
//! before it, be it an escape sequence that never closes.
//!
//! Spec: ECMA-48 (parsed by the vte crate).

use alloc::string::String;
use core::mem;

use vte::{Params, Parser, Perform};

use crate::text::is_harmless;

/// The longest line; a longer one is continued on the next.
pub const LINE_CHARS_MAX: usize = 256;
/// How far apart tabulator stops are.
const TAB_CHARS: usize = 8;
/// How much of an operating system command is kept before it is dropped.
const OSC_BYTES: usize = 16;

/// Makes one VM's output into lines.
#[derive(Default)]
pub struct LineMux {
    parser: Parser<OSC_BYTES>,
    /// The parser may be inside of a sequence or a character.
    is_inside: bool,
    line: Line,
    is_returned: bool,
}

impl LineMux {
    /// Takes output and hands every line that it completes to `emit`.
    pub fn push(&mut self, bytes: &[u8], emit: &mut dyn FnMut(&str)) {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            rest = match first {
                b'\n' => {
                    self.end_line(emit);
                    after
                }
                b'\r' => {
                    self.leave_sequence();
                    self.is_returned = true;
                    after
                }
                _ => self.push_text(rest, emit),
            };
        }
    }

    /// Hands out what has no line end yet.
    pub fn finish(&mut self, emit: &mut dyn FnMut(&str)) {
        self.leave_sequence();
        self.is_returned = false;
        if self.line.chars > 0 {
            self.line.end(emit);
        }
    }

    /// Ends whatever sequence is open.
    fn leave_sequence(&mut self) {
        self.parser = Parser::default();
        self.is_inside = false;
    }

    fn end_line(&mut self, emit: &mut dyn FnMut(&str)) {
        self.leave_sequence();
        self.is_returned = false;
        self.line.end(emit);
    }

    /// Takes text up to where the line ends or is full; returns the rest.
    fn push_text<'b>(&mut self, bytes: &'b [u8], emit: &mut dyn FnMut(&str)) -> &'b [u8] {
        // A return without a line end would overwrite: keep both lines instead.
        if mem::take(&mut self.is_returned) && self.line.chars > 0 {
            self.line.end(emit);
        }
        let is_text = |byte: &&u8| !matches!(byte, b'\n' | b'\r');
        let room = LINE_CHARS_MAX.saturating_sub(self.line.chars);
        let len = bytes.iter().take(room).take_while(is_text).count();
        let (text, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
        match plain(text) {
            // Nearly all there is; the parser looks at each byte several times.
            Some(text) if !self.is_inside => self.line.append(text),
            _ => {
                self.is_inside = true;
                self.parser.advance(&mut self.line, text);
            }
        }
        if self.line.chars >= LINE_CHARS_MAX {
            self.line.end(emit);
        }
        rest
    }
}

/// Returns text that is nothing but printable ASCII, which is as it looks.
fn plain(text: &[u8]) -> Option<&str> {
    let is_plain = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
    str::from_utf8(text).ok().filter(|_| is_plain)
}

/// The line that is being written.
#[derive(Default)]
struct Line {
    text: String,
    chars: usize,
}

impl Line {
    fn end(&mut self, emit: &mut dyn FnMut(&str)) {
        emit(&self.text);
        self.text.clear();
        self.chars = 0;
    }

    /// Adds ASCII that the caller has found room for.
    fn append(&mut self, ascii: &str) {
        self.text.push_str(ascii);
        self.chars = self.chars.saturating_add(ascii.len());
    }

    fn push(&mut self, c: char) {
        if self.chars < LINE_CHARS_MAX {
            self.text.push(c);
            self.chars = self.chars.saturating_add(1);
        }
    }

    fn push_tab(&mut self) {
        let column = self.chars.checked_rem(TAB_CHARS).unwrap_or(0);
        for _ in column..TAB_CHARS {
            self.push(' ');
        }
    }
}

impl Perform for Line {
    fn print(&mut self, c: char) {
        self.push(if is_harmless(c) { c } else { '?' });
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.push_tab(),
            // The parser takes these for characters if their bytes come one by one.
            0x80..=0x9f => self.push('?'),
            0x08 if self.text.pop().is_some() => self.chars = self.chars.saturating_sub(1),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, _: &Params, _: &[u8], _: bool, _: char) {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines_of(output: &[u8]) -> Vec<String> {
        let mut mux = LineMux::default();
        let mut lines = Vec::new();
        mux.push(output, &mut |line| lines.push(line.to_owned()));
        mux.finish(&mut |line| lines.push(line.to_owned()));
        lines
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let mut mux = LineMux::default();
        let mut lines = Vec::new();
        for byte in b"hello\r\nworld\n\rlast" {
            mux.push(&[*byte], &mut |line| lines.push(line.to_owned()));
        }
        assert_eq!(lines, ["hello", "world"]);
        mux.finish(&mut |line| lines.push(line.to_owned()));
        mux.finish(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["hello", "world", "last"]);
    }

    #[test]
    fn escape_sequences_and_controls_leave_no_trace() {
        assert_eq!(lines_of(b"\x1b[2J\x1b[31mred\x1b[0m\x07\n"), ["red"]);
        assert_eq!(lines_of(b"\x1b]0;title\x07text\n"), ["text"]);
        assert_eq!(lines_of(b"\xc2\x9b2Jx\n"), ["?2Jx"]);
        assert_eq!(lines_of("a\u{202e}b\n".as_bytes()), ["a?b"]);
        assert_eq!(lines_of(b"a\tb\nab\x08c\n"), ["a       b", "ac"]);
        assert_eq!(
            lines_of("gr\u{fc}n \u{fffd}\n".as_bytes()),
            ["gr\u{fc}n \u{fffd}"]
        );
    }

    #[test]
    fn a_sequence_that_never_closes_ends_with_its_line() {
        assert_eq!(lines_of(b"\x1b]0;evil\nvisible\n"), ["", "visible"]);
        assert_eq!(lines_of(b"\x1bPq\nvisible\n"), ["", "visible"]);
    }

    #[test]
    fn a_bare_return_loses_nothing() {
        assert_eq!(lines_of(b"10%\r20%\r\n"), ["10%", "20%"]);
        assert_eq!(lines_of(b"panic\r        \n"), ["panic", "        "]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let lines = lines_of(&[b'x'; 600]);
        let sizes: Vec<_> = lines.iter().map(String::len).collect();
        assert_eq!(sizes, [256, 256, 88]);
    }

    proptest! {
        #[test]
        fn plain_text_is_as_the_parser_has_it(
            parts in prop::collection::vec("[ -~]{0,300}|\\PC{0,4}|\r|\n|\x1b\\[[0-9]*m|\x1b", 0..8),
        ) {
            let output = parts.concat();
            let mut mux = LineMux { is_inside: true, ..LineMux::default() };
            let mut lines = Vec::new();
            for part in output.split_inclusive(['\n', '\r']) {
                mux.is_inside = true;
                mux.push(part.as_bytes(), &mut |line| lines.push(line.to_owned()));
            }
            mux.finish(&mut |line| lines.push(line.to_owned()));
            prop_assert_eq!(lines_of(output.as_bytes()), lines);
        }

        #[test]
        fn any_output_becomes_bounded_harmless_lines(output in prop::collection::vec(any::<u8>(), 0..2000)) {
            for line in lines_of(&output) {
                prop_assert!(line.chars().all(is_harmless));
                prop_assert!(line.chars().count() <= LINE_CHARS_MAX);
            }
        }

        #[test]
        fn plain_lines_come_out_as_they_are(lines in prop::collection::vec("[ -~]{0,200}", 0..10)) {
            prop_assert_eq!(lines_of(lines.iter().map(|line| format!("{line}\r\n")).collect::<String>().as_bytes()), lines);
        }
    }
}
