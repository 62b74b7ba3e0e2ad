// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Who runs where: the physical CPUs, shared by the vCPUs.
//!
//! Values only, tested on the host; `seat` does what comes out of it. Every vCPU
//! that wants to run is on a CPU or in one line that all CPUs share. What it has
//! run is counted, divided by its weight; a CPU takes whoever has run least, and
//! is taken from whoever has run most. So equals get equal shares wherever they
//! run, and no CPU is idle while somebody waits for it.
//!
//! Who runs while others wait is looked at every [`LOOK_NS`], and has its turn for
//! [`SLICE_NS`]. One that does nothing but wait for another vCPU is passed over
//! while the others have run less than a slice more. Who has slept counts as
//! having run a slice less than the others, whatever it has run, and so gets a
//! CPU at once; so does, once, who has an interrupt to take while it waits.

use alloc::vec::Vec;

use axvm::Progress;

/// How long a vCPU runs before whoever waits has its turn.
pub const SLICE_NS: u64 = 3_000_000;
/// How often one that runs while others wait is looked at.
const LOOK_NS: u64 = 200_000;
/// What another vCPU must have run less to take a CPU before the slice's end.
const GRAIN_NS: u64 = 300_000;
/// What a weight is measured by: the usual one.
pub const WEIGHT: u64 = 100;
/// Whence running times count, so that a head start can be taken off.
const START_NS: u64 = 1 << 32;

/// A vCPU's number here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeatId(pub usize);

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It does not want to run.
    Away,
    /// It waits for its turn.
    InLine,
    /// It has this CPU.
    On(usize),
}

/// What is known of a vCPU.
#[derive(Clone, Debug)]
struct Seat {
    /// The CPUs it may run on, one bit each.
    cpus: u64,
    weight: u64,
    place: Place,
    last_cpu: usize,
    /// What it has run, over its weight.
    ran_ns: u64,
    /// Until when that is counted.
    counted_ns: u64,
    slice_began_ns: u64,
    looked_at_ns: u64,
    /// When it gave its CPU up since it only waited: a number that grows; or 0.
    spun: u64,
    /// It has an interrupt to take.
    is_hurried: bool,
    /// It was asked to give its CPU up.
    is_asked: bool,
}

/// What has to be done, after the books were changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Orders {
    /// Who goes on, on which CPU.
    pub run: Option<(SeatId, usize)>,
    /// Who goes on elsewhere: the vCPU that has given its CPU up.
    pub moves: Option<(SeatId, usize)>,
    /// Who is to be asked to give its CPU up.
    pub ask: Option<SeatId>,
}

impl Orders {
    fn run(seat: SeatId, cpu: usize) -> Self {
        Self {
            run: Some((seat, cpu)),
            ..Self::default()
        }
    }

    fn ask(seat: Option<SeatId>) -> Self {
        Self {
            ask: seat,
            ..Self::default()
        }
    }
}

/// The books.
pub struct Shares {
    cpus: usize,
    seats: Vec<Option<Seat>>,
    /// How many wait in line.
    in_line: usize,
    /// How often one has given its CPU up since it only waited.
    spins: u64,
}

impl Shares {
    /// Makes the books of a machine without CPUs.
    pub const fn new() -> Self {
        Self {
            cpus: 0,
            seats: Vec::new(),
            in_line: 0,
            spins: 0,
        }
    }

    /// Says how many CPUs there are.
    pub fn set_cpus(&mut self, cpus: usize) {
        self.cpus = cpus;
    }

    /// Adds a vCPU, which does not want to run yet.
    pub fn add(&mut self, cpus: u64, weight: u64) -> SeatId {
        let seat = Seat {
            cpus,
            weight: weight.max(1),
            place: Place::Away,
            last_cpu: 0,
            ran_ns: START_NS,
            counted_ns: 0,
            slice_began_ns: 0,
            looked_at_ns: 0,
            spun: 0,
            is_hurried: false,
            is_asked: false,
        };
        let free = self.seats.iter().position(Option::is_none);
        let index = free.unwrap_or(self.seats.len());
        match self.seats.get_mut(index) {
            Some(place) => *place = Some(seat),
            None => self.seats.push(Some(seat)),
        }
        SeatId(index)
    }

