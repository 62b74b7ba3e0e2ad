// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A stock ArceOS application that checks the machine it runs on.
//!
//! Written against axstd alone and linked with the published platform crate, as
//! any ArceOS application is: nothing here knows of the hypervisor. The same
//! image boots on bare QEMU and in AxHive. Each check prints one line; after a
//! check that fails there is no `arceos: done`, which is the sign of success.
//! Returning from `main` powers the machine off.

#![no_std]
#![no_main]

mod checks;
mod cpu;

use axstd::{println, time::Instant};
use checks::Check;

/// What is checked, in order.
const CHECKS: [(&str, Check); 5] = [
    ("threads on every CPU", checks::threads_on_every_cpu),
    ("a sum under contention", checks::contended_sum),
    ("sleep", checks::sleep),
    ("IPIs", checks::ipis),
    ("memory", checks::memory),
];

/// Where axruntime ends up once every CPU is initialized.
#[expect(unsafe_code, reason = "axruntime calls it by this name")]
#[unsafe(no_mangle)]
fn main() {
    cpu::stay();
    let begin = Instant::now();
    println!(
        "arceos: hello from ArceOS on {}, cpus {}",
        cpu::platform(),
        cpu::count()
    );
    for (name, check) in CHECKS {
        if let Err(failure) = check() {
            println!("arceos: FAILED {name}: {failure:?}");
            return;
        }
        println!("arceos: ok {name}");
    }
    println!("arceos: {} ms", begin.elapsed().as_millis());
    println!("arceos: done");
}
