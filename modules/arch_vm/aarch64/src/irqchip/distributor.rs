// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The distributor's registers, and those that redistributors share with it.
//!
//! Registers are words of 32 bits; priorities and targets are bytes, routes
//! have 64 bits. Other widths and offsets without a register read as zero and
//! ignore writes, as hardware does. GICv2 banks the first words by vCPU; with
//! GICv3 they are in the redistributors, and here they read as zero.
//!
//! Spec: Arm GIC Architecture Specification, "The Distributor register map".

use axvm::AccessWidth;

use super::{
    bank::{BANK, Bank, mask},
    lpi,
    state::{NOBODY, SGIS, SPI_BANKS, State, Version},
};

const CONTROL: u64 = 0x000;
const TYPE: u64 = 0x004;
const IMPLEMENTER: u64 = 0x008;
const GENERATE_SGI: u64 = 0xf00;
const CLEAR_SGI: u64 = 0xf10;
const SET_SGI: u64 = 0xf20;
const PERIPHERAL_ID_2_V3: u64 = 0xffe8;
const PERIPHERAL_ID_2_V2: u64 = 0xfe8;

const ENABLE_GROUP_0: u32 = 1 << 0;
const ENABLE_GROUP_1: u32 = 1 << 1;
const AFFINITY_ROUTING: u32 = 1 << 4;
const ONE_SECURITY_STATE: u32 = 1 << 6;
/// The bits of interrupt numbers, less one.
const ID_BITS: u32 = (lpi::ID_BITS - 1) << 19;
const HAS_LPIS: u32 = 1 << 17;
/// Arm, as the product that QEMU names.
const IMPLEMENTER_ARM: u32 = 0x43b;
const ARCHITECTURE_V2: u32 = 0x2b;
const ARCHITECTURE_V3: u32 = 0x3b;
const INTERNAL_ROUTING_ANY: u64 = 1 << 31;
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A word register of a bank, by its offset's range of 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WordRegister {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

impl WordRegister {
    /// Returns the register at an offset and the bank it is of.
    pub(crate) fn at(offset: u64) -> Option<(Self, usize)> {
        let register = match offset >> 7 {
            1 => Self::Group,
            2 => Self::SetEnable,
            3 => Self::ClearEnable,
            4 => Self::SetPending,
            5 => Self::ClearPending,
            6 => Self::SetActive,
            7 => Self::ClearActive,
            _ => return None,
        };
        Some((register, (offset as usize & 0x7f) >> 2))
    }

    fn read(self, bank: &Bank) -> u32 {
        match self {
            Self::Group => bank.group1,
            Self::SetEnable | Self::ClearEnable => bank.enabled,
            Self::SetPending | Self::ClearPending => bank.pending(),
            Self::SetActive | Self::ClearActive => bank.active,
        }
    }

    /// Returns the bits that software can change. Our GICv2 has no groups;
    /// its SGIs are always enabled, and pend by registers of their own.
    fn writable(self, version: Version, index: usize) -> u32 {
        match (version, self, index) {
            (Version::V2, Self::Group, _) => 0,
            (Version::V2, Self::SetEnable | Self::ClearEnable, 0) => !SGIS,
            (Version::V2, Self::SetPending | Self::ClearPending, 0) => !SGIS,
            _ => u32::MAX,
        }
    }

    fn write(self, bank: &mut Bank, value: u32) {
        match self {
            Self::Group => bank.group1 = value,
            Self::SetEnable => bank.enabled |= value,
            Self::ClearEnable => bank.enabled &= !value,
            Self::SetPending => bank.latch |= value,
            Self::ClearPending => bank.latch &= !value,
            Self::SetActive => bank.active |= value,
            Self::ClearActive => bank.active &= !value,
        }
    }
}

