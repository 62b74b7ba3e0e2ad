// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART at the port of COM1.

use uart_16550::SerialPort;

const COM1: u16 = 0x3f8;

/// The UART; owned by the console.
pub(crate) struct Uart(SerialPort);

impl Uart {
    /// Takes the UART and sets its line up.
    pub(crate) fn new() -> Self {
        // SAFETY: COM1 is at this port on every PC, and only the console holds a `Uart`.
        let mut port = unsafe { SerialPort::new(COM1) };
        port.init();
        Self(port)
    }

    /// Sends a byte.
    pub(crate) fn put(&mut self, byte: u8) {
        self.0.send_raw(byte);
    }

    /// Returns a byte that has arrived.
    pub(crate) fn get(&mut self) -> Option<u8> {
        self.0.try_receive().ok()
    }
}
