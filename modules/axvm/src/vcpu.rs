// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU and the states of its life.
//!
//! setup: Created → Free; bind: Free → Ready; run: Ready → Running → Ready;
//! unbind: Ready → Free; waiting: Free → Blocked → Free. Anything else is an
//! error, and leaves the vCPU Invalid, from which nothing leads out: a state
//! that nobody understands must not run.
//!
//! The architecture's vCPU is behind a lock that only its own thread takes while
//! the VM runs, and never while that thread can be switched out; the lock exists
//! so that a stopped vCPU can be looked at by others.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU8, Ordering};

use axdevice::RawLock;
use axvm_types::{HostPhysAddr, VCpuId};

use crate::{
    ArchVm, AxArchVCpu, AxVCpuExitReason, AxVCpuHal, CpuPower, Error, PCpuSet, Result, VCpuControl,
};

/// The states of a vCPU's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum VCpuState {
    /// A step was taken that its state did not allow.
    Invalid = 0,
    /// Made, not set up.
    Created = 1,
    /// Set up, its registers in memory.
    Free = 2,
    /// Its registers in a physical CPU.
    Ready = 3,
    /// In its guest.
    Running = 4,
    /// Its thread waits.
    Blocked = 5,
}

impl VCpuState {
    /// Every state, in the order of its number.
    pub const ALL: [Self; 6] = [
        Self::Invalid,
        Self::Created,
        Self::Free,
        Self::Ready,
        Self::Running,
        Self::Blocked,
    ];

    fn from_number(number: u8) -> Self {
        Self::ALL
            .into_iter()
            .find(|state| *state as u8 == number)
            .unwrap_or(Self::Invalid)
    }
}

/// A shared vCPU.
pub type AxVCpuRef<A> = Arc<AxVCpu<A>>;

/// One vCPU of a VM.
pub struct AxVCpu<A: ArchVm> {
    id: VCpuId,
    pcpus: PCpuSet,
    state: AtomicU8,
    arch: RawLock<A::VCpu>,
    control: Arc<VCpuControl<A::Hal>>,
}

impl<A: ArchVm> AxVCpu<A> {
    /// Makes a vCPU.
    pub fn new(arch: A::VCpu, pcpus: PCpuSet, control: Arc<VCpuControl<A::Hal>>) -> Self {
        Self {
            id: control.id(),
            pcpus,
            state: AtomicU8::new(VCpuState::Created as u8),
            arch: RawLock::new(arch),
            control,
        }
    }

    /// Returns its number in its VM.
    pub fn id(&self) -> VCpuId {
        self.id
    }

    /// Returns the physical CPUs it may run on.
    pub fn pcpus(&self) -> PCpuSet {
        self.pcpus
    }

    /// Returns the handle by which it is reached from outside.
    pub fn control(&self) -> &Arc<VCpuControl<A::Hal>> {
        &self.control
    }

    /// Returns whether it is on, as its guest sees it.
    pub fn power(&self) -> CpuPower {
        self.control.power()
    }

    /// Returns its state.
    pub fn state(&self) -> VCpuState {
        VCpuState::from_number(self.state.load(Ordering::Acquire))
    }

    /// Takes a step from one state to another around `step`.
    ///
    /// The caller is held on its CPU, as whoever takes the lock must be.
    /// In any other state than `from` it does not take the step; if the step
    /// fails, or was not allowed, the vCPU is Invalid.
    pub fn with_state_transition<T>(
        &self,
        from: VCpuState,
        to: VCpuState,
        step: impl FnOnce(&mut A::VCpu) -> Result<T>,
    ) -> Result<T> {
        let mut arch = self.arch.lock();
        self.move_state(from, to)?;
        step(&mut arch).inspect_err(|_| self.set_state(VCpuState::Invalid))
    }

    /// Sets the stage-2 root and all registers to their state at power-on.
    pub fn setup(&self, root: HostPhysAddr) -> Result<()> {
        let setup = |arch: &mut A::VCpu| {
            arch.set_ept_root(root)?;
            arch.setup(Default::default())
        };
        self.control.hal().without_preemption(|| {
            self.with_state_transition(VCpuState::Created, VCpuState::Free, setup)
        })
    }

    /// Loads its registers into this physical CPU.
    pub fn bind(&self) -> Result<()> {
        self.with_state_transition(VCpuState::Free, VCpuState::Ready, A::VCpu::bind)
    }

    /// Puts its registers away from this physical CPU.
    pub fn unbind(&self) -> Result<()> {
        self.with_state_transition(VCpuState::Ready, VCpuState::Free, A::VCpu::unbind)
    }

    /// Runs its guest until something leaves the architecture.
    pub fn run(&self) -> Result<AxVCpuExitReason> {
        self.run_with(|_, exit| exit)
    }

    /// Runs its guest until something leaves the architecture, and lets `finish`
    /// have that before the lock of its registers is given back.
    #[inline]
    pub(crate) fn run_with<T>(
        &self,
        finish: impl FnOnce(&mut A::VCpu, AxVCpuExitReason) -> T,
    ) -> Result<T> {
        let run = |arch: &mut A::VCpu| {
            let exit = arch.run()?;
            if !matches!(exit, AxVCpuExitReason::Nothing) {
                self.control.stats().trace(exit.trace(arch.guest_pc()));
            }
            self.move_state(VCpuState::Running, VCpuState::Ready)?;
            Ok(finish(arch, exit))
        };
        self.with_state_transition(VCpuState::Ready, VCpuState::Running, run)
    }

    /// Puts its registers away, since its thread is going to wait.
    ///
    /// One step as far as the switch hooks can see: they would bind a Free vCPU.
    pub(crate) fn block(&self) -> Result<()> {
        self.unbind()?;
        self.move_state(VCpuState::Free, VCpuState::Blocked)
    }

    /// Loads its registers again: its thread has waited.
    pub(crate) fn unblock(&self) -> Result<()> {
        self.move_state(VCpuState::Blocked, VCpuState::Free)?;
        self.bind()
    }

    /// Gives access to the architecture's vCPU while it does not run.
    ///
    /// Whoever asks is held on its CPU meanwhile: the switch hooks of a thread
    /// that took its place there would spin for this lock.
    pub fn with_arch<T>(&self, f: impl FnOnce(&mut A::VCpu) -> T) -> T {
        self.control
            .hal()
            .without_preemption(|| f(&mut self.arch.lock()))
    }

    fn move_state(&self, from: VCpuState, to: VCpuState) -> Result<()> {
        let moved = match from {
            // Nothing leads out of it, not even for who names it.
            VCpuState::Invalid => Err(self.state.load(Ordering::Acquire)),
            _ => self.state.compare_exchange(
                from as u8,
                to as u8,
                Ordering::AcqRel,
                Ordering::Acquire,
            ),
        };
        moved.map(drop).map_err(|found| {
            self.set_state(VCpuState::Invalid);
            Error::WrongVCpuState {
                from,
                to,
                state: VCpuState::from_number(found),
            }
        })
    }

    fn set_state(&self, state: VCpuState) {
        self.state.store(state as u8, Ordering::Release);
    }
}
