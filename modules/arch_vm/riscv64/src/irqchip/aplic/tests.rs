// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the APLIC: each register, and everything against a small model.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const DOMAINCFG: u64 = 0;
const SETIP: u64 = 0x1c00;
const SETIPNUM: u64 = 0x1cdc;
const IN_CLRIP: u64 = 0x1d00;
const CLRIPNUM: u64 = 0x1ddc;
const SETIE: u64 = 0x1e00;
const SETIENUM: u64 = 0x1edc;
const CLRIE: u64 = 0x1f00;
const CLRIENUM: u64 = 0x1fdc;
const SETIPNUM_LE: u64 = 0x2000;
const SETIPNUM_BE: u64 = 0x2004;
const GENMSI: u64 = 0x3000;
const IDC: u64 = 0x4000;
const IDELIVERY: u64 = IDC;
const IFORCE: u64 = IDC + 4;
const ITHRESHOLD: u64 = IDC + 8;
const TOP: u64 = IDC + 0x18;
const CLAIMI: u64 = IDC + 0x1c;
const ENABLE: u32 = 1 << 8;
const DETACHED: u32 = 1;
const EDGE_RISE: u32 = 4;
const EDGE_FALL: u32 = 5;
const LEVEL_HIGH: u32 = 6;
const LEVEL_LOW: u32 = 7;

fn sourcecfg(source: u32) -> u64 {
    u64::from(source) * 4
}

fn target(source: u32) -> u64 {
    0x3000 + u64::from(source) * 4
}

/// A controller and what it has sent.
struct Bench {
    aplic: Aplic,
    sent: Vec<(u32, u32)>,
}

impl Bench {
    fn new(delivery: Delivery) -> Self {
        let aplic = Aplic::new(delivery, 2);
        let sent = Vec::new();
        Self { aplic, sent }
    }

    /// Returns a controller with these sources enabled, at hart 0.
    fn with(delivery: Delivery, sources: &[(u32, u32)]) -> Self {
        let mut bench = Self::new(delivery);
        for &(source, mode) in sources {
            bench.write(sourcecfg(source), mode);
            bench.write(target(source), source);
            bench.write(SETIENUM, source);
        }
        bench.write(IDELIVERY, 1);
        bench.write(DOMAINCFG, ENABLE);
        bench.sent.clear();
        bench
    }

    fn write(&mut self, offset: u64, value: u32) {
        let sent = &mut self.sent;
        self.aplic
            .write(offset, value, |msi| sent.push((msi.hart, msi.identity)));
    }

    fn wire(&mut self, source: usize, is_high: bool) {
        let sent = &mut self.sent;
        self.aplic
            .set_level(source, is_high, |msi| sent.push((msi.hart, msi.identity)));
    }

    fn read(&mut self, offset: u64) -> u32 {
        self.aplic.read(offset)
    }

    /// Returns what was sent since the last time.
    fn sent(&mut self) -> Vec<(u32, u32)> {
        core::mem::take(&mut self.sent)
    }

    /// Returns what a register reads after all its bits were written.
    fn kept(&mut self, offset: u64) -> u32 {
        self.write(offset, u32::MAX);
        self.read(offset)
    }
}

fn both() -> [Bench; 2] {
    [Delivery::Direct, Delivery::Msi].map(Bench::new)
}

#[test]
fn domaincfg_has_one_bit_and_says_how_interrupts_are_delivered() {
    let [mut direct, mut msi] = both();
    assert_eq!((direct.read(0), msi.read(0)), (0x8000_0000, 0x8000_0004));
    assert_eq!((direct.kept(0), msi.kept(0)), (0x8000_0100, 0x8000_0104));
}

#[test]
fn sourcecfg_takes_the_modes_that_exist_and_delegates_to_nobody() {
    for mut bench in both() {
        for mode in 0..8 {
            bench.write(sourcecfg(1), mode | 0xffff_f8f8);
            let expected = if matches!(mode, 2 | 3) { 0 } else { mode };
            assert_eq!(bench.read(sourcecfg(1)), expected);
            bench.write(sourcecfg(1), mode | (1 << 10));
            assert_eq!(bench.read(sourcecfg(1)), 0);
        }
    }
}

