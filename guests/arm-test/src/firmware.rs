// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! PSCI, the SMC Calling Convention, random numbers and stolen time.
//!
//! What a firmware has not is said to be missing; what it says to have is asked
//! for all that its specification promises.
//!
//! Spec: Arm PSCI (DEN 0022), SMC Calling Convention (DEN 0028), TRNG Firmware
//! Interface (DEN 0098), Paravirtualized Time (DEN 0057).

use rt::arch::gic;
use rt::arch::irq::VIRTUAL_TIMER;
use rt::arch::{power, timer};
use rt::firmware::arm::Conduit;
use rt::machine::{Failure, Machine};
use rt::{say, wait};

use crate::call::{SLEPT, ask, call, call_smc, sleep};
use crate::execute::{Registers, execute, word};
use rt::check::{Checked, hold, same};

const VERSION: u64 = 0x8400_0000;
const SUSPEND: u64 = 0xc400_0001;
const CPU_ON: u64 = 0xc400_0003;
const CPU_ON_32: u64 = 0x8400_0003;
const AFFINITY_INFO: u64 = 0xc400_0004;
const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
const FEATURES: u64 = 0x8400_000a;
const SYSTEM_SUSPEND: u64 = 0xc400_000e;
const SYSTEM_RESET2: u64 = 0xc400_0012;
const SMCCC_VERSION: u64 = 0x8000_0000;
const SMCCC_FEATURES: u64 = 0x8000_0001;
const TRNG_VERSION: u64 = 0x8400_0050;
const PV_TIME_FEATURES: u64 = 0xc500_0020;
const PV_TIME_ST: u64 = 0xc500_0021;

const NOT_SUPPORTED: i64 = -1;
const INVALID_PARAMETERS: i64 = -2;
const DENIED: i64 = -3;
const ALREADY_ON: i64 = -4;
const INVALID_ADDRESS: i64 = -9;

const POWER_DOWN: u64 = 1 << 16;
const NO_CPU: u64 = 0x7f_0000;
const NAP_NS: u64 = 20_000_000;

/// Asks all of it.
pub fn run(machine: &Machine) -> Checked {
    psci(machine)?;
    sleeps()?;
    if ask(FEATURES, [SMCCC_VERSION, 0, 0]) != 0 {
        say!("no SMCCC");
        return Ok(());
    }
    conventions()?;
    random()?;
    stolen_time()
}

fn expect(what: &'static str, answer: i64, expected: i64) -> Checked {
    same(what, answer, expected)
}

#[expect(clippy::too_many_lines, reason = "a line or two for each call")]
fn psci(machine: &Machine) -> Checked {
    hold("PSCI 1.1", ask(VERSION, [0; 3]) >= 0x1_0001)?;
    for function in [
        SUSPEND,
        CPU_ON,
        CPU_ON_32,
        AFFINITY_INFO,
        0x8400_0002,
        0x8400_0008,
        0x8400_0009,
    ] {
        expect(
            "a call that every PSCI has",
            ask(FEATURES, [function, 0, 0]),
            0,
        )?;
    }
    for function in [0x8400_001f, 0x8600_0000, 0xc400_0000] {
        expect(
            "a call that none has",
            ask(FEATURES, [function, 0, 0]),
            NOT_SUPPORTED,
        )?;
        expect("a call that none has", ask(function, [0; 3]), NOT_SUPPORTED)?;
    }
    hold(
        "MIGRATE_INFO_TYPE",
        [2, NOT_SUPPORTED].contains(&ask(MIGRATE_INFO_TYPE, [0; 3])),
    )?;
    let own = machine.cpus.first().map_or(0, |cpu| cpu.0);
    expect(
        "a start of nobody",
        ask(CPU_ON, [NO_CPU, 0x4020_0000, 0]),
        INVALID_PARAMETERS,
    )?;
    expect(
        "a second start",
        ask(CPU_ON, [own, 0x4020_0000, 0]),
        ALREADY_ON,
    )?;
    expect("a state", ask(AFFINITY_INFO, [own, 0, 0]), 0)?;
    expect(
        "a state of nobody",
        ask(AFFINITY_INFO, [NO_CPU, 0, 0]),
        INVALID_PARAMETERS,
    )?;
    if let Some(other) = machine.cpus.get(1) {
        expect(
            "a state of who is off",
            ask(AFFINITY_INFO, [other.0, 0, 0]),
            1,
        )?;
        // A firmware may find this out only by trying.
        let nowhere = ask(CPU_ON_32, [NO_CPU, 0, 0]);
        expect("a start of nobody, in 32 bits", nowhere, INVALID_PARAMETERS)?;
    }
    if ask(FEATURES, [SYSTEM_RESET2, 0, 0]) == 0 {
        expect(
            "an unknown reset",
            ask(SYSTEM_RESET2, [1, 0, 0]),
            INVALID_PARAMETERS,
        )?;
        let vendor = ask(SYSTEM_RESET2, [1 << 31, 0, 0]);
        hold(
            "a vendor's reset",
            [NOT_SUPPORTED, INVALID_PARAMETERS].contains(&vendor),
        )?;
        hyper_only(machine)?;
    } else {
        say!("no SYSTEM_RESET2");
    }
    say!("PSCI passed");
    Ok(())
}

