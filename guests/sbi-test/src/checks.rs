// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the suite leaves out: errors, sleep, counters, features, stolen time.
//!
//! Called after the suite, with every other hart stopped. One function for each
//! extension; those that an older firmware has not are said to be missing.
//!
//! Spec: RISC-V SBI; the names of the checks are the chapters' abbreviations.

use rt::{
    arch::{timer, trap},
    machine::{Failure, Machine},
    say,
};

use crate::call::{Answer, SLEPT, call, cycles, instructions, legacy, listen_to_timer_only, sleep};

const BASE: usize = 0x10;
const TIME: usize = 0x5449_4d45;
const IPI: usize = 0x73_5049;
const RFENCE: usize = 0x5246_4e43;
const HSM: usize = 0x48_534d;
const SRST: usize = 0x5352_5354;
const PMU: usize = 0x50_4d55;
const SUSP: usize = 0x5355_5350;
const STA: usize = 0x53_5441;
const FWFT: usize = 0x4657_4654;
const LEGACY_SEND_IPI: usize = 4;
const LEGACY_FENCE_I: usize = 5;
const LEGACY_SFENCE: usize = 6;
const LEGACY_SFENCE_ASID: usize = 7;

const NOT_SUPPORTED: isize = -2;
const INVALID_PARAM: isize = -3;
const DENIED: isize = -4;
const INVALID_ADDRESS: isize = -5;
const ALREADY_AVAILABLE: isize = -6;
const ALREADY_STARTED: isize = -7;
const ALREADY_STOPPED: isize = -8;
const NO_SHMEM: isize = -9;

/// The implementation's id.
const AXHIVE: usize = 0x4178;
const VERSION_2: usize = 2 << 24;
const LOAD_ACCESS_FAULT: usize = 5;
const NOWHERE: usize = trap::NOTHING_HERE;
/// Harts that no machine of ours has.
const NO_HART: usize = 60;
const NAP_NS: u64 = 20_000_000;

type Checked = Result<(), Failure>;

/// Runs all checks.
pub fn run(machine: &Machine) -> Checked {
    let version = call(BASE, 0, [0; 5]).value;
    let hart = machine.cpus.first().map_or(0, |hart| hart.0 as usize);
    unknown_calls()?;
    hsm(hart)?;
    rfence(hart)?;
    legacy_calls(hart)?;
    if version < VERSION_2 {
        say!("SBI before 2.0: the rest is not asked");
        return Ok(());
    }
    strict_hsm()?;
    strict_rfence(hart)?;
    if_present("PMU", PMU, pmu)?;
    if_present("STA", STA, steal_time)?;
    if_present("FWFT", FWFT, features)?;
    if_present("SUSP", SUSP, system_suspend)
}

fn if_present(name: &str, extension: usize, check: fn() -> Checked) -> Checked {
    if call(BASE, 3, [extension, 0, 0, 0, 0]).value == 0 {
        say!("no {name}");
        return Ok(());
    }
    check()?;
    say!("{name} passed");
    Ok(())
}

/// Asks, and fails unless the answer is this error (or 0).
fn expect(what: &'static str, answer: Answer, error: isize) -> Result<usize, Failure> {
    if answer.error != error {
        say!("{what}: {answer:?}, not {error}");
        return Err(Failure(what));
    }
    Ok(answer.value)
}

fn hold(what: &'static str, is_true: bool) -> Checked {
    match is_true {
        true => Ok(()),
        false => Err(Failure(what)),
    }
}

fn unknown_calls() -> Checked {
    for (extension, function) in [(0x0666_0666, 0), (BASE, 77), (TIME, 1), (IPI, 1), (HSM, 9)] {
        let answer = call(extension, function, [0; 5]);
        expect("an unknown call", answer, NOT_SUPPORTED)?;
    }
    let answer = call(SRST, 0, [7, 0, 0, 0, 0]);
    expect("an unknown reset", answer, INVALID_PARAM)?;
    say!("unknown calls passed");
    Ok(())
}

fn hsm(hart: usize) -> Checked {
    let entry = hsm as *const () as usize;
    let status = |hart| call(HSM, 2, [hart, 0, 0, 0, 0]);
    expect("a status of nobody", status(NO_HART), INVALID_PARAM)?;
    hold("a running hart", expect("a status", status(hart), 0)? == 0)?;
    let start = |hart, entry| call(HSM, 0, [hart, entry, 0, 0, 0]);
    expect("a start of nobody", start(NO_HART, entry), INVALID_PARAM)?;
    expect("a second start", start(hart, entry), ALREADY_AVAILABLE)?;
    for kind in [1, 0x0fff_ffff, 0x8000_0001] {
        let answer = call(HSM, 3, [kind, entry, 0, 0, 0]);
        expect("a reserved sleep", answer, INVALID_PARAM)?;
    }
    nap("a sleep that keeps state", || {
        call(HSM, 3, [0, 0, 0, 0, 0]).error
    })?;
    nap("a sleep that loses state", || {
        match sleep(HSM, 3, 0x8000_0000) {
            SLEPT => 0,
            error => error,
        }
    })?;
    say!("HSM passed");
    Ok(())
}

