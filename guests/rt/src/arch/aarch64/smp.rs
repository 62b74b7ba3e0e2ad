// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting and stopping CPUs by PSCI.
//!
//! `start` and `is_stopped` are called on the boot CPU, `stop` on the others.
//!
//! Spec: Arm PSCI (DEN 0022), CPU_ON, CPU_OFF, AFFINITY_INFO.

use super::{irq, power};
use crate::cpu;
use crate::firmware::arm::Conduit;
use crate::machine::Failure;
use smccc::psci::{self, AffinityState, LowestAffinityLevel};
use smccc::{Hvc, Smc};

unsafe extern "C" {
    fn secondary_entry();
}

/// Starts the CPU with this index.
pub fn start(index: usize) -> Result<(), Failure> {
    let target = cpu::hardware_id(index).0;
    let entry = secondary_entry as *const () as u64;
    let started = match power::conduit() {
        Conduit::Hvc => psci::cpu_on::<Hvc>(target, entry, index as u64),
        Conduit::Smc => psci::cpu_on::<Smc>(target, entry, index as u64),
    };
    started.map_err(|_| Failure("PSCI CPU_ON"))
}

/// Tells whether firmware says that the CPU with this index is off.
pub fn is_stopped(index: usize) -> bool {
    let target = cpu::hardware_id(index).0;
    let state = match power::conduit() {
        Conduit::Hvc => psci::affinity_info::<Hvc>(target, LowestAffinityLevel::All),
        Conduit::Smc => psci::affinity_info::<Smc>(target, LowestAffinityLevel::All),
    };
    state == Ok(AffinityState::Off)
}

/// Stops the CPU that asks.
pub fn stop() -> ! {
    irq::mask();
    let _ = match power::conduit() {
        Conduit::Hvc => psci::cpu_off::<Hvc>(),
        Conduit::Smc => psci::cpu_off::<Smc>(),
    };
    crate::fail(Failure("PSCI CPU_OFF"))
}