/// Reads a bank's words, priorities and trigger modes; `None` elsewhere.
pub(crate) fn read_bank(state: &State, cpu: usize, offset: u64) -> Option<u32> {
    if let Some((register, index)) = WordRegister::at(offset) {
        return Some(
            state
                .bank_at(cpu, index)
                .map_or(0, |bank| register.read(bank)),
        );
    }
    let first = offset as usize & !3;
    match offset {
        0x400..0x800 => Some(read_priorities(state, cpu, first.wrapping_sub(0x400))),
        0xc00..0xd00 => Some(read_triggers(state, cpu, first.wrapping_sub(0xc00))),
        _ => None,
    }
}

/// Writes what [`read_bank`] reads, and tells whether it is there.
pub(crate) fn write_bank(state: &mut State, cpu: usize, access: Write) -> bool {
    let Write { offset, value, .. } = access;
    if let Some((register, index)) = WordRegister::at(offset) {
        let writable = register.writable(state.version, index);
        if let Some(bank) = state.bank_at_mut(cpu, index) {
            register.write(bank, value & writable);
        }
        state.attend_all();
        return true;
    }
    match offset {
        0x400..0x800 => {
            for (at, byte) in access.bytes() {
                write_priority(state, cpu, at.wrapping_sub(0x400) as usize, byte);
            }
        }
        0xc00..0xd00 => write_triggers(state, cpu, offset as usize & 0xfc, value),
        _ => return false,
    }
    state.attend_all();
    true
}

/// A write of a register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) offset: u64,
    pub(crate) width: AccessWidth,
    pub(crate) value: u32,
}

impl Write {
    /// Visits the bytes that are written, with their offsets.
    pub(crate) fn bytes(self) -> impl Iterator<Item = (u64, u8)> {
        let size = self.width.size().min(4);
        let bytes = self.value.to_le_bytes().into_iter().take(size);
        (self.offset..).zip(bytes)
    }
}

fn read_priorities(state: &State, cpu: usize, first: usize) -> u32 {
    let byte = |at: usize| {
        let bank = state.bank_at(cpu, at / BANK);
        bank.and_then(|bank| bank.priority.get(at % BANK).copied())
            .unwrap_or(0)
    };
    word(first, byte)
}

/// Makes a word of four bytes from index `first` on.
fn word(first: usize, byte: impl Fn(usize) -> u8) -> u32 {
    u32::from_le_bytes([0, 1, 2, 3].map(|i| byte(first.wrapping_add(i))))
}

/// Returns what a narrow access at `offset` reads of its word.
pub(super) fn part_of_word(word: u32, offset: u64, width: AccessWidth) -> u64 {
    let shift = (offset as u32 & 3).wrapping_mul(8);
    let mask = match width {
        AccessWidth::Byte => 0xff,
        AccessWidth::Word => 0xffff,
        AccessWidth::Dword | AccessWidth::Qword => 0xffff_ffff,
    };
    u64::from(word.wrapping_shr(shift)) & mask
}

/// Five bits of priority, as this machine's hardware has.
const PRIORITY_BITS: u8 = 0xf8;

fn write_priority(state: &mut State, cpu: usize, at: usize, byte: u8) {
    let bank = state.bank_at_mut(cpu, at / BANK);
    if let Some(priority) = bank.and_then(|bank| bank.priority.get_mut(at % BANK)) {
        *priority = byte & PRIORITY_BITS;
    }
}

/// Two bits for each of sixteen interrupts; the upper one says edge.
fn read_triggers(state: &State, cpu: usize, first: usize) -> u32 {
    let bank = state.bank_at(cpu, first >> 3);
    let half = if first & 4 == 0 { 0 } else { 16 };
    let edge = bank.map_or(0, |bank| bank.edge >> half);
    (0..16)
        .filter(|bit| edge & mask(*bit) != 0)
        .fold(0, |word, bit| word | mask(bit << 1 | 1))
}

