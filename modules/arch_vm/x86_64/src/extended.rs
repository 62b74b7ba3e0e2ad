// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The floating-point and vector registers of a vCPU.
//!
//! The hypervisor uses none, so that they stay in the CPU over any number of
//! exits; they are stored when the vCPU leaves its CPU, and loaded when it comes
//! to one that another vCPU had in between. Each state that guests may enable is
//! moved, also one that this guest has disabled again.
//!
//! Spec: AMD64 APM 2, "XSAVE/XRSTOR Instructions"; FXSAVE.

use core::sync::atomic::{AtomicU64, Ordering};

use axvm::{AxVCpuHal, Result};

use crate::{
    bytes::put,
    frames::Frames,
    insn::Vector,
    regs::{self, CR4},
};

const PCPUS_MAX: usize = 64;
const FPU_CONTROL: (usize, [u8; 2]) = (0, 0x37f_u16.to_le_bytes());
const MXCSR: (usize, [u8; 4]) = (24, 0x1f80_u32.to_le_bytes());
/// x87 state only, as after reset.
const XCR0_AT_RESET: u64 = 1;
const SSE: u64 = 1 << 1;
const AVX: u64 = 1 << 2;
const AVX512: u64 = 0b111 << 5;
/// Where XSAVE's area has the lower and the upper half of AVX's registers, and how
/// many bytes each.
const XMM: (usize, usize) = (160, 16);
const YMM: (usize, usize) = (576, 16);
/// The lowest byte of what the area has that is not as after reset.
const STATES_IN_AREA: usize = 512;
const LEAF_STATES: u32 = 0xd;
/// The upper halves of AVX-512's first registers.
const WIDE_STATE: u32 = 6;

/// Whose registers each CPU has; zero is nobody's.
static OWNERS: [AtomicU64; PCPUS_MAX] = [const { AtomicU64::new(0) }; PCPUS_MAX];
static NEXT_OWNER: AtomicU64 = AtomicU64::new(1);

/// Enables the instructions that move these registers; called on each CPU.
pub(crate) fn enable() {
    const LEAF_FEATURES: u32 = 1;
    const XSAVE: u32 = 1 << 26;
    let [_, _, features, _] = regs::cpuid(LEAF_FEATURES, 0);
    let mut bits = CR4::OSFXSR::SET.value;
    if features & XSAVE != 0 {
        bits |= CR4::OSXSAVE::SET.value;
    }
    regs::set_cr4_bits(bits);
}

/// One vCPU's registers.
pub(crate) struct Extended<H: AxVCpuHal> {
    area: Frames<H>,
    owner: u64,
    has_xsave: bool,
    /// What guests may enable.
    states: u64,
    xcr0: u64,
}

impl<H: AxVCpuHal> Extended<H> {
    /// Makes registers as after reset.
    pub(crate) fn new(hal: &H, has_xsave: bool, states: u64) -> Result<Self> {
        let mut extended = Self {
            area: Frames::new(hal, 1)?,
            owner: 0,
            has_xsave,
            states,
            xcr0: XCR0_AT_RESET,
        };
        extended.reset();
        Ok(extended)
    }

