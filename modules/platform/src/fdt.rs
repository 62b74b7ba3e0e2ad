// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reads the machine from its flattened device tree.
//!
//! Called once by the primary CPU on riscv64 and aarch64. The tree comes from
//! the firmware and is trusted; what is missing in it is left at its default.
//! Spec: Devicetree Specification, "Device node requirements".

use fdt_parser::{Fdt, Node, Status};

use crate::machine::{InterruptController, Machine, PhysRange};

/// Describes the machine of the tree that lies at `fdt_start` in physical memory.
pub fn describe(fdt: &Fdt<'_>, fdt_start: usize, boot_hardware_id: usize) -> Machine {
    let mut machine = Machine::new(boot_hardware_id);
    add_cpus(fdt, &mut machine);
    add_memory(fdt, &mut machine);
    add_chosen(fdt, &mut machine);
    let own = PhysRange::from_size(fdt_start, fdt.total_size());
    machine.reserve(own);
    machine.fdt = Some(own);
    machine.interrupt_controller = interrupt_controller(fdt);
    machine.fw_cfg = fdt
        .all_nodes()
        .find(|node| node.compatibles().any(|name| name == "qemu,fw-cfg-mmio"))
        .and_then(|node| ranges(node).next());
    machine
}

fn add_cpus(fdt: &Fdt<'_>, machine: &mut Machine) {
    let usable = |node: &Node<'_>| {
        node.name().starts_with("cpu@") && !matches!(node.status(), Some(Status::Disabled))
    };
    for cpu in fdt.all_nodes().filter(usable) {
        if let Some(reg) = cpu.reg().and_then(|mut regs| regs.next()) {
            machine.add_cpu(reg.address as usize);
        }
    }
    machine.timer_hz = fdt
        .all_nodes()
        .find(|node| node.name() == "cpus")
        .and_then(|cpus| cpus.find_property("timebase-frequency"))
        .and_then(|frequency| integer(frequency.raw_value()));
}

fn add_memory(fdt: &Fdt<'_>, machine: &mut Machine) {
    for range in fdt
        .all_nodes()
        .filter(|node| node.name().starts_with("memory@"))
        .flat_map(ranges)
    {
        machine.add_ram(range);
    }
    let mut under_reserved = fdt
        .all_nodes()
        .skip_while(|node| node.name() != "reserved-memory");
    let level = under_reserved.next().map_or(0, |node| node.level);
    for range in under_reserved
        .take_while(|node| node.level > level)
        .flat_map(ranges)
    {
        machine.reserve(range);
    }
    for region in fdt.memory_reservation_block() {
        machine.reserve(PhysRange::from_size(region.address as usize, region.size));
    }
}

fn ranges<'a>(node: Node<'a>) -> impl Iterator<Item = PhysRange> + 'a {
    node.reg()
        .into_iter()
        .flatten()
        .map(|reg| PhysRange::from_size(reg.address as usize, reg.size.unwrap_or(0)))
}

fn add_chosen(fdt: &Fdt<'_>, machine: &mut Machine) {
    let Some(chosen) = fdt.all_nodes().find(|node| node.name() == "chosen") else {
        return;
    };
    let address = |name| {
        chosen
            .find_property(name)
            .and_then(|p| integer(p.raw_value()))
    };
    if let (Some(start), Some(end)) = (address("linux,initrd-start"), address("linux,initrd-end")) {
        let initrd = PhysRange {
            start: start as usize,
            end: end as usize,
        };
        machine.reserve(initrd);
        machine.initrd = Some(initrd).filter(|range| !range.is_empty());
    }
    machine.seed = chosen
        .find_property("rng-seed")
        .and_then(|seed| seed.raw_value().first_chunk().copied());
    if let Some(text) = chosen.find_property("bootargs") {
        let bytes = text.raw_value();
        let text = bytes.split(|&byte| byte == 0).next().unwrap_or_default();
        machine.set_command_line(core::str::from_utf8(text).unwrap_or_default());
    }
}

fn interrupt_controller(fdt: &Fdt<'_>) -> InterruptController {
    fdt.all_nodes()
        .find_map(|node| controller_of(&node))
        .unwrap_or_default()
}

fn controller_of(node: &Node<'_>) -> Option<InterruptController> {
    let mut regs = node.reg()?.map(|reg| reg.address as usize);
    node.compatibles().find_map(|name| match name {
        "sifive,plic-1.0.0" | "riscv,plic0" => Some(InterruptController::Plic),
        "riscv,aplic" | "riscv,imsics" => Some(InterruptController::Aia),
        "arm,gic-v3" => Some(InterruptController::GicV3 {
            distributor: regs.next()?,
            redistributors: regs.next()?,
        }),
        "arm,cortex-a15-gic" | "arm,gic-400" => Some(InterruptController::GicV2 {
            distributor: regs.next()?,
            cpu_interface: regs.next()?,
        }),
        _ => None,
    })
}

