// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The keyboard controller at 0x60 and 0x64, with no keyboard and no mouse.
//!
//! Guests use it to reset the machine and to open the A20 gate, which is always
//! open here. Its commands are answered at once, so that a guest that waits for
//! a flag never waits; what is sent to a keyboard or a mouse is not answered, as
//! if none were plugged in. Put on the bus behind byte lanes, as two regions.
//!
//! Spec: Intel 8042 and IBM PS/2 keyboard controller, commands; QEMU, pckbd.c.

use alloc::sync::Arc;

use axdevice::{AccessFault, AccessWidth, IoDevice, PowerRequest, PowerSink};
use bitflags::bitflags;

const DATA: u64 = 0;
const COMMAND: u64 = 4;

bitflags! {
    /// The status register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Status: u8 {
        /// The data port has a byte to read.
        const OUTPUT_FULL = 1 << 0;
        /// The self-test has passed.
        const SYSTEM = 1 << 2;
        /// The last write was a command.
        const COMMAND = 1 << 3;
        /// The keyboard's lock is open.
        const UNLOCKED = 1 << 4;
        /// The byte is a mouse's.
        const MOUSE_DATA = 1 << 5;
    }
}

bitflags! {
    /// The output port.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct OutputPort: u8 {
        /// Low while the CPU is in reset.
        const NO_RESET = 1 << 0;
        /// The A20 gate.
        const A20 = 1 << 1;
    }
}

const READ_MODE: u8 = 0x20;
const WRITE_MODE: u8 = 0x60;
const DISABLE_MOUSE: u8 = 0xa7;
const ENABLE_MOUSE: u8 = 0xa8;
const TEST_MOUSE: u8 = 0xa9;
const SELF_TEST: u8 = 0xaa;
const TEST_KEYBOARD: u8 = 0xab;
const DISABLE_KEYBOARD: u8 = 0xad;
const ENABLE_KEYBOARD: u8 = 0xae;
const READ_OUTPUT_PORT: u8 = 0xd0;
const WRITE_OUTPUT_PORT: u8 = 0xd1;
const WRITE_KEYBOARD_BUFFER: u8 = 0xd2;
const WRITE_MOUSE_BUFFER: u8 = 0xd3;
const WRITE_MOUSE: u8 = 0xd4;
/// From here on bits 0 to 3 that are zero pulse the output port.
const PULSE: u8 = 0xf0;

const SELF_TEST_PASSED: u8 = 0x55;
const PORT_TEST_PASSED: u8 = 0x00;
/// Both interrupts enabled, as after QEMU's reset.
const MODE_AT_RESET: u8 = 0x03;
const KEYBOARD_DISABLED: u8 = 1 << 4;
const MOUSE_DISABLED: u8 = 1 << 5;

/// The controller.
pub struct I8042 {
    power: Arc<dyn PowerSink>,
    status: Status,
    mode: u8,
    output: u8,
    output_port: OutputPort,
    /// The command whose data byte comes next.
    pending: Option<u8>,
}

impl I8042 {
    /// Makes a controller that resets the machine through `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self {
            power,
            status: Status::COMMAND.union(Status::UNLOCKED),
            mode: MODE_AT_RESET,
            output: 0,
            output_port: OutputPort::all(),
            pending: None,
        }
    }

    fn answer(&mut self, byte: u8) {
        self.output = byte;
        self.status.insert(Status::OUTPUT_FULL);
        self.status.remove(Status::MOUSE_DATA);
    }

    fn read_data(&mut self) -> u8 {
        self.status
            .remove(Status::OUTPUT_FULL.union(Status::MOUSE_DATA));
        self.output
    }

    fn write_data(&mut self, value: u8) {
        self.status.remove(Status::COMMAND);
        match self.pending.take() {
            Some(WRITE_MODE) => self.mode = value,
            Some(WRITE_OUTPUT_PORT) => self.set_output_port(value),
            Some(WRITE_KEYBOARD_BUFFER) => self.answer(value),
            Some(WRITE_MOUSE_BUFFER) => {
                self.answer(value);
                self.status.insert(Status::MOUSE_DATA);
            }
            // To the mouse or the keyboard, of which there is none.
            _ => {}
        }
    }

    fn command(&mut self, command: u8) {
        self.status.insert(Status::COMMAND);
        self.pending = None;
        match command {
            READ_MODE => self.answer(self.mode),
            WRITE_MODE
            | WRITE_OUTPUT_PORT
            | WRITE_KEYBOARD_BUFFER
            | WRITE_MOUSE_BUFFER
            | WRITE_MOUSE => self.pending = Some(command),
            DISABLE_MOUSE => self.mode |= MOUSE_DISABLED,
            ENABLE_MOUSE => self.mode &= !MOUSE_DISABLED,
            TEST_MOUSE | TEST_KEYBOARD => self.answer(PORT_TEST_PASSED),
            SELF_TEST => {
                self.status.insert(Status::SYSTEM);
                self.answer(SELF_TEST_PASSED);
            }
            DISABLE_KEYBOARD => self.mode |= KEYBOARD_DISABLED,
            ENABLE_KEYBOARD => self.mode &= !KEYBOARD_DISABLED,
            READ_OUTPUT_PORT => self.answer(self.output_port.bits()),
            PULSE.. => self.pulse(command),
            _ => {}
        }
    }

    fn pulse(&self, command: u8) {
        if command & OutputPort::NO_RESET.bits() == 0 {
            self.power.request(PowerRequest::Reset);
        }
    }

    fn set_output_port(&mut self, value: u8) {
        self.output_port = OutputPort::from_bits_retain(value);
        if !self.output_port.contains(OutputPort::NO_RESET) {
            self.power.request(PowerRequest::Reset);
        }
    }
}

