// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Moves of vector registers, whole or by eight bytes, in their old and VEX forms.
//!
//! Others (masks, EVEX, MMX) are not known. Alignment and whether the guest may use
//! these registers at all the CPU has checked.
//!
//! Spec: AMD64 APM 4, each instruction; APM 3, "VEX and XOP Prefixes".

/// A move between memory and a vector register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vector {
    pub(crate) register: u8,
    /// How much memory; the register's bits above it are cleared by a load.
    pub(crate) bytes: u8,
    pub(crate) is_store: bool,
    /// A load clears the wider registers that this is part of.
    pub(crate) is_vex: bool,
    /// It moves eight bytes of sixteen.
    pub(crate) half: Option<Half>,
    /// The register that a load of a half has the other from.
    pub(crate) other: u8,
}

/// Half of the 16 bytes that a vector register begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Low,
    High,
}

/// The prefix that is part of a vector instruction's opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mandatory {
    None,
    Operand,
    Repeat,
    RepeatNot,
}

/// Which of the maps of opcodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Map {
    /// Behind 0f.
    Two,
    /// Behind 0f 38.
    Three,
}

/// How much memory a move has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// The whole register: 16 bytes, or 32 in VEX's long form.
    Whole,
    Four,
    Eight,
    /// Four bytes, or eight with REX.W.
    General,
    /// Eight bytes; the other eight stay.
    Low,
    High,
}

/// Returns how much an opcode moves, and whether it stores.
pub(super) fn row(map: Map, prefix: Mandatory, opcode: u8) -> Option<(Size, bool)> {
    use Mandatory::{None as Plain, Operand, Repeat, RepeatNot};
    const LOADS: bool = false;
    const STORES: bool = true;
    Some(match (map, prefix, opcode) {
        // MOVUPS, MOVUPD, MOVAPS, MOVAPD, MOVNTPS, MOVNTPD.
        (Map::Two, Plain | Operand, 0x10 | 0x28) => (Size::Whole, LOADS),
        (Map::Two, Plain | Operand, 0x11 | 0x29 | 0x2b) => (Size::Whole, STORES),
        // MOVLPS, MOVLPD, MOVHPS, MOVHPD.
        (Map::Two, Plain | Operand, 0x12) => (Size::Low, LOADS),
        (Map::Two, Plain | Operand, 0x13) => (Size::Low, STORES),
        (Map::Two, Plain | Operand, 0x16) => (Size::High, LOADS),
        (Map::Two, Plain | Operand, 0x17) => (Size::High, STORES),
        // MOVSS, MOVSD.
        (Map::Two, Repeat, 0x10) => (Size::Four, LOADS),
        (Map::Two, Repeat, 0x11) => (Size::Four, STORES),
        (Map::Two, RepeatNot, 0x10) => (Size::Eight, LOADS),
        (Map::Two, RepeatNot, 0x11) => (Size::Eight, STORES),
        // MOVD and MOVQ of a general operand, MOVQ.
        (Map::Two, Operand, 0x6e) => (Size::General, LOADS),
        (Map::Two, Operand, 0x7e) => (Size::General, STORES),
        (Map::Two, Repeat, 0x7e) => (Size::Eight, LOADS),
        (Map::Two, Operand, 0xd6) => (Size::Eight, STORES),
        // MOVDQA, MOVDQU, MOVNTDQ, LDDQU, MOVNTDQA.
        (Map::Two, Operand | Repeat, 0x6f) => (Size::Whole, LOADS),
        (Map::Two, Operand | Repeat, 0x7f) => (Size::Whole, STORES),
        (Map::Two, Operand, 0xe7) => (Size::Whole, STORES),
        (Map::Two, RepeatNot, 0xf0) => (Size::Whole, LOADS),
        (Map::Three, Operand, 0x2a) => (Size::Whole, LOADS),
        _ => return None,
    })
}
