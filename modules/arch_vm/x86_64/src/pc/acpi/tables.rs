// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The ACPI tables of a machine, as one piece of firmware memory.
//!
//! A function of what the machine is made from; called at boot. The RSDP comes
//! first, so that a search of the BIOS's area finds it, and tells of an XSDT and
//! an RSDT with the same tables. Port numbers and interrupts are q35's.
//!
//! Spec: ACPI, "ACPI System Description Tables"; IA-PC HPET, "HPET Description
//! Table".

use alloc::{vec, vec::Vec};

use acpi_tables::{
    Aml,
    facs::FACS,
    fadt::{FADTBuilder, Flags, PmProfile},
    gas::{AccessSize, AddressSpace, GAS},
    sdt::Sdt,
};

use super::{dsdt, pm};
use crate::{
    bytes::put,
    pc::{
        boot::Chunk,
        layout::{self, ACPI_TABLES},
        ports::{self, irq},
        rtc::CENTURY,
    },
};

const OEM: [u8; 6] = *b"AXHIVE";
const OEM_TABLE: [u8; 8] = *b"AXHIVEPC";
const OEM_REVISION: u32 = 1;
const HEADER_BYTES: u32 = 36;

const RSDP_BYTES: usize = 36;
/// The part of the RSDP that ACPI 1.0 sums up.
const RSDP_BYTES_OLD: usize = 20;
const RSDP_CHECKSUM: usize = 8;
const RSDP_CHECKSUM_EXTENDED: usize = 32;
const RSDP_REVISION: u8 = 2;
const TABLE_ALIGN: usize = 16;
const FACS_ALIGN: usize = 64;

/// What the machine has that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// How many CPUs; their APIC ids are 0, 1, …
    pub cpus: u8,
    /// The low half of the HPET's capabilities, if there is one.
    pub hpet: Option<u32>,
}

/// The tables, and where they start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// What goes into RAM.
    pub chunk: Chunk,
    /// The RSDP's address.
    pub rsdp: u64,
}

/// Writes all tables.
pub fn tables(machine: &Machine) -> Tables {
    let mut area = Area::new();
    let facs = area.append(FACS_ALIGN, &aml(&FACS::new()));
    let dsdt = dsdt_table(machine);
    let dsdt = area.append(TABLE_ALIGN, dsdt.as_slice());
    let mut described = vec![
        area.append(TABLE_ALIGN, &fadt(facs, dsdt)),
        area.append(TABLE_ALIGN, madt(machine).as_slice()),
    ];
    if let Some(capabilities) = machine.hpet {
        described.push(area.append(TABLE_ALIGN, hpet(capabilities).as_slice()));
    }
    let mut rsdt = table(*b"RSDT", 1);
    let mut xsdt = table(*b"XSDT", 1);
    for &address in &described {
        rsdt.append(address);
        xsdt.append(u64::from(address));
    }
    let rsdt = area.append(TABLE_ALIGN, rsdt.as_slice());
    let xsdt = area.append(TABLE_ALIGN, xsdt.as_slice());
    area.finish(&rsdp(rsdt, xsdt))
}

fn table(signature: [u8; 4], revision: u8) -> Sdt {
    Sdt::new(
        signature,
        HEADER_BYTES,
        revision,
        OEM,
        OEM_TABLE,
        OEM_REVISION,
    )
}

fn aml(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn dsdt_table(machine: &Machine) -> Sdt {
    let mut dsdt = table(*b"DSDT", 2);
    dsdt.append_slice(&dsdt::definition_block(machine.hpet.is_some()));
    dsdt
}

/// No keyboard controller that is worth a driver, and no VGA.
const BOOT_ARCH_NO_VGA: u16 = 1 << 2;
/// Says that a processor has neither C2 nor C3.
const NO_C2: u16 = 0xfff;
const NO_C3: u16 = 0xfff;
const RESET_VALUE: u8 = 0x0f;

fn fadt(facs: u32, dsdt: u32) -> Vec<u8> {
    let port = |offset: u64| u32::from(ports::POWER_MANAGEMENT).saturating_add(offset as u32);
    let reset = GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        ports::RESET_CONTROL.into(),
    );
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .dsdt_32(dsdt)
        .firmware_ctrl_32(facs)
        .preferred_pm_profile(PmProfile::Unspecified)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.sci_int = u16::from(irq::SCI).into();
    fadt.pm1a_evt_blk = port(pm::STATUS).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1a_cnt_blk = port(pm::CONTROL).into();
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_blk = port(pm::TIMER).into();
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCH_NO_VGA.into();
    fadt.reset_reg = reset;
    fadt.reset_value = RESET_VALUE;
    aml(&fadt.finalize())
}

