// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the device tree says of Arm's own: the PSCI conduit and the GIC.
//!
//! Called by `arch::aarch64::machine`.
//!
//! Spec: Devicetree bindings "arm/psci", "interrupt-controller/arm,gic" and
//! "interrupt-controller/arm,gic-v3".

use dtoolkit::fdt::FdtNode;
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property};

use super::fdt::{Tree, regions};
use crate::machine::Region;

/// How PSCI is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// By `hvc`.
    Hvc,
    /// By `smc`.
    Smc,
}

/// The machine's interrupt controller and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gic {
    /// GICv2: distributor and CPU interface.
    V2 {
        /// Base of GICD.
        distributor: usize,
        /// Base of GICC.
        cpu_interface: usize,
    },
    /// GICv3: distributor and the first region of redistributors.
    V3 {
        /// Base of GICD.
        distributor: usize,
        /// The frames of GICR.
        redistributors: Region,
    },
}

/// Reads how PSCI is called.
pub fn psci_conduit(tree: &Tree) -> Option<Conduit> {
    let psci = tree.blob().find_node("/psci")?;
    match psci.property("method")?.value_as::<&str>().ok()? {
        "hvc" => Some(Conduit::Hvc),
        "smc" => Some(Conduit::Smc),
        _ => None,
    }
}

/// Reads which interrupt controller there is.
pub fn gic(tree: &Tree) -> Option<Gic> {
    let root = tree.blob().root();
    root.children().find_map(|node| gic_of(&node))
}

fn gic_of(node: &FdtNode) -> Option<Gic> {
    const V2: [&str; 2] = ["arm,cortex-a15-gic", "arm,gic-400"];
    let mut frames = regions(*node);
    let distributor = frames.next()?.start as usize;
    let second = frames.next()?;
    if node.is_compatible("arm,gic-v3") {
        return Some(Gic::V3 {
            distributor,
            redistributors: second,
        });
    }
    let is_v2 = V2.iter().any(|name| node.is_compatible(name));
    is_v2.then_some(Gic::V2 {
        distributor,
        cpu_interface: second.start as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::{Conduit, Gic, gic, psci_conduit};
    use crate::firmware::fdt::Tree;
    use crate::firmware::fdt::tests::{blob, words};
    use crate::machine::Region;

    fn gic_blob(compatible: &[u8]) -> Vec<u8> {
        let frames = words([0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000]);
        blob(&[("compatible", compatible), ("reg", &frames)])
    }

    #[test]
    fn the_conduit_is_read_and_a_missing_gic_is_none() {
        let blob = blob(&[]);
        let tree = Tree::new(&blob).unwrap();
        assert_eq!(psci_conduit(&tree), Some(Conduit::Smc));
        assert_eq!(gic(&tree), None);
    }

    #[test]
    fn both_gics_are_told_apart() {
        let blob = gic_blob(b"arm,gic-v3\0");
        let redistributors = Region {
            start: 0x80a_0000,
            size_bytes: 0xf6_0000,
        };
        let v3 = Gic::V3 {
            distributor: 0x800_0000,
            redistributors,
        };
        assert_eq!(gic(&Tree::new(&blob).unwrap()), Some(v3));
        let blob = gic_blob(b"arm,cortex-a15-gic\0");
        let v2 = Gic::V2 {
            distributor: 0x800_0000,
            cpu_interface: 0x80a_0000,
        };
        assert_eq!(gic(&Tree::new(&blob).unwrap()), Some(v2));
    }
}