#[test]
fn there_are_96_sources() {
    for mut bench in both() {
        bench.write(sourcecfg(96), DETACHED);
        bench.write(sourcecfg(97), DETACHED);
        assert_eq!(
            (bench.read(sourcecfg(96)), bench.read(sourcecfg(97))),
            (1, 0)
        );
        assert_eq!(bench.kept(SETIE + 12), 1);
        assert_eq!(bench.kept(SETIP + 12), 1);
        assert_eq!(bench.kept(SETIE + 16), 0);
        assert_eq!(bench.kept(SETIE), 0);
    }
}

#[test]
fn an_inactive_source_has_no_bits_and_no_target() {
    for mut bench in both() {
        for offset in [SETIP, SETIE, target(3)] {
            assert_eq!(bench.kept(offset), 0);
        }
        bench.write(SETIPNUM, 3);
        bench.write(SETIENUM, 3);
        assert_eq!((bench.read(SETIP), bench.read(SETIE)), (0, 0));
        bench.write(sourcecfg(3), DETACHED);
        assert_ne!(bench.read(target(3)), 0, "what was written is there now");
        bench.write(SETIENUM, 3);
        bench.write(SETIPNUM, 3);
        bench.write(sourcecfg(3), 0);
        bench.write(sourcecfg(3), DETACHED);
        assert_eq!((bench.read(SETIP), bench.read(SETIE)), (0, 0));
    }
}

#[test]
fn bits_are_set_and_cleared_by_word_and_by_number() {
    for mut bench in both() {
        for source in [1, 2, 40] {
            bench.write(sourcecfg(source), DETACHED);
        }
        for (set, by_number, clear, clear_number) in [
            (SETIP, SETIPNUM, IN_CLRIP, CLRIPNUM),
            (SETIE, SETIENUM, CLRIE, CLRIENUM),
        ] {
            bench.write(set, u32::MAX);
            bench.write(by_number, 40);
            assert_eq!((bench.read(set), bench.read(set + 4)), (0b110, 0x100));
            bench.write(clear, 0b10);
            bench.write(clear_number, 40);
            assert_eq!((bench.read(set), bench.read(set + 4)), (0b100, 0));
            assert_eq!((bench.read(by_number), bench.read(clear_number)), (0, 0));
            bench.write(by_number, 0);
            bench.write(by_number, u32::MAX);
            bench.write(clear_number, 97);
            assert_eq!(bench.read(set), 0b100);
        }
        assert_eq!(bench.read(CLRIE), 0);
    }
}

#[test]
fn setipnum_has_both_byte_orders() {
    let mut bench = Bench::with(Delivery::Msi, &[(7, DETACHED), (8, DETACHED)]);
    bench.write(SETIPNUM_LE, 7);
    bench.write(SETIPNUM_BE, 8_u32.swap_bytes());
    bench.write(SETIPNUM_BE, 8);
    assert_eq!(bench.sent(), [(0, 7), (0, 8)]);
    assert_eq!((bench.read(SETIPNUM_LE), bench.read(SETIPNUM_BE)), (0, 0));
}

#[test]
fn targets_keep_what_the_delivery_has_bits_for() {
    let [mut direct, mut msi] = both();
    direct.write(sourcecfg(1), DETACHED);
    msi.write(sourcecfg(1), DETACHED);
    assert_eq!((direct.read(target(1)), msi.read(target(1))), (1, 0));
    assert_eq!(direct.kept(target(1)), 0xfffc_0007);
    assert_eq!(msi.kept(target(1)), 0xfffc_07ff);
    direct.write(target(1), 0x4_0008);
    assert_eq!(direct.read(target(1)), 0x4_0001, "priority 0 becomes 1");
}

