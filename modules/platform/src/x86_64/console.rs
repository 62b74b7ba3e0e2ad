// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART at the port of COM1.

use uart_16550::{Config, Uart16550, backend::PioBackend};
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
const LINE_STATUS: u16 = COM1 + 5;
/// The line status says that nothing is left to be sent.
const ALL_SENT: u8 = 1 << 6;
/// Enough for a full FIFO on any machine.
const PATIENCE: u32 = 1_000_000;

/// Waits until all is sent, before the machine ends.
pub(crate) fn drain() {
    let mut status = Port::<u8>::new(LINE_STATUS);
    // SAFETY: reading the register has no effect on what is sent; without a UART all
    // bits are one.
    let _ = (0..PATIENCE).any(|_| unsafe { status.read() } & ALL_SENT != 0);
}

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
