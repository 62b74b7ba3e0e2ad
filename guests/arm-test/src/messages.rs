// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Messages: the interrupt translation service and its LPIs.
//!
//! Everything is made by commands; no device sends a message. Interrupts are
//! masked, and acknowledged by reading the CPU interface.
//!
//! Spec: Arm GIC Architecture Specification v3, "The Interrupt Translation
//! Service", "LPIs".

use core::cell::UnsafeCell;

use rt::arch::gic;
use rt::say;
use rt::wait;

use rt::check::{Checked, hold, same};

const ITS: usize = 0x0808_0000;
const REDISTRIBUTOR: usize = 0x080a_0000;
const CONTROL: usize = 0x000;
const QUEUE: usize = 0x080;
const QUEUE_WRITE: usize = 0x088;
const QUEUE_READ: usize = 0x090;
const TABLES: usize = 0x100;
const PROPERTIES: usize = 0x070;
const PENDING: usize = 0x078;

const MOVI: u64 = 0x01;
const INT: u64 = 0x03;
const CLEAR: u64 = 0x04;
const SYNC: u64 = 0x05;
const MAPD: u64 = 0x08;
const MAPC: u64 = 0x09;
const MAPTI: u64 = 0x0a;
const INV: u64 = 0x0c;
const INVALL: u64 = 0x0d;
const DISCARD: u64 = 0x0f;

const VALID: u64 = 1 << 63;
/// Cached, and shared with the other CPUs.
const NORMAL: u64 = 7 << 59 | 1 << 10;
const NORMAL_TABLE: u64 = 7 << 7 | 1 << 10;
const PAGE_64K: u64 = 2 << 8;
const FIRST: u32 = 8192;
const ENABLED: u8 = 0xa1;
const DISABLED: u8 = 0xa0;
const DEVICE: u64 = 5;
const COLLECTION: u64 = 2;
const OTHER_COLLECTION: u64 = 3;

/// Memory that the interrupt controller reads and writes.
#[repr(C, align(65536))]
struct Table<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the boot CPU uses them, by volatile accesses.
unsafe impl<const BYTES: usize> Sync for Table<BYTES> {}

impl<const BYTES: usize> Table<BYTES> {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; BYTES]))
    }

    fn address(&self) -> u64 {
        self.0.get().addr() as u64
    }

    fn write(&self, offset: usize, value: u8) {
        let byte: *mut u8 = self.0.get().cast();
        // SAFETY: the callers' offsets lie inside.
        unsafe { byte.wrapping_add(offset).write_volatile(value) };
    }
}

static DEVICES: Table<0x1_0000> = Table::new();
static COLLECTIONS: Table<0x1_0000> = Table::new();
static EVENTS: Table<0x1000> = Table::new();
static COMMANDS: Table<0x1000> = Table::new();
static PROPERTY_TABLE: Table<0x1_0000> = Table::new();
static PENDING_TABLE: Table<0x1_0000> = Table::new();

fn read(address: usize) -> u64 {
    // SAFETY: the service's or the redistributor's registers.
    unsafe { (address as *const u64).read_volatile() }
}

