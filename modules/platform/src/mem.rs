// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Physical memory, as ArceOS may use it.
//!
//! ArceOS gets one small range, the same on every run; all other RAM is for
//! guests and is found in `machine()`. Physical memory is mapped linearly.

use axconfig::{devices::MMIO_RANGES, plat};
use axplat::{
    impl_plat_interface,
    mem::{MemIf, PhysAddr, RawRange, VirtAddr, pa, va},
};

use crate::arch;

struct PlatformMemory;

#[impl_plat_interface]
impl MemIf for PlatformMemory {
    fn phys_ram_ranges() -> &'static [RawRange] {
        &[(plat::PHYS_MEMORY_BASE, plat::PHYS_MEMORY_SIZE)]
    }

    fn reserved_phys_ram_ranges() -> &'static [RawRange] {
        arch::MAPPED_RESERVED
    }

    fn mmio_ranges() -> &'static [RawRange] {
        &MMIO_RANGES
    }

    fn phys_to_virt(address: PhysAddr) -> VirtAddr {
        va!(address.as_usize() + plat::PHYS_VIRT_OFFSET)
    }

    fn virt_to_phys(address: VirtAddr) -> PhysAddr {
        pa!(address.as_usize() - plat::PHYS_VIRT_OFFSET)
    }

    fn kernel_aspace() -> (VirtAddr, usize) {
        (va!(plat::KERNEL_ASPACE_BASE), plat::KERNEL_ASPACE_SIZE)
    }
}

/// Returns the linear address of a device register or boot structure.
pub(crate) fn linear(address: usize) -> usize {
    address + plat::PHYS_VIRT_OFFSET
}

/// Forgets what this CPU has cached of the hypervisor's own page table.
///
/// ArceOS's `axhal::asm::flush_tlb` does not do that on aarch64, see `aarch64/mod.rs`.
pub fn flush_tlb() {
    arch::flush_tlb();
}
