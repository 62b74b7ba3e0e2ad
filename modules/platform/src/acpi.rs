// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Finds the CPUs of a PC in its ACPI tables.
//!
//! Called once on x86_64. Only the MADT is read, so the large ACPI crates,
//! which interpret AML, are not needed. Memory is reached through a closure,
//! so that the host tests can lay tables out in a vector. Every table's
//! checksum is verified; a machine without valid tables has one CPU.
//! Spec: ACPI, "Root System Description Pointer", "MADT".

/// Reads `len` bytes of physical memory, or nothing where there is none.
pub trait ReadPhys: Fn(usize, usize) -> Option<&'static [u8]> {}
impl<F: Fn(usize, usize) -> Option<&'static [u8]>> ReadPhys for F {}

const BIOS_AREA: core::ops::Range<usize> = 0xe_0000..0x10_0000;
const RSDP_LEN: usize = 20;
const HEADER_LEN: usize = 36;
const MADT_ENTRIES: usize = 44;
/// No real table comes near; a length above is damage.
const MAX_TABLE: usize = 1 << 20;
const LOCAL_APIC: u8 = 0;
const LOCAL_X2APIC: u8 = 9;
const ENABLED: u32 = 1;

/// Calls `visit` with the APIC id of each CPU that is enabled.
pub fn for_each_cpu(read: &impl ReadPhys, mut visit: impl FnMut(usize)) {
    let Some(madt) = find_madt(read) else {
        return;
    };
    let mut rest = madt.get(MADT_ENTRIES..).unwrap_or_default();
    while let Some((&[kind, len], _)) = rest.split_first_chunk::<2>() {
        let Some((entry, next)) = rest.split_at_checked(usize::from(len).max(2)) else {
            return;
        };
        if let Some(id) = apic_id(kind, entry) {
            visit(id);
        }
        rest = next;
    }
}

fn apic_id(kind: u8, entry: &[u8]) -> Option<usize> {
    let (id, flags) = match kind {
        LOCAL_APIC => (u32::from(*entry.get(3)?), u32_at(entry, 4)?),
        LOCAL_X2APIC => (u32_at(entry, 4)?, u32_at(entry, 8)?),
        _ => return None,
    };
    (flags & ENABLED != 0).then_some(id as usize)
}

fn find_madt(read: &impl ReadPhys) -> Option<&'static [u8]> {
    let rsdt = table(read, find_rsdt(read)?)?;
    let entries = rsdt.get(HEADER_LEN..)?.chunks_exact(4);
    entries
        .filter_map(|entry| table(read, u32_at(entry, 0)? as usize))
        .find(|table| table.starts_with(b"APIC"))
}

fn find_rsdt(read: &impl ReadPhys) -> Option<usize> {
    BIOS_AREA
        .step_by(16)
        .filter_map(|address| read(address, RSDP_LEN))
        .find(|rsdp| rsdp.starts_with(b"RSD PTR ") && is_intact(rsdp))
        .and_then(|rsdp| u32_at(rsdp, 16))
        .map(|address| address as usize)
}

fn table(read: &impl ReadPhys, address: usize) -> Option<&'static [u8]> {
    let len = u32_at(read(address, HEADER_LEN)?, 4)? as usize;
    let bytes = read(address, len.min(MAX_TABLE))?;
    is_intact(bytes).then_some(bytes)
}

fn is_intact(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(memory: &mut [u8], at: usize, bytes: &[u8], checksum_at: usize) {
        memory[at..at + bytes.len()].copy_from_slice(bytes);
        let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        memory[at + checksum_at] = memory[at + checksum_at].wrapping_sub(sum);
    }

    fn header(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut table = vec![0; HEADER_LEN];
        table[..4].copy_from_slice(signature);
        table[4..8].copy_from_slice(&((HEADER_LEN + body.len()) as u32).to_le_bytes());
        table.extend_from_slice(body);
        table
    }

    fn memory(madt_entries: &[u8]) -> &'static mut [u8] {
        let memory = vec![0u8; 0x10_0000].leak();
        let mut rsdp = b"RSD PTR ".to_vec();
        rsdp.resize(RSDP_LEN, 0);
        rsdp[16..20].copy_from_slice(&0x8000u32.to_le_bytes());
        put(memory, 0xe_0020, &rsdp, 8);
        let pointers = [0x9000u32.to_le_bytes(), 0xa000u32.to_le_bytes()].concat();
        put(memory, 0x8000, &header(b"RSDT", &pointers), 9);
        put(memory, 0x9000, &header(b"FACP", &[]), 9);
        let body = [&[0u8; 8][..], madt_entries].concat();
        put(memory, 0xa000, &header(b"APIC", &body), 9);
        memory
    }

    fn cpus(memory: &'static [u8]) -> Vec<usize> {
        let mut found = Vec::new();
        for_each_cpu(&|at, len| memory.get(at..at.checked_add(len)?), |id| {
            found.push(id)
        });
        found
    }

    #[test]
    fn enabled_apics_of_both_kinds_are_found() {
        let entries = [
            &[0, 8, 0, 0, 1, 0, 0, 0][..],
            &[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[0, 8, 1, 1, 0, 0, 0, 0],
            &[9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(cpus(memory(&entries.concat())), [0, 256]);
    }

    #[test]
    fn a_damaged_table_is_not_used() {
        let memory = memory(&[0, 8, 0, 0, 1, 0, 0, 0]);
        memory[0xa000 + 50] ^= 1;
        assert_eq!(cpus(memory), []);
    }

    #[test]
    fn entries_that_lie_about_their_length_end_the_search() {
        assert_eq!(cpus(memory(&[0, 200, 0, 0, 1, 0, 0, 0])), []);
        assert_eq!(cpus(memory(&[0, 0, 0, 0, 0])), []);
    }
}
