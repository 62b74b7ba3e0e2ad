// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The order in which the platform comes up, called by ArceOS's runtime.
//!
//! Early: traps, UART, the machine's description, the clock. Between early and
//! late ArceOS builds its heap and page table. Late: interrupt controller,
//! timer and IPI of each CPU. Invariant: `machine()` is set before any other
//! CPU starts and never changes.

use axplat::{impl_plat_interface, init::InitIf};
use log::LevelFilter;
use spin::Once;

use crate::{
    arch, console, irq,
    machine::{Machine, PhysRange},
    mem::flush_tlb,
    time,
};

const _: () = assert!(
    matches!(axconfig::PACKAGE.as_bytes(), b"platform"),
    "AX_CONFIG_PATH must name a file of configs/platforms: build with make"
);

static MACHINE: Once<Machine> = Once::new();

/// Returns what was found out about the machine at boot.
///
/// # Panics
/// When called before ArceOS has initialized the platform.
pub fn machine() -> &'static Machine {
    MACHINE
        .get()
        .expect("the platform is initialized before the application")
}

/// Describes the machine and reserves what ArceOS and the loader occupy.
fn describe(boot_argument: usize) -> Machine {
    use axconfig::plat::{KERNEL_BASE_PADDR, PHYS_MEMORY_SIZE};
    let mut machine = arch::describe(boot_argument);
    // Below the image lie firmware, the loader's stub or real-mode memory.
    machine.reserve(PhysRange {
        start: 0,
        end: KERNEL_BASE_PADDR,
    });
    machine.reserve(PhysRange::from_size(KERNEL_BASE_PADDR, PHYS_MEMORY_SIZE));
    machine
}

/// Obeys `log=LEVEL` on the command line.
fn set_log_level() {
    if let Some(level) = machine().option("log").and_then(|level| level.parse().ok()) {
        log::set_max_level(level);
    } else {
        log::set_max_level(LevelFilter::Warn);
    }
}

struct PlatformInit;

#[impl_plat_interface]
impl InitIf for PlatformInit {
    fn init_early(_cpu: usize, boot_argument: usize) {
        axcpu::init::init_trap();
        console::init();
        let machine = MACHINE.call_once(|| describe(boot_argument));
        time::init(machine);
    }

    fn init_early_secondary(_cpu: usize) {
        axcpu::init::init_trap();
    }

    fn init_later(_cpu: usize, _boot_argument: usize) {
        // ArceOS has left the boot table, whose large pages are writable and executable.
        flush_tlb();
        set_log_level();
        console::open();
        arch::irq::init_primary(machine());
        irq::enable_local();
    }

    fn init_later_secondary(_cpu: usize) {
        flush_tlb();
        arch::irq::init_secondary(machine());
        irq::enable_local();
    }
}