fn write_triggers(state: &mut State, cpu: usize, first: usize, value: u32) {
    // SGIs are edges, and so stay; the timers of PPIs are levels.
    if first < 8 {
        return;
    }
    let half = if first & 4 == 0 { 0 } else { 16 };
    if let Some(bank) = state.bank_at_mut(cpu, first >> 3) {
        let edge = (0..16)
            .filter(|bit| value & mask(*bit << 1 | 1) != 0)
            .fold(0, |word, bit| word | mask(bit));
        bank.edge = bank.edge & !(0xffff << half) | edge << half;
    }
}

impl State {
    /// Reads the distributor as vCPU `cpu` does.
    pub(crate) fn read_distributor(&self, cpu: usize, offset: u64, width: AccessWidth) -> u64 {
        if let Some(index) = self.route_index(offset) {
            let route = self.route(index);
            return match (width, offset & 4) {
                (AccessWidth::Qword, _) => route,
                (_, 0) => route & 0xffff_ffff,
                _ => route >> 32,
            };
        }
        let word = self.read_distributor_word(cpu, offset & !3);
        part_of_word(word, offset, width)
    }

    fn read_distributor_word(&self, cpu: usize, offset: u64) -> u32 {
        match (offset, self.version) {
            (CONTROL, _) => self.control(),
            (TYPE, _) => self.kind(),
            (IMPLEMENTER, _) => IMPLEMENTER_ARM,
            (PERIPHERAL_ID_2_V3, Version::V3) => ARCHITECTURE_V3,
            (PERIPHERAL_ID_2_V2, Version::V2) => ARCHITECTURE_V2,
            (CLEAR_SGI..0xf30, Version::V2) => self.sgi_senders(cpu, offset as usize & 0xc),
            (0x800..0xc00, Version::V2) => self.targets(cpu, (offset as usize).wrapping_sub(0x800)),
            _ if self.is_private_v3(offset) => 0,
            _ => read_bank(self, cpu, offset).unwrap_or(0),
        }
    }

    /// Writes the distributor as vCPU `cpu` does.
    pub(crate) fn write_distributor(&mut self, cpu: usize, access: Write, high: u32) {
        let Write { offset, value, .. } = access;
        if let Some(index) = self.route_index(offset) {
            return self.write_route(index, access, high);
        }
        match (offset, self.version) {
            (CONTROL, _) => self.set_control(value),
            (GENERATE_SGI, Version::V2) => self.generate_sgi(cpu, value),
            (CLEAR_SGI..0xf30, Version::V2) => self.write_sgi_senders(cpu, access),
            (0x800..0xc00, Version::V2) => self.write_targets(access),
            _ if self.is_private_v3(offset) => {}
            _ => {
                write_bank(self, cpu, access);
            }
        }
    }

    /// With affinity routing, private interrupts are in the redistributors.
    fn is_private_v3(&self, offset: u64) -> bool {
        let is_private = match offset {
            0x080..0x400 => offset & 0x7f < 4,
            0x400..0x420 | 0xc00..0xc08 => true,
            _ => false,
        };
        is_private && self.version == Version::V3
    }

    fn control(&self) -> u32 {
        let group0 = if self.enables.group0 {
            ENABLE_GROUP_0
        } else {
            0
        };
        let group1 = if self.enables.group1 {
            ENABLE_GROUP_1
        } else {
            0
        };
        let fixed = match self.version {
            Version::V2 => 0,
            Version::V3 => AFFINITY_ROUTING | ONE_SECURITY_STATE,
        };
        group0 | group1 | fixed
    }

    fn set_control(&mut self, value: u32) {
        self.enables.group0 = value & ENABLE_GROUP_0 != 0;
        self.enables.group1 = value & ENABLE_GROUP_1 != 0;
        self.attend_all();
    }

    fn kind(&self) -> u32 {
        let lines = SPI_BANKS as u32;
        match self.version {
            Version::V2 => lines | (self.privates.len() as u32).wrapping_sub(1) << 5,
            Version::V3 => lines | ID_BITS | HAS_LPIS,
        }
    }

