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

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakeClock, FakeIrq, WIDTHS, any_width};

    const DR: u64 = 0x00;
    const MR: u64 = 0x04;
    const LR: u64 = 0x08;
    const CR: u64 = 0x0c;
    const IMSC: u64 = 0x10;
    const RIS: u64 = 0x14;
    const MIS: u64 = 0x18;
    const ICR: u64 = 0x1c;

    const START: u64 = 0x6b01_81d7;
    const START_NS: u64 = START * SECOND_NS + SECOND_NS / 4;

    struct Bench {
        clock: Arc<FakeClock>,
        irq: Arc<FakeIrq>,
        rtc: Pl031,
    }

    impl Bench {
        fn new() -> Self {
            let clock = FakeClock::at(START_NS);
            let (irq, line) = FakeIrq::line();
            let rtc = Pl031::new(clock.clone(), line);
            Self { clock, irq, rtc }
        }

        fn read(&mut self, offset: u64) -> u64 {
            self.rtc.read(offset, AccessWidth::Dword).unwrap()
        }

        fn write(&mut self, offset: u64, value: u64) {
            let written = self.rtc.write(offset, AccessWidth::Dword, value);
            written.unwrap();
        }

        fn pass(&mut self, by_ns: u64) {
            self.clock.advance(by_ns);
            self.rtc.tick(self.clock.monotonic_ns());
        }
    }

    #[test]
    fn after_reset_the_registers_are_qemus() {
        let mut bench = Bench::new();
        let mut nonzero = Vec::new();
        for offset in (0..0x1000).step_by(4) {
            let value = bench.read(offset);
            if value != 0 {
                nonzero.push((offset, value));
            }
        }
        let ids = [(0xfe0, 0x31), (0xfe4, 0x10), (0xfe8, 0x14)];
        let cell = [(0xff0, 0x0d), (0xff4, 0xf0), (0xff8, 0x05), (0xffc, 0xb1)];
        assert_eq!(nonzero, [&[(DR, START), (CR, 1)][..], &ids, &cell].concat());
        assert_eq!(bench.rtc.next_deadline_ns(), None);
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn loading_shifts_the_counter_and_it_runs_on() {
        let mut bench = Bench::new();
        for value in [0, 0x1234, 0xffff_ffff] {
            bench.write(LR, value);
            assert_eq!((bench.read(DR), bench.read(LR)), (value, value));
            bench.clock.advance(2 * SECOND_NS);
            assert_eq!(bench.read(DR), (value + 2) & 0xffff_ffff);
        }
    }

    #[test]
    fn the_match_comes_with_the_second_that_shows_it() {
        let mut bench = Bench::new();
        bench.write(IMSC, 1);
        bench.write(MR, START + 2);
        assert_eq!((bench.read(MR), bench.read(RIS)), (START + 2, 0));
        let wait = 2 * SECOND_NS - SECOND_NS / 4;
        bench.pass(wait - 1);
        assert!(!bench.irq.is_high());
        assert_eq!(bench.read(DR), START + 1);
        bench.pass(1);
        assert_eq!(bench.read(DR), START + 2);
        assert_eq!((bench.read(RIS), bench.read(MIS)), (1, 1));
        assert!(bench.irq.is_high());
        assert_eq!(bench.rtc.next_deadline_ns(), None);
    }

    #[test]
    fn a_match_with_the_present_second_comes_at_once() {
        let mut bench = Bench::new();
        bench.write(MR, START);
        assert_eq!((bench.read(RIS), bench.read(MIS)), (1, 0));
        assert!(!bench.irq.is_high(), "masked");
        bench.write(IMSC, 0xffff_ffff);
        assert_eq!(bench.read(IMSC), 1);
        assert!(bench.irq.is_high());
    }

    #[test]
    fn a_match_in_the_past_comes_when_the_counter_has_wrapped() {
        let mut bench = Bench::new();
        bench.write(MR, START - 1);
        let deadline = bench.rtc.next_deadline_ns().unwrap();
        let wait = deadline - bench.clock.monotonic_ns();
        assert_eq!(wait, 0xffff_ffff * SECOND_NS - SECOND_NS / 4);
    }

    #[test]
    fn loading_the_match_value_makes_it_match() {
        let mut bench = Bench::new();
        bench.write(MR, 0x1000);
        bench.write(LR, 0xfff);
        bench.pass(SECOND_NS);
        assert_eq!(bench.read(RIS), 1);
    }

    #[test]
    fn only_bit_zero_of_the_clear_register_clears() {
        let mut bench = Bench::new();
        bench.write(IMSC, 1);
        bench.write(MR, START);
        bench.write(ICR, 0xffff_fffe);
        assert!(bench.irq.is_high());
        bench.write(ICR, 1);
        assert!(!bench.irq.is_high());
        assert_eq!((bench.read(RIS), bench.read(ICR)), (0, 0));
    }

    #[test]
    fn read_only_and_reserved_offsets_ignore_writes() {
        let mut bench = Bench::new();
        for offset in (0..0x1000).step_by(4) {
            if ![MR, LR, IMSC, ICR].contains(&offset) {
                let before = bench.read(offset);
                bench.write(offset, 0x5555_5555);
                assert_eq!(bench.read(offset), before);
            }
        }
        assert_eq!(bench.irq.calls(), 0);
    }

    #[test]
    fn any_aligned_width_is_decoded_and_nothing_else() {
        let mut bench = Bench::new();
        for (width, size) in WIDTHS {
            for offset in 0..0x1000 {
                let decoded = offset % size == 0;
                assert_eq!(bench.rtc.read(offset, width).is_ok(), decoded);
            }
            for offset in [0x1000, 0x1008, u64::MAX - 7, u64::MAX] {
                assert_eq!(bench.rtc.read(offset, width), Err(AccessFault));
                assert_eq!(bench.rtc.write(offset, width, 0), Err(AccessFault));
            }
        }
        let mut read = |offset, width| bench.rtc.read(offset, width).unwrap();
        assert_eq!(read(DR, AccessWidth::Byte), START & 0xff);
        assert_eq!(read(DR + 1, AccessWidth::Byte), 0, "between registers");
        assert_eq!(read(0xfe1, AccessWidth::Byte), 0x31);
        assert_eq!(read(0xfe0, AccessWidth::Qword), 0x10_0000_0031);
    }

    #[derive(Clone, Debug)]
    enum Action {
        Read(u64, AccessWidth),
        Write(u64, AccessWidth, u64),
        Pass(u64),
    }

    fn any_offset() -> impl Strategy<Value = u64> {
        prop_oneof![8 => (0..9u64).prop_map(|word| word * 4), 1 => any::<u64>()]
    }

    fn any_value() -> impl Strategy<Value = u64> {
        prop_oneof![Just(1), START - 3..START + 10, any::<u64>()]
    }

    fn any_action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (any_offset(), any_width()).prop_map(|(o, w)| Action::Read(o, w)),
            (any_offset(), any_width(), any_value()).prop_map(|(o, w, v)| Action::Write(o, w, v)),
            (0..3 * SECOND_NS).prop_map(Action::Pass),
        ]
    }

    proptest! {
        #[test]
        fn the_line_is_what_the_registers_say(
            actions in prop::collection::vec(any_action(), 0..100),
        ) {
            let mut bench = Bench::new();
            for action in actions {
                let before = (bench.read(DR), bench.read(RIS));
                match action {
                    Action::Read(offset, width) => {
                        let _ = bench.rtc.read(offset, width);
                    }
                    Action::Write(offset, width, value) => {
                        let _ = bench.rtc.write(offset, width, value);
                    }
                    Action::Pass(by) => {
                        let was_armed = bench.rtc.next_deadline_ns().is_some();
                        bench.pass(by);
                        let ahead = bench.read(MR).wrapping_sub(before.0) & 0xffff_ffff;
                        let passed = bench.read(DR).wrapping_sub(before.0) & 0xffff_ffff;
                        let matched = was_armed && ahead <= passed;
                        prop_assert_eq!(bench.read(RIS), before.1 | u64::from(matched));
                    }
                }
                let masked = bench.read(RIS) & bench.read(IMSC);
                prop_assert_eq!(bench.read(MIS), masked);
                prop_assert_eq!(bench.irq.is_high(), masked == 1);
                if let Some(deadline) = bench.rtc.next_deadline_ns() {
                    prop_assert!(deadline > bench.clock.monotonic_ns());
                }
            }
        }
    }
}
