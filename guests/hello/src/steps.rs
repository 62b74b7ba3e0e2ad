// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The steps of the sequence in `main`, in its order.
//!
//! Each is called once on the boot CPU, prints what it has seen and fails with
//! what it has not. RAM is checked by writing and restoring, so that nothing
//! that firmware left there is lost.

use core::ptr;

use crate::smp;
use rt::cpu::{self, Stage};
use rt::machine::{Failure, Machine, Region};
use rt::{arch, say, wait};

/// Says what machine this is.
pub fn introduce(machine: &Machine) {
    let boot = cpu::hardware_id(0).0;
    let (mib, cpus) = (machine.memory_mib(), machine.cpus.len());
    say!(
        "{}, boot cpu {boot:#x}, memory {mib} MiB, cpus {cpus}",
        arch::NAME
    );
}

/// Says a line through the firmware's console, if there is one.
pub fn firmware_console() {
    if !arch::console::put_line_by_firmware("hello: firmware console\r\n") {
        say!("no firmware console");
    }
}

/// Takes a timer interrupt while spinning, then one that ends a halt.
pub fn timer() -> Result<(), Failure> {
    arch::irq::unmask();
    smp::timer_interrupt("no timer interrupt")?;
    say!("timer interrupt");
    let before = cpu::current().timers();
    wait::halt_until("no timer interrupt while halted", || {
        cpu::current().timers() != before
    })?;
    say!("timer interrupt woke the halted cpu");
    Ok(())
}

/// Spins for ever with interrupts masked.
pub fn spin() -> ! {
    say!("spinning with interrupts masked");
    arch::irq::mask();
    loop {
        core::hint::spin_loop();
    }
}

/// Starts all other CPUs, sends each an IPI, and sees them stop.
pub fn other_cpus(machine: &Machine) -> Result<(), Failure> {
    let others = 1..machine.cpus.len();
    for index in others.clone() {
        arch::smp::start(index)?;
    }
    for index in others.clone() {
        wait_for(index, Stage::Ticked, "a cpu did not come up")?;
        arch::irq::send_ipi(index)?;
    }
    for index in others.clone() {
        wait_for(index, Stage::Parked, "a cpu did not take its IPI")?;
        wait::halt_until("a cpu did not stop", || arch::smp::is_stopped(index))?;
    }
    if !others.is_empty() {
        say!("other cpus stopped");
    }
    Ok(())
}

fn wait_for(index: usize, stage: Stage, failure: &'static str) -> Result<(), Failure> {
    wait::halt_until(failure, || cpu::record(index).has_reached(stage))
}

const PAGE_BYTES: u64 = 4096;
const PAGES: usize = 8;
const WORDS: usize = 8;

/// Writes and reads a pattern in pages spread over the RAM after the image.
///
/// With `scrubbed` on the command line the pattern stays where nothing was, and may
/// not be there from a boot before.
pub fn memory(machine: &Machine) -> Result<(), Failure> {
    let is_scrubbed = machine.command_line.has("scrubbed");
    let pages = free_pages(machine)?;
    if is_scrubbed && pages.iter().any(|page| holds_pattern(*page)) {
        return Err(Failure("RAM holds what was there before the restart"));
    }
    let mut kept = [[0; WORDS]; PAGES];
    for (page, words) in pages.iter().zip(&mut kept) {
        fill(*page, words);
    }
    let is_good = pages.iter().all(|page| holds_pattern(*page));
    for (page, words) in pages.iter().zip(&kept) {
        if !is_scrubbed || *words != [0; WORDS] {
            restore(*page, words);
        }
    }
    if !is_good {
        return Err(Failure("RAM does not hold what was written"));
    }
    say!("memory check: {PAGES} pages good");
    Ok(())
}

