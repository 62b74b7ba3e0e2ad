// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt sources of an APLIC's domain and their pending bits.
//!
//! When a pending bit changes depends on the source's mode, on how the domain
//! delivers, and on the wire; this file is those rules and nothing else. It
//! keeps that a source that is inactive is neither pending nor enabled, and
//! that a level source is never pending while its rectified input is low.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Precise effects on
//! interrupt-pending bits".

use tock_registers::LocalRegisterCopy;

use super::{
    Delivery,
    registers::{MSI_TARGET, SOURCECFG, TARGET},
};

/// The highest source; 0 does not exist.
pub const SOURCES: usize = 96;
/// Sources and the nonexistent source 0.
const NUMBERS: usize = SOURCES + 1;
/// The words of a bit for each number.
pub(super) const WORDS: usize = NUMBERS.div_ceil(32);

/// A source that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source(u32);

impl Source {
    pub(super) fn new(number: u32) -> Option<Self> {
        (1..=SOURCES as u32)
            .contains(&number)
            .then_some(Self(number))
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        self.0 as usize
    }

    fn bit(self) -> u32 {
        1_u32.wrapping_shl(self.0)
    }
}

/// Returns the sources whose bits are set in a word of a register array, in order.
pub(super) fn sources_in(word: usize, bits: u32) -> impl Iterator<Item = Source> {
    let first = (word as u32).wrapping_mul(32);
    let mut left = bits;
    let numbers = core::iter::from_fn(move || {
        let lowest = (left != 0).then(|| first.wrapping_add(left.trailing_zeros()));
        left &= left.wrapping_sub(1);
        lowest
    });
    numbers.filter_map(Source::new)
}

/// A set of sources.
#[derive(Clone, Copy, Default)]
struct SourceSet([u32; WORDS]);

impl SourceSet {
    fn word(&self, word: usize) -> u32 {
        self.0.get(word).copied().unwrap_or(0)
    }

    fn contains(&self, source: Source) -> bool {
        self.word(source.index() / 32) & source.bit() != 0
    }

    fn insert(&mut self, source: Source) {
        if let Some(word) = self.0.get_mut(source.index() / 32) {
            *word |= source.bit();
        }
    }

    fn remove(&mut self, source: Source) {
        if let Some(word) = self.0.get_mut(source.index() / 32) {
            *word &= !source.bit();
        }
    }
}

/// What of a source's wire is an interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Inactive,
    Detached,
    EdgeRise,
    EdgeFall,
    LevelHigh,
    LevelLow,
}

impl Mode {
    /// Returns what a write to sourcecfg chooses; there is no child domain to
    /// which a source could be delegated, and reserved modes are not supported.
    fn written(value: u32) -> Self {
        let value = LocalRegisterCopy::<u32, SOURCECFG::Register>::new(value);
        if value.is_set(SOURCECFG::D) {
            return Self::Inactive;
        }
        match value.read_as_enum(SOURCECFG::SM) {
            Some(SOURCECFG::SM::Value::Detached) => Self::Detached,
            Some(SOURCECFG::SM::Value::Edge1) => Self::EdgeRise,
            Some(SOURCECFG::SM::Value::Edge0) => Self::EdgeFall,
            Some(SOURCECFG::SM::Value::Level1) => Self::LevelHigh,
            Some(SOURCECFG::SM::Value::Level0) => Self::LevelLow,
            Some(SOURCECFG::SM::Value::Inactive) | None => Self::Inactive,
        }
    }

    fn as_read(self) -> u32 {
        let field = match self {
            Self::Inactive => SOURCECFG::SM::Inactive,
            Self::Detached => SOURCECFG::SM::Detached,
            Self::EdgeRise => SOURCECFG::SM::Edge1,
            Self::EdgeFall => SOURCECFG::SM::Edge0,
            Self::LevelHigh => SOURCECFG::SM::Level1,
            Self::LevelLow => SOURCECFG::SM::Level0,
        };
        field.value
    }

    fn is_level(self) -> bool {
        matches!(self, Self::LevelHigh | Self::LevelLow)
    }

    /// Tells whether a wire in this state asserts the interrupt.
    fn rectify(self, is_high: bool) -> bool {
        match self {
            Self::Inactive | Self::Detached => false,
            Self::EdgeRise | Self::LevelHigh => is_high,
            Self::EdgeFall | Self::LevelLow => !is_high,
        }
    }
}

/// All sources of a domain.
pub(super) struct Sources {
    delivery: Delivery,
    modes: [Mode; NUMBERS],
    /// Kept while a source is inactive, but not shown: guests that choose the
    /// target first find it where QEMU keeps it too.
    targets: [u32; NUMBERS],
    high: SourceSet,
    pending: SourceSet,
    enabled: SourceSet,
}

