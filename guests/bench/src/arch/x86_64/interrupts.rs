// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! IPI to self and timer, from the cause to the handler.
//!
//! `caused!` runs the cause with interrupts unmasked and spins until the handler
//! below has noted the clock in r9 and masked interrupts again; the end of the
//! interrupt is written after that, untimed.
//!
//! Spec: Intel SDM 3, "Issuing Interprocessor Interrupts", "x2APIC", SELF IPI.

use core::arch::{asm, global_asm};

use crate::rounds::round_trip;
use rt::arch::{apic, timer, trap};
use rt::machine::Failure;

const SELF_IPI: usize = 0x3f0;
const IDENTITY: usize = 0x20;
const TO_SELF: u32 = 1 << 18 | 1 << 14;
const SOON: u32 = 1;
// Spins before an interrupt is given up.
const PATIENCE: u64 = 10_000_000;

global_asm!(
    r#"
    .pushsection .text.bench_handler, "ax"
    .globl  bench_handler
bench_handler:
    rdtsc
    shl     rdx, 32
    or      rax, rdx
    mov     r9, rax
    and     dword ptr [rsp + 16], ~0x200    // return with interrupts masked
    iretq
    .popsection
    "#
);

unsafe extern "C" {
    static bench_handler: u8;
}

/// Runs the assembly that causes an interrupt; returns the ticks from before it
/// to the handler, or `None` if no interrupt came. eax and edx are destroyed.
macro_rules! caused {
    ($code:literal, $($operand:tt)*) => {{
        let (start, stop): (u64, u64);
        asm!(
            "xor r9d, r9d",
            "sti",
            "rdtsc",
            "mov r8d, eax",
            $code,
            "2:",
            "test r9, r9",
            "jnz 3f",
            "dec {patience}",
            "jnz 2b",
            "3:",
            "cli",
            patience = inout(reg) PATIENCE => _,
            out("rax") _,
            out("rdx") _,
            out("r8") start,
            out("r9") stop,
            $($operand)*
        );
        (stop != 0).then(|| u64::from((stop as u32).wrapping_sub(start as u32)))
    }};
}

/// Measures the interrupts.
pub fn measure() -> Result<(), Failure> {
    let handler = (&raw const bench_handler).addr() as u64;
    trap::route(trap::IPI, handler);
    trap::route(trap::TIMER, handler);
    if apic::is_x2apic() {
        round_trip("x2apic-self-ipi", x2apic_ipi)?;
        round_trip("x2apic-self-ipi-icr", x2apic_icr)?;
        round_trip("timer-soon", x2apic_timer)?;
        timer::disarm();
        apic::use_memory();
        round_trip("xapic-read", || Ok(time_read()))?;
        round_trip("xapic-self-ipi", xapic_ipi)?;
    } else {
        round_trip("xapic-read", || Ok(time_read()))?;
        round_trip("xapic-self-ipi", xapic_ipi)?;
        round_trip("timer-soon", xapic_timer)?;
    }
    timer::disarm();
    trap::init();
    Ok(())
}

fn x2apic_ipi() -> Result<u64, Failure> {
    by_msr(apic::msr_of(SELF_IPI), u32::from(trap::IPI))
}

fn x2apic_icr() -> Result<u64, Failure> {
    let command = TO_SELF | u32::from(trap::IPI);
    by_msr(apic::msr_of(apic::COMMAND_LOW), command)
}

fn x2apic_timer() -> Result<u64, Failure> {
    by_msr(apic::msr_of(apic::TIMER_INITIAL), SOON)
}

fn xapic_ipi() -> Result<u64, Failure> {
    let command = TO_SELF | u32::from(trap::IPI);
    by_memory(apic::address_of(apic::COMMAND_LOW), command)
}

/// Reads a register that has no effect.
fn time_read() -> u64 {
    let register = apic::address_of(IDENTITY);
    // SAFETY: the APIC is here and does not touch memory.
    unsafe { timed!("mov edx, dword ptr [rcx]", in("rcx") register,) }
}

fn xapic_timer() -> Result<u64, Failure> {
    by_memory(apic::address_of(apic::TIMER_INITIAL), SOON)
}

fn by_msr(register: u32, value: u32) -> Result<u64, Failure> {
    // SAFETY: the CPU has x2APIC; the handler changes only what `caused!` says.
    let ticks = unsafe {
        caused!("mov eax, {value:e}\n xor edx, edx\n wrmsr",
            value = in(reg) value, in("ecx") register,)
    };
    end(ticks)
}

fn by_memory(address: usize, value: u32) -> Result<u64, Failure> {
    // SAFETY: the APIC is here; the handler changes only what `caused!` says.
    let ticks = unsafe {
        caused!("mov dword ptr [{address}], {value:e}",
            address = in(reg) address, value = in(reg) value,)
    };
    end(ticks)
}

fn end(ticks: Option<u64>) -> Result<u64, Failure> {
    apic::write(apic::END_OF_INTERRUPT, 0);
    ticks.ok_or(Failure("no interrupt from the APIC"))
}