    /// Forgets a vCPU that rests.
    pub fn remove(&mut self, id: SeatId) {
        if let Some(place) = self.seats.get_mut(id.0) {
            *place = None;
        }
    }

    /// Tells whether a vCPU neither runs nor waits for its turn.
    pub fn is_away(&self, id: SeatId) -> bool {
        self.seat(id).is_some_and(|seat| seat.place == Place::Away)
    }

    /// A vCPU that was away wants to run.
    pub fn ready(&mut self, id: SeatId, now_ns: u64) -> Orders {
        if !self.is_away(id) {
            return Orders::default();
        }
        self.forgive(id, now_ns);
        match self.idle_cpu_for(id) {
            Some(cpu) => self.put_on(id, cpu, now_ns),
            None => {
                self.put_in_line(id);
                Orders::ask(self.victim_of(id, now_ns))
            }
        }
    }

    /// A vCPU that has a CPU does not want it any more.
    pub fn rest(&mut self, id: SeatId, now_ns: u64) -> Orders {
        let Some(cpu) = self.count(id, now_ns) else {
            return Orders::default();
        };
        self.place(id, Place::Away);
        if let Some(seat) = self.seat_mut(id) {
            seat.spun = 0;
        }
        match self.next_for(cpu) {
            Some((next, _)) => self.put_on(next, cpu, now_ns),
            None => Orders::default(),
        }
    }

    /// A vCPU that has a CPU was asked for it. If nothing comes out, it keeps it.
    pub fn give_up(&mut self, id: SeatId, progress: Progress, now_ns: u64) -> Orders {
        let Some(cpu) = self.count(id, now_ns) else {
            return Orders::default();
        };
        self.note_progress(id, progress, now_ns);
        match self.next_for(cpu) {
            Some((next, ran_ns)) if self.lets(id, ran_ns, now_ns) => {
                self.put_in_line(id);
                let mut orders = self.put_on(next, cpu, now_ns);
                if let Some(idle) = self.idle_cpu_for(id) {
                    orders.moves = self.put_on(id, idle, now_ns).run;
                }
                orders
            }
            _ => Orders::default(),
        }
    }

    fn note_progress(&mut self, id: SeatId, progress: Progress, now_ns: u64) {
        if progress == Progress::Spins {
            self.spins = self.spins.wrapping_add(1);
        }
        let spins = self.spins;
        if let Some(seat) = self.seat_mut(id) {
            seat.is_asked = false;
            seat.looked_at_ns = now_ns;
            seat.spun = if progress == Progress::Spins {
                spins
            } else {
                0
            };
            if now_ns.saturating_sub(seat.slice_began_ns) >= SLICE_NS.saturating_mul(2) {
                seat.slice_began_ns = now_ns;
            }
        }
    }

    /// Tells whether one that runs lets another run that counts as having run
    /// `ran_ns`: at the end of its slice one that has run less; before that, one
    /// that has run much less; and nearly anybody while it only waits itself.
    fn lets(&self, id: SeatId, ran_ns: u64, now_ns: u64) -> bool {
        let Some(seat) = self.seat(id) else {
            return false;
        };
        let has_had_slice = now_ns.saturating_sub(seat.slice_began_ns) >= SLICE_NS;
        let limit_ns = match (seat.spun != 0, has_had_slice) {
            (true, _) => seat.ran_ns.saturating_add(SLICE_NS),
            (false, true) => seat.ran_ns,
            (false, false) => seat.ran_ns.saturating_sub(GRAIN_NS),
        };
        ran_ns < limit_ns
    }

    /// A vCPU that may be waiting in line has an interrupt to take, which comes
    /// from `here`: whoever sent it is likely to wait for it to be taken.
    pub fn hurry(&mut self, id: SeatId, here: usize, now_ns: u64) -> Orders {
        match self.seat_mut(id) {
            Some(seat) if seat.place == Place::InLine && !seat.is_hurried => {
                seat.is_hurried = true;
            }
            _ => return Orders::default(),
        }
        let sender = self.on_cpu(here).filter(|_| self.may_run(id, here));
        let sender = sender.filter(|sender| self.yields_to(*sender, id, 0, now_ns));
        Orders::ask(match sender {
            Some(sender) => self.first_asking(sender),
            None => self.victim_of(id, now_ns),
        })
    }

