// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hypervisor's console: line editor, commands, switching between VMs.
//!
//! The console's thread hands every byte of the terminal to [`Shell::input`]
//! and calls [`Shell::tick`] when there is none; vCPU threads write through the
//! [`Screen`]. Invariants: no byte panics or hangs the shell, and the screen is
//! not held while a command runs, so a guest that prints never waits for a verb.

mod backlog;
mod commands;
mod complete;
mod editor;
mod host_commands;
mod keys;
mod lines;
mod screen;
#[cfg(test)]
mod tests;
mod vm_commands;
mod vmm;

use alloc::collections::VecDeque;

use axvm::VMId;

use commands::Session;
use complete::Completion;
use editor::{Editor, Effect};
use keys::KeyReader;
use screen::ESCAPE_BYTE;
pub use screen::{Screen, SharedScreen, Terminal};
pub use vmm::{HostInfo, LogLevel, Refusal, VCpuDetails, VmDetails, VmSummary, VmVerb, Vmm};

/// How much input waits for a guest that does not read.
const PENDING_BYTES_MAX: usize = 1024;

/// The console.
pub struct Shell<V, S> {
    vmm: V,
    screen: S,
    keys: KeyReader,
    editor: Editor,
    pending: VecDeque<u8>,
}

impl<V: Vmm, S: SharedScreen> Shell<V, S> {
    /// Makes a console and shows its prompt.
    pub fn new(vmm: V, screen: S) -> Self {
        let shell = Self {
            vmm,
            screen,
            keys: KeyReader::default(),
            editor: Editor::default(),
            pending: VecDeque::new(),
        };
        shell.with(|screen| screen.message("help lists the commands"));
        shell.show_line();
        shell
    }

    /// Takes a byte from the terminal.
    pub fn input(&mut self, byte: u8) {
        match self.attached() {
            Some(_) if byte == ESCAPE_BYTE => self.leave_console(),
            Some(vm) => self.pass_on(vm, byte),
            None => self.type_byte(byte),
        }
    }

    /// Does what waits: draws the prompt, passes a guest the rest of its input.
    pub fn tick(&mut self) {
        match self.attached() {
            Some(vm) => self.flush(vm),
            None => {
                self.pending.clear();
                self.with(Screen::refresh);
            }
        }
    }

    fn attached(&self) -> Option<VMId> {
        let mut attached = None;
        self.screen.with(&mut |screen| attached = screen.attached());
        attached
    }

    fn with(&self, work: impl Fn(&mut Screen)) {
        self.screen.with(&mut |screen| work(screen));
    }

    fn leave_console(&mut self) {
        self.pending.clear();
        self.with(Screen::detach);
        self.show_line();
    }

    fn pass_on(&mut self, vm: VMId, byte: u8) {
        if self.pending.len() < PENDING_BYTES_MAX {
            self.pending.push_back(byte);
        } else {
            self.with(Screen::bell);
        }
        self.flush(vm);
    }

    fn flush(&mut self, vm: VMId) {
        if self.pending.is_empty() {
            return;
        }
        let taken = self.vmm.console_input(vm, self.pending.make_contiguous());
        self.pending.drain(..taken.min(self.pending.len()));
    }

    fn type_byte(&mut self, byte: u8) {
        self.pending.clear();
        let Some(key) = self.keys.next(byte) else {
            return;
        };
        match self.editor.press(key) {
            Effect::Changed => self.show_line(),
            Effect::Nothing => self.with(Screen::bell),
            Effect::Submitted(line) => self.run(&line),
            Effect::Interrupted => self.interrupt(),
            Effect::Complete => self.complete(),
            Effect::ClearScreen => self.with(Screen::clear),
        }
    }

    fn run(&mut self, line: &str) {
        self.with(|screen| screen.leave_prompt(""));
        let session = Session {
            vmm: &self.vmm,
            screen: &self.screen,
        };
        session.run(line);
        self.show_line();
    }

    fn interrupt(&mut self) {
        self.with(|screen| screen.leave_prompt("^C"));
        self.show_line();
    }

    fn complete(&mut self) {
        match complete::complete(self.editor.before_cursor(), &self.vmm) {
            Completion::Text(text) => {
                self.editor.insert_text(&text);
                self.show_line();
            }
            Completion::Choice(words) => {
                self.with(|screen| screen.message(&words.join("  ")));
                self.show_line();
            }
            Completion::Nothing => self.with(Screen::bell),
        }
    }

    fn show_line(&self) {
        self.with(|screen| screen.set_prompt(Some(self.editor.shown())));
    }
}
