// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The device tree that a VM's file names instead of the derived one.
//!
//! It is read by the `dtoolkit` crate, which refuses what is damaged, and
//! written anew with everything it says but the command line, the initrd and
//! the seeds in `/chosen`: those are the VM file's, and new at each boot. The nodes that dtc adds for overlays,
//! whose names begin with two underscores, are left out, because kernels never
//! read them and the writer refuses their names.
//!
//! Spec: Devicetree Specification 0.4, "Flattened Devicetree (DTB) Format".

use alloc::vec::Vec;

use dtoolkit::{
    Node, Property,
    error::{FdtErrorKind, FdtParseError},
    fdt::{Fdt as Given, FdtNode},
};
use vm_fdt::{FdtReserveEntry, FdtWriter};

use super::{Chosen, Fdt, MAX_BYTES};
use crate::boot::{FdtFault, GuestRange, ImageError, bytes::length};

const MAGIC: &[u8] = b"\xd0\x0d\xfe\xed";
/// Offset of the header's `totalsize`.
const TOTAL_SIZE: usize = 4;
/// More reservations than any tree has.
const MAX_RESERVATIONS: usize = 256;
/// More nodes and properties than any tree has; bounds what the writer allocates.
const MAX_ITEMS: usize = 32 << 10;

/// Properties of `/chosen` that follow from the VM's file, and those that must
/// differ from boot to boot.
const REPLACED: [&str; 5] = [
    "bootargs",
    "linux,initrd-start",
    "linux,initrd-end",
    "rng-seed",
    "kaslr-seed",
];

/// Checks a given tree and returns it with the right command line and initrd;
/// an empty command line keeps the tree's own.
pub fn given(dtb: &[u8], chosen: &Chosen<'_>) -> Result<Vec<u8>, ImageError> {
    let blob = exact(dtb)?;
    let tree = Given::new(blob).map_err(|error| ImageError::FdtGiven(explain(&error)))?;
    let mut copy = Copy {
        fdt: Fdt {
            writer: new_writer(tree).map_err(given_fault)?,
        },
        chosen,
        items: 0,
    };
    copy.node(tree.root(), Place::Root).map_err(given_fault)?;
    copy.fdt
        .writer
        .finish()
        .map_err(|_| ImageError::FdtGiven(FdtFault::Count))
}

/// Returns how much room a given tree needs once its `/chosen` is right.
///
/// Names that dtc made share bytes do not share them any more, so that only
/// the written tree tells.
pub(in super::super) fn given_room_bytes(dtb: &[u8], cmdline: &str) -> Result<u64, ImageError> {
    let chosen = Chosen {
        cmdline,
        initrd: Some(GuestRange::new(0, 0)),
        stdout_path: None,
        rng_seed: Some([0; 32]),
        kaslr_seed: Some(0),
    };
    let size_bytes = length(&given(dtb, &chosen)?);
    match size_bytes {
        ..=MAX_BYTES => Ok(size_bytes),
        _ => Err(ImageError::FdtTooLarge {
            size_bytes,
            max_bytes: MAX_BYTES,
        }),
    }
}

/// Returns the tree without what follows it in the file.
fn exact(dtb: &[u8]) -> Result<&[u8], ImageError> {
    let file_bytes = length(dtb);
    if file_bytes > MAX_BYTES {
        return Err(ImageError::FdtTooLarge {
            size_bytes: file_bytes,
            max_bytes: MAX_BYTES,
        });
    }
    if !dtb.starts_with(MAGIC) {
        return Err(ImageError::FdtGiven(FdtFault::Magic));
    }
    let rest = dtb.get(TOTAL_SIZE..).unwrap_or_default();
    let stated = rest
        .first_chunk()
        .map_or(0, |&size| u32::from_be_bytes(size));
    dtb.get(..stated as usize)
        .ok_or(ImageError::FdtGiven(FdtFault::Length {
            stated_bytes: u64::from(stated),
            file_bytes,
        }))
}

/// Starts a tree with the same reservations.
fn new_writer(tree: Given<'_>) -> Result<FdtWriter, ImageError> {
    let wrong = ImageError::FdtGiven(FdtFault::Reservation);
    let mut entries = Vec::new();
    for reservation in tree.memory_reservations() {
        if entries.len() == MAX_RESERVATIONS {
            return Err(ImageError::FdtGiven(FdtFault::Count));
        }
        let entry = FdtReserveEntry::new(reservation.address(), reservation.size());
        entries.push(entry.map_err(|_| wrong)?);
    }
    let mut writer = FdtWriter::new_with_mem_reserv(&entries).map_err(|_| wrong)?;
    writer.set_boot_cpuid_phys(tree.boot_cpuid_phys());
    Ok(writer)
}

/// Which node is being copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Chosen,
    Elsewhere,
}

/// A tree that is being copied.
struct Copy<'a> {
    fdt: Fdt,
    chosen: &'a Chosen<'a>,
    items: usize,
}

