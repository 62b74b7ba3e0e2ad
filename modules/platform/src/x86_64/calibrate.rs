// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Measures the TSC and the APIC timer against the PIT.
//!
//! CPUID gives neither rate on most machines and emulators; the PIT runs at
//! the same rate on every PC. Called once, on the first CPU, with interrupts
//! closed. Spec: Intel 8254 datasheet, mode 0.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::{apic, time::counter};

const PIT_HZ: u64 = 1_193_182;
const PIT_COUNT: u16 = 11_932;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Channel 2, both bytes, mode 0.
const PIT_ONE_SHOT: u8 = 0b1011_0000;
const GATE_PORT: u16 = 0x61;
const GATE: u8 = 1;
const SPEAKER: u8 = 2;
const OUTPUT: u8 = 1 << 5;
/// Enough for any PIT; a machine without one gives up and takes 1 GHz.
const PATIENCE: u32 = 100_000_000;
const NANOS_PER_SEC: u64 = 1_000_000_000;

static APIC_TIMER_HZ: AtomicU64 = AtomicU64::new(NANOS_PER_SEC);

/// Returns the rate of the TSC.
pub(super) fn measure_tsc() -> u64 {
    let start = counter();
    let is_measured = wait_10ms();
    let ticks = counter() - start;
    if is_measured {
        per_second(ticks)
    } else {
        NANOS_PER_SEC
    }
}

/// Measures the rate of the APIC timer, which must be enabled and masked.
pub(super) fn measure_apic_timer() {
    apic::start_timer(u32::MAX);
    let is_measured = wait_10ms();
    let ticks = u32::MAX - apic::timer_count();
    apic::start_timer(0);
    if is_measured && ticks > 0 {
        APIC_TIMER_HZ.store(per_second(ticks.into()), Ordering::Relaxed);
    }
}

/// Returns the rate of the APIC timer.
pub(super) fn apic_timer_hz() -> u64 {
    APIC_TIMER_HZ.load(Ordering::Relaxed)
}

const fn per_second(ticks: u64) -> u64 {
    (ticks as u128 * PIT_HZ as u128 / PIT_COUNT as u128) as u64
}

/// Waits about 10 ms of real time; tells whether the PIT said so.
fn wait_10ms() -> bool {
    let [low, high] = PIT_COUNT.to_le_bytes();
    let gate = (port_read(GATE_PORT) & !SPEAKER) | GATE;
    port_write(GATE_PORT, gate);
    port_write(PIT_COMMAND, PIT_ONE_SHOT);
    port_write(PIT_CHANNEL_2, low);
    port_write(PIT_CHANNEL_2, high);
    (0..PATIENCE).any(|_| port_read(GATE_PORT) & OUTPUT != 0)
}

fn port_read(port: u16) -> u8 {
    // SAFETY: reading these ports has no effect.
    unsafe { Port::new(port).read() }
}

fn port_write(port: u16, value: u8) {
    // SAFETY: channel 2 of the PIT only drives the speaker, which stays off.
    unsafe { Port::new(port).write(value) };
}
