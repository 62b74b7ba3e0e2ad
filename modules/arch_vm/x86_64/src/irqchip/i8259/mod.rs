// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The pair of 8259A of a PC, with ELCR.
//!
//! Inputs 0 to 15; input 2 is the cascade and has no wire of its own. Its output
//! is a level that the caller hands on to LINT0, and must ask for again after
//! each call that may change it: driving a wire, any access, acknowledging.
//!
//! Spec: Intel 8259A Programmable Interrupt Controller, "Cascade Mode"; Intel
//! 82378IB (SIO), "Edge/Level Control Registers".

mod chip;
mod registers;
#[cfg(test)]
mod tests;

use chip::{CASCADE_INPUT, Chip, Port as ChipPort, Role, SPURIOUS_INPUT};

/// How many inputs the pair has.
pub(crate) const INPUTS: u32 = 16;
const INPUTS_OF_CHIP: u32 = 8;

/// One of the pair's ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// 0x20.
    MasterCommand,
    /// 0x21.
    MasterData,
    /// 0xa0.
    SlaveCommand,
    /// 0xa1.
    SlaveData,
    /// 0x4d0.
    MasterElcr,
    /// 0x4d1.
    SlaveElcr,
}

/// The pair.
#[derive(Clone, Debug)]
pub(crate) struct PicPair {
    master: Chip,
    slave: Chip,
}

impl PicPair {
    /// Makes a pair at power-on: nothing is masked, and nothing is initialized.
    pub(crate) fn new() -> Self {
        Self {
            master: Chip::new(Role::Master),
            slave: Chip::new(Role::Slave),
        }
    }

    /// Drives an input; those that do not exist have no wire.
    pub(crate) fn set_level(&mut self, input: u32, is_high: bool) {
        let of_chip = (input % INPUTS_OF_CHIP) as u8;
        match input {
            0..INPUTS_OF_CHIP if of_chip != CASCADE_INPUT => {
                self.master.set_level(of_chip, is_high);
            }
            INPUTS_OF_CHIP..INPUTS => {
                self.slave.set_level(of_chip, is_high);
                self.cascade();
            }
            _ => {}
        }
    }

    /// Tells whether the pair's output is high.
    pub(crate) fn is_raised(&self) -> bool {
        self.master.request().is_some()
    }

    /// Takes the interrupt, as the CPU's INTA cycle does, and returns its vector;
    /// a spurious one if the request has gone.
    pub(crate) fn acknowledge(&mut self) -> u8 {
        match self.master.request() {
            Some(CASCADE_INPUT) => {
                self.master.acknowledge(CASCADE_INPUT);
                // The slave lets go of the wire, so that what it wants next is an edge.
                self.master.set_level(CASCADE_INPUT, false);
                self.acknowledge_slave()
            }
            Some(input) => {
                self.master.acknowledge(input);
                self.master.vector(input)
            }
            None => self.master.vector(SPURIOUS_INPUT),
        }
    }

    fn acknowledge_slave(&mut self) -> u8 {
        let vector = match self.slave.request() {
            Some(input) => {
                self.slave.acknowledge(input);
                self.slave.vector(input)
            }
            None => self.slave.vector(SPURIOUS_INPUT),
        };
        self.cascade();
        vector
    }

    /// Reads a port; a read may answer a poll.
    pub(crate) fn read(&mut self, port: Port) -> u8 {
        match port {
            Port::MasterCommand => self.master.read(ChipPort::Command),
            Port::MasterData => self.master.read(ChipPort::Data),
            Port::SlaveCommand => self.with_slave(|slave| slave.read(ChipPort::Command)),
            Port::SlaveData => self.with_slave(|slave| slave.read(ChipPort::Data)),
            Port::MasterElcr => self.master.elcr(),
            Port::SlaveElcr => self.slave.elcr(),
        }
    }

    /// Writes a port.
    pub(crate) fn write(&mut self, port: Port, value: u8) {
        match port {
            Port::MasterCommand => self.master.write(ChipPort::Command, value),
            Port::MasterData => self.master.write(ChipPort::Data, value),
            Port::SlaveCommand => self.with_slave(|slave| slave.write(ChipPort::Command, value)),
            Port::SlaveData => self.with_slave(|slave| slave.write(ChipPort::Data, value)),
            Port::MasterElcr => self.master.set_elcr(value),
            Port::SlaveElcr => self.with_slave(|slave| slave.set_elcr(value)),
        }
    }

    fn with_slave<T>(&mut self, act: impl FnOnce(&mut Chip) -> T) -> T {
        let result = act(&mut self.slave);
        self.cascade();
        result
    }

    /// Drives the cascade as the slave says, whenever that may have changed.
    fn cascade(&mut self) {
        let is_raised = self.slave.request().is_some();
        self.master.set_level(CASCADE_INPUT, is_raised);
    }
}
