// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Instructions that a hypervisor answers itself: other hypervisors' above all.
//!
//! Spec: AMD64 APM 3, each instruction; Intel SDM 2 and 3.

use core::arch::x86_64::__cpuid;

use rt::check::{Checked, hold};
use rt::{machine::Failure, say};

use crate::execute::{PROTECTION, RAX, RCX, Registers, Trap, UNDEFINED, Who, execute};

const HAS_MONITOR: u32 = 1 << 3;
const HAS_RDPRU: u32 = 1 << 4;

/// Runs all of them.
pub fn run() -> Checked {
    nested()?;
    calls()?;
    harmless()?;
    say!("privileged instructions passed");
    Ok(())
}

fn trap(bytes: &[u8], who: Who) -> Option<Trap> {
    execute(bytes, who, &mut Registers::default())
}

fn undefined(what: &'static str, bytes: &[u8], who: Who) -> Checked {
    let found = trap(bytes, who);
    match found {
        Some(trap) if trap.vector == UNDEFINED => Ok(()),
        // A CPU looks at the privilege first where its hypervisor uses them itself.
        Some(trap) if trap.vector == PROTECTION && who == Who::Program => Ok(()),
        _ => {
            say!("{what} as {who:?}: {found:x?}");
            Err(Failure(what))
        }
    }
}

/// There are no hypervisors in this machine.
fn nested() -> Checked {
    for who in [Who::Kernel, Who::Program] {
        undefined("VMRUN", &[0x0f, 0x01, 0xd8], who)?;
        undefined("VMLOAD", &[0x0f, 0x01, 0xda], who)?;
        undefined("VMSAVE", &[0x0f, 0x01, 0xdb], who)?;
        undefined("STGI", &[0x0f, 0x01, 0xdc], who)?;
        undefined("CLGI", &[0x0f, 0x01, 0xdd], who)?;
        undefined("SKINIT", &[0x0f, 0x01, 0xde], who)?;
        undefined("INVLPGA", &[0x0f, 0x01, 0xdf], who)?;
        undefined("VMLAUNCH", &[0x0f, 0x01, 0xc2], who)?;
        undefined("VMRESUME", &[0x0f, 0x01, 0xc3], who)?;
        undefined("VMXOFF", &[0x0f, 0x01, 0xc4], who)?;
        undefined("VMXON", &[0xf3, 0x0f, 0xc7, 0x33], who)?;
        undefined("VMPTRLD", &[0x0f, 0xc7, 0x33], who)?;
        undefined("VMREAD", &[0x0f, 0x78, 0xc0], who)?;
        undefined("GETSEC", &[0x0f, 0x37], who)?;
        undefined("RSM", &[0x0f, 0xaa], who)?;
        undefined("ENCLS", &[0x0f, 0x01, 0xcf], who)?;
        if __cpuid(1).ecx & HAS_MONITOR == 0 {
            undefined("MONITOR", &[0x0f, 0x01, 0xc8], who)?;
            undefined("MWAIT", &[0x0f, 0x01, 0xc9], who)?;
        }
        if __cpuid(0x8000_0008).ebx & HAS_RDPRU == 0 {
            undefined("RDPRU", &[0x0f, 0x01, 0xfd], who)?;
        }
    }
    Ok(())
}

/// At most one of the two hypercalls is there, and none does harm.
fn calls() -> Checked {
    const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
    const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
    for who in [Who::Kernel, Who::Program] {
        for number in [0, 1, u64::MAX, 0xffff_ff00] {
            let call = |bytes: &[u8]| {
                let mut registers = Registers::default();
                registers.gprs[RAX] = number;
                execute(bytes, who, &mut registers)
            };
            let answers = [call(&VMMCALL), call(&VMCALL)];
            let refused = answers.iter().flatten();
            hold(
                "a hypercall",
                refused.clone().all(|trap| trap.vector == UNDEFINED),
            )?;
            hold("both hypercalls", refused.count() >= 1)?;
        }
    }
    Ok(())
}

fn harmless() -> Checked {
    for bytes in [
        &[0x0f, 0x08][..],
        &[0x0f, 0x09],
        &[0xf3, 0x90],
        &[0x0f, 0x01, 0xf8],
        &[0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8],
        &[0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0],
        &[0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8],
        &[0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0],
        &[0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8],
        &[0x0f, 0x21, 0xf0, 0x0f, 0x23, 0xf0],
        &[0x0f, 0x06],
    ] {
        let found = trap(bytes, Who::Kernel);
        if found.is_some() {
            say!("{bytes:x?}: {found:x?}");
            return Err(Failure("a harmless instruction"));
        }
    }
    let found = trap(&[0x0f, 0x01, 0xd1], Who::Kernel);
    let is_refused = found.is_some_and(|trap| [UNDEFINED, PROTECTION].contains(&trap.vector));
    hold("XSETBV of nothing", is_refused)?;
    every_cpuid()
}

/// Every leaf is answered to a program, too.
fn every_cpuid() -> Checked {
    for first in [0_u64, 0x4000_0000, 0x8000_0000, 0xffff_ff00] {
        for leaf in first..first + 0x40 {
            let mut registers = Registers::default();
            registers.gprs[RAX] = leaf;
            registers.gprs[RCX] = leaf & 3;
            let found = execute(&[0x0f, 0xa2], Who::Program, &mut registers);
            if found.is_some() {
                say!("CPUID {leaf:#x}: {found:x?}");
            }
            hold("CPUID", found.is_none())?;
        }
    }
    Ok(())
}
