// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Finds what a guest executes: the bytes at its RIP, and their instruction.
//!
//! Bytes that the CPU does not tell are read by the guest's own page tables. The
//! instructions that were found last are remembered, each with every word of RAM
//! that was read for it, be it of a table or of code: as long as all of them and
//! the registers are the same, so is the instruction, whatever happened meanwhile.
//!
//! Spec: AMD64 APM 2, "Page Translation and Protection", "Nested Page Faults".

use core::cell::Cell;

use axvm::{AxVMHal, GuestPhysAddr, Ram};

use crate::{
    backend::Backend,
    exit::Exception,
    insn::{self, CodeSize, Instruction, LENGTH_MAX, PAGE_BYTES, Refusal, SegmentName},
    vcpu::VCpu,
    walk::{Paging, Purpose, Tables},
};

/// So many instructions are remembered, by the lowest bits of their addresses.
const REMEMBERED: usize = 8;
const WORD_BYTES: u64 = size_of::<u64>() as u64;
/// The words that an instruction can touch in its page.
const CODE_WORDS: usize = 3;
const CODE_BYTES: u64 = CODE_WORDS as u64 * WORD_BYTES;
/// A walk of four levels, and the code.
const WORDS_MAX: usize = 4 + CODE_WORDS;

type Bytes = [u8; LENGTH_MAX];

/// What decides where an instruction is, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    linear: u64,
    size: CodeSize,
    paging: Paging,
}

/// An instruction that was found, and what was read for it.
struct Found {
    place: Place,
    words: [(GuestPhysAddr, u64); WORDS_MAX],
    count: usize,
    instruction: Instruction,
}

/// The instructions that a vCPU has found last.
pub(crate) struct Recent([Option<Found>; REMEMBERED]);

impl Recent {
    pub(crate) const fn new() -> Self {
        Self([const { None }; REMEMBERED])
    }

    /// Returns the instruction at a place, if it was found there and still is.
    #[inline]
    fn find(&self, place: &Place, ram: &impl Tables) -> Option<&Instruction> {
        let found = self.0.get(index(place))?.as_ref()?;
        let mut words = found.words.get(..found.count)?.iter();
        let is_same = found.place == *place && words.all(|&(at, word)| ram.word(at) == Some(word));
        is_same.then_some(&found.instruction)
    }

    /// Finds the instruction at a place by what is there now, and remembers it.
    #[cold]
    #[inline(never)]
    fn look_up(&mut self, place: Place, ram: &impl Tables) -> Result<Instruction, Refusal> {
        let ram = Noted::new(ram);
        let bytes = place.bytes(&ram)?;
        let instruction = decode(&bytes, place.size)?;
        if let Some(count) = ram.count_for(&place, instruction.length)
            && let Some(slot) = self.0.get_mut(index(&place))
        {
            *slot = Some(Found {
                place,
                words: ram.words.map(Cell::into_inner),
                count,
                instruction,
            });
        }
        Ok(instruction)
    }
}

#[inline]
fn index(place: &Place) -> usize {
    place.linear as usize % REMEMBERED
}

/// RAM of which is noted what is read.
struct Noted<'a, T> {
    ram: &'a T,
    words: [Cell<(GuestPhysAddr, u64)>; WORDS_MAX],
    /// More than there is room for, if there was more.
    count: Cell<usize>,
}

impl<'a, T> Noted<'a, T> {
    fn new(ram: &'a T) -> Self {
        Self {
            ram,
            words: [const { Cell::new((GuestPhysAddr::from_usize(0), 0)) }; WORDS_MAX],
            count: Cell::new(0),
        }
    }
}

impl<T> Noted<'_, T> {
    /// Returns how many of the words decide what an instruction of this length is, if
    /// all are here: of those of its code, which come last, not what is behind it.
    fn count_for(&self, place: &Place, length: u8) -> Option<usize> {
        let start = place.linear % PAGE_BYTES;
        let words_to = |end: u64| end.min(PAGE_BYTES).div_ceil(WORD_BYTES);
        let read = words_to((start & !(WORD_BYTES - 1)).wrapping_add(CODE_BYTES));
        let used = words_to(start.wrapping_add(length.into()));
        let unused = read.saturating_sub(used) as usize;
        let count = self.count.get();
        (count <= self.words.len()).then(|| count.saturating_sub(unused))
    }
}

