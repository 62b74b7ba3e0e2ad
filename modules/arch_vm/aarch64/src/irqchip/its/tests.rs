// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The service as drivers use it, and as nobody should.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    vec,
    vec::Vec,
};

use axdevice::{GuestMemory, OutsideRam};
use axvm::{AccessWidth, GuestPhysAddr};
use proptest::prelude::*;

use super::{Its, QUEUE, QUEUE_READ, QUEUE_WRITE, Surroundings, TABLES};
use crate::irqchip::{Filled, Frame, State, Version, fill, fold, lpi};

const RAM: usize = 0x4000_0000;
const RAM_BYTES: usize = 0x10_0000;
const COMMANDS: usize = RAM;
const DEVICES: usize = RAM + 0x1_0000;
const COLLECTIONS: usize = RAM + 0x2_0000;
const PROPERTIES: usize = RAM + 0x4_0000;
const PENDING: usize = RAM + 0x5_0000;
const EVENTS: usize = RAM + 0x6_0000;
const QUEUE_BYTES: u64 = 0x1000;
const VALID: u64 = 1 << 63;
const PENDING_STATE: u64 = 1 << 62;
const ACTIVE_STATE: u64 = 1 << 63;
const DWORD: AccessWidth = AccessWidth::Dword;
const QWORD: AccessWidth = AccessWidth::Qword;

/// RAM of a guest.
struct Memory(Mutex<Vec<u8>>);

impl GuestMemory for Memory {
    fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> Result<(), OutsideRam> {
        let range = range_of(from, to.len())?;
        to.copy_from_slice(&self.0.lock().unwrap()[range]);
        Ok(())
    }

    fn write(&self, to: GuestPhysAddr, from: &[u8]) -> Result<(), OutsideRam> {
        let range = range_of(to, from.len())?;
        self.0.lock().unwrap()[range].copy_from_slice(from);
        Ok(())
    }
}

fn range_of(start: GuestPhysAddr, size_bytes: usize) -> Result<std::ops::Range<usize>, OutsideRam> {
    let outside = OutsideRam { start, size_bytes };
    let first = start.as_usize().checked_sub(RAM).ok_or(outside)?;
    let end = first.checked_add(size_bytes).ok_or(outside)?;
    (end <= RAM_BYTES).then_some(first..end).ok_or(outside)
}

/// A machine with a service, set up as Linux does.
struct Bench {
    state: State,
    its: Its,
    memory: Memory,
    written: u64,
}

impl Bench {
    fn bare(vcpus: usize) -> Self {
        Self {
            state: State::new(Version::V3, vcpus),
            its: Its::default(),
            memory: Memory(Mutex::new(vec![0; RAM_BYTES])),
            written: 0,
        }
    }

    fn new(vcpus: usize) -> Self {
        let mut bench = Self::bare(vcpus);
        bench.memory.0.lock().unwrap()[PROPERTIES - RAM..][..lpi::COUNT].fill(0xa1);
        bench.state.write(0, (Frame::Distributor, 0), (DWORD, 0x12));
        for cpu in 0..vcpus {
            let own = Frame::Redistributor(cpu);
            let pending = (PENDING + cpu * 0x1_0000) as u64 | 1 << 62;
            bench
                .state
                .write(cpu, (own, 0x70), (QWORD, PROPERTIES as u64 | 13));
            bench.state.write(cpu, (own, 0x78), (QWORD, pending));
            bench.state.write(cpu, (own, 0), (DWORD, 1));
        }
        bench.state.switch_lpis(&bench.memory);
        bench.set(TABLES, VALID | DEVICES as u64 | 0xf);
        bench.set(TABLES + 8, VALID | COLLECTIONS as u64);
        bench.set(QUEUE, VALID | COMMANDS as u64);
        bench.set(0, 1);
        bench
    }

    fn set(&mut self, offset: u64, value: u64) {
        let mut around = Surroundings {
            state: &mut self.state,
            memory: &self.memory,
        };
        self.its.write(&mut around, offset, (QWORD, value));
    }

    fn get(&mut self, offset: u64) -> u64 {
        let mut around = Surroundings {
            state: &mut self.state,
            memory: &self.memory,
        };
        self.its.read(&mut around, offset, QWORD)
    }

