// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The first serial port, COM1, a 16550.
//!
//! Called by `console` (output) and the echo step (input), polled, without
//! interrupts. A transmitter that never gets ready loses bytes, not the guest.
//! A PC's firmware has no console that long mode could call.
//!
//! Spec: 16550 data sheet.

use super::port;

const BASE: u16 = 0x3f8;
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const LINE_STATUS: u16 = 5;
const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const DIVISOR_ACCESS: u8 = 1 << 7;
const EIGHT_BITS: u8 = 3;
const FIFO_ENABLE: u8 = 1;
const TRIES: u32 = 1_000_000;

/// Sets the UART to 115200 8N1 with its FIFOs and without interrupts, and ends
/// the line that the BIOS may have left unfinished.
pub fn init() {
    port::write_u8(BASE + INTERRUPT_ENABLE, 0);
    port::write_u8(BASE + LINE_CONTROL, DIVISOR_ACCESS);
    port::write_u8(BASE + DATA, 1);
    port::write_u8(BASE + INTERRUPT_ENABLE, 0);
    port::write_u8(BASE + LINE_CONTROL, EIGHT_BITS);
    port::write_u8(BASE + FIFO_CONTROL, FIFO_ENABLE);
    b"\r\n".iter().copied().for_each(put);
}

/// Sends a byte.
pub fn put(byte: u8) {
    let is_ready = |_: &u32| status() & TRANSMITTER_EMPTY != 0;
    if (0..TRIES).find(is_ready).is_some() {
        port::write_u8(BASE + DATA, byte);
    }
}

/// Returns a byte that has been received, if any.
pub fn get() -> Option<u8> {
    (status() & DATA_READY != 0).then(|| port::read_u8(BASE + DATA))
}

fn status() -> u8 {
    port::read_u8(BASE + LINE_STATUS)
}

/// Sends nothing: there is no firmware console on this architecture.
pub fn put_line_by_firmware(_line: &str) -> bool {
    false
}
