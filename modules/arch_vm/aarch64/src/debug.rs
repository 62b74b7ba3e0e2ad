// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A guest's debug registers: breakpoints, watchpoints, single steps.
//!
//! They trap until the guest's first use of them, which loads them; from then on
//! they are the guest's own until its vCPU is put away. A guest whose debugger is
//! on has them loaded with its other registers, so that nothing is missed. While
//! none are loaded MDSCR_EL1 is zero, and what is left in the others does nothing.
//! A CPU's debug exceptions go to EL1 and never come at EL2 (MDCR_EL2.TDE is 0).
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 Self-hosted Debug",
//! MDCR_EL2.TDA.

use tock_registers::{
    LocalRegisterCopy,
    interfaces::{ReadWriteable, Readable, Writeable},
};

use crate::regs::{
    DFR0, ID_AA64DFR0_EL1, MDCR, MDCR_EL2, MDSCR, MDSCR_EL1, POINTS_MAX, Point, SPSR, SPSR_EL2,
    read_breakpoint, read_watchpoint, synchronize, write_breakpoint, write_watchpoint,
};

/// One vCPU's debug registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct DebugRegisters {
    control: u64,
    breakpoints: [Point; POINTS_MAX],
    watchpoints: [Point; POINTS_MAX],
    is_loaded: bool,
}

impl DebugRegisters {
    /// Comes to a CPU, where they trap unless the guest's debugger is on.
    pub(crate) fn bind(&mut self) {
        let control = LocalRegisterCopy::<u64, MDSCR::Register>::new(self.control);
        if control.is_set(MDSCR::MDE) || control.is_set(MDSCR::SS) {
            self.load();
        }
    }

    /// Loads them, and tells whether they were not before.
    pub(crate) fn load(&mut self) -> bool {
        if self.is_loaded {
            return false;
        }
        for (index, point) in self.breakpoints.iter().enumerate().take(breakpoints()) {
            write_breakpoint(index, *point);
        }
        for (index, point) in self.watchpoints.iter().enumerate().take(watchpoints()) {
            write_watchpoint(index, *point);
        }
        MDSCR_EL1.set(self.control);
        MDCR_EL2.modify(MDCR::TDA::CLEAR);
        synchronize();
        self.is_loaded = true;
        true
    }

    /// Puts them away, if they are loaded; they trap from now on.
    pub(crate) fn unbind(&mut self) {
        if !self.is_loaded {
            return;
        }
        self.control = MDSCR_EL1.get();
        for (index, point) in self.breakpoints.iter_mut().enumerate().take(breakpoints()) {
            *point = read_breakpoint(index);
        }
        for (index, point) in self.watchpoints.iter_mut().enumerate().take(watchpoints()) {
            *point = read_watchpoint(index);
        }
        MDSCR_EL1.set(0);
        MDCR_EL2.modify(MDCR::TDA::SET);
        self.is_loaded = false;
    }

    /// Puts them to where a reset does.
    pub(crate) fn clear(&mut self) {
        self.unbind();
        *self = Self::default();
    }
}

fn breakpoints() -> usize {
    let others = ID_AA64DFR0_EL1.read(DFR0::BREAKPOINTS) as usize;
    others.saturating_add(1).min(POINTS_MAX)
}

fn watchpoints() -> usize {
    let others = ID_AA64DFR0_EL1.read(DFR0::WATCHPOINTS) as usize;
    others.saturating_add(1).min(POINTS_MAX)
}

/// Tells whether the guest steps: what is emulated ends a step, too.
#[inline]
pub(crate) fn is_stepping() -> bool {
    MDSCR_EL1.is_set(MDSCR::SS)
}

/// Ends the step of an instruction that was emulated before the world is switched.
#[cold]
pub(crate) fn end_step() {
    SPSR_EL2.modify(SPSR::SS::CLEAR);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: u64 = MDSCR::MDE::SET.value;

    fn with_points() {
        ID_AA64DFR0_EL1.write(DFR0::BREAKPOINTS.val(5) + DFR0::WATCHPOINTS.val(3));
        MDCR_EL2.write(MDCR::TDA::SET);
    }

    #[test]
    fn what_is_loaded_is_stored_and_traps_again() {
        with_points();
        let mut debug = DebugRegisters::default();
        assert!(debug.load() && !debug.load());
        assert!(!MDCR_EL2.is_set(MDCR::TDA));
        write_breakpoint(5, [0x1000, 5]);
        write_breakpoint(6, [0x2000, 5]);
        write_watchpoint(3, [0x3000, 7]);
        debug.unbind();
        assert!(MDCR_EL2.is_set(MDCR::TDA));
        write_breakpoint(5, [0; 2]);
        write_watchpoint(3, [0; 2]);
        debug.bind();
        assert_eq!(read_breakpoint(5), [0; 2], "nobody asked yet");
        debug.load();
        assert_eq!(read_breakpoint(5), [0x1000, 5]);
        assert_eq!(read_watchpoint(3), [0x3000, 7]);
        assert_eq!(debug.breakpoints[6], [0; 2], "there are six");
    }

    #[test]
    fn a_debugger_that_is_on_comes_with_the_vcpu_and_leaves_with_it() {
        with_points();
        let mut debug = DebugRegisters::default();
        debug.load();
        MDSCR_EL1.set(ON);
        debug.unbind();
        assert_eq!(MDSCR_EL1.get(), 0);
        debug.bind();
        assert_eq!(MDSCR_EL1.get(), ON);
        debug.clear();
        assert_eq!(MDSCR_EL1.get(), 0);
        debug.bind();
        assert!(MDCR_EL2.is_set(MDCR::TDA));
    }
}