/// What a firmware of version 1.1 checks, too.
fn hyper_only(machine: &Machine) -> Checked {
    let Some(other) = machine.cpus.get(1) else {
        return Ok(());
    };
    let nowhere = ask(CPU_ON, [other.0, 0x0b00_0000, 0]);
    expect("a start that leads nowhere", nowhere, INVALID_ADDRESS)?;
    expect(
        "a level of affinity",
        ask(AFFINITY_INFO, [0, 1, 0]),
        INVALID_PARAMETERS,
    )?;
    if power::conduit() == Conduit::Hvc {
        // Its own instruction may be the other one, and must not be forwarded.
        let [version, ..] = call_smc(VERSION, [0; 3]);
        same(
            "PSCI by the other instruction",
            version as i64,
            ask(VERSION, [0; 3]),
        )?;
    }
    Ok(())
}

/// Sleeps that the timer ends: standing by, powered down, and of the machine.
fn sleeps() -> Checked {
    gic::init_cpu(1 << VIRTUAL_TIMER)?;
    expect(
        "a reserved sleep",
        ask(SUSPEND, [1 << 31, 0, 0]),
        INVALID_PARAMETERS,
    )?;
    nap("standing by", || ask(SUSPEND, [0, 0, 0]))?;
    if power::conduit() != Conduit::Hvc {
        return Ok(());
    }
    nap("powered down", || match sleep(SUSPEND, POWER_DOWN, false) {
        SLEPT => 0,
        error => error,
    })?;
    if ask(FEATURES, [SYSTEM_SUSPEND, 0, 0]) != 0 {
        say!("no SYSTEM_SUSPEND");
        return Ok(());
    }
    nap("the machine's sleep", || {
        match sleep(SYSTEM_SUSPEND, 0, true) {
            SLEPT => 0,
            error => error,
        }
    })?;
    let nowhere = ask(SYSTEM_SUSPEND, [0x0b00_0000, 0, 0]);
    expect("a sleep that ends nowhere", nowhere, INVALID_ADDRESS)?;
    say!("SYSTEM_SUSPEND passed");
    Ok(())
}

/// The machine does not sleep while another CPU is on; called with one on.
pub fn denied_sleep() -> Checked {
    if ask(FEATURES, [SYSTEM_SUSPEND, 0, 0]) != 0 {
        return Ok(());
    }
    expect(
        "a sleep with others awake",
        ask(SYSTEM_SUSPEND, [0x4020_0000, 0, 0]),
        DENIED,
    )
}

/// Sleeps until the timer wakes this CPU, or a little less.
fn nap(what: &'static str, sleep: impl Fn() -> i64) -> Checked {
    let begin = wait::now_ns();
    let slept_ns = || wait::now_ns().saturating_sub(begin);
    timer::arm_ns(NAP_NS);
    // A sleep may end for no reason.
    while slept_ns() < NAP_NS {
        expect(what, sleep(), 0)?;
    }
    timer::disarm();
    say!("{what} passed");
    Ok(())
}

