// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The advanced interrupt architecture in the guest's machine: where it is, and
//! what the device tree says of it.
//!
//! Addresses are those of QEMU's `virt`; nodes are what its current versions
//! write, which is what the bindings ask for, without machine level, as
//! the firmware hides that from the operating system.
//!
//! Spec: QEMU, "'virt' Generic Virtual Platform (RISC-V)", aia; Linux bindings
//! interrupt-controller/riscv,aplic and riscv,imsics.

use alloc::{format, vec::Vec};

use axvm::boot::{GuestRange, ImageError, fdt::Fdt};

use super::{
    aplic::SOURCES,
    imsic::{Identities, PAGE_BYTES},
};

/// Where the APLIC's supervisor-level domain is.
pub const APLIC_START: u64 = 0x0d00_0000;
/// How much of it there is.
pub const APLIC_BYTES: u64 = 0x8000;
/// Where the first hart's supervisor-level interrupt file takes messages; the
/// others follow, a page each.
pub const IMSIC_START: u64 = 0x2800_0000;

/// The supervisor's external interrupt at a hart.
const SUPERVISOR_EXTERNAL: u32 = 9;
const INTERRUPT_CELLS: usize = 2;
/// The trigger of a source whose interrupt is asserted while its wire is high.
const LEVEL_HIGH: u32 = 4;

/// Returns how much memory the interrupt files of so many harts take.
pub fn imsic_bytes(harts: usize) -> u64 {
    PAGE_BYTES.saturating_mul(harts as u64)
}

/// Returns the interrupt of a device that drives a source's wire, as its node has it.
pub fn interrupt_cells(source: u32) -> [u32; INTERRUPT_CELLS] {
    [source, LEVEL_HIGH]
}

/// Where a controller's interrupts go.
#[derive(Clone, Copy, Debug)]
pub enum Parent<'a> {
    /// By wire to the harts with interrupt controllers of these phandles.
    Harts(&'a [u32]),
    /// By messages to the IMSICs of this phandle.
    Imsics(u32),
}

/// Writes the node of the APLIC's domain.
pub fn aplic_node(fdt: &mut Fdt, phandle: u32, parent: Parent<'_>) -> Result<(), ImageError> {
    fdt.node(&format!("interrupt-controller@{APLIC_START:x}"), |fdt| {
        fdt.phandle(phandle)?;
        fdt.strings("compatible", &["qemu,aplic", "riscv,aplic"])?;
        fdt.u32("#address-cells", 0)?;
        fdt.u32("#interrupt-cells", INTERRUPT_CELLS as u32)?;
        fdt.flag("interrupt-controller")?;
        match parent {
            Parent::Harts(harts) => fdt.cells("interrupts-extended", &wires(harts)),
            Parent::Imsics(imsics) => fdt.u32("msi-parent", imsics),
        }?;
        fdt.reg(&[GuestRange::new(APLIC_START, APLIC_BYTES)])?;
        fdt.u32("riscv,num-sources", SOURCES as u32)
    })
}

/// Writes the node of the IMSICs of the harts whose interrupt controllers have
/// these phandles.
pub fn imsic_node(
    fdt: &mut Fdt,
    phandle: u32,
    harts: &[u32],
    identities: Identities,
) -> Result<(), ImageError> {
    fdt.node(&format!("interrupt-controller@{IMSIC_START:x}"), |fdt| {
        fdt.phandle(phandle)?;
        fdt.strings("compatible", &["qemu,imsics", "riscv,imsics"])?;
        fdt.u32("#interrupt-cells", 0)?;
        fdt.flag("interrupt-controller")?;
        fdt.flag("msi-controller")?;
        fdt.u32("#msi-cells", 0)?;
        fdt.cells("interrupts-extended", &wires(harts))?;
        fdt.reg(&[GuestRange::new(IMSIC_START, imsic_bytes(harts.len()))])?;
        fdt.u32("riscv,num-ids", identities.count().into())
    })
}

fn wires(harts: &[u32]) -> Vec<u32> {
    harts
        .iter()
        .flat_map(|&hart| [hart, SUPERVISOR_EXTERNAL])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(blob: &[u8], cells: &[u32]) -> bool {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        blob.windows(bytes.len()).any(|window| window == bytes)
    }

    fn has_text(blob: &[u8], text: &str) -> bool {
        blob.windows(text.len())
            .any(|window| window == text.as_bytes())
    }

    #[test]
    fn with_imsics_the_aplic_sends_messages() {
        let blob = Fdt::write("", "", |fdt| {
            imsic_node(fdt, 2, &[0x60, 0x61], Identities::VIRT)?;
            aplic_node(fdt, 1, Parent::Imsics(2))
        })
        .unwrap();
        assert_eq!(interrupt_cells(10), [10, 4]);
        for text in [
            "interrupt-controller@28000000\0",
            "qemu,imsics\0riscv,imsics\0",
            "interrupt-controller@d000000\0",
            "qemu,aplic\0riscv,aplic\0",
            "msi-parent\0",
            "#msi-cells\0",
        ] {
            assert!(has_text(&blob, text), "{text}");
        }
        assert!(contains(&blob, &[0x60, 9, 0x61, 9]));
        assert!(contains(&blob, &[0, 0x2800_0000, 0, 0x2000]));
        assert!(contains(&blob, &[0, 0x0d00_0000, 0, 0x8000]));
    }

    #[test]
    fn without_imsics_the_aplic_is_wired_to_the_harts() {
        let blob = Fdt::write("", "", |fdt| aplic_node(fdt, 1, Parent::Harts(&[0x60]))).unwrap();
        assert!(contains(&blob, &[0x60, 9]));
        assert!(has_text(&blob, "riscv,num-sources\0"));
        assert!(!has_text(&blob, "msi-parent\0"));
    }
}
