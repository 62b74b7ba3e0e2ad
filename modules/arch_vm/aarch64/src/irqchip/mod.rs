// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guest's interrupt controller.
//!
//! [`Gic`] is the controller of one VM behind its lock, which devices, vCPUs and
//! the hypervisor share. Preemption is off while the lock is held, because vCPUs
//! take it with interrupts closed. After each change the vCPUs it concerns are
//! told by [`Request::Event`]; the one that made it looks by itself.

mod bank;
mod cpu_interface;
mod distributor;
mod its;
mod lists;
mod lpi;
mod redistributor;
mod state;
#[cfg(test)]
mod tests;

use alloc::{sync::Arc, vec::Vec};
use core::ops::Range;

use axdevice::{GuestMemory, IrqSink};
use axvm::{AccessWidth, AxVCpuHal, GuestPhysAddr, Request, VCpuControl, VCpuId};
use spin::Mutex;
use tock_registers::LocalRegisterCopy;

pub(crate) use distributor::Write;
use its::{Its, Surroundings};
pub(crate) use lists::{Again, Filled, again, fill, fill_one, fold, is_of};
pub use state::Version;
pub(crate) use state::{State, VCPUS_MAX};

use crate::regs::SGI;

/// The virtual timer's interrupt.
pub(crate) const VIRTUAL_TIMER: u32 = 27;
/// The physical timer's interrupt.
pub(crate) const PHYSICAL_TIMER: u32 = 30;

/// The most vCPUs that GICv2 can name.
pub(crate) const VCPUS_MAX_V2: usize = 8;

/// Clusters of vCPUs that there can be.
const CLUSTERS: u64 = VCPUS_MAX as u64 >> 4;

/// Returns the affinity of a vCPU, as MPIDR_EL1 has it: clusters of sixteen.
pub(crate) const fn affinity_of_vcpu(vcpu: usize) -> u64 {
    let vcpu = vcpu as u64;
    vcpu & 15 | vcpu >> 4 << 8
}

/// Returns the vCPU of an affinity.
pub(crate) fn vcpu_of_affinity(affinity: u64) -> Option<usize> {
    let cluster = affinity >> 8;
    let cpu = affinity & 0xff;
    (cpu < 16 && cluster < 16).then_some((cluster << 4 | cpu) as usize)
}

/// Which registers an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Distributor,
    Redistributor(usize),
    CpuInterface,
    Its,
}

/// One machine's interrupt controller.
pub(crate) struct Gic<H: AxVCpuHal> {
    hal: H,
    version: Version,
    state: Mutex<State>,
    memory: Arc<dyn GuestMemory>,
    controls: Vec<Arc<VCpuControl<H>>>,
}

impl<H: AxVCpuHal> Gic<H> {
    /// Makes a controller after reset for these vCPUs.
    pub(crate) fn new(
        hal: &H,
        version: Version,
        memory: Arc<dyn GuestMemory>,
        controls: &[Arc<VCpuControl<H>>],
    ) -> Self {
        Self {
            hal: hal.clone(),
            version,
            state: Mutex::new(State::new(version, controls.len())),
            memory,
            controls: controls.to_vec(),
        }
    }