#[test]
fn machine_level_and_reserved_registers_are_zero() {
    for mut bench in both() {
        for offset in [
            0x1bc0, 0x1bc4, 0x1bc8, 0x1bcc, 0x1000, 0x1c80, 0x2008, 0x400c, 0x4010,
        ] {
            assert_eq!(bench.kept(offset), 0, "{offset:#x}");
        }
    }
}

#[test]
fn genmsi_sends_at_once_and_in_a_closed_domain_too() {
    let [mut direct, mut msi] = both();
    msi.write(GENMSI, u32::MAX);
    msi.write(GENMSI, (1 << 18) | 9);
    assert_eq!(msi.sent(), [(0x3fff, 0x7ff), (1, 9)]);
    assert_eq!(msi.read(GENMSI), (1 << 18) | 9);
    direct.write(GENMSI, 5);
    assert_eq!((direct.sent(), direct.read(GENMSI)), (Vec::new(), 0));
}

#[test]
fn edges_are_kept_until_they_are_claimed() {
    for (mode, idle) in [(EDGE_RISE, false), (EDGE_FALL, true)] {
        let mut bench = Bench::new(Delivery::Direct);
        bench.wire(5, idle);
        bench.write(sourcecfg(5), mode);
        bench.write(SETIENUM, 5);
        bench.wire(5, !idle);
        assert_eq!(bench.read(IN_CLRIP), 1 << 5);
        bench.wire(5, idle);
        assert_eq!((bench.read(IN_CLRIP), bench.read(SETIP)), (0, 1 << 5));
        assert_eq!(bench.read(CLAIMI), (5 << 16) | 1);
        assert_eq!(bench.read(CLAIMI), 0);
    }
}

#[test]
fn by_wire_a_level_is_pending_exactly_while_it_is_asserted() {
    for (mode, idle) in [(LEVEL_HIGH, false), (LEVEL_LOW, true)] {
        let mut bench = Bench::new(Delivery::Direct);
        bench.wire(5, idle);
        bench.write(sourcecfg(5), mode);
        bench.write(SETIENUM, 5);
        bench.write(SETIPNUM, 5);
        assert_eq!(bench.read(SETIP), 0);
        bench.wire(5, !idle);
        bench.write(CLRIPNUM, 5);
        assert_eq!(bench.read(CLAIMI), (5 << 16) | 1);
        assert_eq!(bench.read(SETIP), 1 << 5);
        bench.wire(5, idle);
        assert_eq!((bench.read(SETIP), bench.read(CLAIMI)), (0, 0));
    }
}

#[test]
fn by_message_a_level_is_sent_once_and_again_when_software_asks() {
    let mut bench = Bench::with(Delivery::Msi, &[(5, LEVEL_HIGH), (6, LEVEL_LOW)]);
    bench.wire(6, true);
    bench.wire(5, true);
    bench.wire(5, true);
    assert_eq!(bench.sent(), [(0, 5)]);
    assert_eq!((bench.read(SETIP), bench.read(IN_CLRIP)), (0, 1 << 5));
    bench.write(SETIPNUM_LE, 5);
    assert_eq!(bench.sent(), [(0, 5)], "it is still asserted");
    bench.wire(5, false);
    bench.write(SETIPNUM_LE, 5);
    bench.write(SETIP, u32::MAX);
    assert_eq!(bench.sent(), [], "it is not any more");
    bench.wire(6, false);
    assert_eq!(bench.sent(), [(0, 6)]);
}

#[test]
fn a_level_that_goes_away_before_it_is_sent_is_not_sent() {
    let mut bench = Bench::with(Delivery::Msi, &[(5, LEVEL_HIGH)]);
    bench.write(CLRIENUM, 5);
    bench.wire(5, true);
    assert_eq!(bench.read(SETIP), 1 << 5);
    bench.wire(5, false);
    bench.write(SETIENUM, 5);
    assert_eq!(bench.sent(), []);
}

