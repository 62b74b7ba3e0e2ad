// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The MP table, for guests that know CPUs without ACPI.
//!
//! The floating pointer lies where it is searched, its table right behind it.
//!
//! Spec: Intel MultiProcessor Specification 1.4, "MP Configuration Table".

use alloc::vec::Vec;

use super::{
    acpi::checksum,
    boot::Chunk,
    layout::{IO_APIC, LOCAL_APIC, MP_TABLE},
    ports::irq,
};

const POINTER_BYTES: usize = 16;
const POINTER_CHECKSUM: usize = 10;
const HEADER_BYTES: usize = 44;
const HEADER_LENGTH: usize = 4;
const HEADER_CHECKSUM: usize = 7;
const HEADER_COUNT: usize = 34;
const SPEC_1_4: u8 = 4;

const PROCESSOR: u8 = 0;
const BUS: u8 = 1;
const IO_APIC_ENTRY: u8 = 2;
const IO_INTERRUPT: u8 = 3;
const LOCAL_INTERRUPT: u8 = 4;

const APIC_VERSION: u8 = 0x14;
const IO_APIC_VERSION: u8 = 0x11;
const ENABLED: u8 = 1;
const BOOT_PROCESSOR: u8 = 2;
/// Family 6 with an FPU and a local APIC.
const SIGNATURE: u32 = 0x600;
const FEATURES: u32 = 0x201;

const ISA: u8 = 0;
const IO_APIC_ID: u8 = 0;
const ALL: u8 = 0xff;
const INT: u8 = 0;
const NMI: u8 = 1;
const EXT_INT: u8 = 3;
/// Polarity and trigger as on the bus.
const AS_THE_BUS: u16 = 0;
const LEVEL_HIGH: u16 = 0b1101;
/// ISA interrupts that exist: not the cascade's.
const CASCADE: u8 = 2;
const ISA_INTERRUPTS: u8 = 16;

/// Writes the table for so many CPUs; their APIC ids are 0, 1, …
pub fn mp_table(cpus: u8) -> Chunk {
    let entries = entries(cpus);
    let mut table = header(entries.len(), entries.iter().map(Vec::len).sum());
    table.extend(entries.into_iter().flatten());
    seal(&mut table, HEADER_CHECKSUM);
    let mut bytes = pointer();
    bytes.extend(table);
    Chunk::new(MP_TABLE.first(), bytes)
}

fn pointer() -> Vec<u8> {
    let address = (MP_TABLE.first() as u32).saturating_add(POINTER_BYTES as u32);
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(address.to_le_bytes());
    bytes.extend([1, SPEC_1_4]);
    bytes.resize(POINTER_BYTES, 0);
    seal(&mut bytes, POINTER_CHECKSUM);
    bytes
}

fn header(entries: usize, entry_bytes: usize) -> Vec<u8> {
    let length = HEADER_BYTES.saturating_add(entry_bytes) as u16;
    let mut bytes = b"PCMP".to_vec();
    bytes.extend(length.to_le_bytes());
    bytes.extend([SPEC_1_4, 0]);
    bytes.extend(*b"AXHIVE  ");
    bytes.extend(*b"PC          ");
    // No table of the maker's.
    bytes.extend([0; 6]);
    bytes.extend((entries as u16).to_le_bytes());
    bytes.extend(LOCAL_APIC.to_le_bytes());
    bytes.resize(HEADER_BYTES, 0);
    debug_assert_eq!(bytes.get(HEADER_LENGTH), length.to_le_bytes().first());
    debug_assert_eq!(
        bytes.get(HEADER_COUNT),
        (entries as u16).to_le_bytes().first()
    );
    bytes
}