    /// Queues a command and waits until it is done.
    fn command(&mut self, words: [u64; 4]) {
        for (i, word) in words.iter().enumerate() {
            let at = COMMANDS + self.written as usize + 8 * i;
            let at = GuestPhysAddr::from_usize(at);
            self.memory.write(at, &word.to_le_bytes()).unwrap();
        }
        self.written = (self.written + 32) % QUEUE_BYTES;
        self.set(QUEUE_WRITE, self.written);
        assert_eq!(self.get(QUEUE_READ), self.written);
    }

    fn map_device(&mut self, device: u64, bits: u64) {
        let events = (EVENTS + device as usize * 0x1000) as u64;
        self.command([device << 32 | 8, bits - 1, VALID | events, 0]);
    }

    fn map_collection(&mut self, collection: u64, vcpu: u64) {
        self.command([9, 0, VALID | vcpu << 16 | collection, 0]);
    }

    fn map_event(&mut self, device: u64, event: u64, intid: u64, collection: u64) {
        self.command([device << 32 | 0xa, intid << 32 | event, collection, 0]);
    }

    fn of_event(&mut self, kind: u64, device: u64, event: u64) {
        self.command([device << 32 | kind, event, 0, 0]);
    }

    fn set_property(&mut self, intid: usize, property: u8) {
        let at = GuestPhysAddr::from_usize(PROPERTIES + intid - 8192);
        self.memory.write(at, &[property]).unwrap();
    }

    fn pending(&self, cpu: usize) -> BTreeSet<u32> {
        self.state
            .candidates(cpu)
            .map(|found| found.intid)
            .collect()
    }
}

#[test]
fn a_message_becomes_the_interrupt_of_its_collection_s_cpu() {
    let mut bench = Bench::new(2);
    bench.map_device(7, 4);
    bench.map_collection(3, 1);
    bench.map_event(7, 5, 8200, 3);
    bench.state.attention = 0;
    bench.of_event(3, 7, 5);
    assert_eq!(bench.state.attention, 0b10);
    assert_eq!(
        (bench.pending(0), bench.pending(1)),
        (BTreeSet::new(), [8200].into())
    );
    let mut lists = [0; 4];
    assert_eq!(fill(&mut bench.state, 1, &mut lists), Filled::All);
    assert_eq!(lists[0] & 0xffff_ffff, 8200);
    assert_eq!(lists[0] >> 48 & 0xff, 0xa0, "the priority of the table");
    assert_eq!(lists[0] & (PENDING_STATE | ACTIVE_STATE), PENDING_STATE);
    assert!(bench.pending(1).is_empty(), "it is listed now");
    // A second message while the first is being served comes after it.
    bench.of_event(3, 7, 5);
    lists[0] = lists[0] & !PENDING_STATE | ACTIVE_STATE;
    fold(&mut bench.state, 1, &mut lists);
    fill(&mut bench.state, 1, &mut lists);
    assert_eq!(
        lists[0] & (PENDING_STATE | ACTIVE_STATE),
        PENDING_STATE | ACTIVE_STATE
    );
    lists[0] &= !(PENDING_STATE | ACTIVE_STATE);
    fold(&mut bench.state, 1, &mut lists);
    assert!(bench.pending(1).is_empty());
}

#[test]
fn a_device_s_own_write_is_a_message() {
    let mut bench = Bench::new(1);
    bench.map_device(0, 4);
    bench.map_collection(0, 0);
    // MAPI: the event's number is the interrupt's, which needs 14 bits.
    bench.map_device(0, 14);
    bench.command([0xb, 8195, 0, 0]);
    let mut around = Surroundings {
        state: &mut bench.state,
        memory: &bench.memory,
    };
    bench.its.write(&mut around, 0x1_0040, (DWORD, 8195));
    assert_eq!(bench.pending(0), [8195].into());
}

