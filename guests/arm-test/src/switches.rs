// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Two CPUs keep their floating-point registers, wide vectors and breakpoints apart.
//!
//! Each fills all of them with values of its own, and finds them unchanged each
//! time that the other has had its turn. On one physical CPU a turn comes only by
//! a switch. The guest itself is compiled without floating point.
//!
//! Spec: Arm Architecture Reference Manual, "SIMD and floating-point registers",
//! "SVE registers".

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use rt::arch::{self, smp};
use rt::machine::{Failure, Machine};
use rt::say;
use rt::wait;

use crate::debug;
use crate::execute;
use crate::firmware;
use crate::registers;
use rt::check::{Checked, hold};

/// Room for vectors of 2048 bits, predicates and the first-fault register.
const WORDS: usize = (32 * 256 + 17 * 32) / 8;
const ROUNDS: u32 = 6;
const OTHER: usize = 1;

global_asm!(
    r#"
    .arch_extension simd
    .arch_extension sve
    .pushsection .text.switches, "ax"
    .globl  float_fill
float_fill:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    dup     v\n\().16b, w0
    add     w0, w0, #3
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    dup     v\n\().16b, w0
    add     w0, w0, #3
    .endr
    ret

    .globl  float_dump
float_dump:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     q\n, [x0], #16
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str     q\n, [x0], #16
    .endr
    ret

    .globl  vectors_fill
vectors_fill:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    dup     z\n\().b, w0
    add     w0, w0, #3
    whilelt p\n\().b, xzr, x0
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    dup     z\n\().b, w0
    add     w0, w0, #3
    .endr
    wrffr   p3.b
    ret

    .globl  vectors_dump
vectors_dump:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     z\n, [x0, #\n, mul vl]
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str     z\n, [x0, #\n, mul vl]
    .endr
    addvl   x0, x0, #31
    addvl   x0, x0, #1
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     p\n, [x0, #\n, mul vl]
    .endr
    rdffr   p15.b
    str     p15, [x0, #16, mul vl]
    ldr     p15, [x0, #15, mul vl]
    ret
    .popsection
    "#
);

unsafe extern "C" {
    fn float_fill(seed: u64);
    fn float_dump(to: *mut u64);
    fn vectors_fill(seed: u64);
    fn vectors_dump(to: *mut u64);
}

/// Registers that are filled and looked at.
struct Unit {
    fill: unsafe extern "C" fn(u64),
    dump: unsafe extern "C" fn(*mut u64),
}

/// Where each CPU stores its registers: too much for its stack.
#[repr(C, align(16))]
struct Image(UnsafeCell<[u64; WORDS]>);

// SAFETY: each CPU uses only its own.
unsafe impl Sync for Image {}

static IMAGES: [Image; 2] = [const { Image(UnsafeCell::new([0; WORDS])) }; 2];

impl Unit {
    /// Returns the widest registers that the CPUs have.
    fn widest() -> Self {
        match HAS_VECTORS.load(Ordering::Acquire) {
            true => Self {
                fill: vectors_fill,
                dump: vectors_dump,
            },
            false => Self {
                fill: float_fill,
                dump: float_dump,
            },
        }
    }

    /// Stores the registers of this CPU and returns a number made of them all.
    fn sum(&self, own: u32) -> u64 {
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let image = IMAGES
            .get(own as usize)
            .map_or(core::ptr::null_mut(), |image| image.0.get());
        // SAFETY: there is room for registers of the greatest length.
        unsafe { (self.dump)(image.cast()) };
        let first: *const u64 = image.cast();
        (0..WORDS).fold(own.into(), |sum: u64, i| {
            // SAFETY: only this CPU uses this image, and it has so many words.
            let word = unsafe { first.wrapping_add(i).read_volatile() };
            (sum ^ word).wrapping_mul(PRIME)
        })
    }
}

/// Whether there are wide vectors: only the boot CPU may find that out.
static HAS_VECTORS: AtomicBool = AtomicBool::new(false);

/// How many turns there were; even ones are the boot CPU's.
static TURN: AtomicU32 = AtomicU32::new(0);

/// Takes this CPU's turns, and tells whether its registers were kept.
fn take_turns(own: u32) -> bool {
    let unit = Unit::widest();
    // SAFETY: nothing else uses these registers.
    unsafe { (unit.fill)(u64::from(own) * 100 + 1) };
    debug::mark(own);
    let filled = unit.sum(own);
    for round in 0..ROUNDS {
        let turn = 2 * round + own;
        let is_ours = || TURN.load(Ordering::Acquire) == turn;
        if wait::spin_until("a turn", is_ours).is_err() {
            say!("{own}: no turn {turn}");
            return false;
        }
        if unit.sum(own) != filled || !debug::is_marked(own) {
            say!("{own}: changed at {turn}");
            return false;
        }
        TURN.store(turn + 1, Ordering::Release);
    }
    true
}

/// Runs the boot CPU's part.
pub fn run(machine: &Machine) -> Checked {
    if machine.cpus.len() < 2 {
        say!("one CPU: no switches");
        return Ok(());
    }
    HAS_VECTORS.store(registers::has_vectors(), Ordering::Release);
    smp::start(OTHER)?;
    firmware::denied_sleep()?;
    hold("registers of the boot CPU", take_turns(0))?;
    wait::spin_until("the other CPU's end", || smp::is_stopped(OTHER))?;
    let all = TURN.load(Ordering::Acquire) == 2 * ROUNDS;
    hold("registers of the other CPU", all)?;
    let kind = match HAS_VECTORS.load(Ordering::Acquire) {
        true => "wide vectors",
        false => "floats",
    };
    say!("switches with {kind} passed");
    Ok(())
}

/// Runs another CPU's part.
pub fn secondary() -> ! {
    execute::open_float();
    if !take_turns(1) {
        rt::fail(Failure("registers of the other CPU"));
    }
    arch::smp::stop()
}
