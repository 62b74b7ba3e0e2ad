// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stage-2 tables of every shape against a map of pages.
//!
//! The format is the test's own; the architectures test what their entries look
//! like.

use std::collections::BTreeMap;

use arch_vm_host::testing::{Setup, StdHost};
use axaddrspace::{AddrSpace, AddrSpaceError, NestedPageTableOps, PageSize};
use axvm::{
    GuestPhysAddr, HostPhysAddr, MappingFlags,
    stage2::{Entry, LivePages, Stage2, TableFormat, root_entries},
};
use proptest::prelude::*;

const RW: MappingFlags = MappingFlags::READ.union(MappingFlags::WRITE);
const RO: MappingFlags = MappingFlags::READ;
const PAGE_SHIFT: usize = 12;
/// The pages that the model looks at: around a 2 MiB and a 1 GiB border.
const FIRST_PAGE: usize = (1 << 18) - 1024;
const PAGES: usize = 2048;

/// Entries that keep the flags in the low bits, in tables of any shape.
#[derive(Clone, Copy, Debug)]
struct Shape {
    levels: usize,
    address_bits: usize,
    largest_leaf: usize,
}

const PRESENT: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const FLAGS: u64 = 0x7;

impl TableFormat for Shape {
    fn address_bits(self) -> usize {
        self.address_bits
    }

    fn levels(self) -> usize {
        self.levels
    }

    fn largest_leaf(self) -> usize {
        self.largest_leaf
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        table.as_usize() as u64 | PRESENT
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        assert!(level <= self.largest_leaf);
        let is_possible = flags.contains(MappingFlags::READ);
        is_possible.then_some(to.as_usize() as u64 | flags.bits() as u64 | PRESENT | LEAF)
    }

    fn entry(self, value: u64, _level: usize) -> Entry {
        let to = HostPhysAddr::from_usize((value & !PRESENT & !LEAF & !0xfff) as usize);
        match (value & PRESENT != 0, value & LEAF != 0) {
            (false, _) => Entry::Empty,
            (true, false) => Entry::Table(to),
            (true, true) => {
                let flags = MappingFlags::from_bits_truncate((value & FLAGS) as usize);
                Entry::Leaf(to, flags)
            }
        }
    }
}

/// As Sv39x4, x86_64 and Arm with 40 bits have it, and smaller ones.
const SHAPES: [Shape; 5] = [
    shape(3, 41, 2),
    shape(4, 48, 2),
    shape(3, 40, 2),
    shape(4, 48, 1),
    shape(3, 36, 0),
];

const fn shape(levels: usize, address_bits: usize, largest_leaf: usize) -> Shape {
    Shape {
        levels,
        address_bits,
        largest_leaf,
    }
}

type Table = Stage2<StdHost, Shape>;
type Model = BTreeMap<usize, (usize, MappingFlags)>;

fn table(shape: Shape) -> (StdHost, Table) {
    let host = StdHost::new(Setup {
        frames: 8192,
        ..Setup::default()
    });
    let table = Stage2::new(&host, shape).unwrap();
    (host, table)
}

fn gpa(page: usize) -> GuestPhysAddr {
    GuestPhysAddr::from_usize((FIRST_PAGE + page) << PAGE_SHIFT)
}

fn hpa(page: usize) -> HostPhysAddr {
    HostPhysAddr::from_usize(page << PAGE_SHIFT)
}

fn root_frames(shape: Shape) -> usize {
    root_entries(shape).div_ceil(512)
}

fn frames(host: &StdHost) -> usize {
    host.books(|books| books.frames)
}

#[derive(Clone, Debug)]
enum Step {
    Map {
        page: usize,
        to: usize,
        pages: usize,
        huge: bool,
    },
    Unmap {
        page: usize,
        pages: usize,
    },
    Protect {
        page: usize,
        pages: usize,
    },
    UnmapOne {
        page: usize,
    },
    Remap {
        page: usize,
        to: usize,
    },
}

fn range() -> impl Strategy<Value = (usize, usize)> {
    let start = prop_oneof![Just(0), Just(512), Just(1024), Just(1536), 0..PAGES];
    let length = prop_oneof![Just(1), Just(512), Just(1024), 1..PAGES];
    (start, length).prop_map(|(page, pages)| (page, pages.min(PAGES - page)))
}

