// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the console needs of the hypervisor, in plain data.
//!
//! Implemented by `app/src/vmm`, and by a fake in the tests. Every verb returns
//! when it is true; none may wait for the console's [`Screen`](super::Screen).

use alloc::{format, string::String, vec::Vec};
use core::fmt;

use axvm::{CrashPolicy, PCpuSet, VMId, VmStatus};

/// The hypervisor as its console sees it.
pub trait Vmm {
    /// Returns all VMs, in the order of their ids.
    fn list(&self) -> Vec<VmSummary>;

    /// Returns everything about a VM, unless it is gone.
    fn show(&self, vm: VMId) -> Option<VmDetails>;

    /// Moves a VM from one state to another.
    fn act(&self, vm: VMId, verb: VmVerb) -> Result<(), Refusal>;

    /// Gives a VM console input and returns how many bytes it took.
    fn console_input(&self, vm: VMId, bytes: &[u8]) -> usize;

    /// Returns what the host is and has.
    fn host(&self) -> HostInfo;

    /// Sets what the hypervisor logs.
    fn set_log_level(&self, level: LogLevel);

    /// Stops all VMs and switches the machine off; returns only in tests.
    fn power_off(&self);
}

/// What can be done to a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmVerb {
    /// Gives it its memory, devices and vCPUs.
    Create,
    /// Boots it.
    Start,
    /// Stops it, whatever its guest does.
    Stop,
    /// Parks its vCPUs.
    Pause,
    /// Lets its vCPUs go on.
    Resume,
    /// Boots it again.
    Reset,
    /// Gives back all it holds; it can be created again.
    Delete,
}

impl VmVerb {
    /// Returns what is true once the verb is done.
    pub fn done(self) -> &'static str {
        match self {
            Self::Create => "created",
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Pause => "paused",
            Self::Resume => "resumed",
            Self::Reset => "reset",
            Self::Delete => "deleted",
        }
    }
}

/// Why the hypervisor did not do something, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(String);

impl Refusal {
    /// Refuses for a reason, which is one line.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(format!("{reason}"))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A VM in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmSummary {
    /// Its number.
    pub id: VMId,
    /// Its name.
    pub name: String,
    /// Where it is in its life.
    pub status: VmStatus,
    /// How many vCPUs it has.
    pub vcpus: usize,
    /// Its RAM.
    pub memory_bytes: u64,
    /// How its last run ended, if it has ended.
    pub outcome: Option<String>,
}

/// A VM in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmDetails {
    /// The line of `vm list`.
    pub summary: VmSummary,
    /// Its command line.
    pub cmdline: String,
    /// Whether it starts by itself.
    pub autostart: bool,
    /// What follows a crash.
    pub on_crash: CrashPolicy,
    /// Its vCPUs.
    pub vcpus: Vec<VCpuDetails>,
    /// The registers at its last fault, as the architecture writes them.
    pub registers: Option<String>,
}

/// A vCPU in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VCpuDetails {
    /// Its state.
    pub state: String,
    /// The physical CPUs it may run on.
    pub pcpus: PCpuSet,
    /// How often it left its guest, for each reason.
    pub exits: Vec<(String, u64)>,
    /// Its last exits, the oldest first.
    pub trace: Vec<String>,
}

/// The host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostInfo {
    /// The hypervisor's version.
    pub version: String,
    /// The architecture, and how it virtualizes.
    pub arch: String,
    /// How many physical CPUs there are.
    pub cpus: usize,
    /// All memory that is there for guests.
    pub guest_bytes: u64,
    /// What of it is free.
    pub guest_free_bytes: u64,
    /// What of the hypervisor's own heap is free.
    pub heap_free_bytes: u64,
    /// The time since it booted.
    pub uptime_ns: u64,
}

/// What is logged: each level has those before it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What is odd.
    Warn,
    /// What happens seldom.
    Info,
    /// What happens often.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// Returns its name, which the `log` crate also takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
