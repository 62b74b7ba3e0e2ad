// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The time-stamp counter as clock and the APIC's one-shot timer.
//!
//! Called by `wait` and the timer step. Both frequencies are measured once
//! against channel 2 of the 8254; without one the TSC is taken for 1 GHz.
//!
//! Spec: Intel SDM 3, "APIC Timer", "Time-Stamp Counter"; 8254 data sheet, mode 0.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{apic, port, trap};
use crate::{cpu, wait};

const PIT_HZ: u64 = 1_193_182;
const PIT_COUNT: u16 = 11_932;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_CONTROL: u16 = 0x43;
const PIT_GATE: u16 = 0x61;
const CHANNEL_2_MODE_0: u8 = 0xb0;
const GATE_OPEN: u8 = 1 << 0;
const SPEAKER: u8 = 1 << 1;
const OUTPUT: u8 = 1 << 5;
// More than a second on any CPU; the 8254 needs a hundredth.
const PIT_PATIENCE_TICKS: u64 = 10_000_000_000;
const DIVIDE_BY_16: u32 = 3;

static CLOCK_HZ: AtomicU64 = AtomicU64::new(1_000_000_000);
static TIMER_HZ: AtomicU64 = AtomicU64::new(0);

/// Measures the frequencies of clock and timer.
pub fn calibrate() {
    init_cpu();
    start_pit();
    let start = ticks();
    apic::write(apic::TIMER_INITIAL, u32::MAX);
    let has_pit = wait_for_pit(start);
    let clock = ticks().saturating_sub(start).max(1);
    let timer = u64::from(u32::MAX - apic::read(apic::TIMER_CURRENT)).max(1);
    apic::write(apic::TIMER_INITIAL, 0);
    if has_pit {
        let count = u64::from(PIT_COUNT);
        CLOCK_HZ.store(clock.saturating_mul(PIT_HZ) / count, Ordering::Release);
        TIMER_HZ.store(timer.saturating_mul(PIT_HZ) / count, Ordering::Release);
    } else {
        say!("no 8254 channel 2: clock taken for 1 GHz");
        let timer_hz = u128::from(timer) * u128::from(frequency_hz()) / u128::from(clock);
        TIMER_HZ.store((timer_hz as u64).max(1), Ordering::Release);
    }
}

fn start_pit() {
    let gate = port::read_u8(PIT_GATE) & !SPEAKER;
    port::write_u8(PIT_GATE, gate | GATE_OPEN);
    let [low, high] = PIT_COUNT.to_le_bytes();
    port::write_u8(PIT_CONTROL, CHANNEL_2_MODE_0);
    port::write_u8(PIT_CHANNEL_2, low);
    port::write_u8(PIT_CHANNEL_2, high);
}

fn wait_for_pit(start: u64) -> bool {
    while ticks().saturating_sub(start) < PIT_PATIENCE_TICKS {
        if port::read_u8(PIT_GATE) & OUTPUT != 0 {
            return true;
        }
    }
    false
}

/// Sets this CPU's timer to one-shot.
pub fn init_cpu() {
    apic::write(apic::TIMER_DIVIDE, DIVIDE_BY_16);
    apic::write(apic::TIMER_ENTRY, u32::from(trap::TIMER));
}

/// Returns the frequency of the clock.
pub fn frequency_hz() -> u64 {
    CLOCK_HZ.load(Ordering::Acquire)
}

/// Returns the clock's reading.
pub fn ticks() -> u64 {
    // SAFETY: every 64-bit CPU has the counter.
    unsafe { _rdtsc() }
}

/// Asks for one timer interrupt, `ns` from now.
pub fn arm_ns(ns: u64) {
    let count = wait::ns_to_ticks(ns, TIMER_HZ.load(Ordering::Acquire));
    let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
    apic::write(apic::TIMER_INITIAL, count);
}

/// Asks for no timer interrupt.
pub fn disarm() {
    apic::write(apic::TIMER_INITIAL, 0);
}

/// Counts a timer interrupt and ends it.
pub fn on_interrupt() {
    cpu::current().count_timer();
    apic::write(apic::END_OF_INTERRUPT, 0);
}
