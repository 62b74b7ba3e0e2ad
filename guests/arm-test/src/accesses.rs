// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Every form of load and store, made to devices and to nothing at all.
//!
//! The devices are registers that keep what is written: two of the UART, and of
//! a GICv3 the routes of interrupts that nobody raises, which have 64 bits. A
//! device need not answer an exclusive or an atomic access: then the bus must
//! refuse it.
//!
//! Spec: Arm Architecture Reference Manual, "Loads and Stores"; ESR_EL1, "ISS
//! encoding for an exception from a Data Abort".

use rt::arch::gic;
use rt::arch::trap::{Fault, NOTHING_HERE};
use rt::machine::Failure;
use rt::say;

use crate::execute::{Registers, execute, word};
use crate::registers;
use rt::check::{Checked, hold, same};

/// UARTIBRD, of 16 bits, and behind it UARTFBRD, of 6.
const UART: u64 = 0x0900_0024;
/// Where the UART's registers end.
const UART_END: u64 = 0x0900_1000;
/// The machine's slots for virtio devices.
const SLOTS_START: u64 = 0x0a00_0000;
const SLOT_BYTES: u64 = 0x200;
const SLOTS: u64 = 32;
const NOWHERE: u64 = NOTHING_HERE as u64;
/// GICD_IROUTER of interrupt 40.
const ROUTES: usize = 0x6100 + 8 * (40 - 32);

/// What routes keep: affinities and the bit that says any CPU.
const A: u64 = 0x12_0034_5678;
const B: u64 = 0x9a_80bc_de11;
const C: u64 = 0x01_8002_0304;
const D: u64 = 0x05_0006_0708;

const EC_UNKNOWN: usize = 0;
const EC_DATA_ABORT: usize = 0x25;
const EXTERNAL_ABORT: usize = 0x10;
const ALIGNMENT_FAULT: usize = 0x21;
const UNSUPPORTED_ACCESS: usize = 0x35;
const IS_WRITE: usize = 1 << 6;

/// Runs all of them.
pub fn run() -> Checked {
    words()?;
    if gic::is_v3()? {
        let routes = (gic::distributor()? + ROUTES) as u64;
        doublewords(routes)?;
        vectors(routes)?;
        not_for_devices(routes)?;
    }
    slots()?;
    nowhere()?;
    hints()
}

/// The slots for virtio devices are there, and say that nothing is in them.
fn slots() -> Checked {
    let read = |address| done("a slot", word!("ldp w3, w4, [x0]"), with(address, 0, 0));
    for slot in 0..SLOTS {
        let at = SLOTS_START + slot * SLOT_BYTES;
        same("a slot's magic number", read(at)?.x[3], 0x7472_6976)?;
        same("a slot's version", read(at)?.x[4], 1)?;
        same("a slot's device", read(at + 8)?.x[3], 0)?;
    }
    let mut registers = with(SLOTS_START + SLOTS * SLOT_BYTES, 0, 0);
    let behind = execute(word!("ldr w3, [x0]"), &mut registers);
    hold("nothing behind the slots", behind.is_some())?;
    say!("slots passed");
    Ok(())
}

/// Executes what must have no fault.
fn done(what: &'static str, word: u32, mut registers: Registers) -> Result<Registers, Failure> {
    match execute(word, &mut registers) {
        None => Ok(registers),
        Some(fault) => {
            say!("{what}: {fault:x?}");
            Err(Failure(what))
        }
    }
}

fn with(x0: u64, x1: u64, x2: u64) -> Registers {
    Registers {
        x: [x0, x1, x2, 0x33, 0x44, 0x10, 0, 0],
        ..Registers::default()
    }
}

