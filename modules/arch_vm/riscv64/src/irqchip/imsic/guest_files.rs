// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Which vCPU has which interrupt file of the hardware.
//!
//! A physical hart has GEILEN guest interrupt files, numbered from 1; a vCPU
//! that is bound to the hart gets one while there are some, and lives by its
//! software file otherwise. A file does not move with its vCPU, so each change
//! is a [`Move`]: the steps that carry the state over without losing a message,
//! done by whoever can reach the registers while the vCPU does not run. The
//! vCPU's software file is the memory in between; while the vCPU has a
//! hardware file nothing is pending in it.
//!
//! Two vCPUs never have the same file, and a file that is being left is nobody
//! else's until the move is finished. A [`Home`] is the proof of having a file.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Migrating a virtual hart
//! to a different guest interrupt file"; RISC-V Privileged, "H" extension,
//! hstatus.VGEIN.

use alloc::vec::Vec;

use axvm::PCpuId;

/// The most that hgeip has bits for.
const FILES_MAX: usize = 63;

/// A guest interrupt file of the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The physical hart that it belongs to, and that alone reaches its registers.
    pub pcpu: PCpuId,
    /// Its number there, as VGEIN, hgeip and hgeie have it.
    pub number: u32,
}

impl FileId {
    fn index(self) -> usize {
        (self.number as usize).wrapping_sub(1)
    }

    /// Returns its bit of hgeip and hgeie.
    pub fn bit(self) -> u64 {
        1_u64.wrapping_shl(self.number)
    }
}

/// Where a vCPU's interrupts are.
#[derive(Debug, PartialEq, Eq)]
pub struct Home(Option<FileId>);

impl Home {
    /// Its software file, where every vCPU starts.
    pub const SOFTWARE: Self = Self(None);

    /// Returns its hardware file, if it has one.
    pub fn file(&self) -> Option<FileId> {
        self.0
    }

    /// Tells whether its hardware file is one of this physical hart, so that
    /// it can be bound there as it is.
    pub fn is_on(&self, pcpu: PCpuId) -> bool {
        self.0.is_some_and(|file| file.pcpu == pcpu)
    }
}

/// One step of a move; those of a file are done on its physical hart, by
/// hstatus.VGEIN, vsiselect and vsireg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Clear eidelivery, eip and eie: all that the hardware has of them, as
    /// another VM's state may be there.
    Empty(FileId),
    /// Send messages to this file, or to the software file, from now on: the
    /// guest's page in stage 2, and senders in the hypervisor. It is done when none
    /// can reach the old one: remote fences have been answered, and senders that
    /// had looked it up are through.
    Route(Option<FileId>),
    /// Add eip to the software file's, and copy the rest there.
    Save(FileId),
    /// Take what is pending out of the software file and add it to eip, which
    /// messages reach already; copy eie, eithreshold, and eidelivery at last.
    Load(FileId),
}

/// A vCPU's way from one home to another; the vCPU may run when it is finished.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the files are taken until the move is finished"]
pub struct Move {
    from: Option<FileId>,
    to: Option<FileId>,
}

impl Move {
    /// Returns what must be done, in this order; nothing if the vCPU stays.
    pub fn steps(&self) -> impl Iterator<Item = Step> + use<> {
        let (from, to) = match self.from == self.to {
            true => (None, None),
            false => (self.from, self.to),
        };
        let is_moved = from.is_some() || to.is_some();
        [
            to.map(Step::Empty),
            is_moved.then_some(Step::Route(to)),
            from.map(Step::Save),
            to.map(Step::Load),
        ]
        .into_iter()
        .flatten()
    }
}

/// All guest interrupt files of the machine, and whose they are.
pub struct GuestFiles<O> {
    owners: Vec<Vec<Option<O>>>,
}

impl<O> GuestFiles<O> {
    /// Makes the files of harts of which each has so many (its GEILEN, or 0
    /// where its files have fewer identities than guests are told), in the
    /// order of their ids.
    pub fn new(counts: &[usize]) -> Self {
        let none = |&count: &usize| {
            let files = core::iter::repeat_with(|| None);
            files.take(count.min(FILES_MAX)).collect()
        };
        Self {
            owners: counts.iter().map(none).collect(),
        }
    }

