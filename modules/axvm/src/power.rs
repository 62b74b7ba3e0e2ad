// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Whether a vCPU is on, as its guest sees it.
//!
//! Shared by every firmware interface that starts CPUs (SBI HSM, PSCI CPU_ON,
//! INIT/SIPI). Two starts of one CPU race on a compare-and-exchange: one wins,
//! the other learns that it is pending. The target's own thread carries the
//! start out.

use core::sync::atomic::{AtomicU8, Ordering};

use axdevice::Lock;
use axvm_types::GuestPhysAddr;

use crate::CpuUpStatus;

/// Whether a vCPU is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CpuPower {
    /// Off: its thread waits for a start.
    Off = 0,
    /// A start was accepted and is not carried out yet.
    Starting = 1,
    /// Running, as far as its guest can tell.
    On = 2,
}

/// Where a vCPU starts and what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartAt {
    pub(crate) entry: GuestPhysAddr,
    pub(crate) arg: u64,
}

/// The power switch of one vCPU.
pub(crate) struct PowerSwitch {
    power: AtomicU8,
    start: Lock<Option<StartAt>>,
}

impl PowerSwitch {
    pub(crate) fn new(power: CpuPower) -> Self {
        Self {
            power: AtomicU8::new(power as u8),
            start: Lock::new(None),
        }
    }

    pub(crate) fn get(&self) -> CpuPower {
        match self.power.load(Ordering::Acquire) {
            0 => CpuPower::Off,
            1 => CpuPower::Starting,
            _ => CpuPower::On,
        }
    }

    /// Asks for a start; the caller wakes the target's thread if it was accepted.
    pub(crate) fn start(&self, at: StartAt) -> CpuUpStatus {
        let mut start = self.start.lock();
        match self.get() {
            CpuPower::On => CpuUpStatus::AlreadyOn,
            CpuPower::Starting => CpuUpStatus::Pending,
            CpuPower::Off => {
                *start = Some(at);
                self.power
                    .store(CpuPower::Starting as u8, Ordering::Release);
                CpuUpStatus::Started
            }
        }
    }

    /// Takes an accepted start, as the target's thread, which is on from now.
    pub(crate) fn take_start(&self) -> Option<StartAt> {
        let at = self.start.lock().take()?;
        self.power.store(CpuPower::On as u8, Ordering::Release);
        Some(at)
    }

    /// Switches the calling vCPU off.
    pub(crate) fn off(&self) {
        self.power.store(CpuPower::Off as u8, Ordering::Release);
    }
}
