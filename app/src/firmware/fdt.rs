// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine as its device tree describes it.
//!
//! Spec: Devicetree Specification, memory, reserved-memory and chosen nodes.

use fdt_parser::{Fdt, Property};

use super::{Firmware, Span};

/// Reads a device tree that lies at physical address `at`.
///
/// What is missing is taken as empty: a machine without memory nodes has no RAM
/// for guests, and every VM says so when it is created.
pub fn read(fdt: &Fdt<'_>, at: usize) -> Firmware {
    let ram = fdt
        .memory()
        .flat_map(|memory| memory.regions())
        .map(|region| Span::of(region.address as u64, region.size as u64))
        .collect();
    let mut firmware = Firmware {
        ram,
        ..Firmware::default()
    };
    firmware.taken.push(Span::of(at as u64, fdt.total_size() as u64));
    let blocks = fdt.memory_reservation_block();
    firmware
        .taken
        .extend(blocks.map(|region| Span::of(region.address as u64, region.size as u64)));
    for node in fdt.reserved_memory() {
        let registers = node.reg().into_iter().flatten();
        firmware.taken.extend(
            registers.map(|reg| Span::of(reg.address, reg.size.unwrap_or(0) as u64)),
        );
    }
    read_chosen(fdt, &mut firmware);
    firmware
}

fn read_chosen(fdt: &Fdt<'_>, firmware: &mut Firmware) {
    let Some(chosen) = fdt.find_nodes("/chosen").next() else {
        return;
    };
    let address = |name| chosen.find_property(name).and_then(|p| number(&p));
    if let (Some(start), Some(end)) = (address("linux,initrd-start"), address("linux,initrd-end")) {
        firmware.bundle = Some(Span::of(start, end.saturating_sub(start)));
    }
    if let Some(arguments) = chosen.find_property("bootargs") {
        let bytes = arguments.raw_value();
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or(bytes);
        firmware.cmdline = alloc::string::String::from_utf8_lossy(text).into_owned();
    }
}

/// Reads a property of one or two cells.
fn number(property: &Property<'_>) -> Option<u64> {
    let bytes = property.raw_value();
    match bytes.len() {
        4 => bytes.try_into().ok().map(u32::from_be_bytes).map(u64::from),
        8 => bytes.try_into().ok().map(u64::from_be_bytes),
        _ => None,
    }
}