/// Bytes, halfwords and words, single and in pairs.
#[expect(clippy::too_many_lines, reason = "a line or two for each form")]
fn words() -> Checked {
    let put = |a, b| done("stp w", word!("stp w1, w2, [x0]"), with(UART, a, b));
    let pair = |what, registers: Registers, address| {
        same(what, registers.x[3], 0x1234)?;
        same(what, registers.x[4], 0x2a)?;
        same(what, registers.x[0], address)
    };
    put(0x1234, 0x2a)?;
    let got = done("ldp w", word!("ldp w3, w4, [x0]"), with(UART, 0, 0))?;
    pair("ldp w", got, UART)?;
    let got = done("ldp post", word!("ldp w3, w4, [x0], #8"), with(UART, 0, 0))?;
    pair("ldp post", got, UART + 8)?;
    let got = done(
        "ldp pre",
        word!("ldp w3, w4, [x0, #-16]!"),
        with(UART + 16, 0, 0),
    )?;
    pair("ldp pre", got, UART)?;
    let got = done("ldnp", word!("ldnp w3, w4, [x0]"), with(UART, 0, 0))?;
    pair("ldnp", got, UART)?;
    let got = done("ldpsw", word!("ldpsw x3, x4, [x0]"), with(UART, 0, 0))?;
    pair("ldpsw", got, UART)?;

    done(
        "stp post",
        word!("stp w1, wzr, [x0], #4"),
        with(UART, 0x8001, 0),
    )?;
    let single = |what, word, x0, value, after| {
        let got = done(what, word, with(x0, 0, 0))?;
        same(what, got.x[3], value)?;
        same(what, got.x[0], after)
    };
    single(
        "ldr w post",
        word!("ldr w3, [x0], #4"),
        UART,
        0x8001,
        UART + 4,
    )?;
    single(
        "ldr w pre",
        word!("ldr w3, [x0, #-4]!"),
        UART + 8,
        0,
        UART + 4,
    )?;
    single("ldrh", word!("ldrh w3, [x0], #2"), UART, 0x8001, UART + 2)?;
    single(
        "ldrsh x",
        word!("ldrsh x3, [x0], #2"),
        UART,
        0xffff_ffff_ffff_8001,
        UART + 2,
    )?;
    single(
        "ldrsh w",
        word!("ldrsh w3, [x0], #2"),
        UART,
        0xffff_8001,
        UART + 2,
    )?;
    single("ldrsw", word!("ldrsw x3, [x0], #4"), UART, 0x8001, UART + 4)?;
    single("ldrb", word!("ldrb w3, [x0], #1"), UART, 1, UART + 1)?;
    single("ldar w", word!("ldar w3, [x0]"), UART, 0x8001, UART)?;
    single("ldarh", word!("ldarh w3, [x0]"), UART, 0x8001, UART)?;
    single(
        "ldursh",
        word!("ldursh w3, [x0, #-4]"),
        UART + 4,
        0xffff_8001,
        UART + 4,
    )?;
    single(
        "ldr indexed",
        word!("ldr w3, [x0, x5]"),
        UART - 16,
        0x8001,
        UART - 16,
    )?;

    let stored = |what, word, value| {
        let after = done(what, word, with(UART, 0xffff_1234_0000_00fe, 0))?;
        same(what, after.x[0], UART)?;
        let got = done(what, word!("ldp w3, w4, [x0]"), with(UART, 0, 0))?;
        same(what, got.x[3], value)
    };
    stored("stlr", word!("stlr w1, [x0]"), 0xfe)?;
    put(0, 0)?;
    stored("stlrh", word!("stlrh w1, [x0]"), 0xfe)?;
    let ordered = registers::field(registers::ISAR1, 20);
    if ordered > 0 {
        single("ldapr", word!("ldaprb w3, [x0]"), UART, 0xfe, UART)?;
    }
    if ordered > 1 {
        let four_before = UART - 4;
        single(
            "ldapur",
            word!("ldapur w3, [x0, #4]"),
            four_before,
            0xfe,
            four_before,
        )?;
        put(0, 0)?;
        stored("stlur", word!("stlurh w1, [x0]"), 0xfe)?;
    }
    let after = done(
        "strh",
        word!("strh w1, [x0, #-2]!"),
        with(UART + 2, 0x5678, 0),
    )?;
    same("strh", after.x[0], UART)?;
    single("strh", word!("ldr w3, [x0], #4"), UART, 0x5678, UART + 4)?;
    say!("words passed");
    Ok(())
}