#[test]
fn nothing_is_sent_while_the_domain_is_closed() {
    let mut bench = Bench::with(Delivery::Msi, &[(5, DETACHED), (60, EDGE_RISE)]);
    bench.write(DOMAINCFG, 0);
    bench.write(SETIPNUM, 5);
    bench.wire(60, true);
    assert_eq!(bench.sent(), []);
    bench.write(DOMAINCFG, ENABLE);
    assert_eq!(bench.sent(), [(0, 5), (0, 60)]);
    assert_eq!((bench.read(SETIP), bench.read(SETIP + 4)), (0, 0));
}

#[test]
fn an_input_that_is_asserted_when_the_mode_is_chosen_is_pending() {
    for mut bench in both() {
        bench.wire(9, true);
        bench.write(sourcecfg(9), LEVEL_HIGH);
        assert_eq!(bench.read(SETIP), 1 << 9);
        bench.write(sourcecfg(9), LEVEL_LOW);
        assert_eq!(bench.read(SETIP), 0);
    }
}

#[test]
fn the_lowest_priority_number_wins_and_the_lowest_source_among_equals() {
    let sources = [(5, DETACHED), (6, DETACHED), (40, DETACHED)];
    let mut bench = Bench::with(Delivery::Direct, &sources);
    bench.write(target(5), 3);
    bench.write(target(6), 2);
    bench.write(target(40), 2);
    for source in [5, 6, 40] {
        bench.write(SETIPNUM, source);
    }
    assert_eq!(bench.read(TOP), (6 << 16) | 2);
    let claims = [0; 4].map(|_| bench.read(CLAIMI));
    assert_eq!(claims, [(6 << 16) | 2, (40 << 16) | 2, (5 << 16) | 3, 0]);
}

#[test]
fn the_threshold_hides_what_is_not_more_urgent() {
    let mut bench = Bench::with(Delivery::Direct, &[(3, DETACHED)]);
    bench.write(SETIPNUM, 3);
    assert_eq!(bench.kept(ITHRESHOLD), 7);
    assert_eq!(bench.read(TOP), (3 << 16) | 3);
    bench.write(ITHRESHOLD, 3);
    assert!(!bench.aplic.is_raised(0));
    assert_eq!((bench.read(TOP), bench.read(CLAIMI)), (0, 0));
    bench.write(ITHRESHOLD, 0);
    assert!(bench.aplic.is_raised(0));
}

#[test]
fn a_hart_is_raised_only_if_everything_is_open() {
    let mut bench = Bench::with(Delivery::Direct, &[(3, DETACHED)]);
    bench.write(SETIPNUM, 3);
    assert!(bench.aplic.is_raised(0) && !bench.aplic.is_raised(1));
    bench.write(IDELIVERY, 2);
    assert!(!bench.aplic.is_raised(0));
    bench.write(IDELIVERY, 1);
    bench.write(DOMAINCFG, 0);
    assert!(!bench.aplic.is_raised(0));
    bench.write(DOMAINCFG, ENABLE);
    bench.write(target(3), (1 << 18) | 1);
    assert!(!bench.aplic.is_raised(0));
    bench.write(IDELIVERY + 0x20, 1);
    assert!(bench.aplic.is_raised(1));
    bench.write(target(3), (9 << 18) | 1);
    assert!((0..20).all(|hart| !bench.aplic.is_raised(hart)));
    assert_eq!(bench.read(TOP + 9 * 0x20), 0);
}

#[test]
fn a_forced_interrupt_ends_with_a_claim_of_nothing() {
    let mut bench = Bench::with(Delivery::Direct, &[(3, DETACHED)]);
    bench.write(SETIPNUM, 3);
    assert_eq!(bench.kept(IFORCE), 1);
    bench.read(CLAIMI);
    assert!(bench.aplic.is_raised(0), "a claim of something leaves it");
    assert_eq!(bench.read(CLAIMI), 0);
    assert!(!bench.aplic.is_raised(0));
    assert_eq!(bench.read(IFORCE), 0);
}

#[test]
fn by_message_there_is_no_delivery_control() {
    let mut bench = Bench::with(Delivery::Msi, &[(3, DETACHED)]);
    for offset in [IDELIVERY, IFORCE, ITHRESHOLD, TOP, CLAIMI] {
        assert_eq!(bench.kept(offset), 0);
    }
    assert!(!bench.aplic.is_raised(0));
}