fn write(address: usize, value: u64) {
    // SAFETY: as for `read`; what the service writes is in the tables above.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// Runs the checks where there is a service.
pub fn run() -> Checked {
    if !gic::is_v3()? {
        return Ok(());
    }
    const PHYSICAL_LPIS: u64 = 1;
    hold("LPIs", read(REDISTRIBUTOR + 8) & PHYSICAL_LPIS != 0)?;
    gic::init_cpu(0)?;
    set_up()?;
    let mut queue = Queue::default();
    queue.send([DEVICE << 32 | MAPD, 3, VALID | EVENTS.address(), 0])?;
    for collection in [COLLECTION, OTHER_COLLECTION] {
        queue.send([MAPC, 0, VALID | collection, 0])?;
        queue.send([INVALL, 0, collection, 0])?;
    }
    for event in 0..4 {
        let intid = u64::from(FIRST) + event;
        queue.send([DEVICE << 32 | MAPTI, intid << 32 | event, COLLECTION, 0])?;
    }
    queue.send([SYNC, 0, 0, 0])?;
    say!("translation service set up");
    messages(&mut queue)?;
    changes(&mut queue)?;
    say!("messages passed");
    Ok(())
}

fn set_up() -> Checked {
    (0..64).for_each(|lpi| PROPERTY_TABLE.write(lpi, ENABLED));
    const ID_BITS: u64 = 13;
    const ZEROED: u64 = 1 << 62;
    write(
        REDISTRIBUTOR + PROPERTIES,
        PROPERTY_TABLE.address() | NORMAL_TABLE | ID_BITS,
    );
    write(
        REDISTRIBUTOR + PENDING,
        PENDING_TABLE.address() | NORMAL_TABLE | ZEROED,
    );
    same(
        "the pending table",
        read(REDISTRIBUTOR + PENDING) >> 16 << 16 & !ZEROED,
        PENDING_TABLE.address(),
    )?;
    // SAFETY: a register of 32 bits, whose tables are there.
    unsafe { (REDISTRIBUTOR as *mut u32).write_volatile(1) };
    for table in 0..8 {
        let at = ITS + TABLES + 8 * table;
        let address = match read(at) >> 56 & 7 {
            1 => DEVICES.address(),
            4 => COLLECTIONS.address(),
            _ => continue,
        };
        write(at, VALID | NORMAL | PAGE_64K | address);
        same("a table's place", read(at) & 0xffff_ffff_0000, address)?;
    }
    write(ITS + QUEUE, VALID | NORMAL | COMMANDS.address());
    write(ITS + QUEUE_WRITE, 0);
    // SAFETY: a register of 32 bits; everything is set up.
    unsafe { ((ITS + CONTROL) as *mut u32).write_volatile(1) };
    Ok(())
}

/// The commands, one after the other.
#[derive(Default)]
struct Queue {
    written: usize,
}

impl Queue {
    /// Has a command carried out.
    fn send(&mut self, words: [u64; 4]) -> Checked {
        let at = COMMANDS.address() as usize + self.written;
        (0..)
            .zip(words)
            .for_each(|(i, word)| write(at + 8 * i, word));
        self.written = (self.written + 32) % 0x1000;
        write(ITS + QUEUE_WRITE, self.written as u64);
        let written = self.written as u64;
        wait::spin_until("a command", || read(ITS + QUEUE_READ) == written)
    }

    fn of_event(&mut self, kind: u64, event: u64) -> Checked {
        self.send([DEVICE << 32 | kind, event, 0, 0])
    }
}

/// Takes what is pending and ends it.
fn take() -> u32 {
    let acknowledged = gic::acknowledge();
    let intid = gic::id_of(acknowledged);
    if intid >= FIRST {
        gic::end(acknowledged);
    }
    intid
}

const NOTHING: u32 = 1023;

fn messages(queue: &mut Queue) -> Checked {
    same("nothing", take(), NOTHING)?;
    for event in 0..4 {
        queue.of_event(INT, event)?;
    }
    let mut taken = [take(), take(), take(), take()];
    taken.sort_unstable();
    hold(
        "four messages",
        taken == [FIRST, FIRST + 1, FIRST + 2, FIRST + 3],
    )?;
    same("no fifth message", take(), NOTHING)?;
    // More at once than there are list registers, twice, and a repetition.
    for event in [3, 3, 1] {
        queue.of_event(INT, event)?;
    }
    let mut taken = [take(), take()];
    taken.sort_unstable();
    hold("two messages", taken == [FIRST + 1, FIRST + 3])?;
    same("no third message", take(), NOTHING)
}

fn changes(queue: &mut Queue) -> Checked {
    PROPERTY_TABLE.write(0, DISABLED);
    queue.of_event(INV, 0)?;
    queue.of_event(INT, 0)?;
    same("a disabled message", take(), NOTHING)?;
    PROPERTY_TABLE.write(0, ENABLED);
    queue.of_event(INV, 0)?;
    same("a message that is enabled again", take(), FIRST)?;
    queue.send([DEVICE << 32 | MOVI, 1, OTHER_COLLECTION, 0])?;
    queue.of_event(INT, 1)?;
    same("a message of another collection", take(), FIRST + 1)?;
    queue.of_event(DISCARD, 2)?;
    queue.of_event(INT, 2)?;
    // An event and a device that nobody mapped.
    queue.of_event(INT, 7)?;
    queue.send([9 << 32 | INT, 0, 0, 0])?;
    same("a message that goes nowhere", take(), NOTHING)?;
    PROPERTY_TABLE.write(3, DISABLED);
    queue.of_event(INV, 3)?;
    queue.of_event(INT, 3)?;
    queue.of_event(CLEAR, 3)?;
    PROPERTY_TABLE.write(3, ENABLED);
    queue.send([INVALL, 0, COLLECTION, 0])?;
    same("a message that was taken back", take(), NOTHING)
}
