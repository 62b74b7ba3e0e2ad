// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The platform-level interrupt controller, as a model.
//!
//! Sources 1 to 95, priorities and thresholds 0 to 7, one context per hart and
//! mode. A gateway forwards one request at a time, which stays pending until it
//! is claimed, even if the wire of a level source falls before. Completion looks
//! again: at the wire of a level source, at what an edge source saw meanwhile.
//! Registers that do not exist read as zero, as QEMU's do. Every access costs a
//! bounded walk over three words. Which contexts are raised is kept up to date,
//! so that an access that changes none of them is seen at once.
//!
//! Spec: RISC-V Platform-Level Interrupt Controller, 1.0.0.

use alloc::vec::Vec;

/// Sources and the nonexistent source 0.
pub const SOURCES: usize = 96;
/// The words of a set of sources.
pub const WORDS: usize = SOURCES / 32;
const PRIORITY_MASK: u32 = 7;

/// A set of sources, a bit for each.
pub type SourceSet = [u32; WORDS];

/// One hart's view in one mode.
#[derive(Clone, Default)]
struct Context {
    enabled: SourceSet,
    threshold: u32,
}

/// A register, as its offset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Register {
    Priority { source: usize },
    Pending { word: usize },
    Enable { context: usize, word: usize },
    Threshold { context: usize },
    Claim { context: usize },
    Nothing,
}

const PENDING_BASE: u64 = 0x1000;
const ENABLE_BASE: u64 = 0x2000;
const ENABLE_STRIDE: u64 = 0x80;
const CONTEXT_BASE: u64 = 0x20_0000;
const CONTEXT_STRIDE: u64 = 0x1000;

impl Register {
    fn at(offset: u64) -> Self {
        let word = |base: u64| (offset.wrapping_sub(base) / 4) as usize;
        match offset {
            // First, as it is used the most.
            CONTEXT_BASE.. => match divide(offset, CONTEXT_BASE, CONTEXT_STRIDE) {
                (context, 0) => Self::Threshold { context },
                (context, 4) => Self::Claim { context },
                _ => Self::Nothing,
            },
            0..PENDING_BASE => Self::Priority { source: word(0) },
            PENDING_BASE..ENABLE_BASE => Self::Pending {
                word: word(PENDING_BASE),
            },
            ENABLE_BASE..CONTEXT_BASE => {
                let (context, rest) = divide(offset, ENABLE_BASE, ENABLE_STRIDE);
                let word = (rest / 4) as usize;
                Self::Enable { context, word }
            }
        }
    }
}

fn divide(offset: u64, base: u64, stride: u64) -> (usize, u64) {
    let inside = offset.wrapping_sub(base);
    let index = inside.checked_div(stride).unwrap_or(0);
    let rest = inside.checked_rem(stride).unwrap_or(0);
    (index as usize, rest)
}

fn contains(set: &SourceSet, source: usize) -> bool {
    set.get(source / 32)
        .is_some_and(|word| word & bit(source) != 0)
}

fn insert(set: &mut SourceSet, source: usize) {
    if let Some(word) = set.get_mut(source / 32) {
        *word |= bit(source);
    }
}

fn remove(set: &mut SourceSet, source: usize) {
    if let Some(word) = set.get_mut(source / 32) {
        *word &= !bit(source);
    }
}

fn bit(source: usize) -> u32 {
    1_u32.wrapping_shl(source as u32)
}

/// The controller.
pub struct Plic {
    priorities: [u32; SOURCES],
    edge: SourceSet,
    level: SourceSet,
    /// Forwarded, and not claimed.
    pending: SourceSet,
    /// Claimed, and not completed.
    in_service: SourceSet,
    /// Edges since the claim.
    latched: SourceSet,
    contexts: Vec<Context>,
    /// The contexts whose interrupt is raised.
    raised: u64,
}

impl Plic {
    /// Makes a controller with so many contexts, at most 64; the sources of
    /// `edge` are triggered by edges, all others by levels.
    pub fn new(contexts: usize, edge: SourceSet) -> Self {
        let mut all = Vec::with_capacity(contexts);
        all.resize(contexts, Context::default());
        Self {
            priorities: [0; SOURCES],
            edge,
            level: [0; WORDS],
            pending: [0; WORDS],
            in_service: [0; WORDS],
            latched: [0; WORDS],
            contexts: all,
            raised: 0,
        }
    }

    /// Drives a source's wire; sources that do not exist have none.
    #[inline]
    pub fn set_level(&mut self, source: usize, is_high: bool) {
        if source == 0 || source >= SOURCES {
            return;
        }
        let was_high = contains(&self.level, source);
        match is_high {
            true => insert(&mut self.level, source),
            false => remove(&mut self.level, source),
        }
        if is_high && !was_high {
            self.rise(source);
        }
    }

