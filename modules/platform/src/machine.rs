// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What was found out about the machine at boot.
//!
//! Filled once by the primary CPU before ArceOS has a heap, so everything has
//! a fixed capacity; what exceeds it is left unused, which is always safe.
//! Addresses are host-physical. CPU numbers are ours: 0 is the CPU that
//! booted, whatever the hardware calls it.

use heapless::{String, Vec};

/// The most CPUs, RAM ranges and reserved ranges that are remembered.
pub const MAX_CPUS: usize = 64;
/// How many random bytes are enough to make any number of others.
pub const SEED_BYTES: usize = 32;
const MAX_RANGES: usize = 32;
const MAX_COMMAND_LINE: usize = 512;

/// A range of host-physical addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysRange {
    /// The first address.
    pub start: usize,
    /// The first address behind it.
    pub end: usize,
}

impl PhysRange {
    /// Makes the range of `size` bytes at `start`, cut off at the end of the address space.
    pub const fn from_size(start: usize, size: usize) -> Self {
        Self {
            start,
            end: start.saturating_add(size),
        }
    }

    /// Returns the number of bytes in it.
    pub const fn size(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Tells whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// The interrupt controller that the machine describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InterruptController {
    /// None that the platform drives; timers and IPIs work without.
    #[default]
    Unknown,
    /// A RISC-V PLIC.
    Plic,
    /// RISC-V AIA, with or without IMSIC.
    Aia,
    /// Arm GICv2: distributor and CPU interface.
    GicV2 {
        /// Address of the distributor.
        distributor: usize,
        /// Address of the CPU interface.
        cpu_interface: usize,
    },
    /// Arm GICv3 or later: distributor and redistributors.
    GicV3 {
        /// Address of the distributor.
        distributor: usize,
        /// Address of the first redistributor.
        redistributors: usize,
    },
}

/// The machine: CPUs, memory and what the boot loader handed over.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    hardware_ids: Vec<usize, MAX_CPUS>,
    ram: Vec<PhysRange, MAX_RANGES>,
    reserved: Vec<PhysRange, MAX_RANGES>,
    command_line: String<MAX_COMMAND_LINE>,
    /// The file given to the boot loader (`-initrd`): the bundle of VMs.
    pub initrd: Option<PhysRange>,
    /// The flattened device tree, on machines that have one.
    pub fdt: Option<PhysRange>,
    /// The frequency of the timer where the machine says it, in Hz.
    pub timer_hz: Option<u64>,
    /// Random bytes that nobody has used, where the machine has a source of them.
    pub seed: Option<[u8; SEED_BYTES]>,
    /// Where QEMU's device for firmware's files has its registers.
    pub fw_cfg: Option<PhysRange>,
    /// The interrupt controller.
    pub interrupt_controller: InterruptController,
}

impl Machine {
    /// Starts a description with the CPU that booted as CPU 0.
    pub fn new(boot_hardware_id: usize) -> Self {
        let mut machine = Self::default();
        machine.add_cpu(boot_hardware_id);
        machine
    }

    /// Adds a CPU by the name the hardware has for it (hart, MPIDR affinity, APIC id).
    pub fn add_cpu(&mut self, hardware_id: usize) {
        if !self.hardware_ids.contains(&hardware_id) {
            let _unused_when_full = self.hardware_ids.push(hardware_id);
        }
    }

    /// Adds RAM.
    pub fn add_ram(&mut self, range: PhysRange) {
        if !range.is_empty() {
            let _unused_when_full = self.ram.push(range);
        }
    }

    /// Keeps a range from being given to guests.
    ///
    /// # Panics
    /// When there are more reserved ranges than fit: dropping one would let a guest into it.
    pub fn reserve(&mut self, range: PhysRange) {
        if range.is_empty() {
            return;
        }
        assert!(
            self.reserved.push(range).is_ok(),
            "too many reserved ranges of memory"
        );
    }

    /// Remembers the command line, cut at its capacity.
    pub fn set_command_line(&mut self, text: &str) {
        self.command_line.clear();
        for c in text.chars() {
            if self.command_line.push(c).is_err() {
                return;
            }
        }
    }

    /// Returns the number of CPUs.
    pub fn cpu_count(&self) -> usize {
        self.hardware_ids.len()
    }

