// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Measures the TSC and the APIC timer against the PIT.
//!
//! CPUID gives neither rate on most machines and emulators; the PIT runs at
//! the same rate on every PC. Called once, on the first CPU, with interrupts
//! closed. An emulator may be kept from running at any moment: both clocks are
//! read together several times at either end, and the closest readings count.
//! Spec: Intel 8254 datasheet, mode 0, counter latch command.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::instructions::port::Port;

use super::{apic, time::counter};

const PIT_HZ: u64 = 1_193_182;
/// As long as it goes: 55 ms.
const PIT_START: u16 = u16::MAX;
/// 10 ms.
const PIT_SPAN: u16 = 11_932;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
/// Channel 2, both bytes, mode 0.
const PIT_ONE_SHOT: u8 = 0b1011_0000;
/// Keeps channel 2's count for the next two reads.
const PIT_LATCH: u8 = 0b1000_0000;
const GATE_PORT: u16 = 0x61;
const GATE: u8 = 1;
const SPEAKER: u8 = 2;
const OUTPUT: u8 = 1 << 5;
/// Enough for any PIT; a machine without one gives up and takes 1 GHz.
const PATIENCE: u32 = 200_000;
/// How often both clocks are read, and how often that is begun anew.
const READINGS: u32 = 8;
const ATTEMPTS: u32 = 5;
const NANOS_PER_SEC: u64 = 1_000_000_000;

static APIC_TIMER_HZ: AtomicU64 = AtomicU64::new(NANOS_PER_SEC);

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    ticks: u64,
    pit: u16,
    /// How long it took to read them.
    took: u64,
}

/// Returns the rate of the TSC.
pub(super) fn measure_tsc() -> u64 {
    measure(counter).unwrap_or(NANOS_PER_SEC)
}

/// Measures the rate of the APIC timer, which must be enabled and masked.
pub(super) fn measure_apic_timer() {
    apic::start_timer(u32::MAX);
    let rate = measure(|| (u32::MAX - apic::timer_count()).into());
    apic::start_timer(0);
    if let Some(rate) = rate {
        APIC_TIMER_HZ.store(rate, Ordering::Relaxed);
    }
}

/// Returns the rate of the APIC timer.
pub(super) fn apic_timer_hz() -> u64 {
    APIC_TIMER_HZ.load(Ordering::Relaxed)
}

/// Returns the rate of a clock that counts up.
fn measure(clock: impl Fn() -> u64) -> Option<u64> {
    (0..ATTEMPTS).find_map(|_| {
        start_pit();
        let first = read_both(&clock);
        let is_over = |_| PIT_START - pit_count() >= PIT_SPAN;
        let has_counted = (0..PATIENCE).any(is_over);
        let last = read_both(&clock);
        let has_ended = port_read(GATE_PORT) & OUTPUT != 0;
        let ticks = last.ticks.checked_sub(first.ticks)?;
        let rate = per_second(ticks, first.pit.checked_sub(last.pit)?)?;
        (has_counted && !has_ended && rate != 0).then_some(rate)
    })
}

const fn per_second(ticks: u64, pit_ticks: u16) -> Option<u64> {
    match pit_ticks {
        0 => None,
        pit_ticks => Some((ticks as u128 * PIT_HZ as u128 / pit_ticks as u128) as u64),
    }
}

const _: () = assert!(matches!(per_second(25_000, 11_932), Some(2_499_962)));
const _: () = assert!(per_second(1, 0).is_none());

/// Reads both clocks as near to each other as can be.
fn read_both(clock: impl Fn() -> u64) -> Reading {
    let read = |_| {
        let before = clock();
        let pit = pit_count();
        let took = clock().saturating_sub(before);
        let ticks = before + took / 2;
        Reading { ticks, pit, took }
    };
    (1..READINGS).map(read).fold(read(0), |best, reading| {
        if reading.took < best.took {
            reading
        } else {
            best
        }
    })
}

fn start_pit() {
    let [low, high] = PIT_START.to_le_bytes();
    let gate = (port_read(GATE_PORT) & !SPEAKER) | GATE;
    port_write(GATE_PORT, gate);
    port_write(PIT_COMMAND, PIT_ONE_SHOT);
    port_write(PIT_CHANNEL_2, low);
    port_write(PIT_CHANNEL_2, high);
}

fn pit_count() -> u16 {
    port_write(PIT_COMMAND, PIT_LATCH);
    u16::from_le_bytes([port_read(PIT_CHANNEL_2), port_read(PIT_CHANNEL_2)])
}

fn port_read(port: u16) -> u8 {
    // SAFETY: reading these ports affects nothing but the PIT's own latch.
    unsafe { Port::new(port).read() }
}

fn port_write(port: u16, value: u8) {
    // SAFETY: channel 2 of the PIT only drives the speaker, which stays off.
    unsafe { Port::new(port).write(value) };
}
