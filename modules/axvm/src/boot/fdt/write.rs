// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes a device tree.
//!
//! A thin layer over the `vm-fdt` crate: nodes are closures, errors are
//! [`ImageError`]s, and the command line is checked where it enters.

use alloc::{format, string::ToString, vec::Vec};

use vm_fdt::{Error as WriterError, FdtWriter, FdtWriterNode};

use super::MAX_CMDLINE_BYTES;
use crate::{
    AxVCpuHal, RamRegion,
    boot::{FdtFault, GuestRange, ImageError, Placement},
};

/// What `/chosen` says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chosen<'a> {
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Where the initrd lies.
    pub initrd: Option<GuestRange>,
    /// The console's path; a tree that was given keeps its own.
    pub stdout_path: Option<&'a str>,
    /// Random bytes that the kernel begins its own generator with.
    pub rng_seed: Option<[u8; 32]>,
    /// A random number by which the kernel chooses its place.
    pub kaslr_seed: Option<u64>,
}

impl<'a> Chosen<'a> {
    /// Makes what a placement and a command line say, with a seed of its own.
    pub fn new<H: AxVCpuHal>(cmdline: &'a str, placement: &Placement<'_>, hal: &H) -> Self {
        Self {
            cmdline,
            initrd: placement.initrd.map(|initrd| initrd.range),
            rng_seed: random(hal),
            ..Self::default()
        }
    }
}

/// Returns random bytes, if the host has any.
pub fn random<H: AxVCpuHal, const N: usize>(hal: &H) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hal.fill_random(&mut bytes).then_some(bytes)
}

/// A device tree that is being written.
#[derive(Debug)]
pub struct Fdt {
    pub(super) writer: FdtWriter,
}

impl Fdt {
    /// Writes a tree whose addresses and sizes have two cells; `body` fills the root.
    pub fn write(
        model: &str,
        compatible: &str,
        body: impl FnOnce(&mut Self) -> Result<(), ImageError>,
    ) -> Result<Vec<u8>, ImageError> {
        let writer = FdtWriter::new().map_err(explain)?;
        let mut fdt = Self { writer };
        fdt.node("", |fdt| {
            fdt.u32("#address-cells", 2)?;
            fdt.u32("#size-cells", 2)?;
            fdt.string("compatible", compatible)?;
            fdt.string("model", model)?;
            body(fdt)
        })?;
        fdt.writer.finish().map_err(explain)
    }

    /// Writes a node; its properties come before its children.
    pub fn node(
        &mut self,
        name: &str,
        body: impl FnOnce(&mut Self) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        let node = self.open(name)?;
        body(self)?;
        self.close(node)
    }

    /// Begins a node that [`Self::close`] ends.
    pub(super) fn open(&mut self, name: &str) -> Result<FdtWriterNode, ImageError> {
        self.writer.begin_node(name).map_err(explain)
    }

    /// Ends a node.
    pub(super) fn close(&mut self, node: FdtWriterNode) -> Result<(), ImageError> {
        self.writer.end_node(node).map_err(explain)
    }

    /// Writes a property without a value.
    pub fn flag(&mut self, name: &str) -> Result<(), ImageError> {
        self.bytes(name, &[])
    }

    /// Writes a number of one cell.
    pub fn u32(&mut self, name: &str, value: u32) -> Result<(), ImageError> {
        self.bytes(name, &value.to_be_bytes())
    }

    /// Writes a number of two cells.
    pub fn u64(&mut self, name: &str, value: u64) -> Result<(), ImageError> {
        self.bytes(name, &value.to_be_bytes())
    }

    /// Writes cells.
    pub fn cells(&mut self, name: &str, cells: &[u32]) -> Result<(), ImageError> {
        self.writer.property_array_u32(name, cells).map_err(explain)
    }

    /// Writes a string.
    pub fn string(&mut self, name: &str, value: &str) -> Result<(), ImageError> {
        self.writer.property_string(name, value).map_err(explain)
    }

    /// Writes a list of strings.
    pub fn strings(&mut self, name: &str, values: &[&str]) -> Result<(), ImageError> {
        let values = values.iter().map(ToString::to_string).collect();
        self.writer
            .property_string_list(name, values)
            .map_err(explain)
    }

    /// Writes raw bytes.
    pub fn bytes(&mut self, name: &str, value: &[u8]) -> Result<(), ImageError> {
        self.writer.property(name, value).map_err(explain)
    }

    /// Writes the node's phandle, which no other node may have.
    pub fn phandle(&mut self, phandle: u32) -> Result<(), ImageError> {
        self.writer.property_phandle(phandle).map_err(explain)
    }

    /// Writes `reg` with ranges of two cells for address and size each.
    pub fn reg(&mut self, ranges: &[GuestRange]) -> Result<(), ImageError> {
        let numbers: Vec<u64> = ranges
            .iter()
            .flat_map(|range| [range.first(), range.size_bytes])
            .collect();
        self.writer
            .property_array_u64("reg", &numbers)
            .map_err(explain)
    }

    /// Writes one `/memory` node for each region.
    pub fn memory(&mut self, ram: &[RamRegion]) -> Result<(), ImageError> {
        for &region in ram {
            let range = GuestRange::from(region);
            self.node(&format!("memory@{:x}", range.first()), |fdt| {
                fdt.string("device_type", "memory")?;
                fdt.reg(&[range])
            })?;
        }
        Ok(())
    }

    /// Writes `/chosen`.
    pub fn chosen(&mut self, chosen: &Chosen<'_>) -> Result<(), ImageError> {
        self.node("chosen", |fdt| {
            if let Some(path) = chosen.stdout_path {
                fdt.string("stdout-path", path)?;
            }
            fdt.chosen_properties(chosen)
        })
    }