/// The machine has an 8259 pair too.
const PCAT_COMPATIBLE: u32 = 1;
const ENABLED: u32 = 1;
/// Flags of an interrupt that is no ISA interrupt: level, active high.
const LEVEL_HIGH: u16 = 0b1101;
const AS_THE_BUS: u16 = 0;
const ALL_CPUS: u8 = 0xff;

fn madt(machine: &Machine) -> Sdt {
    let mut madt = table(*b"APIC", 3);
    madt.append(layout::LOCAL_APIC);
    madt.append(PCAT_COMPATIBLE);
    for cpu in 0..machine.cpus {
        madt.append_slice(&[0, 8, cpu, cpu]);
        madt.append(ENABLED);
    }
    madt.append_slice(&[1, 12, 0, 0]);
    madt.append(layout::IO_APIC);
    madt.append(0u32);
    source(&mut madt, irq::TIMER, irq::TIMER_AT_IO_APIC, AS_THE_BUS);
    source(&mut madt, irq::SCI, irq::SCI, LEVEL_HIGH);
    // NMIs come to LINT1 of each CPU.
    madt.append_slice(&[4, 6, ALL_CPUS, 0, 0, 1]);
    madt
}

/// Says that an ISA interrupt comes to another pin, or in another way.
fn source(madt: &mut Sdt, irq: u8, pin: u8, flags: u16) {
    madt.append_slice(&[2, 10, 0, irq]);
    madt.append(u32::from(pin));
    madt.append(flags);
}

fn hpet(capabilities: u32) -> Sdt {
    let mut hpet = table(*b"HPET", 1);
    hpet.append(capabilities);
    let registers = GAS::new(
        AddressSpace::SystemMemory,
        0,
        0,
        AccessSize::Undefined,
        layout::HPET.into(),
    );
    hpet.append_slice(&aml(&registers));
    // Number, least ticks of a period, no page protection.
    hpet.append_slice(&[0; 4]);
    hpet
}

fn rsdp(rsdt: u32, xsdt: u32) -> [u8; RSDP_BYTES] {
    let mut bytes = [0; RSDP_BYTES];
    put(&mut bytes, 0, b"RSD PTR ");
    put(&mut bytes, 9, &OEM);
    put(&mut bytes, 15, &[RSDP_REVISION]);
    put(&mut bytes, 16, &rsdt.to_le_bytes());
    put(&mut bytes, 20, &(RSDP_BYTES as u32).to_le_bytes());
    put(&mut bytes, 24, &u64::from(xsdt).to_le_bytes());
    let old = bytes.get(..RSDP_BYTES_OLD).map(checksum);
    put(&mut bytes, RSDP_CHECKSUM, old.as_slice());
    let all = checksum(&bytes);
    put(&mut bytes, RSDP_CHECKSUM_EXTENDED, &[all]);
    bytes
}

/// Returns what makes the bytes sum to zero.
pub(in crate::pc) fn checksum(bytes: &[u8]) -> u8 {
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    sum.wrapping_neg()
}

/// Firmware memory that is filled from its start.
struct Area(Vec<u8>);

impl Area {
    /// Starts with room for the RSDP.
    fn new() -> Self {
        Self(vec![0; RSDP_BYTES])
    }

    /// Adds a table and returns its address.
    fn append(&mut self, align: usize, table: &[u8]) -> u32 {
        let at = self.0.len().next_multiple_of(align);
        self.0.resize(at, 0);
        self.0.extend_from_slice(table);
        (ACPI_TABLES.first() as u32).saturating_add(at as u32)
    }