impl Sources {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            modes: [Mode::Inactive; NUMBERS],
            targets: [written_target(delivery, 0); NUMBERS],
            high: SourceSet::default(),
            pending: SourceSet::default(),
            enabled: SourceSet::default(),
        }
    }

    fn mode(&self, source: Source) -> Mode {
        self.modes.get(source.index()).copied().unwrap_or_default()
    }

    fn is_active(&self, source: Source) -> bool {
        self.mode(source) != Mode::Inactive
    }

    fn input(&self, source: Source) -> bool {
        self.mode(source).rectify(self.high.contains(source))
    }

    /// Drives a source's wire.
    pub(super) fn set_level(&mut self, source: Source, is_high: bool) {
        let before = self.input(source);
        match is_high {
            true => self.high.insert(source),
            false => self.high.remove(source),
        }
        match (before, self.input(source)) {
            (false, true) => self.pending.insert(source),
            (true, false) if self.mode(source).is_level() => self.pending.remove(source),
            _ => {}
        }
    }

    /// Returns sourcecfg.
    pub(super) fn configuration(&self, source: Source) -> u32 {
        self.mode(source).as_read()
    }

    /// Writes sourcecfg; an input that is asserted in the new mode is pending.
    pub(super) fn configure(&mut self, source: Source, value: u32) {
        let mode = Mode::written(value);
        if let Some(kept) = self.modes.get_mut(source.index()) {
            *kept = mode;
        }
        if mode == Mode::Inactive {
            self.enabled.remove(source);
            self.pending.remove(source);
        } else if self.input(source) {
            self.pending.insert(source);
        } else if mode.is_level() {
            self.pending.remove(source);
        }
    }

    /// Sets a pending bit if software may in the source's state.
    pub(super) fn set_pending(&mut self, source: Source) {
        let may = match self.mode(source) {
            Mode::Inactive => false,
            Mode::LevelHigh | Mode::LevelLow => {
                self.delivery == Delivery::Msi && self.input(source)
            }
            _ => true,
        };
        if may {
            self.pending.insert(source);
        }
    }

    /// Clears a pending bit if software, or a claim, may in the source's state.
    pub(super) fn clear_pending(&mut self, source: Source) {
        let is_input = self.delivery == Delivery::Direct && self.mode(source).is_level();
        if !is_input {
            self.pending.remove(source);
        }
    }

    /// Enables a source, an active one.
    pub(super) fn enable(&mut self, source: Source) {
        if self.is_active(source) {
            self.enabled.insert(source);
        }
    }

    /// Disables a source.
    pub(super) fn disable(&mut self, source: Source) {
        self.enabled.remove(source);
    }

    /// Returns a word of the pending bits.
    pub(super) fn pending_word(&self, word: usize) -> u32 {
        self.pending.word(word)
    }

    /// Returns a word of the enable bits.
    pub(super) fn enabled_word(&self, word: usize) -> u32 {
        self.enabled.word(word)
    }

    /// Returns a word of the rectified inputs.
    pub(super) fn input_word(&self, word: usize) -> u32 {
        sources_in(word, u32::MAX)
            .filter(|&source| self.input(source))
            .fold(0, |bits, source| bits | source.bit())
    }

    /// Returns the target register, which an inactive source has not.
    pub(super) fn target(&self, source: Source) -> u32 {
        match self.is_active(source) {
            true => self.targets.get(source.index()).copied().unwrap_or(0),
            false => 0,
        }
    }

    /// Writes the target register.
    pub(super) fn set_target(&mut self, source: Source, value: u32) {
        if let Some(target) = self.targets.get_mut(source.index()) {
            *target = written_target(self.delivery, value);
        }
    }

    /// Returns the sources that are pending and enabled, in order.
    pub(super) fn ready(&self) -> impl Iterator<Item = Source> {
        let word = |word: usize| self.pending.word(word) & self.enabled.word(word);
        (0..WORDS).flat_map(move |index| sources_in(index, word(index)))
    }
}

/// Returns what a target register keeps of a value; priority 0 does not exist.
///
/// The guest index has no bits, as the guest's harts have no guests.
fn written_target(delivery: Delivery, value: u32) -> u32 {
    let msi = LocalRegisterCopy::<u32, MSI_TARGET::Register>::new(value);
    let direct = LocalRegisterCopy::<u32, TARGET::Register>::new(value);
    let hart = TARGET::HART.val(direct.read(TARGET::HART)).value;
    match delivery {
        Delivery::Msi => hart | msi.read(MSI_TARGET::EIID),
        Delivery::Direct => hart | direct.read(TARGET::IPRIO).max(1),
    }
}