    /// Returns who has to be looked at on a CPU that another one waits for.
    pub fn overdue(&mut self, cpu: usize, now_ns: u64) -> Option<SeatId> {
        let (id, at_ns) = self.next_look(cpu)?;
        (at_ns <= now_ns).then(|| self.first_asking(id))?
    }

    /// Returns when somebody has to be looked at.
    pub fn next_look_ns(&self) -> Option<u64> {
        if self.in_line == 0 {
            return None;
        }
        let looks = (0..self.cpus).filter_map(|cpu| self.next_look(cpu));
        looks.map(|(_, at_ns)| at_ns).min()
    }

    fn next_look(&self, cpu: usize) -> Option<(SeatId, u64)> {
        let id = self.on_cpu(cpu)?;
        let seat = self.seat(id).filter(|seat| !seat.is_asked)?;
        self.next_for(cpu)?;
        Some((id, seat.looked_at_ns.saturating_add(LOOK_NS)))
    }

    fn seat(&self, id: SeatId) -> Option<&Seat> {
        self.seats.get(id.0)?.as_ref()
    }

    fn seat_mut(&mut self, id: SeatId) -> Option<&mut Seat> {
        self.seats.get_mut(id.0)?.as_mut()
    }

    fn all(&self) -> impl Iterator<Item = (SeatId, &Seat)> + Clone {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(index, seat)| Some((SeatId(index), seat.as_ref()?)))
    }

    fn may_run(&self, id: SeatId, cpu: usize) -> bool {
        self.seat(id).is_some_and(|seat| seat.may_run_on(cpu))
    }

    fn on_cpu(&self, cpu: usize) -> Option<SeatId> {
        let on = |(_, seat): &(SeatId, &Seat)| seat.place == Place::On(cpu);
        self.all().find(on).map(|(id, _)| id)
    }

    fn idle_cpu_for(&self, id: SeatId) -> Option<usize> {
        let seat = self.seat(id)?;
        let is_idle = |cpu: &usize| seat.may_run_on(*cpu) && self.on_cpu(*cpu).is_none();
        let last = Some(seat.last_cpu).filter(|cpu| *cpu < self.cpus);
        last.filter(is_idle)
            .or_else(|| (0..self.cpus).find(is_idle))
    }

    /// Returns who goes on next on a CPU, and what it counts as having run: a
    /// little more if it comes from another CPU.
    fn next_for(&self, cpu: usize) -> Option<(SeatId, u64)> {
        if self.in_line == 0 {
            return None;
        }
        let waiting = self
            .all()
            .filter(|(_, seat)| seat.place == Place::InLine && seat.may_run_on(cpu));
        let counted = waiting.map(|(id, seat)| {
            let move_ns = if seat.last_cpu == cpu { 0 } else { GRAIN_NS };
            (id, seat.spun, seat.claim_ns().saturating_add(move_ns))
        });
        // Those who only waited take turns, within what is fair.
        let least_ns = counted.clone().map(|(.., ran_ns)| ran_ns).min()?;
        let limit_ns = least_ns.saturating_add(SLICE_NS);
        let near = counted.filter(|(.., ran_ns)| *ran_ns <= limit_ns);
        let next = near.min_by_key(|(id, spun, ran_ns)| (*spun, *ran_ns, *id));
        next.map(|(id, _, ran_ns)| (id, ran_ns))
    }

    /// Returns who should give its CPU to `id` before its slice ends: who has run
    /// most of those that have run so much more.
    fn victim_of(&mut self, id: SeatId, now_ns: u64) -> Option<SeatId> {
        let running = self.all().filter(|(other, seat)| {
            matches!(seat.place, Place::On(cpu) if self.may_run(id, cpu))
                && self.yields_to(*other, id, GRAIN_NS, now_ns)
        });
        let victim = running.max_by_key(|(_, seat)| seat.ran_by(now_ns));
        let victim = victim.map(|(id, _)| id)?;
        self.first_asking(victim)
    }

    fn yields_to(&self, runs: SeatId, waits: SeatId, by_ns: u64, now_ns: u64) -> bool {
        let ran_ns = self.seat(runs).map_or(0, |seat| seat.ran_by(now_ns));
        self.seat(waits)
            .is_some_and(|seat| seat.claim_ns().saturating_add(by_ns) < ran_ns)
    }

    /// Returns who is to be asked, unless it was before.
    fn first_asking(&mut self, id: SeatId) -> Option<SeatId> {
        let seat = self.seat_mut(id)?;
        (!core::mem::replace(&mut seat.is_asked, true)).then_some(id)
    }

    /// Counts what a vCPU has run until now, and returns its CPU.
    fn count(&mut self, id: SeatId, now_ns: u64) -> Option<usize> {
        let seat = self.seat_mut(id)?;
        let Place::On(cpu) = seat.place else {
            return None;
        };
        seat.ran_ns = seat.ran_by(now_ns);
        seat.counted_ns = now_ns;
        Some(cpu)
    }

    /// Brings one that comes back near to those that it shares CPUs with: a slice
    /// ahead at most, and a slice behind.
    fn forgive(&mut self, id: SeatId, now_ns: u64) {
        let Some(cpus) = self.seat(id).map(|seat| seat.cpus) else {
            return;
        };
        let others = || {
            let active = |seat: &Seat| seat.place != Place::Away && seat.cpus & cpus != 0;
            let others = self.all().filter(move |(_, seat)| active(seat));
            others.map(|(_, seat)| seat.ran_by(now_ns))
        };
        let (Some(least), Some(most)) = (others().min(), others().max()) else {
            return;
        };
        let range = (
            least.saturating_sub(SLICE_NS),
            most.saturating_add(SLICE_NS),
        );
        if let Some(seat) = self.seat_mut(id) {
            seat.ran_ns = seat.ran_ns.clamp(range.0, range.1);
        }
    }

    fn put_in_line(&mut self, id: SeatId) {
        self.place(id, Place::InLine);
    }

    fn put_on(&mut self, id: SeatId, cpu: usize, now_ns: u64) -> Orders {
        self.place(id, Place::On(cpu));
        if let Some(seat) = self.seat_mut(id) {
            seat.last_cpu = cpu;
            seat.counted_ns = now_ns;
            seat.is_hurried = false;
        }
        self.begin_slice(id, now_ns);
        Orders::run(id, cpu)
    }

    fn begin_slice(&mut self, id: SeatId, now_ns: u64) {
        if let Some(seat) = self.seat_mut(id) {
            seat.slice_began_ns = now_ns;
            seat.looked_at_ns = now_ns;
            seat.is_asked = false;
        }
    }

    fn place(&mut self, id: SeatId, place: Place) {
        let Some(seat) = self.seat_mut(id) else {
            return;
        };
        let was = core::mem::replace(&mut seat.place, place);
        let delta = |place| usize::from(place == Place::InLine);
        self.in_line = self
            .in_line
            .saturating_add(delta(place))
            .saturating_sub(delta(was));
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::new()
    }
}

impl Seat {
    fn may_run_on(&self, cpu: usize) -> bool {
        let bits = u32::try_from(cpu)
            .ok()
            .and_then(|cpu| self.cpus.checked_shr(cpu));
        bits.is_some_and(|bits| bits & 1 == 1)
    }

    /// Returns what it will have run at a time, over its weight.
    fn ran_by(&self, now_ns: u64) -> u64 {
        let more_ns = match self.place {
            Place::On(_) => now_ns.saturating_sub(self.counted_ns),
            Place::Away | Place::InLine => 0,
        };
        let weighed = more_ns.saturating_mul(WEIGHT).checked_div(self.weight);
        self.ran_ns.saturating_add(weighed.unwrap_or(0))
    }

    /// Returns what it counts as having run while it waits.
    fn claim_ns(&self) -> u64 {
        let head_start = if self.is_hurried { SLICE_NS } else { 0 };
        self.ran_ns.saturating_sub(head_start)
    }
}

#[cfg(test)]
mod tests;