    fn finish(mut self, rsdp: &[u8]) -> Tables {
        put(&mut self.0, 0, rsdp);
        let rsdp = ACPI_TABLES.first();
        Tables {
            chunk: Chunk::new(rsdp, self.0),
            rsdp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine {
        cpus: 3,
        hpet: Some(0x8086_a201),
    };

    fn u32_at(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
    }

    /// Firmware memory as an operating system walks it.
    struct Walk(Vec<u8>);

    impl Walk {
        fn new(machine: &Machine) -> Self {
            Self(tables(machine).chunk.bytes)
        }

        fn at(&self, address: u32) -> &[u8] {
            let table = &self.0[address as usize - ACPI_TABLES.first() as usize..];
            &table[..u32_at(table, 4) as usize]
        }

        fn find(&self, signature: &[u8]) -> Option<&[u8]> {
            let rsdt = self.at(u32_at(&self.0, 16));
            let addresses = rsdt[36..].chunks(4).map(|entry| u32_at(entry, 0));
            let mut tables = addresses.map(|address| self.at(address));
            tables.find(|table| table.starts_with(signature))
        }
    }

    #[test]
    fn both_roots_lead_to_the_same_tables_and_all_sums_are_right() {
        let walk = Walk::new(&MACHINE);
        assert_eq!(checksum(&walk.0[..20]), 0);
        assert_eq!(checksum(&walk.0[..36]), 0);
        let rsdt = walk.at(u32_at(&walk.0, 16));
        let xsdt = walk.at(u32_at(&walk.0, 24));
        assert_eq!((rsdt.len(), xsdt.len()), (36 + 3 * 4, 36 + 3 * 8));
        for (short, long) in rsdt[36..].chunks(4).zip(xsdt[36..].chunks(8)) {
            assert_eq!(short, &long[..4]);
            assert_eq!(checksum(walk.at(u32_at(short, 0))), 0);
        }
        assert_eq!(checksum(rsdt), 0);
        assert_eq!(checksum(xsdt), 0);
    }

    #[test]
    fn they_lie_in_the_area_that_is_searched_and_reserved() {
        let tables = tables(&Machine {
            cpus: 255,
            ..MACHINE
        });
        assert_eq!(tables.rsdp % 16, 0);
        assert!(tables.chunk.bytes.len() as u64 <= ACPI_TABLES.size_bytes);
    }

    #[test]
    fn the_fadt_has_q35s_ports() {
        let walk = Walk::new(&MACHINE);
        let fadt = walk.find(b"FACP").unwrap();
        let ports = [56, 64, 76].map(|offset| u32_at(fadt, offset));
        assert_eq!(ports, [0x600, 0x604, 0x608]);
        assert_eq!(fadt[46], 9);
        assert_eq!(u32_at(fadt, 120), 0xcf9, "the reset register");
        assert_eq!(fadt[128], 0x0f);
        assert_eq!(fadt[108], 0x32, "the century");
        let facs = walk.at(u32_at(fadt, 36));
        assert_eq!(&facs[..4], b"FACS");
        assert_eq!(u32_at(fadt, 36) % 64, 0);
    }

    #[test]
    fn the_dsdt_says_that_s5_is_sleep_type_0_and_where_com1_is() {
        let walk = Walk::new(&MACHINE);
        let dsdt = walk.at(u32_at(walk.find(b"FACP").unwrap(), 40));
        assert_eq!(checksum(dsdt), 0);
        let has = |bytes: &[u8]| dsdt.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(b"\x08_S5_\x12\x06\x04\0\0\0\0"));
        assert!(has(b"COM1"));
        assert!(has(&[0x47, 1, 0xf8, 0x03, 0xf8, 0x03, 0, 8]));
        assert!(has(&[0x89, 6, 0, 0b11, 1, 4, 0, 0, 0]));
        assert!(has(b"HPET"));
    }

    #[test]
    fn the_madt_has_each_cpu_once_and_the_timer_at_pin_2() {
        let walk = Walk::new(&MACHINE);
        let mut entries = &walk.find(b"APIC").unwrap()[44..];
        let mut cpus = Vec::new();
        let mut sources = Vec::new();
        while let [kind, length, rest @ ..] = entries {
            match kind {
                0 => cpus.push(rest[1]),
                2 => sources.push((rest[1], u32_at(rest, 2))),
                _ => {}
            }
            entries = &entries[usize::from(*length)..];
        }
        assert_eq!(cpus, [0, 1, 2]);
        assert_eq!(sources, [(0, 2), (9, 9)]);
    }

    #[test]
    fn a_machine_without_hpet_says_nothing_of_one() {
        let walk = Walk::new(&Machine {
            cpus: 1,
            hpet: None,
        });
        assert!(walk.find(b"HPET").is_none());
        assert!(!walk.0.windows(4).any(|window| window == b"HPET"));
    }
}
