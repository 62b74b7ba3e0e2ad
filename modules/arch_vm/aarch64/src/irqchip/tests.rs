// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controller as guests program it.

use alloc::vec::Vec;

use axvm::AccessWidth;
use proptest::prelude::*;

use super::{
    Again, Filled, Frame, Sgi, State, VCPUS_MAX, Version, affinity_of_vcpu, again, bank::mask,
    fill, fill_one, fold, frame_at, is_of, state::SPI_BANKS, vcpu_of_affinity,
};
use crate::regs::LR;

const UART: u32 = 33;
const TIMER: u32 = 27;
const WORD: AccessWidth = AccessWidth::Dword;
const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const HW: u64 = 1 << 61;
const EOI: u64 = 1 << 41;
const SPURIOUS: u64 = 1023;

fn write(state: &mut State, cpu: usize, frame: Frame, offset: u64, value: u64) {
    state.write(cpu, (frame, offset), (WORD, value));
}

fn read(state: &mut State, cpu: usize, frame: Frame, offset: u64) -> u64 {
    state.read(cpu, (frame, offset), WORD)
}

/// Writes ICC_SGI1R_EL1.
fn write_sgi(state: &mut State, cpu: usize, value: u64) {
    state.send_sgis(cpu, Sgi::new(cpu, value));
}

/// A GICv3 as Linux sets it up: everything in group 1 and enabled.
fn gicv3(vcpus: usize) -> State {
    let mut state = State::new(Version::V3, vcpus);
    write(&mut state, 0, Frame::Distributor, 0, 0x12);
    for word in 1..9 {
        write(&mut state, 0, Frame::Distributor, 0x80 + 4 * word, u64::MAX);
        write(
            &mut state,
            0,
            Frame::Distributor,
            0x100 + 4 * word,
            u64::MAX,
        );
    }
    for cpu in 0..vcpus {
        let own = Frame::Redistributor(cpu);
        write(&mut state, cpu, own, 0x1_0080, u64::MAX);
        write(&mut state, cpu, own, 0x1_0100, u64::MAX);
    }
    state.attention = 0;
    state
}

/// A GICv2 as Linux sets it up; the UART goes to vCPU 0.
fn gicv2(vcpus: usize) -> State {
    let mut state = State::new(Version::V2, vcpus);
    write(&mut state, 0, Frame::Distributor, 0, 1);
    write(&mut state, 0, Frame::Distributor, 0x820, 0x0101_0101);
    for word in 0..9 {
        write(
            &mut state,
            0,
            Frame::Distributor,
            0x100 + 4 * word,
            u64::MAX,
        );
    }
    for cpu in 0..vcpus {
        write(&mut state, cpu, Frame::Distributor, 0x100, u64::MAX);
        write(&mut state, cpu, Frame::CpuInterface, 4, 0xf0);
        write(&mut state, cpu, Frame::CpuInterface, 0, 1);
    }
    state.attention = 0;
    state
}

fn listed(state: &mut State, cpu: usize) -> [u64; 4] {
    let mut lists = [0; 4];
    fill(state, cpu, &mut lists);
    lists
}

#[test]
fn the_most_urgent_of_many_are_listed_and_none_is_lost() {
    let mut state = gicv3(1);
    for (at, intid) in (64_u64..76).enumerate() {
        let priority = 0xd0 - 0x10 * at as u64;
        let access = (AccessWidth::Byte, priority);
        state.write(0, (Frame::Distributor, 0x400 + intid), access);
    }
    write(&mut state, 0, Frame::Distributor, 0x208, 0xfff);
    let mut lists = [0; 4];
    assert_eq!(fill(&mut state, 0, &mut lists), Filled::Waiting);
    assert_eq!(lists.map(|list| list & 0xffff), [75, 74, 73, 72]);
    // Software made them pending, so that they stay so when they are taken back.
    fold(&mut state, 0, &mut lists);
    assert_eq!(read(&mut state, 0, Frame::Distributor, 0x208), 0xfff);
    fill(&mut state, 0, &mut lists);
    lists[0] &= !PENDING;
    fold(&mut state, 0, &mut lists);
    assert_eq!(read(&mut state, 0, Frame::Distributor, 0x208), 0x7ff);
}

