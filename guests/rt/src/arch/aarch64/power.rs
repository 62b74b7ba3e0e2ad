// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Leaving the machine by PSCI, and how PSCI is called.
//!
//! Called last, by any CPU. PSCI cannot say that a run failed: a failure is
//! powered off like a success, and only the console tells them apart.
//!
//! Spec: Arm PSCI (DEN 0022), SYSTEM_OFF, SYSTEM_RESET.

use super::irq;
use crate::Ending;
use crate::firmware::arm::Conduit;
use smccc::psci::{system_off, system_reset};
use smccc::{Hvc, Smc};
use spin::Once;

static CONDUIT: Once<Conduit> = Once::new();

/// Notes how PSCI is called.
pub fn set_conduit(conduit: Conduit) {
    CONDUIT.call_once(|| conduit);
}

/// Returns how PSCI is called.
pub fn conduit() -> Conduit {
    CONDUIT.get().copied().unwrap_or(Conduit::Hvc)
}

/// Powers off or resets the machine.
pub fn end(ending: Ending) -> ! {
    irq::mask();
    // Without a device tree nobody knows whether a call would be answered.
    if CONDUIT.is_completed() {
        let _ = match (conduit(), ending) {
            (Conduit::Hvc, Ending::Reboot) => system_reset::<Hvc>(),
            (Conduit::Smc, Ending::Reboot) => system_reset::<Smc>(),
            (Conduit::Hvc, _) => system_off::<Hvc>(),
            (Conduit::Smc, _) => system_off::<Smc>(),
        };
    }
    say!("the machine cannot be left");
    halt_for_good()
}

/// Stops this CPU for good.
pub fn halt_for_good() -> ! {
    loop {
        irq::halt();
    }
}
