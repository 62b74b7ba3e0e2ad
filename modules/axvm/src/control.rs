// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! How a vCPU is reached from outside.
//!
//! Each vCPU has one word of requests. Whoever wants something sets a bit and
//! calls [`VCpuControl::request`], which makes the vCPU look soon: by an
//! interrupt if it is in its guest, by a wake if its thread waits. The vCPU's
//! side, in the architecture's `run`: [`VCpuControl::enter_guest`] publishes
//! "in guest" and *then* looks at the word, so that a request is either seen
//! before the entry or its sender sees "in guest" and sends the interrupt.
//! Interrupts must be closed from there until the entry, so that this
//! interrupt is taken in the guest. No lock is involved.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

use axdevice::AlarmListener;
use axvm_types::{VCpuId, VMId};

use crate::{
    AxVCpuHal, CpuPower, ExitKind, HostEvent, PCpuId, Progress, VCpuStats, power::PowerSwitch,
};

/// What can be asked of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Request {
    /// Something became pending for the guest: an interrupt, a fence.
    Event = 1 << 0,
    /// Come out and look at the state of the VM.
    Look = 1 << 1,
    /// Come out and let the machine's timed devices do what is due.
    Tick = 1 << 2,
    /// Come out and let other vCPUs run.
    Yield = 1 << 3,
}

/// No loop that waits for another CPU is larger.
const SPIN_LOOP_BYTES: u64 = 256;

/// The vCPU is not in its guest.
const OUTSIDE: usize = usize::MAX;

/// The handle by which others reach one vCPU.
pub struct VCpuControl<H: AxVCpuHal> {
    hal: H,
    vm: VMId,
    id: VCpuId,
    requests: AtomicU32,
    /// The physical CPU on which the vCPU is in its guest, or [`OUTSIDE`].
    in_guest_on: AtomicUsize,
    event: H::Event,
    /// Its thread waits, or is about to: only then is a wake worth its price.
    waits: AtomicBool,
    /// Its thread lets others run.
    yields: AtomicBool,
    /// Where the guest was, and what calls it had made, at the last look.
    seen_pc: AtomicU64,
    seen_calls: AtomicU64,
    stats: VCpuStats,
    pub(crate) switch: PowerSwitch,
}

impl<H: AxVCpuHal> VCpuControl<H> {
    /// Makes the handle of one vCPU, without requests; only the boot vCPU is on.
    pub fn new(hal: &H, vm: VMId, id: VCpuId) -> Self {
        let power = match id {
            0 => CpuPower::On,
            _ => CpuPower::Off,
        };
        Self {
            hal: hal.clone(),
            vm,
            id,
            requests: AtomicU32::new(0),
            in_guest_on: AtomicUsize::new(OUTSIDE),
            event: hal.new_event(),
            waits: AtomicBool::new(false),
            yields: AtomicBool::new(false),
            seen_pc: AtomicU64::new(0),
            seen_calls: AtomicU64::new(0),
            stats: VCpuStats::new(),
            switch: PowerSwitch::new(power),
        }
    }

    pub(crate) fn hal(&self) -> &H {
        &self.hal
    }

    /// Returns the VM that the vCPU belongs to.
    pub fn vm_id(&self) -> VMId {
        self.vm
    }

    /// Returns the vCPU's number in its VM.
    pub fn id(&self) -> VCpuId {
        self.id
    }

    /// Returns whether the vCPU is on, as its guest sees it.
    pub fn power(&self) -> CpuPower {
        self.switch.get()
    }

    /// Returns the vCPU's counters.
    pub fn stats(&self) -> &VCpuStats {
        &self.stats
    }

