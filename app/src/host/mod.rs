// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The one implementation of axvm's host traits, over ArceOS.
//!
//! `Host` has no fields: everything it answers for is ArceOS's (threads,
//! interrupts, page-table frames) or global here (the guest memory pool, the
//! deadlines). Only this folder, the boot sequence and the platform crate name
//! ArceOS. What is a function of values is tested on the host.

pub mod parking;
pub mod pool;
pub mod shares;

#[cfg(target_os = "none")]
mod address_space;
#[cfg(target_os = "none")]
mod alarm;
#[cfg(target_os = "none")]
mod event;
#[cfg(target_os = "none")]
mod hal;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod seat;
#[cfg(target_os = "none")]
mod thread;
#[cfg(target_os = "none")]
mod timer;

#[cfg(target_os = "none")]
pub use {
    hal::{Host, heap_free_bytes},
    memory::{device_tree, enter as enter_address_space, free_bytes, init as init_memory, initrd},
    thread::{on_each_cpu, sleep_ms, spawn},
    timer::{begin_here as start_timer, init as init_interrupts},
};
