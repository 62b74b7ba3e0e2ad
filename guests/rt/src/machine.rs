// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the guest learns about its machine at boot, on any architecture.
//!
//! Filled in by `arch::*::machine::discover` from firmware tables; read by the
//! steps. The boot CPU is always the first of `cpus`, so that CPU 0 is the one
//! that runs the sequence whatever number the hardware gave it.

use crate::command_line::CommandLine;
use heapless::Vec;

/// The most CPUs that are used; further ones stay off.
pub const MAX_CPUS: usize = 32;
/// The most memory regions that are looked at.
pub const MAX_REGIONS: usize = 16;

/// A step that did not work, named for the `<name>: FAIL` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub &'static str);

/// The number the hardware gives a CPU: hart id, MPIDR affinity or APIC id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HardwareId(pub u64);

/// A range of RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Number of bytes.
    pub size_bytes: u64,
}

impl Region {
    /// Returns the first byte after the region.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size_bytes)
    }

    /// Tells whether `address` lies in the region.
    pub fn contains(&self, address: u64) -> bool {
        (self.start..self.end()).contains(&address)
    }
}

/// The machine as its firmware describes it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// All CPUs that can be used, the boot CPU first.
    pub cpus: Vec<HardwareId, MAX_CPUS>,
    /// The RAM.
    pub memory: Vec<Region, MAX_REGIONS>,
    /// The words that the loader handed over.
    pub command_line: CommandLine,
}

impl Machine {
    /// A machine of which only the boot CPU is known.
    pub fn new(boot_cpu: HardwareId) -> Self {
        let mut machine = Self {
            cpus: Vec::new(),
            memory: Vec::new(),
            command_line: CommandLine::default(),
        };
        machine.add_cpu(boot_cpu);
        machine
    }

    /// Notes a CPU unless it is known already or there is no room for it.
    pub fn add_cpu(&mut self, id: HardwareId) {
        if !self.cpus.contains(&id) {
            let _ = self.cpus.push(id);
        }
    }

    /// Notes a range of RAM unless it is empty or there is no room for it.
    pub fn add_memory(&mut self, region: Region) {
        if region.size_bytes > 0 {
            let _ = self.memory.push(region);
        }
    }

    /// Returns the size of all RAM in MiB, rounded up.
    ///
    /// A PC's memory map leaves out the few KiB that its firmware keeps.
    pub fn memory_mib(&self) -> u64 {
        let sizes = self.memory.iter().map(|region| region.size_bytes);
        sizes.fold(0, u64::saturating_add).div_ceil(1 << 20)
    }
}

#[cfg(test)]
mod tests {
    use super::{HardwareId, MAX_CPUS, Machine, Region};

    #[test]
    fn the_boot_cpu_is_first_and_no_cpu_is_counted_twice() {
        let mut machine = Machine::new(HardwareId(2));
        (0..4).for_each(|id| machine.add_cpu(HardwareId(id)));
        let ids: std::vec::Vec<u64> = machine.cpus.iter().map(|id| id.0).collect();
        assert_eq!(ids, [2, 0, 1, 3]);
    }

    #[test]
    fn cpus_beyond_the_limit_are_left_alone() {
        let mut machine = Machine::new(HardwareId(0));
        (0..1000).for_each(|id| machine.add_cpu(HardwareId(id)));
        assert_eq!(machine.cpus.len(), MAX_CPUS);
    }

    #[test]
    fn what_the_firmware_keeps_is_rounded_away() {
        let mut machine = Machine::new(HardwareId(0));
        machine.add_memory(Region {
            start: 0,
            size_bytes: 0x9_fc00,
        });
        machine.add_memory(Region {
            start: 0x10_0000,
            size_bytes: 0x7ed_f000,
        });
        assert_eq!(machine.memory_mib(), 128);
    }

    #[test]
    fn a_region_at_the_end_of_the_address_space_does_not_wrap() {
        let region = Region {
            start: u64::MAX - 1,
            size_bytes: 100,
        };
        assert!(region.contains(u64::MAX - 1));
        assert!(!region.contains(0));
    }
}
