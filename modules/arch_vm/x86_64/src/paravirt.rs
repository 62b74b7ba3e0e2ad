// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Clocks that a guest reads without leaving: KVM's, which Linux knows.
//!
//! A guest names a place in its RAM, and finds there how its counter becomes the
//! nanoseconds since its machine started, or when that was. `handle` comes here
//! for the two registers and when a guest sets its counter; in between nothing
//! changes, as all counters of a machine have one rate for its life. CPUID names
//! the interface behind our own. docs/design/0010 says what it is for.
//!
//! Spec: Linux, virt/kvm/x86/msr.rst and virt/kvm/x86/cpuid.rst.

use axdevice::GuestMemory;
use axvm::{AxVMHal, GuestPhysAddr};
use bitflags::bitflags;

use crate::{backend::Backend, bytes::put, vcpu::VCpu};

/// The name of the interface.
pub(crate) const SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";

bitflags! {
    /// What there can be of it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Features: u32 {
        /// Ports need no delays.
        const NO_PORT_DELAY = 1 << 1;
        /// The clocks have the registers that are here.
        const CLOCKS = 1 << 3;
        /// The clocks of all vCPUs are one.
        const IS_STABLE = 1 << 24;
    }
}

const SYSTEM_TIME_BYTES: usize = 32;
const WALL_CLOCK_BYTES: usize = 12;
/// In the structure: the clocks of all vCPUs are one.
const STABLE: u8 = 1 << 0;
/// In the register: the structure is kept.
const ENABLE: u64 = 1 << 0;
/// Readers wait while the version is odd, and start over if it has changed.
const VERSION_STEP: u32 = 2;
const NS_PER_S: u64 = 1_000_000_000;

/// What the guest wrote last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    pub(crate) system_time: u64,
    pub(crate) wall_clock: u64,
    version: u32,
}

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Takes the place of the time since the start; `None` if it is not in RAM.
    pub(crate) fn set_system_time(&mut self, value: u64) -> Option<()> {
        let place = GuestPhysAddr::from_usize((value & !ENABLE) as usize);
        let is_kept = value & ENABLE != 0;
        if is_kept && !self.machine.ram.contains(place, SYSTEM_TIME_BYTES) {
            return None;
        }
        self.clocks.system_time = value;
        self.tell_system_time();
        Some(())
    }

    /// Tells the guest how its counter is to be read now.
    pub(crate) fn tell_system_time(&mut self) {
        let value = self.clocks.system_time;
        if value & ENABLE == 0 {
            return;
        }
        let time = &self.machine.time;
        let tsc_at_start = self.tsc_offset.wrapping_sub(time.offset);
        let (address, ram) = (value & !ENABLE, &*self.machine.ram);
        let bytes = system_time(tsc_at_start, time.tsc_hz);
        let done = self.clocks.version.wrapping_add(VERSION_STEP);
        self.clocks.version = done;
        let (version, rest) = bytes.split_at(size_of::<u32>());
        debug_assert_eq!(version, [0; 4]);
        let put = |at: u64, bytes: &[u8]| {
            let at = GuestPhysAddr::from_usize(address.wrapping_add(at) as usize);
            // The whole place is RAM, which never goes away.
            let _ = ram.write(at, bytes);
        };
        put(0, &done.wrapping_sub(1).to_le_bytes());
        put(size_of::<u32>() as u64, rest);
        put(0, &done.to_le_bytes());
    }

    /// Writes when the machine started to a place; `None` if it is not in RAM.
    pub(crate) fn set_wall_clock(&mut self, address: u64) -> Option<()> {
        let (hal, time) = (&self.machine.hal, &self.machine.time);
        let start_ns = time.host_ns_at(0, time.offset);
        let ran_ns = hal.current_time_nanos().saturating_sub(start_ns);
        let bytes = wall_clock(hal.wall_time_nanos().saturating_sub(ran_ns));
        let place = GuestPhysAddr::from_usize(address as usize);
        self.machine.ram.write(place, &bytes).ok()?;
        self.clocks.wall_clock = address;
        Some(())
    }
}

/// Returns the structure for a counter that showed `tsc_at_start` at the start.
fn system_time(tsc_at_start: u64, tsc_hz: u64) -> [u8; SYSTEM_TIME_BYTES] {
    let (multiplier, shift) = scale(tsc_hz);
    let mut bytes = [0; SYSTEM_TIME_BYTES];
    put(&mut bytes, 8, &tsc_at_start.to_le_bytes());
    put(&mut bytes, 24, &multiplier.to_le_bytes());
    put(&mut bytes, 28, &shift.to_le_bytes());
    put(&mut bytes, 29, &[STABLE]);
    bytes
}

