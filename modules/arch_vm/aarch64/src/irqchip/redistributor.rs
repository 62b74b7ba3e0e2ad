// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A GICv3 redistributor: one vCPU's private interrupts, in two frames.
//!
//! The first frame says who it is and wakes it, the second is laid out like
//! the distributor. Of LPIs it has the registers; `lpi` has the interrupts.
//!
//! Spec: Arm GIC Architecture Specification, "The Redistributor register map".

use axvm::AccessWidth;

use super::{
    affinity_of_vcpu,
    distributor::{self, Write},
    state::State,
};

/// Both frames.
pub(crate) const BYTES: u64 = 0x2_0000;
const SECOND_FRAME: u64 = 0x1_0000;

const CONTROL: u64 = 0x000;
const IMPLEMENTER: u64 = 0x004;
const TYPE: u64 = 0x008;
const TYPE_HIGH: u64 = 0x00c;
const WAKER: u64 = 0x014;
const PROPERTIES: u64 = 0x070;
const PENDING: u64 = 0x078;
const PERIPHERAL_ID_2: u64 = 0xffe8;

const IMPLEMENTER_ARM: u32 = 0x43b;
const ARCHITECTURE_V3: u32 = 0x3b;
const LAST: u64 = 1 << 4;
const PHYSICAL_LPIS: u64 = 1 << 0;
const ENABLE_LPIS: u32 = 1 << 0;
/// LPIs can be switched off again.
const CLEAR_SUPPORTED: u32 = 1 << 1;
/// GICR_PENDBASER's promise that the table is zero cannot be read back.
const ZEROED: u64 = 1 << 62;
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;

impl State {
    /// Reads vCPU `cpu`'s redistributor, whoever asks.
    pub(crate) fn read_redistributor(&self, cpu: usize, offset: u64, width: AccessWidth) -> u64 {
        if offset == TYPE && width == AccessWidth::Qword {
            return self.redistributor_type(cpu);
        }
        if let Some(register) = self.lpi_register(cpu, offset & !7) {
            return match (width, offset & 4) {
                (AccessWidth::Qword, _) => register & !ZEROED,
                (_, 0) => register & 0xffff_ffff,
                _ => (register & !ZEROED) >> 32,
            };
        }
        let word = self.read_redistributor_word(cpu, offset & !3);
        distributor::part_of_word(word, offset, width)
    }

    fn read_redistributor_word(&self, cpu: usize, offset: u64) -> u32 {
        if let Some(offset) = offset.checked_sub(SECOND_FRAME) {
            return match is_private(offset) {
                true => distributor::read_bank(self, cpu, offset).unwrap_or(0),
                false => 0,
            };
        }
        match offset {
            CONTROL => self.redistributor_control(cpu),
            IMPLEMENTER => IMPLEMENTER_ARM,
            TYPE => self.redistributor_type(cpu) as u32,
            TYPE_HIGH => (self.redistributor_type(cpu) >> 32) as u32,
            WAKER => self.waker(cpu),
            PERIPHERAL_ID_2 => ARCHITECTURE_V3,
            _ => 0,
        }
    }

    fn lpi_register(&self, cpu: usize, offset: u64) -> Option<u64> {
        let lpis = &self.privates.get(cpu)?.lpis;
        match offset {
            PROPERTIES => Some(lpis.properties),
            PENDING => Some(lpis.pending_table),
            _ => None,
        }
    }

    /// Writes a register of LPIs, and tells whether it is one.
    fn write_lpi_register(&mut self, cpu: usize, access: Write, high: u32) -> bool {
        let Some(old) = self.lpi_register(cpu, access.offset & !7) else {
            return false;
        };
        let (low, value) = (old & 0xffff_ffff, u64::from(access.value));
        let new = match (access.width, access.offset & 4) {
            (AccessWidth::Qword, _) => value | u64::from(high) << 32,
            (_, 0) => old & !0xffff_ffff | value,
            _ => low | value << 32,
        };
        if let Some(private) = self.privates.get_mut(cpu) {
            match access.offset & !7 {
                PROPERTIES => private.lpis.properties = new,
                _ => private.lpis.pending_table = new,
            }
        }
        true
    }

    fn redistributor_control(&self, cpu: usize) -> u32 {
        match self.privates.get(cpu) {
            Some(private) if private.lpis.is_wanted => CLEAR_SUPPORTED | ENABLE_LPIS,
            _ => CLEAR_SUPPORTED,
        }
    }

    fn enable_lpis(&mut self, cpu: usize, is_wanted: bool) {
        if let Some(private) = self.privates.get_mut(cpu) {
            private.lpis.is_wanted = is_wanted;
            self.has_stale_lpis |= private.lpis.is_stale();
        }
    }

    /// Writes vCPU `cpu`'s redistributor; `high` is the upper half of 64 bits.
    pub(crate) fn write_redistributor(&mut self, cpu: usize, access: Write, high: u32) {
        if self.write_lpi_register(cpu, access, high) {
            return;
        }
        if let Some(offset) = access.offset.checked_sub(SECOND_FRAME) {
            if is_private(offset) {
                distributor::write_bank(self, cpu, Write { offset, ..access });
            }
        } else if access.offset == CONTROL {
            self.enable_lpis(cpu, access.value & ENABLE_LPIS != 0);
        } else if access.offset == WAKER
            && let Some(private) = self.privates.get_mut(cpu)
        {
            private.is_asleep = access.value & PROCESSOR_SLEEP != 0;
        }
    }

    fn waker(&self, cpu: usize) -> u32 {
        match self.privates.get(cpu) {
            Some(private) if private.is_asleep => PROCESSOR_SLEEP | CHILDREN_ASLEEP,
            _ => 0,
        }
    }

    fn redistributor_type(&self, cpu: usize) -> u64 {
        let affinity = affinity_of_vcpu(cpu);
        let packed = affinity & 0xff_ffff | affinity >> 8 & 0xff00_0000;
        let is_last = cpu.wrapping_add(1) == self.privates.len();
        let last = if is_last { LAST } else { 0 };
        packed << 32 | (cpu as u64) << 8 | last | PHYSICAL_LPIS
    }
}

/// Tells whether an offset of the second frame is of the first bank.
fn is_private(offset: u64) -> bool {
    match offset {
        0x080..0x400 => offset & 0x7f < 4,
        0x400..0x420 | 0xc00..0xc08 => true,
        _ => false,
    }
}
