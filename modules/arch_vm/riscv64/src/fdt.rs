// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guest's device tree, as QEMU's `virt` machine would write it.
//!
//! A function of what the machine is made from. Called by `vm` at boot, unless
//! the VM's file names a tree.
//!
//! Spec: Devicetree Specification; Linux bindings riscv/cpus,
//! interrupt-controller/sifive,plic-1.0.0.

use alloc::{format, string::String, vec::Vec};

use axvm::{
    RamRegion,
    boot::{
        ImageError,
        fdt::{Chosen, Fdt, Interrupt, Syscon, Uart16550, VirtioMmio},
    },
};

use crate::{
    host::GuestIsa,
    irqchip::plic::SOURCES,
    vm::{FINISHER, PLIC, RTC, RTC_IRQ, SLOTS_IRQ, UART, UART_IRQ, slots},
};

const PHANDLE_PLIC: u32 = 1;
const PHANDLE_FINISHER: u32 = 2;
/// The phandles of the harts, and behind them of their interrupt controllers.
const PHANDLE_CPUS: u32 = 0x10;
const PHANDLE_CPU_INTCS: u32 = 0x60;

const SUPERVISOR_EXTERNAL: u32 = 9;
const MACHINE_EXTERNAL: u32 = 11;
const UART_CLOCK_HZ: u32 = 3_686_400;
const FINISHER_PASS: u32 = 0x5555;
const FINISHER_RESET: u32 = 0x7777;

/// Where the console is, as `/chosen` names it.
pub(crate) const CONSOLE_PATH: &str = "/soc/serial@10000000";

/// What a tree is written from.
pub(crate) struct Tree<'a> {
    pub(crate) harts: u32,
    pub(crate) ram: &'a [RamRegion],
    pub(crate) isa: &'a GuestIsa,
    pub(crate) timebase_hz: u64,
    pub(crate) chosen: Chosen<'a>,
}

type Written = Result<(), ImageError>;

/// Writes the tree.
pub(crate) fn write(tree: &Tree<'_>) -> Result<Vec<u8>, ImageError> {
    Fdt::write("riscv-virtio,qemu", "riscv-virtio", |fdt| {
        fdt.chosen(&tree.chosen)?;
        fdt.memory(tree.ram)?;
        fdt.node("cpus", |fdt| cpus(fdt, tree))?;
        power(fdt)?;
        fdt.node("soc", |fdt| soc(fdt, tree.harts))
    })
}

fn cpus(fdt: &mut Fdt, tree: &Tree<'_>) -> Written {
    fdt.u32("#address-cells", 1)?;
    fdt.u32("#size-cells", 0)?;
    let hz = u32::try_from(tree.timebase_hz).unwrap_or(u32::MAX);
    fdt.u32("timebase-frequency", hz)?;
    let isa = tree.isa.string();
    for hart in 0..tree.harts {
        fdt.node(&format!("cpu@{hart:x}"), |fdt| {
            cpu(fdt, hart, &isa, tree.isa)
        })?;
    }
    fdt.node("cpu-map", |fdt| {
        fdt.node("cluster0", |fdt| {
            (0..tree.harts).try_for_each(|hart| {
                fdt.node(&format!("core{hart}"), |fdt| {
                    fdt.u32("cpu", PHANDLE_CPUS.saturating_add(hart))
                })
            })
        })
    })
}

fn cpu(fdt: &mut Fdt, hart: u32, string: &str, isa: &GuestIsa) -> Written {
    fdt.phandle(PHANDLE_CPUS.saturating_add(hart))?;
    fdt.string("device_type", "cpu")?;
    fdt.u32("reg", hart)?;
    fdt.string("status", "okay")?;
    fdt.string("compatible", "riscv")?;
    fdt.string("riscv,isa", string)?;
    fdt.string("riscv,isa-base", "rv64i")?;
    let names: Vec<&str> = isa.extensions.iter().map(String::as_str).collect();
    fdt.strings("riscv,isa-extensions", &names)?;
    fdt.string("mmu-type", &isa.mmu_type)?;
    for (name, bytes) in [
        ("riscv,cbom-block-size", isa.cbom_block_bytes),
        ("riscv,cboz-block-size", isa.cboz_block_bytes),
    ] {
        bytes.map_or(Ok(()), |bytes| fdt.u32(name, bytes))?;
    }
    fdt.node("interrupt-controller", |fdt| {
        fdt.u32("#interrupt-cells", 1)?;
        fdt.flag("interrupt-controller")?;
        fdt.string("compatible", "riscv,cpu-intc")?;
        fdt.phandle(PHANDLE_CPU_INTCS.saturating_add(hart))
    })
}

