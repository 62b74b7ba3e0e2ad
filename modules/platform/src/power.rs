// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Starting CPUs and ending the machine.
//!
//! ArceOS switches the machine off when it panics, and knows only one way to
//! do so; therefore that way counts as a failure, and an application that has
//! succeeded says so with [`power_off`].

use axplat::{impl_plat_interface, power::PowerIf};

use crate::{ExitStatus, arch, console, init::machine};

/// Switches the machine off and hands `status` to whoever started it.
pub fn power_off(status: ExitStatus) -> ! {
    axcpu::asm::disable_irqs();
    console::show_held();
    arch::power::off(status);
    loop {
        axcpu::asm::halt();
    }
}

struct PlatformPower;

#[impl_plat_interface]
impl PowerIf for PlatformPower {
    fn cpu_boot(cpu: usize, stack_top: usize) {
        match machine().hardware_id(cpu) {
            Some(hardware_id) => arch::power::start_cpu(hardware_id, stack_top),
            None => log::error!("there is no CPU {cpu} to start"),
        }
    }

    fn system_off() -> ! {
        power_off(ExitStatus::Failure)
    }

    fn cpu_num() -> usize {
        machine().cpu_count()
    }
}
