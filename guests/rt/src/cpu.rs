// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What each CPU has: a stack, counters of its interrupts, and a stage.
//!
//! Interrupt handlers count here and the steps look here. A record is written
//! only by its own CPU; the boot CPU reads the others' records. CPU numbers are
//! indices into `Machine::cpus`.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use spin::Once;

use crate::arch;
use crate::machine::{HardwareId, MAX_CPUS, Machine};

/// Bytes of stack of each CPU; the entry code of each architecture knows it.
pub const STACK_BYTES: usize = 16 * 1024;

/// How far a CPU has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Stage {
    /// Not started, or not yet in Rust.
    Off,
    /// It has said so.
    Up,
    /// It has taken a timer interrupt.
    Ticked,
    /// It has received an IPI.
    Signalled,
    /// It has nothing more to do and stops.
    Parked,
}

/// One CPU's counters.
pub struct Record {
    stage: AtomicU8,
    timers: AtomicU32,
    ipis: AtomicU32,
}

impl Record {
    const fn new() -> Self {
        Self {
            stage: AtomicU8::new(Stage::Off as u8),
            timers: AtomicU32::new(0),
            ipis: AtomicU32::new(0),
        }
    }

    /// Returns how many timer interrupts this CPU has taken.
    pub fn timers(&self) -> u32 {
        self.timers.load(Ordering::Acquire)
    }

    /// Returns how many IPIs this CPU has taken.
    pub fn ipis(&self) -> u32 {
        self.ipis.load(Ordering::Acquire)
    }

    /// Counts a timer interrupt.
    pub fn count_timer(&self) {
        self.timers.fetch_add(1, Ordering::Release);
    }

    /// Counts an IPI.
    pub fn count_ipi(&self) {
        self.ipis.fetch_add(1, Ordering::Release);
    }

    /// Notes that this CPU has come to `stage`.
    pub fn reach(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// Tells whether this CPU has come to `stage` or further.
    pub fn has_reached(&self, stage: Stage) -> bool {
        self.stage.load(Ordering::Acquire) >= stage as u8
    }
}

static RECORDS: [Record; MAX_CPUS] = [const { Record::new() }; MAX_CPUS];
static SPARE: Record = Record::new();
static MACHINE: Once<Machine> = Once::new();

/// Keeps the machine's description for the rest of the run.
pub fn adopt(machine: Machine) -> &'static Machine {
    MACHINE.call_once(|| machine)
}

/// Returns the hardware's number of the CPU with this index.
pub fn hardware_id(index: usize) -> HardwareId {
    let id = MACHINE.get().and_then(|machine| machine.cpus.get(index));
    id.copied().unwrap_or(HardwareId(index as u64))
}

/// Returns the record of the CPU with this index.
pub fn record(index: usize) -> &'static Record {
    RECORDS.get(index).unwrap_or(&SPARE)
}

/// Returns the record of the CPU that asks.
pub fn current() -> &'static Record {
    record(arch::entry::cpu_index())
}

/// Memory that entry code uses as stacks, one slice of `STACK_BYTES` per CPU.
#[repr(C, align(4096))]
pub struct Stacks(UnsafeCell<[[u8; STACK_BYTES]; MAX_CPUS]>);

// SAFETY: Rust code never looks inside; each CPU's entry code takes only the
// slice of its own index.
unsafe impl Sync for Stacks {}

/// The stacks of all CPUs.
pub static STACKS: Stacks = Stacks(UnsafeCell::new([[0; STACK_BYTES]; MAX_CPUS]));
