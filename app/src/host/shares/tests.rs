// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A machine that only has time: vCPUs run, sleep and are asked.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

const ALL: u64 = u64::MAX;
/// How fine the machine's time is.
const STEP_NS: u64 = 50_000;

/// What a vCPU does with its time: runs so long, then sleeps so long.
#[derive(Clone, Copy, Debug)]
struct Habit {
    runs_ns: u64,
    sleeps_ns: u64,
    /// Whether it looks as if it only waited.
    seems_to_spin: bool,
}

impl Habit {
    /// What a look at it shows.
    fn progress(self) -> Progress {
        match self.seems_to_spin {
            true => Progress::Spins,
            false => Progress::Moves,
        }
    }

    /// How much of so long it runs if it has one of so many turns when it wants to.
    fn fair_ms(self, of_ms: u64, turns: u64) -> u64 {
        match self.sleeps_ns {
            0 => of_ms / turns,
            sleeps_ns => of_ms * self.runs_ns / (self.runs_ns * turns + sleeps_ns),
        }
    }
}

const BUSY: Habit = Habit {
    runs_ns: u64::MAX,
    sleeps_ns: 0,
    seems_to_spin: false,
};

const SPINS: Habit = Habit {
    seems_to_spin: true,
    ..BUSY
};

struct Guest {
    id: SeatId,
    habit: Habit,
    cpu: Option<usize>,
    /// What is left of its running, or of its sleep.
    left_ns: u64,
    ran_ns: u64,
    /// When it was woken last, and how long it has waited for a CPU at most.
    woken_ns: Option<u64>,
    longest_wake_ns: u64,
    was_asked: bool,
}

struct Sim {
    shares: Shares,
    cpus: usize,
    now_ns: u64,
    guests: Vec<Guest>,
    idle_in_vain: u64,
}

impl Sim {
    fn new(cpus: usize) -> Self {
        let mut shares = Shares::new();
        shares.set_cpus(cpus);
        Self {
            shares,
            cpus,
            now_ns: 1_000_000_000,
            guests: vec![],
            idle_in_vain: 0,
        }
    }

    fn add(&mut self, cpus: u64, weight: u64, habit: Habit) -> usize {
        let id = self.shares.add(cpus, weight);
        self.guests.push(Guest {
            id,
            habit,
            cpu: None,
            left_ns: 0,
            ran_ns: 0,
            woken_ns: None,
            longest_wake_ns: 0,
            was_asked: false,
        });
        self.guests.len() - 1
    }

    fn busy(cpus: usize, count: usize) -> Self {
        let mut sim = Self::new(cpus);
        for _ in 0..count {
            sim.add(ALL, WEIGHT, BUSY);
        }
        sim
    }

    fn obey(&mut self, orders: Orders) {
        for (id, cpu) in orders.run.into_iter().chain(orders.moves) {
            let now = self.now_ns;
            assert!(
                self.guests.iter().all(|g| g.cpu != Some(cpu)),
                "one at a time"
            );
            let guest = self.guests.iter_mut().find(|g| g.id == id).unwrap();
            guest.cpu = Some(cpu);
            guest.was_asked = false;
            if let Some(woken) = guest.woken_ns.take() {
                guest.longest_wake_ns = guest.longest_wake_ns.max(now - woken);
            }
        }
        if let Some(id) = orders.ask {
            let guest = self.guests.iter_mut().find(|g| g.id == id).unwrap();
            assert!(guest.cpu.is_some(), "only who runs is asked");
            guest.was_asked = true;
        }
    }

    fn step(&mut self) {
        for cpu in 0..self.cpus {
            let ask = self.shares.overdue(cpu, self.now_ns);
            self.obey(Orders::ask(ask));
        }
        for at in 0..self.guests.len() {
            self.step_guest(at);
        }
        self.now_ns += STEP_NS;
        for cpu in 0..self.cpus {
            let is_idle = self.guests.iter().all(|g| g.cpu != Some(cpu));
            if is_idle && self.shares.next_for(cpu).is_some() {
                self.idle_in_vain += 1;
            }
        }
        for guest in &mut self.guests {
            guest.left_ns = guest.left_ns.saturating_sub(match guest.cpu {
                Some(_) => STEP_NS,
                None if self.shares.is_away(guest.id) => STEP_NS,
                None => 0,
            });
            guest.ran_ns += guest.cpu.map_or(0, |_| STEP_NS);
        }
    }

