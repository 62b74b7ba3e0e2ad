// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A host over std's threads, and a bench to test VMs on.
//!
//! For `cargo test` only. [`StdHost`] keeps books about everything that it
//! gives out, refuses the n-th request when asked, and moves vCPU threads
//! between simulated CPUs whenever a real scheduler could. [`Bench`] joins a
//! host, a recorded console and a configuration.

mod alarm;
mod bench;
mod books;
mod event;
mod host;
mod memory;
mod thread;

pub use alarm::StdAlarm;
pub use bench::{
    Bench, Output, config, config_of, machine_of, machine_with, watchdog, with_bound_vcpu,
};
pub use books::{Books, Resource};
pub use event::StdEvent;
pub use host::{Setup, StdHost};
pub use thread::StdThread;
