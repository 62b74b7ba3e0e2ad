// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The console's commands: one table of them, and how a line finds its row.
//!
//! Called by the shell with each line. `help` prints this table and completion
//! reads it, so a command is one row here and one handler. docs/console.md is
//! for users.

use alloc::{format, string::String, vec::Vec};

use super::host_commands as host;
use super::screen::{Screen, SharedScreen};
use super::vm_commands as vm;
use super::vmm::Vmm;
use crate::text::{nearest, one_line};

/// How much of a wrong word is repeated.
const WORD_CHARS_MAX: usize = 40;

/// A command.
pub struct Command {
    /// Its one or two words.
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// What it does.
    pub help: &'static str,
    /// What comes after the name.
    pub argument: Argument,
    /// What it does.
    pub run: Handler,
}

/// Runs a command with its arguments.
pub type Handler = fn(&Session<'_>, &[&str]) -> Outcome;

/// Nothing, or the line that says what is wrong.
pub type Outcome = Result<(), String>;

/// What comes after a command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Argument {
    /// Nothing.
    None,
    /// A VM.
    Vm,
    /// A log level.
    Level,
    /// The words of a command, or nothing.
    Command,
}

/// All commands, in the order of `help`.
pub const COMMANDS: [Command; 15] = [
    Command {
        name: "help",
        usage: "help [command]",
        help: "list the commands, or explain one",
        argument: Argument::Command,
        run: host::help,
    },
    Command {
        name: "vm list",
        usage: "vm list",
        help: "list the VMs: state, size, how the last run ended",
        argument: Argument::None,
        run: vm::list,
    },
    Command {
        name: "vm show",
        usage: "vm show <name|id>",
        help: "tell everything about a VM: settings, vCPUs, exits, last fault",
        argument: Argument::Vm,
        run: vm::show,
    },
    Command {
        name: "vm create",
        usage: "vm create <name|id>",
        help: "give a VM its memory and devices, without starting it",
        argument: Argument::Vm,
        run: vm::create,
    },
    Command {
        name: "vm start",
        usage: "vm start <name|id>",
        help: "boot a VM, creating it if need be",
        argument: Argument::Vm,
        run: vm::start,
    },
    Command {
        name: "vm stop",
        usage: "vm stop <name|id>",
        help: "stop a VM, whatever its guest does",
        argument: Argument::Vm,
        run: vm::stop,
    },
    Command {
        name: "vm pause",
        usage: "vm pause <name|id>",
        help: "halt a VM's vCPUs where they are",
        argument: Argument::Vm,
        run: vm::pause,
    },
    Command {
        name: "vm resume",
        usage: "vm resume <name|id>",
        help: "let a paused VM go on",
        argument: Argument::Vm,
        run: vm::resume,
    },
    Command {
        name: "vm reset",
        usage: "vm reset <name|id>",
        help: "boot a VM again from its image",
        argument: Argument::Vm,
        run: vm::reset,
    },
    Command {
        name: "vm delete",
        usage: "vm delete <name|id>",
        help: "take a VM's memory and devices back; it can be created again",
        argument: Argument::Vm,
        run: vm::delete,
    },
    Command {
        name: "vm console",
        usage: "vm console <name|id>",
        help: "give this terminal to a VM; Ctrl-] takes it back",
        argument: Argument::Vm,
        run: vm::console,
    },
    Command {
        name: "host info",
        usage: "host info",
        help: "tell what this machine is and what is free",
        argument: Argument::None,
        run: host::info,
    },
    Command {
        name: "log",
        usage: "log <off|error|warn|info|debug|trace>",
        help: "set what the hypervisor logs",
        argument: Argument::Level,
        run: host::log,
    },
    Command {
        name: "clear",
        usage: "clear",
        help: "clear the screen (Ctrl-L)",
        argument: Argument::None,
        run: host::clear,
    },
    Command {
        name: "poweroff",
        usage: "poweroff",
        help: "stop all VMs and switch the machine off",
        argument: Argument::None,
        run: host::power_off,
    },
];

/// What a command works on.
pub struct Session<'s> {
    /// The hypervisor.
    pub vmm: &'s dyn Vmm,
    /// The terminal.
    pub screen: &'s dyn SharedScreen,
}

impl Session<'_> {
    /// Shows a line.
    pub fn print(&self, line: &str) {
        self.screen
            .with(&mut |screen: &mut Screen| screen.message(line));
    }

    /// Runs a line, and shows what is wrong with it.
    pub fn run(&self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.is_empty() {
            return;
        }
        if let Err(line) = self.run_words(&words) {
            self.print(&line);
        }
    }

    fn run_words(&self, words: &[&str]) -> Outcome {
        let (command, arguments) = find(words).ok_or_else(|| unknown(words))?;
        let (least, most) = match command.argument {
            Argument::None => (0, 0),
            Argument::Command => (0, 2),
            Argument::Vm | Argument::Level => (1, 1),
        };
        if arguments.len() < least {
            return Err(format!("something is missing; write {}", command.usage));
        }
        if arguments.len() > most {
            return Err(format!("that is too much; write {}", command.usage));
        }
        (command.run)(self, arguments)
    }
}

/// Returns the command that the words begin with, and the words after it.
pub fn find<'w, 't>(words: &'w [&'t str]) -> Option<(&'static Command, &'w [&'t str])> {
    COMMANDS.iter().find_map(|command| {
        let name: Vec<&str> = command.name.split(' ').collect();
        Some((command, words.strip_prefix(name.as_slice())?))
    })
}

/// Complains about words that are no command.
pub fn unknown(words: &[&str]) -> String {
    let first = words.first().copied().unwrap_or("");
    let two: Vec<&str> = words.iter().take(2).copied().collect();
    let two = two.join(" ");
    let names = || COMMANDS.iter().map(|command| command.name);
    let meant = nearest(&two, names())
        .or_else(|| nearest(first, names()))
        .or_else(|| nearest(&format!("vm {first}"), names()));
    let shown = one_line(if find_group(first) { &two } else { first }, WORD_CHARS_MAX);
    match meant {
        Some(meant) => format!("{shown}: there is no such command; did you mean {meant}?"),
        None => format!("{shown}: there is no such command; help lists them"),
    }
}

/// Tells whether commands of two words begin with this one.
fn find_group(word: &str) -> bool {
    let mut names = COMMANDS.iter().map(|command| command.name);
    names.any(|name| name.split_once(' ').is_some_and(|(group, _)| group == word))
}
