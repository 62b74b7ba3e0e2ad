// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Translates a guest's linear addresses by the guest's own page tables.
//!
//! Needed where the hypervisor reads what the guest executes or copies. A
//! function of the control registers and of RAM. An access that is made for the
//! guest sets the accessed and dirty bits as the CPU would; a fetch does not, as the
//! CPU has made it before. A table outside RAM reads as all ones, as on a bus where
//! nothing is, and so fails with a reserved bit.
//!
//! Spec: AMD64 APM 2, "Page Translation and Protection".

use axvm::{AxVMHal, GuestPhysAddr, Ram};
use bitflags::bitflags;

use crate::regs::{CR0, CR4, EFER, RFLAGS, bits};

bitflags! {
    /// A page fault's error code.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Fault: u32 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const RESERVED = 1 << 3;
        const FETCH = 1 << 4;
    }

    #[derive(Clone, Copy)]
    struct Entry: u64 {
        const PRESENT = 1 << 0;
        const WRITE = 1 << 1;
        const USER = 1 << 2;
        const ACCESSED = 1 << 5;
        const DIRTY = 1 << 6;
        const LARGE = 1 << 7;
        const NO_EXECUTE = 1 << 63;
    }
}

const PAGE_SHIFT: u32 = 12;
/// Address bits of an entry of eight bytes.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const ADDRESS_32: u64 = 0xffff_f000;
const CR3_PAE: u64 = 0xffff_ffe0;
/// How often a walk begins anew because tables changed below it.
const WALKS_MAX: usize = 8;

/// The RAM that page tables are in.
pub(crate) trait Tables {
    /// Reads eight bytes at once at an address that is a multiple of eight.
    fn word(&self, at: GuestPhysAddr) -> Option<u64>;

    /// Replaces a byte at once, if it is still `old`; tells whether it was.
    fn exchange(&self, at: GuestPhysAddr, old: u8, new: u8) -> bool;
}

impl<H: AxVMHal> Tables for Ram<H> {
    #[inline]
    fn word(&self, at: GuestPhysAddr) -> Option<u64> {
        Self::word(self, at)
    }

    fn exchange(&self, at: GuestPhysAddr, old: u8, new: u8) -> bool {
        Self::exchange(self, at, old, new)
    }
}

/// What decides how addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Paging {
    pub(crate) cr0: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
    pub(crate) rflags: u64,
    /// The privilege level.
    pub(crate) cpl: u8,
}

/// What an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
    Fetch,
}

/// The shape of the tables.
#[derive(Clone, Copy)]
struct Shape {
    levels: u32,
    index_bits: u32,
    entry_bytes: usize,
}

/// Sets what the CPU sets in an entry that it uses; false if the entry is no longer
/// what it was.
fn mark<T: Tables>(ram: &T, at: GuestPhysAddr, entry: u64, marks: Entry) -> bool {
    let old = entry as u8;
    let new = old | marks.bits() as u8;
    new == old || ram.exchange(at, old, new)
}

impl Paging {
    fn shape(&self) -> Option<Shape> {
        let is_paged = bits::<CR0::Register>(self.cr0).is_set(CR0::PG);
        let cr4 = bits::<CR4::Register>(self.cr4);
        let is_long = bits::<EFER::Register>(self.efer).is_set(EFER::LMA);
        let (levels, index_bits, entry_bytes) = match (is_paged, is_long) {
            (false, _) => return None,
            (true, true) => (4, 9, 8),
            (true, false) if cr4.is_set(CR4::PAE) => (3, 9, 8),
            (true, false) => (2, 10, 4),
        };
        Some(Shape {
            levels,
            index_bits,
            entry_bytes,
        })
    }

    /// Returns where a linear address is in guest-physical memory, or the error
    /// code of its page fault.
    pub(crate) fn translate(
        &self,
        linear: u64,
        purpose: Purpose,
        ram: &impl Tables,
    ) -> Result<GuestPhysAddr, u32> {
        let Some(shape) = self.shape() else {
            return Ok(physical(linear & u64::from(u32::MAX)));
        };
        if purpose != Purpose::Fetch {
            for _ in 1..WALKS_MAX {
                if let Some(found) = self.walk(linear, purpose, shape, ram, mark)? {
                    return Ok(found);
                }
            }
        }
        let found = self.walk(linear, purpose, shape, ram, |_, _, _, _| true)?;
        found.ok_or_else(|| self.fault(Fault::empty(), purpose))
    }

