// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The few facts that the guest takes from the flattened device tree.
//!
//! Called by `arch::{riscv64, aarch64}::machine` with the tree handed over at
//! boot. The tree is checked as a whole before anything is read from it.
//!
//! Spec: Devicetree Specification, "Flattened Devicetree (DTB) Format", "Device
//! Node Requirements".

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property, ToCellInt};

use crate::command_line::CommandLine;
use crate::machine::{Failure, HardwareId, Machine, Region};

const MAGIC: u32 = 0xd00d_feed;
const LARGEST_BYTES: u32 = 4 << 20;

/// A device tree that has been checked.
pub struct Tree<'a>(Fdt<'a>);

/// Returns the size in bytes that a blob's first two words state.
pub fn size_of_blob(first_words: [u32; 2]) -> Option<u32> {
    let [magic, size] = first_words.map(u32::from_be);
    (magic == MAGIC && (8..=LARGEST_BYTES).contains(&size)).then_some(size)
}

impl<'a> Tree<'a> {
    /// Checks the blob.
    pub fn new(blob: &'a [u8]) -> Result<Self, Failure> {
        let tree = Fdt::new(blob).map_err(|_| Failure("the device tree is damaged"))?;
        Ok(Self(tree))
    }

    /// Reads CPUs, memory and command line.
    pub fn machine(&self, boot_cpu: HardwareId) -> Machine {
        let mut machine = Machine::new(boot_cpu);
        self.add_cpus(&mut machine);
        self.memory().for_each(|region| machine.add_memory(region));
        machine.command_line = CommandLine::new(self.bootargs().unwrap_or(""));
        machine
    }

    /// Reads the frequency of the `time` register.
    #[cfg(any(test, target_arch = "riscv64"))]
    pub fn timebase_hz(&self) -> Option<u64> {
        let cpus = self.0.find_node("/cpus")?;
        let frequency = cpus.property("timebase-frequency")?;
        frequency.value_as::<u32>().ok().map(u64::from)
    }

    /// Returns the tree itself.
    #[cfg(any(test, target_arch = "aarch64"))]
    pub fn blob(&self) -> Fdt<'a> {
        self.0
    }

    fn bootargs(&self) -> Option<&'a str> {
        let chosen = self.0.find_node("/chosen")?;
        chosen.property("bootargs")?.value_as::<&str>().ok()
    }

    fn add_cpus(&self, machine: &mut Machine) -> Option<()> {
        for cpu in self.0.cpus().ok()?.cpus() {
            let id = cpu.ids().ok()?.next()?;
            machine.add_cpu(HardwareId(id.to_int().ok()?));
        }
        Some(())
    }

    fn memory(&self) -> impl Iterator<Item = Region> + '_ {
        let nodes = self.0.root().children();
        let nodes = nodes.filter(|node| node.name_without_address() == "memory");
        nodes.flat_map(regions)
    }
}

/// Reads the ranges of a node's `reg`.
pub fn regions<'a>(node: FdtNode<'a>) -> impl Iterator<Item = Region> + 'a {
    let registers = node.reg().ok().flatten();
    registers.into_iter().flatten().filter_map(|register| {
        Some(Region {
            start: register.address().ok()?,
            size_bytes: register.size().ok()?,
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{Tree, size_of_blob};
    use crate::machine::{HardwareId, MAX_CPUS};
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    /// A property's name and value.
    pub type Value<'a> = (&'a str, &'a [u8]);

    fn node(name: &str, values: &[Value], children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
        let mut builder = DeviceTreeNode::builder(name).unwrap();
        for (name, value) in values {
            builder = builder.property(DeviceTreeProperty::new(*name, *value).unwrap());
        }
        let mut node = builder.build();
        children.into_iter().for_each(|child| node.add_child(child));
        node
    }

    /// Big-endian cells.
    pub fn words<const N: usize>(values: [u32; N]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_be_bytes())
            .collect()
    }

    fn cpu(id: u32) -> DeviceTreeNode {
        let reg = words([id]);
        let name = format!("cpu@{id}");
        node(&name, &[("device_type", b"cpu\0"), ("reg", &reg)], vec![])
    }

    /// A machine's tree with this interrupt controller.
    pub fn blob(gic: &[Value]) -> Vec<u8> {
        blob_of(vec![cpu(0), cpu(1)], gic)
    }

    fn blob_of(cpus: Vec<DeviceTreeNode>, gic: &[Value]) -> Vec<u8> {
        let cells = [
            ("#address-cells", &words([2])[..]),
            ("#size-cells", &words([2])[..]),
        ];
        let cpu_cells = [
            ("#address-cells", &words([1])[..]),
            ("#size-cells", &words([0])[..]),
            ("timebase-frequency", &words([10_000_000])[..]),
        ];
        let memory = [("reg", &words([0, 0x8000_0000, 0, 0x800_0000])[..])];
        let mut tree = DeviceTree::new();
        tree.root = node(
            "",
            &cells,
            vec![
                node("cpus", &cpu_cells, cpus),
                node("memory@80000000", &memory, vec![]),
                node("chosen", &[("bootargs", b"echo quiet\0")], vec![]),
                node("psci", &[("method", b"smc\0")], vec![]),
                node("intc@8000000", gic, vec![]),
            ],
        );
        tree.to_dtb()
    }

    #[test]
    fn the_tree_gives_cpus_memory_and_words() {
        let blob = blob(&[]);
        let machine = Tree::new(&blob).unwrap().machine(HardwareId(1));
        assert_eq!(machine.cpus.as_slice(), [HardwareId(1), HardwareId(0)]);
        assert_eq!(machine.memory_mib(), 128);
        assert!(machine.command_line.has("echo") && !machine.command_line.has("spin"));
    }

    #[test]
    fn cpus_beyond_the_limit_are_left_alone() {
        let blob = blob_of((0..100).map(cpu).collect(), &[]);
        let machine = Tree::new(&blob).unwrap().machine(HardwareId(0));
        assert_eq!(machine.cpus.len(), MAX_CPUS);
    }

    #[test]
    fn the_tree_gives_the_timebase() {
        let blob = blob(&[]);
        assert_eq!(Tree::new(&blob).unwrap().timebase_hz(), Some(10_000_000));
    }

    #[test]
    fn a_blob_states_its_size_or_is_none() {
        assert_eq!(
            size_of_blob([0xd00d_feed_u32.to_be(), 100_u32.to_be()]),
            Some(100)
        );
        assert_eq!(size_of_blob([0, 100_u32.to_be()]), None);
        assert_eq!(size_of_blob([0xd00d_feed_u32.to_be(), u32::MAX]), None);
    }

    #[test]
    fn a_damaged_tree_is_refused() {
        let mut blob = blob(&[]);
        blob.truncate(64);
        assert!(Tree::new(&blob).is_err());
    }
}
