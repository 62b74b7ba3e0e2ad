// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The guest's debug registers.
//!
//! DR6 and DR7 are the backend's. The addresses of breakpoints are shared with
//! the host, which has none: they are loaded at a guest's first access to any
//! debug register, and put away when it leaves its CPU. One that comes with a
//! breakpoint enabled has them from the start.
//!
//! Spec: AMD64 APM 2, "Debug Registers"; VMCB, DR6 and DR7.

use crate::regs;

/// In DR6: which breakpoints were met.
pub(crate) const DR6_BREAKPOINTS: u64 = 0xf;
/// In DR6: an access to a debug register while DR7 forbids it.
pub(crate) const DR6_DETECT: u64 = 1 << 13;
/// In DR6: a single step.
pub(crate) const DR6_STEP: u64 = 1 << 14;

/// One vCPU's addresses of breakpoints.
#[derive(Clone, Debug, Default)]
pub(crate) struct Breakpoints {
    addresses: [u64; 4],
    is_loaded: bool,
}

impl Breakpoints {
    /// Brings the addresses into this CPU.
    pub(crate) fn load(&mut self) {
        regs::load_debug(&self.addresses);
        self.is_loaded = true;
    }

    /// Puts the addresses away, and tells whether they were loaded.
    pub(crate) fn store(&mut self) -> bool {
        if self.is_loaded {
            self.addresses = regs::store_debug();
        }
        core::mem::take(&mut self.is_loaded)
    }
}