#[test]
fn pending_interrupts_move_and_go() {
    let mut bench = Bench::new(3);
    bench.map_device(1, 4);
    bench.map_collection(0, 0);
    bench.map_collection(1, 1);
    bench.map_event(1, 0, 8192, 0);
    bench.map_event(1, 1, 8193, 0);
    bench.of_event(3, 1, 0);
    bench.of_event(3, 1, 1);
    // MOVI.
    bench.command([1 << 32 | 1, 0, 1, 0]);
    assert_eq!(
        (bench.pending(0), bench.pending(1)),
        ([8193].into(), [8192].into())
    );
    // MOVALL.
    bench.command([0xe, 0, 1 << 16, 2 << 16]);
    assert_eq!(
        (bench.pending(1), bench.pending(2)),
        (BTreeSet::new(), [8192].into())
    );
    // CLEAR, then DISCARD: the event is unknown afterwards.
    bench.of_event(4, 1, 1);
    assert!(bench.pending(0).is_empty());
    bench.of_event(3, 1, 1);
    bench.of_event(0xf, 1, 1);
    bench.of_event(3, 1, 1);
    assert!(bench.pending(0).is_empty());
}

#[test]
fn the_table_of_properties_counts_when_it_is_read_again() {
    let mut bench = Bench::new(1);
    bench.map_device(1, 4);
    bench.map_collection(0, 0);
    bench.map_event(1, 0, 8192, 0);
    bench.map_event(1, 1, 8193, 0);
    bench.set_property(8192, 0xa0);
    bench.of_event(3, 1, 0);
    bench.of_event(3, 1, 1);
    assert_eq!(bench.pending(0).len(), 2);
    // INV.
    bench.of_event(0xc, 1, 0);
    assert_eq!(bench.pending(0), [8193].into());
    bench.set_property(8192, 0x11);
    bench.set_property(8193, 0x80);
    // INVALL.
    bench.command([0xd, 0, 0, 0]);
    assert_eq!(bench.pending(0), [8192].into());
    assert_eq!(bench.state.candidates(0).next().unwrap().priority, 0x10);
}

#[test]
fn pending_interrupts_are_written_back_and_found_again() {
    let mut bench = Bench::new(1);
    bench.map_device(1, 4);
    bench.map_collection(0, 0);
    bench.map_event(1, 0, 8200, 0);
    bench.of_event(3, 1, 0);
    let own = Frame::Redistributor(0);
    bench.state.write(0, (own, 0), (DWORD, 0));
    bench.state.switch_lpis(&bench.memory);
    assert!(bench.pending(0).is_empty());
    let bytes = bench.memory.0.lock().unwrap()[PENDING - RAM + 1024..][..2].to_vec();
    assert_eq!(bytes, [0, 1]);
    // Without the promise that the table is zero.
    bench.state.write(0, (own, 0x78), (QWORD, PENDING as u64));
    bench.state.write(0, (own, 0), (DWORD, 1));
    bench.state.switch_lpis(&bench.memory);
    assert_eq!(bench.pending(0), [8200].into());
}

#[test]
fn a_driver_that_looks_finds_the_tables_it_can_give() {
    let mut bench = Bench::bare(1);
    bench.set(TABLES, VALID | 1 << 62 | DEVICES as u64 | 7 << 56);
    assert_eq!(
        bench.get(TABLES),
        VALID | DEVICES as u64 | 1 << 56 | 7 << 48,
        "flat"
    );
    assert_eq!(bench.get(TABLES + 8) >> 56 & 7, 4);
    assert_eq!(bench.get(TABLES + 16), 0);
    assert_eq!(bench.get(0xffe8) & 0xf0, 0x30);
    let kind = bench.get(8);
    assert_eq!(
        (kind >> 4 & 0xf, kind >> 8 & 0x1f, kind >> 13 & 0x1f),
        (7, 15, 15)
    );
    let enabled = Bench::new(1).get(0);
    assert_eq!(enabled & 0x8000_0001, 0x8000_0001);
}

#[test]
fn a_long_queue_is_done_a_part_at_a_time() {
    let mut bench = Bench::new(1);
    bench.map_collection(0, 0);
    let entries = QUEUE_BYTES / 32;
    for entry in 0..entries {
        let at = GuestPhysAddr::from_usize(COMMANDS + 32 * entry as usize);
        bench.memory.write(at, &0xd_u64.to_le_bytes()).unwrap();
    }
    let start = bench.get(QUEUE_READ);
    bench.set(QUEUE_WRITE, (start + QUEUE_BYTES - 32) % QUEUE_BYTES);
    let mut accesses = 1;
    while bench.get(QUEUE_READ) != bench.its.written {
        accesses += 1;
    }
    assert!(accesses > 20, "{accesses}");
}

