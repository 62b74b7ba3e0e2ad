// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One interrupt file.
//!
//! Its hart reads and writes it, everybody may make an identity pending. All
//! accesses are sequentially consistent, so that of a sender that sets a bit
//! and then looks whether the hart wants it, and a hart that changes what it
//! wants and then looks for bits, at least one sees what the other did.
//!
//! Also the memory in which the state of a hardware file waits while its vCPU
//! has none.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Interrupt files and
//! interrupt identities", "Interrupt delivery and handling".

use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields![u32,
    pub(super) TOPEI [
        IDENTITY OFFSET(16) NUMBITS(11) [],
        PRIORITY OFFSET(0) NUMBITS(11) []
    ]
];

/// How many interrupt identities a file has: 63 to 2047, and 63 more than a
/// multiple of 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identities(u16);

impl Identities {
    /// What QEMU's `virt` has.
    pub const VIRT: Self = Self(255);
    /// The largest.
    const MAX: u16 = 2047;

    /// Makes a number of identities that a file can have.
    #[cfg(test)]
    pub fn new(count: u16) -> Option<Self> {
        (count <= Self::MAX && count % 64 == 63).then_some(Self(count))
    }

    /// Returns how many there are, which is the last one.
    pub fn count(self) -> u16 {
        self.0
    }

    /// Returns how many 64-bit registers hold a bit for each.
    pub fn words(self) -> usize {
        usize::from(self.0 / 64).saturating_add(1)
    }
}

/// The pending and enable bits of 64 identities.
#[derive(Default)]
struct Word {
    pending: AtomicU64,
    enabled: AtomicU64,
}

/// An array of bits for each identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    /// What has arrived.
    Pending,
    /// What is wanted.
    Enabled,
}

/// What an instruction does to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads it; CSRRS and CSRRC from x0, or of the immediate 0, too.
    Read,
    /// Writes it, as CSRRW does.
    Write(u64),
    /// Sets bits, as CSRRS does.
    Set(u64),
    /// Clears bits, as CSRRC does.
    Clear(u64),
}

impl Operation {
    /// Returns what a register becomes.
    pub(super) fn of(self, old: u64) -> u64 {
        match self {
            Self::Read => old,
            Self::Write(value) => value,
            Self::Set(bits) => old | bits,
            Self::Clear(bits) => old & !bits,
        }
    }

    /// Does it, atomically, to the bits that a register has; returns what was there.
    fn on(self, register: &AtomicU64, has: u64) -> u64 {
        match self {
            Self::Read => register.load(SeqCst),
            Self::Write(value) => register.swap(value & has, SeqCst),
            Self::Set(bits) => register.fetch_or(bits & has, SeqCst),
            Self::Clear(bits) => register.fetch_and(!bits, SeqCst),
        }
    }
}

/// An interrupt file.
pub struct InterruptFile {
    is_delivering: AtomicBool,
    threshold: AtomicU32,
    words: Box<[Word]>,
}

impl InterruptFile {
    /// Makes a file that delivers nothing.
    pub fn new(identities: Identities) -> Self {
        let words = core::iter::repeat_with(Word::default);
        Self {
            is_delivering: AtomicBool::new(false),
            threshold: AtomicU32::new(0),
            words: words.take(identities.words()).collect(),
        }
    }

    /// Makes an identity pending; those that do not exist are ignored.
    ///
    /// Returns whether the hart must look: it is to be interrupted by this.
    pub fn set_pending(&self, identity: u32) -> bool {
        let Some(word) = self.words.get((identity / 64) as usize) else {
            return false;
        };
        let bit = has(identity / 64) & 1_u64.wrapping_shl(identity);
        let was_pending = word.pending.fetch_or(bit, SeqCst) & bit != 0;
        let is_wanted = word.enabled.load(SeqCst) & bit != 0 && self.admits(identity);
        is_wanted && !was_pending && self.is_delivering()
    }

