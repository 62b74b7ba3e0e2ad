// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One physical CPU's virtualization.
//!
//! The hypervisor makes one on each CPU and enables it before the first VM. The
//! backend is chosen here, once: every CPU must have the first one's.
//!
//! Spec: AMD64 APM 2, "Enabling SVM".

use axvm::{AxArchPerCpu, Error, Result, vmid::VmidPool};
use spin::Once;

use crate::{backend::Features, extended};

/// The address space identifiers of this machine; the host's own is not counted.
pub(crate) static ASIDS: VmidPool = VmidPool::new();
static FEATURES: Once<Features> = Once::new();

/// A physical CPU that can run guests.
pub struct X86PerCpu {
    is_enabled: bool,
}

/// Returns what the machine's CPUs have.
pub(crate) fn features() -> Result<Features> {
    let found = FEATURES.get().copied();
    found.ok_or(Error::Unsupported("no CPU of this machine can run guests"))
}

impl AxArchPerCpu for X86PerCpu {
    fn new() -> Result<Self> {
        let found = Features::detect()?;
        if *FEATURES.call_once(|| found) != found {
            return Err(Error::Unsupported("it differs from the first CPU"));
        }
        ASIDS.set_count(found.identifiers());
        Ok(Self { is_enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    fn hardware_enable(&mut self) -> Result<()> {
        features()?.enable()?;
        extended::enable();
        self.is_enabled = true;
        Ok(())
    }

    fn hardware_disable(&mut self) -> Result<()> {
        features()?.disable();
        self.is_enabled = false;
        Ok(())
    }
}
