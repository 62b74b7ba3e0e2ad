// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The host's timer: ArceOS's tick, and alarms that do not wait for it.
//!
//! ArceOS looks at its timers once a tick, which is far too coarse for a guest
//! that sleeps until its own timer. This handler takes the timer interrupt over:
//! it rings the alarms whose time has come, hands ArceOS its tick when that is
//! due, and programs the earliest of all. Interrupts between CPUs make a CPU leave
//! its guest or its sleep, and look; seats and the architecture hear of them.
//!
//! Whoever handles a timer interrupt asks for the next. One that comes to any CPU
//! while the handlers are exchanged would so be its last: [`begin_here`] asks anew.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use axhal::{irq, percpu::this_cpu_id, time};
use axvm::{AxArchPerCpu, PCpuId};
use kernel_guard::NoPreemptIrqSave;

use super::{
    alarm::{AlarmList, Bell, NEVER},
    seat,
};
use crate::arch;

const CPUS_MAX: usize = axconfig::plat::MAX_CPU_NUM;
const TICK_NS: u64 = time::NANOS_PER_SEC / axconfig::TICKS_PER_SEC as u64;

/// One CPU's alarms, and when its next tick is due.
///
/// All times are the CPU's own: nobody else writes them.
struct CpuTimer {
    alarms: AlarmList,
    next_tick_ns: AtomicU64,
    /// When the guest that runs here is to be interrupted.
    guest_ns: AtomicU64,
    /// What the hardware is set to.
    programmed_ns: AtomicU64,
}

static TIMERS: [CpuTimer; CPUS_MAX] = [const {
    CpuTimer {
        alarms: AlarmList::new(),
        next_tick_ns: AtomicU64::new(0),
        guest_ns: AtomicU64::new(NEVER),
        programmed_ns: AtomicU64::new(0),
    }
}; CPUS_MAX];

fn this_timer() -> Option<&'static CpuTimer> {
    TIMERS.get(this_cpu_id())
}

/// Takes both interrupts over from ArceOS's runtime, for all CPUs; then each has to
/// [`begin_here`].
pub fn init() {
    let _guard = NoPreemptIrqSave::new();
    irq::unregister(time::irq_num());
    irq::register(time::irq_num(), on_interrupt);
    irq::unregister(irq::IPI_IRQ);
    irq::register(irq::IPI_IRQ, || {
        seat::hear();
        arch::PerCpu::hear(PCpuId(this_cpu_id()));
    });
    seat::init();
}

/// Starts the calling CPU's timer, whether or not ArceOS's runs still.
pub fn begin_here() {
    let _guard = NoPreemptIrqSave::new();
    time::set_oneshot_timer(0);
}

/// Makes an alarm that was just set wait for the calling CPU's timer.
pub(super) fn wait_here(bell: &Arc<Bell>) {
    let _guard = NoPreemptIrqSave::new();
    if let Some(timer) = this_timer() {
        timer.interrupt_by(timer.alarms.adopt(this_cpu_id(), bell));
    }
}

/// Takes an alarm off all lists: its owner is gone.
pub(super) fn forget(bell: &Arc<Bell>) {
    for timer in &TIMERS {
        timer.alarms.forget(bell);
    }
}

/// Makes the calling CPU be interrupted at `at_ns` or before.
///
/// One deadline a CPU: the guest that enters next says its own.
pub(super) fn interrupt_at(at_ns: u64) {
    let _guard = NoPreemptIrqSave::new();
    if let Some(timer) = this_timer() {
        timer.guest_ns.store(at_ns, Ordering::Relaxed);
        timer.interrupt_by(at_ns);
    }
}

fn on_interrupt() {
    let Some(timer) = this_timer() else { return };
    let now_ns = time::monotonic_time_nanos();
    // What is set meanwhile programs the timer itself.
    timer.programmed_ns.store(NEVER, Ordering::Relaxed);
    let alarm_ns = timer.alarms.ring_due(this_cpu_id(), now_ns);
    if now_ns >= timer.guest_ns.load(Ordering::Relaxed) {
        timer.guest_ns.store(NEVER, Ordering::Relaxed);
    }
    if now_ns >= timer.next_tick_ns.load(Ordering::Relaxed) {
        let next = now_ns.saturating_add(TICK_NS);
        timer.next_tick_ns.store(next, Ordering::Relaxed);
        axtask::on_timer_tick();
    }
    let guest_ns = timer.guest_ns.load(Ordering::Relaxed);
    let tick_ns = timer.next_tick_ns.load(Ordering::Relaxed);
    timer.interrupt_by(alarm_ns.min(guest_ns).min(tick_ns));
}

impl CpuTimer {
    /// Programs the hardware, unless it interrupts before that anyway.
    fn interrupt_by(&self, at_ns: u64) {
        if at_ns < self.programmed_ns.load(Ordering::Relaxed) {
            self.programmed_ns.store(at_ns, Ordering::Relaxed);
            time::set_oneshot_timer(at_ns);
        }
    }
}