/// Sleeps until the timer wakes this hart.
fn nap(what: &'static str, sleep: impl Fn() -> isize) -> Checked {
    listen_to_timer_only();
    let begin = rt::wait::now_ns();
    timer::arm_ns(NAP_NS);
    let error = sleep();
    trap::init();
    let slept_ns = rt::wait::now_ns().saturating_sub(begin);
    timer::disarm();
    if error != 0 || slept_ns < NAP_NS {
        say!("{what}: error {error}, {slept_ns} ns");
        return Err(Failure(what));
    }
    Ok(())
}

/// Tells whether the firmware is AxHive's.
pub fn is_axhive() -> bool {
    call(BASE, 1, [0; 5]).value == AXHIVE
}

fn rfence(hart: usize) -> Checked {
    let fence = |function, mask, base| call(RFENCE, function, [mask, base, 0, 0, 0]);
    for function in 0..3 {
        expect("a fence of this hart", fence(function, 1, hart), 0)?;
        expect("a fence of all harts", fence(function, 0, usize::MAX), 0)?;
        let nobody = fence(function, 1, NO_HART);
        expect("a fence of nobody", nobody, INVALID_PARAM)?;
    }
    // Firmware of a machine whose supervisor has guests of its own carries them out.
    for function in (3..7).filter(|_| is_axhive()) {
        expect("a fence of guests", fence(function, 1, hart), NOT_SUPPORTED)?;
    }
    let page = call(RFENCE, 1, [1, hart, 0x1000, 0x2000, 0]);
    expect("a fence of two pages", page, 0)?;
    let all = call(RFENCE, 2, [1, hart, 0, usize::MAX, 1]);
    expect("a fence of an address space", all, 0)?;
    say!("RFENCE passed");
    Ok(())
}

fn strict_hsm() -> Checked {
    let sleep = call(HSM, 3, [0x8000_0000, NOWHERE, 0, 0, 0]);
    expect("a sleep that ends nowhere", sleep, INVALID_ADDRESS)?;
    let start = call(HSM, 0, [1, NOWHERE, 0, 0, 0]);
    hold("a start that leads nowhere", start.error < 0)
}

fn strict_rfence(hart: usize) -> Checked {
    let beyond = call(RFENCE, 1, [1, hart, usize::MAX - 0xfff, 0x2000, 0]);
    expect("a fence that wraps", beyond, INVALID_ADDRESS)?;
    for (mask, base) in [(1, 64), (usize::MAX, 0), (1 << 63, 1)] {
        let answer = call(IPI, 0, [mask, base, 0, 0, 0]);
        expect("an IPI to nobody", answer, INVALID_PARAM)?;
    }
    Ok(())
}

fn legacy_calls(hart: usize) -> Checked {
    let mask = 1_usize << hart;
    let pointer = (&raw const mask).addr();
    let calls = [
        LEGACY_SEND_IPI,
        LEGACY_FENCE_I,
        LEGACY_SFENCE,
        LEGACY_SFENCE_ASID,
    ];
    for extension in calls {
        if legacy(extension, pointer) != Ok(0) {
            return Err(Failure("a legacy call with a mask"));
        }
        match legacy(extension, NOWHERE) {
            Err(trap) if trap.cause == LOAD_ACCESS_FAULT && trap.value == NOWHERE => {}
            other => {
                say!("a mask that is nowhere: {other:x?}");
                return Err(Failure("a legacy call with a mask that is nowhere"));
            }
        }
    }
    listen_to_timer_only();
    say!("legacy calls passed");
    Ok(())
}

