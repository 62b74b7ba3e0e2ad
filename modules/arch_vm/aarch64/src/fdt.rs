// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guest's device tree, as QEMU's `virt` machine would write it.
//!
//! A function of what the machine is made from. Called by `vm` at boot, unless
//! the VM's file names a tree.
//!
//! Spec: Devicetree Specification; Linux bindings arm/cpus, arm/psci,
//! timer/arm,arch_timer, interrupt-controller/arm,gic and arm,gic-v3.

use alloc::{format, vec::Vec};

use axvm::{
    RamRegion,
    boot::{
        GuestRange, ImageError,
        fdt::{Chosen, Fdt, Interrupt, Pl011, VirtioMmio},
    },
};

use crate::{
    irqchip::{self, PHYSICAL_TIMER, VIRTUAL_TIMER, Version, affinity_of_vcpu},
    vm::{RTC, RTC_SPI, SLOTS_SPI, UART, UART_SPI, slots},
};

const PHANDLE_CLOCK: u32 = 1;
const PHANDLE_GIC: u32 = 2;
const PHANDLE_ITS: u32 = 3;

/// Kinds of interrupt in a specifier.
const SPI: u32 = 0;
const PPI: u32 = 1;
const PPI_FIRST: u32 = 16;
const LEVEL_HIGH: u32 = 4;
const RISING_EDGE: u32 = 1;
/// The timers of the secure state and of EL2, which the binding wants named.
const SECURE_TIMER: u32 = 29;
const HYPERVISOR_TIMER: u32 = 26;

/// Where the console is, as `/chosen` names it.
pub(crate) const CONSOLE_PATH: &str = "/pl011@9000000";

/// What a tree is written from.
pub(crate) struct Tree<'a> {
    pub(crate) vcpus: usize,
    pub(crate) gic: Version,
    pub(crate) ram: &'a [RamRegion],
    pub(crate) chosen: Chosen<'a>,
}

type Written = Result<(), ImageError>;

/// Writes the tree.
pub(crate) fn write(tree: &Tree<'_>) -> Result<Vec<u8>, ImageError> {
    Fdt::write("linux,dummy-virt", "linux,dummy-virt", |fdt| {
        fdt.u32("interrupt-parent", PHANDLE_GIC)?;
        fdt.chosen(&tree.chosen)?;
        fdt.memory(tree.ram)?;
        fdt.node("psci", psci)?;
        fdt.node("cpus", |fdt| cpus(fdt, tree.vcpus))?;
        fdt.node("timer", |fdt| timer(fdt, tree))?;
        fdt.node("intc@8000000", |fdt| interrupt_controller(fdt, tree.gic))?;
        fdt.apb_clock(PHANDLE_CLOCK)?;
        fdt.pl011(&Pl011 {
            reg: UART,
            interrupt: Interrupt {
                parent: None,
                cells: &[SPI, UART_SPI, LEVEL_HIGH],
            },
            clock: PHANDLE_CLOCK,
        })?;
        let interrupt = Interrupt {
            parent: None,
            cells: &[SPI, RTC_SPI, LEVEL_HIGH],
        };
        fdt.pl031(RTC, interrupt, PHANDLE_CLOCK)?;
        (SLOTS_SPI..).zip(slots()).try_for_each(|(spi, reg)| {
            let cells = &[SPI, spi, RISING_EDGE];
            let interrupt = Interrupt {
                parent: None,
                cells,
            };
            fdt.virtio_mmio(&VirtioMmio { reg, interrupt })
        })
    })
}

