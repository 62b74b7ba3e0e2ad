// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The machine's CPUs: how many, which one, and how to get to another.
//!
//! What axstd has no words for goes to ArceOS's own interfaces, which axstd
//! exports; this file is the only one that does.

use axstd::os::arceos::{
    api::task::{AxCpuMask, ax_set_current_affinity},
    modules::{axconfig, axhal, axipi},
};

/// Returns the platform's name, such as `riscv64-qemu-virt`.
pub fn platform() -> &'static str {
    axconfig::PLATFORM
}

/// Returns how many CPUs run.
pub fn count() -> usize {
    axhal::cpu_num()
}

/// Returns the CPU that runs the caller; it may be another one a moment later.
pub fn current() -> usize {
    axhal::percpu::this_cpu_id()
}

/// Binds the calling thread to a CPU and goes there.
pub fn move_to(cpu: usize) -> bool {
    ax_set_current_affinity(AxCpuMask::one_shot(cpu)).is_ok()
}

/// Binds the calling thread to the CPU that it is on.
pub fn stay() {
    move_to(current());
}

/// Has a function called by another CPU, interrupting it.
pub fn interrupt(cpu: usize, callback: fn()) {
    axipi::run_on_cpu(cpu, callback);
}