    fn step_guest(&mut self, at: usize) {
        let guest = &mut self.guests[at];
        let (id, now) = (guest.id, self.now_ns);
        let orders = match guest.cpu {
            None if self.shares.is_away(id) && guest.left_ns == 0 => {
                guest.left_ns = guest.habit.runs_ns;
                guest.woken_ns = Some(now);
                self.shares.ready(id, now)
            }
            None => return,
            Some(_) if guest.left_ns == 0 => {
                guest.left_ns = guest.habit.sleeps_ns;
                guest.cpu = None;
                self.shares.rest(id, now)
            }
            Some(_) if guest.was_asked => {
                guest.was_asked = false;
                let progress = guest.habit.progress();
                let orders = self.shares.give_up(id, progress, now);
                if orders.run.is_some() {
                    guest.cpu = None;
                }
                orders
            }
            Some(_) => return,
        };
        self.obey(orders);
    }

    /// Sends an interrupt from the first CPU.
    fn interrupt(&mut self, at: usize) {
        let orders = self.shares.hurry(self.guests[at].id, 0, self.now_ns);
        self.obey(orders);
    }

    fn run_ms(&mut self, milliseconds: u64) {
        let end = self.now_ns + milliseconds * 1_000_000;
        while self.now_ns < end {
            self.step();
        }
    }

    fn ran_ms(&self) -> Vec<u64> {
        self.guests.iter().map(|g| g.ran_ns / 1_000_000).collect()
    }
}

fn within(value: u64, wanted: u64, tolerance: u64) -> bool {
    value.abs_diff(wanted) <= tolerance
}

#[test]
fn equals_get_equal_shares_of_one_cpu() {
    let mut sim = Sim::busy(1, 4);
    sim.run_ms(1000);
    let ran = sim.ran_ms();
    assert!(ran.iter().all(|ran| within(*ran, 250, 6)), "{ran:?}");
}

#[test]
fn three_vcpus_share_two_cpus_equally() {
    let mut sim = Sim::busy(2, 3);
    sim.run_ms(900);
    let ran = sim.ran_ms();
    assert!(ran.iter().all(|ran| within(*ran, 600, 10)), "{ran:?}");
}

#[test]
fn a_weight_is_a_share() {
    let mut sim = Sim::new(1);
    sim.add(ALL, 100, BUSY);
    sim.add(ALL, 300, BUSY);
    sim.run_ms(1000);
    let ran = sim.ran_ms();
    assert!(within(ran[0], 250, 8) && within(ran[1], 750, 8), "{ran:?}");
}

#[test]
fn who_only_seems_to_wait_loses_nothing_of_its_share() {
    let mut sim = Sim::new(1);
    sim.add(ALL, WEIGHT, BUSY);
    sim.add(ALL, WEIGHT, SPINS);
    sim.run_ms(1000);
    let ran = sim.ran_ms();
    assert!(ran.iter().all(|ran| within(*ran, 500, 8)), "{ran:?}");
}

#[test]
fn those_who_wait_for_each_other_take_short_turns_in_order() {
    let mut shares = Shares::new();
    shares.set_cpus(1);
    let seats: Vec<_> = (0..4).map(|_| shares.add(ALL, WEIGHT)).collect();
    for id in &seats {
        let _ = shares.ready(*id, 0);
    }
    let (mut now, mut on, mut order) = (0, seats[0], vec![]);
    for _ in 0..12 {
        now = shares.next_look_ns().unwrap();
        assert_eq!(shares.overdue(0, now), Some(on));
        let next = shares.give_up(on, Progress::Spins, now).run.unwrap();
        order.push(next.0.0);
        on = next.0;
    }
    assert_eq!(order, [1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0]);
    assert_eq!(now, 12 * LOOK_NS);
}

#[test]
fn who_wakes_runs_at_once_among_those_that_never_sleep() {
    let mut sim = Sim::busy(2, 4);
    let sleeper = sim.add(
        ALL,
        WEIGHT,
        Habit {
            runs_ns: 200_000,
            sleeps_ns: 10_000_000,
            seems_to_spin: false,
        },
    );
    sim.run_ms(50);
    sim.guests[sleeper].longest_wake_ns = 0;
    sim.run_ms(500);
    let waited = sim.guests[sleeper].longest_wake_ns;
    assert!(waited <= 3 * STEP_NS, "waited {waited} ns");
}

#[test]
fn one_that_slept_long_gets_no_more_than_its_share_afterwards() {
    let mut sim = Sim::busy(1, 1);
    sim.run_ms(1000);
    sim.add(ALL, WEIGHT, BUSY);
    sim.run_ms(200);
    let late = sim.ran_ms()[1];
    assert!(within(late, 100, 6), "{late}");
}