/// Reads a property that is one number of 32 or 64 bits.
fn integer(bytes: &[u8]) -> Option<u64> {
    match *bytes {
        [a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d]).into()),
        [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_fdt::FdtWriter;

    fn tree() -> Vec<u8> {
        let mut w = FdtWriter::new_with_mem_reserv(&[]).unwrap();
        let root = w.begin_node("").unwrap();
        w.property_u32("#address-cells", 2).unwrap();
        w.property_u32("#size-cells", 2).unwrap();
        let chosen = w.begin_node("chosen").unwrap();
        w.property_string("bootargs", "log=info onidle=poweroff")
            .unwrap();
        w.property_u32("linux,initrd-start", 0x9000_0000).unwrap();
        w.property_u64("linux,initrd-end", 0x9000_1000).unwrap();
        w.property("rng-seed", &[7; 40]).unwrap();
        w.end_node(chosen).unwrap();
        let memory = w.begin_node("memory@80000000").unwrap();
        w.property_string("device_type", "memory").unwrap();
        w.property_array_u64("reg", &[0x8000_0000, 0x4000_0000])
            .unwrap();
        w.end_node(memory).unwrap();
        let reserved = w.begin_node("reserved-memory").unwrap();
        w.property_u32("#address-cells", 2).unwrap();
        w.property_u32("#size-cells", 2).unwrap();
        let firmware = w.begin_node("mmode_resv0@80000000").unwrap();
        w.property_array_u64("reg", &[0x8000_0000, 0x4_0000])
            .unwrap();
        w.end_node(firmware).unwrap();
        w.end_node(reserved).unwrap();
        let cpus = w.begin_node("cpus").unwrap();
        w.property_u32("#address-cells", 1).unwrap();
        w.property_u32("#size-cells", 0).unwrap();
        w.property_u32("timebase-frequency", 10_000_000).unwrap();
        for hart in 0..3 {
            let cpu = w.begin_node(&format!("cpu@{hart}")).unwrap();
            w.property_u32("reg", hart).unwrap();
            w.property_string("status", if hart == 1 { "disabled" } else { "okay" })
                .unwrap();
            w.end_node(cpu).unwrap();
        }
        let map = w.begin_node("cpu-map").unwrap();
        w.end_node(map).unwrap();
        w.end_node(cpus).unwrap();
        let plic = w.begin_node("plic@c000000").unwrap();
        w.property_string_list("compatible", vec!["x,y".into(), "riscv,plic0".into()])
            .unwrap();
        w.property_array_u64("reg", &[0xc00_0000, 0x60_0000])
            .unwrap();
        w.end_node(plic).unwrap();
        let fw_cfg = w.begin_node("fw-cfg@10100000").unwrap();
        w.property_string("compatible", "qemu,fw-cfg-mmio").unwrap();
        w.property_array_u64("reg", &[0x1010_0000, 0x18]).unwrap();
        w.end_node(fw_cfg).unwrap();
        w.end_node(root).unwrap();
        w.finish().unwrap()
    }

    #[test]
    fn a_virt_machine_is_read_from_its_tree() {
        let bytes = tree();
        let fdt = Fdt::from_bytes(&bytes).unwrap();
        let machine = describe(&fdt, 0xbfe0_0000, 2);
        assert_eq!(machine.cpu_count(), 2, "hart 1 is disabled");
        assert_eq!(machine.hardware_id(0), Some(2));
        assert_eq!(machine.timer_hz, Some(10_000_000));
        assert_eq!(
            machine.ram(),
            [PhysRange {
                start: 0x8000_0000,
                end: 0xc000_0000
            }]
        );
        assert_eq!(
            machine.initrd,
            Some(PhysRange {
                start: 0x9000_0000,
                end: 0x9000_1000
            })
        );
        assert_eq!(machine.option("onidle"), Some("poweroff"));
        assert_eq!(machine.seed, Some([7; 32]));
        assert_eq!(machine.interrupt_controller, InterruptController::Plic);
        let fw_cfg = PhysRange::from_size(0x1010_0000, 0x18);
        assert_eq!(machine.fw_cfg, Some(fw_cfg));
        assert!(
            machine
                .reserved()
                .contains(&PhysRange::from_size(0x8000_0000, 0x4_0000))
        );
        assert!(
            machine
                .reserved()
                .contains(&PhysRange::from_size(0xbfe0_0000, bytes.len()))
        );
    }
}
