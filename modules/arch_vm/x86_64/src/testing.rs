// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A machine for tests, on the host of the generic profile.

use std::{string::String, sync::Arc, vec, vec::Vec};

use arch_vm_host::testing::{Setup, StdHost};
use axdevice::ConsoleOutput;
use axvm::{
    AxArchPerCpu, AxVM, AxVMConfig, AxVMRef, BootConfig, CrashPolicy, ImageBytes, PCpuSet, Policy,
    VCpuConfig, VCpuId,
};

use crate::{percpu::X86PerCpu, regs::set_cpuid, svm::Svm, vcpu::VCpu, vm::X86Vm};

/// What is printed goes nowhere.
struct NoScreen;

impl ConsoleOutput for NoScreen {
    fn write(&self, _: &[u8]) {}
}

/// A CPU with SVM and nested paging and nothing that helps.
fn describe_cpu() {
    set_cpuid(1, 0, [0x0080_0f12, 0x800, 1 << 26, 0x0789_f9ff]);
    set_cpuid(0xd, 0, [3, 0, 0, 0]);
    set_cpuid(
        0x8000_0001,
        0,
        [0, 0, 1 << 2, 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29],
    );
    set_cpuid(0x8000_000a, 0, [0, 16, 0, 1]);
}

fn config() -> AxVMConfig {
    AxVMConfig {
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
            kernel: ImageBytes::Static(&[0xeb, 0xfe]),
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
    }
}

pub(crate) fn host() -> StdHost {
    StdHost::new(Setup {
        stopped_at_ns: Some(0),
        ..Setup::default()
    })
}

/// Builds a machine of two CPUs around a kernel that is an endless loop.
pub(crate) fn machine_on(host: &StdHost) -> axvm::Result<AxVMRef<X86Vm<StdHost>>> {
    describe_cpu();
    X86PerCpu::new()?;
    let vm = AxVM::new(1, host, config(), Arc::new(NoScreen));
    vm.init()?;
    Ok(vm)
}

/// Does something with a vCPU of such a machine that is bound to this CPU.
pub(crate) fn with_bound_vcpu<T>(
    id: VCpuId,
    act: impl FnOnce(&mut VCpu<StdHost, Svm<StdHost>>) -> T,
) -> T {
    let vm = machine_on(&host()).unwrap();
    vm.with_machine(|machine| {
        machine.vcpus()[id].bind().unwrap();
        machine.vcpus()[id].with_arch(|vcpu| act(vcpu.svm()))
    })
    .unwrap()
}
