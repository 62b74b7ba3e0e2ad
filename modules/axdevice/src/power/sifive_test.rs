// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The SiFive test finisher, with which a RISC-V guest ends or resets its machine.
//!
//! One write-only register at offset 0 of a 4 KiB region, written with 16 or 32
//! bits: a status in the low half, an exit code in the high half. Everything
//! else in the region reads as zero and ignores writes; bytes, 64-bit accesses
//! and misaligned ones are bus errors, as on QEMU's `virt`.
//! Threats: docs/devices.md.

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

use super::{PowerRequest, PowerSink};
use crate::{
    AccessFault, AccessWidth, IoDevice,
    regs::{
        self,
        sifive_test::{FINISHER, REGION_BYTES},
    },
};

/// The finisher of one VM.
pub struct SifiveTest {
    power: Arc<dyn PowerSink>,
}

impl SifiveTest {
    /// Makes a finisher that passes its requests to `power`.
    pub fn new(power: Arc<dyn PowerSink>) -> Self {
        Self { power }
    }
}

impl IoDevice for SifiveTest {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        check(offset, width)?;
        Ok(0)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        check(offset, width)?;
        let value = regs::low_half(regs::truncate(value, width));
        if offset == 0
            && let Some(request) = decode(value)
        {
            self.power.request(request);
        }
        Ok(())
    }
}

/// Refuses what the region does not decode.
fn check(offset: u64, width: AccessWidth) -> Result<(), AccessFault> {
    let decoded = matches!(width, AccessWidth::Word | AccessWidth::Dword);
    match decoded && regs::is_aligned(offset, width) && offset < REGION_BYTES {
        true => Ok(()),
        false => Err(AccessFault),
    }
}

/// Returns what a value asks for; one that asks for nothing known is ignored.
fn decode(value: u32) -> Option<PowerRequest> {
    use FINISHER::STATUS::Value;
    let finisher = LocalRegisterCopy::<u32, FINISHER::Register>::new(value);
    let status = finisher.read_as_enum::<Value>(FINISHER::STATUS)?;
    Some(match status {
        Value::Pass => PowerRequest::Off,
        Value::Fail => PowerRequest::Failed(finisher.read(FINISHER::CODE)),
        Value::Reset => PowerRequest::Reset,
    })
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::{FakePower, WIDTHS, any_width};

    fn finisher() -> (Arc<FakePower>, SifiveTest) {
        let power = Arc::new(FakePower::default());
        (power.clone(), SifiveTest::new(power))
    }

    fn requests_of(width: AccessWidth, value: u64) -> Vec<PowerRequest> {
        let (power, mut device) = finisher();
        device.write(0, width, value).unwrap();
        power.requests()
    }

    #[test]
    fn each_status_asks_for_its_end() {
        use AccessWidth::{Dword, Word};
        assert_eq!(requests_of(Dword, 0x5555), vec![PowerRequest::Off]);
        assert_eq!(requests_of(Dword, 0x7777), vec![PowerRequest::Reset]);
        let failed = vec![PowerRequest::Failed(42)];
        assert_eq!(requests_of(Dword, 42 << 16 | 0x3333), failed);
        assert_eq!(requests_of(Word, 0x5555), vec![PowerRequest::Off]);
        assert_eq!(requests_of(Word, 0x7_3333), vec![PowerRequest::Failed(0)]);
    }

    #[test]
    fn the_code_of_a_pass_is_ignored() {
        let requests = requests_of(AccessWidth::Dword, 9 << 16 | 0x5555);
        assert_eq!(requests, vec![PowerRequest::Off]);
    }

    #[test]
    fn an_unknown_status_asks_for_nothing() {
        for value in [0, 1, 0x5554, 0x3333_0000, 0xffff_ffff] {
            assert_eq!(requests_of(AccessWidth::Dword, value), vec![]);
        }
    }

    #[test]
    fn only_offset_zero_asks_for_anything_and_all_reads_are_zero() {
        let (power, mut device) = finisher();
        for offset in (4..0x1000).step_by(4) {
            device.write(offset, AccessWidth::Dword, 0x5555).unwrap();
            assert_eq!(device.read(offset, AccessWidth::Dword), Ok(0));
        }
        device.write(2, AccessWidth::Word, 0x5555).unwrap();
        assert_eq!(device.read(0, AccessWidth::Dword), Ok(0));
        assert_eq!(power.requests(), vec![]);
    }

    #[test]
    fn widths_and_offsets_outside_the_region_are_bus_errors() {
        let (power, mut device) = finisher();
        for (width, size) in WIDTHS {
            let decoded = size == 2 || size == 4;
            assert_eq!(device.read(0, width).is_ok(), decoded);
            assert_eq!(device.read(0x1000, width), Err(AccessFault));
            assert_eq!(device.write(u64::MAX, width, 0x5555), Err(AccessFault));
        }
        for width in [AccessWidth::Byte, AccessWidth::Qword] {
            assert_eq!(device.write(0, width, 0x5555), Err(AccessFault));
        }
        assert_eq!(device.read(1, AccessWidth::Word), Err(AccessFault));
        assert_eq!(device.read(2, AccessWidth::Dword), Err(AccessFault));
        assert_eq!(power.requests(), vec![]);
    }

    proptest! {
        #[test]
        fn a_request_is_made_exactly_by_a_known_status_at_offset_zero(
            offset in prop_oneof![Just(0), 0..0x1010u64, any::<u64>()],
            width in any_width(),
            status in prop_oneof![Just(0x5555), Just(0x3333), Just(0x7777), any::<u16>()],
            code in any::<u16>(),
        ) {
            let (power, mut device) = finisher();
            let value = u64::from(code) << 16 | u64::from(status);
            let written = device.write(offset, width, value);
            prop_assert_eq!(written.is_ok(), device.read(offset, width).is_ok());
            let known = matches!(status, 0x5555 | 0x3333 | 0x7777);
            let asked = written.is_ok() && offset == 0 && known;
            prop_assert_eq!(power.requests().len(), usize::from(asked));
        }
    }
}
