// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The nodes of devices that several machines have.
//!
//! They are what QEMU's `virt` machines write, names and values of properties
//! included, because that is what guests were tested with. Each may stand in the
//! root or in a bus node whose addresses and sizes have two cells.
//!
//! Spec: Linux, Documentation/devicetree/bindings: serial/8250, serial/pl011,
//! rtc/google,goldfish-rtc, rtc/arm,pl031, power/reset/syscon-poweroff and
//! syscon-reboot, virtio/mmio.

use alloc::{format, string::String};

use super::Fdt;
use crate::boot::{GuestRange, ImageError};

/// What QEMU's arm boards clock their peripherals with.
const APB_CLOCK_HZ: u32 = 24_000_000;

/// An interrupt as its controller's binding writes it.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt<'a> {
    /// The controller's phandle, where the node does not inherit it.
    pub parent: Option<u32>,
    /// The specifier.
    pub cells: &'a [u32],
}

/// A 16550 UART.
#[derive(Clone, Copy, Debug)]
pub struct Uart16550<'a> {
    /// Its registers.
    pub reg: GuestRange,
    /// Its interrupt.
    pub interrupt: Interrupt<'a>,
    /// Its clock in Hz.
    pub clock_hz: u32,
}

/// A PL011 UART.
#[derive(Clone, Copy, Debug)]
pub struct Pl011<'a> {
    /// Its registers.
    pub reg: GuestRange,
    /// Its interrupt.
    pub interrupt: Interrupt<'a>,
    /// The phandle of its clock, see [`Fdt::apb_clock`].
    pub clock: u32,
}

/// A virtio device on MMIO.
#[derive(Clone, Copy, Debug)]
pub struct VirtioMmio<'a> {
    /// Its registers.
    pub reg: GuestRange,
    /// Its interrupt.
    pub interrupt: Interrupt<'a>,
}

/// What a write to a system controller does.
#[derive(Clone, Copy, Debug)]
pub struct Syscon {
    /// The controller's phandle.
    pub controller: u32,
    /// The register's offset.
    pub offset: u32,
    /// What is written.
    pub value: u32,
}

impl Fdt {
    /// Writes which interrupt the node's device has.
    pub fn interrupt(&mut self, interrupt: Interrupt<'_>) -> Result<(), ImageError> {
        self.cells("interrupts", interrupt.cells)?;
        match interrupt.parent {
            Some(parent) => self.u32("interrupt-parent", parent),
            None => Ok(()),
        }
    }

    /// Writes a 16550 node.
    pub fn uart16550(&mut self, uart: &Uart16550<'_>) -> Result<(), ImageError> {
        self.node(&unit("serial", uart.reg), |fdt| {
            fdt.interrupt(uart.interrupt)?;
            fdt.u32("clock-frequency", uart.clock_hz)?;
            fdt.reg(&[uart.reg])?;
            fdt.string("compatible", "ns16550a")
        })
    }

    /// Writes the 24 MHz clock to which PL011 and PL031 nodes refer.
    pub fn apb_clock(&mut self, phandle: u32) -> Result<(), ImageError> {
        self.node("apb-pclk", |fdt| {
            fdt.phandle(phandle)?;
            fdt.string("clock-output-names", "clk24mhz")?;
            fdt.u32("clock-frequency", APB_CLOCK_HZ)?;
            fdt.u32("#clock-cells", 0)?;
            fdt.string("compatible", "fixed-clock")
        })
    }

    /// Writes a PL011 node.
    pub fn pl011(&mut self, uart: &Pl011<'_>) -> Result<(), ImageError> {
        self.node(&unit("pl011", uart.reg), |fdt| {
            fdt.strings("clock-names", &["uartclk", "apb_pclk"])?;
            fdt.cells("clocks", &[uart.clock, uart.clock])?;
            fdt.interrupt(uart.interrupt)?;
            fdt.reg(&[uart.reg])?;
            fdt.strings("compatible", &["arm,pl011", "arm,primecell"])
        })
    }

    /// Writes a PL031 node; `clock` is the phandle of its bus clock.
    pub fn pl031(
        &mut self,
        reg: GuestRange,
        interrupt: Interrupt<'_>,
        clock: u32,
    ) -> Result<(), ImageError> {
        self.node(&unit("pl031", reg), |fdt| {
            fdt.string("clock-names", "apb_pclk")?;
            fdt.u32("clocks", clock)?;
            fdt.interrupt(interrupt)?;
            fdt.reg(&[reg])?;
            fdt.strings("compatible", &["arm,pl031", "arm,primecell"])
        })
    }

    /// Writes a goldfish RTC node.
    pub fn goldfish_rtc(
        &mut self,
        reg: GuestRange,
        interrupt: Interrupt<'_>,
    ) -> Result<(), ImageError> {
        self.node(&unit("rtc", reg), |fdt| {
            fdt.interrupt(interrupt)?;
            fdt.reg(&[reg])?;
            fdt.string("compatible", "google,goldfish-rtc")
        })
    }