/// What the specification says of one source at a time.
#[derive(Clone, Copy, Default)]
struct One {
    mode: u32,
    high: bool,
    pending: bool,
    enabled: bool,
    target: u32,
}

impl One {
    fn input(&self) -> bool {
        self.mode >= EDGE_RISE && (self.high != (self.mode % 2 == 1))
    }

    fn is_level(&self) -> bool {
        self.mode >= LEVEL_HIGH
    }
}

struct Model {
    direct: bool,
    open: bool,
    ones: [One; SOURCES + 1],
    threshold: u32,
    sent: Vec<(u32, u32)>,
}

impl Model {
    fn new(delivery: Delivery) -> Self {
        Self {
            direct: delivery == Delivery::Direct,
            open: false,
            ones: [One::default(); SOURCES + 1],
            threshold: 0,
            sent: Vec::new(),
        }
    }

    fn set(&mut self, source: usize) {
        let one = &mut self.ones[source];
        let may = !one.is_level() || (!self.direct && one.input());
        one.pending |= one.mode != 0 && may;
    }

    fn clear(&mut self, source: usize) {
        let one = &mut self.ones[source];
        one.pending &= self.direct && one.is_level();
    }

    fn wire(&mut self, source: usize, high: bool) {
        let one = &mut self.ones[source];
        let before = one.input();
        one.high = high;
        one.pending |= one.input() && !before;
        one.pending &= !one.is_level() || one.input();
    }

    fn configure(&mut self, source: usize, mode: u32) {
        let one = &mut self.ones[source];
        one.mode = if mode == 2 || mode == 3 { 0 } else { mode };
        one.pending |= one.input();
        one.pending &= one.mode != 0 && (!one.is_level() || one.input());
        one.enabled &= one.mode != 0;
    }

    fn top(&self) -> u32 {
        let key = |(i, one): (usize, &One)| ((one.target & 7).max(1), i as u32);
        let ready = self
            .ones
            .iter()
            .enumerate()
            .filter(|(_, one)| one.pending && one.enabled && one.target >> 18 == 0);
        let best = ready.map(key).min();
        best.filter(|&(priority, _)| self.threshold == 0 || priority < self.threshold)
            .map_or(0, |(priority, i)| (i << 16) | priority)
    }

