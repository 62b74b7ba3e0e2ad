// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! CMOS memory and the clock in it: index port 0x70, data port 0x71.
//!
//! The memory says how much RAM and how many CPUs the machine has, in the bytes
//! in which QEMU's firmware finds it. Registers 0 to 13 and the century are the
//! clock's (`rtc`). Put on the bus behind byte lanes.
//!
//! Spec: Motorola MC146818 data sheet; QEMU, hw/i386/pc.c, CMOS layout.

use alloc::sync::Arc;

use axdevice::{AccessFault, AccessWidth, Clock, IoDevice, IrqLine, TimedDevice};

use super::rtc::{self, Rtc};

const INDEX: u64 = 0;
const DATA: u64 = 1;
/// Bit 7 of the index port masks NMIs, of which there are none.
const INDEX_MASK: u8 = 0x7f;
const REGISTERS: usize = 128;
/// What an index port that cannot be read answers.
const OPEN_BUS: u8 = 0xff;

const EQUIPMENT: usize = 0x14;
/// A mathematics coprocessor.
const EQUIPMENT_FPU: u8 = 1 << 1;
const BASE_KIB: usize = 0x15;
const EXTENDED_KIB: usize = 0x17;
const EXTENDED_KIB_FOUND: usize = 0x30;
const ABOVE_16_MIB: usize = 0x34;
const ABOVE_4_GIB: usize = 0x5b;
const CPUS: usize = 0x5f;

const KIB: u64 = 1 << 10;
const UNIT: u64 = 64 * KIB;
const MIB: u64 = 1 << 20;

/// What the firmware would have found in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// RAM below 4 GiB.
    pub low_bytes: u64,
    /// RAM from 4 GiB on.
    pub high_bytes: u64,
    /// How many CPUs there are.
    pub cpus: usize,
}

/// The clock chip with its memory.
pub struct Cmos {
    index: u8,
    memory: [u8; REGISTERS],
    rtc: Rtc,
}

impl Cmos {
    /// Makes the chip of a machine that was just switched on.
    pub fn new(clock: Arc<dyn Clock>, irq: IrqLine, inventory: &Inventory) -> Self {
        Self {
            index: 0,
            memory: memory(inventory),
            rtc: Rtc::new(clock, irq),
        }
    }

    fn read_data(&mut self) -> u8 {
        match rtc::Register::decode(self.index) {
            Some(register) => self.rtc.read(register),
            None => self.memory().copied().unwrap_or(OPEN_BUS),
        }
    }

    fn write_data(&mut self, value: u8) {
        match rtc::Register::decode(self.index) {
            Some(register) => self.rtc.write(register, value),
            None => {
                if let Some(byte) = self.memory.get_mut(usize::from(self.index)) {
                    *byte = value;
                }
            }
        }
    }

    fn memory(&self) -> Option<&u8> {
        self.memory.get(usize::from(self.index))
    }
}

impl IoDevice for Cmos {
    fn read(&mut self, offset: u64, _width: AccessWidth) -> Result<u64, AccessFault> {
        match offset {
            INDEX => Ok(OPEN_BUS.into()),
            DATA => Ok(self.read_data().into()),
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, _width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        match offset {
            INDEX => self.index = value as u8 & INDEX_MASK,
            DATA => self.write_data(value as u8),
            _ => return Err(AccessFault),
        }
        Ok(())
    }
}

impl TimedDevice for Cmos {
    fn next_deadline_ns(&self) -> Option<u64> {
        self.rtc.next_deadline_ns()
    }

    fn tick(&mut self, now_ns: u64) {
        self.rtc.tick(now_ns);
    }
}

/// Returns the memory as the firmware leaves it.
fn memory(inventory: &Inventory) -> [u8; REGISTERS] {
    let mut memory = [0; REGISTERS];
    let mut put = |at: usize, bytes: &[u8]| {
        let slots = memory.iter_mut().skip(at);
        slots.zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    };
    let above = |start: u64| inventory.low_bytes.saturating_sub(start);
    let word = |count: u64| u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes();
    put(EQUIPMENT, &[EQUIPMENT_FPU]);
    put(BASE_KIB, &640u16.to_le_bytes());
    put(EXTENDED_KIB, &word(above(MIB) / KIB));
    put(EXTENDED_KIB_FOUND, &word(above(MIB) / KIB));
    put(ABOVE_16_MIB, &word(above(16 * MIB) / UNIT));
    let high = (inventory.high_bytes / UNIT).to_le_bytes();
    put(ABOVE_4_GIB, high.get(..3).unwrap_or_default());
    put(CPUS, &[inventory.cpus.saturating_sub(1) as u8]);
    memory
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pc::testing::{FakeClock, FakeIrq};

    fn cmos(inventory: Inventory) -> Cmos {
        let (_, line) = FakeIrq::line();
        Cmos::new(FakeClock::at(0), line, &inventory)
    }

    fn byte(cmos: &mut Cmos, index: u8) -> u64 {
        cmos.write(0, AccessWidth::Byte, index.into()).unwrap();
        cmos.read(1, AccessWidth::Byte).unwrap()
    }

    fn word(cmos: &mut Cmos, index: u8) -> u64 {
        byte(cmos, index) | byte(cmos, index + 1) << 8
    }

    #[test]
    fn memory_sizes_are_where_qemus_firmware_looks() {
        let mut cmos = cmos(Inventory {
            low_bytes: 2048 * MIB,
            high_bytes: 1024 * MIB,
            cpus: 4,
        });
        assert_eq!(word(&mut cmos, 0x15), 640);
        assert_eq!(word(&mut cmos, 0x17), 0xffff, "as much as fits");
        assert_eq!(word(&mut cmos, 0x34), (2048 - 16) * 16);
        assert_eq!(word(&mut cmos, 0x5b), 0x4000);
        assert_eq!(byte(&mut cmos, 0x5d), 0);
        assert_eq!(byte(&mut cmos, 0x5f), 3);
    }

    #[test]
    fn a_small_machine_has_nothing_above_16_mib() {
        let mut cmos = cmos(Inventory {
            low_bytes: 8 * MIB,
            high_bytes: 0,
            cpus: 1,
        });
        assert_eq!(word(&mut cmos, 0x17), 7 << 10);
        assert_eq!(word(&mut cmos, 0x34), 0);
    }

    #[test]
    fn the_shutdown_byte_keeps_what_is_written_and_bit_7_of_the_index_is_not_part_of_it() {
        let mut cmos = cmos(Inventory {
            low_bytes: MIB,
            high_bytes: 0,
            cpus: 1,
        });
        cmos.write(0, AccessWidth::Byte, 0x8f).unwrap();
        cmos.write(1, AccessWidth::Byte, 0x0a).unwrap();
        assert_eq!(byte(&mut cmos, 0x0f), 0x0a);
        assert_eq!(cmos.read(0, AccessWidth::Byte), Ok(0xff));
        assert_eq!(cmos.read(2, AccessWidth::Byte), Err(AccessFault));
    }
}