    /// Writes a sifive-test finisher node, to which `poweroff` and `reboot` refer.
    pub fn sifive_test(&mut self, reg: GuestRange, phandle: u32) -> Result<(), ImageError> {
        self.node(&unit("test", reg), |fdt| {
            fdt.phandle(phandle)?;
            fdt.reg(&[reg])?;
            fdt.strings("compatible", &["sifive,test1", "sifive,test0", "syscon"])
        })
    }

    /// Writes the node that says how the machine is switched off.
    pub fn poweroff(&mut self, write: Syscon) -> Result<(), ImageError> {
        self.node("poweroff", |fdt| fdt.syscon(write, "syscon-poweroff"))
    }

    /// Writes the node that says how the machine is reset.
    pub fn reboot(&mut self, write: Syscon) -> Result<(), ImageError> {
        self.node("reboot", |fdt| fdt.syscon(write, "syscon-reboot"))
    }

    fn syscon(&mut self, write: Syscon, compatible: &str) -> Result<(), ImageError> {
        self.u32("value", write.value)?;
        self.u32("offset", write.offset)?;
        self.u32("regmap", write.controller)?;
        self.string("compatible", compatible)
    }

    /// Writes a virtio-mmio node.
    pub fn virtio_mmio(&mut self, device: &VirtioMmio<'_>) -> Result<(), ImageError> {
        self.node(&unit("virtio_mmio", device.reg), |fdt| {
            fdt.flag("dma-coherent")?;
            fdt.interrupt(device.interrupt)?;
            fdt.reg(&[device.reg])?;
            fdt.string("compatible", "virtio,mmio")
        })
    }
}

/// Returns a node's name with its unit address.
fn unit(name: &str, reg: GuestRange) -> String {
    format!("{name}@{:x}", reg.first())
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use dtoolkit::fdt::Fdt as Reader;

    use super::*;

    /// Returns the tree as a reader sees it.
    fn source(body: fn(&mut Fdt) -> Result<(), ImageError>) -> String {
        let blob = Fdt::write("machine", "some,machine", body).unwrap();
        Reader::new(&blob).unwrap().to_string()
    }

    fn has(source: &str, lines: &[&str]) {
        for line in lines {
            assert!(source.contains(line), "{line} is not in {source}");
        }
    }

    #[test]
    fn the_riscv_machine_s_devices_are_as_its_drivers_expect() {
        let source = source(|fdt| {
            let interrupt = Interrupt {
                parent: Some(9),
                cells: &[10],
            };
            fdt.uart16550(&Uart16550 {
                reg: GuestRange::new(0x1000_0000, 0x100),
                interrupt,
                clock_hz: 1_843_200,
            })?;
            fdt.goldfish_rtc(GuestRange::new(0x10_1000, 0x1000), interrupt)?;
            fdt.sifive_test(GuestRange::new(0x10_0000, 0x1000), 4)?;
            let (controller, offset) = (4, 0);
            fdt.poweroff(Syscon {
                controller,
                offset,
                value: 0x5555,
            })?;
            fdt.reboot(Syscon {
                controller,
                offset,
                value: 0x7777,
            })?;
            fdt.virtio_mmio(&VirtioMmio {
                reg: GuestRange::new(0x1000_1000, 0x1000),
                interrupt,
            })
        });
        has(
            &source,
            &[
                "serial@10000000 {",
                "compatible = \"ns16550a\"",
                "clock-frequency = <0x1c2000>",
                "interrupt-parent = <0x09>",
                "rtc@101000 {",
                "compatible = \"google,goldfish-rtc\"",
                "test@100000 {",
                "compatible = \"sifive,test1\", \"sifive,test0\", \"syscon\"",
                "compatible = \"syscon-poweroff\"",
                "value = <0x5555>",
                "value = <0x7777>",
                "regmap = <0x04>",
                "virtio_mmio@10001000 {",
                "reg = <0x00 0x10001000 0x00 0x1000>",
            ],
        );
    }

    #[test]
    fn the_arm_machine_s_devices_are_as_its_drivers_expect() {
        let source = source(|fdt| {
            let interrupt = Interrupt {
                parent: None,
                cells: &[0, 1, 4],
            };
            fdt.apb_clock(3)?;
            fdt.pl011(&Pl011 {
                reg: GuestRange::new(0x900_0000, 0x1000),
                interrupt,
                clock: 3,
            })?;
            fdt.pl031(GuestRange::new(0x901_0000, 0x1000), interrupt, 3)
        });
        has(
            &source,
            &[
                "apb-pclk {",
                "clock-frequency = <0x16e3600>",
                "pl011@9000000 {",
                "interrupts = <0x00 0x01 0x04>",
                "clocks = <0x03 0x03>",
                "clock-names = \"uartclk\", \"apb_pclk\"",
                "compatible = \"arm,pl011\", \"arm,primecell\"",
                "pl031@9010000 {",
                "compatible = \"arm,pl031\", \"arm,primecell\"",
            ],
        );
        assert!(!source.contains("interrupt-parent"));
    }
}
