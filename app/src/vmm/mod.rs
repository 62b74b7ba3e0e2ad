// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The container of VMs: their names, their verbs, what follows their ends.
//!
//! Called by the boot sequence (start what is to be started) and by the console.
//! Each VM that runs has a watcher thread, which waits for its end and carries
//! out its policy; verbs never wait for a watcher.

mod watch;

use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicBool, Ordering};

use axdevice::ConsoleOutput;
use axvm::{ArchVm, AxVCpuHal, AxVM, AxVMConfig, AxVMHal, AxVMRef, HostEvent, VmStatus};
use spin::RwLock;

/// What the container needs of the host beyond what VMs need.
pub trait Spawn: AxVMHal {
    /// Starts an ordinary thread.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>);
}

/// Where the container tells what happens, one line each.
pub trait Announce: Send + Sync {
    /// Shows a line that is about a VM.
    fn announce(&self, vm: &str, line: core::fmt::Arguments<'_>);
}

/// Why a VM could not be found or served.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum VmmError {
    /// No VM has this name or number.
    #[error("there is no VM {0:?}; `vm list` shows them")]
    NoSuchVm(String),
    /// Two VMs cannot have one name.
    #[error("another VM is named {0:?} already")]
    NameTaken(String),
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
    entries: RwLock<Vec<Arc<Entry<A>>>>,
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
            entries: RwLock::new(Vec::new()),
            announce,
            ended,
        })
    }

    /// Adds a VM of which nothing but the configuration exists yet.
    pub fn add(&self, config: AxVMConfig, output: Arc<dyn ConsoleOutput>) -> Result<(), VmmError> {
        let mut entries = self.entries.write();
        if entries.iter().any(|entry| entry.vm.name() == config.name) {
            return Err(VmmError::NameTaken(config.name));
        }
        let vm = AxVM::new(entries.len(), &self.hal, config, output);
        entries.push(Arc::new(Entry {
            vm,
            is_watched: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
        }));
        Ok(())
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

    /// Finds a VM by its name or its number.
    pub fn find(&self, key: &str) -> Result<AxVMRef<A>, VmmError> {
        self.entry(key).map(|entry| entry.vm.clone())
    }

    /// Builds a VM.
    pub fn create(&self, key: &str) -> Result<(), VmmError> {
        Ok(self.find(key)?.init()?)
    }

    /// Starts a VM, building it first if need be.
    pub fn start(self: &Arc<Self>, key: &str) -> Result<(), VmmError> {
        let entry = self.entry(key)?;
        entry.has_failed.store(false, Ordering::Relaxed);
        self.start_entry(&entry)
    }

    /// Parks a VM's vCPUs.
    pub fn pause(&self, key: &str) -> Result<(), VmmError> {
        Ok(self.find(key)?.pause()?)
    }

    /// Lets a VM's vCPUs go on.
    pub fn resume(&self, key: &str) -> Result<(), VmmError> {
        Ok(self.find(key)?.resume()?)
    }

    /// Ends a VM's run.
    pub fn stop(&self, key: &str) -> Result<(), VmmError> {
        Ok(self.find(key)?.shutdown()?)
    }

    /// Boots a VM again from its image.
    pub fn reset(self: &Arc<Self>, key: &str) -> Result<(), VmmError> {
        let entry = self.entry(key)?;
        entry.vm.reset()?;
        self.watch(&entry);
        Ok(())
    }

    /// Gives back everything a VM holds; it can be created again.
    pub fn delete(&self, key: &str) -> Result<(), VmmError> {
        Ok(self.find(key)?.delete()?)
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
        self.entries.read().clone()
    }

    fn entry(&self, key: &str) -> Result<Arc<Entry<A>>, VmmError> {
        let is_it = |entry: &&Arc<Entry<A>>| {
            entry.vm.name() == key || key.parse().is_ok_and(|id: usize| id == entry.vm.id())
        };
        let entries = self.entries.read();
        let found = entries.iter().find(is_it).cloned();
        found.ok_or_else(|| VmmError::NoSuchVm(key.into()))
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
