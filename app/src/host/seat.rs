// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's seat: its thread's claim to the physical CPUs.
//!
//! ArceOS puts a woken thread on any CPU of its mask, busy or not, and lets it
//! wait there for whole time slices. So a vCPU's thread is ready for ArceOS only
//! while [`Shares`] has given it a CPU, and on that CPU alone; otherwise it is
//! parked here. The books are changed under one short lock with interrupts
//! closed, and what comes out of that is done after it is given back.

use alloc::{sync::Arc, vec::Vec};
use core::{
    future::poll_fn,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll},
};

use axdevice::{Alarm, AlarmListener};
use axhal::{percpu::this_cpu_id, time::monotonic_time_nanos};
use axtask::future::block_on;
use axvm::{Progress, VCpuId, VCpuTask, VMId};
use kernel_guard::NoPreemptIrqSave;
use kspin::SpinNoIrq;
use spin::Once;

use super::{
    alarm::HostAlarm,
    event::{self, Sleeper},
    parking::Parking,
    shares::{Orders, SeatId, Shares, WEIGHT},
};

/// A vCPU's claim, held by its thread and by the books.
pub(super) struct Seat {
    id: SeatId,
    task: Arc<dyn VCpuTask>,
    /// The CPU that it was given last.
    cpu: AtomicUsize,
    /// That CPU has to call the thread once more.
    is_expected: AtomicBool,
    /// What it is about to rest for has come already.
    is_woken: AtomicBool,
    /// Whether it has been given a CPU that its thread has not gone on on yet.
    parking: SpinNoIrq<Parking<Sleeper>>,
}

/// The books, and whom they are about.
struct Board {
    shares: Shares,
    seats: Vec<Arc<Seat>>,
}

static BOARD: SpinNoIrq<Board> = SpinNoIrq::new(Board {
    shares: Shares::new(),
    seats: Vec::new(),
});

/// The CPUs that have to call somebody once more, one bit each.
static EXPECTING: AtomicU64 = AtomicU64::new(0);

/// Rings when a vCPU has to be looked at that runs while another one waits.
static LOOK_ALARM: Once<HostAlarm> = Once::new();

/// Begins to share the machine's CPUs.
pub(super) fn init() {
    BOARD.lock().shares.set_cpus(axhal::cpu_num());
    LOOK_ALARM.call_once(|| HostAlarm::new(Arc::new(LookAround)));
}

/// Lets a vCPU that waits for its turn have an interrupt's head start.
pub(super) fn hurry(vm: VMId, vcpu: VCpuId) {
    let here = this_cpu_id();
    change(|board, now_ns| match board.seat_of_vcpu(vm, vcpu) {
        Some(id) => board.shares.hurry(id, here, now_ns),
        None => Orders::default(),
    });
}

/// Calls those who are to come to the calling CPU, which was interrupted.
pub(super) fn hear() {
    let here = this_cpu_id();
    if EXPECTING.load(Ordering::Relaxed) & bit_of(here) == 0 {
        return;
    }
    EXPECTING.fetch_and(!bit_of(here), Ordering::SeqCst);
    let expected = || BOARD.lock().expected_on(here);
    while let Some(seat) = expected() {
        seat.call(here);
    }
}

fn bit_of(cpu: usize) -> u64 {
    1_u64.wrapping_shl(cpu as u32)
}

struct LookAround;

impl AlarmListener for LookAround {
    fn alarm_rings(&self) {
        for cpu in 0..axhal::cpu_num() {
            change(|board, now_ns| Orders {
                ask: board.shares.overdue(cpu, now_ns),
                ..Orders::default()
            });
        }
    }
}

/// Changes the books and does what comes out of it.
fn change(step: impl FnOnce(&mut Board, u64) -> Orders) {
    let _guard = NoPreemptIrqSave::new();
    let mut board = BOARD.lock();
    let orders = step(&mut board, monotonic_time_nanos());
    let look_ns = board.shares.next_look_ns();
    let called = |order: Option<(SeatId, usize)>| order.map(|(id, cpu)| (board.seat(id), cpu));
    let (run, moves) = (called(orders.run), called(orders.moves));
    let ask = orders.ask.and_then(|id| board.seat(id));
    drop(board);
    for (seat, cpu) in run.into_iter().chain(moves) {
        if let Some(seat) = seat {
            seat.call(cpu);
        }
    }
    if let Some(seat) = ask {
        seat.task.yield_soon();
    }
    if let (Some(at_ns), Some(alarm)) = (look_ns, LOOK_ALARM.get()) {
        alarm.ring_by(at_ns);
    }
}