fn pmu() -> Checked {
    const SET_TIMER: usize = 0xf_0005;
    const CYCLES: usize = 1;
    const CLEAR: usize = 1 << 1;
    const FROM: usize = 1 << 60;
    let count = expect("the number of counters", call(PMU, 0, [0; 5]), 0)?;
    let all = usize::MAX >> (64 - count);
    let info = call(PMU, 1, [count, 0, 0, 0, 0]);
    expect("a counter beyond", info, INVALID_PARAM)?;

    let matching = |event| call(PMU, 2, [0, all, CLEAR, event, 0]);
    let firmware = expect("a firmware counter", matching(SET_TIMER), 0)?;
    let start = |number, flags, value| call(PMU, 3, [number, 1, flags, value, 0]);
    let stop = |number, flags| call(PMU, 4, [number, 1, flags, 0, 0]);
    let read = |number| call(PMU, 5, [number, 0, 0, 0, 0]);
    expect("a start", start(firmware, 1, 10), 0)?;
    expect("a second start", start(firmware, 0, 0), ALREADY_STARTED)?;
    (0..3).for_each(|_| timer::disarm());
    let told = expect("a firmware counter's value", read(firmware), 0)?;
    hold("three timers set", told == 13)?;
    expect("a snapshot", stop(firmware, 2), NO_SHMEM)?;
    expect("a stop", stop(firmware, 0), 0)?;
    expect("a second stop", stop(firmware, 1), ALREADY_STOPPED)?;

    let fixed = expect("a counter of cycles", matching(CYCLES), 0)?;
    expect("a start of cycles", start(fixed, 1, FROM), 0)?;
    let (first, second) = (cycles(), cycles());
    hold("cycles that count", FROM < first && first < second)?;
    hold("cycles from where they start", second < FROM + (1 << 36))?;
    expect("a firmware read of cycles", read(fixed), INVALID_PARAM)?;
    expect("a stop of cycles", stop(fixed, 0), 0)?;
    hold("cycles that stand still", cycles() == cycles())?;
    expect("cycles given back", stop(fixed, 1), ALREADY_STOPPED)?;
    let (first, second) = (cycles(), cycles());
    hold("cycles that run free", first < second && second < FROM)?;
    expect("an unknown event", matching(0x2_0000), NOT_SUPPORTED)?;
    counted_instructions(all)
}

/// Between two readings of the counter are two instructions, or a few.
fn counted_instructions(all: usize) -> Checked {
    const INSTRUCTIONS: usize = 2;
    let found = call(PMU, 2, [0, all, 1 << 1, INSTRUCTIONS, 0]);
    let fixed = expect("a counter of instructions", found, 0)?;
    let start = call(PMU, 3, [fixed, 1, 1, 1000, 0]);
    expect("a start of instructions", start, 0)?;
    let (first, second) = (instructions(), instructions());
    hold("instructions that count", first >= 1000 && first < second)?;
    let stop = call(PMU, 4, [fixed, 1, 1, 0, 0]);
    expect("a stop of instructions", stop, 0).map(drop)
}

/// What the firmware writes for STA.
#[repr(C, align(64))]
struct Record([u8; 64]);

fn steal_time() -> Checked {
    const SEQUENCE_AND_FLAGS: core::ops::Range<usize> = 0..8;
    let mut record = Record([0xff; 64]);
    let at = (&raw mut record).addr();
    let set = |low, high, flags| call(STA, 0, [low, high, flags, 0, 0]);
    expect("a flag", set(at, 0, 1), INVALID_PARAM)?;
    expect("a record off its place", set(at + 8, 0, 0), INVALID_PARAM)?;
    expect("a record nowhere", set(NOWHERE, 0, 0), INVALID_ADDRESS)?;
    expect("a record above all", set(at, 1, 0), INVALID_ADDRESS)?;
    expect("a record", set(at, 0, 0), 0)?;
    expect("no record", set(usize::MAX, usize::MAX, 0), 0)?;
    // SAFETY: the record is ours, and the firmware was just told to leave it.
    let bytes = unsafe { (&raw const record).read_volatile() }.0;
    let is_even = bytes[0] & 1 == 0;
    hold("a record that is whole", is_even)?;
    hold("a zeroed record", bytes[24..].iter().all(|byte| *byte == 0))?;
    say!("record {:x?}", &bytes[SEQUENCE_AND_FLAGS]);
    Ok(())
}

fn features() -> Checked {
    let get = |feature| call(FWFT, 1, [feature, 0, 0, 0, 0]);
    for feature in 0..6 {
        let answer = get(feature);
        let is_known = [0, NOT_SUPPORTED].contains(&answer.error);
        hold("a feature", is_known)?;
        let answer = call(FWFT, 0, [feature, usize::MAX, 0, 0, 0]);
        let is_refused = [INVALID_PARAM, NOT_SUPPORTED].contains(&answer.error);
        hold("a feature with a value that it cannot have", is_refused)?;
    }
    expect("a reserved feature", get(6), DENIED)?;
    expect("a platform's feature", get(0x4000_0000), DENIED).map(drop)
}

fn system_suspend() -> Checked {
    let entry = system_suspend as *const () as usize;
    let ask = |kind, resume| call(SUSP, 0, [kind, resume, 0, 0, 0]);
    expect("a reserved sleep", ask(1, entry), INVALID_PARAM)?;
    expect(
        "a sleep that ends nowhere",
        ask(0, NOWHERE),
        INVALID_ADDRESS,
    )?;
    nap("the machine's sleep", || match sleep(SUSP, 0, 0) {
        SLEPT => 0,
        error => error,
    })
}
