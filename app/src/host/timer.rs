// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The host's timer: ArceOS's tick, and deadlines that do not wait for it.
//!
//! ArceOS looks at its timers once a tick, which is far too coarse for a guest
//! that sleeps until its own timer. This handler takes the timer interrupt over:
//! it wakes whoever's deadline has come, hands ArceOS its tick when that is due,
//! and programs the earlier of the two. Interrupts between CPUs have no work of
//! their own: they make a CPU leave its guest or its sleep, and look.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use axhal::{irq, percpu::this_cpu_id, time};
use kspin::SpinNoIrq;

use super::event::Sleeper;

const CPUS_MAX: usize = axconfig::plat::MAX_CPU_NUM;
const TICK_NS: u64 = time::NANOS_PER_SEC / axconfig::TICKS_PER_SEC as u64;

/// A thread that wants to be woken at a time.
struct Deadline {
    at_ns: u64,
    sleeper: Sleeper,
}

/// One CPU's deadlines, and when its next tick is due.
struct CpuTimer {
    deadlines: SpinNoIrq<Vec<Deadline>>,
    next_tick_ns: AtomicU64,
    /// When the guest that runs here is to be interrupted; never is the end of time.
    guest_ns: AtomicU64,
}

const NEVER: u64 = u64::MAX;

static TIMERS: [CpuTimer; CPUS_MAX] = [const {
    CpuTimer {
        deadlines: SpinNoIrq::new(Vec::new()),
        next_tick_ns: AtomicU64::new(0),
        guest_ns: AtomicU64::new(NEVER),
    }
}; CPUS_MAX];

fn this_timer() -> Option<&'static CpuTimer> {
    TIMERS.get(this_cpu_id())
}

/// Takes both interrupts over from ArceOS's runtime; once is enough for all CPUs.
pub fn init() {
    irq::unregister(time::irq_num());
    irq::register(time::irq_num(), on_interrupt);
    irq::unregister(irq::IPI_IRQ);
    irq::register(irq::IPI_IRQ, || {});
}

/// Wakes the thread at `at_ns`, unless it is forgotten before.
pub(super) fn wake_at(at_ns: u64, sleeper: Sleeper) {
    let _guard = kernel_guard::NoPreemptIrqSave::new();
    if let Some(timer) = this_timer() {
        timer.deadlines.lock().push(Deadline { at_ns, sleeper });
        program(timer);
    }
}

/// Makes the calling CPU be interrupted at `at_ns` or before.
///
/// One deadline a CPU: the guest that enters next says its own.
pub(super) fn interrupt_at(at_ns: u64) {
    let _guard = kernel_guard::NoPreemptIrqSave::new();
    if let Some(timer) = this_timer() {
        timer.guest_ns.store(at_ns, Ordering::Relaxed);
        program(timer);
    }
}

/// Drops the calling thread's deadlines, on whichever CPU they wait.
pub(super) fn forget_current() {
    let current = axtask::current();
    for timer in &TIMERS {
        timer
            .deadlines
            .lock()
            .retain(|deadline| !deadline.sleeper.is_of(&current));
    }
}

fn on_interrupt() {
    let Some(timer) = this_timer() else { return };
    let now_ns = time::monotonic_time_nanos();
    for deadline in timer.take_due(now_ns) {
        deadline.sleeper.wake();
    }
    if now_ns >= timer.guest_ns.load(Ordering::Relaxed) {
        timer.guest_ns.store(NEVER, Ordering::Relaxed);
    }
    if now_ns >= timer.next_tick_ns.load(Ordering::Relaxed) {
        let next = now_ns.saturating_add(TICK_NS);
        timer.next_tick_ns.store(next, Ordering::Relaxed);
        axtask::on_timer_tick();
    }
    program(timer);
}

impl CpuTimer {
    fn take_due(&self, now_ns: u64) -> Vec<Deadline> {
        let mut deadlines = self.deadlines.lock();
        deadlines
            .extract_if(.., |deadline| deadline.at_ns <= now_ns)
            .collect()
    }
}

/// Programs this CPU's timer for whatever comes first.
fn program(timer: &CpuTimer) {
    let tick_ns = timer.next_tick_ns.load(Ordering::Relaxed);
    let guest_ns = timer.guest_ns.load(Ordering::Relaxed);
    let deadlines = timer.deadlines.lock();
    let wakes = deadlines.iter().map(|deadline| deadline.at_ns);
    time::set_oneshot_timer(wakes.fold(tick_ns.min(guest_ns), u64::min));
}
