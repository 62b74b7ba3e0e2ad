// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 16550 UART of the `virt` machine, and the SBI debug console.
//!
//! Called by `console` (output) and the echo step (input), polled, without
//! interrupts. A transmitter that never gets ready loses bytes, not the guest.
//!
//! Spec: 16550 data sheet; RISC-V SBI, "Debug Console", "Legacy".

use sbi_rt::Physical;

const BASE: usize = 0x1000_0000;
const DATA: usize = 0;
const INTERRUPT_ENABLE: usize = 1;
const FIFO_CONTROL: usize = 2;
const LINE_CONTROL: usize = 3;
const LINE_STATUS: usize = 5;
const DATA_READY: u8 = 1 << 0;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const TRIES: u32 = 1_000_000;

const EIGHT_BITS: u8 = 3;
const FIFO_ENABLE: u8 = 1;

/// Sets the UART to 8N1 with its FIFOs and without interrupts.
pub fn init() {
    write(INTERRUPT_ENABLE, 0);
    write(LINE_CONTROL, EIGHT_BITS);
    write(FIFO_CONTROL, FIFO_ENABLE);
}

/// Sends a byte.
pub fn put(byte: u8) {
    let is_ready = |_: &u32| read(LINE_STATUS) & TRANSMITTER_EMPTY != 0;
    if (0..TRIES).find(is_ready).is_some() {
        write(DATA, byte);
    }
}

/// Returns a byte that has been received, if any.
pub fn get() -> Option<u8> {
    (read(LINE_STATUS) & DATA_READY != 0).then(|| read(DATA))
}

fn read(offset: usize) -> u8 {
    // SAFETY: the machine's UART is here, with eight registers of one byte.
    unsafe { ((BASE + offset) as *const u8).read_volatile() }
}

fn write(offset: usize, value: u8) {
    // SAFETY: as for `read`; the UART does not touch memory.
    unsafe { ((BASE + offset) as *mut u8).write_volatile(value) }
}

/// Sends a line through the SBI: by DBCN if there, else byte by byte.
pub fn put_line_by_firmware(line: &str) -> bool {
    if sbi_rt::probe_extension(sbi_rt::Console).is_unavailable() {
        line.bytes().for_each(put_by_legacy_call);
        return true;
    }
    put_by_debug_console(line)
}

// What the legacy call returns is not defined well enough to look at.
#[expect(deprecated, reason = "firmware without DBCN has nothing else")]
fn put_by_legacy_call(byte: u8) {
    sbi_rt::legacy::console_putchar(usize::from(byte));
}

fn put_by_debug_console(line: &str) -> bool {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let part = Physical::new(rest.len(), rest.as_ptr().addr(), 0);
        match sbi_rt::console_write(part).ok() {
            Some(written) if written > 0 => rest = rest.get(written..).unwrap_or(&[]),
            _ => return false,
        }
    }
    true
}
