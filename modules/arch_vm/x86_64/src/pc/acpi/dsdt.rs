// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The DSDT: what a guest's AML interpreter reads.
//!
//! S5, and the devices that cannot be found otherwise: COM1, the clock, the
//! HPET. There is no PCI host bridge, no embedded controller, no method.
//!
//! Spec: ACPI, "ACPI Machine Language Specification", "\_Sx (System States)".

use alloc::{vec, vec::Vec};

use acpi_tables::{
    Aml,
    aml::{Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope},
};

use super::{super::ports, registers::SLEEP_TYPE_OFF};
use crate::pc::{layout, ports::irq};

const HPET_BYTES: u32 = 0x400;

/// Returns the table's definition block.
pub(super) fn definition_block(has_hpet: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let off = SLEEP_TYPE_OFF;
    Name::new("_S5_".into(), &Package::new(vec![&off, &off, &0u8, &0u8])).to_aml_bytes(&mut bytes);
    let com1 = IO::new(ports::COM1, ports::COM1, 0, ports::COM1_PORTS as u8);
    let com1_irq = edge(irq::COM1);
    device(&mut bytes, "COM1", "PNP0501", &[&com1, &com1_irq]);
    let rtc = IO::new(ports::CMOS, ports::CMOS, 0, ports::CMOS_PORTS as u8);
    let rtc_irq = edge(irq::RTC);
    device(&mut bytes, "RTC_", "PNP0B00", &[&rtc, &rtc_irq]);
    if has_hpet {
        let hpet = Memory32Fixed::new(true, layout::HPET, HPET_BYTES);
        device(&mut bytes, "HPET", "PNP0103", &[&hpet]);
    }
    bytes
}

fn edge(irq: u8) -> Interrupt {
    Interrupt::new(true, true, false, false, irq.into())
}

/// Writes a device of the root bus.
fn device(bytes: &mut Vec<u8>, name: &str, id: &str, resources: &[&dyn Aml]) {
    let id = Name::new("_HID".into(), &EISAName::new(id));
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(resources.to_vec()));
    let device = Device::new(name.into(), vec![&id, &resources]);
    Scope::new("_SB_".into(), vec![&device]).to_aml_bytes(bytes);
}
