// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART at the port of COM1.

use uart_16550::{Config, Uart16550, backend::PioBackend};

const COM1: u16 = 0x3f8;

/// The UART; owned by the console.
pub(crate) struct Uart(Uart16550<PioBackend>);

impl Uart {
    /// Takes the UART and sets its line up.
    pub(crate) fn new() -> Self {
        // SAFETY: COM1 is at this port on every PC, and only the console holds a `Uart`.
        let port = unsafe { Uart16550::new_port(COM1) };
        let mut port = port.expect("the ports lie in the port space");
        // A line that does not come up stays silent; there is nowhere to say so.
        let _ = port.init(Config::default());
        Self(port)
    }

    /// Sends a byte.
    pub(crate) fn put(&mut self, byte: u8) {
        self.0.send_bytes_exact(&[byte]);
    }

    /// Returns a byte that has arrived.
    pub(crate) fn get(&mut self) -> Option<u8> {
        self.0.try_receive_byte().ok()
    }
}
