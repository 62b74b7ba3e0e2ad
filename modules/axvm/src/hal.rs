// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a host provides to virtual machines.
//!
//! Implemented once in the hypervisor's `host` folder over ArceOS, and by fakes
//! in tests. A host is a value, so that each test has its own with its own
//! books; the real one has no fields and costs nothing. Everything is
//! dispatched statically.

use alloc::{string::String, sync::Arc};

use axdevice::{AlarmListener, Clock, SharedAlarm};
use axvm_types::{HostPhysAddr, HostVirtAddr, VCpuId, VMId};

/// A physical CPU's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PCpuId(pub usize);

/// A set of physical CPUs, of which there are at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PCpuSet(pub u64);

impl PCpuSet {
    /// Every physical CPU there is.
    pub const ALL: Self = Self(u64::MAX);

    /// Tells whether the CPU is in the set.
    pub fn contains(self, cpu: PCpuId) -> bool {
        u32::try_from(cpu.0)
            .ok()
            .and_then(|bit| self.0.checked_shr(bit))
            .is_some_and(|rest| rest & 1 == 1)
    }
}

/// What a guest seems to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on.
    Moves,
    /// It was in the same small loop before, without an exit meanwhile: likely it
    /// waits for another vCPU.
    Spins,
}

/// What virtual machines need of the host.
pub trait AxVMHal: AxVCpuHal {
    /// A thread that runs one vCPU.
    type Thread: HostThread;

    /// Takes zeroed, contiguous, 2 MiB-aligned memory for guests.
    fn alloc_ram(&self, size_bytes: usize) -> Option<HostPhysAddr>;

    /// Gives back what [`Self::alloc_ram`] returned, with the same size.
    fn free_ram(&self, start: HostPhysAddr, size_bytes: usize);

    /// Writes zeros over what [`Self::alloc_ram`] returned, with the same size.
    fn zero_ram(&self, start: HostPhysAddr, size_bytes: usize);

    /// Returns nanoseconds since 1970-01-01 00:00 UTC.
    fn wall_time_nanos(&self) -> u64;

    /// Starts a thread for a vCPU on one of `cpus`, or says that it cannot.
    fn spawn_vcpu(
        &self,
        name: String,
        cpus: PCpuSet,
        task: Arc<dyn VCpuTask>,
    ) -> Option<Self::Thread>;

    /// Returns which VM and vCPU the calling thread runs, if it runs one.
    fn current_vcpu(&self) -> Option<(VMId, VCpuId)>;

    /// Returns the clock that this host's devices read.
    fn clock(&self) -> Arc<dyn Clock>;
}

/// What one vCPU and its page tables need of the host.
pub trait AxVCpuHal: Clone + Send + Sync + 'static {
    /// Something that a thread can wait for.
    type Event: HostEvent;

    /// Takes `count` (a power of two) zeroed 4 KiB frames, aligned to their size.
    fn alloc_frames(&self, count: usize) -> Option<HostPhysAddr>;

    /// Gives back what [`Self::alloc_frames`] returned, with the same count.
    fn free_frames(&self, start: HostPhysAddr, count: usize);

    /// Tells whether the host has so many bytes of its own memory to spare, for what
    /// it gives without being asked: to run out of that would be its end.
    fn can_spare(&self, _size_bytes: usize) -> bool {
        true
    }

    /// Returns where the hypervisor sees host memory that it took from here.
    fn phys_to_virt(&self, address: HostPhysAddr) -> HostVirtAddr;

    /// Makes a new event.
    fn new_event(&self) -> Self::Event;

    /// Makes an alarm on the clock of [`Self::current_time_nanos`], which rings
    /// for `listener` whatever this host's threads do meanwhile.
    fn new_alarm(&self, listener: Arc<dyn AlarmListener>) -> SharedAlarm;

    /// Returns nanoseconds of a clock that never goes back.
    fn current_time_nanos(&self) -> u64;

    /// Returns the physical CPU that the caller runs on.
    fn current_pcpu_id(&self) -> PCpuId;

    /// Returns the hardware's own number of a physical CPU.
    fn cpu_hardware_id(&self, cpu: PCpuId) -> u64 {
        cpu.0 as u64
    }

    /// Makes the physical CPU leave the guest it runs, by an interrupt.
    fn kick_pcpu(&self, cpu: PCpuId);

    /// Makes this physical CPU be interrupted at `deadline_ns` or before.
    ///
    /// For guests whose timer the hardware does not keep: the vCPU asks again
    /// each time it enters its guest, with interrupts closed. A host that does
    /// nothing serves such timers at its own tick.
    fn interrupt_at(&self, _deadline_ns: u64) {}

    /// Fills `to` with bytes that nobody can guess, or says that it cannot.
    fn fill_random(&self, _to: &mut [u8]) -> bool {
        false
    }

    /// Lets other vCPUs run, if it is their turn: a vCPU's thread calls this that
    /// was asked to by [`VCpuTask::yield_soon`].
    ///
    /// Hosts that share no physical CPUs among vCPUs ask nobody.
    fn yield_vcpu(&self, _progress: Progress) {}

    /// Tells that a vCPU whose thread is in [`Self::yield_vcpu`] has an interrupt
    /// to take, which somebody may be waiting for.
    fn hurry_vcpu(&self, _vm: VMId, _vcpu: VCpuId) {}

    /// Runs `f` with the calling thread held on this CPU.
    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R;
}

/// A thread's end as its starter sees it.
pub trait HostThread: Send + Sync {
    /// Waits until the thread has ended.
    fn join(self);
}

/// A place to wait: a thread waits for a condition, others wake it to look again.
pub trait HostEvent: Send + Sync {
    /// Waits until `ready` holds or the clock reaches `deadline_ns`.
    ///
    /// `ready` is looked at again after each [`Self::wake`], and not once more
    /// after it held; a wake between the look and the wait is not lost.
    fn wait_until(&self, deadline_ns: Option<u64>, ready: &dyn Fn() -> bool);

    /// Makes every waiting thread look at its condition again.
    fn wake(&self);
}

/// The body of a vCPU's thread, and what to do when it is switched in and out.
pub trait VCpuTask: Send + Sync {
    /// Returns the VM and the vCPU that this thread runs.
    fn id(&self) -> (VMId, VCpuId);

    /// Runs the vCPU until its VM stops.
    fn main(&self);

    /// Asks the thread to call [`AxVCpuHal::yield_vcpu`] soon; any thread and any
    /// interrupt handler may.
    fn yield_soon(&self);

    /// Loads the guest's registers: the thread was switched in on this CPU.
    ///
    /// Called with interrupts closed, also before `main`.
    fn on_enter(&self);

    /// Puts the guest's registers away: the thread is switched out.
    ///
    /// Called with interrupts closed, also after `main`.
    fn on_leave(&self);
}