fn step() -> impl Strategy<Value = Step> {
    let to = prop_oneof![
        Just(0x8_0000_usize),
        Just(0xc_0000),
        0x8_0000_usize..0x9_0000
    ];
    prop_oneof![
        3 => (range(), to.clone(), any::<bool>())
            .prop_map(|((page, pages), to, huge)| Step::Map { page, to, pages, huge }),
        2 => range().prop_map(|(page, pages)| Step::Unmap { page, pages }),
        1 => range().prop_map(|(page, pages)| Step::Protect { page, pages }),
        1 => (0..PAGES).prop_map(|page| Step::UnmapOne { page }),
        1 => (0..PAGES, to).prop_map(|(page, to)| Step::Remap { page, to }),
    ]
}

fn apply(step: &Step, table: &mut Table, model: &mut Model) {
    match *step {
        Step::Map {
            page,
            to,
            pages,
            huge,
        } => {
            let is_free = model.range(page..page + pages).next().is_none();
            let mapped = table.map_linear(gpa(page), hpa(to), pages << PAGE_SHIFT, RW, huge);
            assert_eq!(mapped.is_ok(), is_free);
            if is_free {
                model.extend((0..pages).map(|i| (page + i, (to + i, RW))));
            }
        }
        Step::Unmap { page, pages } => {
            table.unmap_region(gpa(page), pages << PAGE_SHIFT).unwrap();
            model.retain(|at, _| !(page..page + pages).contains(at));
        }
        Step::Protect { page, pages } => {
            let is_full = model.range(page..page + pages).count() == pages;
            let protected = table.protect_region(gpa(page), pages << PAGE_SHIFT, RO);
            assert_eq!(protected, is_full);
            if is_full {
                model
                    .range_mut(page..page + pages)
                    .for_each(|(_, to)| to.1 = RO);
            }
        }
        Step::UnmapOne { page } => match table.unmap(gpa(page)) {
            Ok((_, _, size)) => {
                let pages = usize::from(size) >> PAGE_SHIFT;
                let first = (FIRST_PAGE + page) / pages * pages - FIRST_PAGE;
                model.retain(|at, _| !(first..first + pages).contains(at));
            }
            Err(_) => assert!(!model.contains_key(&page)),
        },
        Step::Remap { page, to } => remap(table, model, page, to),
    }
}

fn remap(table: &mut Table, model: &mut Model, page: usize, to: usize) {
    let size = table.query(gpa(page)).map(|(_, _, size)| size);
    let done = table.remap(gpa(page), hpa(to), RO);
    match size {
        Ok(size) => {
            let pages = usize::from(size) >> PAGE_SHIFT;
            assert_eq!(done, to.is_multiple_of(pages));
            if done {
                let first = (FIRST_PAGE + page) / pages * pages - FIRST_PAGE;
                model.extend((0..pages).map(|i| (first + i, (to + i, RO))));
            }
        }
        Err(_) => assert!(!done),
    }
}

