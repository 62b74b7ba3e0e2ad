// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The few ACPI tables that the guest needs: MADT for CPUs, FADT for S5.
//!
//! Called by `arch::x86_64::{machine, power}`. Finds the RSDP where a BIOS puts
//! it, follows the XSDT or RSDT, and believes only tables whose checksum holds.
//!
//! Spec: ACPI, "Finding the RSDP on IA-PC Systems", "Multiple APIC Description
//! Table", "Fixed ACPI Description Table", "\_Sx (System States)".

use super::physical::{Physical, sums_to_zero, u32_at};
use crate::machine::HardwareId;

const HEADER_BYTES: usize = 36;
const LARGEST_TABLE: usize = 1 << 20;
const MOST_TABLES: usize = 64;
/// Where a BIOS keeps its tables and their anchors.
pub const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;
/// The word that holds the segment of the extended BIOS data area.
pub const EBDA_SEGMENT: u64 = 0x40e;

/// The ACPI tables of a machine.
pub struct Tables<'a, P: Physical> {
    memory: &'a P,
    root: u64,
    entry_bytes: usize,
}

/// What to write where to power off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoftOff {
    /// The PM1a control port.
    pub port: u16,
    /// The value with the sleep type of S5 and the enable bit.
    pub value: u16,
}

impl<'a, P: Physical> Tables<'a, P> {
    /// Looks for the tables, first where `hint` says.
    pub fn find(memory: &'a P, hint: Option<u64>) -> Option<Self> {
        let ebda = memory.bytes(EBDA_SEGMENT, 2)?.first_chunk::<2>();
        let ebda = ebda.map_or(0, |word| u64::from(u16::from_le_bytes(*word)) << 4);
        let places = hint.into_iter();
        let places = places.chain((ebda..ebda.saturating_add(1024)).step_by(16));
        let mut places = places.chain(BIOS_AREA.step_by(16));
        places.find_map(|address| Self::at(memory, address))
    }

    fn at(memory: &'a P, rsdp: u64) -> Option<Self> {
        let bytes = memory.bytes(rsdp, 20)?;
        if !bytes.starts_with(b"RSD PTR ") || !sums_to_zero(bytes) {
            return None;
        }
        let revision = *bytes.get(15)?;
        let xsdt = if revision >= 2 {
            memory.u64(rsdp + 24)?
        } else {
            0
        };
        let (root, entry_bytes) = match xsdt {
            0 => (u64::from(u32_at(bytes, 16)?), 4),
            address => (address, 8),
        };
        Some(Self {
            memory,
            root,
            entry_bytes,
        })
    }

    /// Returns the enabled CPUs that the MADT lists.
    pub fn cpus(&self) -> Option<impl Iterator<Item = HardwareId> + use<'a, P>> {
        let madt = self.table(b"APIC")?;
        let entries = Entries(madt.get(HEADER_BYTES + 8..)?);
        Some(entries.filter_map(enabled_cpu))
    }

    /// Returns how this machine is powered off.
    pub fn soft_off(&self) -> Option<SoftOff> {
        let fadt = self.table(b"FACP")?;
        let port = u16::try_from(u32_at(fadt, 64)?).ok()?;
        let dsdt = table_at(self.memory, u64::from(u32_at(fadt, 40)?));
        let sleep_type = dsdt.and_then(s5_sleep_type).unwrap_or(0);
        let value = u16::from(sleep_type & 7) << 10 | 1 << 13;
        (port != 0).then_some(SoftOff { port, value })
    }

    fn table(&self, signature: &[u8; 4]) -> Option<&'a [u8]> {
        let root = table_at(self.memory, self.root)?;
        let entries = root.get(HEADER_BYTES..)?.chunks_exact(self.entry_bytes);
        let addresses = entries.take(MOST_TABLES).map(little_endian);
        let mut tables = addresses.filter_map(|address| table_at(self.memory, address));
        tables.find(|table| table.starts_with(signature))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    let bytes = bytes.iter().rev();
    bytes.fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn table_at<P: Physical>(memory: &P, address: u64) -> Option<&[u8]> {
    let length = memory.u32(address.checked_add(4)?)? as usize;
    if !(HEADER_BYTES..=LARGEST_TABLE).contains(&length) {
        return None;
    }
    let table = memory.bytes(address, length)?;
    sums_to_zero(table).then_some(table)
}

// The MADT's entries: a type, a length that counts both, and data.
struct Entries<'a>(&'a [u8]);

impl<'a> Iterator for Entries<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.0.get(1)?);
        let (entry, rest) = self.0.split_at_checked(length.max(2))?;
        self.0 = rest;
        Some(entry)
    }
}

