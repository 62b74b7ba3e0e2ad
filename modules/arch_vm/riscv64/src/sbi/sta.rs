// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! STA: the time that a guest was ready to run and did not.
//!
//! A hart names 64 bytes of its RAM; [`StealTime`] keeps the stolen nanoseconds
//! there. Time is stolen from when a hart's registers are put away until they are
//! loaded again, unless the hart waits of its own will. While nobody named any
//! memory, nothing is counted, and each switch costs one comparison.
//!
//! The guest may write the memory, and may take it away from under us only by
//! this call; nothing that is read from it is ever used.
//!
//! Spec: SBI, "Steal-time Accounting Extension (EID #0x535441 \"STA\")".

use axdevice::GuestMemory;
use axvm::{GuestPhysAddr, StolenTime};
use sbi_spec::sta::SET_SHMEM;

use super::{Call, Hart, NO_MEMORY, Outcome, Ret};

/// The record's size, which is its alignment too.
const RECORD_BYTES: usize = 64;
/// Where its fields are; what is not named here is zero.
const SEQUENCE: usize = 0;
const STEAL: usize = 8;
const PREEMPTED: usize = 16;

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let [low, high, flags, ..] = call.args;
    if call.function as usize != SET_SHMEM {
        return Outcome::not_supported();
    }
    if flags != 0 {
        return Outcome::invalid_param();
    }
    if (low, high) == NO_MEMORY {
        hart.state().steal.forget();
        return Outcome::success(0);
    }
    if !low.is_multiple_of(RECORD_BYTES as u64) {
        return Outcome::invalid_param();
    }
    let at = GuestPhysAddr::from_usize(low as usize);
    if high != 0 || hart.ram().write(at, &[0; RECORD_BYTES]).is_err() {
        return Outcome::Return(Ret::invalid_address());
    }
    hart.state().steal.account_at(at);
    Outcome::success(0)
}

/// One hart's account of stolen time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StealTime {
    record: Option<GuestPhysAddr>,
    sequence: u32,
    time: StolenTime,
}

impl StealTime {
    /// Tells whether a guest reads the account.
    pub(crate) fn is_read(&self) -> bool {
        self.record.is_some()
    }

    fn forget(&mut self) {
        *self = Self::default();
    }

    fn account_at(&mut self, record: GuestPhysAddr) {
        *self = Self {
            record: Some(record),
            ..Self::default()
        };
    }

    /// Notes that the hart, which is ready, runs no more.
    pub(crate) fn takes(&mut self, now_ns: u64, ram: &dyn GuestMemory) {
        self.time.takes(now_ns);
        self.write(ram, PREEMPTED, &[1]);
    }

    /// Notes that the hart runs again.
    pub(crate) fn gives_back(&mut self, now_ns: u64, ram: &dyn GuestMemory) {
        let Some(stolen_ns) = self.time.gives_back(now_ns) else {
            return;
        };
        // Odd while the record changes.
        self.next_sequence(ram);
        self.write(ram, STEAL, &stolen_ns.to_le_bytes());
        self.write(ram, PREEMPTED, &[0]);
        self.next_sequence(ram);
    }

    fn next_sequence(&mut self, ram: &dyn GuestMemory) {
        use core::sync::atomic::{Ordering, fence};
        fence(Ordering::SeqCst);
        self.sequence = self.sequence.wrapping_add(1);
        self.write(ram, SEQUENCE, &self.sequence.to_le_bytes());
        fence(Ordering::SeqCst);
    }

    fn write(&self, ram: &dyn GuestMemory, offset: usize, bytes: &[u8]) {
        let start = self.record.map_or(0, GuestPhysAddr::as_usize);
        let at = GuestPhysAddr::from_usize(start.wrapping_add(offset));
        // The record was found to be RAM, and RAM does not go away.
        let _ = ram.write(at, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, RAM_BYTES, RAM_START, call};
    use super::*;
    use sbi_spec::sta::EID_STA;

    fn ask(hart: &mut FakeHart, args: &[u64]) -> Outcome {
        call(hart, EID_STA, SET_SHMEM, args)
    }

    fn record(hart: &FakeHart) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        let at = GuestPhysAddr::from_usize(RAM_START as usize);
        hart.ram().read(at, &mut bytes).unwrap();
        bytes
    }

    fn named() -> FakeHart {
        let mut hart = FakeHart::default();
        let at = GuestPhysAddr::from_usize(RAM_START as usize);
        hart.ram().write(at, &[0xff; RECORD_BYTES]).unwrap();
        assert_eq!(ask(&mut hart, &[RAM_START, 0, 0]), Outcome::success(0));
        hart
    }

    #[test]
    fn memory_that_is_named_is_zeroed() {
        let hart = named();
        assert_eq!(record(&hart), [0; RECORD_BYTES]);
        assert!(hart.state.steal.is_read());
    }

    #[test]
    fn what_is_stolen_is_told_between_two_numbers() {
        let mut hart = named();
        let mut steal = hart.state.steal;
        steal.takes(1000, hart.ram());
        assert_eq!(record(&hart)[PREEMPTED], 1);
        steal.gives_back(1500, hart.ram());
        // Whoever was not put away ready has lost nothing.
        steal.gives_back(9999, hart.ram());
        steal.takes(2000, hart.ram());
        steal.gives_back(2001, hart.ram());
        let told = record(&hart);
        assert_eq!(told[STEAL..STEAL + 8], 501_u64.to_le_bytes());
        assert_eq!(told[..4], 4_u32.to_le_bytes());
        assert_eq!(told[PREEMPTED], 0);
        hart.state.steal = steal;
        ask(&mut hart, &[u64::MAX, u64::MAX, 0]);
        assert!(!hart.state.steal.is_read());
    }

    #[test]
    fn flags_and_memory_are_checked() {
        let mut hart = FakeHart::default();
        let bad_address = Outcome::Return(Ret::invalid_address());
        for (args, expected) in [
            ([RAM_START, 0, 1], Outcome::invalid_param()),
            ([u64::MAX, u64::MAX, 1], Outcome::invalid_param()),
            ([RAM_START + 8, 0, 0], Outcome::invalid_param()),
            ([RAM_START, 1, 0], bad_address),
            ([RAM_START + RAM_BYTES, 0, 0], bad_address),
            ([0, 0, 0], bad_address),
            ([u64::MAX - 63, 0, 0], bad_address),
        ] {
            assert_eq!(ask(&mut hart, &args), expected, "{args:x?}");
        }
        assert!(!hart.state.steal.is_read());
        let unknown = call(&mut hart, EID_STA, 1, &[u64::MAX, u64::MAX]);
        assert_eq!(unknown, Outcome::not_supported());
    }
}
