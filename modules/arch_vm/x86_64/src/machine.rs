// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the vCPUs of one VM share.
//!
//! Made by `vm` before any vCPU, and never changed but through the locks and
//! atomics inside.

use alloc::{sync::Arc, vec::Vec};

use axdevice::PowerSink;
use axvm::{AxVMHal, Ram, VCpuControl, vmid::VmTlb};

use crate::{backend::Maps, cpuid::Cpuid, fabric::Fabric, timer::GuestTime};

/// One VM's common parts.
pub(crate) struct Machine<H: AxVMHal> {
    pub(crate) hal: H,
    pub(crate) ram: Arc<Ram<H>>,
    pub(crate) controls: Vec<Arc<VCpuControl<H>>>,
    pub(crate) cpuid: Cpuid,
    pub(crate) tlb: VmTlb,
    pub(crate) time: GuestTime,
    pub(crate) maps: Maps<H>,
    pub(crate) fabric: Arc<Fabric<H>>,
    pub(crate) power: Arc<dyn PowerSink>,
}