impl Copy<'_> {
    /// Copies a node; the writer ends the recursion at 64 levels.
    fn node(&mut self, node: FdtNode<'_>, place: Place) -> Result<(), ImageError> {
        self.count()?;
        let open = self.fdt.open(node.name())?;
        for property in node.properties() {
            self.property(property.name(), property.value(), place)?;
        }
        if place == Place::Chosen {
            self.fdt.chosen_properties(self.chosen)?;
        }
        let mut has_chosen = false;
        for child in node.children().filter(|child| !is_for_overlays(child)) {
            let is_chosen = place == Place::Root && child.name() == "chosen";
            has_chosen |= is_chosen;
            let place = if is_chosen {
                Place::Chosen
            } else {
                Place::Elsewhere
            };
            self.node(child, place)?;
        }
        if place == Place::Root && !has_chosen {
            self.fdt.chosen(&Chosen {
                stdout_path: None,
                ..*self.chosen
            })?;
        }
        self.fdt.close(open)
    }

    fn property(&mut self, name: &str, value: &[u8], place: Place) -> Result<(), ImageError> {
        self.count()?;
        if place == Place::Chosen && self.is_replaced(name) {
            return Ok(());
        }
        self.fdt.bytes(name, value)
    }

    /// Tells whether the VM's file has its own value for a property of `/chosen`.
    fn is_replaced(&self, name: &str) -> bool {
        let keeps_cmdline = self.chosen.cmdline.is_empty() && name == "bootargs";
        REPLACED.contains(&name) && !keeps_cmdline
    }

    fn count(&mut self) -> Result<(), ImageError> {
        self.items = self.items.saturating_add(1);
        match self.items {
            ..=MAX_ITEMS => Ok(()),
            _ => Err(ImageError::FdtGiven(FdtFault::Count)),
        }
    }
}

fn is_for_overlays(node: &FdtNode<'_>) -> bool {
    node.name().starts_with("__")
}

/// Blames the tree that was given for what the writer refused in it.
fn given_fault(error: ImageError) -> ImageError {
    match error {
        ImageError::FdtWritten(fault) => ImageError::FdtGiven(fault),
        other => other,
    }
}

