// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The nodes of devices that several machines have.
//!
//! They are what QEMU's `virt` machines write, name and order of properties
//! included, because that is what guests were tested with. Each may stand in the
//! root or in a bus node whose addresses and sizes have two cells.
//!
//! Spec: Linux, Documentation/devicetree/bindings: serial/8250, serial/pl011,
//! rtc/google,goldfish-rtc, rtc/arm,pl031, power/reset/syscon-poweroff and
//! syscon-reboot, virtio/mmio.

use alloc::format;

use super::{
    super::{GuestRange, ImageError},
    Fdt,
};

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
    /// The phandle of its clock, see [`Fdt::fixed_clock`].
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

    /// Writes a clock that always runs at one frequency.
    pub fn fixed_clock(&mut self, name: &str, phandle: u32, hz: u32) -> Result<(), ImageError> {
        self.node(name, |fdt| {
            fdt.phandle(phandle)?;
            fdt.string("clock-output-names", "clk24mhz")?;
            fdt.u32("clock-frequency", hz)?;
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
fn unit(name: &str, reg: GuestRange) -> alloc::string::String {
    format!("{name}@{:x}", reg.first())
}
