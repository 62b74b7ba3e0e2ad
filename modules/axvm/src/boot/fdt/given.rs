// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The device tree that a VM's file names instead of the derived one.
//!
//! It is read by the `dtoolkit` crate, which refuses what is damaged, and
//! written anew with everything it says but the command line and the initrd in
//! `/chosen`: those are the VM file's. The nodes that dtc adds for overlays,
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

use super::{
    super::{FdtFault, ImageError, bytes::length},
    Chosen, Fdt, MAX_BYTES,
    write::check_cmdline,
};

/// Offset of the header's `totalsize`.
const TOTAL_SIZE: usize = 4;
/// More reservations than any tree has.
const MAX_RESERVATIONS: usize = 256;
/// More nodes and properties than any tree has; bounds what the writer allocates.
const MAX_ITEMS: usize = 32 << 10;
/// Room for what is added: two addresses, a command line, the names of all three.
const ADDED_BYTES: u64 = 256;

/// Properties of `/chosen` that follow from the VM's file.
const REPLACED: [&str; 3] = ["bootargs", "linux,initrd-start", "linux,initrd-end"];

/// Checks a given tree and returns it with the right command line and initrd;
/// an empty command line keeps the tree's own.
pub fn given(dtb: &[u8], chosen: &Chosen<'_>) -> Result<Vec<u8>, ImageError> {
    let blob = exact(dtb)?;
    let tree = Given::new(blob).map_err(|error| ImageError::FdtGiven(explain(&error, blob)))?;
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
pub(in super::super) fn given_room_bytes(dtb: &[u8], cmdline: &str) -> Result<u64, ImageError> {
    check_cmdline(cmdline)?;
    let blob = exact(dtb)?;
    let added = ADDED_BYTES.saturating_add(cmdline.len() as u64);
    Ok(length(blob).saturating_add(added))
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
fn explain(error: &FdtParseError, blob: &[u8]) -> FdtFault {
    match error.kind {
        FdtErrorKind::InvalidMagic => FdtFault::Magic,
        FdtErrorKind::UnsupportedVersion(version) => FdtFault::Version(version),
        FdtErrorKind::InvalidNodeName | FdtErrorKind::InvalidPropertyName => FdtFault::Name,
        FdtErrorKind::InvalidLength if blob.is_empty() => FdtFault::Magic,
        FdtErrorKind::MemReserveInvalid | FdtErrorKind::MemReserveNotTerminated => {
            FdtFault::Reservation
        }
        _ => FdtFault::Structure,
    }
}
