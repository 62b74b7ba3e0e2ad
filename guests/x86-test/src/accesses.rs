// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Every form of access to a device, and to the end of RAM.
//!
//! The device is the HPET's counter while it stands still: eight bytes that keep
//! what is written.
//!
//! Spec: IA-PC HPET, "Main Counter Register"; AMD64 APM 3.

use rt::check::{Checked, same};
use rt::{machine::Failure, say};

use crate::execute::{DATA, NOTHING, RAX, RBX, RCX, RDI, RSI, Registers, Who, execute};

const HPET: u64 = 0xfed0_0000;
const COUNTER: u64 = HPET + 0xf0;
const OLD: u32 = 0x8000_0011;
const ONE: u64 = 0x0000_0000_1000_0005;

/// What is left in RAX and in the device of [`OLD`] and [`ONE`].
struct Form {
    what: &'static str,
    bytes: &'static [u8],
    rax: u64,
    device: u32,
}

const fn form(what: &'static str, bytes: &'static [u8], rax: u64, device: u32) -> Form {
    Form {
        what,
        bytes,
        rax,
        device,
    }
}

const FORMS: [Form; 30] = [
    form("load", &[0x8b, 0x03], 0x8000_0011, OLD),
    form(
        "load to 64 bits",
        &[0x48, 0x63, 0x03],
        0xffff_ffff_8000_0011,
        OLD,
    ),
    form("store", &[0x89, 0x03], ONE, 0x1000_0005),
    form(
        "store of a constant",
        &[0xc7, 0x03, 4, 3, 2, 1],
        ONE,
        0x0102_0304,
    ),
    form("add to it", &[0x01, 0x03], ONE, 0x9000_0016),
    form("add from it", &[0x03, 0x03], 0x9000_0016, OLD),
    form("or", &[0x09, 0x03], ONE, 0x9000_0015),
    form("and", &[0x21, 0x03], ONE, 1),
    form("sub", &[0x29, 0x03], ONE, 0x7000_000c),
    form("xor", &[0x31, 0x03], ONE, 0x9000_0014),
    form("cmp", &[0x39, 0x03], ONE, OLD),
    form("test", &[0x85, 0x03], ONE, OLD),
    form("add of a constant", &[0x83, 0x03, 0xff], ONE, 0x8000_0010),
    form(
        "or of a constant",
        &[0x81, 0x0b, 0, 0, 0, 1],
        ONE,
        0x8100_0011,
    ),
    form("inc", &[0xff, 0x03], ONE, 0x8000_0012),
    form("dec", &[0xff, 0x0b], ONE, 0x8000_0010),
    form("not", &[0xf7, 0x13], ONE, 0x7fff_ffee),
    form("neg", &[0xf7, 0x1b], ONE, 0x7fff_ffef),
    form("xchg", &[0x87, 0x03], 0x8000_0011, 0x1000_0005),
    form("xadd", &[0x0f, 0xc1, 0x03], 0x8000_0011, 0x9000_0016),
    form("locked or", &[0xf0, 0x09, 0x03], ONE, 0x9000_0015),
    form(
        "cmpxchg that differs",
        &[0x0f, 0xb1, 0x0b],
        0x8000_0011,
        OLD,
    ),
    form("bts", &[0x0f, 0xba, 0x2b, 8], ONE, 0x8000_0111),
    form("btr", &[0x0f, 0xba, 0x33, 4], ONE, 0x8000_0001),
    form("btc", &[0x0f, 0xba, 0x3b, 31], ONE, 0x0000_0011),
    form("bt", &[0x0f, 0xba, 0x23, 4], ONE, OLD),
    form("stos", &[0xab], ONE, 0x1000_0005),
    form("lods", &[0xad], 0x8000_0011, OLD),
    form(
        "with 32-bit addresses",
        &[0x67, 0x8b, 0x03],
        0x8000_0011,
        OLD,
    ),
    form(
        "from RAM",
        &[0xb8, 0, 0x40, 0, 1, 0x8b, 0x30, 0x89, 0x33],
        0x0100_4000,
        0x5544_3322,
    ),
];

/// Runs all of them.
pub fn run() -> Checked {
    write(HPET + 0x10, 0);
    for form in &FORMS {
        try_form(form)?;
    }
    copies()?;
    say!("accesses to a device passed");
    nowhere()?;
    say!("accesses to nothing passed");
    Ok(())
}

fn try_form(form: &Form) -> Checked {
    write(COUNTER + 4, 0);
    write(COUNTER, OLD);
    write(DATA, 0x5544_3322);
    let mut registers = Registers::default();
    registers.gprs[RAX] = ONE;
    for pointer in [RBX, RSI, RDI] {
        registers.gprs[pointer] = COUNTER;
    }
    done(form.what, form.bytes, &mut registers)?;
    same(form.what, registers.gprs[RAX], form.rax)?;
    same(form.what, read(COUNTER), form.device)
}

fn done(what: &'static str, bytes: &[u8], registers: &mut Registers) -> Checked {
    match execute(bytes, Who::Kernel, registers) {
        None => Ok(()),
        Some(trap) => {
            say!("{what}: {trap:x?}");
            Err(Failure(what))
        }
    }
}

/// Strings between RAM and the device, which moves on by itself.
fn copies() -> Checked {
    write(COUNTER, OLD);
    write(COUNTER + 4, 0x1234_5678);
    let mut registers = Registers::default();
    registers.gprs[RSI] = COUNTER;
    registers.gprs[RDI] = DATA;
    registers.gprs[RCX] = 2;
    done("rep movsd from it", &[0xf3, 0xa5], &mut registers)?;
    same("copied", read(DATA), OLD)?;
    same("copied", read(DATA + 4), 0x1234_5678)?;
    same("the count", registers.gprs[RCX], 0)?;
    registers.gprs[RSI] = DATA;
    registers.gprs[RDI] = COUNTER;
    registers.gprs[RCX] = 2;
    write(DATA, 7);
    done("rep movsd to it", &[0xf3, 0xa5], &mut registers)?;
    same("copied back", read(COUNTER), 7)
}

/// Where nothing is, all forms that a kernel uses read something and write nothing.
fn nowhere() -> Checked {
    let mut registers = Registers::default();
    for offset in [0, 1, 0xffd, 0xffe, 0xfff, 0x1f_fffc] {
        for bytes in [
            &[0x8a, 0x03][..],
            &[0x66, 0x8b, 0x03],
            &[0x8b, 0x03],
            &[0x48, 0x8b, 0x03],
            &[0x0f, 0xb6, 0x03],
            &[0x48, 0x0f, 0xbf, 0x03],
            &[0x88, 0x03],
            &[0x66, 0x89, 0x03],
            &[0x48, 0x89, 0x03],
            &[0xf0, 0x0f, 0xc1, 0x03],
        ] {
            registers.gprs[RBX] = NOTHING + offset;
            done("an access of nothing", bytes, &mut registers)?;
        }
    }
    Ok(())
}

fn read(address: u64) -> u32 {
    // SAFETY: RAM of the window, or the HPET.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: u64, value: u32) {
    // SAFETY: as for `read`; the HPET interrupts nobody.
    unsafe { (address as *mut u32).write_volatile(value) };
}
