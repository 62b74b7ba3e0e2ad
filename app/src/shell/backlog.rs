// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The last output of a VM, for whoever attaches to its console later.
//!
//! Bytes as the guest wrote them, a bounded number of them. Once bytes were
//! dropped the rest is shown from a line's beginning, so that it starts neither
//! inside an escape sequence nor inside a character.

use alloc::{collections::VecDeque, vec::Vec};

/// How much output of each VM is kept.
pub const BACKLOG_BYTES_MAX: usize = 16 << 10;

/// The last output of one VM.
#[derive(Default)]
pub struct Backlog {
    bytes: VecDeque<u8>,
    is_cut: bool,
}

impl Backlog {
    /// Adds output, dropping the oldest if there is too much.
    pub fn push(&mut self, bytes: &[u8]) {
        let skipped = bytes.len().saturating_sub(BACKLOG_BYTES_MAX);
        let kept = bytes.get(skipped..).unwrap_or_default();
        let room = BACKLOG_BYTES_MAX.saturating_sub(kept.len());
        let dropped = self.bytes.len().saturating_sub(room);
        self.is_cut |= dropped > 0 || skipped > 0;
        self.bytes.drain(..dropped);
        self.bytes.extend(kept);
    }

    /// Returns the output, from the first whole line on.
    pub fn shown(&self) -> Vec<u8> {
        let first = if self.is_cut {
            let end = self.bytes.iter().position(|byte| *byte == b'\n');
            end.map_or(0, |end| end.saturating_add(1))
        } else {
            0
        };
        self.bytes.iter().skip(first).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_is_kept_as_it_is() {
        let mut backlog = Backlog::default();
        backlog.push(b"one\n");
        backlog.push(b"\x1b[1mtwo");
        assert_eq!(backlog.shown(), b"one\n\x1b[1mtwo");
    }

    #[test]
    fn once_something_was_dropped_the_rest_begins_with_a_line() {
        let mut backlog = Backlog::default();
        backlog.push(b"first line\n");
        backlog.push(b"second line\n");
        backlog.push(&[b'x'; BACKLOG_BYTES_MAX - 15]);
        assert!(backlog.shown().starts_with(b"second line\nx"));
    }

    proptest! {
        #[test]
        fn it_keeps_the_end_and_never_too_much(chunks in prop::collection::vec((any::<u8>(), 0_usize..20_000), 0..8)) {
            let mut backlog = Backlog::default();
            let mut all = Vec::new();
            for (byte, size) in chunks {
                backlog.push(&vec![byte; size]);
                all.extend(vec![byte; size]);
            }
            let shown = backlog.shown();
            prop_assert!(shown.len() <= BACKLOG_BYTES_MAX);
            prop_assert!(all.ends_with(&shown));
            prop_assert!(all.len() > BACKLOG_BYTES_MAX || shown == all);
        }
    }
}
