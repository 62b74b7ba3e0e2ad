// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Tests of the 8259 pair.

use std::vec::Vec;

use proptest::prelude::*;

use super::{PicPair, Port};

const PORTS: [Port; 6] = [
    Port::MasterCommand,
    Port::MasterData,
    Port::SlaveCommand,
    Port::SlaveData,
    Port::MasterElcr,
    Port::SlaveElcr,
];
const EOI: u8 = 0x20;
const READ_IRR: u8 = 0x0a;
const READ_ISR: u8 = 0x0b;
const POLL: u8 = 0x0c;

/// Initializes the pair as PC operating systems do: vectors 0x30 and 0x38.
fn initialized(icw4: u8) -> PicPair {
    let mut pair = PicPair::new();
    for (command, data, base, wiring) in [
        (Port::MasterCommand, Port::MasterData, 0x30, 4),
        (Port::SlaveCommand, Port::SlaveData, 0x38, 2),
    ] {
        pair.write(command, 0x11);
        for word in [base, wiring, icw4] {
            pair.write(data, word);
        }
    }
    pair
}

fn status(pair: &mut PicPair, which: u8) -> (u8, u8) {
    pair.write(Port::MasterCommand, which);
    pair.write(Port::SlaveCommand, which);
    (
        pair.read(Port::MasterCommand),
        pair.read(Port::SlaveCommand),
    )
}

#[test]
fn an_edge_is_taken_once_with_the_vector_of_its_input() {
    let mut pair = initialized(1);
    assert!(!pair.is_raised());
    pair.set_level(4, true);
    assert!(pair.is_raised());
    assert_eq!(pair.acknowledge(), 0x34);
    assert!(!pair.is_raised());
    assert_eq!(status(&mut pair, READ_ISR), (0x10, 0));
    pair.write(Port::MasterCommand, EOI);
    assert!(!pair.is_raised(), "the wire is still high");
    pair.set_level(4, false);
    pair.set_level(4, true);
    assert_eq!(pair.acknowledge(), 0x34);
}

#[test]
fn an_edge_that_has_gone_low_is_remembered() {
    let mut pair = initialized(1);
    pair.set_level(4, true);
    pair.set_level(4, false);
    assert_eq!(pair.acknowledge(), 0x34);
}

#[test]
fn a_level_asks_for_as_long_as_it_is_high() {
    let mut pair = initialized(1);
    pair.write(Port::SlaveElcr, 0xff);
    assert_eq!(pair.read(Port::SlaveElcr), 0xde);
    pair.set_level(10, true);
    assert_eq!(pair.acknowledge(), 0x3a);
    pair.write(Port::SlaveCommand, EOI);
    pair.write(Port::MasterCommand, EOI);
    assert!(pair.is_raised());
    pair.set_level(10, false);
    assert_eq!(pair.acknowledge(), 0x3f, "spurious at the slave");
    assert_eq!(status(&mut pair, READ_ISR), (4, 0));
}

#[test]
fn the_slave_is_served_through_the_cascade() {
    let mut pair = initialized(1);
    pair.set_level(12, true);
    pair.set_level(8, true);
    assert_eq!(pair.acknowledge(), 0x38);
    assert_eq!(status(&mut pair, READ_ISR), (4, 1));
    assert_eq!(status(&mut pair, READ_IRR), (0, 0x10));
    pair.write(Port::SlaveCommand, EOI);
    assert!(!pair.is_raised(), "the master still serves input 2");
    pair.write(Port::MasterCommand, EOI);
    assert_eq!(pair.acknowledge(), 0x3c);
}

#[test]
fn a_higher_priority_interrupts_a_lower_and_not_the_other_way() {
    let mut pair = initialized(1);
    pair.set_level(5, true);
    assert_eq!(pair.acknowledge(), 0x35);
    pair.set_level(6, true);
    assert!(!pair.is_raised());
    pair.set_level(1, true);
    assert_eq!(pair.acknowledge(), 0x31);
    pair.write(Port::MasterCommand, EOI);
    assert_eq!(status(&mut pair, READ_ISR), (0x20, 0));
}