impl IoDevice for I8042 {
    fn read(&mut self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        match offset {
            DATA => Ok(self.read_data().into()),
            COMMAND => Ok(self.status.bits().into()),
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, _width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        match offset {
            DATA => self.write_data(value as u8),
            COMMAND => self.command(value as u8),
            _ => return Err(AccessFault),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::pc::testing::{FakePower, read, write};

    fn controller() -> (Arc<FakePower>, I8042) {
        let power = Arc::new(FakePower::default());
        (power.clone(), I8042::new(power))
    }

    fn asked(controller: &mut I8042, command: u8) -> u8 {
        write(controller, COMMAND, command);
        let status = Status::from_bits_retain(read(controller, COMMAND));
        assert!(status.contains(Status::OUTPUT_FULL), "answered at once");
        let answer = read(controller, DATA);
        let status = Status::from_bits_retain(read(controller, COMMAND));
        assert!(!status.contains(Status::OUTPUT_FULL), "and only once");
        answer
    }

    #[test]
    fn the_controller_is_found_and_its_mode_kept() {
        let (_, mut controller) = controller();
        assert_eq!(asked(&mut controller, SELF_TEST), 0x55);
        write(&mut controller, COMMAND, WRITE_MODE);
        write(&mut controller, DATA, 0x74);
        assert_eq!(asked(&mut controller, READ_MODE), 0x74);
        write(&mut controller, COMMAND, ENABLE_MOUSE);
        assert_eq!(asked(&mut controller, READ_MODE), 0x54);
        assert_eq!(asked(&mut controller, TEST_KEYBOARD), 0);
    }

    #[test]
    fn nobody_answers_for_a_keyboard_or_a_mouse() {
        let (_, mut controller) = controller();
        write(&mut controller, DATA, 0xf2);
        write(&mut controller, COMMAND, WRITE_MOUSE);
        write(&mut controller, DATA, 0xf2);
        assert_eq!(read(&mut controller, COMMAND) & 1, 0);
    }

    #[test]
    fn the_reset_pulse_and_the_output_port_reset_the_machine() {
        for bytes in [[(COMMAND, 0xfe); 2], [(COMMAND, 0xd1), (DATA, 0xfe)]] {
            let (power, mut controller) = controller();
            for (port, byte) in bytes {
                write(&mut controller, port, byte);
            }
            assert_eq!(power.requests()[0], PowerRequest::Reset);
        }
        let (power, mut controller) = controller();
        for harmless in [0xff, 0xf1, 0xd1] {
            write(&mut controller, COMMAND, harmless);
        }
        write(&mut controller, DATA, 0xdf);
        assert_eq!(power.requests(), []);
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_input_is_never_full(
            writes in prop::collection::vec((any::<bool>(), any::<u8>()), 0..60),
        ) {
            let (_, mut controller) = controller();
            for (is_command, byte) in writes {
                let port = if is_command { COMMAND } else { DATA };
                write(&mut controller, port, byte);
                prop_assert_eq!(read(&mut controller, COMMAND) & 0b10, 0);
            }
        }
    }
}
