// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A machine for tests, on the host of the generic profile.

use std::vec::Vec;

use arch_vm_host::testing::{self, StdHost};
use axvm::{AxVMRef, VCpuId};

use crate::{
    host::{self, Probed},
    stage2::Mode,
    vcpu::RiscvVCpu,
    vm::RiscvVm,
};

/// A device tree of a machine that has what QEMU's has.
fn host_tree() -> Vec<u8> {
    axvm::boot::fdt::Fdt::write("model", "compatible", |fdt| {
        fdt.node("cpus", |fdt| {
            fdt.u32("timebase-frequency", 10_000_000)?;
            fdt.node("cpu@0", |fdt| {
                fdt.string("riscv,isa", "rv64imafdch_zicsr_zifencei_sstc")
            })
        })
    })
    .unwrap()
}

/// Builds a machine of two harts around a kernel that is one unknown word.
pub(crate) fn machine() -> AxVMRef<RiscvVm<StdHost>> {
    machine_with("plic")
}

/// Builds such a machine with an interrupt controller of this name.
fn machine_with(intc: &str) -> AxVMRef<RiscvVm<StdHost>> {
    host::describe(&host_tree()).unwrap();
    host::note(Probed {
        stage2: Mode::Sv39x4,
        vmids: 128,
        environment: u64::MAX,
        has_aia: false,
        guest_files: 0,
        vector_bytes: None,
    })
    .unwrap();
    testing::machine_with(&[0x73, 0, 0x50, 0x10], Some(intc))
}

/// Does something with a vCPU of such a machine that is bound to this CPU.
pub(crate) fn with_bound_vcpu<T>(id: VCpuId, act: impl FnOnce(&mut RiscvVCpu<StdHost>) -> T) -> T {
    testing::with_bound_vcpu(&machine(), id, act)
}

/// Does the same with a vCPU of a machine with that interrupt controller.
pub(crate) fn with_bound_vcpu_of<T>(
    intc: &str,
    id: VCpuId,
    act: impl FnOnce(&mut RiscvVCpu<StdHost>) -> T,
) -> T {
    testing::with_bound_vcpu(&machine_with(intc), id, act)
}