/// Returns the structure for a time of day.
fn wall_clock(start_ns: u64) -> [u8; WALL_CLOCK_BYTES] {
    let (seconds, ns) = (start_ns / NS_PER_S, start_ns % NS_PER_S);
    let mut bytes = [0; WALL_CLOCK_BYTES];
    put(&mut bytes, 0, &VERSION_STEP.to_le_bytes());
    put(&mut bytes, 4, &(seconds as u32).to_le_bytes());
    put(&mut bytes, 8, &(ns as u32).to_le_bytes());
    bytes
}

/// Returns how ticks become nanoseconds: shifted left, or right if negative, and
/// then multiplied by a fraction of 2^32.
fn scale(tsc_hz: u64) -> (u32, i8) {
    let (mut hz, mut shift) = (tsc_hz.max(1), 0_i8);
    while hz <= NS_PER_S {
        hz = hz.wrapping_shl(1);
        shift = shift.wrapping_add(1);
    }
    while hz > NS_PER_S.wrapping_mul(2) {
        hz = hz.wrapping_shr(1);
        shift = shift.wrapping_sub(1);
    }
    let fraction = NS_PER_S.wrapping_shl(32).checked_div(hz).unwrap_or(0);
    (u32::try_from(fraction).unwrap_or(u32::MAX), shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{regs::Msr, testing::with_bound_vcpu};

    const PLACE: u64 = 0x5000;

    /// Reads a clock as the interface says.
    fn read(bytes: &[u8], tsc: u64) -> u64 {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let delta = tsc.wrapping_sub(word(8));
        let multiplier = word(24) as u32;
        let delta = match bytes[28] as i8 {
            shift @ 0.. => delta << shift,
            shift => delta >> -shift,
        };
        word(16) + ((u128::from(delta) * u128::from(multiplier)) >> 32) as u64
    }

    proptest! {
        #[test]
        fn a_clock_shows_the_nanoseconds_since_the_start(
            hz in 1_000_000..100_000_000_000_u64,
            start: u64,
            seconds in 0..100_000_u64,
        ) {
            let bytes = system_time(start, hz);
            let shown = read(&bytes, start.wrapping_add(hz * seconds));
            let expected = seconds * NS_PER_S;
            // A shift to the right loses ticks, the fraction one in 2^31.
            prop_assert!(shown.abs_diff(expected) <= expected / 500_000_000 + 100);
            prop_assert_eq!(bytes[29], STABLE);
        }
    }

    #[test]
    fn the_time_of_day_at_the_start_is_in_seconds_and_nanoseconds() {
        let bytes = wall_clock(1_700_000_000 * NS_PER_S + 7);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!((word(0) % 2, word(4), word(8)), (0, 1_700_000_000, 7));
    }

    #[test]
    fn a_guest_that_sets_its_counter_is_told_at_once() {
        with_bound_vcpu(1, |vcpu| {
            let look = |vcpu: &VCpu<_, _>| {
                let mut bytes = [0; SYSTEM_TIME_BYTES];
                let at = GuestPhysAddr::from_usize(PLACE as usize);
                vcpu.machine.ram.read(at, &mut bytes).unwrap();
                bytes
            };
            vcpu.set_msr(Msr::PV_SYSTEM_TIME, PLACE | ENABLE).unwrap();
            let before = look(vcpu);
            let (tsc, at) = (vcpu.tsc(), read(&before, vcpu.tsc()));
            vcpu.set_msr(Msr::TSC, tsc + 1_000_000_000_000).unwrap();
            let after = look(vcpu);
            assert_ne!(before[..4], after[..4], "a version of its own");
            assert_eq!((before[0] % 2, after[0] % 2), (0, 0));
            assert!(read(&after, vcpu.tsc()).abs_diff(at) < 1_000_000_000);
        });
    }

    #[test]
    fn what_is_not_in_ram_is_refused() {
        with_bound_vcpu(0, |vcpu| {
            for place in [0xd000_0000, u64::MAX - 6, u64::MAX] {
                assert_eq!(vcpu.set_msr(Msr::PV_SYSTEM_TIME, place | ENABLE), None);
                assert_eq!(vcpu.set_msr(Msr::PV_WALL_CLOCK, place), None);
            }
            assert_eq!(vcpu.set_msr(Msr::PV_SYSTEM_TIME, !ENABLE), Some(()));
            // What was refused is not there, and troubles nobody.
            assert_eq!(vcpu.set_msr(Msr::PV_SYSTEM_TIME, PLACE | ENABLE), Some(()));
            assert_eq!(vcpu.set_msr(Msr::PV_SYSTEM_TIME, ENABLE | 1 << 40), None);
            assert_eq!(vcpu.clocks.system_time, PLACE | ENABLE);
            assert_eq!(vcpu.set_msr(Msr::PV_WALL_CLOCK, PLACE), Some(()));
            assert_eq!(vcpu.set_msr(Msr::PV_WALL_CLOCK, 1 << 40), None);
            assert_eq!(vcpu.clocks.wall_clock, PLACE);
            assert_eq!(vcpu.set_msr(Msr::TSC, 0), Some(()));
        });
    }
}
