// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine as multiboot information describes it.
//!
//! Spec: Multiboot Specification version 0.6.96, "Boot information format". The
//! information is a table of 32-bit fields; what it points to is reached
//! through `peek`, which returns nothing for memory that cannot be read.

use alloc::{string::String, vec::Vec};

use super::{Firmware, Span};

/// Returns `size` bytes of physical memory from an address.
pub type Peek<'a> = &'a dyn Fn(usize, usize) -> Option<&'static [u8]>;

const HAS_CMDLINE: u32 = 1 << 2;
const HAS_MODULES: u32 = 1 << 3;
const HAS_MEMORY_MAP: u32 = 1 << 6;

/// The byte offsets of the fields that are read.
mod field {
    pub const FLAGS: usize = 0;
    pub const CMDLINE: usize = 16;
    pub const MODULE_COUNT: usize = 20;
    pub const MODULES: usize = 24;
    pub const MAP_BYTES: usize = 44;
    pub const MAP: usize = 48;
    pub const END: usize = 52;
}

const CMDLINE_BYTES_MAX: usize = 4096;
const MAP_BYTES_MAX: usize = 64 << 10;
const ENTRY_RAM: u32 = 1;
/// Memory below this belongs to the BIOS and to the start of other CPUs.
const LOW_MEMORY_END: u64 = 1 << 20;

/// Reads multiboot information at physical address `at`.
pub fn read(at: usize, peek: Peek<'_>) -> Firmware {
    let mut firmware = Firmware::default();
    let Some(info) = peek(at, field::END) else {
        return firmware;
    };
    let flags = word(info, field::FLAGS);
    firmware.taken.push(Span::of(0, LOW_MEMORY_END));
    firmware.taken.push(Span::of(at as u64, field::END as u64));
    if flags & HAS_MEMORY_MAP != 0 {
        firmware.ram = read_map(info, peek);
    }
    if flags & HAS_MODULES != 0 && word(info, field::MODULE_COUNT) > 0 {
        firmware.bundle = read_module(word(info, field::MODULES) as usize, peek);
    }
    if flags & HAS_CMDLINE != 0 {
        firmware.cmdline = read_text(word(info, field::CMDLINE) as usize, peek);
    }
    firmware
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    let end = offset.saturating_add(4);
    let field = bytes.get(offset..end).and_then(|b| b.try_into().ok());
    field.map_or(0, u32::from_le_bytes)
}

fn long(bytes: &[u8], offset: usize) -> u64 {
    let high = word(bytes, offset.saturating_add(4));
    (u64::from(high) << 32) | u64::from(word(bytes, offset))
}

/// Reads the memory map: entries of a length that each states for itself.
fn read_map(info: &[u8], peek: Peek<'_>) -> Vec<Span> {
    let size = (word(info, field::MAP_BYTES) as usize).min(MAP_BYTES_MAX);
    let mut rest = peek(word(info, field::MAP) as usize, size).unwrap_or(&[]);
    let mut ram = Vec::new();
    while rest.len() >= 24 {
        let stated = word(rest, 0) as usize;
        if word(rest, 20) == ENTRY_RAM {
            ram.push(Span::of(long(rest, 4), long(rest, 12)));
        }
        rest = rest.get(stated.saturating_add(4)..).unwrap_or(&[]);
    }
    ram
}

fn read_module(at: usize, peek: Peek<'_>) -> Option<Span> {
    let module = peek(at, 8)?;
    Some(Span {
        start: word(module, 0) as usize,
        end: word(module, 4) as usize,
    })
}

/// Reads a text that ends with a zero byte, up to a bound.
fn read_text(at: usize, peek: Peek<'_>) -> String {
    let mut text = Vec::new();
    while text.len() < CMDLINE_BYTES_MAX {
        match peek(at.saturating_add(text.len()), 1) {
            Some([byte]) if *byte != 0 => text.push(*byte),
            _ => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Span, read};

    fn leak(bytes: Vec<u8>) -> &'static [u8] {
        Box::leak(bytes.into_boxed_slice())
    }

    /// Memory from address 0x1000 on.
    fn machine(bytes: &'static [u8]) -> impl Fn(usize, usize) -> Option<&'static [u8]> {
        move |at, size| bytes.get(at.checked_sub(0x1000)?..)?.get(..size)
    }

    fn put(bytes: &mut [u8], offset: usize, value: u32) {
        bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn sample() -> Vec<u8> {
        let mut bytes = vec![0; 0x400];
        put(&mut bytes, 0, super::HAS_CMDLINE | super::HAS_MODULES | super::HAS_MEMORY_MAP);
        put(&mut bytes, 16, 0x1100);
        put(&mut bytes, 20, 1);
        put(&mut bytes, 24, 0x1200);
        put(&mut bytes, 44, 48);
        put(&mut bytes, 48, 0x1300);
        bytes[0x100..0x10a].copy_from_slice(b"log=debug\0");
        put(&mut bytes, 0x200, 0x40_0000);
        put(&mut bytes, 0x204, 0x50_0000);
        for (at, base, kind) in [(0x300, 0, 1), (0x318, 0x10_0000, 2)] {
            put(&mut bytes, at, 20);
            put(&mut bytes, at + 4, base);
            put(&mut bytes, at + 12, 0x1_0000);
            put(&mut bytes, at + 20, kind);
        }
        bytes
    }

    #[test]
    fn the_map_the_module_and_the_command_line_are_read() {
        let memory = machine(leak(sample()));
        let firmware = read(0x1000, &memory);
        assert_eq!(firmware.ram, [Span { start: 0, end: 0x1_0000 }]);
        let bundle = Span { start: 0x40_0000, end: 0x50_0000 };
        assert_eq!(firmware.bundle, Some(bundle));
        assert_eq!(firmware.option("log"), Some("debug"));
    }

    #[test]
    fn unreadable_information_is_no_machine() {
        let firmware = read(0, &|_, _| None);
        assert!(firmware.ram.is_empty() && firmware.bundle.is_none());
    }

    proptest! {
        #[test]
        fn no_information_panics_or_runs_on(bytes in prop::collection::vec(any::<u8>(), 64..512)) {
            let bytes = leak(bytes);
            let firmware = read(0x1000, &machine(bytes));
            prop_assert!(firmware.cmdline.len() <= 3 * super::CMDLINE_BYTES_MAX);
        }

        #[test]
        fn a_damaged_sample_does_not_panic(at in 0_usize..0x400, value in any::<u8>()) {
            let mut bytes = sample();
            bytes[at] = value;
            read(0x1000, &machine(leak(bytes)));
        }
    }
}
