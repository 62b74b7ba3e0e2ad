// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! vCPU threads on simulated CPUs.
//!
//! A thread is on one simulated CPU at a time. Before and after each section
//! that holds it there, a scheduler could take it away: with the chance that
//! the host's setup says, its `on_leave` is called, it moves to another CPU of
//! its set, and its `on_enter` is called.
#![allow(
    clippy::expect_used,
    clippy::arithmetic_side_effects,
    reason = "test support"
)]

use std::{cell::RefCell, sync::Arc, thread::JoinHandle};

use axvm::{HostThread, PCpuId, PCpuSet, VCpuId, VCpuTask, VMId};

use super::StdHost;

/// What a vCPU's thread knows of itself.
struct Current {
    host: StdHost,
    task: Arc<dyn VCpuTask>,
    cpus: Vec<PCpuId>,
    cpu: PCpuId,
    /// How many sections hold it on its CPU.
    held: usize,
    random: u64,
}

thread_local! {
    static CURRENT: RefCell<Option<Current>> = const { RefCell::new(None) };
}

/// A started thread.
pub struct StdThread(JoinHandle<()>);

impl HostThread for StdThread {
    fn join(self) {
        self.0.join().expect("a vCPU's thread does not panic");
    }
}

impl Current {
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn move_to_some_cpu(&mut self) {
        let choice = self.random() as usize % self.cpus.len().max(1);
        if let Some(cpu) = self.cpus.get(choice) {
            self.cpu = *cpu;
        }
    }
}

/// Starts a thread; `seed` decides how it is switched.
pub(super) fn spawn(
    host: &StdHost,
    name: String,
    cpus: PCpuSet,
    task: Arc<dyn VCpuTask>,
    seed: u64,
) -> Option<StdThread> {
    let cpus: Vec<_> = host.cpus().filter(|cpu| cpus.contains(*cpu)).collect();
    let current = Current {
        host: host.clone(),
        task,
        cpu: *cpus.first()?,
        cpus,
        held: 0,
        random: seed | 1,
    };
    let host = host.clone();
    host.books(|books| books.threads += 1);
    let thread = std::thread::Builder::new().name(name);
    let body = move || {
        run(current);
        host.books(|books| books.threads -= 1);
    };
    thread.spawn(body).ok().map(StdThread)
}

fn run(current: Current) {
    let task = current.task.clone();
    CURRENT.set(Some(current));
    with(Current::move_to_some_cpu);
    enter(&task);
    task.main();
    leave(&task);
    CURRENT.set(None);
}

/// Calls `f` with the calling thread, if it is a vCPU's.
fn with<T>(f: impl FnOnce(&mut Current) -> T) -> Option<T> {
    CURRENT.with_borrow_mut(|current| current.as_mut().map(f))
}

fn enter(task: &Arc<dyn VCpuTask>) {
    held(|| task.on_enter());
}

fn leave(task: &Arc<dyn VCpuTask>) {
    held(|| task.on_leave());
}

/// Does `f` with the thread held, and switches it neither before nor after.
pub(super) fn held<T>(f: impl FnOnce() -> T) -> T {
    with(|current| current.held += 1);
    let result = f();
    with(|current| current.held -= 1);
    result
}

/// Does `f` with the thread held, and perhaps switches it before and after.
pub(super) fn without_preemption<T>(f: impl FnOnce() -> T) -> T {
    perhaps_switch();
    let result = held(f);
    perhaps_switch();
    result
}

/// Does `wait` with a vCPU's thread switched out.
pub(super) fn switched_out<T>(wait: impl FnOnce() -> T) -> T {
    let Some(task) = with(|current| current.task.clone()) else {
        return wait();
    };
    leave(&task);
    let result = wait();
    with(Current::move_to_some_cpu);
    enter(&task);
    result
}

fn perhaps_switch() {
    let wants = with(|current| {
        let one_in = current.host.setup().switch_one_in;
        current.held == 0 && one_in != 0 && current.random().is_multiple_of(one_in)
    });
    if wants == Some(true) {
        with(|current| current.host.books(|books| books.switches += 1));
        switched_out(std::thread::yield_now);
    }
}

pub(super) fn current_cpu() -> PCpuId {
    with(|current| current.cpu).unwrap_or(PCpuId(0))
}

pub(super) fn current_vcpu() -> Option<(VMId, VCpuId)> {
    with(|current| current.task.id())
}
