// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A debugger's exceptions: a step over one instruction, INT1, general detect.
//!
//! Each must come once, behind the instruction, also where a hypervisor carries
//! that out: what stands behind it is executed then.
//!
//! Spec: Intel SDM 3, "Debug Exceptions"; AMD64 APM 2, "Single Stepping".

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};

use rt::arch::{irq, timer, trap};
use rt::check::{Checked, hold, same};
use rt::{machine::Failure, say};

use crate::execute::{Registers, UNDEFINED, Who, execute};
use crate::handler::handler;

const VECTOR_DEBUG: u8 = 1;
const TRAP: u64 = 1 << 8;
/// In DR6: a step, and an access to a debug register.
const STEP: u64 = 1 << 14;
const DETECT: u64 = 1 << 13;
/// In DR7: each access to a debug register is one.
const GENERAL_DETECT: u64 = 1 << 13;
/// DR6 without a cause.
const NO_CAUSE: u64 = 0xffff_0ff0;
/// So many exceptions are too many for one instruction.
const MANY: u64 = 16;
/// When somebody ends a HLT at the latest.
const WAKE_NS: u64 = 10_000_000;

static COUNT: AtomicU64 = AtomicU64::new(0);
static RIP: AtomicU64 = AtomicU64::new(0);
static DR6: AtomicU64 = AtomicU64::new(0);
static DR7: AtomicU64 = AtomicU64::new(0);

global_asm!(
    r#"
    .pushsection .text.steps, "ax"
    .macro  stepped name:req, code:vararg
    .globl  \name
    .globl  \name\()_end
\name:
    push    rbx
    mov     rdx, 0x80
    mov     rcx, 0x10
    pushfq
    or      qword ptr [rsp], 0x100
    popfq
    \code
\name\()_end:
    nop
    pop     rbx
    ret
    .endm
    stepped step_nop, nop
    stepped step_cpuid, cpuid
    stepped step_out, out dx, al
    stepped step_rdmsr, rdmsr
    stepped step_sti, sti
    stepped step_hlt, hlt
    .globl  plain_int1
    .globl  plain_int1_end
plain_int1:
    .byte   0xf1
plain_int1_end:
    ret
    .popsection
    "#
);

handler!(steps_handler calls on_debug);

macro_rules! code {
    ($($name:ident $end:ident)*) => {
        unsafe extern "C" {
            $(fn $name(); static $end: u8;)*
        }
    };
}

code! {
    step_nop step_nop_end
    step_cpuid step_cpuid_end
    step_out step_out_end
    step_rdmsr step_rdmsr_end
    step_sti step_sti_end
    step_hlt step_hlt_end
    plain_int1 plain_int1_end
}

/// The frame of an exception.
#[repr(C)]
struct Frame {
    rip: u64,
    cs: u64,
    rflags: u64,
}

extern "C" fn on_debug(frame: &mut Frame) {
    let (dr6, dr7): (u64, u64);
    // SAFETY: no breakpoint is on.
    unsafe { asm!("mov {}, dr6", "mov {}, dr7", out(reg) dr6, out(reg) dr7, options(nostack)) };
    let before = COUNT.fetch_add(1, SeqCst);
    if before == 0 {
        RIP.store(frame.rip, SeqCst);
        DR6.store(dr6, SeqCst);
        DR7.store(dr7, SeqCst);
    }
    frame.rflags &= !TRAP;
    if before > MANY {
        // It is not gone beyond.
        frame.rip += 1;
    }
}

/// Runs all of them.
pub fn run() -> Checked {
    for (what, code, end) in [
        (
            "NOP",
            step_nop as unsafe extern "C" fn(),
            &raw const step_nop_end,
        ),
        ("CPUID", step_cpuid, &raw const step_cpuid_end),
        ("OUT", step_out, &raw const step_out_end),
        ("RDMSR", step_rdmsr, &raw const step_rdmsr_end),
        ("STI", step_sti, &raw const step_sti_end),
    ] {
        trapped(what, code, end.addr() as u64, STEP)?;
        irq::mask();
    }
    say!("steps passed");
    int1()?;
    general_detect()?;
    halt()?;
    say!("exceptions of debuggers passed");
    Ok(())
}

/// Runs code with a handler for #DB, and tells how many came.
fn debug_exceptions(code: impl FnOnce()) -> u64 {
    trap::route(VECTOR_DEBUG, (&raw const steps_handler).addr() as u64);
    COUNT.store(0, SeqCst);
    // SAFETY: no breakpoint is on.
    unsafe { asm!("mov dr6, {}", in(reg) NO_CAUSE, options(nostack)) };
    code();
    trap::init();
    COUNT.load(SeqCst)
}

fn trapped(what: &'static str, code: unsafe extern "C" fn(), end: u64, cause: u64) -> Checked {
    // SAFETY: the code keeps to the ABI, and the handler takes its exception.
    let count = debug_exceptions(|| unsafe { code() });
    let (rip, dr6) = (RIP.load(SeqCst), DR6.load(SeqCst));
    // QEMU steps over what follows STI as well.
    let is_behind = rip == end || what == "STI" && rip == end + 1;
    if !is_behind || (count, dr6 & (STEP | DETECT)) != (1, cause) {
        say!("{what}: {count} #DB, first at {rip:#x} for {dr6:#x}, not {end:#x} for {cause:#x}");
        return Err(Failure(what));
    }
    Ok(())
}

fn int1() -> Checked {
    let found = execute(&[0xf1], Who::Kernel, &mut Registers::default());
    if found.is_some_and(|trap| trap.vector == UNDEFINED) {
        // QEMU does not know it.
        return Ok(());
    }
    trapped(
        "INT1",
        plain_int1,
        (&raw const plain_int1_end).addr() as u64,
        0,
    )
}

/// HLT that is stepped over does not wait, or for its interrupt at most.
fn halt() -> Checked {
    irq::init_cpu()?;
    timer::arm_ns(WAKE_NS);
    // SAFETY: as for `trapped`.
    let count = debug_exceptions(|| unsafe { step_hlt() });
    irq::mask();
    timer::disarm();
    hold("a step over HLT", count >= 1)?;
    hold(
        "a step over HLT",
        RIP.load(SeqCst) >= (&raw const step_hlt_end).addr() as u64,
    )
}

/// The handler of a refused access to the debug registers may reach them.
fn general_detect() -> Checked {
    let count = debug_exceptions(|| {
        // SAFETY: the handler reads them, and finds the bit off.
        unsafe {
            asm!("mov dr7, {on}", "mov {copy}, dr0", "mov {copy}, dr7", "mov dr7, {off}",
                on = in(reg) 0x400 | GENERAL_DETECT, off = in(reg) 0x400_u64, copy = out(reg) _,
                options(nostack));
        }
    });
    // QEMU does not know it.
    if count != 0 {
        same("exceptions of general detect", count, 1)?;
        hold("what they are for", DR6.load(SeqCst) & DETECT != 0)?;
        same("general detect", DR7.load(SeqCst) & GENERAL_DETECT, 0)?;
    }
    Ok(())
}
