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

use axdevice::{Alarm, AlarmListener};
use axhal::{irq, percpu::this_cpu_id};
use axtask::{AxTaskRef, future::block_on};
use axvm::HostEvent;
use kspin::SpinNoIrq;

use super::alarm::HostAlarm;

/// A place to wait, and the alarm that ends a wait.
pub struct Event {
    waiting: Arc<Waiting>,
    alarm: HostAlarm,
}

/// The waiting threads.
#[derive(Default)]
struct Waiting(SpinNoIrq<Vec<Sleeper>>);

impl Default for Event {
    fn default() -> Self {
        let waiting = Arc::<Waiting>::default();
        let alarm = HostAlarm::new(waiting.clone());
        Self { waiting, alarm }
    }
}

/// A waiting thread and how to wake it.
#[derive(Clone)]
struct Sleeper {
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
    fn wake(&self) {
        self.waker.wake_by_ref();
        tell_cpu_of(&self.task);
    }

    /// Tells whether it is this thread that waits.
    fn is_of(&self, task: &AxTaskRef) -> bool {
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

impl Waiting {
    fn register(&self, sleeper: Sleeper) {
        let mut waiting = self.0.lock();
        match waiting.iter_mut().find(|known| known.is_of(&sleeper.task)) {
            Some(known) => *known = sleeper,
            None => waiting.push(sleeper),
        }
    }

    fn forget_current(&self) {
        let current = axtask::current();
        self.0.lock().retain(|sleeper| !sleeper.is_of(&current));
    }

    fn wake(&self) {
        let sleepers = core::mem::take(&mut *self.0.lock());
        for sleeper in &sleepers {
            sleeper.wake();
        }
    }
}

impl AlarmListener for Waiting {
    fn alarm_rings(&self) {
        self.wake();
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
            self.waiting.register(Sleeper::current(context));
            if let Some(at_ns) = deadline_ns {
                self.alarm.ring_by(at_ns);
            }
            slept = true;
            // A wake between the look above and the registration is seen here.
            match ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        if slept {
            self.waiting.forget_current();
        }
    }

    fn wake(&self) {
        self.waiting.wake();
    }
}
