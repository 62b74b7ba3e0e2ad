// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controller: 64 pending bits for each vCPU, no lock.
//!
//! Any thread sets a bit and tells the vCPU; the vCPU takes it by reading
//! `Claim`. The order is the one that `VCpuControl` asks for: first the bit,
//! then the request, so that a vCPU that took the request sees the bit.

use alloc::{sync::Arc, vec::Vec};
use core::sync::atomic::{AtomicU64, Ordering};

use axdevice::IrqSink;
use axvm::{AxVCpuHal, Request, VCpuControl, VCpuId};

/// The interrupt that console input raises, at vCPU 0.
pub const CONSOLE_IRQ: u32 = 1;
/// The interrupt that the kitchen timer raises, at vCPU 0.
pub const KITCHEN_TIMER_IRQ: u32 = 2;
/// The interrupt that a vCPU's own timer raises.
pub const TIMER_IRQ: u32 = 63;

/// The interrupt controller of one VM.
pub(crate) struct IrqChip<H: AxVCpuHal> {
    inputs: Vec<(AtomicU64, Arc<VCpuControl<H>>)>,
}

impl<H: AxVCpuHal> IrqChip<H> {
    pub(crate) fn new(controls: &[Arc<VCpuControl<H>>]) -> Self {
        let input = |control: &Arc<VCpuControl<H>>| (AtomicU64::new(0), control.clone());
        Self {
            inputs: controls.iter().map(input).collect(),
        }
    }

    /// Makes an interrupt pending; a guest may have chosen both numbers.
    pub(crate) fn inject(&self, vcpu: VCpuId, vector: u64) {
        let bit = u32::try_from(vector).ok().and_then(|v| 1u64.checked_shl(v));
        if let (Some((pending, control)), Some(bit)) = (self.inputs.get(vcpu), bit) {
            pending.fetch_or(bit, Ordering::SeqCst);
            control.request(Request::Event);
        }
    }

    /// Makes an interrupt pending as the vCPU itself, which needs no telling.
    pub(crate) fn raise_own(&self, vcpu: VCpuId, vector: u32) {
        if let (Some((pending, _)), Some(bit)) = (self.inputs.get(vcpu), 1u64.checked_shl(vector)) {
            pending.fetch_or(bit, Ordering::SeqCst);
        }
    }

    /// Returns the pending interrupts of a vCPU.
    pub(crate) fn pending(&self, vcpu: VCpuId) -> u64 {
        self.inputs
            .get(vcpu)
            .map_or(0, |(pending, _)| pending.load(Ordering::SeqCst))
    }

    /// Takes the lowest pending interrupt.
    pub(crate) fn claim(&self, vcpu: VCpuId) -> Option<u32> {
        let vector = self.pending(vcpu).trailing_zeros();
        let bit = 1u64.checked_shl(vector)?;
        let (pending, _) = self.inputs.get(vcpu)?;
        pending.fetch_and(!bit, Ordering::SeqCst);
        Some(vector)
    }
}

/// Devices raise interrupts of vCPU 0 by rising edges.
impl<H: AxVCpuHal> IrqSink for IrqChip<H> {
    fn set_level(&self, irq: u32, level: bool) {
        if level {
            self.inject(0, u64::from(irq));
        }
    }
}
