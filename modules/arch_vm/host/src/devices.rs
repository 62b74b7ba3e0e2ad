// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine's devices: a console port, a power switch, scratch registers.
//!
//! Put on the bus by `machine`. They are the smallest that use each seam of
//! axdevice: a device with input and an interrupt, one with a power sink, one
//! that answers on ports and as system registers, one that acts at a time.

use alloc::{sync::Arc, vec::Vec};

use axdevice::{
    AccessFault, AccessWidth, Clock, Console, InputListener, IoDevice, IrqLine, PowerRequest,
    PowerSink, TimedDevice,
};

/// A byte-wide console: offset 0 is data, offset 1 tells whether input waits.
pub(crate) struct ConsolePort {
    console: Arc<Console>,
}

impl ConsolePort {
    pub(crate) const SIZE: u64 = 2;

    pub(crate) fn new(console: &Arc<Console>) -> Self {
        Self {
            console: console.clone(),
        }
    }
}

impl IoDevice for ConsolePort {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        match (offset, width) {
            (0, AccessWidth::Byte) => Ok(self.console.take_input().unwrap_or(0).into()),
            (1, AccessWidth::Byte) => Ok(self.console.has_input().into()),
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        match (offset, width) {
            (0, AccessWidth::Byte) => {
                self.console.write(&[value as u8]);
                Ok(())
            }
            _ => Err(AccessFault),
        }
    }
}

/// Makes an interrupt of console input.
pub(crate) struct InputIrq(pub(crate) IrqLine);

impl InputListener for InputIrq {
    fn input_ready(&self) {
        self.0.pulse();
    }
}

/// A 32-bit register that ends the machine: 0 off, 1 reset, other values fail.
pub(crate) struct PowerPort {
    power: Arc<dyn PowerSink>,
}

impl PowerPort {
    pub(crate) const SIZE: u64 = 4;

    pub(crate) fn new(power: &Arc<dyn PowerSink>) -> Self {
        Self {
            power: power.clone(),
        }
    }
}

impl IoDevice for PowerPort {
    fn read(&mut self, _: u64, _: AccessWidth) -> Result<u64, AccessFault> {
        Err(AccessFault)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        if (offset, width) != (0, AccessWidth::Dword) {
            return Err(AccessFault);
        }
        self.power.request(match value as u32 {
            0 => PowerRequest::Off,
            1 => PowerRequest::Reset,
            code => PowerRequest::Failed(code),
        });
        Ok(())
    }
}

/// A kitchen timer: written a number of nanoseconds, it interrupts after them.
pub(crate) struct KitchenTimer {
    clock: Arc<dyn Clock>,
    line: IrqLine,
    deadline_ns: Option<u64>,
}

impl KitchenTimer {
    pub(crate) const SIZE: u64 = 8;

    pub(crate) fn new(clock: Arc<dyn Clock>, line: IrqLine) -> Self {
        Self {
            clock,
            line,
            deadline_ns: None,
        }
    }
}

impl IoDevice for KitchenTimer {
    fn read(&mut self, _: u64, _: AccessWidth) -> Result<u64, AccessFault> {
        Ok(self.deadline_ns.unwrap_or(0))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        if (offset, width) != (0, AccessWidth::Qword) {
            return Err(AccessFault);
        }
        self.deadline_ns = Some(self.clock.monotonic_ns().saturating_add(value));
        Ok(())
    }
}

impl TimedDevice for KitchenTimer {
    fn next_deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn tick(&mut self, now_ns: u64) {
        if self.deadline_ns.is_some_and(|at_ns| at_ns <= now_ns) {
            self.deadline_ns = None;
            self.line.pulse();
        }
    }
}

/// Registers that read back what was written, of any width.
pub(crate) struct Scratch {
    cells: Vec<u64>,
}

impl Scratch {
    pub(crate) const SIZE: u64 = 8;

    pub(crate) fn new() -> Self {
        Self {
            cells: (0..Self::SIZE).map(|_| 0).collect(),
        }
    }

    fn cell(&mut self, offset: u64) -> Result<&mut u64, AccessFault> {
        usize::try_from(offset)
            .ok()
            .and_then(|offset| self.cells.get_mut(offset))
            .ok_or(AccessFault)
    }
}

impl IoDevice for Scratch {
    fn read(&mut self, offset: u64, _: AccessWidth) -> Result<u64, AccessFault> {
        self.cell(offset).map(|cell| *cell)
    }

    fn write(&mut self, offset: u64, _: AccessWidth, value: u64) -> Result<(), AccessFault> {
        *self.cell(offset)? = value;
        Ok(())
    }
}