#[test]
fn impossible_commands_and_tables_do_nothing() {
    let mut bench = Bench::new(2);
    bench.map_device(1, 4);
    bench.map_collection(0, 0);
    // No such vCPU, event, device, interrupt; a device table that ends before.
    bench.map_collection(1, 2);
    bench.map_event(1, 0, 8192, 1);
    bench.map_event(1, 16, 8193, 0);
    bench.map_event(2, 0, 8194, 0);
    bench.map_event(1, 1, 100, 0);
    bench.map_event(1, 2, 1 << 14, 0);
    bench.map_device(0xffff_ffff, 4);
    for event in [0, 1, 2, 16] {
        bench.of_event(3, 1, event);
    }
    bench.of_event(3, 2, 0);
    // Events in no memory.
    bench.command([5 << 32 | 8, 31, VALID | 0xf_ffff_ffff_ff00, 0]);
    bench.map_event(5, u64::from(u32::MAX), 8195, 0);
    bench.of_event(3, 5, u64::from(u32::MAX));
    // A move to nobody, and a queue that wraps through everything.
    bench.command([0xe, 0, 0, 99 << 16]);
    assert!(bench.pending(0).is_empty() && bench.pending(1).is_empty());
    // A queue outside RAM.
    bench.set(0, 0);
    bench.set(QUEUE, VALID | 0xf_ffff_f000 | 0xff);
    bench.set(0, 1);
    bench.set(QUEUE_WRITE, 64);
    assert_eq!(bench.get(QUEUE_READ), 64);
    // One that is written past its end stands still.
    bench.set(0, 0);
    bench.set(QUEUE, VALID | COMMANDS as u64);
    bench.set(0, 1);
    bench.set(QUEUE_WRITE, 0x1_0000);
    assert_eq!(bench.get(QUEUE_READ), 0);
}

/// What drivers may ask for, with few numbers so that they meet.
#[derive(Clone, Debug)]
enum Ask {
    Device(u64, bool),
    Collection(u64, Option<u64>),
    Event(u64, u64, u32, u64),
    Discard(u64, u64),
    Message(u64, u64),
    Clear(u64, u64),
    Move(u64, u64, u64),
    MoveAll(usize, usize),
}

fn ask() -> impl Strategy<Value = Ask> {
    let (device, event, collection) = (0_u64..3, 0_u64..4, 0_u64..3);
    prop_oneof![
        (device.clone(), any::<bool>())
            .prop_map(|(device, is_valid)| Ask::Device(device, is_valid)),
        (collection.clone(), prop::option::of(0_u64..3))
            .prop_map(|(collection, vcpu)| Ask::Collection(collection, vcpu)),
        (
            device.clone(),
            event.clone(),
            8192_u32..8196,
            collection.clone()
        )
            .prop_map(|(device, event, intid, to)| Ask::Event(device, event, intid, to)),
        (device.clone(), event.clone()).prop_map(|(device, event)| Ask::Discard(device, event)),
        (device.clone(), event.clone()).prop_map(|(device, event)| Ask::Message(device, event)),
        (device.clone(), event.clone()).prop_map(|(device, event)| Ask::Clear(device, event)),
        (device, event, collection).prop_map(|(device, event, to)| Ask::Move(device, event, to)),
        (0_usize..3, 0_usize..3).prop_map(|(from, to)| Ask::MoveAll(from, to)),
    ]
}

/// The same in maps; a device that is mapped again keeps its table's entries.
#[derive(Default)]
struct Model {
    devices: BTreeSet<u64>,
    collections: BTreeMap<u64, u64>,
    events: BTreeMap<(u64, u64), (u32, u64)>,
    pending: [BTreeSet<u32>; 3],
}

impl Model {
    fn find(&self, device: u64, event: u64) -> Option<(u32, usize)> {
        let &(intid, collection) = self.events.get(&(device, event))?;
        let vcpu = *self.collections.get(&collection)?;
        self.devices
            .contains(&device)
            .then_some((intid, vcpu as usize))
    }