    /// Returns a bit for each context whose interrupt is raised.
    #[inline]
    pub fn raised(&self) -> u64 {
        self.raised
    }

    /// Reads a register; a claim claims.
    pub fn read(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Register::Priority { source } => self.priorities.get(source).copied().unwrap_or(0),
            Register::Pending { word } => self.pending.get(word).copied().unwrap_or(0),
            Register::Enable { context, word } => self
                .contexts
                .get(context)
                .and_then(|context| context.enabled.get(word))
                .copied()
                .unwrap_or(0),
            Register::Threshold { context } => {
                self.contexts.get(context).map_or(0, |c| c.threshold)
            }
            Register::Claim { context } => self.claim(context),
            Register::Nothing => 0,
        }
    }

    /// Writes a register; what cannot be written stays as it is.
    pub fn write(&mut self, offset: u64, value: u32) {
        match Register::at(offset) {
            Register::Claim { context } => return self.complete(context, value as usize),
            Register::Priority { source } if source != 0 => {
                if let Some(priority) = self.priorities.get_mut(source) {
                    *priority = value & PRIORITY_MASK;
                }
            }
            Register::Enable { context, word } => self.enable(context, word, value),
            Register::Threshold { context } => {
                if let Some(context) = self.contexts.get_mut(context) {
                    context.threshold = value & PRIORITY_MASK;
                }
            }
            Register::Priority { .. } | Register::Pending { .. } | Register::Nothing => return,
        }
        self.raise(u64::MAX);
    }

    fn enable(&mut self, context: usize, word: usize, value: u32) {
        let enabled = self.contexts.get_mut(context);
        if let Some(enabled) = enabled.and_then(|context| context.enabled.get_mut(word)) {
            // Source 0 does not exist.
            *enabled = if word == 0 { value & !1 } else { value };
        }
    }

    /// A wire has gone high: its gateway forwards that if nothing is under way.
    fn rise(&mut self, source: usize) {
        if !contains(&self.in_service, source) {
            self.pend(source);
        } else if contains(&self.edge, source) {
            insert(&mut self.latched, source);
        }
    }

    /// Makes a source pending, which can only raise contexts.
    fn pend(&mut self, source: usize) {
        insert(&mut self.pending, source);
        let priority = self.priority(source);
        for (number, context) in self.contexts.iter().enumerate() {
            if priority > context.threshold && contains(&context.enabled, source) {
                self.raised |= context_bit(number);
            }
        }
    }

    fn priority(&self, source: usize) -> u32 {
        self.priorities.get(source).copied().unwrap_or(0)
    }

    /// Finds out anew which of these contexts are raised; the others are not.
    fn raise(&mut self, contexts: u64) {
        let mut raised = 0;
        for (number, context) in self.contexts.iter().enumerate() {
            let bit = contexts & context_bit(number);
            if bit != 0 && self.is_raised(context) {
                raised |= bit;
            }
        }
        self.raised = raised;
    }

    #[inline]
    fn is_raised(&self, context: &Context) -> bool {
        let mut words = self.pending.iter().zip(&context.enabled);
        let has_pending = words.any(|(pending, enabled)| pending & enabled != 0);
        has_pending && self.best(context).1 > context.threshold
    }

    /// Returns the enabled pending source of the highest priority, the lowest
    /// number of equals, and its priority; source and priority 0 if there is none.
    #[inline]
    fn best(&self, context: &Context) -> (usize, u32) {
        let mut best = (0, 0);
        let words = self.pending.iter().zip(&context.enabled);
        for (word, (pending, enabled)) in words.enumerate() {
            let mut left = pending & enabled;
            while left != 0 {
                let bit = left.trailing_zeros() as usize;
                let source = word.wrapping_mul(32).wrapping_add(bit);
                let priority = self.priority(source);
                if priority > best.1 {
                    best = (source, priority);
                }
                left &= left.wrapping_sub(1);
            }
        }
        best
    }

    fn claim(&mut self, context: usize) -> u32 {
        let Some(context) = self.contexts.get(context) else {
            return 0;
        };
        let (source, _) = self.best(context);
        if source != 0 {
            remove(&mut self.pending, source);
            insert(&mut self.in_service, source);
            // That can only lower.
            self.raise(self.raised);
        }
        source as u32
    }

    /// Ends the handling of a source that is enabled for the context.
    fn complete(&mut self, context: usize, source: usize) {
        let context = self.contexts.get(context);
        let is_its_own = context.is_some_and(|context| contains(&context.enabled, source));
        if !is_its_own || !contains(&self.in_service, source) {
            return;
        }
        remove(&mut self.in_service, source);
        let wants_again = match contains(&self.edge, source) {
            true => contains(&self.latched, source),
            false => contains(&self.level, source),
        };
        remove(&mut self.latched, source);
        if wants_again {
            self.pend(source);
        }
    }
}

