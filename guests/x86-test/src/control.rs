// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Control registers: what is refused, and that it leaves no trace.
//!
//! A bit of a feature that CPUID does not show is reserved. Those of CR4 are tried
//! by a word on the command line: a CPU of QEMU's that lacks one never ends the
//! write. The same CPUs take PCIDE, VMXE and SMXE always, which are not tried.
//!
//! Spec: Intel SDM 3, "Control Registers"; AMD64 APM 2, "Extended Feature Enable
//! Register (EFER)".

use core::arch::x86_64::__cpuid;

use rt::check::{Checked, hold, same};
use rt::{machine::Failure, say};

use crate::execute::{PROTECTION, RAX, RBX, Registers, Who, execute};

const NUMERIC_ERRORS: u64 = 1 << 5;
const NO_CACHE: u64 = 1 << 30;
/// No CPU has it.
const NO_BIT: u64 = 1 << 32;

/// Bits of CR4 that can be set and cleared at any time, and where leaf 7 shows them
/// in ecx; zero for bits that no CPU has, or that nothing here can set.
const OF_CR4: [(u64, u32); 7] = [
    (1 << 22, 1 << 3),
    (1 << 24, 1 << 31),
    (1 << 12, 0),
    (1 << 15, 0),
    (1 << 26, 0),
    (1 << 29, 0),
    (1 << 63, 0),
];
/// Bits of EFER, and where leaf 0x8000_0001 shows them: in ecx, in edx.
const OF_EFER: [(u64, u32, u32); 3] = [
    (1 << 12, 1 << 2, 0),
    (1 << 14, 0, 1 << 25),
    (1 << 15, 1 << 17, 0),
];

/// Each bit of CR4 can be set if its feature is shown.
pub fn features() -> Checked {
    for (bit, shown) in OF_CR4 {
        let is_shown = __cpuid(7).ecx & shown != 0;
        if is_set(bit) != is_shown {
            say!("CR4 with {bit:#x}");
            return Err(Failure("a bit of CR4 goes with its feature"));
        }
    }
    say!("bits of CR4 passed");
    Ok(())
}

/// Runs all others.
pub fn run() -> Checked {
    for (bit, in_ecx, in_edx) in OF_EFER {
        let features = __cpuid(0x8000_0001);
        if features.ecx & in_ecx == 0 && features.edx & in_edx == 0 {
            hold("EFER has what is shown", !is_set_in_efer(bit))?;
        }
    }
    writes_of_cr0()?;
    say!("control registers passed");
    Ok(())
}

/// Sets a bit of CR4 and clears it again; tells whether it could be set.
fn is_set(bit: u64) -> bool {
    // mov rax, cr4; or rax, rbx; mov cr4, rax; xor rax, rbx; mov cr4, rax
    const TRY: [u8; 15] = [
        0x0f, 0x20, 0xe0, 0x48, 0x09, 0xd8, 0x0f, 0x22, 0xe0, 0x48, 0x31, 0xd8, 0x0f, 0x22, 0xe0,
    ];
    let mut registers = Registers::default();
    registers.gprs[RBX] = bit;
    let found = execute(&TRY, Who::Kernel, &mut registers);
    found.is_none_or(|trap| trap.vector != PROTECTION)
}

/// The same for EFER, which may ignore what it does not have.
fn is_set_in_efer(bit: u64) -> bool {
    // mov ecx, 0xc0000080; rdmsr; or eax, ebx; wrmsr
    const TRY: [u8; 11] = [0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32, 0x09, 0xd8, 0x0f, 0x30];
    // mov ecx, 0xc0000080; rdmsr
    const READ: [u8; 7] = [0xb9, 0x80, 0, 0, 0xc0, 0x0f, 0x32];
    let mut registers = Registers::default();
    registers.gprs[RBX] = bit;
    execute(&TRY, Who::Kernel, &mut registers);
    execute(&READ, Who::Kernel, &mut registers);
    registers.gprs[RAX] & bit != 0
}

/// A write of CR0 that is refused changes nothing, NE included; one that is allowed
/// is read back.
fn writes_of_cr0() -> Checked {
    let before = cr0();
    let mut registers = Registers::default();
    registers.gprs[RAX] = (before ^ NUMERIC_ERRORS) | NO_BIT;
    let found = execute(&WRITE, Who::Kernel, &mut registers);
    let written = match found {
        Some(_) => before,
        // QEMU forgets the bit and takes the rest.
        None => before ^ NUMERIC_ERRORS,
    };
    same("CR0 after a write", cr0(), written)?;
    for value in [before ^ NUMERIC_ERRORS, before | NO_CACHE, before] {
        registers.gprs[RAX] = value;
        let found = execute(&WRITE, Who::Kernel, &mut registers);
        hold("a write of CR0", found.is_none())?;
        same("CR0 after a write", cr0(), value)?;
    }
    Ok(())
}

/// mov cr0, rax
const WRITE: [u8; 3] = [0x0f, 0x22, 0xc0];

fn cr0() -> u64 {
    // mov rax, cr0
    const READ: [u8; 3] = [0x0f, 0x20, 0xc0];
    let mut registers = Registers::default();
    execute(&READ, Who::Kernel, &mut registers);
    registers.gprs[RAX]
}
