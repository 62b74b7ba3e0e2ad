// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A machine for tests, on the host of the generic profile.

use std::{string::String, sync::Arc, vec, vec::Vec};

use arch_vm_host::testing::{Setup, StdHost};
use axdevice::ConsoleOutput;
use axvm::{
    AxVM, AxVMConfig, AxVMRef, BootConfig, CrashPolicy, ImageBytes, PCpuSet, Policy, VCpuConfig,
    VCpuId,
};

use crate::{
    host::{self, Probed},
    stage2::Mode,
    vcpu::RiscvVCpu,
    vm::RiscvVm,
};

/// What is printed goes nowhere.
struct NoScreen;

impl ConsoleOutput for NoScreen {
    fn write(&self, _: &[u8]) {}
}

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
    host::describe(&host_tree()).unwrap();
    host::note(Probed {
        stage2: Mode::Sv39x4,
        vmids: 128,
        environment: u64::MAX,
    })
    .unwrap();
    let config = AxVMConfig {
        name: "test".into(),
        vcpus: vec![
            VCpuConfig {
                pcpus: PCpuSet::ALL
            };
            2
        ],
        memory_bytes: 16 << 20,
        intc: None,
        boot: BootConfig {
            kernel: ImageBytes::Static(&[0x73, 0, 0x50, 0x10]),
            initrd: None,
            dtb: None,
            cmdline: String::new(),
            load: None,
            entry: None,
        },
        devices: Vec::new(),
        policy: Policy {
            autostart: false,
            on_crash: CrashPolicy::Stop,
        },
    };
    let host = StdHost::new(Setup {
        stopped_at_ns: Some(0),
        ..Setup::default()
    });
    let vm = AxVM::new(1, &host, config, Arc::new(NoScreen));
    vm.init().unwrap();
    vm
}

/// Does something with a vCPU of such a machine that is bound to this CPU.
pub(crate) fn with_bound_vcpu<T>(id: VCpuId, act: impl FnOnce(&mut RiscvVCpu<StdHost>) -> T) -> T {
    let vm = machine();
    vm.with_machine(|machine| {
        machine.vcpus()[id].bind().unwrap();
        machine.vcpus()[id].with_arch(act)
    })
    .unwrap()
}
