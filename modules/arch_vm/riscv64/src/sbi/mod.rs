// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The supervisor binary interface that guests call.
//!
//! One file for each extension, one row for each in [`EXTENSIONS`]. An extension
//! is a function of a [`Call`] and its [`Hart`]: it checks every argument as the
//! specification says and returns an [`Outcome`]. Nothing here touches hardware,
//! and nothing is forwarded to the host's own firmware. Called by `exit`.
//!
//! Spec: RISC-V Supervisor Binary Interface, 3.0.

mod base;
mod counters;
mod dbcn;
mod fwft;
mod hive;
mod hsm;
mod ipi;
mod legacy;
mod pmu;
mod rfence;
mod srst;
mod sta;
mod susp;
mod time;

use axdevice::{GuestMemory, PowerRequest};
use axvm::{AxVCpuExitReason, ConsoleCall, CpuPower, GuestPhysAddr};
use sbi_spec::binary::SbiRet;

pub(crate) use counters::{Counters, Events, Now, Source, read_by};
pub(crate) use fwft::{Feature, Features};
pub(crate) use hsm::start_error;
pub(crate) use sta::StealTime;

use crate::{fence::Fence, trap::Fault};

/// What a hart returns from an SBI call.
pub type Ret = SbiRet<u64>;

/// A call as the guest's registers have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    /// The extension, from a7.
    pub extension: u64,
    /// The function in it, from a6.
    pub function: u64,
    /// a0 to a5.
    pub args: [u64; 6],
}

/// A set of harts, a bit for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HartSet(u64);

impl HartSet {
    /// Returns all of so many harts.
    pub fn all(count: usize) -> Self {
        Self(u64::MAX.wrapping_shr(64_u32.wrapping_sub(count as u32)))
    }

    /// Returns the set of one hart.
    pub fn only(hart: usize) -> Self {
        Self(1_u64.wrapping_shl(hart as u32))
    }

    /// Reads a hart mask and its base; harts that do not exist are refused.
    fn from_mask(mask: u64, base: u64, count: usize) -> Result<Self, Ret> {
        if base == u64::MAX {
            return Ok(Self::all(count));
        }
        let is_valid = base < count as u64 && mask <= Self::all(count).0.wrapping_shr(base as u32);
        match is_valid {
            true => Ok(Self(mask.wrapping_shl(base as u32))),
            false => Err(Ret::invalid_param()),
        }
    }

    /// Returns the set less one hart.
    pub fn without(self, hart: usize) -> Self {
        Self(self.0 & !Self::only(hart).0)
    }

    /// Tells whether no hart is in the set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Tells whether a hart is in the set.
    pub fn contains(self, hart: usize) -> bool {
        hart < 64 && self.0.wrapping_shr(hart as u32) & 1 == 1
    }
}

/// The address that means no memory, in both halves.
const NO_MEMORY: (u64, u64) = (u64::MAX, u64::MAX);

/// What one hart's firmware remembers between calls.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) counters: Counters,
    pub(crate) steal: StealTime,
    pub(crate) features: Features,
}

impl State {
    /// Makes the state of a hart that starts, with these features.
    pub(crate) fn new(features: Features) -> Self {
        Self {
            counters: Counters::new(),
            steal: StealTime::default(),
            features,
        }
    }
}

/// How a hart sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspend {
    /// It goes on behind the call.
    Retentive,
    /// It starts anew.
    NonRetentive {
        /// Where.
        resume: GuestPhysAddr,
        /// With this in a1.
        opaque: u64,
    },
}

/// Where the answer of a call goes that axvm finishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is none.
    None,
    /// It is the error, in a0.
    Error,
    /// It is the value, in a1, and there was no error.
    Value,
    /// It is all that a legacy call returns, in a0.
    Legacy,
}

/// What comes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It is done: a0 and a1.
    Return(Ret),
    /// A legacy call is done: a0 only.
    ReturnLegacy(u64),
    /// A guest address in it faulted: the guest takes that fault at its call.
    Fault(Fault),
    /// The hart sleeps until it has an interrupt.
    Suspend(Suspend),
    /// axvm does the rest.
    Leave(AxVCpuExitReason, Answer),
}

