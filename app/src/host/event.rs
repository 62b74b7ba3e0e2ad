// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A place where threads wait for a condition.
//!
//! A vCPU's thread gives its turn up while it waits, and takes its next one
//! afterwards (see `seat`). Any other thread is ArceOS's alone. ArceOS puts a
//! woken thread into another CPU's run queue without telling that CPU, which
//! then sleeps until its next tick: after a wake, the CPU that was chosen gets an
//! interrupt.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use axdevice::{Alarm, AlarmListener};
use axhal::{irq, percpu::this_cpu_id};
use axtask::{AxCpuMask, AxTaskRef, future::block_on};
use axvm::HostEvent;
use kspin::SpinNoIrq;

use super::{alarm::HostAlarm, seat::Seat, thread};

/// A place to wait, and the alarm that ends a wait.
pub struct Event {
    waiting: Arc<Waiting>,
    alarm: HostAlarm,
}

/// The waiting threads.
#[derive(Default)]
struct Waiting(SpinNoIrq<Vec<Waiter>>);

/// A waiting thread.
#[derive(Clone)]
enum Waiter {
    VCpu(Arc<Seat>),
    Other(Sleeper),
}

/// How a sleeping thread is woken.
#[derive(Clone)]
pub(super) struct Sleeper {
    waker: Waker,
    task: AxTaskRef,
}

impl Sleeper {
    pub(super) fn current(context: &Context<'_>) -> Self {
        Self {
            waker: context.waker().clone(),
            task: axtask::current().clone(),
        }
    }

    /// Wakes the thread, and the CPU it is to run on.
    fn wake(&self) {
        self.waker.wake_by_ref();
        tell_cpu(self.task.cpu_id() as usize);
    }

    /// Wakes the thread to run on a certain CPU.
    pub(super) fn wake_on(&self, cpu: usize) {
        self.task.set_cpumask(AxCpuMask::one_shot(cpu));
        self.waker.wake_by_ref();
        tell_cpu(cpu);
    }
}

/// Makes a CPU look at its run queue.
pub(super) fn tell_cpu(cpu_id: usize) {
    if cpu_id != this_cpu_id() {
        irq::send_ipi(irq::IPI_IRQ, irq::IpiTarget::Other { cpu_id });
    }
}

impl Default for Event {
    fn default() -> Self {
        let waiting = Arc::<Waiting>::default();
        let alarm = HostAlarm::new(waiting.clone());
        Self { waiting, alarm }
    }
}

impl Waiter {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::VCpu(one), Self::VCpu(other)) => Arc::ptr_eq(one, other),
            (Self::Other(one), Self::Other(other)) => Arc::ptr_eq(&one.task, &other.task),
            _ => false,
        }
    }

    fn wake(&self) {
        match self {
            Self::VCpu(seat) => seat.wake(),
            Self::Other(sleeper) => sleeper.wake(),
        }
    }
}

impl Waiting {
    fn register(&self, waiter: Waiter) {
        let mut waiting = self.0.lock();
        match waiting.iter_mut().find(|known| known.is_same(&waiter)) {
            Some(known) => *known = waiter,
            None => waiting.push(waiter),
        }
    }

    fn forget(&self, gone: &Waiter) {
        self.0.lock().retain(|waiter| !waiter.is_same(gone));
    }

    fn wake(&self) {
        let waiters = core::mem::take(&mut *self.0.lock());
        for waiter in &waiters {
            waiter.wake();
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
        let is_late = || deadline_ns.is_some_and(|at| axhal::time::monotonic_time_nanos() >= at);
        let is_over = || ready() || is_late();
        match thread::current_seat() {
            Some(seat) => self.wait_in_seat(&seat, deadline_ns, &is_over),
            None => self.wait_as_thread(deadline_ns, &is_over),
        }
    }

    fn wake(&self) {
        self.waiting.wake();
    }
}

impl Event {
    fn wait_in_seat(&self, seat: &Arc<Seat>, deadline_ns: Option<u64>, is_over: &dyn Fn() -> bool) {
        let waiter = Waiter::VCpu(seat.clone());
        while !is_over() {
            self.begin(waiter.clone(), deadline_ns);
            // A wake between the look above and the registration is seen here.
            if is_over() {
                return self.waiting.forget(&waiter);
            }
            seat.rest();
        }
        self.waiting.forget(&waiter);
    }

    fn wait_as_thread(&self, deadline_ns: Option<u64>, is_over: &dyn Fn() -> bool) {
        let mut slept = None;
        block_on(poll_fn(|context| {
            if is_over() {
                return Poll::Ready(());
            }
            let waiter = Waiter::Other(Sleeper::current(context));
            self.begin(waiter.clone(), deadline_ns);
            slept = Some(waiter);
            match is_over() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }));
        if let Some(waiter) = slept {
            self.waiting.forget(&waiter);
        }
    }

    fn begin(&self, waiter: Waiter, deadline_ns: Option<u64>) {
        self.waiting.register(waiter);
        if let Some(at_ns) = deadline_ns {
            self.alarm.ring_by(at_ns);
        }
    }
}
