// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! CPUID, and the hypercall where something answers it.
//!
//! Spec: Intel SDM 2, CPUID; AMD APM 3, VMMCALL; leaf 0x4000_0000 as hypervisors
//! agree on it.

use core::arch::x86_64::__cpuid;

use crate::rounds::round_trip;
use rt::machine::Failure;

const HYPERVISOR_PRESENT: u32 = 1 << 31;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const SVM: u32 = 1 << 2;
// QEMU's emulation says that it is a hypervisor, but answers no hypercall.
const EMULATOR: &[u8; 12] = b"TCGTCGTCGTCG";
// No hypervisor has a call of this number.
const NO_SUCH_CALL: u32 = 0xffff_ff00;

/// Measures the calls.
pub fn measure() -> Result<(), Failure> {
    round_trip("cpuid", || Ok(time_cpuid()))?;
    if !has_hypervisor() {
        return Ok(());
    }
    match is_amd() {
        true => round_trip("vmmcall", || Ok(time_vmmcall())),
        false => round_trip("vmcall", || Ok(time_vmcall())),
    }?;
    Ok(())
}

fn has_hypervisor() -> bool {
    if __cpuid(1).ecx & HYPERVISOR_PRESENT == 0 {
        return false;
    }
    let leaf = __cpuid(HYPERVISOR_LEAF);
    let name = [leaf.ebx, leaf.ecx, leaf.edx].map(u32::to_le_bytes);
    name.as_flattened() != EMULATOR
}

fn is_amd() -> bool {
    &__cpuid(0).ebx.to_le_bytes() == b"Auth" || __cpuid(0x8000_0001).ecx & SVM != 0
}

fn time_cpuid() -> u64 {
    // The compiler keeps rbx for itself.
    // SAFETY: every 64-bit CPU has leaf 0.
    unsafe {
        timed!("mov r9, rbx\n xor eax, eax\n cpuid\n mov rbx, r9",
            out("ecx") _, out("r9") _,)
    }
}

fn time_vmmcall() -> u64 {
    // SAFETY: nothing has a call of this number.
    unsafe { timed!("mov eax, {call:e}\n vmmcall", call = in(reg) NO_SUCH_CALL,) }
}

fn time_vmcall() -> u64 {
    // SAFETY: as for `time_vmmcall`.
    unsafe { timed!("mov eax, {call:e}\n vmcall", call = in(reg) NO_SUCH_CALL,) }
}