    /// Walks once; `None` if an entry was no longer what it was when it was to be
    /// marked.
    #[inline]
    fn walk<T: Tables>(
        &self,
        linear: u64,
        purpose: Purpose,
        shape: Shape,
        ram: &T,
        mark: impl Fn(&T, GuestPhysAddr, u64, Entry) -> bool,
    ) -> Result<Option<GuestPhysAddr>, u32> {
        let mut table = match shape.levels {
            2 => self.cr3 & ADDRESS_32,
            3 => self.cr3 & CR3_PAE,
            _ => self.cr3 & ADDRESS,
        };
        let mut rights = Entry::WRITE | Entry::USER;
        for level in (0..shape.levels).rev() {
            let at = entry_address(table, linear, level, shape);
            let entry = read_entry(at, shape, ram);
            let flags = Entry::from_bits_retain(entry);
            let is_leaf = level == 0 || self.is_large(flags, level, shape);
            self.check(entry, purpose, || self.reserved(level, is_leaf, shape))?;
            // The entries of PAE's first level have no rights and no marks.
            if shape.levels != 3 || level != 2 {
                rights &= flags | !(Entry::WRITE | Entry::USER);
                rights |= flags & Entry::NO_EXECUTE;
                let mut marks = Entry::ACCESSED;
                if is_leaf {
                    self.allow(rights, purpose)?;
                    marks.set(Entry::DIRTY, purpose == Purpose::Write);
                }
                if !mark(ram, at, entry, marks) {
                    return Ok(None);
                }
            }
            if is_leaf {
                return Ok(Some(in_page(entry, linear, level, shape)));
            }
            table = entry & address_mask(shape);
        }
        Err(self.fault(Fault::RESERVED | Fault::PRESENT, purpose))
    }

    fn is_large(&self, flags: Entry, level: u32, shape: Shape) -> bool {
        let is_level = match shape.levels {
            2 => bits::<CR4::Register>(self.cr4).is_set(CR4::PSE) && level == 1,
            3 => level == 1,
            _ => level == 1 || level == 2,
        };
        is_level && flags.contains(Entry::LARGE)
    }

    /// Returns the bits that an entry must not have, apart from those of addresses
    /// that no CPU has.
    fn reserved(&self, level: u32, is_leaf: bool, shape: Shape) -> u64 {
        const LARGE_2M: u64 = 0x1f_e000;
        const LARGE_1G: u64 = 0x3fff_e000;
        const LARGE_4M: u64 = 1 << 21;
        const HIGH: u64 = 0x7ff << 52;
        let no_execute = match bits::<EFER::Register>(self.efer).is_set(EFER::NXE) {
            true => 0,
            false => Entry::NO_EXECUTE.bits(),
        };
        let of_level = match (shape.levels, level, is_leaf) {
            (2, 1, true) => LARGE_4M,
            (4, 3, _) => Entry::LARGE.bits(),
            (3.., 2, true) => LARGE_1G,
            (3.., 1, true) => LARGE_2M,
            _ => 0,
        };
        match (shape.levels, level) {
            (2, _) => of_level,
            // The first level of PAE was checked when CR3 was loaded.
            (3, 2) => 0,
            (3, _) => of_level | no_execute | HIGH,
            _ => of_level | no_execute,
        }
    }

    #[inline]
    fn check(
        &self,
        entry: u64,
        purpose: Purpose,
        reserved: impl FnOnce() -> u64,
    ) -> Result<(), u32> {
        // Without these no bit of an entry is reserved.
        const SUSPICIOUS: u64 = 0xfff << 52 | Entry::LARGE.bits();
        if !Entry::from_bits_retain(entry).contains(Entry::PRESENT) {
            return Err(self.fault(Fault::empty(), purpose));
        }
        if entry & SUSPICIOUS != 0 && (entry == u64::MAX || entry & reserved() != 0) {
            return Err(self.fault(Fault::RESERVED | Fault::PRESENT, purpose));
        }
        Ok(())
    }

    /// Tells whether the rights of all levels allow an access.
    fn allow(&self, rights: Entry, purpose: Purpose) -> Result<(), u32> {
        let is_user = self.cpl == 3;
        let protects = is_user || bits::<CR0::Register>(self.cr0).is_set(CR0::WP);
        let no_execute = bits::<EFER::Register>(self.efer).is_set(EFER::NXE)
            && rights.contains(Entry::NO_EXECUTE);
        let is_refused = is_user && !rights.contains(Entry::USER)
            || purpose == Purpose::Write && protects && !rights.contains(Entry::WRITE)
            || purpose == Purpose::Fetch && no_execute
            || !is_user && rights.contains(Entry::USER) && self.keeps_out(purpose);
        match is_refused {
            true => Err(self.fault(Fault::PRESENT, purpose)),
            false => Ok(()),
        }
    }