#[test]
fn masks_hold_back_and_forget_nothing() {
    let mut pair = initialized(1);
    pair.write(Port::MasterData, 0x10);
    pair.set_level(4, true);
    assert!(!pair.is_raised());
    assert_eq!(pair.acknowledge(), 0x37, "spurious");
    assert_eq!(status(&mut pair, READ_ISR), (0, 0));
    pair.write(Port::MasterData, 0);
    assert_eq!(pair.acknowledge(), 0x34);
}

#[test]
fn special_mask_mode_lets_lower_priorities_through() {
    let mut pair = initialized(1);
    pair.set_level(3, true);
    pair.acknowledge();
    pair.set_level(5, true);
    assert!(!pair.is_raised());
    pair.write(Port::MasterData, 0x08);
    pair.write(Port::MasterCommand, 0x68);
    assert_eq!(pair.acknowledge(), 0x35);
    pair.write(Port::MasterCommand, 0x48);
    assert_eq!(status(&mut pair, READ_ISR), (0x28, 0));
}

#[test]
fn rotation_makes_what_was_served_the_last() {
    let mut pair = initialized(1);
    pair.set_level(3, true);
    assert_eq!(pair.acknowledge(), 0x33);
    pair.write(Port::MasterCommand, 0xa0);
    pair.set_level(1, true);
    pair.set_level(4, true);
    assert_eq!(pair.acknowledge(), 0x34);
    pair.write(Port::MasterCommand, 0xe4);
    pair.set_level(3, false);
    pair.set_level(3, true);
    assert_eq!(pair.acknowledge(), 0x31);
    pair.write(Port::MasterCommand, 0x61);
    pair.write(Port::MasterCommand, 0xc2);
    pair.set_level(0, true);
    assert_eq!(pair.acknowledge(), 0x33);
}

#[test]
fn automatic_ends_keep_nothing_in_service_and_rotate_if_told_so() {
    let mut pair = initialized(3);
    pair.write(Port::MasterCommand, 0x80);
    for input in [0, 1] {
        pair.set_level(input, true);
    }
    assert_eq!(pair.acknowledge(), 0x30);
    pair.set_level(0, false);
    pair.set_level(0, true);
    assert_eq!(pair.acknowledge(), 0x31);
    assert_eq!(pair.acknowledge(), 0x30);
    assert_eq!(status(&mut pair, READ_ISR), (0, 0));
}

#[test]
fn with_automatic_ends_the_slave_asks_again_for_its_next() {
    let mut pair = initialized(3);
    pair.set_level(9, true);
    pair.set_level(10, true);
    assert_eq!((pair.acknowledge(), pair.acknowledge()), (0x39, 0x3a));
    assert!(!pair.is_raised());
}

#[test]
fn a_poll_takes_the_interrupt() {
    let mut pair = initialized(1);
    pair.write(Port::MasterCommand, POLL);
    assert_eq!(pair.read(Port::MasterCommand), 0);
    pair.set_level(6, true);
    pair.write(Port::MasterCommand, POLL);
    assert_eq!(pair.read(Port::MasterCommand), 0x86);
    assert_eq!(status(&mut pair, READ_ISR), (0x40, 0));
}

#[test]
fn initializing_forgets_edges_and_masks_and_keeps_levels() {
    let mut pair = initialized(1);
    pair.write(Port::MasterElcr, 0x20);
    pair.write(Port::MasterData, 0xff);
    pair.set_level(3, true);
    pair.set_level(5, true);
    pair.write(Port::MasterCommand, 0x11);
    assert_eq!(pair.read(Port::MasterCommand), 0x20);
    for word in [0x40, 4, 1] {
        pair.write(Port::MasterData, word);
    }
    assert_eq!(pair.read(Port::MasterData), 0);
    assert_eq!(pair.acknowledge(), 0x45);
}

