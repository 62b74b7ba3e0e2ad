// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The commands that are about VMs.
//!
//! Rows of the table in `commands`. A VM is named by its name or its id; names
//! of digits only do not exist, so the two are never mistaken.

use alloc::{format, string::String, vec::Vec};

use axvm::{CrashPolicy, VMId};

use super::commands::{Outcome, Session};
use super::vmm::{VCpuDetails, VmDetails, VmSummary, VmVerb};
use crate::config::pcpus;
use crate::text::{nearest, one_line};

/// How many of a vCPU's last exits `vm show` prints.
const TRACE_SHOWN: usize = 8;
/// How much of a wrong name is repeated.
const NAME_CHARS_MAX: usize = 40;

/// Lists the VMs.
pub fn list(session: &Session<'_>, _: &[&str]) -> Outcome {
    let vms = session.vmm.list();
    if vms.is_empty() {
        session.print("there are no VMs");
    } else {
        session.print(&row(["ID", "NAME", "STATE", "VCPUS", "MEMORY", ""]));
    }
    for vm in &vms {
        session.print(&summary_row(vm));
    }
    Ok(())
}

fn summary_row(vm: &VmSummary) -> String {
    let memory = format!("{} MiB", vm.memory_bytes >> 20);
    let outcome = vm.outcome.as_deref().unwrap_or("");
    row([
        &format!("{}", vm.id),
        &vm.name,
        &format!("{}", vm.status),
        &format!("{}", vm.vcpus),
        &memory,
        outcome,
    ])
}

fn row([id, name, state, vcpus, memory, rest]: [&str; 6]) -> String {
    let line = format!("{id:>3}  {name:<20}  {state:<9}  {vcpus:>5}  {memory:>11}  {rest}");
    String::from(line.trim_end())
}

/// Tells everything about a VM.
pub fn show(session: &Session<'_>, words: &[&str]) -> Outcome {
    let vm = resolve(session, words)?;
    let Some(details) = session.vmm.show(vm.id) else {
        return Err(format!("{} is gone", vm.name));
    };
    show_settings(session, &details);
    for (id, vcpu) in details.vcpus.iter().enumerate() {
        show_vcpu(session, id, vcpu);
    }
    if let Some(registers) = &details.registers {
        session.print("registers at the last fault");
        for line in registers.lines() {
            session.print(&format!("    {line}"));
        }
    }
    Ok(())
}

fn show_settings(session: &Session<'_>, vm: &VmDetails) {
    let summary = &vm.summary;
    let on_crash = match vm.on_crash {
        CrashPolicy::Stop => "stop",
        CrashPolicy::Restart => "restart",
    };
    for (name, value) in [
        ("name", summary.name.clone()),
        ("id", format!("{}", summary.id)),
        ("state", format!("{}", summary.status)),
        ("last end", summary.outcome.clone().unwrap_or_default()),
        ("memory", format!("{} MiB", summary.memory_bytes >> 20)),
        ("cmdline", vm.cmdline.clone()),
        ("autostart", format!("{}", vm.autostart)),
        ("on crash", String::from(on_crash)),
    ] {
        if !value.is_empty() {
            session.print(&format!("{name:<10} {value}"));
        }
    }
}

fn show_vcpu(session: &Session<'_>, id: usize, vcpu: &VCpuDetails) {
    let cpus = pcpus::show(vcpu.pcpus);
    session.print(&format!("vCPU {id:<5} {}, on CPU {cpus}", vcpu.state));
    let exits: Vec<String> = vcpu
        .exits
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if !exits.is_empty() {
        session.print(&format!("    exits: {}", exits.join(", ")));
    }
    let skipped = vcpu.trace.len().saturating_sub(TRACE_SHOWN);
    for entry in vcpu.trace.iter().skip(skipped) {
        session.print(&format!("    {entry}"));
    }
}

/// Gives a VM what it runs on.
pub fn create(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Create)
}

/// Boots a VM.
pub fn start(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Start)
}

/// Stops a VM.
pub fn stop(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Stop)
}

/// Parks a VM's vCPUs.
pub fn pause(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Pause)
}

/// Lets a VM's vCPUs go on.
pub fn resume(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Resume)
}

/// Boots a VM again.
pub fn reset(session: &Session<'_>, words: &[&str]) -> Outcome {
    act(session, words, VmVerb::Reset)
}

/// Takes back what a VM runs on.
pub fn delete(session: &Session<'_>, words: &[&str]) -> Outcome {
    let vm = resolve(session, words)?;
    act(session, words, VmVerb::Delete)?;
    session.screen.with(&mut |screen| screen.forget(vm.id));
    Ok(())
}

/// Gives the terminal to a VM.
pub fn console(session: &Session<'_>, words: &[&str]) -> Outcome {
    let vm = resolve(session, words)?;
    session
        .screen
        .with(&mut |screen| screen.attach(vm.id, &vm.name));
    Ok(())
}

fn act(session: &Session<'_>, words: &[&str], verb: VmVerb) -> Outcome {
    let vm = resolve(session, words)?;
    session
        .vmm
        .act(vm.id, verb)
        .map_err(|refusal| format!("{}: {refusal}", vm.name))?;
    session.print(&format!("{} is {}", vm.name, verb.done()));
    Ok(())
}

/// Finds the VM that the first word names.
fn resolve(session: &Session<'_>, words: &[&str]) -> Result<VmSummary, String> {
    let word = words.first().copied().unwrap_or("");
    let id: Option<VMId> = word.parse().ok();
    let vms = session.vmm.list();
    let found = vms
        .iter()
        .find(|vm| vm.name == word || Some(vm.id) == id)
        .cloned();
    found.ok_or_else(|| {
        let shown = one_line(word, NAME_CHARS_MAX);
        let remedy = match nearest(word, vms.iter().map(|vm| vm.name.as_str())) {
            Some(meant) => format!("did you mean {meant}?"),
            None => String::from("vm list shows them"),
        };
        format!("{shown}: there is no such VM; {remedy}")
    })
}