    /// Tells whether the hart's external interrupt is raised.
    pub fn is_raised(&self) -> bool {
        self.is_delivering() && self.best().is_some()
    }

    /// Returns topei: the identity that is next, twice, or zero.
    pub fn top(&self) -> u32 {
        self.best().map_or(0, |identity| {
            TOPEI::IDENTITY.val(identity).value | TOPEI::PRIORITY.val(identity).value
        })
    }

    /// Takes the identity that is next; returns what topei was.
    pub fn claim(&self) -> u32 {
        let top = self.top();
        let identity = LocalRegisterCopy::<u32, TOPEI::Register>::new(top).read(TOPEI::IDENTITY);
        if let Some(word) = self.words.get((identity / 64) as usize) {
            let bit = 1_u64.wrapping_shl(identity);
            word.pending.fetch_and(!bit, SeqCst);
        }
        top
    }

    /// Tells whether eidelivery lets interrupts out.
    pub fn is_delivering(&self) -> bool {
        self.is_delivering.load(SeqCst)
    }

    /// Writes eidelivery, which is one bit; delivery from an APLIC by wire is
    /// not supported.
    pub fn deliver(&self, value: u64) {
        self.is_delivering.store(value & 1 != 0, SeqCst);
    }

    /// Returns eithreshold.
    pub fn threshold(&self) -> u64 {
        self.threshold.load(SeqCst).into()
    }

    /// Writes eithreshold, which holds every identity of the largest file.
    pub fn set_threshold(&self, value: u64) {
        let kept = value & u64::from(Identities::MAX);
        self.threshold.store(kept as u32, SeqCst);
    }

    /// Does something to a register of an array and returns what was there;
    /// registers behind the last identity are zero.
    pub fn array(&self, array: Array, index: usize, operation: Operation) -> u64 {
        let Some(word) = self.words.get(index) else {
            return 0;
        };
        let register = match array {
            Array::Pending => &word.pending,
            Array::Enabled => &word.enabled,
        };
        operation.on(register, has(index as u32))
    }

    /// Tells whether the threshold lets an identity through.
    fn admits(&self, identity: u32) -> bool {
        let threshold = self.threshold.load(SeqCst);
        threshold == 0 || identity < threshold
    }

    fn best(&self) -> Option<u32> {
        let first = self.words.iter().zip(0_u32..).find_map(|(word, index)| {
            let ready = word.pending.load(SeqCst) & word.enabled.load(SeqCst);
            let first = index.wrapping_mul(64).wrapping_add(ready.trailing_zeros());
            (ready != 0).then_some(first)
        });
        first.filter(|&identity| self.admits(identity))
    }
}

