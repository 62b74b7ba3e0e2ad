// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! CR8 keeps interrupts back and lets them through, and NMIs come one by one.
//!
//! Spec: Intel SDM 3, "Interrupt Acceptance for Fixed Interrupts", "Task Priority in
//! IA-32e Mode", "Handling Multiple NMIs".

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use rt::arch::{apic, irq, trap};
use rt::check::{Checked, hold, same};
use rt::{cpu, say};

use crate::handler::handler;

const VECTOR_NMI: u8 = 2;
const CLASS: u64 = (trap::IPI >> 4) as u64;
/// Exits and instructions that an interrupt has time to come in.
const EXITS: u32 = 8;
const SPINS: u32 = 2000;

/// So many NMIs send another one each.
const CHAINED: u32 = 3;

static NMIS: AtomicU32 = AtomicU32::new(0);
/// Where the first one's frame was, and how many were not there.
static FRAME: AtomicU64 = AtomicU64::new(0);
static ELSEWHERE: AtomicU32 = AtomicU32::new(0);
/// How many NMIs there were when the first was about to end.
static SEEN: AtomicU32 = AtomicU32::new(0);

handler!(nmi_handler calls on_nmi);

/// Runs all of them.
pub fn run() -> Checked {
    irq::init_cpu()?;
    task_priority()?;
    irq::mask();
    say!("task priority passed");
    one_by_one()?;
    say!("NMIs passed");
    Ok(())
}

fn set_cr8(priority: u64) {
    // SAFETY: the handlers keep all that the interrupted code uses.
    unsafe { asm!("mov cr8, {}", in(reg) priority, options(nostack)) };
}

fn pass_time() {
    for _ in 0..EXITS {
        __cpuid(0);
    }
    spin();
}

/// Lets time pass in which nothing but an interrupt leaves the guest.
fn spin() {
    for _ in 0..SPINS {
        core::hint::spin_loop();
    }
}

fn task_priority() -> Checked {
    for masked_by in [15, CLASS + 1, CLASS] {
        let before = cpu::current().ipis();
        set_cr8(15);
        irq::send_ipi(0)?;
        pass_time();
        same("an IPI above its time", cpu::current().ipis(), before)?;
        set_cr8(masked_by);
        pass_time();
        same("an IPI above its time", cpu::current().ipis(), before)?;
        set_cr8(CLASS - 1);
        spin();
        same(
            "an IPI that CR8 let through",
            cpu::current().ipis(),
            before + 1,
        )?;
        set_cr8(0);
    }
    hold("CR8 is the APIC's", apic::read(apic::TASK_PRIORITY) == 0)
}

fn send_nmi() {
    // It fails only for an APIC that does not send.
    let _ = apic::send(apic::Command::Nmi, cpu::hardware_id(0));
}

fn one_by_one() -> Checked {
    trap::route(VECTOR_NMI, (&raw const nmi_handler).addr() as u64);
    send_nmi();
    pass_time();
    trap::init();
    same("NMIs", NMIS.load(SeqCst), CHAINED + 1)?;
    same("NMIs at the end of the first", SEEN.load(SeqCst), 1)?;
    same("NMIs upon a frame", ELSEWHERE.load(SeqCst), 0)
}

extern "C" fn on_nmi(frame: u64) {
    let before = NMIS.fetch_add(1, SeqCst);
    if before == 0 {
        FRAME.store(frame, SeqCst);
    } else if frame != FRAME.load(SeqCst) {
        ELSEWHERE.fetch_add(1, SeqCst);
    }
    if before < CHAINED {
        send_nmi();
        pass_time();
    }
    if before == 0 {
        SEEN.store(NMIS.load(SeqCst), SeqCst);
    }
}
