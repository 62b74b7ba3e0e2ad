// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine's own interrupt files, as its device tree describes them.
//!
//! Read once by `host`. Guests may have a file of the hardware only if it has
//! exactly as many identities as they are told.
//!
//! Spec: Linux bindings interrupt-controller/riscv,imsics and riscv/cpus.

use alloc::vec::Vec;

use dtoolkit::{
    Node, Property,
    fdt::{Fdt, FdtNode},
};

use crate::irqchip::imsic::{Identities, guest_files::HostPages};

/// The supervisor's external interrupt at a hart.
const SUPERVISOR_EXTERNAL: u32 = 9;
const GROUP_INDEX_SHIFT: u32 = 24;

/// The supervisor level's IMSICs.
#[derive(Clone, Debug)]
pub(crate) struct HostFiles {
    pages: HostPages,
    /// The harts' ids in the order of their pages.
    harts: Vec<u64>,
}

impl HostFiles {
    /// Finds them in a device tree.
    pub(crate) fn read(tree: &Fdt<'_>) -> Option<Self> {
        let soc = tree.find_node("/soc")?;
        let node = soc.children().find(is_supervisor_level)?;
        let number = |name| node.property(name)?.value_as::<u32>().ok();
        let own = number("riscv,num-ids")?;
        let identities = number("riscv,num-guest-ids").unwrap_or(own);
        if identities != u32::from(Identities::VIRT.count()) {
            return None;
        }
        let harts: Option<Vec<u64>> = wires(&node)?
            .chunks_exact(2)
            .map(|wire| hart_of(tree, *wire.first()?))
            .collect();
        let harts = harts?;
        let bits = usize::BITS.saturating_sub(harts.len().saturating_sub(1).leading_zeros());
        Some(Self {
            pages: HostPages {
                start: start(&node)?,
                guest_index_bits: number("riscv,guest-index-bits").unwrap_or(0),
                hart_index_bits: number("riscv,hart-index-bits").unwrap_or(bits),
                group_index_shift: number("riscv,group-index-shift").unwrap_or(GROUP_INDEX_SHIFT),
            },
            harts,
        })
    }

    /// Returns how many harts have files.
    pub(crate) fn hart_count(&self) -> usize {
        self.harts.len()
    }

    /// Returns the page of a file of a hart.
    pub(crate) fn page(&self, hart: u64, number: u32) -> Option<u64> {
        let index = self.harts.iter().position(|id| *id == hart)?;
        Some(self.pages.page(index as u64, number))
    }
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map_or(0, u32::from_be_bytes);
    bytes.chunks_exact(4).map(word).collect()
}

fn wires(node: &FdtNode<'_>) -> Option<Vec<u32>> {
    Some(words(node.property("interrupts-extended")?.value()))
}

fn start(node: &FdtNode<'_>) -> Option<u64> {
    let reg = words(node.property("reg")?.value());
    let (high, low) = (*reg.first()?, *reg.get(1)?);
    Some((u64::from(high) << 32) | u64::from(low))
}

fn is_supervisor_level(node: &FdtNode<'_>) -> bool {
    let is_imsic = node.property("compatible").is_some_and(|names| {
        let mut names = names.value().split(|byte| *byte == 0);
        names.any(|name| name == b"riscv,imsics")
    });
    is_imsic && wires(node).is_some_and(|wires| wires.get(1) == Some(&SUPERVISOR_EXTERNAL))
}

/// Returns the id of the hart whose interrupt controller has this phandle.
fn hart_of(tree: &Fdt<'_>, phandle: u32) -> Option<u64> {
    let cpus = tree.find_node("/cpus")?;
    let has_phandle = |node: &FdtNode<'_>| {
        let own = node.property("phandle");
        own.and_then(|own| own.value_as::<u32>().ok()) == Some(phandle)
    };
    let cpu = cpus
        .children()
        .find(|cpu| cpu.children().any(|child| has_phandle(&child)))?;
    let id = cpu.property("reg")?.value_as::<u32>().ok()?;
    Some(id.into())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use axvm::boot::{GuestRange, fdt};

    /// Writes a tree of two harts, the second one's file first.
    fn tree(identities: u32, interrupt: u32) -> Vec<u8> {
        fdt::Fdt::write("model", "compatible", |fdt| {
            fdt.node("cpus", |fdt| {
                for (name, id, phandle) in [("cpu@0", 0, 4), ("cpu@5", 5, 2)] {
                    fdt.node(name, |fdt| {
                        fdt.u32("reg", id)?;
                        fdt.node("interrupt-controller", |fdt| fdt.phandle(phandle))
                    })?;
                }
                Ok(())
            })?;
            fdt.node("soc", |fdt| {
                fdt.node("imsics@28000000", |fdt| {
                    fdt.strings("compatible", &["riscv,imsics"])?;
                    fdt.cells("interrupts-extended", &[2, interrupt, 4, interrupt])?;
                    fdt.reg(&[GuestRange::new(0x2800_0000, 0x1_0000)])?;
                    fdt.u32("riscv,guest-index-bits", 3)?;
                    fdt.u32("riscv,num-ids", identities)
                })
            })
        })
        .unwrap()
    }

    impl HostFiles {
        /// Makes files whose pages follow each other from an address, two of each of
        /// two harts and their own.
        pub(crate) fn at(start: u64) -> Self {
            let pages = HostPages {
                start,
                guest_index_bits: 2,
                hart_index_bits: 1,
                group_index_shift: GROUP_INDEX_SHIFT,
            };
            let harts = [0, 1].into();
            Self { pages, harts }
        }
    }

    fn read(identities: u32, interrupt: u32) -> Option<HostFiles> {
        HostFiles::read(&Fdt::new(&tree(identities, interrupt)).unwrap())
    }

    #[test]
    fn each_hart_has_its_pages_where_the_tree_says() {
        let files = read(255, 9).unwrap();
        assert_eq!(files.hart_count(), 2);
        assert_eq!(files.page(5, 0), Some(0x2800_0000));
        assert_eq!(files.page(0, 2), Some(0x2800_a000));
        assert_eq!(files.page(1, 0), None);
    }

    #[test]
    fn files_of_another_size_or_of_machine_mode_are_not_for_guests() {
        assert!(read(63, 9).is_none());
        assert!(read(255, 11).is_none());
    }
}