fn enabled_cpu(entry: &[u8]) -> Option<HardwareId> {
    const LOCAL_APIC: u8 = 0;
    const LOCAL_X2APIC: u8 = 9;
    let (id, flags) = match *entry.first()? {
        LOCAL_APIC => (u32::from(*entry.get(3)?), u32_at(entry, 4)?),
        LOCAL_X2APIC => (u32_at(entry, 4)?, u32_at(entry, 8)?),
        _ => return None,
    };
    (flags & 1 != 0).then_some(HardwareId(u64::from(id)))
}

// \_S5 is a package of constants, the first of which is the sleep type. AML is
// searched for its name rather than run; a false match is all but impossible.
fn s5_sleep_type(dsdt: &[u8]) -> Option<u8> {
    const PACKAGE: u8 = 0x12;
    const BYTE_PREFIX: u8 = 0x0a;
    let at = dsdt.windows(5).position(|bytes| bytes == *b"_S5_\x12")?;
    let package = dsdt.get(at + 4..)?;
    debug_assert_eq!(package.first(), Some(&PACKAGE));
    let length_bytes = 1 + usize::from(*package.get(1)? >> 6);
    let first = package.get(1 + length_bytes + 1..)?;
    match *first.first()? {
        BYTE_PREFIX => first.get(1).copied(),
        constant => Some(constant),
    }
}

#[cfg(test)]
mod tests {
    use super::{SoftOff, Tables, s5_sleep_type};
    use crate::firmware::physical::fake::{Memory, seal};
    use crate::machine::HardwareId;

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 36];
        bytes[..4].copy_from_slice(signature);
        bytes.extend_from_slice(body);
        let length = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        seal(&mut bytes, 9);
        bytes
    }

    fn rsdp(root: u32) -> Vec<u8> {
        let mut bytes = vec![0; 0x2_0000];
        bytes[0x40..0x48].copy_from_slice(b"RSD PTR ");
        bytes[0x50..0x54].copy_from_slice(&root.to_le_bytes());
        seal(&mut bytes[0x40..0x54], 8);
        bytes
    }

    fn madt() -> Vec<u8> {
        let mut body = vec![0; 8];
        body.extend([0, 8, 0, 0, 1, 0, 0, 0]);
        body.extend([1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0]);
        body.extend([0, 8, 1, 1, 0, 0, 0, 0]);
        body.extend([0, 8, 2, 2, 1, 0, 0, 0]);
        body.extend([9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0]);
        table(b"APIC", &body)
    }

    fn fadt() -> Vec<u8> {
        let mut body = vec![0; 80];
        body[4..8].copy_from_slice(&0x4000_u32.to_le_bytes());
        body[28..32].copy_from_slice(&0x604_u32.to_le_bytes());
        table(b"FACP", &body)
    }

    fn machine() -> Memory {
        let mut root = Vec::new();
        root.extend(0x2000_u32.to_le_bytes());
        root.extend(0x3000_u32.to_le_bytes());
        Memory(vec![
            (0x400, vec![0; 0x100]),
            (0xe_0000, rsdp(0x1000)),
            (0x1000, table(b"RSDT", &root)),
            (0x2000, madt()),
            (0x3000, fadt()),
            (
                0x4000,
                table(b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\0\0\0"),
            ),
        ])
    }

    #[test]
    fn enabled_cpus_are_found_through_the_root_table() {
        let memory = machine();
        let tables = Tables::find(&memory, None).unwrap();
        let cpus: Vec<HardwareId> = tables.cpus().unwrap().collect();
        assert_eq!(cpus, [0, 2, 0x100].map(HardwareId));
    }

    #[test]
    fn soft_off_takes_port_and_sleep_type() {
        let memory = machine();
        let tables = Tables::find(&memory, None).unwrap();
        let expected = SoftOff {
            port: 0x604,
            value: 5 << 10 | 1 << 13,
        };
        assert_eq!(tables.soft_off(), Some(expected));
    }

    #[test]
    fn a_sleep_type_may_be_a_constant_without_prefix() {
        assert_eq!(s5_sleep_type(b"_S5_\x12\x06\x04\0\0\0\0"), Some(0));
        assert_eq!(s5_sleep_type(b"_S5_\x12"), None);
    }

    #[test]
    fn a_table_with_a_wrong_checksum_is_not_believed() {
        let mut memory = machine();
        memory.0[3].1[40] ^= 1;
        assert!(Tables::find(&memory, None).unwrap().cpus().is_none());
    }

    #[test]
    fn a_machine_without_tables_has_none() {
        let memory = Memory(vec![(0x400, vec![0; 0x100])]);
        assert!(Tables::find(&memory, None).is_none());
    }
}