    /// Asks for something and makes the vCPU look soon.
    #[inline]
    pub fn request(&self, request: Request) {
        self.requests.fetch_or(request as u32, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let place = self.in_guest_on.load(Ordering::Relaxed);
        let waits = self.waits.load(Ordering::Relaxed) || self.yields.load(Ordering::Relaxed);
        if place != OUTSIDE || waits {
            self.rouse(place);
        }
    }

    /// Makes the vCPU look that is in its guest, waits, or stands back for others.
    // Apart, as requests of a vCPU to itself need none of it.
    #[inline(never)]
    fn rouse(&self, place: usize) {
        match place {
            OUTSIDE if self.waits.load(Ordering::Relaxed) => self.event.wake(),
            OUTSIDE if self.yields.load(Ordering::Relaxed) => {
                self.hal.hurry_vcpu(self.vm, self.id);
            }
            OUTSIDE => {}
            cpu => self.hal.kick_pcpu(PCpuId(cpu)),
        }
    }

    /// Takes a request back out of the word and tells whether it was there.
    ///
    /// What the request stands for must be looked at after this, not before.
    pub fn take(&self, request: Request) -> bool {
        let bit = request as u32;
        if self.requests.load(Ordering::Relaxed) & bit == 0 {
            return false;
        }
        self.requests.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }

    /// Tells whether a request waits that the thread has to handle, not the guest.
    pub(crate) fn is_called(&self) -> bool {
        let calls = Request::Look as u32 | Request::Tick as u32 | Request::Yield as u32;
        self.requests.load(Ordering::Relaxed) & calls != 0
    }

    /// Tells whether this request waits.
    pub fn has(&self, request: Request) -> bool {
        self.requests.load(Ordering::SeqCst) & request as u32 != 0
    }

    /// Tells whether any request waits.
    pub fn has_request(&self) -> bool {
        self.requests.load(Ordering::SeqCst) != 0
    }

    /// Publishes that the vCPU is in its guest on `cpu`, and tells whether it
    /// may really enter: not while a request waits.
    ///
    /// Interrupts are closed; [`Self::leave_guest`] follows in any case.
    pub fn enter_guest(&self, cpu: PCpuId) -> bool {
        self.in_guest_on.store(cpu.0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.requests.load(Ordering::Relaxed) == 0
    }

    /// Publishes that the vCPU is out of its guest.
    pub fn leave_guest(&self) {
        self.in_guest_on.store(OUTSIDE, Ordering::Release);
    }

    /// Returns the physical CPU on which the vCPU is in its guest now.
    pub fn resides_on(&self) -> Option<PCpuId> {
        match self.in_guest_on.load(Ordering::Acquire) {
            OUTSIDE => None,
            cpu => Some(PCpuId(cpu)),
        }
    }

    /// Lets other vCPUs run, as the vCPU's thread.
    pub(crate) fn yield_to_others(&self, pc: u64) {
        let progress = self.progress(pc);
        self.yields.store(true, Ordering::SeqCst);
        self.hal.yield_vcpu(progress);
        self.yields.store(false, Ordering::SeqCst);
    }

    /// Compares where the guest is with where it was when this was asked last.
    fn progress(&self, pc: u64) -> Progress {
        let calls = ExitKind::ALL.into_iter();
        let calls = calls.filter(|kind| *kind != ExitKind::Interrupt);
        let calls = calls.fold(0, |sum: u64, kind| sum.wrapping_add(self.stats.exits(kind)));
        let was_pc = self.seen_pc.swap(pc, Ordering::Relaxed);
        let had_calls = self.seen_calls.swap(calls, Ordering::Relaxed);
        match had_calls == calls && was_pc.abs_diff(pc) < SPIN_LOOP_BYTES {
            true => Progress::Spins,
            false => Progress::Moves,
        }
    }

    /// Waits, as the vCPU's thread, for `ready` or the deadline; each request
    /// makes it look again, and ends the wait only if `ready` says so.
    pub fn wait(&self, deadline_ns: Option<u64>, ready: &dyn Fn() -> bool) {
        // Before the first look of `ready`: a request is either seen by it, or its
        // sender sees that there is somebody to wake.
        self.waits.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.event.wait_until(deadline_ns, ready);
        self.waits.store(false, Ordering::SeqCst);
    }
}

/// The alarm of the machine's timed devices rings at its boot vCPU.
impl<H: AxVCpuHal> AlarmListener for VCpuControl<H> {
    fn alarm_rings(&self) {
        self.request(Request::Tick);
    }
}
