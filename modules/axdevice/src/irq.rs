// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A device's interrupt output.
//!
//! An [`IrqLine`] is a wire: it has a level, and the interrupt controller at
//! its other end (an [`IrqSink`]) decides what a level or an edge means. Lock
//! order: a device's own lock, then the controller's; a controller never calls
//! back into a device.

use alloc::sync::Arc;

/// The interrupt controller's end of its input wires.
pub trait IrqSink: Send + Sync {
    /// Tells the controller that input `irq` is now high (`true`) or low.
    fn set_level(&self, irq: u32, level: bool);
}

/// One wire from a device to an interrupt controller's input.
#[derive(Clone)]
pub struct IrqLine {
    sink: Arc<dyn IrqSink>,
    irq: u32,
}

impl IrqLine {
    /// Connects a wire to input `irq` of `sink`.
    pub fn new(sink: Arc<dyn IrqSink>, irq: u32) -> Self {
        Self { sink, irq }
    }

    /// Returns the controller's number for this wire.
    pub fn irq(&self) -> u32 {
        self.irq
    }

    /// Drives the wire high or low; driving it as it is changes nothing.
    pub fn set_level(&self, level: bool) {
        self.sink.set_level(self.irq, level);
    }

    /// Makes one rising edge and leaves the wire low.
    pub fn pulse(&self) {
        self.set_level(true);
        self.set_level(false);
    }
}

/// A wire whose driver remembers its level, so that only a change costs a call.
///
/// It starts low, as the controller's input does.
pub struct LevelLine {
    line: IrqLine,
    level: bool,
}

impl LevelLine {
    /// Takes over a wire that is low.
    pub fn new(line: IrqLine) -> Self {
        Self { line, level: false }
    }

    /// Drives the wire to `level`.
    pub fn drive(&mut self, level: bool) {
        if self.level != level {
            self.level = level;
            self.line.set_level(level);
        }
    }

    /// Tells whether the wire is high.
    pub fn is_high(&self) -> bool {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::FakeIrq;

    #[test]
    fn a_line_drives_the_input_it_is_wired_to() {
        let (irq, line) = FakeIrq::line();
        assert_eq!(line.irq(), 10);
        line.set_level(true);
        assert!(irq.is_high());
        line.clone().set_level(false);
        assert!(!irq.is_high(), "a clone is the same wire");
    }

    #[test]
    fn a_pulse_is_one_edge_and_leaves_the_line_low() {
        let (irq, line) = FakeIrq::line();
        line.pulse();
        line.pulse();
        assert_eq!(irq.rising_edges(), 2);
        assert!(!irq.is_high());
    }

    #[test]
    fn a_level_line_starts_low_and_says_nothing() {
        let (irq, line) = FakeIrq::line();
        let mut line = LevelLine::new(line);
        line.drive(false);
        assert!(!line.is_high());
        assert_eq!(irq.calls(), 0);
    }

    proptest! {
        #[test]
        fn a_level_line_calls_exactly_on_change(levels in prop::collection::vec(any::<bool>(), 0..50)) {
            let (irq, line) = FakeIrq::line();
            let mut line = LevelLine::new(line);
            let mut last = false;
            let mut changes = 0;
            for level in levels {
                changes += usize::from(level != last);
                last = level;
                line.drive(level);
                prop_assert_eq!((irq.is_high(), line.is_high()), (level, level));
                prop_assert_eq!(irq.calls(), changes);
            }
        }
    }
}
