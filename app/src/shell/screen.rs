// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the host's terminal shows: the line being typed, the output of VMs.
//!
//! Shared between the shell's thread and the vCPU threads whose guests print,
//! each holding it for one short call ([`SharedScreen`]). Output of a VM that
//! nobody is attached to appears line by line above the line being typed; the
//! VM that is attached has the terminal to itself, and what the others and the
//! hypervisor say waits. Invariant: only an attached VM's bytes reach the
//! terminal as they are, and every queue here is bounded.

use alloc::{boxed::Box, collections::VecDeque, format, string::String, vec::Vec};

use axvm::VMId;

use super::backlog::Backlog;
use super::editor::Shown;
use super::lines::LineMux;
use crate::text::one_line;

/// The byte that leaves a VM's console: Ctrl-].
pub const ESCAPE_BYTE: u8 = 0x1d;

/// How many messages wait while a VM is attached.
const HELD_MAX: usize = 64;
/// How much of a line waits for its end.
const BEGUN_BYTES_MAX: usize = 256;
/// The longest line of the hypervisor's own.
const LINE_CHARS_MAX: usize = 1024;
/// Moves to the line's beginning and erases it.
const ERASE_LINE: &[u8] = b"\r\x1b[K";
/// Ends what sequence a guest began, and undoes what it set: soft reset,
/// colours, the alternative screen, mouse reports, a hidden cursor.
const RESET_TERMINAL: &[u8] =
    b"\x18\x1b[!p\x1b[0m\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?2004l\x1b[?25h\r\n";

/// The host's terminal.
pub trait Terminal: Send {
    /// Writes bytes as they are.
    fn write(&mut self, bytes: &[u8]);
}

/// A [`Screen`] behind a lock.
pub trait SharedScreen {
    /// Does `work` with the screen; the work is short and never waits.
    fn with(&self, work: &mut dyn FnMut(&mut Screen));
}

/// The host's terminal and who has it.
pub struct Screen {
    sink: Sink,
    prompt: Option<Shown>,
    attached: Option<VMId>,
    held: VecDeque<String>,
    /// In the order of their first words; few enough to look through.
    vms: Vec<VmOutput>,
}

/// The terminal, and whether the line being typed is on it.
struct Sink {
    terminal: Box<dyn Terminal>,
    is_drawn: bool,
}

/// The output of one VM.
struct VmOutput {
    vm: VMId,
    name: String,
    backlog: Backlog,
    lines: LineMux,
    unseen_lines: usize,
    /// A line that has not ended yet. Guests write byte by byte, and a line at
    /// once is less work.
    begun: Vec<u8>,
}

impl VmOutput {
    #[cold]
    #[inline(never)]
    fn new(vm: VMId, name: &str) -> Self {
        Self {
            vm,
            name: String::from(name),
            backlog: Backlog::default(),
            lines: LineMux::default(),
            unseen_lines: 0,
            begun: Vec::new(),
        }
    }
}

impl Screen {
    /// Makes a screen that shows nothing yet.
    pub fn new(terminal: Box<dyn Terminal>) -> Self {
        Self {
            sink: Sink {
                terminal,
                is_drawn: false,
            },
            prompt: None,
            attached: None,
            held: VecDeque::new(),
            vms: Vec::new(),
        }
    }

    /// Shows a line of the hypervisor's own, or keeps it until it can be shown.
    ///
    /// It must not begin with `[name]`: that is how lines of guests begin.
    pub fn message(&mut self, text: &str) {
        let line = one_line(text, LINE_CHARS_MAX);
        if self.attached.is_none() {
            return self.sink.write_line(&line);
        }
        if self.held.len() >= HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(line);
    }

    /// Takes what a VM's guest wrote.
    pub fn vm_output(&mut self, vm: VMId, name: &str, bytes: &[u8]) {
        let Some(output) = Self::output_of(&mut self.vms, vm, name) else {
            return;
        };
        if self.attached == Some(vm) {
            output.backlog.push(bytes);
            return self.sink.write(bytes);
        }
        match bytes {
            // As guests mostly write; a call to copy a byte would cost more than the byte.
            [byte] => output.begun.push(*byte),
            _ => output.begun.extend_from_slice(bytes),
        }
        if bytes.contains(&b'\n') || output.begun.len() >= BEGUN_BYTES_MAX {
            self.take_begun(vm);
        }
    }

    /// Takes what a VM's guest wrote of a line.
    fn take_begun(&mut self, vm: VMId) {
        let Some(output) = Self::find(&mut self.vms, vm) else {
            return;
        };
        let mut bytes = core::mem::take(&mut output.begun);
        output.backlog.push(&bytes);
        if self.attached.is_none() {
            self.split_lines(vm, |lines, emit| lines.push(&bytes, emit));
        } else {
            let unseen = &mut output.unseen_lines;
            let count = &mut |_: &str| *unseen = unseen.saturating_add(1);
            output.lines.push(&bytes, count);
        }
        // Its room is used again.
        if let Some(output) = Self::find(&mut self.vms, vm) {
            bytes.clear();
            output.begun = bytes;
        }
    }

    /// Takes the terminal back from a VM that ended, and shows its last words.
    ///
    /// Call it before the [`Self::message`] that says why.
    pub fn vm_ended(&mut self, vm: VMId) {
        if self.attached == Some(vm) {
            self.detach();
        }
        self.take_begun(vm);
        if self.attached.is_none() {
            self.split_lines(vm, LineMux::finish);
        }
    }

