// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The commands that are about the console and the host.
//!
//! Rows of the table in `commands`; each prints its answer line by line.

use alloc::format;

use super::commands::{COMMANDS, Command, Outcome, Session, find, unknown};
use super::vmm::LogLevel;
use crate::text::nearest;

/// Lists the commands, or explains one.
pub fn help(session: &Session<'_>, words: &[&str]) -> Outcome {
    if words.is_empty() {
        for command in &COMMANDS {
            session.print(&row(command));
        }
        session.print("Tab completes, Up and Down recall, Ctrl-C gives a line up.");
        return Ok(());
    }
    if let Some((command, [])) = find(words) {
        session.print(command.usage);
        session.print(&format!("    {}", command.help));
        return Ok(());
    }
    let group = words.join(" ");
    let mut known = COMMANDS
        .iter()
        .filter(|command| command.name.starts_with(&format!("{group} ")))
        .peekable();
    if known.peek().is_none() {
        return Err(unknown(words));
    }
    known.for_each(|command| session.print(&row(command)));
    Ok(())
}

fn row(command: &Command) -> alloc::string::String {
    format!("{:<38} {}", command.usage, command.help)
}

/// Tells what the host is.
pub fn info(session: &Session<'_>, _: &[&str]) -> Outcome {
    let host = session.vmm.host();
    let mib = |bytes: u64| bytes >> 20;
    let seconds = host.uptime_ns.checked_div(1_000_000_000).unwrap_or(0);
    for line in [
        format!("version        AxHive {}", host.version),
        format!("architecture   {}", host.arch),
        format!("CPUs           {}", host.cpus),
        format!(
            "guest memory   {} MiB, {} MiB free",
            mib(host.guest_bytes),
            mib(host.guest_free_bytes)
        ),
        format!("own heap       {} KiB free", host.heap_free_bytes >> 10),
        format!("VMs            {}", session.vmm.list().len()),
        format!("up             {seconds} s"),
    ] {
        session.print(&line);
    }
    Ok(())
}

/// Sets what is logged.
pub fn log(session: &Session<'_>, words: &[&str]) -> Outcome {
    let word = words.first().copied().unwrap_or("");
    let names = LogLevel::ALL.map(LogLevel::name);
    let Some(level) = LogLevel::ALL.into_iter().find(|level| level.name() == word) else {
        let shown = crate::text::one_line(word, 40);
        let remedy = match nearest(word, names) {
            Some(meant) => format!("did you mean {meant}?"),
            None => format!("the levels are {}", names.join(", ")),
        };
        return Err(format!("{shown}: there is no such level; {remedy}"));
    };
    session.vmm.set_log_level(level);
    session.print(&format!("the log level is {word}"));
    Ok(())
}

/// Clears the screen.
pub fn clear(session: &Session<'_>, _: &[&str]) -> Outcome {
    session.screen.with(&mut |screen| screen.clear());
    Ok(())
}

/// Switches the machine off.
pub fn power_off(session: &Session<'_>, _: &[&str]) -> Outcome {
    session.print("switching off");
    session.vmm.power_off();
    Ok(())
}