    /// Returns what the hardware calls a CPU.
    pub fn hardware_id(&self, cpu: usize) -> Option<usize> {
        self.hardware_ids.get(cpu).copied()
    }

    /// Returns our number for the CPU that the hardware calls `hardware_id`.
    pub fn cpu_of(&self, hardware_id: usize) -> Option<usize> {
        self.hardware_ids.iter().position(|&id| id == hardware_id)
    }

    /// Returns all RAM, as the machine describes it.
    pub fn ram(&self) -> &[PhysRange] {
        &self.ram
    }

    /// Returns what must not be given to guests: ArceOS, firmware, device tree, initrd.
    pub fn reserved(&self) -> &[PhysRange] {
        &self.reserved
    }

    /// Returns the command line.
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Returns the value of `key=value` in the command line; the last one counts.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.command_line
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .next_back()
    }

    /// Calls `visit` with each range of RAM that nothing reserves, in order of address.
    pub fn for_each_free(&self, mut visit: impl FnMut(PhysRange)) {
        let mut holes = self.reserved.clone();
        holes.sort_unstable();
        for ram in &self.ram {
            let mut start = ram.start;
            for hole in holes
                .iter()
                .filter(|hole| hole.end > ram.start && hole.start < ram.end)
            {
                emit(
                    PhysRange {
                        start,
                        end: hole.start,
                    },
                    &mut visit,
                );
                start = start.max(hole.end);
            }
            emit(
                PhysRange {
                    start,
                    end: ram.end,
                },
                &mut visit,
            );
        }
    }
}

fn emit(range: PhysRange, visit: &mut impl FnMut(PhysRange)) {
    if !range.is_empty() {
        visit(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(machine: &Machine) -> std::vec::Vec<PhysRange> {
        let mut found = std::vec::Vec::new();
        machine.for_each_free(|range| found.push(range));
        found
    }

    const fn range(start: usize, end: usize) -> PhysRange {
        PhysRange { start, end }
    }

    #[test]
    fn the_cpu_that_booted_is_cpu_0_whatever_its_name() {
        let mut machine = Machine::new(3);
        for hart in 0..4 {
            machine.add_cpu(hart);
        }
        assert_eq!(machine.cpu_count(), 4);
        assert_eq!(machine.hardware_id(0), Some(3));
        assert_eq!(machine.cpu_of(3), Some(0));
        assert_eq!(machine.cpu_of(0), Some(1));
        assert_eq!(machine.cpu_of(9), None);
    }

    #[test]
    fn free_memory_is_ram_without_what_is_reserved() {
        let mut machine = Machine::new(0);
        machine.add_ram(range(100, 200));
        machine.add_ram(range(300, 400));
        machine.reserve(range(350, 360));
        machine.reserve(range(0, 110));
        machine.reserve(range(120, 130));
        machine.reserve(range(390, 500));
        assert_eq!(
            free(&machine),
            [
                range(110, 120),
                range(130, 200),
                range(300, 350),
                range(360, 390)
            ]
        );
    }

    #[test]
    fn overlapping_reservations_leave_no_hole() {
        let mut machine = Machine::new(0);
        machine.add_ram(range(0, 100));
        machine.reserve(range(10, 60));
        machine.reserve(range(20, 30));
        machine.reserve(range(60, 70));
        assert_eq!(free(&machine), [range(0, 10), range(70, 100)]);
    }

    #[test]
    fn a_range_wholly_reserved_is_not_free() {
        let mut machine = Machine::new(0);
        machine.add_ram(range(10, 20));
        machine.reserve(range(0, 100));
        assert_eq!(free(&machine), []);
    }

    #[test]
    fn the_last_option_on_the_command_line_counts() {
        let mut machine = Machine::new(0);
        machine.set_command_line("axhive log=warn quiet log=debug onidle=");
        assert_eq!(machine.option("log"), Some("debug"));
        assert_eq!(machine.option("onidle"), Some(""));
        assert_eq!(machine.option("quiet"), None);
    }

    #[test]
    fn a_command_line_that_is_too_long_is_cut() {
        let mut machine = Machine::new(0);
        machine.set_command_line(&"é".repeat(1000));
        assert_eq!(machine.command_line().len(), 512);
    }
}
