// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The host: axvm's two traits over the process's memory and threads.
//!
//! A value with books of its own, so that tests run side by side.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "test support: a broken host must stop the test"
)]

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use axdevice::{AlarmListener, Clock, SharedAlarm};
use axvm::{
    AxVCpuHal, AxVMHal, HostPhysAddr, HostVirtAddr, PCpuId, PCpuSet, VCpuId, VCpuTask, VMId,
};

use super::{
    Books, Resource, StdAlarm, StdEvent, StdThread,
    books::Failing,
    memory::{PHYS_OFFSET, Pool},
    thread,
};

const FRAME_BYTES: usize = 4096;
const RAM_UNIT_BYTES: usize = 2 << 20;

/// What a host is like.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many CPUs it has.
    pub cpus: usize,
    /// How many frames it has.
    pub frames: usize,
    /// How many blocks of 2 MiB it has for guests.
    pub ram_blocks: usize,
    /// A thread is switched at one in so many chances; 0: never.
    pub switch_one_in: u64,
    /// What the switches are drawn from.
    pub seed: u64,
    /// Its clock stands still there.
    pub stopped_at_ns: Option<u64>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            cpus: 4,
            frames: 1024,
            ram_blocks: 64,
            switch_one_in: 0,
            seed: 1,
            stopped_at_ns: None,
        }
    }
}

/// A host for tests.
#[derive(Clone)]
pub struct StdHost(Arc<Shared>);

struct Shared {
    setup: Setup,
    books: Mutex<Books>,
    frames: Mutex<Pool>,
    ram: Mutex<Pool>,
    kicked: Vec<AtomicBool>,
    spawned: AtomicU64,
}

impl Default for StdHost {
    fn default() -> Self {
        Self::new(Setup::default())
    }
}

impl StdHost {
    /// Makes a host.
    pub fn new(setup: Setup) -> Self {
        Self(Arc::new(Shared {
            setup,
            books: Mutex::default(),
            frames: Mutex::new(Pool::new(FRAME_BYTES, setup.frames)),
            ram: Mutex::new(Pool::new(RAM_UNIT_BYTES, setup.ram_blocks)),
            kicked: (0..setup.cpus).map(|_| AtomicBool::new(false)).collect(),
            spawned: AtomicU64::new(0),
        }))
    }

    /// Returns what it is like.
    pub fn setup(&self) -> Setup {
        self.0.setup
    }

    pub(super) fn cpus(&self) -> impl Iterator<Item = PCpuId> + use<> {
        (0..self.0.setup.cpus).map(PCpuId)
    }

    /// Looks at the books.
    pub fn books<T>(&self, look: impl FnOnce(&mut Books) -> T) -> T {
        look(&mut self.0.books.lock().expect("no bookkeeper panics"))
    }

    /// Lets the request after `after` others fail; of one resource, or of any.
    pub fn fail_after(&self, only: Option<Resource>, after: u64) {
        self.books(|books| books.failing = Some(Failing { only, after }));
    }

    /// Forgets a failure that has not come, and tells whether it had come.
    pub fn has_failed(&self) -> bool {
        self.books(|books| books.failing.take().is_none())
    }

    /// Panics if something was done wrong, or is still out.
    #[track_caller]
    pub fn check(&self) {
        let books = self.books(|books| books.clone());
        assert!(books.wrongs.is_empty(), "done wrong: {:?}", books.wrongs);
        assert!(books.is_balanced(), "still out: {books:?}");
    }

    /// Takes the kick of a CPU, as its guest would by leaving.
    pub fn take_kick(&self, cpu: PCpuId) -> bool {
        self.0
            .kicked
            .get(cpu.0)
            .is_some_and(|kicked| kicked.swap(false, Ordering::SeqCst))
    }

    fn take(&self, resource: Resource, count: usize, align: usize) -> Option<HostPhysAddr> {
        if self.books(|books| books.refuses(resource)) {
            return None;
        }
        let pool = self.pool(resource);
        let (start, wrong) = pool.lock().expect("no pool panics").take(count, align)?;
        self.books(|books| {
            books.wrongs.extend(wrong);
            *booked(books, resource) += count;
        });
        Some(HostPhysAddr::from_usize(start))
    }

