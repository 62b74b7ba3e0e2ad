// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A host for tests: frames from the heap, counted, and one CPU.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    string::String,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axdevice::{Alarm, AlarmListener, Clock, SharedAlarm};
use axvm::{
    AxVCpuHal, AxVMHal, HostEvent, HostPhysAddr, HostThread, HostVirtAddr, PCpuId, PCpuSet, VCpuId,
    VCpuTask, VMId,
};

const PAGE_BYTES: usize = 4096;
const RAM_ALIGN: usize = 2 << 20;

/// A host whose physical addresses are its own virtual ones.
#[derive(Clone)]
pub(crate) struct FakeHost(Arc<Books>);

struct Books {
    frames_max: usize,
    frames: AtomicUsize,
    kicks: AtomicUsize,
}

impl FakeHost {
    pub(crate) fn new() -> Self {
        Self::with_frames(usize::MAX)
    }

    pub(crate) fn with_frames(frames_max: usize) -> Self {
        Self(Arc::new(Books {
            frames_max,
            frames: AtomicUsize::new(0),
            kicks: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn frames_taken(&self) -> usize {
        self.0.frames.load(Ordering::SeqCst)
    }
}

fn take(size: usize, align: usize) -> HostPhysAddr {
    let layout = Layout::from_size_align(size, align).unwrap();
    // SAFETY: the layout is not empty.
    HostPhysAddr::from_usize(unsafe { alloc_zeroed(layout) } as usize)
}

fn give(start: HostPhysAddr, size: usize, align: usize) {
    let layout = Layout::from_size_align(size, align).unwrap();
    // SAFETY: `take` returned this with the same layout.
    unsafe { dealloc(start.as_usize() as *mut u8, layout) };
}

impl AxVCpuHal for FakeHost {
    type Event = FakeEvent;

    fn alloc_frames(&self, count: usize) -> Option<HostPhysAddr> {
        if self.frames_taken() + count > self.0.frames_max {
            return None;
        }
        self.0.frames.fetch_add(count, Ordering::SeqCst);
        Some(take(count * PAGE_BYTES, count * PAGE_BYTES))
    }

    fn free_frames(&self, start: HostPhysAddr, count: usize) {
        self.0.frames.fetch_sub(count, Ordering::SeqCst);
        give(start, count * PAGE_BYTES, count * PAGE_BYTES);
    }

    fn phys_to_virt(&self, address: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::from_usize(address.as_usize())
    }

    fn new_event(&self) -> FakeEvent {
        FakeEvent
    }

    fn new_alarm(&self, _: Arc<dyn AlarmListener>) -> SharedAlarm {
        Arc::new(NoAlarm)
    }

    fn current_time_nanos(&self) -> u64 {
        0
    }

    fn current_pcpu_id(&self) -> PCpuId {
        PCpuId(0)
    }

    fn kick_pcpu(&self, _cpu: PCpuId) {
        self.0.kicks.fetch_add(1, Ordering::SeqCst);
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

impl AxVMHal for FakeHost {
    type Thread = NoThread;

    fn alloc_ram(&self, size_bytes: usize) -> Option<HostPhysAddr> {
        Some(take(size_bytes, RAM_ALIGN))
    }

    fn free_ram(&self, start: HostPhysAddr, size_bytes: usize) {
        give(start, size_bytes, RAM_ALIGN);
    }

    fn wall_time_nanos(&self) -> u64 {
        0
    }

    fn spawn_vcpu(&self, _: String, _: PCpuSet, _: Arc<dyn VCpuTask>) -> Option<NoThread> {
        None
    }

    fn current_vcpu(&self) -> Option<(VMId, VCpuId)> {
        None
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(FakeClock)
    }
}

/// A clock that stands still.
struct FakeClock;

impl Clock for FakeClock {
    fn monotonic_ns(&self) -> u64 {
        0
    }

    fn wall_ns(&self) -> u64 {
        0
    }
}

/// An alarm that never rings.
struct NoAlarm;

impl Alarm for NoAlarm {
    fn ring_by(&self, _: u64) {}
}

/// An event that nobody waits for.
pub(crate) struct FakeEvent;

impl HostEvent for FakeEvent {
    fn wait_until(&self, _: Option<u64>, _: &dyn Fn() -> bool) {}

    fn wake(&self) {}
}

/// A thread that is never made.
pub(crate) struct NoThread;

impl HostThread for NoThread {
    fn join(self) {}
}