impl<T: Tables> Tables for Noted<'_, T> {
    fn word(&self, at: GuestPhysAddr) -> Option<u64> {
        let word = self.ram.word(at)?;
        let count = self.count.get();
        if let Some(slot) = self.words.get(count) {
            slot.set((at, word));
        }
        self.count.set(count.saturating_add(1));
        Some(word)
    }

    fn exchange(&self, at: GuestPhysAddr, old: u8, new: u8) -> bool {
        self.ram.exchange(at, old, new)
    }
}

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Returns the instruction at the guest's RIP.
    #[inline]
    pub(crate) fn instruction(&mut self) -> Result<Instruction, Refusal> {
        if let Some(bytes) = self.told() {
            return decode(&bytes, self.backend.code_size());
        }
        let place = self.place();
        let ram: &Ram<H> = &self.machine.ram;
        match self.recent.find(&place, ram) {
            Some(instruction) => Ok(*instruction),
            None => self.recent.look_up(place, ram),
        }
    }

    /// Returns the bytes at the guest's RIP, zeros behind what can be read.
    pub(crate) fn instruction_bytes(&self) -> Result<Bytes, Refusal> {
        match self.told() {
            Some(bytes) => Ok(bytes),
            None => self.place().bytes(&*self.machine.ram),
        }
    }

    /// Returns the bytes that the CPU tells.
    #[inline]
    fn told(&self) -> Option<Bytes> {
        let mut bytes = [0; LENGTH_MAX];
        let fetched = self.backend.fetched()?;
        for (slot, byte) in bytes.iter_mut().zip(fetched) {
            *slot = *byte;
        }
        Some(bytes)
    }

    #[inline]
    fn place(&self) -> Place {
        let size = self.backend.code_size();
        let base = self.backend.segment_base(SegmentName::Cs);
        Place {
            linear: size.cut(base.wrapping_add(self.backend.rip())),
            size,
            // No flag matters to a fetch.
            paging: Paging {
                rflags: 0,
                ..self.paging()
            },
        }
    }
}

impl Place {
    /// Reads the bytes that are here.
    fn bytes(&self, ram: &impl Tables) -> Result<Bytes, Refusal> {
        let mut bytes = self.bytes_of_page(self.linear, ram)?;
        let room = PAGE_BYTES.wrapping_sub(self.linear % PAGE_BYTES);
        if let Some(behind) = bytes.get_mut(room as usize..) {
            let next = self.size.cut(self.linear.wrapping_add(room));
            // What is not there was not executed.
            let second = self.bytes_of_page(next, ram).unwrap_or_default();
            behind
                .iter_mut()
                .zip(second)
                .for_each(|(slot, byte)| *slot = byte);
        }
        Ok(bytes)
    }

    /// Reads the bytes from an address to the end of its page.
    fn bytes_of_page(&self, linear: u64, ram: &impl Tables) -> Result<Bytes, Refusal> {
        let found = self.paging.translate(linear, Purpose::Fetch, ram);
        let address = found
            .map_err(|code| Refusal::Page(linear, code))?
            .as_usize() as u64;
        let first = address & !(WORD_BYTES - 1);
        let end = (address | (PAGE_BYTES - 1)).wrapping_add(1);
        let mut words = [[0; WORD_BYTES as usize]; CODE_WORDS];
        for (word, at) in words
            .iter_mut()
            .zip((first..end).step_by(WORD_BYTES as usize))
        {
            let at = GuestPhysAddr::from_usize(at as usize);
            *word = ram.word(at).ok_or(Refusal::Changed)?.to_le_bytes();
        }
        let start = address.wrapping_sub(first) as usize;
        let there = words
            .as_flattened()
            .get(start..)
            .and_then(<[u8]>::first_chunk);
        Ok(there.copied().unwrap_or_default())
    }
}

