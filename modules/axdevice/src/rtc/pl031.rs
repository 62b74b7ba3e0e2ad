// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PL031 RTC of QEMU's Arm `virt` machine.
//!
//! A 32-bit counter of seconds since 1970 and a match register. Writing RTCMR
//! or RTCLR arms the match, which comes when the counter next shows the value,
//! wrapping around if it must. Registers sit at whole-word offsets of a 4 KiB
//! region and take accesses of any width, a 64-bit one being two of 32; what
//! lies between or behind them reads as zero and ignores writes, as in QEMU.
//! The line is high while the match is pending and not masked.
//!
//! Spec: Arm PrimeCell Real Time Clock (PL031) TRM. Threats: docs/devices.md.

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

use crate::{
    AccessFault, AccessWidth, Clock, IoDevice, IrqLine, LevelLine, TimedDevice,
    regs::{
        self,
        pl031::{INTERRUPT, REGION_BYTES, Register},
    },
    word_lanes,
};

/// Nanoseconds in a tick of the counter.
const SECOND_NS: u64 = 1_000_000_000;

/// A PL031.
pub struct Pl031 {
    clock: Arc<dyn Clock>,
    line: LevelLine,
    /// What the guest's counter is ahead of the host's, modulo 2^32.
    offset: u32,
    match_value: u32,
    load_value: u32,
    /// When the counter shows the match value, in monotonic time, while that is armed.
    deadline_ns: Option<u64>,
    raw: LocalRegisterCopy<u32, INTERRUPT::Register>,
    mask: LocalRegisterCopy<u32, INTERRUPT::Register>,
}

impl Pl031 {
    /// Makes a clock that shows the host's time and has no match armed.
    pub fn new(clock: Arc<dyn Clock>, irq: IrqLine) -> Self {
        Self {
            clock,
            line: LevelLine::new(irq),
            offset: 0,
            match_value: 0,
            load_value: 0,
            deadline_ns: None,
            raw: LocalRegisterCopy::new(0),
            mask: LocalRegisterCopy::new(0),
        }
    }

    fn host_seconds(&self) -> u32 {
        regs::low_half(self.clock.wall_ns() / SECOND_NS)
    }

    fn counter(&self) -> u32 {
        self.host_seconds().wrapping_add(self.offset)
    }

    fn load(&mut self, value: u32) {
        self.load_value = value;
        self.offset = value.wrapping_sub(self.host_seconds());
        self.arm();
    }

    fn set_match(&mut self, value: u32) {
        self.match_value = value;
        self.arm();
    }

    fn arm(&mut self) {
        let seconds = self.match_value.wrapping_sub(self.counter());
        if seconds == 0 {
            self.fire();
            return;
        }
        let into_second = self.clock.wall_ns() % SECOND_NS;
        let wait = u64::from(seconds)
            .saturating_mul(SECOND_NS)
            .saturating_sub(into_second);
        self.deadline_ns = Some(self.clock.monotonic_ns().saturating_add(wait));
    }

    fn fire(&mut self) {
        self.deadline_ns = None;
        self.raw.modify(INTERRUPT::ALARM::SET);
        self.update_line();
    }

    fn set_mask(&mut self, value: u32) {
        let written = LocalRegisterCopy::<u32, INTERRUPT::Register>::new(value);
        self.mask.set(written.read(INTERRUPT::ALARM));
        self.update_line();
    }

    fn clear_interrupt(&mut self, value: u32) {
        let written = LocalRegisterCopy::<u32, INTERRUPT::Register>::new(value);
        if written.is_set(INTERRUPT::ALARM) {
            self.raw.modify(INTERRUPT::ALARM::CLEAR);
            self.update_line();
        }
    }

    fn masked_interrupt(&self) -> u32 {
        self.raw.get() & self.mask.get()
    }

    fn update_line(&mut self) {
        self.line.drive(self.masked_interrupt() != 0);
    }

    fn read_register(&self, offset: u64) -> u32 {
        match Register::decode(offset) {
            Register::Data => self.counter(),
            Register::Match => self.match_value,
            Register::Load => self.load_value,
            Register::Control => 1,
            Register::InterruptMask => self.mask.get(),
            Register::RawInterrupt => self.raw.get(),
            Register::MaskedInterrupt => self.masked_interrupt(),
            Register::Id(value) => value.into(),
            Register::InterruptClear | Register::Reserved => 0,
        }
    }

    fn write_register(&mut self, offset: u64, value: u32) {
        match Register::decode(offset) {
            Register::Match => self.set_match(value),
            Register::Load => self.load(value),
            Register::InterruptMask => self.set_mask(value),
            Register::InterruptClear => self.clear_interrupt(value),
            // The clock is always enabled; the others cannot be written.
            Register::Control
            | Register::Data
            | Register::RawInterrupt
            | Register::MaskedInterrupt
            | Register::Id(_)
            | Register::Reserved => {}
        }
    }
}

impl IoDevice for Pl031 {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        word_lanes::read(offset, width, REGION_BYTES, |at| self.read_register(at))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        word_lanes::write((offset, value), width, REGION_BYTES, |at, word| {
            self.write_register(at, word);
        })
    }
}

impl TimedDevice for Pl031 {
    fn next_deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    fn tick(&mut self, now_ns: u64) {
        if self.deadline_ns.is_some_and(|deadline| deadline <= now_ns) {
            self.fire();
        }
    }
}
