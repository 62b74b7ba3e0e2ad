// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! PMU: counters of cycles, instructions and firmware events.
//!
//! `counters` has the counters themselves; here their calls are checked. Filters
//! by mode are hints that the hardware does not take. There is no snapshot
//! memory, since counters that do not overflow into interrupts need none.
//!
//! A call on several counters does what it can with each, as guests stop all
//! counters at once without knowing which of them run.
//!
//! Spec: SBI, "Performance Monitoring Unit Extension (EID #0x504D55 \"PMU\")".

use axvm::GuestPhysAddr;
use sbi_spec::pmu::{
    COUNTER_CONFIG_MATCHING, COUNTER_FW_READ, COUNTER_FW_READ_HI, COUNTER_GET_INFO, COUNTER_START,
    COUNTER_STOP, EVENT_GET_INFO, NUM_COUNTERS,
};

use super::{
    Call, Hart, Outcome, Ret,
    counters::{COUNTERS, Counters, Shape, Source, Started},
};

/// Flags of a configuration.
const SKIP_MATCH: u64 = 1 << 0;
const CLEAR_VALUE: u64 = 1 << 1;
const AUTO_START: u64 = 1 << 2;
/// All of them, the filters included.
const CONFIG_FLAGS: u64 = 0xff;
/// Flags of a start.
const INIT_VALUE: u64 = 1 << 0;
const INIT_SNAPSHOT: u64 = 1 << 1;
/// Flags of a stop.
const RESET: u64 = 1 << 0;
const TAKE_SNAPSHOT: u64 = 1 << 1;

const FIRMWARE_TYPE: u64 = 1 << 63;
/// One less than the registers' 64 bits, where an answer has it.
const REGISTER_WIDTH: u64 = 63 << 12;

const ENTRY_BYTES: u64 = 16;
/// How many events are looked up in a call; no list of events is longer.
const ENTRIES_MAX: u64 = 256;
const EVENT_INDEX_MAX: u32 = 0xf_ffff;

pub(super) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    let result = match call.function as usize {
        NUM_COUNTERS => Ok(COUNTERS as u64),
        COUNTER_GET_INFO => info(call),
        COUNTER_CONFIG_MATCHING => configure(hart, call),
        COUNTER_START => start(hart, call),
        COUNTER_STOP => stop(hart, call),
        COUNTER_FW_READ => firmware_value(hart, call),
        // The other half of a value that one register holds.
        COUNTER_FW_READ_HI => firmware_value(hart, call).map(|_| 0),
        EVENT_GET_INFO => look_events_up(hart, call),
        _ => Err(Ret::not_supported()),
    };
    Outcome::Return(result.map_or_else(|refused| refused, Ret::success))
}

type Answer = Result<u64, Ret>;

fn info(call: &Call) -> Answer {
    let [number, ..] = call.args;
    match Counters::shape(number).ok_or(Ret::invalid_param())? {
        Shape::Register(csr) => Ok(REGISTER_WIDTH | u64::from(csr)),
        Shape::Firmware => Ok(FIRMWARE_TYPE),
    }
}

/// Reads a set of counters, all of which must exist.
fn counter_set(call: &Call) -> Result<impl Iterator<Item = usize> + use<>, Ret> {
    let [base, mask, ..] = call.args;
    let room = (COUNTERS as u64).saturating_sub(base);
    let highest = u64::from(64_u32.wrapping_sub(mask.leading_zeros()));
    match highest <= room && base < COUNTERS as u64 {
        true => Ok((0..64_u32)
            .filter(move |bit| mask.wrapping_shr(*bit) & 1 == 1)
            .map(move |bit| base.wrapping_add(u64::from(bit)) as usize)),
        false => Err(Ret::invalid_param()),
    }
}