#[test]
fn one_that_is_held_to_a_cpu_shares_it_and_the_others_go_elsewhere() {
    let mut sim = Sim::new(2);
    let pinned = sim.add(1, WEIGHT, BUSY);
    sim.add(ALL, WEIGHT, BUSY);
    sim.add(ALL, WEIGHT, BUSY);
    sim.run_ms(900);
    let ran = sim.ran_ms();
    assert!(within(ran[pinned], 600, 20), "{ran:?}");
    assert_eq!(sim.idle_in_vain, 0);
}

#[test]
fn an_interrupt_brings_who_waits_to_run_instead_of_its_sender() {
    let mut shares = Shares::new();
    shares.set_cpus(1);
    let (sender, target) = (shares.add(ALL, WEIGHT), shares.add(ALL, WEIGHT));
    assert_eq!(shares.ready(sender, 0).run, Some((sender, 0)));
    assert_eq!(shares.ready(target, 0), Orders::default());
    let now = 100_000;
    assert_eq!(shares.hurry(target, 0, now).ask, Some(sender));
    assert_eq!(shares.hurry(target, 0, now), Orders::default(), "once");
    assert_eq!(
        shares.give_up(sender, Progress::Moves, now).run,
        Some((target, 0))
    );
}

#[test]
fn who_is_interrupted_all_the_time_gets_no_more_than_its_share() {
    for cpus in 1..3 {
        let mut sim = Sim::busy(cpus, 4);
        for _ in 0..6_000 {
            sim.interrupt(0);
            sim.step();
        }
        let fair_ms = 75 * cpus as u64;
        for ran_ms in sim.ran_ms() {
            assert!(within(ran_ms, fair_ms, 6), "{:?}", sim.ran_ms());
        }
    }
}

#[test]
fn a_seat_that_was_given_back_is_given_to_the_next() {
    let mut shares = Shares::new();
    shares.set_cpus(1);
    let (gone, stays) = (shares.add(ALL, WEIGHT), shares.add(ALL, WEIGHT));
    assert_eq!(shares.ready(gone, 0).run, Some((gone, 0)));
    let _ = shares.ready(stays, 0);
    assert_eq!(shares.rest(gone, 1).run, Some((stays, 0)));
    shares.remove(gone);
    assert_eq!(shares.add(ALL, WEIGHT), gone);
}

#[test]
fn who_is_alone_is_never_asked() {
    let mut shares = Shares::new();
    shares.set_cpus(2);
    let (one, two) = (shares.add(ALL, WEIGHT), shares.add(ALL, WEIGHT));
    assert_eq!(shares.ready(one, 0).run, Some((one, 0)));
    assert_eq!(shares.ready(two, 0).run, Some((two, 1)));
    assert_eq!(shares.next_look_ns(), None);
    assert_eq!(shares.overdue(0, u64::MAX), None);
}

fn any_habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        Just(BUSY),
        Just(SPINS),
        (1..200_u64, 1..200_u64, any::<bool>()).prop_map(|(runs, sleeps, seems_to_spin)| Habit {
            runs_ns: runs * STEP_NS,
            sleeps_ns: sleeps * STEP_NS,
            seems_to_spin,
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_cpu_is_idle_in_vain_and_nobody_starves(
        cpus in 1..5_usize,
        guests in prop::collection::vec((any::<u64>(), any_habit()), 1..10),
    ) {
        let mut sim = Sim::new(cpus);
        for (mask, habit) in &guests {
            let mask = mask & ((1 << cpus) - 1);
            sim.add(if mask == 0 { ALL } else { mask }, WEIGHT, *habit);
        }
        sim.run_ms(300);
        prop_assert_eq!(sim.idle_in_vain, 0);
        for (guest, ran) in sim.guests.iter().zip(sim.ran_ms()) {
            let fair = guest.habit.fair_ms(300, guests.len() as u64);
            prop_assert!(ran + 15 >= fair, "{ran} of {fair}");
        }
    }

    #[test]
    fn busy_equals_stay_within_two_slices_of_each_other(
        cpus in 1..5_usize,
        count in 1..12_usize,
    ) {
        let mut sim = Sim::busy(cpus, count);
        sim.run_ms(300);
        let ran = sim.guests.iter().map(|guest| guest.ran_ns);
        let spread = ran.clone().max().unwrap() - ran.min().unwrap();
        prop_assert!(spread <= 2 * SLICE_NS + GRAIN_NS + STEP_NS, "{spread}");
    }
}