impl Outcome {
    fn success(value: u64) -> Self {
        Self::Return(Ret::success(value))
    }

    fn not_supported() -> Self {
        Self::Return(Ret::not_supported())
    }

    fn invalid_param() -> Self {
        Self::Return(Ret::invalid_param())
    }

    fn console(call: ConsoleCall, answer: Answer) -> Self {
        Self::Leave(AxVCpuExitReason::Console { call }, answer)
    }

    fn system(request: PowerRequest) -> Self {
        Self::Leave(AxVCpuExitReason::SystemDown { request }, Answer::None)
    }
}

/// What calls need of the hart that makes them, and of its machine.
pub(crate) trait Hart {
    /// Returns how many harts the machine has; their ids are below this.
    fn count(&self) -> usize;

    /// Returns the id of this one.
    fn id(&self) -> usize;

    /// Sets when the hart's timer fires, and takes back what is pending of it.
    fn set_timer(&mut self, deadline_ticks: u64);

    /// Makes a software interrupt pending.
    fn send_ipi(&mut self, targets: HartSet);

    /// Takes back the hart's own software interrupt.
    fn clear_ipi(&mut self);

    /// Orders memory on other harts, before they execute another instruction.
    fn fence(&mut self, targets: HartSet, fence: Fence);

    /// Returns whether a hart is on.
    fn power(&self, hart: usize) -> CpuPower;

    /// Tells whether a hart sleeps by a suspend call.
    fn is_suspended(&self, hart: usize) -> bool;

    /// Tells whether a range is wholly RAM.
    fn is_ram(&self, start: GuestPhysAddr, size_bytes: usize) -> bool;

    /// Returns the machine's RAM.
    fn ram(&self) -> &dyn GuestMemory;

    /// Returns what is remembered for the hart.
    fn state(&mut self) -> &mut State;

    /// Changes the counters, with a look at what they count.
    fn with_counters(&mut self, act: &mut dyn FnMut(&mut Counters, Now));

    /// Makes the hardware follow the hart's features.
    fn apply_features(&mut self);

    /// Reads eight bytes at a virtual address of the guest, as the guest would.
    fn read_virtual(&mut self, address: u64) -> Result<u64, Fault>;
}

/// What a hart that is left alone with a call can do.
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the fast path calls it")
)]
pub trait Alone: Hart {
    /// Tells whether its timer is a register, so that setting it needs no host.
    fn has_timer_register(&self) -> bool;
}

/// An extension: which ids are its own, and what answers.
struct Extension {
    first: u64,
    last: u64,
    answer: fn(&mut dyn Hart, &Call) -> Outcome,
}

const fn one(id: usize, answer: fn(&mut dyn Hart, &Call) -> Outcome) -> Extension {
    Extension {
        first: id as u64,
        last: id as u64,
        answer,
    }
}

/// Every extension, those that are called most first.
const EXTENSIONS: [Extension; 13] = [
    one(sbi_spec::time::EID_TIME, time::answer),
    one(sbi_spec::spi::EID_SPI, ipi::answer),
    one(sbi_spec::rfnc::EID_RFNC, rfence::answer),
    one(sbi_spec::base::EID_BASE, base::answer),
    one(sbi_spec::hsm::EID_HSM, hsm::answer),
    one(sbi_spec::dbcn::EID_DBCN, dbcn::answer),
    one(sbi_spec::pmu::EID_PMU, pmu::answer),
    one(sbi_spec::sta::EID_STA, sta::answer),
    one(sbi_spec::fwft::EID_FWFT, fwft::answer),
    one(sbi_spec::srst::EID_SRST, srst::answer),
    one(sbi_spec::susp::EID_SUSP, susp::answer),
    Extension {
        first: sbi_spec::legacy::LEGACY_SET_TIMER as u64,
        last: sbi_spec::legacy::LEGACY_SHUTDOWN as u64,
        answer: legacy::answer,
    },
    one(hive::EID, hive::answer),
];