#[cfg_attr(
    target_arch = "riscv64",
    expect(
        clippy::unnecessary_min_or_max,
        reason = "there is no end of the map there"
    )
)]
fn free_pages(machine: &Machine) -> Result<[u64; PAGES], Failure> {
    let image_end = arch::machine::image_end().next_multiple_of(PAGE_BYTES);
    let mut regions = machine.memory.iter();
    let home = regions.find(|region| region.contains(image_end));
    let end = home.map_or(0, Region::end).min(arch::machine::MAPPED_END);
    let step = (end.saturating_sub(image_end) / PAGES as u64) & !(PAGE_BYTES - 1);
    if step == 0 {
        return Err(Failure("no free RAM after the image"));
    }
    Ok(core::array::from_fn(|i| image_end + i as u64 * step))
}

fn word_address(page: u64, word: usize) -> u64 {
    page + word as u64 * (PAGE_BYTES / WORDS as u64)
}

fn pattern(address: u64) -> u64 {
    address ^ 0x5a5a_a5a5_0ff0_f00f
}

fn fill(page: u64, kept: &mut [u64; WORDS]) {
    for (word, old) in kept.iter_mut().enumerate() {
        let address = word_address(page, word);
        *old = peek(address);
        poke(address, pattern(address));
    }
}

fn holds_pattern(page: u64) -> bool {
    (0..WORDS).all(|word| {
        let address = word_address(page, word);
        peek(address) == pattern(address)
    })
}

fn restore(page: u64, kept: &[u64; WORDS]) {
    for (word, old) in kept.iter().enumerate() {
        poke(word_address(page, word), *old);
    }
}

fn peek(address: u64) -> u64 {
    // SAFETY: `free_pages` only gives aligned addresses in RAM, after the image.
    unsafe { ptr::read_volatile(address as *const u64) }
}

fn poke(address: u64, value: u64) {
    // SAFETY: as for `peek`; nothing of this program lives after its image, and
    // the other CPUs have stopped.
    unsafe { ptr::write_volatile(address as *mut u64, value) }
}

// From 2020 to 2100: what a clock that is set can show.
const PLAUSIBLE: core::ops::Range<u64> = 1_577_836_800..4_102_444_800;

/// Says what the wall clock shows.
pub fn wall_clock() {
    match arch::rtc::seconds_since_1970() {
        Some(seconds) if PLAUSIBLE.contains(&seconds) => {
            say!("wall clock {seconds} s since 1970");
        }
        Some(seconds) => say!("wall clock not plausible: {seconds}"),
        None => say!("no wall clock"),
    }
}

/// Reads an address that is neither RAM nor a device and says what came back.
pub fn fault() {
    let address = arch::trap::NOTHING_HERE;
    say!("reading {address:#x}, where nothing is");
    match arch::trap::probe(address) {
        Ok(value) => say!("no fault, read {value:#x}"),
        Err(fault) => say!(
            "fault: {}, code {:#x}, at {:#x}",
            fault.name,
            fault.code,
            fault.address
        ),
    }
}

/// Echoes input lines until one says `quit`.
pub fn echo() -> Result<(), Failure> {
    say!("echo: type lines, quit ends");
    let mut line = heapless::Vec::<u8, 128>::new();
    loop {
        match next_byte()? {
            b'\r' | b'\n' if line.as_slice() == b"quit" => return Ok(()),
            b'\r' | b'\n' => echo_line(&mut line),
            byte => line.push(byte).unwrap_or(()),
        }
    }
}

fn echo_line(line: &mut heapless::Vec<u8, 128>) {
    if !line.is_empty() {
        say!("echo {}", line.escape_ascii());
    }
    line.clear();
}

// A person may take any time to type, so running out of patience is no failure.
fn next_byte() -> Result<u8, Failure> {
    loop {
        if let Some(byte) = arch::console::get() {
            return Ok(byte);
        }
        let before = cpu::current().timers();
        wait::halt_until("no timer interrupt while waiting for input", || {
            cpu::current().timers() != before
        })?;
    }
}