    pub(crate) fn memory(&self) -> &dyn GuestMemory {
        &*self.memory
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    /// Changes the state as somebody who is no vCPU in its `run`.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        self.hal.without_preemption(|| {
            let attention = self.with_state(change);
            self.tell(attention);
        });
    }

    /// Changes the state as vCPU `own`, with preemption off, and tells whether
    /// that vCPU has to look at its interrupts.
    pub(crate) fn change_as(&self, own: VCpuId, change: impl FnOnce(&mut State)) -> bool {
        let attention = self.with_state(change);
        let bit = 1_u64.wrapping_shl(own as u32);
        if attention & !bit != 0 {
            self.tell(attention & !bit);
        }
        attention & bit != 0
    }

    /// Looks at the state with preemption off.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock())
    }

    fn with_state(&self, change: impl FnOnce(&mut State)) -> u64 {
        let mut state = self.state.lock();
        change(&mut state);
        if state.has_stale_lpis {
            state.switch_lpis(self.memory());
        }
        core::mem::take(&mut state.attention)
    }

    fn tell(&self, attention: u64) {
        for control in &self.controls {
            if attention.wrapping_shr(control.id() as u32) & 1 == 1 {
                control.request(Request::Event);
            }
        }
    }

    /// Reads registers as vCPU `own`, and tells whether that has to look at its
    /// interrupts.
    pub(crate) fn read(&self, own: VCpuId, at: (Frame, u64), width: AccessWidth) -> (u64, bool) {
        let mut value = 0;
        let is_stale = self.change_as(own, |state| {
            value = match at {
                (Frame::Its, offset) => {
                    let read = |its: &mut Its, around: &mut Surroundings<'_>| {
                        its.read(around, offset, width)
                    };
                    state.with_its(self.memory(), read)
                }
                at => state.read(own, at, width),
            };
        });
        (value, is_stale)
    }

    /// Writes registers as vCPU `own`, and tells whether that has to look at its
    /// interrupts.
    pub(crate) fn write(&self, own: VCpuId, at: (Frame, u64), data: (AccessWidth, u64)) -> bool {
        self.change_as(own, |state| match at {
            (Frame::Its, offset) => {
                let write = |its: &mut Its, around: &mut Surroundings<'_>| {
                    its.write(around, offset, data);
                };
                state.with_its(self.memory(), write);
            }
            at => state.write(own, at, data),
        })
    }

    /// Returns the registers at an address, and the offset there.
    #[inline]
    pub(crate) fn frame_at(&self, address: GuestPhysAddr) -> Option<(Frame, u64)> {
        if !WINDOW.contains(&(address.as_usize() as u64)) {
            return None;
        }
        frame_at(self.version, self.controls.len(), address)
    }
}

const DISTRIBUTOR: u64 = 0x0800_0000;
/// All frames are in here, and nothing else is.
const WINDOW: Range<u64> = DISTRIBUTOR..0x0900_0000;
const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
const CPU_INTERFACE: u64 = 0x0801_0000;
const CPU_INTERFACE_BYTES: u64 = 0x2000;
/// The interrupt translation service of a GICv3.
pub(crate) const ITS: (u64, u64) = (0x0808_0000, its::BYTES);
const REDISTRIBUTORS: u64 = 0x080a_0000;

/// The frames of the interrupt controller, as the device tree states them.
pub(crate) fn regions(version: Version) -> [(u64, u64); 2] {
    match version {
        Version::V2 => [(DISTRIBUTOR, DISTRIBUTOR_BYTES), (CPU_INTERFACE, 0x1_0000)],
        Version::V3 => [
            (DISTRIBUTOR, DISTRIBUTOR_BYTES),
            (REDISTRIBUTORS, 0xf6_0000),
        ],
    }
}

#[inline(never)]
fn frame_at(version: Version, vcpus: usize, address: GuestPhysAddr) -> Option<(Frame, u64)> {
    let address = address.as_usize() as u64;
    let offset = address.checked_sub(DISTRIBUTOR)?;
    if offset < DISTRIBUTOR_BYTES {
        return Some((Frame::Distributor, offset));
    }
    match version {
        Version::V2 => {
            let offset = address.checked_sub(CPU_INTERFACE)?;
            (offset < CPU_INTERFACE_BYTES).then_some((Frame::CpuInterface, offset))
        }
        Version::V3 => {
            let (start, bytes) = ITS;
            if let Some(offset) = address.checked_sub(start).filter(|offset| *offset < bytes) {
                return Some((Frame::Its, offset));
            }
            let offset = address.checked_sub(REDISTRIBUTORS)?;
            let vcpu = (offset / redistributor::BYTES) as usize;
            let offset = offset % redistributor::BYTES;
            (vcpu < vcpus).then_some((Frame::Redistributor(vcpu), offset))
        }
    }
}