/// 64 bits, single and in pairs, also on the stack pointer.
fn doublewords(routes: u64) -> Checked {
    done("stp x", word!("stp x1, x2, [x0]"), with(routes, A, B))?;
    let got = done("ldp x", word!("ldp x3, x4, [x0], #16"), with(routes, 0, 0))?;
    same("ldp x", got.x[3], A)?;
    same("ldp x", got.x[4], B)?;
    same("ldp x", got.x[0], routes + 16)?;
    let got = done(
        "ldpsw high",
        word!("ldpsw x3, x4, [x0, #8]"),
        with(routes, 0, 0),
    )?;
    same("ldpsw high", got.x[3], 0xffff_ffff_80bc_de11)?;
    same("ldpsw high", got.x[4], 0x9a)?;
    let got = done("ldr x", word!("ldr x3, [x0, #8]!"), with(routes, 0, 0))?;
    same("ldr x", got.x[3], B)?;
    same("ldr x", got.x[0], routes + 8)?;
    done("str x", word!("str x1, [x0], #8"), with(routes, C, 0))?;
    done("stlr x", word!("stlr x1, [x0]"), with(routes + 8, D, 0))?;
    let on_stack = Registers {
        sp: routes,
        ..Registers::default()
    };
    let got = done("ldp sp", word!("ldp x3, x4, [sp], #16"), on_stack)?;
    same("ldp sp", got.x[3], C)?;
    same("ldp sp", got.x[4], D)?;
    same("ldp sp", got.sp, routes + 16)?;
    say!("doublewords passed");
    Ok(())
}

/// SIMD registers of every size.
fn vectors(routes: u64) -> Checked {
    let q = [[A, B], [C, D], [!A, !B], [!C, !D]];
    let at = |x0| Registers {
        q,
        ..with(x0, 0, 2)
    };
    let loaded = |what, word, x0, expected: [[u64; 2]; 2]| {
        let got = done(what, word, at(x0))?;
        hold(what, got.q[2..] == expected)
    };
    done("stp q", word!("stp q0, q1, [x0], #32"), at(routes))?;
    loaded("ldp q", word!("ldp q2, q3, [x0]"), routes, [[A, B], [C, D]])?;
    loaded(
        "ldp d",
        word!("ldp d2, d3, [x0, #16]"),
        routes,
        [[C, 0], [D, 0]],
    )?;
    loaded(
        "ldp s",
        word!("ldp s2, s3, [x0]"),
        routes,
        [[A & 0xffff_ffff, 0], [A >> 32, 0]],
    )?;
    loaded("ldr q", word!("ldr q2, [x0, #16]!"), routes, [[C, D], q[3]])?;
    loaded(
        "ldr q indexed",
        word!("ldr q2, [x0, x2, lsl #4]"),
        routes - 16,
        [[C, D], q[3]],
    )?;
    loaded("ldur d", word!("ldur d2, [x0, #8]"), routes, [[B, 0], q[3]])?;
    loaded(
        "ldr s",
        word!("ldr s2, [x0], #4"),
        routes,
        [[A & 0xffff_ffff, 0], q[3]],
    )?;
    done("str q", word!("str q1, [x0]"), at(routes))?;
    done("str d", word!("str d0, [x0, #16]!"), at(routes))?;
    loaded(
        "str q, str d",
        word!("ldp q2, q3, [x0]"),
        routes,
        [[C, D], [A, D]],
    )?;
    loaded("ldr h", word!("ldr h2, [x0]"), UART, [[0x5678, 0], q[3]])?;
    loaded("ldr b", word!("ldr b2, [x0]"), UART, [[0x78, 0], q[3]])?;
    say!("vectors passed");
    Ok(())
}