#[test]
fn a_line_reaches_the_list_registers_of_its_target() {
    let mut state = gicv3(2);
    // GICD_IROUTER of the UART: affinity 1.
    state.write(0, (Frame::Distributor, 0x6108), (AccessWidth::Qword, 1));
    state.attention = 0;
    state.set_line(UART, true);
    assert_eq!(state.attention, 0b10);
    assert_eq!(listed(&mut state, 0), [0; 4]);
    let [list, rest @ ..] = listed(&mut state, 1);
    assert_eq!((list & 0xffff, rest), (u64::from(UART), [0; 3]));
    assert_eq!(list & (PENDING | ACTIVE | HW | EOI), PENDING | EOI);
    assert_eq!(list & LR::GROUP::SET.value, LR::GROUP::SET.value);
}

#[test]
fn a_level_that_stays_high_comes_again_after_its_end() {
    let mut state = gicv3(1);
    state.set_line(UART, true);
    let mut lists = listed(&mut state, 0);
    // The guest has acknowledged it: no second one while it is active.
    lists[0] = lists[0] & !PENDING | ACTIVE;
    fold(&mut state, 0, &mut lists);
    let mut lists = listed(&mut state, 0);
    assert_eq!(lists[0] & (PENDING | ACTIVE), ACTIVE);
    // And has ended it.
    lists[0] &= !ACTIVE;
    fold(&mut state, 0, &mut lists);
    assert_eq!(listed(&mut state, 0)[0] & (PENDING | ACTIVE), PENDING);
}

#[test]
fn a_level_that_fell_is_not_listed_again() {
    let mut state = gicv3(1);
    state.set_line(UART, true);
    let mut lists = listed(&mut state, 0);
    state.set_line(UART, false);
    fold(&mut state, 0, &mut lists);
    assert_eq!(listed(&mut state, 0), [0; 4]);
}

#[test]
fn an_edge_during_the_service_is_not_lost() {
    let mut state = gicv3(2);
    write_sgi(&mut state, 1, 5 << 24 | 1);
    assert_eq!(state.attention, 1);
    let mut lists = listed(&mut state, 0);
    lists[0] = lists[0] & !PENDING | ACTIVE;
    write_sgi(&mut state, 1, 5 << 24 | 1);
    fold(&mut state, 0, &mut lists);
    assert_eq!(
        listed(&mut state, 0)[0] & (PENDING | ACTIVE),
        PENDING | ACTIVE
    );
}

#[test]
fn a_linked_timer_fires_again_after_an_end_that_was_not_folded_yet() {
    let mut state = gicv3(1);
    state.link(0, TIMER);
    let mut lists = listed(&mut state, 0);
    assert_eq!(lists[0] & (PENDING | HW | EOI), PENDING | HW);
    assert_eq!(lists[0] >> 32 & 0x3ff, u64::from(TIMER));
    // Ended by the guest, then folded before the next firing is linked.
    lists[0] &= !(PENDING | ACTIVE);
    fold(&mut state, 0, &mut lists);
    state.link(0, TIMER);
    assert_eq!(listed(&mut state, 0)[0] & (PENDING | HW), PENDING | HW);
}

#[test]
fn one_interrupt_gets_a_list_register_if_the_guest_can_take_it() {
    let mut state = gicv3(1);
    assert_eq!(fill_one(&mut state, 0, TIMER), None);
    state.link(0, TIMER);
    let list = fill_one(&mut state, 0, TIMER).unwrap();
    assert_eq!(list & (PENDING | ACTIVE | HW), PENDING | HW);
    assert!(is_of(list, TIMER) && !is_of(list, TIMER + 1));
    // It has one now.
    assert_eq!(fill_one(&mut state, 0, TIMER), None);
    write_sgi(&mut state, 0, 5 << 24 | 1);
    write(&mut state, 0, Frame::Redistributor(0), 0x1_0180, 1 << 5);
    assert_eq!(fill_one(&mut state, 0, 5), None);
    write(&mut state, 0, Frame::Redistributor(0), 0x1_0100, 1 << 5);
    assert!(fill_one(&mut state, 0, 5).is_some_and(|list| is_of(list, 5)));
}

#[test]
fn a_list_register_is_pending_again_unless_the_hardware_ends_it() {
    let given = PENDING | 7 << 48 | 5;
    assert_eq!(again(given, given), Again::Pending);
    assert_eq!(again(given, given | ACTIVE), Again::Pending);
    let active = given & !PENDING | ACTIVE;
    assert_eq!(again(given, active), Again::Write(given | ACTIVE));
    assert_eq!(again(given, given & !PENDING), Again::Write(given));
    // It was given active, and ended since.
    assert_eq!(again(active, given & !PENDING), Again::Write(given));
    assert_eq!(again(given | HW, active | HW), Again::Elsewhere);
    assert_eq!(again(given | HW, HW | 5), Again::Write(given | HW));
}