    fn apply(&mut self, ask: &Ask) {
        match *ask {
            Ask::Device(device, true) => drop(self.devices.insert(device)),
            Ask::Device(device, false) => drop(self.devices.remove(&device)),
            Ask::Collection(collection, Some(vcpu)) => {
                self.collections.insert(collection, vcpu);
            }
            Ask::Collection(collection, None) => drop(self.collections.remove(&collection)),
            Ask::Event(device, event, intid, to) => {
                if self.devices.contains(&device) {
                    self.events.insert((device, event), (intid, to));
                }
            }
            Ask::Discard(device, event) => {
                if let Some((intid, vcpu)) = self.find(device, event) {
                    self.pending[vcpu].remove(&intid);
                }
                if self.devices.contains(&device) {
                    self.events.remove(&(device, event));
                }
            }
            Ask::Message(device, event) => {
                if let Some((intid, vcpu)) = self.find(device, event) {
                    self.pending[vcpu].insert(intid);
                }
            }
            Ask::Clear(device, event) => {
                if let Some((intid, vcpu)) = self.find(device, event) {
                    self.pending[vcpu].remove(&intid);
                }
            }
            Ask::Move(device, event, to) => self.move_event(device, event, to),
            Ask::MoveAll(from, to) => {
                let moved = std::mem::take(&mut self.pending[from]);
                self.pending[to].extend(moved);
            }
        }
    }

    fn move_event(&mut self, device: u64, event: u64, to: u64) {
        let (Some((intid, from)), Some(&vcpu)) =
            (self.find(device, event), self.collections.get(&to))
        else {
            return;
        };
        self.events.insert((device, event), (intid, to));
        if self.pending[from].remove(&intid) {
            self.pending[vcpu as usize].insert(intid);
        }
    }
}

impl Bench {
    fn apply(&mut self, ask: &Ask) {
        match *ask {
            Ask::Device(device, true) => self.map_device(device, 4),
            Ask::Device(device, false) => self.command([device << 32 | 8, 0, 0, 0]),
            Ask::Collection(collection, Some(vcpu)) => self.map_collection(collection, vcpu),
            Ask::Collection(collection, None) => self.command([9, 0, collection, 0]),
            Ask::Event(device, event, intid, to) => {
                self.map_event(device, event, intid.into(), to);
            }
            Ask::Discard(device, event) => self.of_event(0xf, device, event),
            Ask::Message(device, event) => self.of_event(3, device, event),
            Ask::Clear(device, event) => self.of_event(4, device, event),
            Ask::Move(device, event, to) => self.command([device << 32 | 1, event, to, 0]),
            Ask::MoveAll(from, to) => {
                self.command([0xe, 0, (from as u64) << 16, (to as u64) << 16]);
            }
        }
    }
}

proptest! {
    // Each case has a machine with a megabyte of RAM.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_service_does_what_maps_do(asks in prop::collection::vec(ask(), 1..80)) {
        let (mut bench, mut model) = (Bench::new(3), Model::default());
        for ask in &asks {
            bench.apply(ask);
            model.apply(ask);
            for vcpu in 0..3 {
                prop_assert_eq!(&bench.pending(vcpu), &model.pending[vcpu]);
            }
        }
    }

    #[test]
    fn no_tables_or_commands_harm_anybody(
        bytes in prop::collection::vec(any::<u8>(), 64..512),
        writes in prop::collection::vec((0_u64..0x160, any::<u64>(), 0_usize..4), 1..60),
    ) {
        const WIDTHS: [AccessWidth; 4] =
            [AccessWidth::Byte, AccessWidth::Word, AccessWidth::Dword, AccessWidth::Qword];
        let mut bench = Bench::new(2);
        // Everything in memory is what the guest pleases.
        for (byte, value) in bench.memory.0.lock().unwrap().iter_mut().zip(bytes.iter().cycle()) {
            *byte = *value;
        }
        for (offset, value, width) in writes {
            let mut around = Surroundings { state: &mut bench.state, memory: &bench.memory };
            // Half of the addresses lie in RAM.
            let value = if value & 1 == 0 { value } else { value & !0xffff_fff0_0000 | RAM as u64 };
            bench.its.write(&mut around, offset, (WIDTHS[width], value));
            bench.its.write(&mut around, 0x1_0040, (DWORD, value));
            bench.its.read(&mut around, offset, WIDTHS[width]);
            bench.its.read(&mut around, QUEUE_READ, QWORD);
        }
        for cpu in 0..2 {
            let mut lists = [0; 4];
            fill(&mut bench.state, cpu, &mut lists);
            fold(&mut bench.state, cpu, &mut lists);
        }
    }
}
