// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PL011 UART of the `virt` machine.
//!
//! Called by `console` (output) and the echo step (input), polled, without
//! interrupts. A transmitter that never gets ready loses bytes, not the guest.
//! Arm's firmware interfaces have no console: PSCI and SMCCC define none.
//!
//! Spec: Arm PrimeCell UART (PL011) Technical Reference Manual.

const BASE: usize = 0x0900_0000;
const DATA: usize = 0x00;
const FLAGS: usize = 0x18;
const LINE_CONTROL: usize = 0x2c;
const CONTROL: usize = 0x30;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;
const EIGHT_BITS_FIFO: u32 = 3 << 5 | 1 << 4;
const ENABLE_BOTH_WAYS: u32 = 1 << 9 | 1 << 8 | 1;
const TRIES: u32 = 1_000_000;

/// Enables the UART with its FIFOs, 8N1.
pub fn init() {
    write(CONTROL, 0);
    write(LINE_CONTROL, EIGHT_BITS_FIFO);
    write(CONTROL, ENABLE_BOTH_WAYS);
}

/// Sends a byte.
pub fn put(byte: u8) {
    let is_ready = |_: &u32| read(FLAGS) & TRANSMIT_FULL == 0;
    if (0..TRIES).find(is_ready).is_some() {
        write(DATA, u32::from(byte));
    }
}

/// Returns a byte that has been received, if any.
pub fn get() -> Option<u8> {
    (read(FLAGS) & RECEIVE_EMPTY == 0).then(|| read(DATA) as u8)
}

fn read(offset: usize) -> u32 {
    // SAFETY: the machine's UART is here; these registers have 32 bits.
    unsafe { ((BASE + offset) as *const u32).read_volatile() }
}

fn write(offset: usize, value: u32) {
    // SAFETY: as for `read`; the UART does not touch memory.
    unsafe { ((BASE + offset) as *mut u32).write_volatile(value) }
}

/// Sends nothing: there is no firmware console on this architecture.
pub fn put_line_by_firmware(_line: &str) -> bool {
    false
}