#[test]
fn a_vcpu_that_leaves_gives_its_links_up() {
    let mut state = gicv3(1);
    state.link(0, TIMER);
    let mut lists = listed(&mut state, 0);
    lists[0] = lists[0] & !PENDING | ACTIVE;
    fold(&mut state, 0, &mut lists);
    assert_eq!(state.unlink(0), 1 << TIMER);
    assert_eq!(state.unlink(0), 0);
    // Still being served, but by software alone.
    assert_eq!(listed(&mut state, 0)[0] & (PENDING | ACTIVE | HW), ACTIVE);
}

#[test]
fn the_most_urgent_interrupts_get_the_list_registers() {
    let mut state = gicv3(1);
    for intid in 40..46_u32 {
        let offset = 0x400 + u64::from(intid);
        let priority = 0xf0 - 8 * u64::from(intid - 40);
        state.write(
            0,
            (Frame::Distributor, offset),
            (AccessWidth::Byte, priority),
        );
        state.set_line(intid, true);
    }
    let mut lists = [0; 4];
    assert_eq!(fill(&mut state, 0, &mut lists), Filled::Waiting);
    let intids = lists.map(|list| list & 0xffff);
    assert_eq!(intids, [45, 44, 43, 42]);
}

#[test]
fn what_waits_is_listed_beside_what_is_served() {
    let mut state = gicv3(1);
    let served = (0x304, 0x1f << 8);
    write(&mut state, 0, Frame::Distributor, served.0, served.1);
    let mut lists = [0; 4];
    assert_eq!(fill(&mut state, 0, &mut lists), Filled::Served);
    fold(&mut state, 0, &mut lists);
    // Less urgent than all of them: whoever drops their priority takes it.
    state.write(
        0,
        (Frame::Distributor, 0x400 + 50),
        (AccessWidth::Byte, 0x80),
    );
    state.set_line(50, true);
    assert_eq!(fill(&mut state, 0, &mut lists), Filled::Served);
    assert_eq!(lists.map(|list| list & 0xffff), [40, 41, 42, 50]);
    assert_eq!(lists[3] & PENDING, PENDING);
}

#[test]
fn an_end_without_a_list_register_is_counted() {
    let mut state = gicv3(1);
    write(&mut state, 0, Frame::Distributor, 0x304, 1 << 8);
    assert_eq!(state.active(0).count(), 1);
    state.end_unlisted(0, 3);
    assert_eq!(state.active(0).count(), 0);
}

#[test]
fn sgis_go_to_whom_the_register_names() {
    let mut state = gicv3(18);
    let pending = |state: &State, cpu: usize| state.privates[cpu].bank.latch & 0xffff;
    // Affinity 0.0.1.0-15, bit 1: vCPU 17.
    write_sgi(&mut state, 0, 3 << 24 | 1 << 16 | 0b10);
    assert_eq!(pending(&state, 17), 1 << 3);
    // All but the sender.
    write_sgi(&mut state, 2, 4 << 24 | 1 << 40);
    assert!((0..18).all(|cpu| (pending(&state, cpu) >> 4 & 1 == 1) == (cpu != 2)));
    let before = state.attention;
    // A range that does not exist.
    write_sgi(&mut state, 0, 5 << 24 | 1 << 44 | 1);
    assert_eq!((pending(&state, 0) >> 5 & 1, state.attention), (0, before));
}

#[test]
fn redistributors_say_whose_they_are() {
    let mut state = gicv3(3);
    let of = |cpu| (Frame::Redistributor(cpu), 8);
    assert_eq!(
        state.read(0, of(1), AccessWidth::Qword),
        1 << 32 | 1 << 8 | 1
    );
    let last = state.read(0, of(2), AccessWidth::Qword);
    assert_eq!(last, 2 << 32 | 2 << 8 | 1 << 4 | 1);
    let waker = Frame::Redistributor(1);
    assert_eq!(read(&mut state, 0, waker, 0x14), 6);
    write(&mut state, 0, waker, 0x14, 0);
    assert_eq!(read(&mut state, 0, waker, 0x14), 0);
}