    /// Tells whether a kernel is kept from its programs' pages: SMEP, and SMAP
    /// unless it has said with AC that it means them.
    fn keeps_out(&self, purpose: Purpose) -> bool {
        let cr4 = bits::<CR4::Register>(self.cr4);
        match purpose {
            Purpose::Fetch => cr4.is_set(CR4::SMEP),
            _ => {
                let allows = bits::<RFLAGS::Register>(self.rflags).is_set(RFLAGS::ALIGNMENT);
                cr4.is_set(CR4::SMAP) && !allows
            }
        }
    }

    fn fault(&self, cause: Fault, purpose: Purpose) -> u32 {
        let mut code = cause;
        code.set(Fault::WRITE, purpose == Purpose::Write);
        code.set(Fault::USER, self.cpl == 3);
        let tells_fetch = bits::<EFER::Register>(self.efer).is_set(EFER::NXE)
            || bits::<CR4::Register>(self.cr4).is_set(CR4::SMEP);
        code.set(Fault::FETCH, purpose == Purpose::Fetch && tells_fetch);
        code.bits()
    }
}

fn physical(address: u64) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address as usize)
}

fn shift_of(level: u32, shape: Shape) -> u32 {
    level
        .saturating_mul(shape.index_bits)
        .saturating_add(PAGE_SHIFT)
}

fn address_mask(shape: Shape) -> u64 {
    match shape.levels {
        2 => ADDRESS_32,
        _ => ADDRESS,
    }
}

fn entry_address(table: u64, linear: u64, level: u32, shape: Shape) -> GuestPhysAddr {
    let index_mask = 1_u64.wrapping_shl(shape.index_bits).wrapping_sub(1);
    let index = linear.wrapping_shr(shift_of(level, shape)) & index_mask;
    let offset = index.wrapping_mul(shape.entry_bytes as u64);
    physical(table.wrapping_add(offset))
}

#[inline]
fn read_entry(at: GuestPhysAddr, shape: Shape, ram: &impl Tables) -> u64 {
    let (word, offset) = (at.as_usize() & !7, at.as_usize() & 7);
    let Some(word) = ram.word(GuestPhysAddr::from_usize(word)) else {
        return u64::MAX;
    };
    match shape.entry_bytes {
        8 => word,
        // Two entries share a word.
        _ => word.wrapping_shr((offset as u32).wrapping_mul(8)) & u64::from(u32::MAX),
    }
}