fn find(id: u64) -> Option<&'static Extension> {
    EXTENSIONS
        .iter()
        .find(|extension| extension.first <= id && id <= extension.last)
}

/// Answers a call.
pub(crate) fn answer(hart: &mut dyn Hart, call: &Call) -> Outcome {
    match find(call.extension) {
        Some(extension) => (extension.answer)(hart, call),
        None => Outcome::not_supported(),
    }
}

/// Answers a call if the hart can do so alone: with nothing of the host, no lock
/// and no other hart. Otherwise nothing has happened yet.
///
/// These and [`answer_to_itself`]'s are the extensions of [`EXTENSIONS`] whose every
/// outcome is a return.
#[inline]
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the fast path calls it")
)]
pub fn answer_alone<T: Alone>(hart: &mut T, call: &Call) -> Option<Ret> {
    let outcome = match call.extension as usize {
        sbi_spec::base::EID_BASE => base::answer(hart, call),
        sbi_spec::time::EID_TIME if hart.has_timer_register() => time::answer(hart, call),
        _ => return None,
    };
    returned(outcome)
}

/// Answers a call to other harts if it is for this one alone; otherwise nothing
/// has happened yet.
#[inline]
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the fast path calls it")
)]
pub fn answer_to_itself<T: Alone>(hart: &mut T, call: &Call) -> Option<Ret> {
    let outcome = match call.extension as usize {
        sbi_spec::spi::EID_SPI if is_for_itself(hart, call) => ipi::answer(hart, call),
        sbi_spec::rfnc::EID_RFNC if is_for_itself(hart, call) => rfence::answer(hart, call),
        _ => return None,
    };
    returned(outcome)
}

#[inline]
fn returned(outcome: Outcome) -> Option<Ret> {
    match outcome {
        Outcome::Return(ret) => Some(ret),
        _ => None,
    }
}