fn entries(cpus: u8) -> Vec<Vec<u8>> {
    let isa = b"ISA   ";
    let mut bus = [BUS, ISA].to_vec();
    bus.extend(isa);
    let mut io_apic = [IO_APIC_ENTRY, IO_APIC_ID, IO_APIC_VERSION, ENABLED].to_vec();
    io_apic.extend(IO_APIC.to_le_bytes());
    let isa_interrupts = (0..ISA_INTERRUPTS)
        .filter(|&irq| irq != CASCADE)
        .map(io_interrupt);
    (0..cpus)
        .map(processor)
        .chain([bus, io_apic])
        .chain(isa_interrupts)
        .chain([
            interrupt(LOCAL_INTERRUPT, EXT_INT, AS_THE_BUS, [0, ALL, 0]),
            interrupt(LOCAL_INTERRUPT, NMI, AS_THE_BUS, [0, ALL, 1]),
        ])
        .collect()
}

fn processor(id: u8) -> Vec<u8> {
    let flags = match id {
        0 => ENABLED | BOOT_PROCESSOR,
        _ => ENABLED,
    };
    let mut bytes = [PROCESSOR, id, APIC_VERSION, flags].to_vec();
    bytes.extend(SIGNATURE.to_le_bytes());
    bytes.extend(FEATURES.to_le_bytes());
    bytes.resize(20, 0);
    bytes
}

fn io_interrupt(irq: u8) -> Vec<u8> {
    let pin = match irq {
        irq::TIMER => irq::TIMER_AT_IO_APIC,
        other => other,
    };
    let flags = match irq {
        irq::SCI => LEVEL_HIGH,
        _ => AS_THE_BUS,
    };
    interrupt(IO_INTERRUPT, INT, flags, [irq, IO_APIC_ID, pin])
}

/// An interrupt of the ISA bus: its number there, the APIC, the pin.
fn interrupt(entry: u8, kind: u8, flags: u16, [source, apic, pin]: [u8; 3]) -> Vec<u8> {
    let mut bytes = [entry, kind].to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend([ISA, source, apic, pin]);
    bytes
}

/// Makes the bytes sum to zero.
fn seal(bytes: &mut [u8], at: usize) {
    let sum = checksum(bytes);
    if let Some(byte) = bytes.get_mut(at) {
        *byte = sum;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns each entry behind the header.
    fn walk(bytes: &[u8]) -> Vec<&[u8]> {
        let mut rest = &bytes[POINTER_BYTES + HEADER_BYTES..];
        let mut entries = Vec::new();
        while let [kind, ..] = rest {
            let (entry, behind) = rest.split_at(if *kind == PROCESSOR { 20 } else { 8 });
            entries.push(entry);
            rest = behind;
        }
        entries
    }

    #[test]
    fn the_pointer_leads_to_a_table_whose_sums_are_right() {
        let chunk = mp_table(2);
        let (pointer, table) = chunk.bytes.split_at(POINTER_BYTES);
        assert_eq!((checksum(pointer), checksum(table)), (0, 0));
        let address = u32::from_le_bytes(pointer[4..8].try_into().unwrap());
        assert_eq!(u64::from(address), MP_TABLE.first() + 16);
        let length = u16::from_le_bytes([table[4], table[5]]);
        assert_eq!(usize::from(length), table.len());
        assert_eq!(usize::from(table[34]), walk(&chunk.bytes).len());
    }

    #[test]
    fn the_first_cpu_boots_and_the_timer_comes_to_pin_2() {
        let chunk = mp_table(4);
        let entries = walk(&chunk.bytes);
        let cpus: Vec<_> = entries
            .iter()
            .filter(|entry| entry[0] == PROCESSOR)
            .collect();
        assert_eq!(cpus.len(), 4);
        assert_eq!((cpus[0][1], cpus[0][3]), (0, 3));
        assert_eq!((cpus[3][1], cpus[3][3]), (3, 1));
        let pins: Vec<_> = entries
            .iter()
            .filter(|entry| entry[0] == IO_INTERRUPT)
            .map(|entry| (entry[5], entry[7]))
            .collect();
        assert_eq!(pins.len(), 15);
        assert!(pins.contains(&(0, 2)) && pins.contains(&(4, 4)));
    }
}