fn configure(hart: &mut dyn Hart, call: &Call) -> Answer {
    let [_, _, flags, event, _, _] = call.args;
    let mut candidates = counter_set(call)?;
    if flags & !CONFIG_FLAGS != 0 {
        return Err(Ret::invalid_param());
    }
    let source = Source::of_event(event).ok_or(Ret::not_supported())?;
    let chosen = match flags & SKIP_MATCH {
        0 => candidates.find(|number| hart.state().counters.is_free_for(*number, source)),
        _ => candidates
            .next()
            .filter(|number| Counters::is_fit_for(*number, source)),
    };
    let number = chosen.ok_or(Ret::not_supported())?;
    hart.with_counters(&mut |counters, now| {
        counters.configure(number, source, now);
        if flags & CLEAR_VALUE != 0 {
            counters.put(number, 0);
        }
        if flags & AUTO_START != 0 {
            counters.start(number, now);
        }
    });
    Ok(number as u64)
}

fn start(hart: &mut dyn Hart, call: &Call) -> Answer {
    let [_, _, flags, value, ..] = call.args;
    let numbers = counter_set(call)?;
    match flags {
        0 | INIT_VALUE => {}
        INIT_SNAPSHOT => return Err(Ret::no_shmem()),
        _ => return Err(Ret::invalid_param()),
    }
    let mut worst = Started::Now;
    for number in numbers {
        hart.with_counters(&mut |counters, now| {
            if flags == INIT_VALUE {
                counters.put(number, value);
            }
            let started = counters.start(number, now);
            if started != Started::Now {
                worst = started;
            }
        });
    }
    match worst {
        Started::Now => Ok(0),
        Started::Before => Err(Ret::already_started()),
        Started::NoEvent => Err(Ret::invalid_param()),
    }
}

fn stop(hart: &mut dyn Hart, call: &Call) -> Answer {
    let [_, _, flags, ..] = call.args;
    let numbers = counter_set(call)?;
    match flags {
        0 | RESET => {}
        _ if flags & !(RESET | TAKE_SNAPSHOT) == 0 => return Err(Ret::no_shmem()),
        _ => return Err(Ret::invalid_param()),
    }
    let mut all_ran = true;
    for number in numbers {
        hart.with_counters(&mut |counters, now| {
            all_ran &= counters.stop(number, now);
            if flags == RESET {
                counters.release(number);
            }
        });
    }
    match all_ran {
        true => Ok(0),
        false => Err(Ret::already_stopped()),
    }
}

fn firmware_value(hart: &mut dyn Hart, call: &Call) -> Answer {
    let [number, ..] = call.args;
    if Counters::shape(number) != Some(Shape::Firmware) {
        return Err(Ret::invalid_param());
    }
    let mut value = 0;
    hart.with_counters(&mut |counters, now| value = counters.value(number as usize, now));
    Ok(value)
}

/// Tells of each event in a list whether it can be counted.
fn look_events_up(hart: &mut dyn Hart, call: &Call) -> Answer {
    let [low, high, entries, flags, ..] = call.args;
    if flags != 0 || !low.is_multiple_of(ENTRY_BYTES) {
        return Err(Ret::invalid_param());
    }
    if entries > ENTRIES_MAX {
        return Err(Ret::failed());
    }
    let bytes = entries.saturating_mul(ENTRY_BYTES) as usize;
    if high != 0 || !hart.is_ram(GuestPhysAddr::from_usize(low as usize), bytes) {
        return Err(Ret::invalid_address());
    }
    for entry in 0..entries {
        let at = low.wrapping_add(entry.wrapping_mul(ENTRY_BYTES));
        look_event_up(hart, at)?;
    }
    Ok(0)
}

