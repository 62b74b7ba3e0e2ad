// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! From a terminal's bytes to keys.
//!
//! Called by the shell for each byte. Control characters are keys at once, also
//! in the middle of an escape sequence, so that Ctrl-C and Enter always work.
//!
//! Spec: ECMA-48 (parsed by the vte crate); xterm's cursor and editing keys.

use vte::{Params, Parser, Perform};

const ESCAPE: u8 = 0x1b;
const DELETE: u8 = 0x7f;
/// xterm's number for Ctrl, as the second parameter of a cursor key.
const WITH_CTRL: u16 = 5;
/// How much of an operating system command is kept before it is dropped.
const OSC_BYTES: usize = 16;

/// A key, or a chord that means one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A printable ASCII character.
    Char(char),
    /// Enter.
    Enter,
    /// Tab.
    Tab,
    /// Backspace or Ctrl-H.
    Backspace,
    /// Delete or Ctrl-D.
    Delete,
    /// Left or Ctrl-B.
    Left,
    /// Right or Ctrl-F.
    Right,
    /// Ctrl-Left.
    WordLeft,
    /// Ctrl-Right.
    WordRight,
    /// Up or Ctrl-P.
    Up,
    /// Down or Ctrl-N.
    Down,
    /// Home or Ctrl-A.
    Home,
    /// End or Ctrl-E.
    End,
    /// Ctrl-U.
    KillToStart,
    /// Ctrl-K.
    KillToEnd,
    /// Ctrl-W or Alt-Backspace.
    KillWord,
    /// Ctrl-L.
    ClearScreen,
    /// Ctrl-C.
    Interrupt,
    /// Anything else.
    Unknown,
}

/// Makes bytes into keys.
#[derive(Default)]
pub struct KeyReader {
    parser: Parser<OSC_BYTES>,
    sequence: Sequence,
    last: u8,
}

impl KeyReader {
    /// Takes the next byte, and returns the key that it completes.
    pub fn next(&mut self, byte: u8) -> Option<Key> {
        let last = core::mem::replace(&mut self.last, byte);
        if byte == ESCAPE || (byte >= b' ' && byte != DELETE) {
            self.parser.advance(&mut self.sequence, &[byte]);
            return self.sequence.key.take();
        }
        self.parser = Parser::default();
        self.sequence = Sequence::default();
        match (last, byte) {
            (b'\r', b'\n') => None,
            (ESCAPE, DELETE | 0x08) => Some(Key::KillWord),
            _ => Some(control(byte)),
        }
    }
}

fn control(byte: u8) -> Key {
    match byte {
        0x01 => Key::Home,
        0x02 => Key::Left,
        0x03 => Key::Interrupt,
        0x04 => Key::Delete,
        0x05 => Key::End,
        0x06 => Key::Right,
        0x08 | DELETE => Key::Backspace,
        b'\t' => Key::Tab,
        b'\n' | b'\r' => Key::Enter,
        0x0b => Key::KillToEnd,
        0x0c => Key::ClearScreen,
        0x0e => Key::Down,
        0x10 => Key::Up,
        0x15 => Key::KillToStart,
        0x17 => Key::KillWord,
        _ => Key::Unknown,
    }
}

/// What the parser finds.
#[derive(Default)]
struct Sequence {
    key: Option<Key>,
    /// `ESC O` was seen: the next character is a cursor key.
    is_single_shift: bool,
}

impl Perform for Sequence {
    fn print(&mut self, c: char) {
        self.key = Some(if core::mem::take(&mut self.is_single_shift) {
            cursor_key(c)
        } else if c.is_ascii_graphic() || c == ' ' {
            Key::Char(c)
        } else {
            Key::Unknown
        });
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: char) {
        let mut numbers = params.iter().map(|group| group.first().copied());
        let first = numbers.next().flatten();
        let modifier = numbers.next().flatten();
        self.key = Some(match (action, modifier) {
            ('~', _) => editing_key(first),
            ('C', Some(WITH_CTRL)) => Key::WordRight,
            ('D', Some(WITH_CTRL)) => Key::WordLeft,
            _ => cursor_key(action),
        });
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        match byte {
            b'O' => self.is_single_shift = true,
            b'b' => self.key = Some(Key::WordLeft),
            b'f' => self.key = Some(Key::WordRight),
            _ => self.key = Some(Key::Unknown),
        }
    }
}

fn cursor_key(action: char) -> Key {
    match action {
        'A' => Key::Up,
        'B' => Key::Down,
        'C' => Key::Right,
        'D' => Key::Left,
        'F' => Key::End,
        'H' => Key::Home,
        _ => Key::Unknown,
    }
}

fn editing_key(number: Option<u16>) -> Key {
    match number {
        Some(1 | 7) => Key::Home,
        Some(3) => Key::Delete,
        Some(4 | 8) => Key::End,
        _ => Key::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn keys_of(bytes: &[u8]) -> Vec<Key> {
        let mut reader = KeyReader::default();
        bytes.iter().filter_map(|byte| reader.next(*byte)).collect()
    }

    #[test]
    fn the_keys_of_common_terminals_are_known() {
        let cursor = [
            Key::Up,
            Key::Down,
            Key::Right,
            Key::Left,
            Key::Home,
            Key::End,
        ];
        assert_eq!(keys_of(b"\x1b[A\x1b[B\x1b[C\x1b[D\x1b[H\x1b[F"), cursor);
        assert_eq!(keys_of(b"\x1bOA\x1bOB\x1bOC\x1bOD\x1bOH\x1bOF"), cursor);
        assert_eq!(
            keys_of(b"\x1b[1~\x1b[3~\x1b[4~\x1b[1;5C\x1b[1;5D\x1b\x7f"),
            [
                Key::Home,
                Key::Delete,
                Key::End,
                Key::WordRight,
                Key::WordLeft,
                Key::KillWord
            ]
        );
    }

    #[test]
    fn a_line_end_of_two_bytes_is_one_enter() {
        assert_eq!(keys_of(b"\r\n\n\r"), [Key::Enter, Key::Enter, Key::Enter]);
    }

    #[test]
    fn control_keys_work_in_the_middle_of_a_sequence() {
        assert_eq!(keys_of(b"\x1b]0;\x03"), [Key::Interrupt]);
        assert_eq!(keys_of(b"\x1b[12\ra"), [Key::Enter, Key::Char('a')]);
        assert_eq!(keys_of(b"\x1bO\rA"), [Key::Enter, Key::Char('A')]);
    }

    #[test]
    fn what_is_not_ascii_is_one_unknown_key() {
        assert_eq!(keys_of("\u{fc}".as_bytes()), [Key::Unknown]);
    }

    proptest! {
        #[test]
        fn after_any_bytes_enter_is_enter(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = KeyReader::default();
            for byte in bytes {
                reader.next(byte);
            }
            reader.next(0x03);
            prop_assert_eq!(reader.next(b'\r'), Some(Key::Enter));
            prop_assert_eq!(reader.next(b'x'), Some(Key::Char('x')));
        }
    }
}