    /// Puts the registers to their state after reset; they are in no CPU then.
    pub(crate) fn reset(&mut self) {
        let bytes = self.area.bytes();
        bytes.fill(0);
        let (at, value) = FPU_CONTROL;
        put(bytes, at, &value);
        let (at, value) = MXCSR;
        put(bytes, at, &value);
        self.xcr0 = XCR0_AT_RESET;
        // Whoever has the old number is nobody.
        self.owner = NEXT_OWNER.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns XCR0; the vCPU is bound.
    ///
    /// Not every CPU tells of its writing, so that the register itself is asked.
    pub(crate) fn xcr0(&self) -> u64 {
        match self.has_xsave {
            true => regs::read_xcr0(),
            false => self.xcr0,
        }
    }

    /// Takes XCR0's new value, or returns `None` for #GP; the vCPU is bound.
    pub(crate) fn set_xcr0(&mut self, value: u64) -> Option<()> {
        if !is_valid(value, self.states) {
            return None;
        }
        self.xcr0 = value;
        regs::write_xcr0(value);
        Some(())
    }

    /// Brings the registers into a CPU.
    pub(crate) fn load(&mut self, cpu: usize) {
        let is_there = match OWNERS.get(cpu) {
            Some(owner) => owner.swap(self.owner, Ordering::Relaxed) == self.owner,
            None => false,
        };
        if !is_there {
            self.enable_all();
            // SAFETY: `reset` or `store` has filled the area, and the vCPU is bound here.
            unsafe { regs::xrstor(self.area.pointer(0), self.has_xsave) };
        }
        if self.has_xsave {
            regs::write_xcr0(self.xcr0);
        }
    }

    /// Stores the registers; this CPU still has them, until somebody else comes.
    ///
    /// They get a new number, so that no other CPU that had them once is taken
    /// to have them still.
    pub(crate) fn store(&mut self, cpu: usize) {
        self.owner = NEXT_OWNER.fetch_add(1, Ordering::Relaxed);
        if let Some(owner) = OWNERS.get(cpu) {
            owner.store(self.owner, Ordering::Relaxed);
        }
        self.xcr0 = self.xcr0();
        self.enable_all();
        // SAFETY: a frame is aligned and larger than the states that are enabled, and
        // this one is nobody else's.
        unsafe { regs::xsave(self.area.pointer(0), self.has_xsave) };
    }

    /// Reads the lower half of a vector register; the vCPU is bound.
    pub(crate) fn vector(&mut self, register: u8) -> [u64; 4] {
        self.with_area(|bytes| {
            let mut value = [0; 4];
            let (low, high) = value.split_at_mut(2);
            get(bytes, XMM, register, low);
            get(bytes, YMM, register, high);
            value
        })
    }

    /// Does what a load of a vector register does; the vCPU is bound.
    pub(crate) fn set_vector(&mut self, vector: Vector, value: [u64; 4]) {
        let Vector {
            register, is_vex, ..
        } = vector;
        let wide = (self.states & AVX512 != 0).then(|| {
            let [_, offset, ..] = regs::cpuid(LEAF_STATES, WIDE_STATE);
            offset as usize
        });
        self.with_area(|bytes| {
            let (low, high) = value.split_at(2);
            set(bytes, XMM, register, low);
            if is_vex {
                set(bytes, YMM, register, high);
                // It clears what it does not load.
                if let Some(wide) = wide {
                    let start = wide.saturating_add(usize::from(register).wrapping_mul(32));
                    put(bytes, start, &[0; 32]);
                }
            }
            let loaded = if is_vex { SSE | AVX } else { SSE };
            if let Some(states) = bytes.get_mut(STATES_IN_AREA) {
                *states |= loaded as u8;
            }
        });
    }

    /// Lets the registers be changed in memory.
    fn with_area<T>(&mut self, change: impl FnOnce(&mut [u8]) -> T) -> T {
        let xcr0 = self.xcr0();
        self.enable_all();
        // SAFETY: a frame is aligned and larger than the states that are enabled, and
        // this one is nobody else's.
        unsafe { regs::xsave(self.area.pointer(0), self.has_xsave) };
        let result = change(self.area.bytes());
        // SAFETY: it was stored just now, and is changed only where registers are.
        unsafe { regs::xrstor(self.area.pointer(0), self.has_xsave) };
        if self.has_xsave {
            regs::write_xcr0(xcr0);
        }
        result
    }

    fn enable_all(&self) {
        if self.has_xsave {
            regs::write_xcr0(self.states);
        }
    }
}

/// Reads half a vector register.
fn get(bytes: &[u8], (start, size): (usize, usize), register: u8, words: &mut [u64]) {
    let from = start.saturating_add(usize::from(register).wrapping_mul(size));
    let (stored, _) = bytes.get(from..).unwrap_or_default().as_chunks::<8>();
    for (word, stored) in words.iter_mut().zip(stored) {
        *word = u64::from_le_bytes(*stored);
    }
}

fn set(bytes: &mut [u8], (start, size): (usize, usize), register: u8, words: &[u64]) {
    let to = start.saturating_add(usize::from(register).wrapping_mul(size));
    for (at, word) in (to..).step_by(8).zip(words) {
        put(bytes, at, &word.to_le_bytes());
    }
}

fn is_valid(value: u64, states: u64) -> bool {
    let wide = value & AVX512;
    value & !states == 0
        && value & XCR0_AT_RESET != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (wide == 0 || wide == AVX512 && value & AVX != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::host;

    #[test]
    fn a_load_of_a_vector_register_clears_what_its_form_says() {
        let mut extended = Extended::new(&host(), true, 7).unwrap();
        let load = |is_vex, bytes| Vector {
            register: 5,
            bytes,
            is_store: false,
            is_vex,
            half: None,
            other: 5,
        };
        extended.set_vector(load(true, 32), [1, 2, 3, 4]);
        assert_eq!(extended.vector(5), [1, 2, 3, 4]);
        assert_eq!([extended.vector(4), extended.vector(6)], [[0; 4]; 2]);
        extended.set_vector(load(false, 16), [7, 8, 0, 0]);
        assert_eq!(extended.vector(5), [7, 8, 3, 4], "SSE leaves the rest");
        extended.set_vector(load(true, 8), [9, 0, 0, 0]);
        assert_eq!(extended.vector(5), [9, 0, 0, 0]);
        assert_eq!(extended.area.bytes()[STATES_IN_AREA], 6, "both are in use");
    }

    #[test]
    fn registers_are_loaded_only_where_they_are_not_still() {
        // No other test has these CPUs.
        const CPUS: [usize; 2] = [61, 62];
        let [mut one, mut other] = [(); 2].map(|()| Extended::new(&host(), true, 3).unwrap());
        let mut visit = |is_other: bool, cpu: usize| {
            let guest = if is_other { &mut other } else { &mut one };
            let before = regs::loads();
            guest.load(CPUS[cpu]);
            guest.store(CPUS[cpu]);
            regs::loads() - before
        };
        assert_eq!([visit(false, 0), visit(false, 0)], [1, 0]);
        assert_eq!([visit(true, 0), visit(false, 0)], [1, 1], "another guest");
        assert_eq!([visit(false, 1), visit(false, 0)], [1, 1], "another CPU");
        assert_eq!(visit(false, 0), 0);
    }

    #[test]
    fn states_are_enabled_with_those_they_need() {
        let all = 0b1110_0111;
        for good in [1, 3, 7, all] {
            assert!(is_valid(good, all), "{good:#x}");
        }
        for bad in [0, 2, 5, 0x27, 0xe3, 0x200 | 1] {
            assert!(!is_valid(bad, all), "{bad:#x}");
        }
        assert!(!is_valid(7, 3), "this CPU has no AVX");
    }
}