#[test]
fn private_interrupts_are_not_in_a_gicv3_distributor() {
    let mut state = gicv3(1);
    assert_eq!(read(&mut state, 0, Frame::Distributor, 0x100), 0);
    write(&mut state, 0, Frame::Distributor, 0x180, u64::MAX);
    let enabled = read(&mut state, 0, Frame::Redistributor(0), 0x1_0100);
    assert_eq!(enabled, 0xffff_ffff);
}

#[test]
fn a_gicv2_guest_acknowledges_and_ends() {
    let mut state = gicv2(2);
    assert!(!state.signals(0));
    state.set_line(UART, true);
    assert!(state.signals(0) && !state.signals(1));
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0xc), UART.into());
    assert!(!state.signals(0));
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0xc), SPURIOUS);
    state.set_line(UART, false);
    write(&mut state, 0, Frame::CpuInterface, 0x10, UART.into());
    assert!(!state.signals(0));
}

#[test]
fn a_gicv2_sgi_names_each_sender_once() {
    let mut state = gicv2(3);
    // vCPUs 1 and 2 send SGI 7 to vCPU 0.
    for from in [1, 2] {
        write(&mut state, from, Frame::Distributor, 0xf00, 1 << 16 | 7);
    }
    for from in [1, 2] {
        let acknowledged = read(&mut state, 0, Frame::CpuInterface, 0xc);
        assert_eq!(acknowledged, from << 10 | 7);
        write(&mut state, 0, Frame::CpuInterface, 0x10, acknowledged);
    }
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0xc), SPURIOUS);
}

#[test]
fn gicv2_sgis_are_always_enabled_and_pend_by_their_own_registers() {
    let mut state = gicv2(2);
    write(&mut state, 1, Frame::Distributor, 0x180, u64::MAX);
    assert_eq!(read(&mut state, 1, Frame::Distributor, 0x100), 0xffff);
    write(&mut state, 1, Frame::Distributor, 0x200, 0xffff);
    assert!(!state.signals(1));
    write(&mut state, 0, Frame::Distributor, 0xf00, 2 << 16 | 1);
    write(&mut state, 1, Frame::Distributor, 0x280, 0xffff);
    assert_eq!(read(&mut state, 1, Frame::CpuInterface, 0xc), 1);
}

#[test]
fn a_more_urgent_gicv2_interrupt_nests() {
    let mut state = gicv2(1);
    state.write(
        0,
        (Frame::Distributor, 0x400 + 33),
        (AccessWidth::Byte, 0x80),
    );
    state.write(
        0,
        (Frame::Distributor, 0x400 + 34),
        (AccessWidth::Byte, 0x40),
    );
    state.set_line(33, true);
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0xc), 33);
    state.set_line(34, true);
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0xc), 34);
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0x14), 0x40);
    write(&mut state, 0, Frame::CpuInterface, 0x10, 34);
    assert_eq!(read(&mut state, 0, Frame::CpuInterface, 0x14), 0x80);
}

#[test]
fn the_end_of_a_linked_gicv2_timer_frees_its_source() {
    let mut state = gicv2(1);
    state.link(0, TIMER);
    assert!(state.signals(0) && state.is_linked(0, TIMER));
    read(&mut state, 0, Frame::CpuInterface, 0xc);
    write(&mut state, 0, Frame::CpuInterface, 0x10, TIMER.into());
    assert!(!state.is_linked(0, TIMER) && !state.signals(0));
}

#[test]
fn frames_are_where_the_device_tree_says() {
    let at = |version, address| frame_at(version, 2, axvm::GuestPhysAddr::from_usize(address));
    assert_eq!(at(Version::V3, 0x0800_0004), Some((Frame::Distributor, 4)));
    assert_eq!(
        at(Version::V3, 0x080c_0014),
        Some((Frame::Redistributor(1), 0x14))
    );
    assert_eq!(at(Version::V3, 0x080e_0000), None);
    assert_eq!(at(Version::V3, 0x0809_0040), Some((Frame::Its, 0x1_0040)));
    assert_eq!(at(Version::V2, 0x0808_0000), None);
    assert_eq!(
        at(Version::V2, 0x0801_1000),
        Some((Frame::CpuInterface, 0x1000))
    );
    assert_eq!(at(Version::V2, 0x0801_2000), None);
}

#[test]
fn affinities_and_vcpus_are_one_to_one() {
    for vcpu in 0..VCPUS_MAX {
        assert_eq!(vcpu_of_affinity(affinity_of_vcpu(vcpu)), Some(vcpu));
    }
    assert_eq!(vcpu_of_affinity(16), None);
    assert_eq!(vcpu_of_affinity(1 << 16), None);
}