fn power(fdt: &mut Fdt) -> Written {
    let write = |value| Syscon {
        controller: PHANDLE_FINISHER,
        offset: 0,
        value,
    };
    fdt.poweroff(write(FINISHER_PASS))?;
    fdt.reboot(write(FINISHER_RESET))
}

fn soc(fdt: &mut Fdt, harts: u32) -> Written {
    fdt.u32("#address-cells", 2)?;
    fdt.u32("#size-cells", 2)?;
    fdt.string("compatible", "simple-bus")?;
    fdt.flag("ranges")?;
    fdt.goldfish_rtc(RTC.in_tree(), from_plic(&[RTC_IRQ]))?;
    fdt.uart16550(&Uart16550 {
        reg: UART.in_tree(),
        interrupt: from_plic(&[UART_IRQ]),
        clock_hz: UART_CLOCK_HZ,
    })?;
    fdt.sifive_test(FINISHER.in_tree(), PHANDLE_FINISHER)?;
    for (irq, slot) in (SLOTS_IRQ..).zip(slots()) {
        fdt.virtio_mmio(&VirtioMmio {
            reg: slot.in_tree(),
            interrupt: from_plic(&[irq]),
        })?;
    }
    fdt.node(&format!("plic@{:x}", PLIC.start), |fdt| plic(fdt, harts))
}

fn from_plic(cells: &[u32]) -> Interrupt<'_> {
    Interrupt {
        parent: Some(PHANDLE_PLIC),
        cells,
    }
}

fn plic(fdt: &mut Fdt, harts: u32) -> Written {
    let contexts: Vec<u32> = (0..harts)
        .map(|hart| PHANDLE_CPU_INTCS.saturating_add(hart))
        .flat_map(|intc| [intc, MACHINE_EXTERNAL, intc, SUPERVISOR_EXTERNAL])
        .collect();
    fdt.phandle(PHANDLE_PLIC)?;
    fdt.u32("riscv,ndev", (SOURCES as u32).saturating_sub(1))?;
    fdt.reg(&[PLIC.in_tree()])?;
    fdt.cells("interrupts-extended", &contexts)?;
    fdt.flag("interrupt-controller")?;
    fdt.strings("compatible", &["sifive,plic-1.0.0", "riscv,plic0"])?;
    fdt.u32("#address-cells", 0)?;
    fdt.u32("#interrupt-cells", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axvm::GuestPhysAddr;
    use std::vec;

    fn isa() -> GuestIsa {
        GuestIsa {
            extensions: ["i", "m", "zicsr", "sstc"].map(String::from).into(),
            cbom_block_bytes: None,
            cboz_block_bytes: Some(64),
            mmu_type: "riscv,sv57".into(),
        }
    }

    fn written() -> Vec<u8> {
        let ram = vec![RamRegion {
            start: GuestPhysAddr::from_usize(0x8000_0000),
            size_bytes: 64 << 20,
        }];
        write(&Tree {
            harts: 2,
            ram: &ram,
            isa: &isa(),
            timebase_hz: 10_000_000,
            chosen: Chosen {
                cmdline: "quiet",
                ..Default::default()
            },
        })
        .unwrap()
    }

    fn contains(blob: &[u8], bytes: &[u8]) -> bool {
        blob.windows(bytes.len()).any(|window| window == bytes)
    }

    #[test]
    fn each_hart_has_its_isa_and_its_interrupts() {
        let blob = written();
        for text in [
            &b"cpu@1\0"[..],
            b"rv64im_zicsr_sstc\0",
            b"i\0m\0zicsr\0sstc\0",
            b"riscv,sv57\0",
            b"quiet\0",
        ] {
            assert!(contains(&blob, text), "{text:?}");
        }
        let contexts: Vec<u8> = [0x60_u32, 11, 0x60, 9, 0x61, 11, 0x61, 9]
            .into_iter()
            .flat_map(u32::to_be_bytes)
            .collect();
        assert!(contains(&blob, &contexts));
    }
}
