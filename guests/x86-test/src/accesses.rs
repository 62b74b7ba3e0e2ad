// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Every form of access to a device, and to the end of RAM.
//!
//! The device is the HPET's counter while it stands still: eight bytes that keep
//! what is written.
//!
//! Spec: IA-PC HPET, "Main Counter Register"; AMD64 APM 3.

use core::arch::x86_64::__cpuid;

use rt::check::{Checked, hold, same};
use rt::{machine::Failure, say};

use crate::device::{HPET, read, write};
use crate::execute::{DATA, NOTHING, RAX, RBX, RCX, RDI, RSI, Registers, UNDEFINED, Who, execute};

const COUNTER: u64 = HPET + 0xf0;
const OLD: u32 = 0x8000_0011;
const MOVBE: u32 = 1 << 22;
const XSAVE_AVX: u32 = 1 << 26 | 1 << 28;
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

const FORMS: [Form; 55] = [
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
    form("shl", &[0xd1, 0x23], ONE, 0x0000_0022),
    form("shr by a constant", &[0xc1, 0x2b, 4], ONE, 0x0800_0001),
    // mov cl, 4; sar [rbx], cl
    form("sar by cl", &[0xb1, 4, 0xd3, 0x3b], ONE, 0xf800_0001),
    form("rol", &[0xc1, 0x03, 4], ONE, 0x0000_0118),
    form("ror", &[0xd1, 0x0b], ONE, 0xc000_0008),
    // stc; rcl [rbx], 1
    form("rcl", &[0xf9, 0xd1, 0x13], ONE, 0x0000_0023),
    form("rcr", &[0xf9, 0xd1, 0x1b], ONE, 0xc000_0008),
    form("stos", &[0xab], ONE, 0x1000_0005),
    form("lods", &[0xad], 0x8000_0011, OLD),
    form(
        "with 32-bit addresses",
        &[0x67, 0x8b, 0x03],
        0x8000_0011,
        OLD,
    ),
    form("cmov", &[0x0f, 0x44, 0x03], 0x1000_0005, OLD),
    form("cmps", &[0xa7], ONE, OLD),
    form("scas", &[0xaf], ONE, OLD),
    // lea rbx, [rbx + 8]; xchg rbx, rsp; push rax; xchg rbx, rsp
    form(
        "push there",
        &[
            0x48, 0x8d, 0x5b, 8, 0x48, 0x87, 0xe3, 0x50, 0x48, 0x87, 0xe3,
        ],
        ONE,
        0x1000_0005,
    ),
    // xchg rbx, rsp; pop rax; xchg rbx, rsp
    form(
        "pop there",
        &[0x48, 0x87, 0xe3, 0x58, 0x48, 0x87, 0xe3],
        0x8000_0011,
        OLD,
    ),
    form("push of it", &[0xff, 0x33, 0x58], 0x8000_0011, OLD),
    form("pop to it", &[0x50, 0x8f, 0x03], ONE, 0x1000_0005),
    // lea rcx, [to]; mov [rbx], rcx; call [rbx]; jmp end; to: push 0x77; pop rax; ret; end:
    form(
        "call through it",
        &[
            0x48, 0x8d, 0x0d, 7, 0, 0, 0, 0x48, 0x89, 0x0b, 0xff, 0x13, 0xeb, 4, 0x6a, 0x77, 0x58,
            0xc3,
        ],
        0x77,
        0x0100_100e,
    ),
    // lea rcx, [to]; mov [rbx], rcx; jmp [rbx]; ud2; to:
    form(
        "jump through it",
        &[
            0x48, 0x8d, 0x0d, 7, 0, 0, 0, 0x48, 0x89, 0x0b, 0xff, 0x23, 0x0f, 0x0b,
        ],
        ONE,
        0x0100_100e,
    ),
    // movd xmm0, eax, then a store
    form(
        "movd",
        &[0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0x7e, 0x03],
        ONE,
        0x1000_0005,
    ),
    form(
        "movq",
        &[0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xd6, 0x03],
        ONE,
        0x1000_0005,
    ),
    form(
        "movntdq",
        &[0x66, 0x0f, 0x6e, 0xc0, 0x66, 0x0f, 0xe7, 0x03],
        ONE,
        0x1000_0005,
    ),
    form(
        "movups",
        &[0x66, 0x0f, 0x6e, 0xc0, 0x0f, 0x11, 0x03],
        ONE,
        0x1000_0005,
    ),
    // a load, then movd eax, xmm0
    form(
        "movdqa",
        &[0x66, 0x0f, 0x6f, 0x03, 0x66, 0x0f, 0x7e, 0xc0],
        0x8000_0011,
        OLD,
    ),
    form(
        "movss",
        &[0xf3, 0x0f, 0x10, 0x03, 0x66, 0x0f, 0x7e, 0xc0],
        0x8000_0011,
        OLD,
    ),
    // movlps xmm0, [rbx]; movd eax, xmm0
    form(
        "movlps",
        &[0x0f, 0x12, 0x03, 0x66, 0x0f, 0x7e, 0xc0],
        0x8000_0011,
        OLD,
    ),
    // movhpd xmm0, [rbx]; movhlps xmm0, xmm0; movd eax, xmm0
    form(
        "movhpd",
        &[
            0x66, 0x0f, 0x16, 0x03, 0x0f, 0x12, 0xc0, 0x66, 0x0f, 0x7e, 0xc0,
        ],
        0x8000_0011,
        OLD,
    ),
    // movd xmm0, eax; movlhps xmm0, xmm0; movhps [rbx], xmm0
    form(
        "movhps",
        &[0x66, 0x0f, 0x6e, 0xc0, 0x0f, 0x16, 0xc0, 0x0f, 0x17, 0x03],
        ONE,
        0x1000_0005,
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
    if has(MOVBE) {
        try_form(&form("movbe", &[0x0f, 0x38, 0xf0, 0x03], 0x1100_0080, OLD))?;
        try_form(&form("movbe", &[0x0f, 0x38, 0xf1, 0x03], ONE, 0x0500_0010))?;
    }
    if has(XSAVE_AVX) {
        wide()?;
    }
    unknown()?;
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

/// Tells whether the CPU has all of some features.
fn has(features: u32) -> bool {
    __cpuid(1).ecx & features == features
}

/// A register of 32 bytes, from a device and to it.
fn wide() -> Checked {
    // mov rcx, cr4; bts ecx, 18; mov cr4, rcx; xor ecx, ecx; xor edx, edx;
    // mov eax, 7; xsetbv
    const OPEN: [u8; 22] = [
        0x0f, 0x20, 0xe1, 0x0f, 0xba, 0xe9, 18, 0x0f, 0x22, 0xe1, 0x31, 0xc9, 0x31, 0xd2, 0xb8, 7,
        0, 0, 0, 0x0f, 0x01, 0xd1,
    ];
    // mov eax, 3; xsetbv; mov rcx, cr4; btr ecx, 18; mov cr4, rcx
    const CLOSE: [u8; 18] = [
        0xb8, 3, 0, 0, 0, 0x0f, 0x01, 0xd1, 0x0f, 0x20, 0xe1, 0x0f, 0xba, 0xf1, 18, 0x0f, 0x22,
        0xe1,
    ];
    // vmovdqu ymm1, [rbx]; vmovups [rsi], ymm1; vmovntdq [rdi], xmm1
    const MOVES: [u8; 12] = [
        0xc5, 0xfe, 0x6f, 0x0b, 0xc5, 0xfc, 0x11, 0x0e, 0xc5, 0xf9, 0xe7, 0x0f,
    ];
    write(COUNTER, OLD);
    done("AVX", &OPEN, &mut Registers::default())?;
    let mut registers = Registers::default();
    (registers.gprs[RBX], registers.gprs[RSI]) = (COUNTER - 8, DATA);
    registers.gprs[RDI] = COUNTER;
    let moved = done("moves of 32 bytes", &MOVES, &mut registers);
    done("AVX", &CLOSE, &mut Registers::default())?;
    moved?;
    same("what was loaded", read(DATA + 8), OLD)?;
    same("what was stored", read(COUNTER), read(DATA))
}

/// What nobody does with a device ends in an exception, if it is not done.
fn unknown() -> Checked {
    let mut registers = Registers::default();
    registers.gprs[RBX] = COUNTER;
    // fld dword [rbx]; fstp st0
    let found = execute(&[0xd9, 0x03, 0xdd, 0xd8], Who::Kernel, &mut registers);
    hold(
        "floating point from a device",
        found.is_none_or(|trap| trap.vector == UNDEFINED),
    )
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
