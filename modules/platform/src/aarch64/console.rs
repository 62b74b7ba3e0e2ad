// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PL011 UART.

use arm_pl011::Pl011Uart;
use axconfig::devices::UART_PADDR;

use crate::mem::linear;

/// The UART; owned by the console.
pub(crate) struct Uart(Pl011Uart);

impl Uart {
    /// Takes the UART and sets it up.
    pub(crate) fn new() -> Self {
        let mut uart = Pl011Uart::new(linear(UART_PADDR) as *mut u8);
        uart.init();
        Self(uart)
    }

    /// Sends a byte.
    pub(crate) fn put(&mut self, byte: u8) {
        self.0.putchar(byte);
    }

    /// Returns a byte that has arrived.
    pub(crate) fn get(&mut self) -> Option<u8> {
        self.0.getchar()
    }
}
