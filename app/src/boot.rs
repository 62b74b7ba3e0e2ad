// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The boot sequence.

use axstd::println;
use platform::ExitStatus;

use crate::{arch, host};

#[expect(unsafe_code, reason = "ArceOS calls the application by this name")]
#[unsafe(no_mangle)]
extern "C" fn main() {
    // ArceOS does this for the other CPUs only; without it an IPI to this one panics.
    axipi::init();
    host::init_memory();
    host::init_timer();
    host::on_each_cpu(|cpu| {
        host::enter_address_space();
        println!("CPU {cpu} is ready");
    });
    println!("AxHive {} on {}", env!("CARGO_PKG_VERSION"), arch::NAME);
    println!("{} MiB for guests", host::free_bytes() >> 20);
    platform::power_off(ExitStatus::Success);
}
