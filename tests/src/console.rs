// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a machine has printed so far, as it comes.
//!
//! A thread reads the machine's output into a channel; [`Console`] collects it
//! and looks for patterns. What a terminal would show is what counts: a line that
//! is erased to be drawn anew is gone, and carriage returns are dropped.

use std::{
    io::Read,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Instant,
};

use regex::Regex;

use crate::Failure;

/// The output of a machine.
pub struct Console {
    chunks: Receiver<Vec<u8>>,
    text: String,
    /// Where the next wait looks from.
    seen: usize,
}

impl Console {
    /// Starts to collect what `output` brings.
    pub fn new(mut output: impl Read + Send + 'static) -> Self {
        let (sender, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            chunks,
            text: String::new(),
            seen: 0,
        }
    }

    /// Waits until a pattern appears behind the last one that was waited for.
    pub fn wait(&mut self, pattern: &str, until: Instant) -> Result<(), Failure> {
        let regex = compile(pattern)?;
        loop {
            if let Some(found) = regex.find(&self.text[self.seen..]) {
                self.seen += found.end();
                return Ok(());
            }
            // Patterns are of one line: only the last one may still become what is waited for.
            self.seen = self.seen.max(self.last_line());
            if !self.take_more(until) {
                return Err(Failure::Missing(pattern.into()));
            }
        }
    }

    fn last_line(&self) -> usize {
        self.text.rfind('\n').map_or(0, |at| at + 1)
    }

    /// Collects until the machine closes its output; false if time runs out first.
    pub fn wait_end(&mut self, until: Instant) -> bool {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.keep(&chunk),
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Tells whether a pattern has appeared anywhere.
    pub fn has(&self, pattern: &str) -> Result<bool, Failure> {
        Ok(compile(pattern)?.is_match(&self.text))
    }

    /// Returns everything so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn take_more(&mut self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        match self.chunks.recv_timeout(left) {
            Ok(chunk) => self.keep(&chunk),
            Err(_) => return false,
        }
        true
    }

    fn keep(&mut self, chunk: &[u8]) {
        const ERASE_LINE: &str = "\r\x1b[K";
        for c in String::from_utf8_lossy(chunk).chars() {
            self.text.push(c);
            if self.text.ends_with(ERASE_LINE) {
                let line = self.last_line();
                self.text.truncate(line);
                self.seen = self.seen.min(line);
            } else if c == '\n' {
                self.drop_returns();
            }
        }
    }

    /// Drops the carriage returns of the line that has just ended.
    fn drop_returns(&mut self) {
        let end = self.text.len() - 1;
        let start = self.text[..end].rfind('\n').map_or(0, |at| at + 1);
        if self.text[start..].contains('\r') {
            let line = self.text.split_off(start).replace('\r', "");
            self.text.push_str(&line);
            self.seen = self.seen.min(self.text.len());
        }
    }
}

fn compile(pattern: &str) -> Result<Regex, Failure> {
    let multi_line = format!("(?m){pattern}");
    Regex::new(&multi_line).map_err(|error| Failure::Case {
        path: pattern.into(),
        cause: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        io::{self, Read},
        time::{Duration, Instant},
    };

    use super::Console;

    /// Brings one piece a read, as a machine's output comes.
    struct Pieces(VecDeque<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.pop_front().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    fn finds(pieces: &[&'static str], patterns: &[&str]) -> bool {
        let pieces = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let mut console = Console::new(Pieces(pieces));
        // Output that ends is not waited for.
        let until = Instant::now() + Duration::from_secs(600);
        let mut found = patterns
            .iter()
            .map(|pattern| console.wait(pattern, until).is_ok());
        found.all(|found| found)
    }

    #[test]
    fn a_line_that_comes_in_pieces_is_found() {
        assert!(finds(&["one\nli", "nux: do", "ne\r\n"], &["^linux: done$"]));
    }

    #[test]
    fn what_was_waited_for_is_not_found_again() {
        assert!(finds(&["done\ndone\n"], &["^done$", "^done$"]));
        assert!(!finds(&["done\n", "more\n"], &["^done$", "^done$"]));
    }

    #[test]
    fn a_line_that_is_erased_is_found_as_it_is_drawn_anew() {
        let pieces = ["axhive> vm", "\r\x1b[Kguest: hello\r\naxhive> vm"];
        assert!(finds(
            &pieces,
            &["axhive> vm", "^guest: hello$", "^axhive> vm"]
        ));
        assert!(!finds(&pieces, &["guest: hello", "guest: hello"]));
    }
}