#[test]
fn nested_slaves_interrupt_each_other_in_special_fully_nested_mode() {
    let mut pair = initialized(0x11);
    pair.set_level(12, true);
    assert_eq!(pair.acknowledge(), 0x3c);
    pair.set_level(9, true);
    assert_eq!(pair.acknowledge(), 0x39);
    let mut pair = initialized(1);
    pair.set_level(12, true);
    pair.acknowledge();
    pair.set_level(9, true);
    assert!(!pair.is_raised());
}

#[test]
fn initializing_the_master_does_not_lose_what_the_slave_still_wants() {
    let mut pair = initialized(1);
    pair.write(Port::SlaveElcr, 2);
    pair.set_level(9, true);
    pair.write(Port::MasterCommand, 0x11);
    for word in [0x40, 4, 1] {
        pair.write(Port::MasterData, word);
    }
    assert_eq!(pair.read(Port::MasterCommand), 0, "edges are forgotten");
    pair.write(Port::SlaveData, 0);
    assert_eq!(pair.acknowledge(), 0x39);
}

#[derive(Clone, Debug)]
enum Step {
    Wire(u32, bool),
    Read(Port),
    Write(Port, u8),
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    let port = prop::sample::select(PORTS.to_vec());
    prop_oneof![
        (0..24_u32, any::<bool>()).prop_map(|(input, high)| Step::Wire(input, high)),
        port.clone().prop_map(Step::Read),
        (port, any::<u8>()).prop_map(|(port, value)| Step::Write(port, no_poll(value))),
        Just(Step::Acknowledge),
    ]
}

/// Changes an OCW3 that asks for a poll: the next look of a test would be its answer.
fn no_poll(value: u8) -> u8 {
    const OCW3_POLL: u8 = 0b0_1100;
    match value & 0b1_1100 {
        OCW3_POLL => value & !0b100,
        _ => value,
    }
}

/// Plays a step; returns the vector if it was an acknowledgement.
fn play(pair: &mut PicPair, step: &Step) -> Option<u8> {
    match *step {
        Step::Wire(input, high) => pair.set_level(input, high),
        Step::Read(port) => drop(pair.read(port)),
        Step::Write(port, value) => pair.write(port, value),
        Step::Acknowledge => return Some(pair.acknowledge()),
    }
    None
}

proptest! {
    #[test]
    fn what_is_raised_is_requested_and_not_masked(steps in prop::collection::vec(step(), 0..200)) {
        let mut pair = initialized(1);
        for step in &steps {
            let was_raised = pair.is_raised();
            let before = pair.clone();
            if let Some(vector) = play(&mut pair, step) {
                let is_spurious = vector & 7 == 7;
                prop_assert!(was_raised || is_spurious);
            }
            let mut look = before;
            let (irr, _) = status(&mut look, READ_IRR);
            let (isr, _) = status(&mut look, READ_ISR);
            let mask = look.read(Port::MasterData);
            if was_raised && isr == 0 {
                prop_assert!(irr & !mask != 0);
            }
        }
    }

    #[test]
    fn everything_is_taken_in_the_end(inputs in prop::collection::btree_set(0..16_u32, 0..16)) {
        let mut pair = initialized(1);
        inputs.iter().for_each(|&input| pair.set_level(input, true));
        let mut taken = Vec::new();
        while pair.is_raised() {
            taken.push(u32::from(pair.acknowledge()) - 0x30);
            pair.write(Port::SlaveCommand, EOI);
            pair.write(Port::MasterCommand, EOI);
        }
        let order = |input: &u32| match input { 3..8 => input + 16, _ => *input };
        let mut expected: Vec<u32> = inputs.into_iter().filter(|&input| input != 2).collect();
        expected.sort_by_key(order);
        prop_assert_eq!(taken, expected);
    }
}
