// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage 2: three levels of 512 entries, leaves of 4 KiB, 2 MiB and 1 GiB.
//!
//! The format of its entries, for axvm's [`stage2`]; walked by each vCPU from the
//! root's address, as hardware does.
//!
//! ```text
//! entry   63..12 host address   1 leaf   2 read   3 write   4 execute   0 valid
//! ```

use axvm::{
    AxVCpuHal, GuestPhysAddr, HostPhysAddr, MappingFlags,
    stage2::{self, Entry, TableFormat, span},
};

use crate::phys::{FRAME_BYTES, FRAME_WORDS, read_word};

/// How many levels there are.
pub(crate) const LEVELS: usize = 3;
const VALID: u64 = 1 << 0;
const LEAF: u64 = 1 << 1;
const READ: u64 = 1 << 2;
const WRITE: u64 = 1 << 3;
const EXECUTE: u64 = 1 << 4;
const ADDRESS: u64 = !(FRAME_BYTES as u64 - 1);
const PERMISSIONS: [(u64, MappingFlags); 3] = [
    (READ, MappingFlags::READ),
    (WRITE, MappingFlags::WRITE),
    (EXECUTE, MappingFlags::EXECUTE),
];

/// A stage-2 table.
pub type HostPageTable<H> = stage2::Stage2<H, HostFormat>;

/// The only format there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFormat;

impl TableFormat for HostFormat {
    fn address_bits(self) -> usize {
        span(LEVELS).trailing_zeros() as usize
    }

    fn levels(self) -> usize {
        LEVELS
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        table.as_usize() as u64 | VALID
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, _level: usize) -> Option<u64> {
        let granted = PERMISSIONS
            .iter()
            .filter(|(_, flag)| flags.contains(*flag))
            .fold(0, |bits, (bit, _)| bits | bit);
        Some(to.as_usize() as u64 & ADDRESS | granted | LEAF | VALID)
    }

    fn entry(self, value: u64, _level: usize) -> Entry {
        let to = HostPhysAddr::from_usize((value & ADDRESS) as usize);
        match (value & VALID != 0, value & LEAF != 0) {
            (false, _) => Entry::Empty,
            (true, false) => Entry::Table(to),
            (true, true) => Entry::Leaf(to, mapping_flags(value)),
        }
    }
}

fn mapping_flags(leaf: u64) -> MappingFlags {
    PERMISSIONS
        .iter()
        .filter(|(bit, _)| leaf & bit != 0)
        .fold(MappingFlags::empty(), |flags, (_, flag)| flags | *flag)
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    pub(crate) host: HostPhysAddr,
    pub(crate) flags: MappingFlags,
}

fn index(address: GuestPhysAddr, level: usize) -> usize {
    let shift = span(level).trailing_zeros();
    address.as_usize().unbounded_shr(shift) % FRAME_WORDS
}

/// Finds what `address` is mapped to, from the root of a table that lives.
pub(crate) fn walk<H: AxVCpuHal>(
    hal: &H,
    root: HostPhysAddr,
    address: GuestPhysAddr,
) -> Option<Translation> {
    if address.as_usize() >= span(LEVELS) {
        return None;
    }
    let mut table = root;
    for level in (0..LEVELS).rev() {
        let value = read_word(hal, table, index(address, level));
        table = match HostFormat.entry(value, level) {
            Entry::Empty => return None,
            Entry::Table(below) => below,
            Entry::Leaf(to, flags) => {
                let offset = address.as_usize() & span(level).wrapping_sub(1);
                let host = HostPhysAddr::from_usize(to.as_usize().wrapping_add(offset));
                return Some(Translation { host, flags });
            }
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::StdHost;
    use axaddrspace::NestedPageTableOps;

    const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);

    #[test]
    fn the_interpreter_sees_what_the_table_says() {
        let host = StdHost::default();
        let mut table = HostPageTable::new(&host, HostFormat).unwrap();
        let (start, to) = (0x3fe0_0000_usize, 0x8000_0000);
        let gpa = |offset: usize| GuestPhysAddr::from_usize(start + offset);
        let hpa = HostPhysAddr::from_usize(to);
        table.map_linear(gpa(0), hpa, 0x20_3000, RW, true).unwrap();
        for offset in (0..0x20_5000).step_by(0x800) {
            let seen = walk(&host, table.root_paddr(), gpa(offset));
            let said = table.query(gpa(offset)).ok();
            let said = said.map(|(host, flags, _)| Translation { host, flags });
            assert_eq!((offset, seen), (offset, said));
        }
    }

    #[test]
    fn addresses_beyond_the_root_are_not_mapped() {
        let host = StdHost::default();
        let table = HostPageTable::new(&host, HostFormat).unwrap();
        for address in [1 << 39, 1 << 48, usize::MAX] {
            let at = GuestPhysAddr::from_usize(address);
            assert_eq!(walk(&host, table.root_paddr(), at), None);
        }
    }
}