    /// Returns the shared interrupt whose route is at an offset.
    fn route_index(&self, offset: u64) -> Option<usize> {
        let is_route = self.version == Version::V3 && (0x6100..0x8000).contains(&offset);
        is_route.then_some((offset.wrapping_sub(0x6100) >> 3) as usize)
    }

    fn route(&self, index: usize) -> u64 {
        let shared = self.shared.get(index / BANK);
        let route = shared.and_then(|shared| shared.route.get(index % BANK));
        route.copied().unwrap_or(0)
    }

    fn write_route(&mut self, index: usize, access: Write, high: u32) {
        let old = self.route(index);
        let (low, value) = (old & 0xffff_ffff, u64::from(access.value));
        let route = match (access.width, access.offset & 4) {
            (AccessWidth::Qword, _) => value | u64::from(high) << 32,
            (_, 0) => old & !0xffff_ffff | value,
            _ => low | value << 32,
        };
        let target = self.vcpu_of_route(route);
        if let Some(shared) = self.shared.get_mut(index / BANK)
            && let Some(slot) = shared.route.get_mut(index % BANK)
            && let Some(target_slot) = shared.target.get_mut(index % BANK)
        {
            *slot = route & (AFFINITY | INTERNAL_ROUTING_ANY);
            *target_slot = target;
        }
        self.attend_all();
    }

    fn vcpu_of_route(&self, route: u64) -> u8 {
        if route & INTERNAL_ROUTING_ANY != 0 {
            return 0;
        }
        super::vcpu_of_affinity(route & AFFINITY)
            .filter(|&vcpu| vcpu < self.privates.len())
            .map_or(NOBODY, |vcpu| vcpu as u8)
    }

    fn targets(&self, cpu: usize, first: usize) -> u32 {
        let byte = |at: usize| match at.checked_sub(BANK) {
            None => mask(cpu as u32) as u8,
            Some(at) => self.route(at) as u8,
        };
        word(first, byte)
    }

    fn write_targets(&mut self, access: Write) {
        let all = mask(self.privates.len() as u32).wrapping_sub(1) as u8;
        for (offset, byte) in access.bytes() {
            let at = (offset as usize).wrapping_sub(0x800 + BANK);
            if let Some(shared) = self.shared.get_mut(at / BANK)
                && let Some(route) = shared.route.get_mut(at % BANK)
                && let Some(target) = shared.target.get_mut(at % BANK)
            {
                let targets = byte & all;
                *route = targets.into();
                *target = match targets {
                    0 => NOBODY,
                    some => some.trailing_zeros() as u8,
                };
            }
        }
        self.attend_all();
    }

    fn generate_sgi(&mut self, from: usize, value: u32) {
        let intid = value & 15;
        let own = mask(from as u32);
        let targets = match value >> 24 & 3 {
            0 => value >> 16 & 0xff,
            1 => !own,
            2 => own,
            _ => 0,
        };
        for to in 0..self.privates.len() {
            if targets & mask(to as u32) != 0 {
                self.send_sgi(from, to, intid);
            }
        }
    }

    fn sgi_senders(&self, cpu: usize, first: usize) -> u32 {
        let senders = self.privates.get(cpu).map(|private| private.senders);
        word(first, |at| {
            senders
                .and_then(|senders| senders.get(at).copied())
                .unwrap_or(0)
        })
    }

    fn write_sgi_senders(&mut self, cpu: usize, access: Write) {
        let is_set = access.offset >= SET_SGI;
        for (offset, byte) in access.bytes() {
            let intid = offset as u32 & 15;
            let private = self.privates.get_mut(cpu);
            let Some(private) = private else { return };
            let Some(senders) = private.senders.get_mut(intid as usize) else {
                return;
            };
            *senders = match is_set {
                true => *senders | byte,
                false => *senders & !byte,
            };
            let is_pending = *senders != 0;
            private.bank.latch &= !mask(intid);
            if is_pending {
                private.bank.latch |= mask(intid);
            }
        }
        self.attend_all();
    }
}
