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
    irqchip::{
        Intc,
        aia::{self, Parent},
        imsic::Identities,
        plic::SOURCES,
    },
    vm::{FINISHER, PLIC, RTC, RTC_IRQ, SLOTS_IRQ, UART, UART_IRQ, slots},
};

/// The controller with the devices' wires.
const PHANDLE_WIRED: u32 = 1;
const PHANDLE_FINISHER: u32 = 2;
const PHANDLE_IMSIC: u32 = 3;
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
    pub(crate) intc: Intc,
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
        fdt.node("soc", |fdt| soc(fdt, tree))
    })
}

fn cpus(fdt: &mut Fdt, tree: &Tree<'_>) -> Written {
    fdt.u32("#address-cells", 1)?;
    fdt.u32("#size-cells", 0)?;
    let hz = u32::try_from(tree.timebase_hz).unwrap_or(u32::MAX);
    fdt.u32("timebase-frequency", hz)?;
    let isa = match tree.intc {
        Intc::Plic | Intc::Aplic => tree.isa,
        Intc::Aia => &tree.isa.with("ssaia"),
    };
    let string = isa.string();
    for hart in 0..tree.harts {
        fdt.node(&format!("cpu@{hart:x}"), |fdt| cpu(fdt, hart, &string, isa))?;
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

fn soc(fdt: &mut Fdt, tree: &Tree<'_>) -> Written {
    fdt.u32("#address-cells", 2)?;
    fdt.u32("#size-cells", 2)?;
    fdt.string("compatible", "simple-bus")?;
    fdt.flag("ranges")?;
    fdt.goldfish_rtc(RTC.in_tree(), wire(&cells(tree.intc, RTC_IRQ)))?;
    fdt.uart16550(&Uart16550 {
        reg: UART.in_tree(),
        interrupt: wire(&cells(tree.intc, UART_IRQ)),
        clock_hz: UART_CLOCK_HZ,
    })?;
    fdt.sifive_test(FINISHER.in_tree(), PHANDLE_FINISHER)?;
    for (irq, slot) in (SLOTS_IRQ..).zip(slots()) {
        fdt.virtio_mmio(&VirtioMmio {
            reg: slot.in_tree(),
            interrupt: wire(&cells(tree.intc, irq)),
        })?;
    }
    interrupt_controllers(fdt, tree)
}

/// Returns what a device's node says of its wire.
fn wire(cells: &[u32]) -> Interrupt<'_> {
    Interrupt {
        parent: Some(PHANDLE_WIRED),
        cells,
    }
}

fn cells(intc: Intc, irq: u32) -> Vec<u32> {
    match intc {
        Intc::Plic => [irq].into(),
        Intc::Aplic | Intc::Aia => aia::interrupt_cells(irq).into(),
    }
}

fn interrupt_controllers(fdt: &mut Fdt, tree: &Tree<'_>) -> Written {
    let harts: Vec<u32> = (0..tree.harts)
        .map(|hart| PHANDLE_CPU_INTCS.saturating_add(hart))
        .collect();
    match tree.intc {
        Intc::Plic => fdt.node(&format!("plic@{:x}", PLIC.start), |fdt| plic(fdt, &harts)),
        Intc::Aplic => aia::aplic_node(fdt, PHANDLE_WIRED, Parent::Harts(&harts)),
        Intc::Aia => {
            aia::imsic_node(fdt, PHANDLE_IMSIC, &harts, Identities::VIRT)?;
            aia::aplic_node(fdt, PHANDLE_WIRED, Parent::Imsics(PHANDLE_IMSIC))
        }
    }
}

fn plic(fdt: &mut Fdt, harts: &[u32]) -> Written {
    let contexts: Vec<u32> = harts
        .iter()
        .flat_map(|&intc| [intc, MACHINE_EXTERNAL, intc, SUPERVISOR_EXTERNAL])
        .collect();
    fdt.phandle(PHANDLE_WIRED)?;
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
        written_with(Intc::Plic)
    }

    fn written_with(intc: Intc) -> Vec<u8> {
        let ram = vec![RamRegion {
            start: GuestPhysAddr::from_usize(0x8000_0000),
            size_bytes: 64 << 20,
        }];
        write(&Tree {
            harts: 2,
            intc,
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
    fn each_machine_has_its_interrupt_controllers_and_says_so_of_its_harts() {
        let has = |intc, text: &[u8]| contains(&written_with(intc), text);
        let all = [Intc::Plic, Intc::Aplic, Intc::Aia];
        assert_eq!(
            all.map(|intc| has(intc, b"plic@c000000\0")),
            [true, false, false]
        );
        assert_eq!(
            all.map(|intc| has(intc, b"riscv,aplic\0")),
            [false, true, true]
        );
        assert_eq!(
            all.map(|intc| has(intc, b"riscv,imsics\0")),
            [false, false, true]
        );
        assert_eq!(all.map(|intc| has(intc, b"_ssaia\0")), [false, false, true]);
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