/// Decodes an instruction; one that is not known is undefined.
#[inline]
fn decode(bytes: &Bytes, size: CodeSize) -> Result<Instruction, Refusal> {
    insn::decode(bytes, size).ok_or(Refusal::Exception(Exception::UNDEFINED))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// What has words at a few addresses.
    struct Memory(BTreeMap<usize, u64>);

    impl Tables for Memory {
        fn word(&self, at: GuestPhysAddr) -> Option<u64> {
            (at.as_usize() < 0x1_0000).then(|| self.0.get(&at.as_usize()).copied().unwrap_or(0))
        }

        fn exchange(&self, _: GuestPhysAddr, _: u8, _: u8) -> bool {
            unreachable!("a fetch sets no bits")
        }
    }

    /// Tables of four levels at 0x1000, for two pages of code at 0x5000 and 0x6000.
    fn memory() -> Memory {
        Memory(BTreeMap::from([
            (0x1000, 0x2007),
            (0x2000, 0x3007),
            (0x3000, 0x4007),
            (0x4000, 0x5007),
            (0x4008, 0x6007),
            (0x5000, LOAD),
            (0x5008, LOAD),
            (0x5ff8, LOAD << 48),
            (0x6000, LOAD),
        ]))
    }

    /// mov eax, [rbx + 0x11223344]; nop
    const LOAD: u64 = 0x9090_1122_3344_838b;
    /// add [rbx + 0x11223344], eax; nop
    const ADD: u64 = 0x9090_1122_3344_8301;
    /// Bits of CR0, CR4 and EFER that long mode has.
    const LONG: (u64, u64, u64) = (1 << 31, 1 << 5, 1 << 10 | 1 << 11);

    fn place(linear: u64) -> Place {
        Place {
            linear,
            size: CodeSize::Bits64,
            paging: Paging {
                cr0: LONG.0,
                cr3: 0x1000,
                cr4: LONG.1,
                efer: LONG.2,
                rflags: 0,
                cpl: 0,
            },
        }
    }

    /// The same code without tables.
    fn unpaged(linear: u64) -> Place {
        Place {
            linear: linear.wrapping_add(0x5000),
            size: CodeSize::Bits32,
            paging: Paging {
                cr0: 0,
                efer: 0,
                ..place(linear).paging
            },
        }
    }

    #[test]
    fn an_instruction_is_remembered_unless_it_is_at_the_end_of_a_page() {
        let (mut recent, memory) = (Recent::new(), memory());
        for (linear, is_remembered) in [(0, true), (8, true), (0xffe, false), (0xff9, false)] {
            let place = place(linear);
            recent.look_up(place, &memory).unwrap();
            let found = recent.find(&place, &memory);
            assert_eq!(found.is_some(), is_remembered, "{linear:#x}");
        }
        let other = Place {
            paging: Paging {
                cr3: 0x2000,
                ..place(8).paging
            },
            ..place(8)
        };
        assert_eq!(recent.find(&other, &memory), None);
    }

    proptest! {
        #[test]
        fn what_is_remembered_is_what_would_be_found(
            steps in prop::collection::vec((0usize..9, 0usize..6, 0usize..5, any::<bool>()), 1..60),
        ) {
            let (mut recent, mut memory) = (Recent::new(), memory());
            for (word, value, linear, is_paged) in steps {
                let linear = [0, 3, 8, 0xff9, 0xffe][linear];
                let place = match is_paged {
                    true => place(linear),
                    false => unpaged(linear),
                };
                let _ = recent.look_up(place, &memory);
                let at = *memory.0.keys().nth(word).unwrap();
                let value = [LOAD, ADD, 0, 0x5007, 0x6007, 0x5003][value];
                memory.0.insert(at, value);
                let found = recent.find(&place, &memory).copied();
                if let Some(instruction) = found {
                    let fresh = Recent::new().look_up(place, &memory);
                    prop_assert_eq!(fresh, Ok(instruction));
                }
            }
        }
    }
}
