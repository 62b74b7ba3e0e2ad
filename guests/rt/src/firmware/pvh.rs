// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! PVH start information: memory map, command line and ACPI's root.
//!
//! Called by `arch::x86_64::machine` with the address found in EBX.
//!
//! Spec: Xen public headers, "hvm_start_info" (x86/HVM direct boot ABI).

use super::physical::Physical;
use crate::command_line::{CommandLine, MAX_BYTES};
use crate::machine::{Machine, Region};

/// The first word of the start information.
pub const MAGIC: u32 = 0x336e_c578;

const USABLE: u32 = 1;
const ENTRY_BYTES: u64 = 24;
const MOST_ENTRIES: u64 = 256;

/// Adds what the information at `address` says to `machine`; returns the RSDP.
pub fn read<P: Physical>(memory: &P, address: u64, machine: &mut Machine) -> Option<u64> {
    let version = memory.u32(address + 4)?;
    let line = memory.u64(address + 24)?;
    let text = memory.text(line, MAX_BYTES).unwrap_or("");
    machine.command_line = CommandLine::new(text);
    if version >= 1 {
        let map = memory.u64(address + 40)?;
        let entries = u64::from(memory.u32(address + 48)?).min(MOST_ENTRIES);
        (0..entries).try_for_each(|i| read_entry(memory, map + i * ENTRY_BYTES, machine))?;
    }
    memory.u64(address + 32)
}

fn read_entry<P: Physical>(memory: &P, entry: u64, machine: &mut Machine) -> Option<()> {
    if memory.u32(entry + 16)? == USABLE {
        machine.add_memory(Region {
            start: memory.u64(entry)?,
            size_bytes: memory.u64(entry + 8)?,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{MAGIC, read};
    use crate::firmware::physical::fake::Memory;
    use crate::machine::{HardwareId, Machine};

    fn information(version: u32) -> Memory {
        let mut start = MAGIC.to_le_bytes().to_vec();
        start.extend(version.to_le_bytes());
        start.extend([0; 16]);
        for pointer in [0x2000_u64, 0xf_5000, 0x3000] {
            start.extend(pointer.to_le_bytes());
        }
        start.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let mut map = 0x10_0000_u64.to_le_bytes().to_vec();
        map.extend(0x400_0000_u64.to_le_bytes());
        map.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        let mut line = b"reboot\0".to_vec();
        line.resize(1024, 0);
        Memory(vec![(0x1000, start), (0x2000, line), (0x3000, map)])
    }

    #[test]
    fn map_words_and_acpi_root_are_read() {
        let mut machine = Machine::new(HardwareId(0));
        assert_eq!(read(&information(1), 0x1000, &mut machine), Some(0xf_5000));
        assert_eq!(machine.memory_mib(), 64);
        assert!(machine.command_line.has("reboot"));
    }

    #[test]
    fn version_zero_has_no_map() {
        let mut machine = Machine::new(HardwareId(0));
        read(&information(0), 0x1000, &mut machine).unwrap();
        assert!(machine.memory.is_empty());
    }
}