    /// Writes what of `/chosen` follows from the VM's file.
    pub(super) fn chosen_properties(&mut self, chosen: &Chosen<'_>) -> Result<(), ImageError> {
        check_cmdline(chosen.cmdline)?;
        if !chosen.cmdline.is_empty() {
            self.string("bootargs", chosen.cmdline)?;
        }
        if let Some(initrd) = chosen.initrd {
            self.u64("linux,initrd-start", initrd.first())?;
            self.u64("linux,initrd-end", initrd.end())?;
        }
        if let Some(seed) = &chosen.rng_seed {
            self.bytes("rng-seed", seed)?;
        }
        if let Some(seed) = chosen.kaslr_seed {
            self.u64("kaslr-seed", seed)?;
        }
        Ok(())
    }
}

/// Refuses a command line that no tree can carry.
pub(super) fn check_cmdline(cmdline: &str) -> Result<(), ImageError> {
    if cmdline.len() > MAX_CMDLINE_BYTES {
        return Err(ImageError::CmdlineTooLong {
            size_bytes: cmdline.len(),
            max_bytes: MAX_CMDLINE_BYTES,
        });
    }
    if cmdline.contains('\0') {
        return Err(ImageError::CmdlineNul);
    }
    Ok(())
}

/// Says in this crate's words why the writer refused.
fn explain(error: WriterError) -> ImageError {
    ImageError::FdtWritten(match error {
        WriterError::InvalidString => FdtFault::Nul,
        WriterError::InvalidNodeName | WriterError::InvalidPropertyName => FdtFault::Name,
        WriterError::NodeDepthTooLarge => FdtFault::Depth,
        WriterError::DuplicatePhandle => FdtFault::Phandle,
        WriterError::InvalidMemoryReservation | WriterError::OverlappingMemoryReservations => {
            FdtFault::Reservation
        }
        WriterError::PropertyValueTooLarge | WriterError::TotalSizeTooLarge => FdtFault::Count,
        WriterError::PropertyBeforeBeginNode
        | WriterError::PropertyAfterEndNode
        | WriterError::OutOfOrderEndNode
        | WriterError::UnclosedNode => FdtFault::Order,
    })
}

#[cfg(test)]
mod tests {
    use dtoolkit::{Node, Property, fdt::Fdt as Reader};

    use super::*;
    use crate::boot::samples::region;

    #[test]
    fn the_tree_is_what_a_reader_finds_in_it() {
        let blob = Fdt::write("machine", "some,machine", |fdt| {
            fdt.memory(&[region(0x8000_0000, 64 << 20), region(1 << 32, 2 << 20)])?;
            fdt.chosen(&Chosen {
                cmdline: "console=ttyS0",
                initrd: Some(GuestRange::new(0x8200_0000, 0x1001)),
                stdout_path: Some("/soc/serial@10000000"),
                rng_seed: Some([7; 32]),
                kaslr_seed: Some(9),
            })
        })
        .unwrap();
        let tree = Reader::new(&blob).unwrap();
        let value = |path: &str, name: &str| {
            let node = tree.find_node(path).unwrap();
            node.property(name).unwrap().value().to_vec()
        };
        assert_eq!(value("/", "#address-cells"), [0, 0, 0, 2]);
        assert_eq!(value("/", "compatible"), b"some,machine\0");
        let reg = value("/memory@80000000", "reg");
        assert_eq!(reg, [0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]);
        assert!(tree.find_node("/memory@100000000").is_some());
        assert_eq!(value("/chosen", "bootargs"), b"console=ttyS0\0");
        assert_eq!(
            value("/chosen", "linux,initrd-start"),
            0x8200_0000u64.to_be_bytes()
        );
        assert_eq!(
            value("/chosen", "linux,initrd-end"),
            0x8200_1001u64.to_be_bytes()
        );
        assert_eq!(value("/chosen", "rng-seed"), [7; 32]);
        assert_eq!(value("/chosen", "kaslr-seed"), 9u64.to_be_bytes());
    }

    #[test]
    fn a_command_line_with_a_nul_or_without_end_is_refused() {
        let write = |cmdline: &str| {
            let chosen = Chosen {
                cmdline,
                ..Chosen::default()
            };
            Fdt::write("", "", |fdt| fdt.chosen(&chosen)).map(|_| ())
        };
        assert_eq!(write("a\0b"), Err(ImageError::CmdlineNul));
        let (size_bytes, max_bytes) = (MAX_CMDLINE_BYTES + 1, MAX_CMDLINE_BYTES);
        let expected = ImageError::CmdlineTooLong {
            size_bytes,
            max_bytes,
        };
        assert_eq!(write(&"x".repeat(size_bytes)), Err(expected));
        assert_eq!(write(&"x".repeat(max_bytes)), Ok(()));
    }

    #[test]
    fn mistakes_of_a_machine_are_named() {
        let fault = |body: fn(&mut Fdt) -> Result<(), ImageError>| {
            let ImageError::FdtWritten(fault) = Fdt::write("", "", body).unwrap_err() else {
                panic!("not the writer's error");
            };
            fault
        };
        assert_eq!(fault(|fdt| fdt.flag("bad name")), FdtFault::Name);
        assert_eq!(fault(|fdt| fdt.node("a@1@2", |_| Ok(()))), FdtFault::Name);
        assert_eq!(
            fault(|fdt| fdt.phandle(1).and(fdt.phandle(1))),
            FdtFault::Phandle
        );
        let late = |fdt: &mut Fdt| fdt.node("a", |_| Ok(())).and(fdt.flag("late"));
        assert_eq!(fault(late), FdtFault::Order);
    }
}
