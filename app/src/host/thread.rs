// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Threads: each vCPU is an ArceOS task, and its registers follow the task.
//!
//! The task's extension is the vCPU's seat and by it the switch hooks, which
//! ArceOS calls with interrupts closed when it switches the task in and out.

use alloc::{string::String, sync::Arc};
use core::sync::atomic::{AtomicBool, Ordering};

use axtask::{AxCpuMask, AxTaskExt, TaskExt, TaskInner};
use axvm::{AxVCpuHal, HostEvent, HostThread, PCpuId, PCpuSet, VCpuId, VCpuTask, VMId};
use extern_trait::extern_trait;

use super::{
    event::{self, Event},
    hal::Host,
    seat::Seat,
};

const STACK_BYTES: usize = axconfig::TASK_STACK_SIZE;

/// What a vCPU's task carries: its claim to the CPUs, and with that the vCPU.
struct VCpuExt(Arc<Seat>);

#[extern_trait]
impl TaskExt for VCpuExt {
    fn on_enter(&self) {
        self.0.task().on_enter();
    }

    fn on_leave(&self) {
        self.0.task().on_leave();
    }
}

/// A thread as its starter sees it.
///
/// ArceOS's own `join` can miss an end that comes between its look and its wait.
pub struct Thread(Arc<End>);

/// Whether a thread's work has ended, and who waits for that.
#[derive(Default)]
struct End {
    has_come: AtomicBool,
    event: Event,
}

impl End {
    fn comes(&self) {
        self.has_come.store(true, Ordering::Release);
        self.event.wake();
    }
}

impl HostThread for Thread {
    fn join(self) {
        let has_come = || self.0.has_come.load(Ordering::Acquire);
        self.0.event.wait_until(None, &has_come);
    }
}

/// Starts a thread for a vCPU; `None` if none of its CPUs exists, or if there is no
/// room for its stack, which ArceOS takes for granted.
pub(super) fn spawn_vcpu(name: String, cpus: PCpuSet, task: Arc<dyn VCpuTask>) -> Option<Thread> {
    let mask = cpu_mask(cpus)?;
    if !Host.can_spare(STACK_BYTES) {
        return None;
    }
    let seat = Seat::new(task, cpus.0);
    let body = seat.clone();
    let (mut inner, thread) = make(name, move || {
        body.begin();
        body.task().main();
        body.end();
    });
    inner.set_cpumask(mask);
    *inner.task_ext_mut() = Some(AxTaskExt::from_impl(VCpuExt(seat)));
    start(inner);
    Some(thread)
}

/// Starts an ordinary thread on any CPU.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    start(make(name.into(), body).0);
}

/// Makes a thread that can be joined.
fn make(name: String, body: impl FnOnce() + Send + 'static) -> (TaskInner, Thread) {
    let end = Arc::new(End::default());
    let thread = Thread(end.clone());
    let whole = move || {
        body();
        end.comes();
    };
    (TaskInner::new(whole, name, STACK_BYTES), thread)
}

/// Runs `body` once on each CPU, one after the other, and waits for it.
pub fn on_each_cpu(body: fn(usize)) {
    for cpu in 0..axhal::cpu_num() {
        let (inner, thread) = make("setup".into(), move || body(cpu));
        inner.set_cpumask(AxCpuMask::one_shot(cpu));
        start(inner);
        thread.join();
    }
}

/// Lets the calling thread sleep.
pub fn sleep_ms(milliseconds: u64) {
    axtask::sleep(core::time::Duration::from_millis(milliseconds));
}

/// Puts a new task into a run queue, and wakes the CPU that it is for.
fn start(inner: TaskInner) {
    let task = axtask::spawn_task(inner);
    event::tell_cpu(task.cpu_id() as usize);
}

/// Returns the CPUs of a set that this machine has, if there is one.
fn cpu_mask(cpus: PCpuSet) -> Option<AxCpuMask> {
    let mut mask = AxCpuMask::new();
    for cpu in 0..axhal::cpu_num() {
        if cpus.contains(PCpuId(cpu)) {
            mask.set(cpu, true);
        }
    }
    (!mask.is_empty()).then_some(mask)
}

/// Returns which vCPU the calling thread runs.
pub(super) fn current_vcpu() -> Option<(VMId, VCpuId)> {
    current_seat().map(|seat| seat.task().id())
}

/// Returns the calling thread's seat, if it is a vCPU's.
pub(super) fn current_seat() -> Option<Arc<Seat>> {
    let task = axtask::current_may_uninit()?;
    let ext = task.task_ext()?;
    Some(AxTaskExt::downcast_ref::<VCpuExt>(ext).0.clone())
}