    /// Moves a vCPU to where it is bound: a file of that hart that is its already
    /// or is free, and its software file if there is none.
    pub fn place(&mut self, owner: O, home: Home, pcpu: PCpuId) -> Move {
        let from = home.file();
        let to = match home.is_on(pcpu) {
            true => from,
            false => self.take(owner, pcpu),
        };
        Move { from, to }
    }

    /// Moves a vCPU to its software file.
    pub fn evict(&mut self, home: Home) -> Move {
        Move {
            from: home.file(),
            to: None,
        }
    }

    /// Ends a move whose steps are all done.
    pub fn finish(&mut self, done: Move) -> Home {
        if let Some(old) = done.from.filter(|_| done.from != done.to) {
            self.give(old);
        }
        Home(done.to)
    }

    /// Takes the file of a vCPU that is no more, nor anything that could send to it.
    pub fn release(&mut self, home: Home) {
        if let Some(file) = home.file() {
            self.give(file);
        }
    }

    /// Returns whose a file is.
    pub fn owner(&self, file: FileId) -> Option<&O> {
        self.owners.get(file.pcpu.0)?.get(file.index())?.as_ref()
    }

    fn take(&mut self, owner: O, pcpu: PCpuId) -> Option<FileId> {
        let owners = self.owners.get_mut(pcpu.0)?;
        let numbered = (1_u32..).zip(owners.iter_mut());
        let (number, place) = numbered.into_iter().find(|(_, place)| place.is_none())?;
        *place = Some(owner);
        Some(FileId { pcpu, number })
    }

    fn give(&mut self, file: FileId) {
        let owners = self.owners.get_mut(file.pcpu.0);
        if let Some(owner) = owners.and_then(|owners| owners.get_mut(file.index())) {
            *owner = None;
        }
    }
}

/// Where the machine's supervisor-level and guest files take their messages.
///
/// As the device tree says it: `reg` and the `riscv,…-index-…` properties.
#[derive(Clone, Copy, Debug)]
pub struct HostPages {
    /// The first page.
    pub start: u64,
    /// `riscv,guest-index-bits`.
    pub guest_index_bits: u32,
    /// `riscv,hart-index-bits`.
    pub hart_index_bits: u32,
    /// `riscv,group-index-shift`.
    pub group_index_shift: u32,
}

