// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The wires that the HPET takes from the 8254 and the clock when it is told to.
//!
//! Both drive their wires as ever; while they are replaced nothing comes out.
//! Lock order: the HPET or the device, then this, then the controller.
//!
//! Spec: Intel IA-PC HPET Specification 1.0a, "LegacyReplacement Route".

use alloc::sync::Arc;

use crate::{IrqLine, IrqSink, Lock};

const WIRES: usize = 2;

struct State {
    is_replaced: bool,
    levels: [bool; WIRES],
}

/// The wires of the 8254 and of the clock.
pub struct LegacyWires {
    lines: [IrqLine; WIRES],
    state: Lock<State>,
}

impl LegacyWires {
    /// Puts itself before the wires of the timer and of the clock; returns what
    /// these drive from now on.
    pub fn new(timer: IrqLine, clock: IrqLine) -> (Arc<Self>, IrqLine, IrqLine) {
        let wires = Arc::new(Self {
            lines: [timer, clock],
            state: Lock::new(State {
                is_replaced: false,
                levels: [false; WIRES],
            }),
        });
        let input = |irq| IrqLine::new(wires.clone(), irq);
        let (timer, clock) = (input(0), input(1));
        (wires, timer, clock)
    }

    /// Cuts the wires, or connects them again as they are driven.
    pub fn replace(&self, is_replaced: bool) {
        let mut state = self.state.lock();
        if state.is_replaced == is_replaced {
            return;
        }
        state.is_replaced = is_replaced;
        for (line, level) in self.lines.iter().zip(state.levels) {
            line.set_level(level && !is_replaced);
        }
    }

    /// Returns the wire that a timer of the HPET drives instead.
    pub fn line(&self, timer: usize) -> Option<&IrqLine> {
        self.lines.get(timer)
    }
}

impl IrqSink for LegacyWires {
    fn set_level(&self, irq: u32, level: bool) {
        let mut state = self.state.lock();
        let Some(slot) = state.levels.get_mut(irq as usize) else {
            return;
        };
        *slot = level;
        if !state.is_replaced
            && let Some(line) = self.lines.get(irq as usize)
        {
            line.set_level(level);
        }
    }
}