/// What a guest or a device may do.
#[derive(Clone, Debug)]
enum Step {
    Read(usize, u64, usize),
    Write(usize, u64, usize, u64),
    Line(u32, bool),
    Sgi(usize, u64),
    Sync(usize, u64),
}

fn step() -> impl Strategy<Value = Step> {
    let offset = prop_oneof![0_u64..0x1000, 0x6000_u64..0x8000, 0_u64..0x2_0000];
    let cpu = 0_usize..3;
    prop_oneof![
        (cpu.clone(), offset.clone(), 0_usize..4)
            .prop_map(|(cpu, at, width)| Step::Read(cpu, at, width)),
        (cpu.clone(), offset, 0_usize..4, any::<u64>())
            .prop_map(|(cpu, at, width, value)| Step::Write(cpu, at, width, value)),
        (0_u32..400, any::<bool>()).prop_map(|(intid, level)| Step::Line(intid, level)),
        (cpu.clone(), any::<u64>()).prop_map(|(cpu, value)| Step::Sgi(cpu, value)),
        (cpu, any::<u64>()).prop_map(|(cpu, states)| Step::Sync(cpu, states)),
    ]
}

const WIDTHS: [AccessWidth; 4] = [
    AccessWidth::Byte,
    AccessWidth::Word,
    AccessWidth::Dword,
    AccessWidth::Qword,
];

/// The frames that an offset could be in.
fn frames(version: Version, cpu: usize) -> [Frame; 2] {
    match version {
        Version::V2 => [Frame::Distributor, Frame::CpuInterface],
        Version::V3 => [Frame::Distributor, Frame::Redistributor(cpu)],
    }
}

fn apply(state: &mut State, step: &Step, lists: &mut [[u64; 4]; 3]) {
    let version = state.version;
    match *step {
        Step::Read(cpu, at, width) => {
            for frame in frames(version, cpu) {
                state.read(cpu, (frame, at), WIDTHS[width]);
            }
        }
        Step::Write(cpu, at, width, value) => {
            for frame in frames(version, cpu) {
                state.write(cpu, (frame, at), (WIDTHS[width], value));
            }
        }
        Step::Line(intid, level) => state.set_line(intid, level),
        Step::Sgi(cpu, value) => write_sgi(state, cpu, value),
        Step::Sync(cpu, guest) => {
            // The guest may have acknowledged and ended whatever was listed.
            for (i, list) in lists[cpu].iter_mut().enumerate() {
                if *list != 0 {
                    *list = *list & !(PENDING | ACTIVE) | guest << i & (PENDING | ACTIVE);
                }
            }
            fold(state, cpu, &mut lists[cpu]);
            fill(state, cpu, &mut lists[cpu]);
        }
    }
}

/// Returns what a vCPU could take, by looking at every interrupt there is.
fn takable(state: &State, cpu: usize) -> Vec<u32> {
    let is_takable = |intid: &u32| {
        let (index, bit) = ((intid >> 5) as usize, intid & 31);
        let bank = state.bank_at(cpu, index).unwrap();
        let is_own = state.owned(cpu, index) & mask(bit) != 0;
        is_own && bank.deliverable(bank.groups(state.enables)) & mask(bit) != 0
    };
    (0..32 * (SPI_BANKS as u32 + 1))
        .filter(is_takable)
        .collect()
}

proptest! {
    #[test]
    fn no_guest_panics_the_controller_and_nothing_is_listed_twice(
        steps in prop::collection::vec(step(), 1..120),
        is_v3: bool,
    ) {
        let mut state = if is_v3 { gicv3(3) } else { gicv2(3) };
        let mut lists = [[0; 4]; 3];
        for step in &steps {
            apply(&mut state, step, &mut lists);
            let shared = |list: &&u64| **list & 0xffff >= 32;
            let mut intids: Vec<u64> = lists.iter().flatten().filter(shared).map(|list| list & 0xffff).collect();
            let count = intids.len();
            intids.sort_unstable();
            intids.dedup();
            prop_assert_eq!(intids.len(), count);
            for cpu in 0..3 {
                let mut seen: Vec<u32> = state.candidates(cpu).map(|found| found.intid).collect();
                seen.sort_unstable();
                prop_assert_eq!(seen, takable(&state, cpu));
            }
        }
    }
}