fn context_bit(number: usize) -> u64 {
    1_u64.wrapping_shl(number as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLAIM: u64 = CONTEXT_BASE + 4;
    const CLAIM_1: u64 = CLAIM + CONTEXT_STRIDE;

    fn is_raised(plic: &Plic, context: usize) -> bool {
        plic.raised() & context_bit(context) != 0
    }

    fn plic_with(sources: &[(usize, u32)]) -> Plic {
        let mut plic = Plic::new(4, [0; WORDS]);
        for &(source, priority) in sources {
            plic.write(source as u64 * 4, priority);
            let offset = ENABLE_BASE + (source as u64 / 32) * 4;
            let enabled = plic.read(offset);
            plic.write(offset, enabled | bit(source));
        }
        plic
    }

    #[test]
    fn the_highest_priority_wins_and_the_lowest_number_among_equals() {
        let mut plic = plic_with(&[(5, 1), (40, 7), (41, 7)]);
        [5, 40, 41]
            .iter()
            .for_each(|&source| plic.set_level(source, true));
        let claims: Vec<_> = (0..4).map(|_| plic.read(CLAIM)).collect();
        assert_eq!(claims, [40, 41, 5, 0]);
    }

    #[test]
    fn a_level_source_comes_back_after_completion_while_its_wire_is_high() {
        let mut plic = plic_with(&[(10, 1)]);
        plic.set_level(10, true);
        assert!(is_raised(&plic, 0));
        assert_eq!(plic.read(CLAIM), 10);
        assert!(!is_raised(&plic, 0));
        plic.write(CLAIM, 10);
        assert!(is_raised(&plic, 0));
        assert_eq!(plic.read(CLAIM), 10);
        plic.set_level(10, false);
        plic.write(CLAIM, 10);
        assert!(!is_raised(&plic, 0));
    }

    #[test]
    fn a_level_source_whose_wire_falls_stays_pending_until_it_is_claimed() {
        let mut plic = plic_with(&[(10, 1)]);
        plic.set_level(10, true);
        plic.set_level(10, false);
        assert!(is_raised(&plic, 0));
        assert_eq!(plic.read(PENDING_BASE), 1 << 10);
        assert_eq!(plic.read(CLAIM), 10);
        // Up and down again while it is handled: nothing of that is left.
        plic.set_level(10, true);
        plic.set_level(10, false);
        plic.write(CLAIM, 10);
        assert!(!is_raised(&plic, 0));
        assert_eq!(plic.read(CLAIM), 0);
    }

    #[test]
    fn a_completion_of_what_was_not_claimed_changes_nothing() {
        let mut plic = plic_with(&[(10, 1)]);
        plic.set_level(10, true);
        plic.write(CLAIM, 10);
        assert_eq!(plic.read(CLAIM), 10);
        assert_eq!(plic.read(CLAIM), 0);
    }

    #[test]
    fn an_edge_is_kept_until_it_is_claimed_and_once_more_while_in_service() {
        let mut plic = plic_with(&[(8, 1)]);
        insert(&mut plic.edge, 8);
        let pulse = |plic: &mut Plic| {
            plic.set_level(8, true);
            plic.set_level(8, false);
        };
        pulse(&mut plic);
        assert_eq!(plic.read(CLAIM), 8);
        pulse(&mut plic);
        assert!(!is_raised(&plic, 0));
        plic.write(CLAIM, 8);
        assert_eq!(plic.read(CLAIM), 8);
        plic.write(CLAIM, 8);
        assert_eq!(plic.read(CLAIM), 0);
    }

    #[test]
    fn the_threshold_masks_the_interrupt_and_not_the_claim() {
        let mut plic = plic_with(&[(3, 4)]);
        plic.set_level(3, true);
        plic.write(CONTEXT_BASE, 4);
        assert!(!is_raised(&plic, 0));
        plic.write(CONTEXT_BASE, 3);
        assert!(is_raised(&plic, 0));
        plic.write(CONTEXT_BASE, 7);
        assert_eq!(plic.read(CLAIM), 3);
    }

    #[test]
    fn a_context_sees_and_completes_only_what_it_enables() {
        let mut plic = plic_with(&[(3, 4)]);
        plic.set_level(3, true);
        assert!(!is_raised(&plic, 1));
        assert_eq!(plic.read(CLAIM_1), 0);
        assert_eq!(plic.read(CLAIM), 3);
        plic.write(CLAIM_1, 3);
        plic.set_level(3, true);
        assert!(!is_raised(&plic, 0));
    }

    #[test]
    fn registers_keep_what_they_have_bits_for() {
        let mut plic = Plic::new(2, [0; WORDS]);
        plic.write(0, 5);
        assert_eq!(plic.read(0), 0);
        plic.write(4, 0xff);
        assert_eq!(plic.read(4), 7);
        plic.write(ENABLE_BASE, u32::MAX);
        assert_eq!(plic.read(ENABLE_BASE), !1);
        plic.write(PENDING_BASE, u32::MAX);
        assert_eq!(plic.read(PENDING_BASE), 0);
    }

    /// What the specification says, one source at a time.
    struct Model {
        high: [bool; SOURCES],
        pending: [bool; SOURCES],
        serving: [bool; SOURCES],
        priority: [u32; SOURCES],
        enabled: [[bool; SOURCES]; 2],
        threshold: [u32; 2],
    }

    impl Model {
        fn new() -> Self {
            Self {
                high: [false; SOURCES],
                pending: [false; SOURCES],
                serving: [false; SOURCES],
                priority: [0; SOURCES],
                enabled: [[false; SOURCES]; 2],
                threshold: [0; 2],
            }
        }

        fn best(&self, context: usize) -> Option<usize> {
            let ready =
                |&s: &usize| self.pending[s] && self.enabled[context][s] && self.priority[s] > 0;
            (1..SOURCES)
                .filter(ready)
                .max_by_key(|&s| (self.priority[s], SOURCES - s))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Wire(usize, bool),
        Priority(usize, u32),
        Enable(usize, usize, u32),
        Threshold(usize, u32),
        Claim(usize),
        Complete(usize, usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let source = prop_oneof![0_usize..4, 30_usize..34, 0_usize..SOURCES];
        prop_oneof![
            (source.clone(), any::<bool>()).prop_map(|(s, high)| Step::Wire(s, high)),
            (source.clone(), 0_u32..10).prop_map(|(s, p)| Step::Priority(s, p)),
            (0..2_usize, 0..WORDS, any::<u32>()).prop_map(|(c, w, v)| Step::Enable(c, w, v)),
            (0..2_usize, 0_u32..8).prop_map(|(c, t)| Step::Threshold(c, t)),
            (0..2_usize).prop_map(Step::Claim),
            (0..2_usize, source).prop_map(|(c, s)| Step::Complete(c, s)),
        ]
    }

    fn apply(step: &Step, plic: &mut Plic, model: &mut Model) {
        let claim_of = |context: usize| CLAIM + context as u64 * CONTEXT_STRIDE;
        match *step {
            Step::Wire(source, high) => {
                plic.set_level(source, high);
                model.high[source] = high && source != 0;
                model.pending[source] |= model.high[source] && !model.serving[source];
            }
            Step::Priority(source, priority) => {
                plic.write(source as u64 * 4, priority);
                model.priority[source] = if source == 0 { 0 } else { priority & 7 };
            }
            Step::Enable(context, word, value) => {
                let offset = context as u64 * ENABLE_STRIDE + word as u64 * 4;
                plic.write(ENABLE_BASE + offset, value);
                for i in 0..32 {
                    model.enabled[context][word * 32 + i] = (value >> i) & 1 == 1;
                }
                model.enabled[context][0] = false;
            }
            Step::Threshold(context, threshold) => {
                plic.write(CONTEXT_BASE + context as u64 * CONTEXT_STRIDE, threshold);
                model.threshold[context] = threshold;
            }
            Step::Claim(context) => {
                let best = model.best(context);
                assert_eq!(plic.read(claim_of(context)), best.unwrap_or(0) as u32);
                if let Some(source) = best {
                    model.serving[source] = true;
                    model.pending[source] = false;
                }
            }
            Step::Complete(context, source) => {
                plic.write(claim_of(context), source as u32);
                if model.serving[source] && model.enabled[context][source] {
                    model.serving[source] = false;
                    model.pending[source] = model.high[source];
                }
            }
        }
    }

    proptest! {
        #[test]
        fn the_controller_does_what_the_model_does(steps in prop::collection::vec(step(), 1..200)) {
            let (mut plic, mut model) = (Plic::new(2, [0; WORDS]), Model::new());
            for step in &steps {
                apply(step, &mut plic, &mut model);
                for context in 0..2 {
                    let best = model.best(context).map_or(0, |s| model.priority[s]);
                    prop_assert_eq!(is_raised(&plic, context), best > model.threshold[context]);
                }
            }
        }

        #[test]
        fn no_access_panics(offset in any::<u64>(), value in any::<u32>()) {
            let mut plic = Plic::new(16, [u32::MAX; WORDS]);
            plic.write(offset, value);
            plic.read(offset);
            plic.set_level(offset as usize, true);
        }
    }
}
