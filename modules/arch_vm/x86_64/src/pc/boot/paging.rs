// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The page tables with which a 64-bit kernel is entered.
//!
//! The first 4 GiB, each address mapped to itself by pages of 2 MiB.
//!
//! Spec: Intel SDM 3, "4-Level Paging"; Linux, x86/boot.rst, "64-bit Boot Protocol".

use alloc::vec::Vec;

use super::layout::PAGE_TABLES;

const ENTRIES: u64 = 512;
const TABLE_BYTES: u64 = ENTRIES * 8;
const DIRECTORIES: u64 = 4;
const LARGE_PAGE_BYTES: u64 = 2 << 20;
/// Present and writable.
const TABLE: u64 = 0b11;
/// The same for a large page.
const LARGE_PAGE: u64 = TABLE | 1 << 7;

/// Returns the entries of all tables, the root first, as they lie at
/// [`PAGE_TABLES`].
pub(super) fn identity() -> Vec<u64> {
    let table = |index: u64| PAGE_TABLES.saturating_add(TABLE_BYTES.saturating_mul(index)) | TABLE;
    let root = padded([table(1)].into_iter());
    let pointers = padded((0..DIRECTORIES).map(|index| table(index.saturating_add(2))));
    let pages = (0..DIRECTORIES.saturating_mul(ENTRIES))
        .map(|index| LARGE_PAGE_BYTES.saturating_mul(index) | LARGE_PAGE);
    root.chain(pointers).chain(pages).collect()
}

/// Fills a table with entries that map nothing.
fn padded(entries: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    entries
        .chain(core::iter::repeat(0))
        .take(usize::try_from(ENTRIES).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{super::layout::HANDOVER, *};

    /// Walks the tables as the CPU does.
    fn translate(tables: &[u64], address: u64) -> Option<u64> {
        let entry = |table: u64, index: u64| {
            let at = (table & !0xfff) - PAGE_TABLES;
            tables[(at / 8 + index) as usize]
        };
        let mut table = PAGE_TABLES;
        for shift in [39, 30, 21] {
            table = entry(table, address >> shift & 511);
            if table & 1 == 0 {
                return None;
            }
        }
        Some((table & !0x1f_ffff) | address & 0x1f_ffff)
    }

    #[test]
    fn the_first_four_gib_are_mapped_to_themselves_and_nothing_else_is() {
        let tables = identity();
        for address in [0, 0x8000, 0x1f_ffff, 0x20_0000, 0x4000_1234, 0xffff_ffff] {
            assert_eq!(translate(&tables, address), Some(address));
        }
        assert_eq!(translate(&tables, 1 << 32), None);
        assert_eq!(translate(&tables, 1 << 40), None);
    }

    #[test]
    fn the_tables_end_before_what_follows_them() {
        let end = PAGE_TABLES + 8 * identity().len() as u64;
        assert!(end <= HANDOVER);
    }
}