fn psci(fdt: &mut Fdt) -> Written {
    fdt.strings("compatible", &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"])?;
    fdt.string("method", "hvc")?;
    fdt.u32("cpu_suspend", 0xc400_0001)?;
    fdt.u32("cpu_off", 0x8400_0002)?;
    fdt.u32("cpu_on", 0xc400_0003)
}

fn cpus(fdt: &mut Fdt, vcpus: usize) -> Written {
    fdt.u32("#address-cells", 1)?;
    fdt.u32("#size-cells", 0)?;
    (0..vcpus).try_for_each(|vcpu| {
        let affinity = affinity_of_vcpu(vcpu) as u32;
        fdt.node(&format!("cpu@{affinity:x}"), |fdt| {
            fdt.string("device_type", "cpu")?;
            fdt.string("compatible", "arm,armv8")?;
            fdt.string("enable-method", "psci")?;
            fdt.u32("reg", affinity)
        })
    })
}

fn timer(fdt: &mut Fdt, tree: &Tree<'_>) -> Written {
    // GICv2 says in the flags which CPUs a private interrupt goes to.
    let flags = match tree.gic {
        Version::V3 => LEVEL_HIGH,
        Version::V2 => {
            let cpus = 1_u32.wrapping_shl(tree.vcpus as u32).wrapping_sub(1);
            LEVEL_HIGH | (cpus & 0xff) << 8
        }
    };
    let timers = [
        SECURE_TIMER,
        PHYSICAL_TIMER,
        VIRTUAL_TIMER,
        HYPERVISOR_TIMER,
    ];
    let cells = timers.map(|intid| [PPI, intid.wrapping_sub(PPI_FIRST), flags]);
    fdt.strings("compatible", &["arm,armv8-timer", "arm,armv7-timer"])?;
    fdt.flag("always-on")?;
    fdt.cells("interrupts", cells.as_flattened())
}

fn interrupt_controller(fdt: &mut Fdt, gic: Version) -> Written {
    let compatible = match gic {
        Version::V2 => "arm,cortex-a15-gic",
        Version::V3 => "arm,gic-v3",
    };
    fdt.phandle(PHANDLE_GIC)?;
    fdt.string("compatible", compatible)?;
    fdt.u32("#interrupt-cells", 3)?;
    fdt.flag("interrupt-controller")?;
    if gic == Version::V3 {
        fdt.u32("#redistributor-regions", 1)?;
    }
    fdt.u32("#address-cells", 2)?;
    fdt.u32("#size-cells", 2)?;
    fdt.flag("ranges")?;
    let regions = irqchip::regions(gic);
    fdt.reg(&regions.map(|(start, size)| GuestRange::new(start, size)))?;
    match gic {
        Version::V2 => Ok(()),
        Version::V3 => translation_service(fdt),
    }
}

fn translation_service(fdt: &mut Fdt) -> Written {
    let (start, size) = irqchip::ITS;
    fdt.node(&format!("its@{start:x}"), |fdt| {
        fdt.phandle(PHANDLE_ITS)?;
        fdt.reg(&[GuestRange::new(start, size)])?;
        fdt.u32("#msi-cells", 1)?;
        fdt.flag("msi-controller")?;
        fdt.string("compatible", "arm,gic-v3-its")
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};

    use dtoolkit::fdt::Fdt as Reader;

    use super::*;

    fn source(gic: Version, vcpus: usize) -> String {
        let tree = Tree {
            vcpus,
            gic,
            ram: &[],
            chosen: Chosen::default(),
        };
        let blob = write(&tree).unwrap();
        Reader::new(&blob).unwrap().to_string()
    }

    #[test]
    fn a_gicv3_has_redistributors_and_a_translation_service() {
        let source = source(Version::V3, 18);
        for line in [
            "compatible = \"arm,gic-v3\"",
            "reg = <0x00 0x8000000 0x00 0x10000 0x00 0x80a0000 0x00 0xf60000>",
            "its@8080000 {",
            "reg = <0x00 0x8080000 0x00 0x20000>",
            "compatible = \"arm,gic-v3-its\"",
            "interrupts = <0x01 0x0d 0x04 0x01 0x0e 0x04 0x01 0x0b 0x04 0x01 0x0a 0x04>",
            "cpu@101 {",
        ] {
            assert!(source.contains(line), "{line} is not in {source}");
        }
    }

    #[test]
    fn a_gicv2_says_which_cpus_private_interrupts_go_to() {
        let source = source(Version::V2, 4);
        for line in [
            "compatible = \"arm,cortex-a15-gic\"",
            "reg = <0x00 0x8000000 0x00 0x10000 0x00 0x8010000 0x00 0x10000>",
            "interrupts = <0x01 0x0d 0xf04 0x01 0x0e 0xf04 0x01 0x0b 0xf04 0x01 0x0a 0xf04>",
        ] {
            assert!(source.contains(line), "{line} is not in {source}");
        }
        assert!(!source.contains("its@"));
    }

    #[test]
    fn the_slots_for_virtio_are_where_qemu_has_them() {
        let source = source(Version::V3, 1);
        assert_eq!(source.matches("virtio_mmio@").count(), 32);
        for line in [
            "virtio_mmio@a000000 {",
            "reg = <0x00 0xa000000 0x00 0x200>",
            "interrupts = <0x00 0x10 0x01>",
            "virtio_mmio@a003e00 {",
            "interrupts = <0x00 0x2f 0x01>",
        ] {
            assert!(source.contains(line), "{line} is not in {source}");
        }
    }
}