impl Board {
    fn seat(&self, id: SeatId) -> Option<Arc<Seat>> {
        self.seats.iter().find(|seat| seat.id == id).cloned()
    }

    fn seat_of_vcpu(&self, vm: VMId, vcpu: VCpuId) -> Option<SeatId> {
        let seat = self.seats.iter().find(|seat| seat.task.id() == (vm, vcpu));
        seat.map(|seat| seat.id)
    }

    /// Returns one who is to be called once more by a CPU, for the first time.
    fn expected_on(&self, cpu: usize) -> Option<Arc<Seat>> {
        let is_expected = |seat: &&Arc<Seat>| {
            seat.cpu.load(Ordering::Relaxed) == cpu
                && seat.is_expected.swap(false, Ordering::SeqCst)
        };
        self.seats.iter().find(is_expected).cloned()
    }
}

impl Seat {
    /// Makes a seat for a vCPU that may run on `cpus`.
    pub(super) fn new(task: Arc<dyn VCpuTask>, cpus: u64) -> Arc<Self> {
        let mut board = BOARD.lock();
        let seat = Arc::new(Self {
            id: board.shares.add(cpus, WEIGHT),
            task,
            cpu: AtomicUsize::new(0),
            is_expected: AtomicBool::new(false),
            is_woken: AtomicBool::new(false),
            parking: SpinNoIrq::default(),
        });
        board.seats.push(seat.clone());
        seat
    }

    /// Returns the vCPU's side.
    pub(super) fn task(&self) -> &Arc<dyn VCpuTask> {
        &self.task
    }

    /// Waits for the first turn, as the new thread.
    pub(super) fn begin(&self) {
        change(|board, now_ns| board.shares.ready(self.id, now_ns));
        self.park();
    }

    /// Gives the CPU and the seat up, as the thread that ends.
    pub(super) fn end(&self) {
        change(|board, now_ns| {
            let orders = board.shares.rest(self.id, now_ns);
            board.shares.remove(self.id);
            board.seats.retain(|seat| seat.id != self.id);
            orders
        });
    }

    /// Gives the CPU up and waits for [`Self::wake`] and a turn, as the thread;
    /// returns at once if it was woken meanwhile.
    pub(super) fn rest(&self) {
        let mut rests = false;
        change(|board, now_ns| {
            rests = !self.is_woken.swap(false, Ordering::Relaxed);
            match rests {
                true => board.shares.rest(self.id, now_ns),
                false => Orders::default(),
            }
        });
        if rests {
            self.park();
        }
    }

    /// Makes the thread go on when its turn comes; anybody may call.
    pub(super) fn wake(&self) {
        change(|board, now_ns| {
            if board.shares.is_away(self.id) {
                return board.shares.ready(self.id, now_ns);
            }
            self.is_woken.store(true, Ordering::Relaxed);
            Orders::default()
        });
    }

    /// Lets another vCPU have the CPU if that is its turn, as the thread.
    pub(super) fn give_up(&self, progress: Progress) {
        let mut keeps = true;
        change(|board, now_ns| {
            let orders = board.shares.give_up(self.id, progress, now_ns);
            keeps = orders.run.is_none();
            orders
        });
        if !keeps {
            self.park();
        }
    }

    /// Waits to be called, and goes on on the CPU that it was given.
    fn park(&self) {
        block_on(poll_fn(|context| match self.has_come(context) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
    }

    /// Tells the thread whether it was called and is on the right CPU.
    ///
    /// ArceOS moves threads by their wakes only. One that was called to another CPU
    /// before it slept sleeps first, and is called again, by that CPU.
    fn has_come(&self, context: &Context<'_>) -> bool {
        if !self.parking.lock().is_called(Sleeper::current(context)) {
            return false;
        }
        let cpu = self.cpu.load(Ordering::Relaxed);
        if cpu == this_cpu_id() {
            return true;
        }
        self.parking.lock().sleep(Sleeper::current(context));
        self.is_expected.store(true, Ordering::SeqCst);
        EXPECTING.fetch_or(bit_of(cpu), Ordering::SeqCst);
        event::tell_cpu(cpu);
        false
    }

    /// Lets the thread go on on a CPU.
    fn call(&self, cpu: usize) {
        self.cpu.store(cpu, Ordering::Relaxed);
        let sleeper = self.parking.lock().call();
        match sleeper {
            Some(thread) => thread.wake_on(cpu),
            None => event::tell_cpu(cpu),
        }
    }
}