impl State {
    /// Reads registers as vCPU `own`.
    ///
    /// Those of the translation service need the guest's memory.
    pub(crate) fn read(&mut self, own: VCpuId, at: (Frame, u64), width: AccessWidth) -> u64 {
        match at {
            (Frame::Its, _) => 0,
            (Frame::Distributor, offset) => self.read_distributor(own, offset, width),
            (Frame::Redistributor(vcpu), offset) => self.read_redistributor(vcpu, offset, width),
            (Frame::CpuInterface, offset) => self.read_cpu_interface(own, offset),
        }
    }

    /// Writes registers as vCPU `own`.
    pub(crate) fn write(&mut self, own: VCpuId, at: (Frame, u64), data: (AccessWidth, u64)) {
        let (width, value) = data;
        let access = Write {
            offset: at.1,
            width,
            value: value as u32,
        };
        match at.0 {
            Frame::Its => {}
            Frame::Distributor => self.write_distributor(own, access, (value >> 32) as u32),
            Frame::Redistributor(vcpu) => {
                self.write_redistributor(vcpu, access, (value >> 32) as u32)
            }
            Frame::CpuInterface => self.write_cpu_interface(own, at.1, value as u32),
        }
    }

    /// Lets the translation service work on this state and the guest's memory.
    fn with_its<R>(
        &mut self,
        memory: &dyn GuestMemory,
        work: impl FnOnce(&mut Its, &mut Surroundings<'_>) -> R,
    ) -> R {
        let mut its = core::mem::take(&mut self.its);
        let mut around = Surroundings {
            state: self,
            memory,
        };
        let result = work(&mut its, &mut around);
        self.its = its;
        result
    }

    /// Sends an SGI of vCPU `own` to those of a set.
    pub(crate) fn send_sgis(&mut self, own: VCpuId, sgi: Sgi) {
        for to in 0..self.privates.len() {
            if sgi.targets.wrapping_shr(to as u32) & 1 == 1 {
                self.send_sgi(own, to, sgi.intid);
            }
        }
    }
}

/// A software-generated interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sgi {
    pub(crate) intid: u32,
    /// The vCPUs that it goes to, a bit each; there may be less.
    pub(crate) targets: u64,
}

impl Sgi {
    /// Reads what vCPU `own` wrote to ICC_SGI1R_EL1.
    #[inline]
    pub(crate) fn new(own: VCpuId, value: u64) -> Self {
        let sgi = LocalRegisterCopy::<u64, SGI::Register>::new(value);
        let cluster = sgi.read(SGI::AFF3) << 24 | sgi.read(SGI::AFF2) << 8 | sgi.read(SGI::AFF1);
        let targets = if sgi.is_set(SGI::IRM) {
            !1_u64.wrapping_shl(own as u32)
        } else if cluster < CLUSTERS && sgi.read(SGI::RANGE) == 0 {
            sgi.read(SGI::TARGET_LIST) << (cluster << 4)
        } else {
            0
        };
        Self {
            intid: sgi.read(SGI::INTID) as u32,
            targets,
        }
    }

    /// Tells whether it goes to one vCPU and to no other.
    #[inline]
    pub(crate) fn is_only_for(self, vcpu: VCpuId) -> bool {
        self.targets == 1_u64.wrapping_shl(vcpu as u32)
    }

    /// Splits the sender off, and tells whether it is meant.
    pub(crate) fn without(self, own: VCpuId) -> (Self, bool) {
        let bit = 1_u64.wrapping_shl(own as u32);
        let others = Self {
            targets: self.targets & !bit,
            ..self
        };
        (others, self.targets & bit != 0)
    }
}

impl<H: AxVCpuHal> IrqSink for Gic<H> {
    fn set_level(&self, irq: u32, level: bool) {
        self.change(|state| state.set_line(irq, level));
    }
}
