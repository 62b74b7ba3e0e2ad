// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Random values to the registers of all devices, over and over.
//!
//! Asked for by a word on the command line, since a bare QEMU does not come back from
//! it. Left out is what ends or resets the machine. No interrupt is taken any more,
//! as nobody knows which come. A model that computes what it shows has to do so in
//! good time, whatever it was told.
//!
//! Spec: that of each device.

use rt::arch::{console, port};
use rt::check::Checked;
use rt::say;

use crate::device::{HPET, IO_APIC, cmos, read, set_cmos, write};
use crate::random;

const ROUNDS: u32 = 40_000;
/// What the 8259 pair, the 8254, port 0x61, COM1 and the power management have.
const PORTS: [u16; 22] = [
    0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42, 0x43, 0x61, 0x3f9, 0x3fa, 0x3fb, 0x3fc,
    0x3fe, 0x3ff, 0x600, 0x601, 0x602, 0x603, 0x60b,
];
/// Those of the clock's registers that count.
const CLOCK: u8 = 16;
/// Of an entry of the I/O APIC the delivery; what is not a fixed interrupt may be an
/// NMI or a reset.
const DELIVERY: u32 = 7 << 8;

/// Writes them.
pub fn run() -> Checked {
    let mut next = random::numbers();
    for _ in 0..ROUNDS {
        disturb(next());
    }
    console::init();
    say!("random values to devices passed");
    Ok(())
}

fn disturb(random: u64) {
    let [kind, which, byte, ..] = random.to_le_bytes();
    let value = (random >> 32) as u32;
    match kind % 4 {
        0 => port::write_u8(PORTS[usize::from(which) % PORTS.len()], byte),
        1 => {
            set_cmos(which % CLOCK, byte);
            cmos(0x0c);
        }
        2 => {
            let register = HPET + 4 * u64::from(which % 128);
            // Small numbers are the soonest.
            write(register, if byte & 1 == 0 { value } else { value & 0xff });
            read(register);
        }
        _ => {
            write(IO_APIC, 0x10 + u32::from(which % 48));
            write(IO_APIC + 0x10, value & !DELIVERY);
        }
    }
}