    /// Forgets the output of a VM that is gone.
    pub fn forget(&mut self, vm: VMId) {
        if self.attached == Some(vm) {
            self.detach();
        }
        self.vms.retain(|output| output.vm != vm);
    }

    /// Returns the VM that has the terminal.
    pub fn attached(&self) -> Option<VMId> {
        self.attached
    }

    /// Gives the terminal to a VM, beginning with what it wrote last.
    pub fn attach(&mut self, vm: VMId, name: &str) {
        self.sink
            .write_line(&format!("-- the console of {name}; Ctrl-] leaves it --"));
        let Some(output) = Self::output_of(&mut self.vms, vm, name) else {
            return;
        };
        output.backlog.push(&core::mem::take(&mut output.begun));
        // What has no line end yet comes with the backlog.
        output.lines = LineMux::default();
        output.unseen_lines = 0;
        let backlog = output.backlog.shown();
        self.sink.write(&backlog);
        self.attached = Some(vm);
    }

    /// Takes the terminal back and shows what has waited.
    pub fn detach(&mut self) {
        if self.attached.take().is_none() {
            return;
        }
        self.sink.write(RESET_TERMINAL);
        self.sink.write_line("-- the hypervisor's console --");
        for line in core::mem::take(&mut self.held) {
            self.sink.write_line(&line);
        }
        for line in self.unseen() {
            self.sink.write_line(&line);
        }
    }

    /// Sets the line being typed, or that there is none.
    pub fn set_prompt(&mut self, prompt: Option<Shown>) {
        if !self.append_to_prompt(prompt.as_ref()) {
            self.sink.erase_prompt();
        }
        self.prompt = prompt;
        self.refresh();
    }

    /// Ends the line being typed where it stands, with `mark` after it.
    pub fn leave_prompt(&mut self, mark: &str) {
        self.refresh();
        self.sink.write(mark.as_bytes());
        self.sink.write(b"\r\n");
        self.sink.is_drawn = false;
        self.prompt = None;
    }

    /// Draws the line being typed, if output has displaced it.
    pub fn refresh(&mut self) {
        let Some(prompt) = &self.prompt else {
            return;
        };
        if self.sink.is_drawn || self.attached.is_some() {
            return;
        }
        self.sink.write(prompt.text.as_bytes());
        if prompt.cursor_back > 0 {
            let back = format!("\x1b[{}D", prompt.cursor_back);
            self.sink.write(back.as_bytes());
        }
        self.sink.is_drawn = true;
    }

    /// Clears the whole screen.
    pub fn clear(&mut self) {
        self.sink.write(b"\x1b[H\x1b[2J");
        self.sink.is_drawn = false;
        self.refresh();
    }

    /// Rings the terminal's bell.
    pub fn bell(&mut self) {
        self.sink.write(b"\x07");
    }

    fn find(vms: &mut [VmOutput], vm: VMId) -> Option<&mut VmOutput> {
        vms.iter_mut().find(|output| output.vm == vm)
    }

    /// Returns a VM's output, which it has from its first word on.
    fn output_of<'s>(vms: &'s mut Vec<VmOutput>, vm: VMId, name: &str) -> Option<&'s mut VmOutput> {
        if vms.iter().all(|output| output.vm != vm) {
            vms.push(VmOutput::new(vm, name));
        }
        Self::find(vms, vm)
    }

    /// Shows the lines that `step` makes of a VM's output.
    fn split_lines(&mut self, vm: VMId, step: impl FnOnce(&mut LineMux, &mut dyn FnMut(&str))) {
        let Some(output) = Self::find(&mut self.vms, vm) else {
            return;
        };
        step(&mut output.lines, &mut |line| {
            let shown = format!("[{}] {line}", output.name);
            self.sink.write_line(shown.trim_end());
        });
    }

    fn unseen(&mut self) -> Vec<String> {
        let unseen = self.vms.iter_mut().filter(|vm| vm.unseen_lines > 0);
        unseen
            .map(|vm| {
                let lines = core::mem::take(&mut vm.unseen_lines);
                let name = &vm.name;
                format!(
                    "{name}: {lines} lines were written meanwhile; vm console {name} shows them"
                )
            })
            .collect()
    }

    /// Writes only what was typed, if that was at the end.
    fn append_to_prompt(&mut self, next: Option<&Shown>) -> bool {
        let (Some(now), Some(next)) = (&self.prompt, next) else {
            return false;
        };
        if !self.sink.is_drawn || now.cursor_back > 0 || next.cursor_back > 0 {
            return false;
        }
        let Some(added) = next.text.strip_prefix(now.text.as_str()) else {
            return false;
        };
        self.sink.write(added.as_bytes());
        true
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        self.terminal.write(bytes);
    }

    /// Writes a line in the place of the line being typed.
    fn write_line(&mut self, line: &str) {
        self.erase_prompt();
        self.terminal.write(line.as_bytes());
        self.terminal.write(b"\r\n");
    }

    fn erase_prompt(&mut self) {
        if core::mem::take(&mut self.is_drawn) {
            self.terminal.write(ERASE_LINE);
        }
    }
}
