// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The assembly's place on machines that cannot run it.
//!
//! The guest is never entered; fetches and loads trap, and fences do nothing.

use axvm::AxVMHal;

use crate::{frame::FloatRegisters, vcpu::RiscvVCpu};

pub(crate) unsafe fn enter<H: AxVMHal>(_vcpu: *mut RiscvVCpu<H>) {}

pub(crate) fn fetch(_address: u64) -> Option<u32> {
    None
}

pub(crate) fn fetch_aligned(_address: u64) -> Option<u32> {
    None
}

pub(crate) fn load(_address: u64) -> Option<u64> {
    None
}

pub(crate) fn has_hypervisor() -> bool {
    false
}

pub(crate) fn has_aia() -> bool {
    false
}

pub(crate) fn vector_bytes() -> Option<u64> {
    None
}

pub(crate) fn close_interrupts() -> u64 {
    0
}

pub(crate) fn restore_interrupts(_were_open: u64) {}

pub(crate) fn fence_tables() {}

pub(crate) fn fence_page(_address: u64) {}

pub(crate) fn fence_asid(_asid: u64) {}

pub(crate) fn fence_page_of(_address: u64, _asid: u64) {}

pub(crate) fn fence_all_guests() {}

pub(crate) fn fence_instructions() {}

pub(crate) unsafe fn save_float(_to: *mut FloatRegisters) {}

pub(crate) unsafe fn save_float_control(_to: *mut FloatRegisters) {}

pub(crate) unsafe fn load_float(_from: *const FloatRegisters) {}
