// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A machine for tests, on the host of the generic profile.
//!
//! Its CPU has a GICv3, 40 address bits, and four list registers.

use arch_vm_host::testing::{self, StdHost};
use axvm::VCpuId;
use tock_registers::interfaces::Writeable;

use crate::{
    regs::{ICH_VTR, ICH_VTR_EL2, ID_AA64MMFR0_EL1, ID_AA64PFR0_EL1, MMFR0, PFR0},
    vcpu::Aarch64VCpu,
    vm::Aarch64Vm,
};

/// Does something with a vCPU of a machine of two that is bound to this CPU.
pub(crate) fn with_bound_vcpu<T>(
    id: VCpuId,
    act: impl FnOnce(&mut Aarch64VCpu<StdHost>) -> T,
) -> T {
    ID_AA64PFR0_EL1.write(PFR0::GIC.val(1));
    ID_AA64MMFR0_EL1.write(MMFR0::PARANGE.val(2));
    ICH_VTR_EL2.write(ICH_VTR::LIST_REGISTERS.val(3) + ICH_VTR::PRE_BITS.val(4));
    let vm = testing::machine_of::<Aarch64Vm<StdHost>>(&[0xc0, 0x03, 0x5f, 0xd6]);
    testing::with_bound_vcpu(&vm, id, act)
}