/// Returns the bits of a register that stand for identities; 0 is none.
fn has(index: u32) -> u64 {
    match index {
        0 => !1,
        _ => !0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::csrs::write_all;
    use super::*;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, vec::Vec};

    #[test]
    fn a_file_has_one_less_than_a_multiple_of_64_identities() {
        let sizes: Vec<u16> = (0..=u16::MAX)
            .filter(|&n| Identities::new(n).is_some())
            .collect();
        assert_eq!(sizes.len(), 32);
        assert_eq!((sizes[0], sizes[31]), (63, 2047));
        assert_eq!(Identities::new(255), Some(Identities::VIRT));
        assert_eq!((Identities::VIRT.words(), Identities(63).words()), (4, 1));
    }

    #[test]
    fn a_sender_learns_when_the_hart_must_look() {
        let file = InterruptFile::new(Identities::VIRT);
        assert!(!file.set_pending(70), "nothing is delivered yet");
        write_all(&file, &[(0x70, 1), (0xc2, u64::MAX)]);
        assert!(file.is_raised());
        assert!(!file.set_pending(70), "it is pending already");
        assert!(file.set_pending(71));
        assert!(!file.set_pending(7), "it is not enabled");
        write_all(&file, &[(0x72, 80)]);
        assert!(!file.set_pending(80), "the threshold keeps it");
        assert!(file.set_pending(79));
    }

    #[test]
    fn the_last_identity_of_the_largest_file_works() {
        let file = InterruptFile::new(Identities(2047));
        write_all(&file, &[(0x70, 1), (0xfe, u64::MAX)]);
        assert!(file.set_pending(2047));
        assert!(!file.set_pending(2048));
        assert_eq!(file.claim(), (2047 << 16) | 2047);
        assert_eq!(file.claim(), 0);
    }

    /// A file of 127 identities as sets.
    #[derive(Default)]
    struct Model {
        delivery: bool,
        threshold: u32,
        pending: BTreeSet<u32>,
        enabled: BTreeSet<u32>,
    }

    impl Model {
        fn next(&self) -> Option<u32> {
            let limit = if self.threshold == 0 {
                128
            } else {
                self.threshold
            };
            let ready = self.pending.intersection(&self.enabled);
            ready.copied().min().filter(|&id| id < limit)
        }

        fn change(set: &mut BTreeSet<u32>, word: u32, operation: Operation) {
            for id in (word * 64).max(1)..word * 64 + 64 {
                let bit = |bits: u64| (bits >> (id % 64)) & 1 == 1;
                match operation {
                    Operation::Write(v) if !bit(v) => set.remove(&id),
                    Operation::Clear(v) if bit(v) => set.remove(&id),
                    Operation::Write(v) | Operation::Set(v) if bit(v) => set.insert(id),
                    _ => false,
                };
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Send(u32),
        Claim,
        Delivery(u64),
        Threshold(u64),
        Array(Array, u32, Operation),
    }

    fn step() -> impl Strategy<Value = Step> {
        let array = prop_oneof![Just(Array::Pending), Just(Array::Enabled)];
        let operation = prop_oneof![
            Just(Operation::Read),
            any::<u64>().prop_map(Operation::Write),
            any::<u64>().prop_map(Operation::Set),
            any::<u64>().prop_map(Operation::Clear),
        ];
        prop_oneof![
            3 => (0_u32..140).prop_map(Step::Send),
            2 => Just(Step::Claim),
            1 => any::<u64>().prop_map(Step::Delivery),
            1 => (0_u64..140).prop_map(Step::Threshold),
            2 => (array, 0_u32..2, operation).prop_map(|(a, w, o)| Step::Array(a, w, o)),
        ]
    }

    fn apply(step: &Step, file: &InterruptFile, model: &mut Model) {
        match *step {
            Step::Send(id) => {
                let before = model.pending.contains(&id);
                if (1..128).contains(&id) {
                    model.pending.insert(id);
                }
                let below = model.threshold == 0 || id < model.threshold;
                let wanted = model.enabled.contains(&id) && below && model.delivery;
                assert_eq!(file.set_pending(id), wanted && !before);
            }
            Step::Claim => {
                let next = model.next();
                assert_eq!(file.claim(), next.map_or(0, |id| (id << 16) | id));
                next.map(|id| model.pending.remove(&id));
            }
            Step::Delivery(value) => {
                file.deliver(value);
                model.delivery = value & 1 == 1;
            }
            Step::Threshold(value) => {
                file.set_threshold(value);
                model.threshold = value as u32;
            }
            Step::Array(array, word, operation) => {
                file.array(array, word as usize, operation);
                let set = match array {
                    Array::Pending => &mut model.pending,
                    Array::Enabled => &mut model.enabled,
                };
                Model::change(set, word, operation);
            }
        }
    }

    proptest! {
        #[test]
        fn a_file_does_what_sets_do(steps in prop::collection::vec(step(), 0..80)) {
            let file = InterruptFile::new(Identities(127));
            let mut model = Model::default();
            for step in steps {
                apply(&step, &file, &mut model);
                prop_assert_eq!(file.top(), model.next().map_or(0, |id| (id << 16) | id));
                prop_assert_eq!(file.is_raised(), model.delivery && model.next().is_some());
            }
        }
    }
}
