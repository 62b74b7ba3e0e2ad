// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The console, as ArceOS and the application write to it.
//!
//! ArceOS prints a logo and its build settings before anything else. Output is
//! therefore held back until the platform is initialized, then dropped; if the
//! boot fails before that, all of it is shown. Invariant: one `write_bytes`
//! is never interleaved with another CPU's.

use axplat::{console::ConsoleIf, impl_plat_interface};
use heapless::Vec;
use kspin::SpinNoIrq;

use crate::arch::console::Uart;

const HELD_CAPACITY: usize = 4096;

struct Console {
    uart: Option<Uart>,
    held: Vec<u8, HELD_CAPACITY>,
    is_open: bool,
}

static CONSOLE: SpinNoIrq<Console> = SpinNoIrq::new(Console {
    uart: None,
    held: Vec::new(),
    is_open: false,
});

impl Console {
    fn write(&mut self, bytes: &[u8]) {
        if self.is_open {
            self.send(bytes);
        } else {
            let room = HELD_CAPACITY
                .saturating_sub(self.held.len())
                .min(bytes.len());
            let _fits = self
                .held
                .extend_from_slice(bytes.get(..room).unwrap_or_default());
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        let Some(uart) = self.uart.as_mut() else {
            return;
        };
        for &byte in bytes {
            if byte == b'\n' {
                uart.put(b'\r');
            }
            uart.put(byte);
        }
    }
}

/// Sets up the UART; output is held back from here on.
pub(crate) fn init() {
    CONSOLE.lock().uart = Some(Uart::new());
}

/// Drops what was held back and lets output through.
pub(crate) fn open() {
    let mut console = CONSOLE.lock();
    console.held.clear();
    console.is_open = true;
}

/// Shows what was held back, because the boot ends here.
pub(crate) fn show_held() {
    let mut console = CONSOLE.lock();
    let held = core::mem::take(&mut console.held);
    console.send(&held);
    console.is_open = true;
}

struct PlatformConsole;

#[impl_plat_interface]
impl ConsoleIf for PlatformConsole {
    fn write_bytes(bytes: &[u8]) {
        CONSOLE.lock().write(bytes);
    }

    fn read_bytes(bytes: &mut [u8]) -> usize {
        let mut console = CONSOLE.lock();
        let Some(uart) = console.uart.as_mut() else {
            return 0;
        };
        let received = core::iter::from_fn(|| uart.get());
        bytes
            .iter_mut()
            .zip(received)
            .map(|(slot, byte)| *slot = byte)
            .count()
    }

    fn irq_num() -> Option<usize> {
        Some(axconfig::devices::UART_IRQ)
    }
}