/// Tells whether a hart mask and its base name the caller and nobody else.
#[cfg_attr(
    not(target_os = "none"),
    allow(dead_code, reason = "only the fast path calls it")
)]
fn is_for_itself<T: Alone>(hart: &T, call: &Call) -> bool {
    let [mask, base, ..] = call.args;
    HartSet::from_mask(mask, base, hart.count()) == Ok(HartSet::only(hart.id()))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use axdevice::OutsideRam;
    use std::{sync::Mutex, vec, vec::Vec};

    /// A hart that remembers what was asked of it.
    pub(crate) struct FakeHart {
        pub(crate) timer: Option<u64>,
        pub(crate) ipis: Vec<HartSet>,
        pub(crate) fences: Vec<(HartSet, Fence)>,
        pub(crate) power: [CpuPower; 4],
        pub(crate) suspended: Option<usize>,
        pub(crate) word: Result<u64, Fault>,
        pub(crate) ram: FakeRam,
        pub(crate) state: State,
        /// What every counter counts.
        pub(crate) source: u64,
        pub(crate) features_applied: usize,
    }

    /// RAM from [`RAM_START`] on.
    pub(crate) struct FakeRam(Mutex<Vec<u8>>);

    impl FakeRam {
        fn with<T>(
            &self,
            start: GuestPhysAddr,
            size_bytes: usize,
            act: impl FnOnce(&mut [u8]) -> T,
        ) -> Result<T, OutsideRam> {
            let outside = OutsideRam { start, size_bytes };
            let offset = start.as_usize().checked_sub(RAM_START as usize);
            let offset = offset.ok_or(outside)?;
            let end = offset.checked_add(size_bytes).ok_or(outside)?;
            let mut bytes = self.0.lock().unwrap();
            bytes.get_mut(offset..end).map(act).ok_or(outside)
        }
    }

    impl GuestMemory for FakeRam {
        fn read(&self, from: GuestPhysAddr, to: &mut [u8]) -> Result<(), OutsideRam> {
            self.with(from, to.len(), |bytes| to.copy_from_slice(bytes))
        }

        fn write(&self, to: GuestPhysAddr, from: &[u8]) -> Result<(), OutsideRam> {
            self.with(to, from.len(), |bytes| bytes.copy_from_slice(from))
        }
    }

    impl Default for FakeHart {
        fn default() -> Self {
            Self {
                timer: None,
                ipis: Vec::new(),
                fences: Vec::new(),
                power: [
                    CpuPower::On,
                    CpuPower::Off,
                    CpuPower::Starting,
                    CpuPower::On,
                ],
                suspended: None,
                word: Ok(0),
                ram: FakeRam(Mutex::new(vec![0; RAM_BYTES as usize])),
                state: State::new(Features::default()),
                source: 0,
                features_applied: 0,
            }
        }
    }

    pub(crate) const RAM_START: u64 = 0x8000_0000;
    pub(crate) const RAM_BYTES: u64 = 0x10_0000;

    impl Hart for FakeHart {
        fn count(&self) -> usize {
            self.power.len()
        }

        fn id(&self) -> usize {
            0
        }

        fn ram(&self) -> &dyn GuestMemory {
            &self.ram
        }

        fn state(&mut self) -> &mut State {
            &mut self.state
        }

        fn with_counters(&mut self, act: &mut dyn FnMut(&mut Counters, Now)) {
            let source = self.source;
            act(&mut self.state.counters, &|_| source);
        }

        fn apply_features(&mut self) {
            self.features_applied += 1;
        }

        fn set_timer(&mut self, deadline_ticks: u64) {
            self.timer = Some(deadline_ticks);
        }

        fn send_ipi(&mut self, targets: HartSet) {
            self.ipis.push(targets);
        }

        fn clear_ipi(&mut self) {
            self.ipis.clear();
        }

        fn fence(&mut self, targets: HartSet, fence: Fence) {
            self.fences.push((targets, fence));
        }

        fn power(&self, hart: usize) -> CpuPower {
            self.power[hart]
        }

        fn is_suspended(&self, hart: usize) -> bool {
            self.suspended == Some(hart)
        }

        fn is_ram(&self, start: GuestPhysAddr, size_bytes: usize) -> bool {
            self.ram.with(start, size_bytes, |_| ()).is_ok()
        }

        fn read_virtual(&mut self, _address: u64) -> Result<u64, Fault> {
            self.word
        }
    }

    /// Calls as a guest does.
    pub(crate) fn call(
        hart: &mut FakeHart,
        extension: usize,
        function: usize,
        args: &[u64],
    ) -> Outcome {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        let call = Call {
            extension: extension as u64,
            function: function as u64,
            args: all,
        };
        answer(hart, &call)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{FakeHart, call};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_hart_mask_names_harts_that_exist() {
        let from = |mask, base| HartSet::from_mask(mask, base, 4);
        assert_eq!(from(0, u64::MAX), Ok(HartSet(0b1111)));
        assert_eq!(from(0b11, 2), Ok(HartSet(0b1100)));
        assert_eq!(from(0b11, 3), Err(Ret::invalid_param()));
        assert_eq!(from(0b1_0000, 0), Err(Ret::invalid_param()));
        assert_eq!(from(1, 4), Err(Ret::invalid_param()));
        assert_eq!(from(1, 64), Err(Ret::invalid_param()));
        let is_in = [0, 1, 2, 3, 64].map(|hart| HartSet(0b1010).contains(hart));
        assert_eq!(is_in, [false, true, false, true, false]);
    }

    #[test]
    fn an_unknown_extension_is_not_supported() {
        let outcome = call(&mut FakeHart::default(), 0x1234_5678, 0, &[]);
        assert_eq!(outcome, Outcome::Return(Ret::not_supported()));
    }

    proptest! {
        #[test]
        fn no_call_panics(
            row in 0..EXTENSIONS.len(),
            function in prop_oneof![0_u64..8, any::<u64>()],
            args in any::<[u64; 6]>(),
            step in 0_u64..9,
        ) {
            let extension = EXTENSIONS[row].first
                + step.min(EXTENSIONS[row].last - EXTENSIONS[row].first);
            answer(&mut FakeHart::default(), &Call { extension, function, args });
        }
    }
}
