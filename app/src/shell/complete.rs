// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What Tab completes: words of commands, names of VMs, log levels.
//!
//! Called by the shell with what stands before the cursor. Everything comes
//! from the table in `commands` and from the hypervisor's own lists.

use alloc::{string::String, vec::Vec};

use super::commands::{Argument, COMMANDS, Command, find};
use super::vmm::{LogLevel, Vmm};

/// What Tab found.
#[derive(Debug, PartialEq, Eq)]
pub enum Completion {
    /// Text to add at the cursor.
    Text(String),
    /// Words to choose from.
    Choice(Vec<String>),
    /// Nothing fits.
    Nothing,
}

/// Completes the last word of `before`.
pub fn complete(before: &str, vmm: &dyn Vmm) -> Completion {
    let is_open = before.is_empty() || before.ends_with(' ');
    let mut words: Vec<&str> = before.split_whitespace().collect();
    let last = if is_open { None } else { words.pop() };
    let last = last.unwrap_or("");
    let mut fitting = candidates(&words, vmm);
    fitting.retain(|word| word.starts_with(last));
    fitting.sort();
    fitting.dedup();
    choose(last, fitting)
}

fn choose(last: &str, fitting: Vec<String>) -> Completion {
    let Some(common) = common_start(&fitting) else {
        return Completion::Nothing;
    };
    let added = common.strip_prefix(last).unwrap_or("");
    match (fitting.len(), added) {
        (1, added) => Completion::Text(alloc::format!("{added} ")),
        (_, "") => Completion::Choice(fitting),
        (_, added) => Completion::Text(String::from(added)),
    }
}

/// Returns every word that may follow `words`.
fn candidates(words: &[&str], vmm: &dyn Vmm) -> Vec<String> {
    let following = names_after(words);
    if !following.is_empty() {
        return following;
    }
    match find(words) {
        Some((command, given)) => arguments_of(command, given, vmm),
        None => Vec::new(),
    }
}

fn arguments_of(command: &Command, given: &[&str], vmm: &dyn Vmm) -> Vec<String> {
    if command.argument == Argument::Command {
        return names_after(given);
    }
    if !given.is_empty() {
        return Vec::new();
    }
    match command.argument {
        Argument::Vm => vmm.list().into_iter().map(|vm| vm.name).collect(),
        Argument::Level => LogLevel::ALL.map(|level| String::from(level.name())).into(),
        Argument::None | Argument::Command => Vec::new(),
    }
}

/// Returns the words of commands that follow those given.
fn names_after(given: &[&str]) -> Vec<String> {
    let names = COMMANDS.iter().filter_map(|command| {
        let name: Vec<&str> = command.name.split(' ').collect();
        let rest = name.strip_prefix(given)?;
        rest.first().map(|word| String::from(*word))
    });
    names.collect()
}

/// Returns what all words begin with, unless there are none.
fn common_start(words: &[String]) -> Option<String> {
    let mut common = words.first()?.clone();
    for word in words {
        let same = common.chars().zip(word.chars());
        let same = same.take_while(|(a, b)| a == b);
        common = same.map(|(c, _)| c).collect();
    }
    Some(common)
}