    fn forward(&mut self) {
        for one in self
            .ones
            .iter_mut()
            .filter(|one| one.pending && one.enabled)
        {
            if self.open && !self.direct {
                one.pending = false;
                self.sent.push((one.target >> 18, one.target & 0x7ff));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wire(usize, bool),
    Mode(usize, u32),
    Target(usize, u32),
    /// setipnum, clripnum, setienum, clrienum.
    Number(usize, u64),
    /// setip, in_clrip, setie, clrie.
    Word(usize, u64, u32),
    Domain(bool),
    Threshold(u32),
    Claim,
}

fn step() -> impl Strategy<Value = Step> {
    let source = prop_oneof![1_usize..4, 31_usize..34, 94_usize..=SOURCES];
    let word = (0_usize..4, 0_u64..4, any::<u32>());
    prop_oneof![
        4 => (source.clone(), any::<bool>()).prop_map(|(s, high)| Step::Wire(s, high)),
        3 => (source.clone(), 0_u32..8).prop_map(|(s, mode)| Step::Mode(s, mode)),
        2 => (source.clone(), any::<u32>()).prop_map(|(s, value)| Step::Target(s, value & 0x7_ffff)),
        4 => (source, 0_u64..4).prop_map(|(s, kind)| Step::Number(s, kind)),
        2 => word.prop_map(|(word, kind, bits)| Step::Word(word, kind, bits)),
        2 => any::<bool>().prop_map(Step::Domain),
        1 => (0_u32..8).prop_map(Step::Threshold),
        2 => Just(Step::Claim),
    ]
}

fn act(model: &mut Model, source: usize, kind: u64) {
    match kind {
        0 => model.set(source),
        1 => model.clear(source),
        2 => model.ones[source].enabled = model.ones[source].mode != 0,
        _ => model.ones[source].enabled = false,
    }
}

fn apply(step: &Step, bench: &mut Bench, model: &mut Model) {
    match *step {
        Step::Wire(source, high) => {
            bench.wire(source, high);
            model.wire(source, high);
        }
        Step::Mode(source, mode) => {
            bench.write(sourcecfg(source as u32), mode);
            model.configure(source, mode);
        }
        Step::Target(source, value) => {
            bench.write(target(source as u32), value);
            model.ones[source].target = value;
        }
        Step::Number(source, kind) => {
            bench.write(SETIPNUM + kind * 0x100, source as u32);
            act(model, source, kind);
        }
        Step::Word(word, kind, bits) => {
            bench.write(SETIP + kind * 0x100 + word as u64 * 4, bits);
            for source in (1..=SOURCES).filter(|source| source / 32 == word) {
                if bits >> (source % 32) & 1 == 1 {
                    act(model, source, kind);
                }
            }
        }
        Step::Domain(open) => {
            bench.write(DOMAINCFG, u32::from(open) << 8);
            model.open = open;
        }
        Step::Threshold(threshold) => {
            bench.write(ITHRESHOLD, threshold);
            model.threshold = threshold;
        }
        Step::Claim => {
            let top = if model.direct { model.top() } else { 0 };
            assert_eq!(bench.read(CLAIMI), top);
            if top != 0 {
                model.clear((top >> 16) as usize);
            }
        }
    }
    model.forward();
}

fn agrees(bench: &mut Bench, model: &Model) {
    let word = |word: usize, has: fn(&One) -> bool| {
        let sources = (0..=SOURCES).filter(|source| source / 32 == word);
        sources.fold(0, |bits, s| {
            bits | u32::from(has(&model.ones[s])) << (s % 32)
        })
    };
    for index in 0..4 {
        let offset = index as u64 * 4;
        assert_eq!(bench.read(SETIP + offset), word(index, |one| one.pending));
        assert_eq!(bench.read(IN_CLRIP + offset), word(index, One::input));
        assert_eq!(bench.read(SETIE + offset), word(index, |one| one.enabled));
    }
    assert_eq!(bench.sent, model.sent);
    let top = if model.direct { model.top() } else { 0 };
    assert_eq!(bench.read(TOP), top);
    assert_eq!(bench.aplic.is_raised(0), model.open && top != 0);
}

proptest! {
    #[test]
    fn a_controller_does_what_the_specification_says(
        steps in prop::collection::vec(step(), 0..80),
        is_direct: bool,
    ) {
        let delivery = if is_direct { Delivery::Direct } else { Delivery::Msi };
        let mut bench = Bench::new(delivery);
        bench.write(IDELIVERY, 1);
        let mut model = Model::new(delivery);
        for step in steps {
            apply(&step, &mut bench, &mut model);
            agrees(&mut bench, &model);
        }
    }

    #[test]
    fn no_access_panics_and_what_is_sent_is_bounded(
        accesses in prop::collection::vec((0_u64..0x9000, any::<u32>(), any::<u64>()), 0..60),
        is_direct: bool,
    ) {
        let delivery = if is_direct { Delivery::Direct } else { Delivery::Msi };
        let mut bench = Bench::new(delivery);
        for (offset, value, anywhere) in accesses {
            bench.sent.clear();
            bench.write(offset, value);
            prop_assert!(bench.sent.len() <= SOURCES + 1);
            bench.write(offset & !3, value);
            bench.write(anywhere, value);
            bench.read(offset);
            bench.read(offset & !3);
            bench.read(anywhere);
            bench.wire(anywhere as usize, value & 1 == 1);
            bench.wire((offset % 128) as usize, value & 2 == 2);
            bench.aplic.is_raised(anywhere as usize);
        }
    }
}