/// Says in this crate's words why the reader refused.
fn explain(error: &FdtParseError) -> FdtFault {
    match error.kind {
        FdtErrorKind::UnsupportedVersion(version) => FdtFault::Version(version),
        FdtErrorKind::InvalidNodeName | FdtErrorKind::InvalidPropertyName => FdtFault::Name,
        FdtErrorKind::MemReserveInvalid | FdtErrorKind::MemReserveNotTerminated => {
            FdtFault::Reservation
        }
        _ => FdtFault::Structure,
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::ToString, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::boot::samples::region;

    /// A tree with a command line, an initrd and a device.
    fn sample() -> Vec<u8> {
        Fdt::write("machine", "some,machine", |fdt| {
            fdt.memory(&[region(0x8000_0000, 64 << 20)])?;
            fdt.chosen(&Chosen {
                cmdline: "old",
                initrd: Some(GuestRange::new(0x1000, 1)),
                stdout_path: Some("/soc/uart"),
                rng_seed: Some([1; 32]),
                kaslr_seed: None,
            })?;
            fdt.node("soc", |fdt| fdt.node("uart", |fdt| fdt.phandle(7)))
        })
        .unwrap()
    }

    const NEW: Chosen<'static> = Chosen {
        cmdline: "new",
        initrd: Some(GuestRange::new(0x8000_0000, 0x10)),
        stdout_path: None,
        rng_seed: Some([7; 32]),
        kaslr_seed: Some(9),
    };

    fn text(blob: &[u8]) -> alloc::string::String {
        Given::new(blob).unwrap().to_string()
    }

    fn fault(dtb: &[u8]) -> FdtFault {
        match given(dtb, &NEW) {
            Err(ImageError::FdtGiven(fault)) => fault,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn all_but_the_command_line_and_the_initrd_stays() {
        let text = text(&given(&sample(), &NEW).unwrap());
        for kept in [
            "some,machine",
            "memory@80000000",
            "phandle = <0x07>",
            "/soc/uart",
        ] {
            assert!(text.contains(kept), "{kept} is not in {text}");
        }
        assert!(text.contains("bootargs = \"new\"") && !text.contains("old"));
        assert!(text.contains("linux,initrd-start = <0x00 0x80000000>"));
        assert_eq!(text.matches("linux,initrd-start").count(), 1);
        assert!(text.contains("rng-seed = <0x7070707"));
        assert_eq!(text.matches("rng-seed").count(), 1);
    }

    #[test]
    fn no_command_line_keeps_the_tree_s_own_and_no_initrd_removes_it() {
        let text = text(&given(&sample(), &Chosen::default()).unwrap());
        assert!(text.contains("bootargs = \"old\""));
        assert!(!text.contains("initrd"));
    }

    #[test]
    fn a_tree_without_chosen_gets_one() {
        let tree = Fdt::write("", "", |_| Ok(())).unwrap();
        let text = text(&given(&tree, &NEW).unwrap());
        assert!(text.contains("chosen {") && text.contains("bootargs = \"new\""));
    }

    #[test]
    fn reservations_stay() {
        let entry = FdtReserveEntry::new(0x8000_0000, 0x1000).unwrap();
        let mut writer = FdtWriter::new_with_mem_reserv(&[entry]).unwrap();
        let root = writer.begin_node("").unwrap();
        writer.end_node(root).unwrap();
        let tree = writer.finish().unwrap();
        let text = text(&given(&tree, &NEW).unwrap());
        assert!(text.contains("/memreserve/ 0x80000000 0x1000;"));
    }

    #[test]
    fn the_room_is_exactly_what_the_tree_takes() {
        let room = given_room_bytes(&sample(), "new").unwrap();
        assert_eq!(room, length(&given(&sample(), &NEW).unwrap()));
    }

    #[test]
    fn bytes_behind_the_tree_do_no_harm() {
        let mut dtb = sample();
        dtb.resize(dtb.len() + 4096, 0xff);
        assert_eq!(given(&dtb, &NEW), given(&sample(), &NEW));
    }

    #[test]
    fn damaged_trees_are_refused_with_the_reason() {
        let broken = |offset: usize, byte: u8| {
            let mut dtb = sample();
            dtb[offset] = byte;
            fault(&dtb)
        };
        assert_eq!(broken(0, 0), FdtFault::Magic);
        assert_eq!(broken(23, 16), FdtFault::Version(16));
        assert_eq!(broken(11, 0xf1), FdtFault::Structure);
        let dtb = sample();
        let (stated_bytes, file_bytes) = (length(&dtb), length(&dtb) - 1);
        let expected = FdtFault::Length {
            stated_bytes,
            file_bytes,
        };
        assert_eq!(fault(&dtb[..dtb.len() - 1]), expected);
        assert_eq!(fault(b"/dts-v1/;"), FdtFault::Magic);
        assert_eq!(fault(b""), FdtFault::Magic);
    }

    #[test]
    fn a_tree_over_the_limits_is_refused() {
        let dtb = vec![0; (2 << 20) + 1];
        let error = given(&dtb, &NEW).unwrap_err();
        assert!(matches!(error, ImageError::FdtTooLarge { .. }));
        let many = Fdt::write("", "", |fdt| {
            (0..MAX_ITEMS).try_for_each(|i| fdt.node(&format!("n{i}"), |_| Ok(())))
        });
        assert_eq!(fault(&many.unwrap()), FdtFault::Count);
    }

    /// A chain of nodes, each in the one before.
    fn chain(depth: usize) -> Vec<u8> {
        let mut dtb = Fdt::write("", "", |_| Ok(())).unwrap();
        // Behind the root's properties; what follows is END_NODE, END, strings.
        let strings = u32::from_be_bytes(dtb[12..16].try_into().unwrap()) as usize;
        let (begin, end) = (
            b"\0\0\0\x01a\0\0\0".repeat(depth),
            b"\0\0\0\x02".repeat(depth),
        );
        let added = begin.len() + end.len();
        dtb.splice(strings - 8..strings - 8, begin.into_iter().chain(end));
        for field in [4, 12, 36] {
            let old = u32::from_be_bytes(dtb[field..field + 4].try_into().unwrap());
            dtb[field..field + 4].copy_from_slice(&(old + added as u32).to_be_bytes());
        }
        dtb
    }

    #[test]
    fn nodes_nested_too_deeply_end_in_an_error_and_not_in_the_stack() {
        assert!(given(&chain(60), &NEW).is_ok());
        assert_eq!(fault(&chain(64)), FdtFault::Depth);
        assert_eq!(fault(&chain(100_000)), FdtFault::Depth);
    }

    proptest! {
        #[test]
        fn no_change_of_a_tree_panics(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        ) {
            let mut dtb = sample();
            let size = dtb.len();
            for (index, value) in changes {
                dtb[index.index(size)] = value;
            }
            if let Ok(blob) = given(&dtb, &NEW) {
                prop_assert!(Given::new(&blob).is_ok());
            }
        }

        #[test]
        fn no_extreme_field_panics(
            word in any::<prop::sample::Index>(),
            value in prop::sample::select(vec![0, 1, 2, 3, 4, 9, 0x7fff_ffff, u32::MAX]),
        ) {
            let mut dtb = sample();
            let at = word.index(dtb.len() / 4) * 4;
            dtb[at..at + 4].copy_from_slice(&value.to_be_bytes());
            let _ = given(&dtb, &NEW);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = given(&bytes, &NEW);
        }
    }
}