    fn give_back(&self, resource: Resource, start: HostPhysAddr, count: usize) {
        let pool = self.pool(resource);
        let given = pool
            .lock()
            .expect("no pool panics")
            .give_back(start.as_usize(), count);
        self.books(|books| match given {
            Ok(()) => *booked(books, resource) -= count,
            Err(wrong) => books.wrongs.push(wrong),
        });
    }

    fn pool(&self, resource: Resource) -> &Mutex<Pool> {
        match resource {
            Resource::Frames => &self.0.frames,
            Resource::Ram => &self.0.ram,
            Resource::Threads | Resource::Own => panic!("it comes from no pool"),
        }
    }
}

/// Returns the line of the books that counts a resource.
fn booked(books: &mut Books, resource: Resource) -> &mut usize {
    match resource {
        Resource::Frames => &mut books.frames,
        Resource::Ram => &mut books.ram_blocks,
        Resource::Threads => &mut books.threads,
        Resource::Own => panic!("nobody counts it"),
    }
}

impl AxVCpuHal for StdHost {
    type Event = StdEvent;

    fn alloc_frames(&self, count: usize) -> Option<HostPhysAddr> {
        self.take(Resource::Frames, count, count)
    }

    fn can_spare(&self, _size_bytes: usize) -> bool {
        !self.books(|books| books.refuses(Resource::Own))
    }

    fn free_frames(&self, start: HostPhysAddr, count: usize) {
        self.give_back(Resource::Frames, start, count);
    }

    fn phys_to_virt(&self, address: HostPhysAddr) -> HostVirtAddr {
        HostVirtAddr::from_usize(address.as_usize() - PHYS_OFFSET)
    }

    fn new_event(&self) -> StdEvent {
        StdEvent::default()
    }

    fn new_alarm(&self, listener: Arc<dyn AlarmListener>) -> SharedAlarm {
        Arc::new(StdAlarm::new(listener))
    }

    fn current_time_nanos(&self) -> u64 {
        self.0.setup.stopped_at_ns.unwrap_or_else(now_ns)
    }

    fn current_pcpu_id(&self) -> PCpuId {
        thread::current_cpu()
    }

    fn kick_pcpu(&self, cpu: PCpuId) {
        self.books(|books| books.kicks += 1);
        match self.0.kicked.get(cpu.0) {
            Some(kicked) => kicked.store(true, Ordering::SeqCst),
            None => self.books(|books| books.wrongs.push(format!("kick of {cpu:?}"))),
        }
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        thread::without_preemption(f)
    }
}

impl AxVMHal for StdHost {
    type Thread = StdThread;

    fn alloc_ram(&self, size_bytes: usize) -> Option<HostPhysAddr> {
        self.take(Resource::Ram, size_bytes / RAM_UNIT_BYTES, 1)
    }

    fn free_ram(&self, start: HostPhysAddr, size_bytes: usize) {
        self.give_back(Resource::Ram, start, size_bytes / RAM_UNIT_BYTES);
    }

    fn zero_ram(&self, start: HostPhysAddr, size_bytes: usize) {
        let units = size_bytes / RAM_UNIT_BYTES;
        let pool = self.pool(Resource::Ram);
        let zeroed = pool
            .lock()
            .expect("no pool panics")
            .zero_again(start.as_usize(), units);
        self.books(|books| books.wrongs.extend(zeroed.err()));
    }

    fn wall_time_nanos(&self) -> u64 {
        wall_ns()
    }

    fn spawn_vcpu(
        &self,
        name: String,
        cpus: PCpuSet,
        task: Arc<dyn VCpuTask>,
    ) -> Option<StdThread> {
        if self.books(|books| books.refuses(Resource::Threads)) {
            return None;
        }
        let number = self.0.spawned.fetch_add(1, Ordering::Relaxed);
        let seed = (self.0.setup.seed ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        thread::spawn(self, name, cpus, task, seed)
    }

    fn current_vcpu(&self) -> Option<(VMId, VCpuId)> {
        thread::current_vcpu()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(StdClock)
    }
}

struct StdClock;

impl Clock for StdClock {
    fn monotonic_ns(&self) -> u64 {
        now_ns()
    }

    fn wall_ns(&self) -> u64 {
        wall_ns()
    }
}

/// Returns nanoseconds since the process first asked.
pub(super) fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_nanos() as u64)
}