fn compare(table: &Table, model: &Model) {
    for page in 0..PAGES {
        let found = table.query(gpa(page)).ok();
        let found = found.map(|(to, flags, _)| (to.as_usize() >> PAGE_SHIFT, flags));
        assert_eq!(found, model.get(&page).copied(), "page {page}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_table_does_what_a_map_of_pages_does(
        steps in prop::collection::vec(step(), 1..12),
        shape in prop::sample::select(&SHAPES),
    ) {
        let (host, mut table) = table(shape);
        let mut model = Model::new();
        for step in &steps {
            apply(step, &mut table, &mut model);
            compare(&table, &model);
        }
        table.unmap_region(gpa(0), PAGES << PAGE_SHIFT).unwrap();
        prop_assert_eq!(frames(&host), root_frames(shape));
        drop(table);
        host.check();
    }

    #[test]
    fn want_of_frames_undoes_a_mapping(below in 0_usize..4, shape in prop::sample::select(&SHAPES)) {
        let host = StdHost::new(Setup {
            frames: root_frames(shape) + below,
            ..Setup::default()
        });
        let mut table = Stage2::new(&host, shape).unwrap();
        let size = 2048 << PAGE_SHIFT;
        let mapped = table.map_linear(gpa(0), hpa(0x8_0001), size, RW, true);
        prop_assert!(mapped.is_err());
        compare(&table, &Model::new());
        prop_assert_eq!(frames(&host), root_frames(shape));
    }

    #[test]
    fn a_linear_range_translates_everywhere_and_nowhere_else(
        start in 0_usize..2048, to in 0_usize..2048, pages in 1_usize..1500,
    ) {
        let (host, table) = table(SHAPES[0]);
        let mut space = AddrSpace::new_empty(table, gpa(0), 1 << 39).unwrap();
        space.map_linear(gpa(start), hpa(to), pages << PAGE_SHIFT, RW).unwrap();
        for page in 0..4096 {
            let is_inside = (start..start + pages).contains(&page);
            let expected = is_inside.then(|| hpa((page + to).saturating_sub(start)));
            prop_assert_eq!(space.translate(gpa(page)), expected);
        }
        drop(space);
        host.check();
    }
}

#[test]
fn aligned_ram_is_mapped_by_the_largest_leaves() {
    let (at, to) = (0x8000_0000, HostPhysAddr::from_usize(0x1_4000_0000));
    let sizes = |shape: Shape| {
        let (_host, mut table) = table(shape);
        let start = GuestPhysAddr::from_usize(at);
        table.map_linear(start, to, 0x4020_1000, RW, true).unwrap();
        [0, 0x4000_0000, 0x4020_0000].map(|offset| table.query(start + offset).unwrap().2)
    };
    use PageSize::{Size1G, Size2M, Size4K};
    assert_eq!(sizes(shape(3, 41, 2)), [Size1G, Size2M, Size4K]);
    assert_eq!(sizes(shape(4, 48, 1)), [Size2M, Size2M, Size4K]);
}

#[test]
fn every_part_of_a_wide_root_is_used() {
    for shape in [shape(3, 41, 2), shape(3, 40, 2)] {
        let (_host, mut table) = table(shape);
        let at = |address: usize| GuestPhysAddr::from_usize(address);
        let last = at((1 << shape.address_bits) - (1 << 30));
        table.map(last, hpa(0), PageSize::Size1G, RW).unwrap();
        assert_eq!(table.query(last).unwrap().0, hpa(0));
        assert!(table.query(at((1 << 39) - (1 << 30))).is_err());
        let beyond = at(1 << shape.address_bits);
        assert!(table.map(beyond, hpa(0), PageSize::Size1G, RW).is_err());
        assert!(table.query(beyond).is_err());
        assert!(table.query(at(usize::MAX)).is_err());
    }
}

#[test]
fn what_the_format_cannot_say_is_refused_and_changes_nothing() {
    let (host, mut table) = table(shape(4, 48, 1));
    let invalid = Err(AddrSpaceError::InvalidMapping);
    let write_only = MappingFlags::WRITE;
    let mapped = table.map(gpa(0), hpa(0), PageSize::Size4K, write_only);
    assert_eq!(mapped, invalid);
    let at = GuestPhysAddr::from_usize(0);
    assert_eq!(table.map(at, hpa(0), PageSize::Size1G, RW), invalid);
    assert_eq!(frames(&host), 1);
    table.map(gpa(0), hpa(0), PageSize::Size4K, RW).unwrap();
    assert!(!table.protect_region(gpa(0), 1 << PAGE_SHIFT, write_only));
    assert!(!table.remap(gpa(0), hpa(0), write_only));
    assert_eq!(table.query(gpa(0)).unwrap().1, RW);
}

#[test]
fn live_pages_come_and_go_and_take_no_frames_for_it() {
    let (host, mut table) = table(SHAPES[0]);
    table.map(gpa(0), hpa(7), PageSize::Size4K, RW).unwrap();
    // SAFETY: the table is there until the end, and maps nothing in their 2 MiB.
    let live = unsafe { LivePages::open(&host, SHAPES[0], table.root_paddr(), (gpa(1024), 3)) };
    let live = live.unwrap();
    let held = frames(&host);
    live.set(2, Some(hpa(0x100)));
    live.set(3, Some(hpa(0x200)));
    let shown = |page: usize| table.query(gpa(1024 + page)).ok().map(|(to, ..)| to);
    assert_eq!(
        [0, 1, 2, 3].map(shown),
        [None, None, Some(hpa(0x100)), None]
    );
    assert_eq!([live.get(2), live.get(0)], [Some(hpa(0x100)), None]);
    live.set(2, None);
    assert_eq!(shown(2), None);
    assert_eq!(table.query(gpa(0)).unwrap().0, hpa(7));
    assert_eq!(frames(&host), held);
    drop((live, table));
    host.check();
}