/// Exclusives, atomics and structures: done right, or refused by the bus.
fn not_for_devices(routes: u64) -> Checked {
    let forms = [
        ("ldxr", word!("ldxr x3, [x0]")),
        ("ldaxp", word!("ldaxp x3, x4, [x0]")),
        ("stxr", word!("stxr w3, x1, [x0]")),
        ("stlxp", word!("stlxp w3, x1, x2, [x0]")),
        ("ldadd", word!("ldadd x1, x3, [x0]")),
        ("swpal", word!("swpal x1, x3, [x0]")),
        ("cas", word!("cas x1, x2, [x0]")),
        ("casp", word!("casp x2, x3, x4, x5, [x0]")),
        ("stset", word!("stset x1, [x0]")),
        ("ld1", word!("ld1 {{v2.16b}}, [x0]")),
        ("st1", word!("st1 {{v0.16b, v1.16b}}, [x0], #32")),
        ("ld4", word!("ld4 {{v0.8b, v1.8b, v2.8b, v3.8b}}, [x0]")),
        ("ld1r", word!("ld1r {{v2.2d}}, [x0], #8")),
        ("dc zva", word!("dc zva, x0")),
        ("ldr off its place", word!("ldr x3, [x0, x5]")),
    ];
    for (what, word) in forms {
        let mut registers = with(routes, A, B);
        registers.x[5] = 3;
        if let Some(fault) = execute(word, &mut registers) {
            refused(
                what,
                fault,
                &[EXTERNAL_ABORT, ALIGNMENT_FAULT, UNSUPPORTED_ACCESS],
            )?;
            same(what, registers.x[0], routes)?;
        }
    }
    say!("exclusives and atomics passed");
    Ok(())
}

fn refused(what: &'static str, fault: Fault, causes: &[usize]) -> Checked {
    let is_right = match fault.code >> 26 {
        EC_DATA_ABORT => causes.contains(&(fault.code & 0x3f)),
        // An older CPU does not have it.
        class => class == EC_UNKNOWN && causes.len() > 1,
    };
    if !is_right {
        say!("{what}: {fault:x?}");
    }
    hold(what, is_right)
}

/// What nobody answers is an external abort that says where and which way.
fn nowhere() -> Checked {
    let forms = [
        ("a read of nothing", word!("ldr w3, [x0]"), 0),
        ("a write of nothing", word!("strb w1, [x0]"), IS_WRITE),
        ("a pair of nothing", word!("ldp x3, x4, [x0], #16"), 0),
        (
            "a pair to nothing",
            word!("stp x1, x2, [x0, #0]!"),
            IS_WRITE,
        ),
        ("a vector of nothing", word!("ldr q2, [x0]"), 0),
        ("a vector to nothing", word!("str q2, [x0], #16"), IS_WRITE),
        ("an acquire of nothing", word!("ldar x3, [x0]"), 0),
        ("a release to nothing", word!("stlr x1, [x0]"), IS_WRITE),
    ];
    for (what, word, direction) in forms {
        let mut registers = with(NOWHERE, A, B);
        let fault = execute(word, &mut registers).ok_or(Failure(what))?;
        refused(what, fault, &[EXTERNAL_ABORT])?;
        same(what, fault.code & IS_WRITE, direction)?;
        same(what, fault.address, NOTHING_HERE)?;
        hold(
            what,
            registers == with_sp(with(NOWHERE, A, B), registers.sp),
        )?;
    }
    let what = "a pair across the end of a device";
    let mut registers = with(UART_END - 8, 0, 0);
    let fault = execute(word!("ldp x3, x4, [x0]"), &mut registers).ok_or(Failure(what))?;
    refused(what, fault, &[EXTERNAL_ABORT])?;
    same(what, registers.x[0], UART_END - 8)?;
    say!("accesses of nothing passed");
    Ok(())
}

fn with_sp(registers: Registers, sp: u64) -> Registers {
    Registers { sp, ..registers }
}

/// Hints and cache maintenance have no effect on devices, and none on nothing.
fn hints() -> Checked {
    for at in [UART, NOWHERE] {
        done("prfm", word!("prfm pldl1keep, [x0]"), with(at, 0, 0))?;
        done("dc civac", word!("dc civac, x0"), with(at, 0, 0))?;
        done("dc cvac", word!("dc cvac, x0"), with(at, 0, 0))?;
        done("ic ivau", word!("ic ivau, x0"), with(at, 0, 0))?;
        done("at s1e1r", word!("at s1e1r, x0"), with(at, 0, 0))?;
    }
    done("wfe", word!("wfe"), with(0, 0, 0))?;
    say!("hints passed");
    Ok(())
}
