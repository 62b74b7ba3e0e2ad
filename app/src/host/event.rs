// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A place where threads wait for a condition.
//!
//! ArceOS puts a woken thread into another CPU's run queue without telling that
//! CPU, which then sleeps until its next tick: after a wake, the CPU that was
//! chosen gets an interrupt.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use axhal::{irq, percpu::this_cpu_id};
use axtask::{AxTaskRef, future::block_on};
use axvm::HostEvent;
use kspin::SpinNoIrq;

use super::timer;

/// The waiting threads.
#[derive(Default)]
pub struct Event {
    waiting: SpinNoIrq<Vec<Sleeper>>,
}

/// A waiting thread and how to wake it.
#[derive(Clone)]
pub(super) struct Sleeper {
    waker: Waker,
    task: AxTaskRef,
}

impl Sleeper {
    fn current(context: &Context<'_>) -> Self {
        Self {
            waker: context.waker().clone(),
            task: axtask::current().clone(),
        }
    }

    /// Wakes the thread, and the CPU it is to run on.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
        tell_cpu_of(&self.task);
    }

    /// Tells whether it is this thread that waits.
    pub(super) fn is_of(&self, task: &AxTaskRef) -> bool {
        Arc::ptr_eq(&self.task, task)
    }
}

/// Makes the CPU that a thread was put to look at its run queue.
pub(super) fn tell_cpu_of(task: &AxTaskRef) {
    let cpu_id = task.cpu_id() as usize;
    if cpu_id != this_cpu_id() {
        irq::send_ipi(irq::IPI_IRQ, irq::IpiTarget::Other { cpu_id });
    }
}

impl Event {
    fn register(&self, sleeper: Sleeper) {
        let mut waiting = self.waiting.lock();
        match waiting.iter_mut().find(|known| known.is_of(&sleeper.task)) {
            Some(known) => *known = sleeper,
            None => waiting.push(sleeper),
        }
    }

    fn forget_current(&self) {
        let current = axtask::current();
        self.waiting
            .lock()
            .retain(|sleeper| !sleeper.is_of(&current));
    }
}

impl HostEvent for Event {
    fn wait_until(&self, deadline_ns: Option<u64>, ready: &dyn Fn() -> bool) {
        let mut slept = false;
        let is_late = || deadline_ns.is_some_and(|at| axhal::time::monotonic_time_nanos() >= at);
        block_on(poll_fn(|context| {
            if ready() || is_late() {
                return Poll::Ready(());
            }
            let sleeper = Sleeper::current(context);
            self.register(sleeper.clone());
            if let Some(at) = deadline_ns {
                timer::wake_at(at, sleeper);
            }
            slept = true;
            // A wake between the look above and the registration is seen here.
            match ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        if slept {
            self.forget_current();
            timer::forget_current();
        }
    }

    fn wake(&self) {
        let sleepers = core::mem::take(&mut *self.waiting.lock());
        for sleeper in &sleepers {
            sleeper.wake();
        }
    }
}