fn in_page(entry: u64, linear: u64, level: u32, shape: Shape) -> GuestPhysAddr {
    let inside = 1_u64.wrapping_shl(shift_of(level, shape)).wrapping_sub(1);
    let base = match (shape.levels, level) {
        // PSE-36: bits 13 to 20 of the entry are bits 32 to 39 of the address.
        (2, 1) => entry & 0xffc0_0000 | (entry & 0x1f_e000) << 19,
        _ => entry & ADDRESS & !inside,
    };
    physical(base | linear & inside)
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// A MiB of RAM from 0 on.
    struct Memory(Mutex<Vec<u8>>);

    impl Memory {
        fn with(entries: &[(usize, u64)]) -> Self {
            let mut bytes = vec![0; 1 << 20];
            for &(at, value) in entries {
                bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            Self(Mutex::new(bytes))
        }
    }

    impl Tables for Memory {
        fn word(&self, at: GuestPhysAddr) -> Option<u64> {
            let bytes = self.0.lock().unwrap();
            let word = bytes.get(at.as_usize()..)?.first_chunk()?;
            Some(u64::from_le_bytes(*word))
        }

        fn exchange(&self, at: GuestPhysAddr, old: u8, new: u8) -> bool {
            let mut bytes = self.0.lock().unwrap();
            let byte = &mut bytes[at.as_usize()];
            let is_same = *byte == old;
            if is_same {
                *byte = new;
            }
            is_same
        }
    }

    const PG: u64 = 1 << 31;
    const WP: u64 = 1 << 16;
    const PSE: u64 = 1 << 4;
    const PAE: u64 = 1 << 5;
    const LMA_NXE: u64 = 1 << 10 | 1 << 11;
    const PWU: u64 = 0b111;

    fn long(cpl: u8) -> Paging {
        Paging {
            cr0: PG | WP,
            cr3: 0x1000,
            cr4: PAE,
            efer: LMA_NXE,
            rflags: 2,
            cpl,
        }
    }

    fn tables() -> Memory {
        Memory::with(&[
            (0x1000, 0x2000 | PWU),
            (0x2000, 0x3000 | PWU),
            (0x2008, 0xc000_0000 | 0x80 | 0b11), // 1 GiB for the kernel
            (0x3000, 0x4000 | PWU),
            (0x3008, 0x8000_0000 | 0x80 | PWU), // 2 MiB
            (0x4000, 0x5000 | PWU),
            (0x4008, 0x6000 | 0b101),         // read only
            (0x4010, 0x7000 | PWU | 1 << 63), // no code
            (0x4018, 0x7000),                 // not there
        ])
    }

    fn translate(paging: Paging, linear: u64, purpose: Purpose) -> Result<u64, u32> {
        let found = paging.translate(linear, purpose, &tables());
        found.map(|address| address.as_usize() as u64)
    }

    #[test]
    fn long_mode_has_pages_of_three_sizes() {
        let read = |linear| translate(long(0), linear, Purpose::Read);
        assert_eq!(read(0x123), Ok(0x5123));
        assert_eq!(read(0x20_1234), Ok(0x8000_1234));
        assert_eq!(read(0x4012_3456), Ok(0xc012_3456));
        assert_eq!(read(0x3000), Err(0), "not present");
        assert_eq!(read(0x8000_0000), Err(0), "no table");
    }

    #[test]
    fn rights_are_those_of_all_levels() {
        let tried = |cpl, linear, purpose| translate(long(cpl), linear, purpose);
        assert_eq!(tried(3, 0x1008, Purpose::Read), Ok(0x6008));
        assert_eq!(tried(3, 0x1008, Purpose::Write), Err(7));
        assert_eq!(tried(0, 0x1008, Purpose::Write), Err(3));
        assert_eq!(tried(0, 0x2008, Purpose::Fetch), Err(0x11));
        assert_eq!(tried(3, 0x4000_0000, Purpose::Read), Err(5));
        let unprotected = Paging { cr0: PG, ..long(0) };
        assert_eq!(translate(unprotected, 0x1008, Purpose::Write), Ok(0x6008));
    }

    #[test]
    fn a_kernel_is_kept_from_programs_pages_as_it_asks() {
        const SMEP: u64 = 1 << 20;
        const SMAP: u64 = 1 << 21;
        const AC: u64 = 1 << 18;
        let tried = |cr4, rflags, cpl, purpose| {
            let paging = Paging {
                cr4: PAE | cr4,
                rflags,
                ..long(cpl)
            };
            (
                translate(paging, 8, purpose).err(),
                translate(paging, 0x4000_0000, purpose).err(),
            )
        };
        assert_eq!(tried(SMAP, 2, 0, Purpose::Read), (Some(1), None));
        assert_eq!(tried(SMAP, 2, 1, Purpose::Write), (Some(3), None));
        assert_eq!(tried(SMAP, AC, 0, Purpose::Write), (None, None));
        assert_eq!(tried(SMAP, 2, 0, Purpose::Fetch), (None, None));
        assert_eq!(tried(SMEP, AC, 0, Purpose::Fetch), (Some(0x11), None));
        assert_eq!(tried(SMEP, 2, 0, Purpose::Read), (None, None));
        assert_eq!(
            tried(SMAP | SMEP, 2, 3, Purpose::Read),
            (None, Some(5)),
            "a program"
        );
        // Without execute protection a fetch is told only with SMEP.
        let old = |cr4| Paging {
            cr4: PAE | cr4,
            efer: 1 << 10,
            ..long(0)
        };
        assert_eq!(translate(old(SMEP), 0x3000, Purpose::Fetch), Err(0x10));
        assert_eq!(translate(old(0), 0x3000, Purpose::Fetch), Err(0));
    }

    #[test]
    fn reserved_bits_are_told_as_the_cpu_tells_them() {
        let memory = |entries: &[(usize, u64)]| {
            let mut all = vec![
                (0x1000, 0x2000 | PWU),
                (0x2000, 0x3000 | PWU),
                (0x3000, 0x4000 | PWU),
                (0x4000, 0x5000 | PWU),
            ];
            all.extend(entries);
            Memory::with(&all)
        };
        let read = |entry, paging: Paging| {
            let found = paging.translate(0, Purpose::Read, &memory(&[entry]));
            found.err()
        };
        let large = 0x80;
        assert_eq!(read((0x1000, 0x2000 | large | PWU), long(0)), Some(9));
        assert_eq!(read((0x3000, 0x2000 | large | PWU), long(3)), Some(0xd));
        assert_eq!(read((0x2000, 0x20_0000 | large | PWU), long(0)), Some(9));
        assert_eq!(read((0x4000, 1 << 63 | PWU), long(0)), None);
        let no_nx = Paging {
            efer: 1 << 10,
            ..long(0)
        };
        assert_eq!(read((0x4000, 1 << 63 | PWU), no_nx), Some(9));
        assert_eq!(
            read((0x4000, 1 << 63 | 6), no_nx),
            Some(0),
            "it is not there"
        );
    }

    #[test]
    fn an_access_leaves_the_marks_that_the_cpu_would() {
        let memory = Memory::with(&[
            (0x1000, 0x2000 | PWU),
            (0x2000, 0x3000 | PWU),
            (0x3000, 0x4000 | PWU),
            (0x4000, 0x5000 | PWU),
            (0x4008, 0x6000 | PWU),
            (0x4010, 0x7000 | 0b101),
        ]);
        let low = |at: usize| memory.0.lock().unwrap()[at];
        let tried = |linear, purpose| {
            let paging = Paging {
                cr3: 0x1000,
                ..long(3)
            };
            paging.translate(linear, purpose, &memory).is_ok()
        };
        assert!(tried(0, Purpose::Fetch));
        assert_eq!((low(0x1000), low(0x4000)), (0b111, 0b111), "the CPU has");
        assert!(tried(0, Purpose::Read));
        for level in [0x1000, 0x2000, 0x3000, 0x4000] {
            assert_eq!(low(level), 0x27);
        }
        assert!(tried(0x1000, Purpose::Write));
        assert_eq!((low(0x4000), low(0x4008), low(0x3000)), (0x27, 0x67, 0x27));
        assert!(!tried(0x2000, Purpose::Write));
        assert_eq!(low(0x4010), 0b101, "what is refused leaves none");
    }

    #[test]
    fn a_table_outside_ram_is_a_reserved_bit() {
        let paging = Paging {
            cr3: 0xffff_f000,
            ..long(0)
        };
        assert_eq!(translate(paging, 0, Purpose::Read), Err(9));
    }

    #[test]
    fn without_paging_an_address_is_itself_in_32_bits() {
        let paging = Paging { cr0: 1, ..long(0) };
        assert_eq!(translate(paging, 0x1_0000_1234, Purpose::Fetch), Ok(0x1234));
    }

    #[test]
    fn tables_of_two_and_three_levels_are_walked() {
        let memory = Memory::with(&[
            (
                0x1000,
                0x2000 | PWU | (0x0040_0000 | 2 << 13 | 0x80 | PWU) << 32,
            ),
            (0x2000, 0x5000 | PWU),
            (0x3020, 0x4000 | 1),
            (0x4000, 0x80 | PWU),
        ]);
        let two = Paging {
            cr0: PG,
            cr3: 0x1000,
            cr4: PSE,
            efer: 0,
            rflags: 2,
            cpl: 3,
        };
        let at = |paging: Paging, linear| {
            let found = paging.translate(linear, Purpose::Write, &memory);
            found.map(|address| address.as_usize() as u64)
        };
        assert_eq!(at(two, 0x10), Ok(0x5010));
        assert_eq!(at(two, 0x40_0010), Ok(0x2_0040_0010));
        let three = Paging {
            cr3: 0x3020,
            cr4: PAE,
            ..two
        };
        assert_eq!(at(three, 0x1234), Ok(0x1234));
    }

    proptest! {
        #[test]
        fn no_tables_make_the_walk_panic_or_run_on(
            entries in prop::collection::vec((0usize..0x1_0000, any::<u64>()), 0..100),
            (cr0, cr3, cr4, efer, rflags) in any::<(u64, u64, u64, u64, u64)>(),
            linear: u64,
            cpl in 0u8..4,
        ) {
            let memory = Memory::with(&entries);
            let paging = Paging { cr0, cr3: cr3 & 0xffff, cr4, efer, rflags, cpl };
            let _ = paging.translate(linear, Purpose::Write, &memory);
        }
    }
}
