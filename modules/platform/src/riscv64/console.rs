// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART behind memory-mapped registers.

use core::num::NonZeroUsize;

use axconfig::devices::UART_PADDR;
use uart_16550::{Config, Uart16550, backend::MmioBackend};

use crate::mem::linear;

/// The distance between two registers.
const STRIDE_BYTES: u8 = 1;

/// The UART; owned by the console.
pub(crate) struct Uart(Uart16550<MmioBackend>);

impl Uart {
    /// Takes the UART and sets its line up.
    pub(crate) fn new() -> Self {
        let registers = NonZeroUsize::new(linear(UART_PADDR)).expect("not at address 0");
        // SAFETY: the registers are mapped linearly for ever, and only the console holds a `Uart`.
        let port = unsafe { Uart16550::new_mmio_from_address(registers, STRIDE_BYTES) };
        let mut port = port.expect("the registers lie in the address space");
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
