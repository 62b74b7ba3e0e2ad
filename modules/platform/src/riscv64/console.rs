// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART behind memory-mapped registers.

use axconfig::devices::UART_PADDR;
use uart_16550::MmioSerialPort;

use crate::mem::linear;

/// The UART; owned by the console.
pub(crate) struct Uart(MmioSerialPort);

impl Uart {
    /// Takes the UART and sets its line up.
    pub(crate) fn new() -> Self {
        // SAFETY: the registers are mapped linearly for ever, and only the console holds a `Uart`.
        let mut port = unsafe { MmioSerialPort::new(linear(UART_PADDR)) };
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
