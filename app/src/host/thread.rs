// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Threads: each vCPU is an ArceOS task, and its registers follow the task.
//!
//! The task's extension is the vCPU's switch hooks, which ArceOS calls with
//! interrupts closed when it switches the task in and out.

use alloc::{string::String, sync::Arc};

use axtask::{AxCpuMask, AxTaskExt, AxTaskRef, TaskExt, TaskInner};
use axvm::{HostThread, PCpuId, PCpuSet, VCpuId, VCpuTask, VMId};
use extern_trait::extern_trait;

const STACK_BYTES: usize = axconfig::TASK_STACK_SIZE;

/// What a vCPU's task carries: what to do when it is switched.
struct VCpuExt(Arc<dyn VCpuTask>);

#[extern_trait]
impl TaskExt for VCpuExt {
    fn on_enter(&self) {
        self.0.on_enter();
    }

    fn on_leave(&self) {
        self.0.on_leave();
    }
}

/// A vCPU's thread as its starter sees it.
pub struct Thread(AxTaskRef);

impl HostThread for Thread {
    fn join(self) {
        self.0.join();
    }
}

/// Starts a thread for a vCPU; `None` if none of its CPUs exists.
pub(super) fn spawn_vcpu(name: String, cpus: PCpuSet, task: Arc<dyn VCpuTask>) -> Option<Thread> {
    let mask = cpu_mask(cpus)?;
    let body = task.clone();
    let mut inner = TaskInner::new(move || body.main(), name, STACK_BYTES);
    inner.set_cpumask(mask);
    *inner.task_ext_mut() = Some(AxTaskExt::from_impl(VCpuExt(task)));
    Some(Thread(start(inner)))
}

/// Starts an ordinary thread on any CPU.
pub fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    start(TaskInner::new(body, name.into(), STACK_BYTES));
}

/// Runs `body` once on each CPU, one after the other, and waits for it.
pub fn on_each_cpu(body: fn(usize)) {
    for cpu in 0..axhal::cpu_num() {
        let inner = TaskInner::new(move || body(cpu), "setup".into(), STACK_BYTES);
        inner.set_cpumask(AxCpuMask::one_shot(cpu));
        start(inner).join();
    }
}

/// Lets the calling thread sleep.
pub fn sleep_ms(milliseconds: u64) {
    axtask::sleep(core::time::Duration::from_millis(milliseconds));
}

/// Puts a new task into a run queue, and wakes the CPU that it is for.
fn start(inner: TaskInner) -> AxTaskRef {
    let task = axtask::spawn_task(inner);
    super::event::tell_cpu_of(&task);
    task
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
    let task = axtask::current_may_uninit()?;
    let ext = task.task_ext()?;
    Some(AxTaskExt::downcast_ref::<VCpuExt>(ext).0.id())
}