/// An entry is an event's index and, behind it, what is answered.
fn look_event_up(hart: &mut dyn Hart, at: u64) -> Result<(), Ret> {
    let unreachable = |_| Ret::invalid_address();
    let address = |offset| GuestPhysAddr::from_usize(at.wrapping_add(offset) as usize);
    let mut index = [0; 4];
    hart.ram()
        .read(address(0), &mut index)
        .map_err(unreachable)?;
    let index = u32::from_le_bytes(index);
    if index > EVENT_INDEX_MAX {
        return Err(Ret::invalid_param());
    }
    let is_counted = Source::of_event(u64::from(index)).is_some();
    hart.ram()
        .write(address(4), &u32::from(is_counted).to_le_bytes())
        .map_err(unreachable)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FakeHart, RAM_BYTES, RAM_START, call};
    use super::*;
    use sbi_spec::pmu::{EID_PMU, SNAPSHOT_SET_SHMEM};

    const ALL: u64 = (1 << COUNTERS) - 1;
    const SET_TIMER_EVENT: u64 = 0xf_0005;

    fn ask(hart: &mut FakeHart, function: usize, args: &[u64]) -> Outcome {
        call(hart, EID_PMU, function, args)
    }

    fn error(ret: Ret) -> Outcome {
        Outcome::Return(ret)
    }

    #[test]
    fn two_counters_are_registers_and_the_rest_is_firmwares() {
        let mut hart = FakeHart::default();
        assert_eq!(ask(&mut hart, NUM_COUNTERS, &[]), Outcome::success(11));
        let mut info = |number| ask(&mut hart, COUNTER_GET_INFO, &[number]);
        assert_eq!(info(0), Outcome::success(0x3_fc00));
        assert_eq!(info(1), Outcome::success(0x3_fc02));
        assert_eq!(info(2), Outcome::success(1 << 63));
        assert_eq!(info(10), Outcome::success(1 << 63));
        assert_eq!(info(11), Outcome::invalid_param());
        assert_eq!(info(u64::MAX), Outcome::invalid_param());
    }

    #[test]
    fn a_firmware_event_is_counted_from_start_to_stop() {
        let mut hart = FakeHart::default();
        let args = [0, ALL, CLEAR_VALUE, SET_TIMER_EVENT];
        let matched = ask(&mut hart, COUNTER_CONFIG_MATCHING, &args);
        assert_eq!(matched, Outcome::success(2));
        hart.source = 100;
        let start = [2, 1, INIT_VALUE, 40];
        assert_eq!(ask(&mut hart, COUNTER_START, &start), Outcome::success(0));
        hart.source = 103;
        assert_eq!(ask(&mut hart, COUNTER_FW_READ, &[2]), Outcome::success(43));
        assert_eq!(
            ask(&mut hart, COUNTER_FW_READ_HI, &[2]),
            Outcome::success(0)
        );
        let again = ask(&mut hart, COUNTER_START, &start);
        assert_eq!(again, error(Ret::already_started()));
        assert_eq!(
            ask(&mut hart, COUNTER_STOP, &[2, 1, 0]),
            Outcome::success(0)
        );
        let again = ask(&mut hart, COUNTER_STOP, &[2, 1, RESET]);
        assert_eq!(again, error(Ret::already_stopped()));
        // Its event is gone.
        let start = ask(&mut hart, COUNTER_START, &[2, 1, 0, 0]);
        assert_eq!(start, Outcome::invalid_param());
    }

    #[test]
    fn a_counter_is_matched_once_unless_it_is_named() {
        let mut hart = FakeHart::default();
        let mut config =
            |base, mask, flags| ask(&mut hart, COUNTER_CONFIG_MATCHING, &[base, mask, flags, 1]);
        let flags = AUTO_START | 0xf8;
        assert_eq!(config(0, ALL, flags), Outcome::success(0));
        assert_eq!(config(0, ALL, flags), Outcome::not_supported());
        assert_eq!(config(0, 1, SKIP_MATCH), Outcome::success(0));
        assert_eq!(config(1, 1, SKIP_MATCH), Outcome::not_supported());
        assert_eq!(config(0, ALL, 1 << 8), Outcome::invalid_param());
    }

    #[test]
    fn events_that_nothing_counts_are_not_supported() {
        let mut hart = FakeHart::default();
        for event in [0, 3, 0x1_0000, 0x2_0000, 0xf_0000, 0xf_ffff, u64::MAX] {
            let outcome = ask(&mut hart, COUNTER_CONFIG_MATCHING, &[0, ALL, 0, event]);
            assert_eq!(outcome, Outcome::not_supported(), "{event:#x}");
        }
        // The counters of the set cannot count it.
        let outcome = ask(&mut hart, COUNTER_CONFIG_MATCHING, &[1, 3, 0, 1]);
        assert_eq!(outcome, Outcome::not_supported());
    }

    #[test]
    fn sets_with_a_counter_that_does_not_exist_are_refused() {
        let mut hart = FakeHart::default();
        for (base, mask) in [(0, 1 << 11), (11, 0), (10, 2), (u64::MAX, 1), (0, u64::MAX)] {
            for function in [COUNTER_CONFIG_MATCHING, COUNTER_START, COUNTER_STOP] {
                let outcome = ask(&mut hart, function, &[base, mask, 0, 1]);
                assert_eq!(outcome, Outcome::invalid_param(), "{base:#x} {mask:#x}");
            }
        }
        for function in [COUNTER_FW_READ, COUNTER_FW_READ_HI] {
            for number in [0, 1, 11, u64::MAX] {
                assert_eq!(
                    ask(&mut hart, function, &[number]),
                    Outcome::invalid_param()
                );
            }
        }
    }

    #[test]
    fn there_is_no_snapshot_memory() {
        let mut hart = FakeHart::default();
        let set = ask(&mut hart, SNAPSHOT_SET_SHMEM, &[RAM_START, 0, 0]);
        assert_eq!(set, Outcome::not_supported());
        let no_memory = error(Ret::no_shmem());
        let mut flags = |function, flags| ask(&mut hart, function, &[0, 1, flags]);
        assert_eq!(flags(COUNTER_START, INIT_SNAPSHOT), no_memory);
        assert_eq!(flags(COUNTER_STOP, TAKE_SNAPSHOT | RESET), no_memory);
        assert_eq!(flags(COUNTER_START, 3), Outcome::invalid_param());
        assert_eq!(flags(COUNTER_STOP, 4), Outcome::invalid_param());
    }

    #[test]
    fn a_list_of_events_is_answered_in_place() {
        let mut hart = FakeHart::default();
        let at = |offset| GuestPhysAddr::from_usize(RAM_START as usize + offset);
        for (entry, event) in [1_u32, 3, 0xf_0005].into_iter().enumerate() {
            let bytes = event.to_le_bytes();
            hart.ram().write(at(16 * entry), &bytes).unwrap();
            hart.ram().write(at(16 * entry + 4), &[0xff; 4]).unwrap();
        }
        let mut look = |args: &[u64]| ask(&mut hart, EVENT_GET_INFO, args);
        assert_eq!(look(&[RAM_START, 0, 3, 0]), Outcome::success(0));
        assert_eq!(look(&[RAM_START + 8, 0, 1, 0]), Outcome::invalid_param());
        assert_eq!(look(&[RAM_START, 0, 1, 1]), Outcome::invalid_param());
        let nowhere = error(Ret::invalid_address());
        assert_eq!(look(&[RAM_START, 1, 1, 0]), nowhere);
        assert_eq!(look(&[RAM_START + RAM_BYTES - 16, 0, 2, 0]), nowhere);
        assert_eq!(look(&[RAM_START, 0, u64::MAX, 0]), error(Ret::failed()));
        let told = [0, 16, 32].map(|entry| {
            let mut word = [0; 4];
            hart.ram().read(at(entry + 4), &mut word).unwrap();
            u32::from_le_bytes(word)
        });
        assert_eq!(told, [1, 0, 1]);
        hart.ram()
            .write(at(0), &0x10_0000_u32.to_le_bytes())
            .unwrap();
        let outcome = ask(&mut hart, EVENT_GET_INFO, &[RAM_START, 0, 1, 0]);
        assert_eq!(outcome, Outcome::invalid_param());
    }
}