fn conventions() -> Checked {
    hold("SMCCC 1.1", ask(SMCCC_VERSION, [0; 3]) >= 0x1_0001)?;
    let told = |function| ask(SMCCC_FEATURES, [function, 0, 0]);
    expect("SMCCC_VERSION", told(SMCCC_VERSION), 0)?;
    expect("SMCCC_ARCH_FEATURES", told(SMCCC_FEATURES), 0)?;
    for workaround in [0x8000_8000, 0x8000_7fff, 0x8000_3fff] {
        match told(workaround) {
            NOT_SUPPORTED | 1 => {}
            0 => expect("a workaround", ask(workaround, [0; 3]), 0)?,
            other => expect("a workaround", other, 0)?,
        }
    }
    // What the registers of a caller that did not ask for an answer are.
    let [answer, x1, x2, x3] = call(0x8000_ffff, [1, 2, 3]);
    same("an unknown call", answer as u32 as i32, -1)?;
    hold("registers of an unknown call", [x1, x2, x3] == [1, 2, 3])?;
    let mut registers = Registers::default();
    hold(
        "HVC with a number",
        execute(word!("hvc #0x123"), &mut registers).is_none(),
    )?;
    say!("SMCCC passed");
    Ok(())
}

fn random() -> Checked {
    const FEATURES: u64 = 0x8400_0051;
    const UUID: u64 = 0x8400_0052;
    const RND_32: u64 = 0x8400_0053;
    const RND_64: u64 = 0xc400_0053;
    if ask(TRNG_VERSION, [0; 3]) < 0x1_0000 {
        say!("no TRNG");
        return Ok(());
    }
    for function in [TRNG_VERSION, FEATURES, UUID, RND_32, RND_64] {
        expect("a call of TRNG", ask(FEATURES, [function, 0, 0]), 0)?;
    }
    hold("TRNG's name", call(UUID, [0; 3])[0] as u32 != u32::MAX)?;
    for (function, bits) in [(RND_64, 0), (RND_64, 193), (RND_32, 0), (RND_32, 97)] {
        let refused = ask(function, [bits, 0, 0]);
        expect("so many random bits", refused, INVALID_PARAMETERS)?;
    }
    let mut seen = [0_u64; 16];
    for (i, slot) in seen.iter_mut().enumerate() {
        let [status, high, middle, low] = call(RND_64, [192, 0, 0]);
        same("random numbers", status, 0)?;
        *slot = high ^ middle.rotate_left(i as u32) ^ low.rotate_right(7);
    }
    let ones: u32 = seen.iter().map(|word| word.count_ones()).sum();
    hold("random bits", (256..768).contains(&ones))?;
    let [_, high, middle, low] = call(RND_64, [65, 0, 0]);
    hold("65 random bits", high == 0 && middle <= 1 && low != 0)?;
    let [_, high, middle, low] = call(RND_32, [33, 0, 0]);
    hold("33 random bits", high == 0 && middle <= 1 && low < 1 << 32)?;
    say!("TRNG passed");
    Ok(())
}

fn stolen_time() -> Checked {
    if ask(SMCCC_FEATURES, [PV_TIME_FEATURES, 0, 0]) != 0 {
        say!("no stolen time");
        return Ok(());
    }
    expect("PV_TIME_ST", ask(PV_TIME_FEATURES, [PV_TIME_ST, 0, 0]), 0)?;
    let unknown = ask(PV_TIME_FEATURES, [PV_TIME_ST + 1, 0, 0]);
    expect("a call that stolen time has not", unknown, NOT_SUPPORTED)?;
    let record = ask(PV_TIME_ST, [0; 3]) as u64;
    hold("a record's place", record != 0 && record.is_multiple_of(64))?;
    let read = |offset: u64| {
        let mut registers = Registers::default();
        registers.x[0] = record + offset;
        match execute(word!("ldr x1, [x0]"), &mut registers) {
            None => Ok(registers.x[1]),
            Some(_) => Err(Failure("a record that cannot be read")),
        }
    };
    same("revision and attributes", read(0)?, 0)?;
    // Time may be stolen between the two.
    let begin = wait::now_ns();
    let before = read(8)?;
    wait::spin_until("time", || wait::now_ns() - begin > NAP_NS)?;
    let after = read(8)?;
    let lost_ns = after.wrapping_sub(before);
    hold("stolen time", lost_ns <= wait::now_ns() - begin)?;
    let mut registers = Registers::default();
    registers.x[0] = record + 8;
    let fault = execute(word!("str xzr, [x0]"), &mut registers);
    hold("a record that can be written", fault.is_some())?;
    say!("stolen time passed");
    Ok(())
}
