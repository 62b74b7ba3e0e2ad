// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Multiboot 1 boot information: memory map and command line.
//!
//! Called by `arch::x86_64::machine` with the address found in EBX.
//!
//! Spec: Multiboot Specification 0.6.96, "Boot information format".

use super::physical::Physical;
use crate::command_line::{CommandLine, MAX_BYTES};
use crate::machine::{Machine, Region};

/// What EAX holds when a multiboot loader enters the image.
pub const MAGIC: u32 = 0x2bad_b002;

const HAS_MEMORY_SIZES: u32 = 1 << 0;
const HAS_COMMAND_LINE: u32 = 1 << 2;
const HAS_MEMORY_MAP: u32 = 1 << 6;
const USABLE: u32 = 1;

/// Adds what the information at `address` says to `machine`.
pub fn read<P: Physical>(memory: &P, address: u64, machine: &mut Machine) -> Option<()> {
    let flags = memory.u32(address)?;
    if flags & HAS_COMMAND_LINE != 0 {
        let line = u64::from(memory.u32(address + 16)?);
        let text = memory.text(line, MAX_BYTES).unwrap_or("");
        machine.command_line = CommandLine::new(text);
    }
    if flags & HAS_MEMORY_MAP != 0 {
        return read_map(memory, address, machine);
    }
    if flags & HAS_MEMORY_SIZES != 0 {
        let size_bytes = u64::from(memory.u32(address + 8)?) << 10;
        machine.add_memory(Region {
            start: 0x10_0000,
            size_bytes,
        });
    }
    Some(())
}

fn read_map<P: Physical>(memory: &P, address: u64, machine: &mut Machine) -> Option<()> {
    let mut entry = u64::from(memory.u32(address + 48)?);
    let end = entry.saturating_add(u64::from(memory.u32(address + 44)?));
    while entry < end {
        let size_bytes = u64::from(memory.u32(entry)?);
        if memory.u32(entry + 20)? == USABLE {
            machine.add_memory(Region {
                start: memory.u64(entry + 4)?,
                size_bytes: memory.u64(entry + 12)?,
            });
        }
        entry += size_bytes + 4;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::firmware::physical::fake::Memory;
    use crate::machine::{HardwareId, Machine};

    fn entry(start: u64, size_bytes: u64, kind: u32) -> Vec<u8> {
        let mut bytes = 20_u32.to_le_bytes().to_vec();
        bytes.extend(start.to_le_bytes());
        bytes.extend(size_bytes.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes
    }

    fn information(flags: u32) -> Memory {
        let mut words = [0_u32; 16];
        words[0] = flags;
        words[2] = 0x1_fc00;
        words[4] = 0x2000;
        words[11] = 72;
        words[12] = 0x3000;
        let mut map = entry(0, 0x9_fc00, 1);
        map.extend(entry(0xf_0000, 0x1_0000, 2));
        map.extend(entry(0x10_0000, 0x7f0_0000, 1));
        let mut line = b"hello fault\0".to_vec();
        line.resize(1024, 0xff);
        Memory(vec![
            (
                0x1000,
                words.iter().flat_map(|word| word.to_le_bytes()).collect(),
            ),
            (0x2000, line),
            (0x3000, map),
        ])
    }

    #[test]
    fn map_and_words_are_read() {
        let mut machine = Machine::new(HardwareId(0));
        read(&information(0x45), 0x1000, &mut machine).unwrap();
        assert_eq!(machine.memory.len(), 2);
        assert_eq!(machine.memory_mib(), 128);
        assert!(machine.command_line.has("fault"));
    }

    #[test]
    fn without_a_map_the_size_above_one_mebibyte_is_taken() {
        let mut machine = Machine::new(HardwareId(0));
        read(&information(1), 0x1000, &mut machine).unwrap();
        assert_eq!(machine.memory_mib(), 127);
        assert!(!machine.command_line.has("fault"));
    }

    #[test]
    fn information_that_cannot_be_reached_is_none() {
        let mut machine = Machine::new(HardwareId(0));
        assert_eq!(read(&information(1), 0x9000, &mut machine), None);
    }
}
