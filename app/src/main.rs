// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! AxHive: a type-1 hypervisor as an ArceOS application.
//!
//! On the bare machine ArceOS calls `main` (in `boot`) on CPU 0 with
//! interrupts open and the other CPUs idle. On the host the same crate is built
//! for its tests, with the software architecture.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]
// On the host only the tests use most of this.
#![cfg_attr(not(any(test, target_os = "none")), expect(dead_code, unused_imports))]

extern crate alloc;

// The architecture of this build, as `arch`.
include!(concat!(env!("OUT_DIR"), "/arch.rs"));

#[cfg(target_os = "none")]
mod boot;
mod config;
mod host;
#[cfg(target_os = "none")]
mod hypervisor;
mod shell;
mod text;
mod vmm;

#[cfg(not(target_os = "none"))]
fn main() {
    println!(
        "AxHive on {}: built for tests; `make run` boots it.",
        arch::NAME
    );
}
