// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The MP configuration table: which CPUs there are, where ACPI does not say.
//!
//! Called by `arch::x86_64::machine` when there is no MADT.
//!
//! Spec: Intel MultiProcessor Specification 1.4, "MP Configuration Table".

use super::physical::{Physical, sums_to_zero, u32_at};
use crate::firmware::acpi::{BIOS_AREA, EBDA_SEGMENT};
use crate::machine::HardwareId;

const HEADER_BYTES: usize = 44;
const PROCESSOR: u8 = 0;
const PROCESSOR_BYTES: usize = 20;
const OTHER_BYTES: usize = 8;
const LAST_BASE_KIB: u64 = 0x9_fc00;

/// Returns the enabled CPUs of the MP table, if the machine has one.
pub fn cpus<P: Physical>(memory: &P) -> Option<impl Iterator<Item = HardwareId>> {
    let table = table(memory)?;
    let count = usize::from(u16::from_le_bytes(*table.get(34..)?.first_chunk()?));
    let entries = Entries(table.get(HEADER_BYTES..)?);
    Some(entries.take(count).filter_map(enabled_cpu))
}

fn table<P: Physical>(memory: &P) -> Option<&[u8]> {
    let ebda = memory.bytes(EBDA_SEGMENT, 2)?.first_chunk::<2>();
    let ebda = ebda.map_or(0, |word| u64::from(u16::from_le_bytes(*word)) << 4);
    let starts = [ebda, LAST_BASE_KIB].into_iter();
    let places = starts.flat_map(|start| (start..start.saturating_add(1024)).step_by(16));
    let mut places = places.chain(BIOS_AREA.step_by(16));
    let address = places.find_map(|place| pointer(memory, place))?;
    configuration(memory, address)
}

fn pointer<P: Physical>(memory: &P, address: u64) -> Option<u64> {
    let bytes = memory.bytes(address, 16)?;
    let is_good = bytes.starts_with(b"_MP_") && sums_to_zero(bytes);
    is_good.then(|| u32_at(bytes, 4).map(u64::from)).flatten()
}

fn configuration<P: Physical>(memory: &P, address: u64) -> Option<&[u8]> {
    let header = memory.bytes(address, HEADER_BYTES)?;
    let length = usize::from(u16::from_le_bytes(*header.get(4..)?.first_chunk()?));
    let table = memory.bytes(address, length)?;
    (table.starts_with(b"PCMP") && sums_to_zero(table)).then_some(table)
}

struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = match *self.0.first()? {
            PROCESSOR => PROCESSOR_BYTES,
            _ => OTHER_BYTES,
        };
        let (entry, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(entry)
    }
}

fn enabled_cpu(entry: &[u8]) -> Option<HardwareId> {
    let is_enabled = *entry.first()? == PROCESSOR && *entry.get(3)? & 1 != 0;
    is_enabled.then_some(HardwareId(u64::from(*entry.get(1)?)))
}

#[cfg(test)]
mod tests {
    use super::cpus;
    use crate::firmware::physical::fake::{Memory, seal};
    use crate::machine::HardwareId;

    fn configuration() -> Vec<u8> {
        let mut table = vec![0; 44];
        table[..4].copy_from_slice(b"PCMP");
        table[34] = 4;
        for (id, flags) in [(0, 3), (1, 0), (2, 1)] {
            let mut entry = [0; 20];
            entry[1] = id;
            entry[3] = flags;
            table.extend(entry);
        }
        table.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        table[4] = table.len() as u8;
        seal(&mut table, 7);
        table
    }

    fn machine() -> Memory {
        let mut anchor = vec![0; 16];
        anchor[..4].copy_from_slice(b"_MP_");
        anchor[4..8].copy_from_slice(&0x1000_u32.to_le_bytes());
        seal(&mut anchor, 10);
        Memory(vec![
            (0x400, vec![0; 0x100]),
            (0xf_0000, anchor),
            (0x1000, configuration()),
        ])
    }

    #[test]
    fn enabled_cpus_are_listed() {
        let found: Vec<HardwareId> = cpus(&machine()).unwrap().collect();
        assert_eq!(found, [HardwareId(0), HardwareId(2)]);
    }

    #[test]
    fn a_damaged_table_is_not_believed() {
        let mut memory = machine();
        memory.0[2].1[45] ^= 1;
        assert!(cpus(&memory).is_none());
    }

    #[test]
    fn a_machine_without_a_table_has_none() {
        assert!(cpus(&Memory(vec![(0x400, vec![0; 0x100])])).is_none());
    }
}