impl HostPages {
    /// Returns the page of a file of the hart that is this one in the order of
    /// `interrupts-extended`; file 0 is the hart's own.
    pub fn page(&self, hart: u64, number: u32) -> u64 {
        let group = hart.checked_shr(self.hart_index_bits).unwrap_or(0);
        let inside = hart & !group.checked_shl(self.hart_index_bits).unwrap_or(0);
        let pages = inside
            .checked_shl(self.guest_index_bits)
            .map_or(0, |first| first | u64::from(number));
        let of_group = group.checked_shl(self.group_index_shift).unwrap_or(0);
        self.start
            .wrapping_add(of_group)
            .wrapping_add(pages.wrapping_mul(super::PAGE_BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::super::csrs::{Csr, HartView, Operation, access, write_all};
    use super::super::{Identities, InterruptFile};
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec};

    type Owner = (usize, usize);
    const OWNER: Owner = (1, 0);

    impl Home {
        fn vgein(&self) -> u32 {
            self.0.map_or(0, |file| file.number)
        }
    }

    fn owner(vcpu: usize) -> Owner {
        (1, vcpu)
    }

    fn file(pcpu: usize, number: u32) -> FileId {
        let pcpu = PCpuId(pcpu);
        FileId { pcpu, number }
    }

    fn settle(files: &mut GuestFiles<Owner>, owner: Owner, home: Home, pcpu: usize) -> Home {
        let placed = files.place(owner, home, PCpuId(pcpu));
        files.finish(placed)
    }

    #[test]
    fn files_run_out_and_come_back() {
        let mut files = GuestFiles::new(&[2, 0]);
        let first = settle(&mut files, owner(0), Home::SOFTWARE, 0);
        let second = settle(&mut files, owner(1), Home::SOFTWARE, 0);
        let third = settle(&mut files, owner(2), Home::SOFTWARE, 0);
        assert_eq!([&first, &second, &third].map(Home::vgein), [1, 2, 0]);
        let first = settle(&mut files, owner(0), first, 1);
        assert_eq!(first, Home::SOFTWARE, "the other hart has none");
        let third = settle(&mut files, owner(2), third, 0);
        assert_eq!(third.file(), Some(file(0, 1)));
        files.release(second);
        let first = settle(&mut files, owner(0), first, 0);
        assert_eq!(first.vgein(), 2);
    }

    #[test]
    fn a_hart_that_is_not_there_has_no_files() {
        let mut files = GuestFiles::new(&[1]);
        assert_eq!(settle(&mut files, OWNER, Home::SOFTWARE, 7), Home::SOFTWARE);
        assert_eq!(files.owner(file(7, 1)), None);
        assert_eq!(GuestFiles::<Owner>::new(&[1000]).owners[0].len(), FILES_MAX);
    }

    #[test]
    fn a_move_takes_the_steps_of_the_specification() {
        let mut files = GuestFiles::new(&[1, 1]);
        let (a, b) = (file(0, 1), file(1, 1));
        let steps = |movement: &Move| movement.steps().collect::<Vec<_>>();
        use Step::{Empty, Load, Route, Save};

        let in_a = files.place(OWNER, Home::SOFTWARE, PCpuId(0));
        assert_eq!(steps(&in_a), [Empty(a), Route(Some(a)), Load(a)]);
        let home = files.finish(in_a);
        assert!(home.is_on(PCpuId(0)) && !home.is_on(PCpuId(1)));

        let stays = files.place(OWNER, home, PCpuId(0));
        assert_eq!(steps(&stays), []);
        let home = files.finish(stays);

        let in_b = files.place(OWNER, home, PCpuId(1));
        let all = [Empty(b), Route(Some(b)), Save(a), Load(b)];
        assert_eq!(steps(&in_b), all);
        let home = files.finish(in_b);

        let out = files.evict(home);
        assert_eq!(steps(&out), [Route(None), Save(b)]);
        assert_eq!(files.finish(out), Home::SOFTWARE);
    }

    #[test]
    fn a_file_that_is_being_left_is_nobody_else_s() {
        let mut files = GuestFiles::new(&[1, 1]);
        let home = settle(&mut files, owner(0), Home::SOFTWARE, 0);
        let leaving = files.place(owner(0), home, PCpuId(1));
        let other = settle(&mut files, owner(1), Home::SOFTWARE, 0);
        assert_eq!(other, Home::SOFTWARE);
        let _ = files.finish(leaving);
        assert_eq!(settle(&mut files, owner(1), other, 0).vgein(), 1);
    }

    #[test]
    fn a_file_knows_its_owner_until_it_is_given_back() {
        let mut files = GuestFiles::new(&[2]);
        let homes = [0, 1].map(|vcpu| settle(&mut files, owner(vcpu), Home::SOFTWARE, 0));
        assert_eq!(files.owner(file(0, 2)), Some(&owner(1)));
        assert_eq!(files.owner(file(0, 0)), None, "the hart's own");
        let [_, last] = homes;
        files.release(last);
        assert_eq!(files.owner(file(0, 2)), None);
    }

    #[test]
    fn pages_are_where_the_device_tree_says() {
        let flat = HostPages {
            start: 0x2800_0000,
            guest_index_bits: 2,
            hart_index_bits: 3,
            group_index_shift: 24,
        };
        assert_eq!(flat.page(0, 0), 0x2800_0000);
        assert_eq!(flat.page(2, 3), 0x2800_b000);
        assert_eq!(flat.page(9, 1), 0x2900_5000);
    }

    /// Hardware that carries steps out, and one vCPU.
    struct Machine {
        hardware: BTreeMap<(usize, u32), InterruptFile>,
        memory: InterruptFile,
        route: Option<FileId>,
    }

    const ARRAYS: [u64; 4] = [0x80, 0x82, 0xc0, 0xc2];

    fn register(file: &InterruptFile, select: u64, operation: Operation) -> u64 {
        let mut hart = HartView {
            select,
            ..Default::default()
        };
        access(file, &mut hart, Csr::Sireg, operation).unwrap()
    }

    fn copy(from: &InterruptFile, to: &InterruptFile, selects: &[u64]) {
        for &select in selects {
            let value = register(from, select, Operation::Read);
            register(to, select, Operation::Write(value));
        }
    }

    fn add_pending(from: &InterruptFile, to: &InterruptFile) {
        for &select in &ARRAYS[..2] {
            let pending = register(from, select, Operation::Write(0));
            register(to, select, Operation::Set(pending));
        }
    }

    impl Machine {
        fn new() -> Self {
            let new_file = || InterruptFile::new(Identities::new(127).unwrap());
            let ids = [(0, 1), (1, 1), (1, 2)];
            Self {
                hardware: ids.map(|id| (id, new_file())).into(),
                memory: new_file(),
                route: None,
            }
        }

        fn at(&self, home: Option<FileId>) -> &InterruptFile {
            home.map_or(&self.memory, |file| {
                &self.hardware[&(file.pcpu.0, file.number)]
            })
        }

        fn carry_out(&mut self, step: Step) {
            let memory = &self.memory;
            match step {
                Step::Empty(id) => write_all(self.at(Some(id)), &ARRAYS.map(|select| (select, 0))),
                Step::Route(to) => self.route = to,
                Step::Save(id) => {
                    add_pending(self.at(Some(id)), memory);
                    copy(
                        self.at(Some(id)),
                        memory,
                        &[&[0x70, 0x72], &ARRAYS[2..]].concat(),
                    );
                }
                Step::Load(id) => {
                    add_pending(memory, self.at(Some(id)));
                    copy(
                        memory,
                        self.at(Some(id)),
                        &[&ARRAYS[2..], &[0x72, 0x70]].concat(),
                    );
                }
            }
        }
    }

    proptest! {
        /// The vCPU moves about while messages arrive, also between steps, and
        /// another one takes files and leaves dirt in them.
        #[test]
        fn no_message_is_lost_or_seen_twice(
            moves in prop::collection::vec((0_usize..3, prop::collection::vec(1_u32..128, 0..8)), 0..20),
            enabled: u64,
            threshold in 0_u64..128,
        ) {
            let mut machine = Machine::new();
            let mut files = GuestFiles::new(&[1, 2]);
            let setup = [(0x70, 1), (0x72, threshold), (0xc0, enabled), (0xc2, !enabled)];
            write_all(&machine.memory, &setup);
            let expected = InterruptFile::new(Identities::new(127).unwrap());
            write_all(&expected, &setup);
            let mut home = Home::SOFTWARE;
            for (pcpu, messages) in moves {
                let mut messages = messages.into_iter();
                let movement = match pcpu {
                    2 => files.evict(home),
                    _ => files.place(OWNER, home, PCpuId(pcpu)),
                };
                for step in movement.steps() {
                    if let Some(id) = messages.next() {
                        machine.at(machine.route).set_pending(id);
                        expected.set_pending(id);
                    }
                    machine.carry_out(step);
                }
                home = files.finish(movement);
                prop_assert_eq!(machine.route, home.file());
                for (id, file) in &machine.hardware {
                    if home.file().map(|file| (file.pcpu.0, file.number)) != Some(*id) {
                        write_all(file, &ARRAYS.map(|select| (select, u64::MAX)));
                    }
                }
                let now = machine.at(home.file());
                for select in [vec![0x70, 0x72], ARRAYS.to_vec()].concat() {
                    let was = register(&expected, select, Operation::Read);
                    prop_assert_eq!(register(now, select, Operation::Read), was, "{:#x}", select);
                }
                prop_assert_eq!(now.claim(), expected.claim());
            }
        }
    }
}
