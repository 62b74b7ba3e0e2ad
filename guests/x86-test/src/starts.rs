// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A CPU that is started again and again, by two others at once.
//!
//! Asked for by the word `starts` on the command line of a machine of three CPUs.
//! INIT and SIPI come without the rests that the specification wants between them,
//! and meet the CPU in whatever it does: starting, halted, spinning, leaving its
//! guest all the time. In the end each start that one CPU sends alone runs it once
//! more from the beginning, and nothing of what the others did is in its registers.
//!
//! Spec: Intel SDM 3, "Multiple-Processor (MP) Initialization".

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use rt::arch::{
    apic::{self, Command},
    entry, irq, smp,
};
use rt::check::{Checked, hold, same};
use rt::machine::Machine;
use rt::{cpu, say, wait};

/// The CPU that helps, and the one that is started.
const HELPER: usize = 1;
const RUNNER: usize = 2;
const ROUNDS: u32 = 100;
/// Different things that the runner does.
const WAYS: u32 = 4;

static RUNS: AtomicU32 = AtomicU32::new(0);
static HAS_BEGUN: AtomicBool = AtomicBool::new(false);
static HELPER_IS_DONE: AtomicBool = AtomicBool::new(false);

/// Runs the race, and then one start after the other.
pub fn run(machine: &Machine) -> Checked {
    hold("three CPUs", machine.cpus.len() > RUNNER)?;
    irq::init_cpu()?;
    clear_x87();
    smp::start(HELPER)?;
    HAS_BEGUN.store(true, SeqCst);
    race();
    wait::spin_until("the other CPU's starts", || HELPER_IS_DONE.load(SeqCst))?;
    let in_race = RUNS.load(SeqCst);
    for _ in 0..ROUNDS {
        let before = RUNS.load(SeqCst);
        start_runner();
        wait::spin_until("a CPU did not start", || RUNS.load(SeqCst) != before)?;
    }
    irq::mask();
    same("another CPU's x87 instruction", last_x87(), 0)?;
    say!("starts passed: {in_race} in the race");
    Ok(())
}

fn race() {
    for _ in 0..ROUNDS {
        start_runner();
    }
}

fn start_runner() {
    entry::offer_index(RUNNER as u32);
    let page = Command::Start((entry::TRAMPOLINE >> 12) as u8);
    for command in [Command::Init, page, page] {
        // It fails only for an APIC that does not send.
        let _ = apic::send(command, cpu::hardware_id(RUNNER));
    }
}

fn clear_x87() {
    // SAFETY: nothing uses these registers.
    unsafe { asm!("fninit", options(nomem, nostack)) };
}

/// Leaves its address as that of the last instruction of its kind.
fn use_x87() {
    // SAFETY: as above.
    unsafe { asm!("fld1", "fstp st(0)", options(nomem, nostack)) };
}

/// Returns where this CPU's last instruction of x87 was; FNINIT is none.
fn last_x87() -> u32 {
    let mut environment = [0_u32; 7];
    // SAFETY: it stores 28 bytes.
    unsafe { asm!("fnstenv [{}]", in(reg) environment.as_mut_ptr(), options(nostack)) };
    environment[3]
}

/// What a CPU does that was started: helps, or counts itself and is busy.
pub fn secondary(index: usize) -> ! {
    if index == HELPER {
        let _ = irq::init_cpu();
        use_x87();
        while !HAS_BEGUN.load(SeqCst) {
            core::hint::spin_loop();
        }
        race();
        HELPER_IS_DONE.store(true, SeqCst);
        smp::stop();
    }
    use_x87();
    match RUNS.fetch_add(1, SeqCst) % WAYS {
        0 => smp::stop(),
        1 => loop {
            core::hint::spin_loop();
        },
        2 => loop {
            __cpuid(0);
        },
        _ => {
            let _ = irq::init_cpu();
            loop {
                let _ = irq::send_ipi(RUNNER);
                irq::halt();
            }
        }
    }
}
