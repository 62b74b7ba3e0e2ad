// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The container of VMs: their names, their verbs, what follows their ends.
//!
//! Called by the boot sequence (start what is to be started) and by the console.
//! Each VM that runs has a watcher thread, which waits for its end and carries
//! out its policy; verbs never wait for a watcher.

#[cfg(test)]
mod tests;
mod watch;

use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};

use axdevice::{ConsoleOutput, Lock};
use axvm::{ArchVm, AxVCpuHal, AxVM, AxVMConfig, AxVMHal, AxVMRef, HostEvent, VMId, VmStatus};

/// What the container needs of the host beyond what VMs need.
pub trait Spawn: AxVMHal {
    /// Starts an ordinary thread.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>);
}

/// Where the container tells what happens, one line each.
pub trait Announce: Send + Sync {
    /// Shows a line that is about a VM.
    fn announce(&self, vm: &str, line: core::fmt::Arguments<'_>);

    /// Takes note that a VM prints no more for now.
    fn ended(&self, vm: VMId);

    /// Tells whether somebody wants to know what a VM's run cost.
    fn wants_costs(&self) -> bool {
        false
    }
}

/// Why a VM could not be found or served.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum VmmError {
    /// No VM has this number.
    #[error("there is no VM {0}")]
    NoSuchVm(VMId),
    /// The VM refused.
    #[error(transparent)]
    Vm(#[from] axvm::Error),
}

/// A VM and what the container knows of it.
struct Entry<A: ArchVm> {
    vm: AxVMRef<A>,
    /// Whether a watcher waits for its end.
    is_watched: AtomicBool,
    /// Whether it ended in a failure since it was last started on request.
    has_failed: AtomicBool,
}

/// All VMs of this machine.
pub struct Vmm<A: ArchVm> {
    hal: A::Hal,
    entries: Lock<Vec<Arc<Entry<A>>>>,
    announce: Arc<dyn Announce>,
    /// Wakes whoever waits for VMs to end.
    ended: <A::Hal as AxVCpuHal>::Event,
}

impl<A: ArchVm> Vmm<A>
where
    A::Hal: Spawn,
{
    /// Makes a container without VMs.
    pub fn new(hal: A::Hal, announce: Arc<dyn Announce>) -> Arc<Self> {
        let ended = hal.new_event();
        Arc::new(Self {
            hal,
            entries: Lock::new(Vec::new()),
            announce,
            ended,
        })
    }

    /// Adds a VM of which nothing but the configuration exists yet.
    ///
    /// `output` makes the place where its console goes, from its number.
    pub fn add(
        &self,
        config: AxVMConfig,
        output: impl FnOnce(VMId, &str) -> Arc<dyn ConsoleOutput>,
    ) {
        let mut entries = self.entries.lock();
        let id = entries.len();
        let output = output(id, &config.name);
        entries.push(Arc::new(Entry {
            vm: AxVM::new(id, &self.hal, config, output),
            is_watched: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }));
    }

    /// Creates and starts every VM that is to run from the start.
    ///
    /// One that fails says so and does not keep the others from starting.
    pub fn autostart(self: &Arc<Self>) {
        for entry in self.entries() {
            if !entry.vm.config().policy.autostart {
                continue;
            }
            if let Err(error) = self.start_entry(&entry) {
                entry.has_failed.store(true, Ordering::Relaxed);
                self.say(&entry, format_args!("cannot start: {error}"));
            }
        }
    }

    /// Returns all VMs, in the order of their numbers.
    pub fn vms(&self) -> Vec<AxVMRef<A>> {
        self.entries()
            .iter()
            .map(|entry| entry.vm.clone())
            .collect()
    }

    /// Returns a VM.
    pub fn vm(&self, id: VMId) -> Result<AxVMRef<A>, VmmError> {
        self.entry(id).map(|entry| entry.vm.clone())
    }

    /// Starts a VM, building it first if need be.
    pub fn start(self: &Arc<Self>, id: VMId) -> Result<(), VmmError> {
        let entry = self.entry(id)?;
        entry.has_failed.store(false, Ordering::Relaxed);
        self.start_entry(&entry)
    }

    /// Boots a VM again from its image.
    pub fn reset(self: &Arc<Self>, id: VMId) -> Result<(), VmmError> {
        let entry = self.entry(id)?;
        entry.vm.reset()?;
        self.watch(&entry);
        Ok(())
    }

    /// Ends every VM's run, whatever its guest does.
    pub fn stop_all(&self) {
        for entry in self.entries() {
            // One that does not run refuses, which is as good.
            let _ = entry.vm.shutdown();
        }
    }

    /// Waits until no VM runs, and tells whether all went well.
    pub fn wait_idle(&self) -> bool {
        self.ended.wait_until(None, &|| {
            let entries = self.entries();
            entries.iter().all(|entry| entry.is_idle())
        });
        let entries = self.entries();
        !entries.iter().any(|e| e.has_failed.load(Ordering::Relaxed))
    }

    fn start_entry(self: &Arc<Self>, entry: &Arc<Entry<A>>) -> Result<(), VmmError> {
        if matches!(entry.vm.status(), VmStatus::Uninit | VmStatus::Failed) {
            entry.vm.init()?;
        }
        entry.vm.boot()?;
        self.watch(entry);
        Ok(())
    }

    fn entries(&self) -> Vec<Arc<Entry<A>>> {
        self.entries.lock().clone()
    }

    fn entry(&self, id: VMId) -> Result<Arc<Entry<A>>, VmmError> {
        let entries = self.entries.lock();
        let found = entries.get(id).cloned();
        found.ok_or(VmmError::NoSuchVm(id))
    }

    fn say(&self, entry: &Entry<A>, line: core::fmt::Arguments<'_>) {
        self.announce.announce(entry.vm.name(), line);
    }
}

impl<A: ArchVm> Entry<A> {
    /// Tells whether it has nothing to do until somebody starts it.
    fn is_idle(&self) -> bool {
        !self.is_watched.load(Ordering::Acquire)
    }
}
