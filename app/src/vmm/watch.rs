// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What follows a VM's end.
//!
//! A guest that asked for a restart gets it; one that crashed gets it if its
//! file says so, but not forever: a VM that crashes again and again within
//! moments stays down, so that it cannot keep the machine busy with booting.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::Ordering;

use axvm::{ArchVm, AxVCpuHal, AxVM, CrashPolicy, ExitKind, HostEvent, Machine, VmOutcome};

use super::{Entry, Spawn, Vmm};

/// So many crashes in a row, each within [`QUICK_NS`], are too many.
pub(super) const QUICK_CRASHES_MAX: usize = 3;
const QUICK_NS: u64 = 10_000_000_000;

/// How a VM has fared under one watcher.
struct Record {
    started_ns: u64,
    quick_crashes: usize,
}

impl<A: ArchVm> Vmm<A>
where
    A::Hal: Spawn,
{
    /// Makes sure that somebody waits for the VM's end.
    pub(super) fn watch(self: &Arc<Self>, entry: &Arc<Entry<A>>) {
        if entry.is_watched.swap(true, Ordering::AcqRel) {
            return;
        }
        let (vmm, entry) = (self.clone(), entry.clone());
        self.hal
            .clone()
            .spawn("watch", Box::new(move || vmm.watch_until_idle(&entry)));
    }

    fn watch_until_idle(&self, entry: &Entry<A>) {
        loop {
            self.watch_runs(entry);
            entry.is_watched.store(false, Ordering::Release);
            // Somebody may have started it while this still counted as watching,
            // and that run may be over as well.
            if !entry.vm.needs_watching() || entry.is_watched.swap(true, Ordering::AcqRel) {
                break;
            }
        }
        self.ended.wake();
    }

    /// Waits for the end of one run after the other until none follows.
    fn watch_runs(&self, entry: &Entry<A>) {
        let mut record = self.new_record();
        while entry.vm.needs_watching() {
            entry.vm.wait_stopped();
            // Whoever watched before may have followed it.
            if let Some(outcome) = entry.vm.take_outcome()
                && !self.follow(entry, &outcome, &mut record)
            {
                record = self.new_record();
            }
        }
    }

    fn new_record(&self) -> Record {
        Record {
            started_ns: self.hal.current_time_nanos(),
            quick_crashes: 0,
        }
    }

    /// Carries out the policy, and tells whether that made the VM run again.
    fn follow(&self, entry: &Entry<A>, outcome: &VmOutcome, record: &mut Record) -> bool {
        self.announce.ended(entry.vm.id());
        self.say(entry, format_args!("{outcome}"));
        if self.announce.wants_costs() {
            self.say(entry, format_args!("exits: {}", exits(&entry.vm)));
        }
        if let VmOutcome::Crashed(fault) = outcome {
            self.say(entry, format_args!("{}", fault.registers));
        }
        let restarts = self.restarts(entry, outcome, record);
        if !restarts {
            if outcome.is_failure() {
                entry.has_failed.store(true, Ordering::Relaxed);
            }
            return false;
        }
        record.started_ns = self.hal.current_time_nanos();
        // Only a VM that is still as it was found: somebody may have deleted it, or
        // started it already.
        match entry.vm.boot() {
            Ok(()) => true,
            Err(axvm::Error::WrongState { .. }) => false,
            Err(error) => {
                entry.has_failed.store(true, Ordering::Relaxed);
                self.say(entry, format_args!("cannot restart: {error}"));
                false
            }
        }
    }

    fn restarts(&self, entry: &Entry<A>, outcome: &VmOutcome, record: &mut Record) -> bool {
        match outcome {
            VmOutcome::ResetRequested => true,
            VmOutcome::Crashed(_) => {
                let ran_ns = self
                    .hal
                    .current_time_nanos()
                    .saturating_sub(record.started_ns);
                record.quick_crashes = match ran_ns < QUICK_NS {
                    true => record.quick_crashes.saturating_add(1),
                    false => 1,
                };
                let policy = entry.vm.config().policy.on_crash;
                policy == CrashPolicy::Restart && record.quick_crashes <= QUICK_CRASHES_MAX
            }
            _ => false,
        }
    }
}

/// Returns how often the vCPUs of a VM left their guest, by kinds.
fn exits<A: ArchVm>(vm: &AxVM<A>) -> String {
    let of_kind = |kind: ExitKind| {
        let sum = |machine: &Machine<A>| {
            let vcpus = machine.vcpus().iter();
            vcpus
                .map(|vcpu| vcpu.control().stats().exits(kind))
                .fold(0, u64::wrapping_add)
        };
        let count = vm.with_machine(sum).unwrap_or(0);
        (count != 0).then(|| format!("{} {count}", kind.name()))
    };
    let kinds: Vec<_> = ExitKind::ALL.into_iter().filter_map(of_kind).collect();
    kinds.join(", ")
}
