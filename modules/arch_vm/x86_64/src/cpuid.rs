// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a guest's CPUID says: the host's leaves, filtered and frozen.
//!
//! Made once for each VM. A feature is shown if this CPU has it and the
//! hypervisor lets a guest use it without harm to others: what needs state that
//! is not switched, or registers that are refused, is not. What depends on the
//! vCPU (its APIC id, what it has enabled) is filled in by [`Cpuid::get`].
//!
//! Spec: AMD64 APM 3, "Obtaining Processor Information Via the CPUID
//! Instruction"; Intel SDM 2, CPUID, leaves 0xb, 0x15, 0x16.

use core::num::NonZeroU64;

use axvm::VCpuId;

use crate::{
    paravirt,
    regs::{self, Leaf},
    rights::Rights,
};

/// How fast the clocks of a guest are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// The time-stamp counter.
    pub(crate) tsc_hz: u64,
    /// The local APIC's timer, undivided.
    pub(crate) apic_hz: u64,
}

/// What a vCPU has to say itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) id: VCpuId,
    /// Its APIC is switched on.
    pub(crate) has_apic: bool,
    /// CR4.OSXSAVE.
    pub(crate) uses_xsave: bool,
    pub(crate) xcr0: u64,
}

const BASIC_MAX: u32 = 0x16;
const BASIC: usize = BASIC_MAX as usize + 1;
const HYPERVISOR_FIRST: u32 = 0x4000_0000;
const HYPERVISOR_CLOCKS: u32 = 0x4000_0010;
/// Where a guest looks for interfaces of other hypervisors, in steps of 0x100.
const PARAVIRT_FIRST: u32 = 0x4000_0100;
const PARAVIRT_FEATURES: u32 = 0x4000_0101;
const EXTENDED_FIRST: u32 = 0x8000_0000;
const EXTENDED_MAX: u32 = 0x8000_0008;
const EXTENDED: usize = 9;
/// Twelve letters, as every hypervisor's name has.
const SIGNATURE: &[u8; 12] = b"AxHiveAxHive";

const LEAF_FEATURES: u32 = 1;
const LEAF_POWER: u32 = 6;
const LEAF_STRUCTURED: u32 = 7;
const LEAF_TOPOLOGY: u32 = 0xb;
const LEAF_STATES: u32 = 0xd;
const LEAF_TSC: u32 = 0x15;
const LEAF_FREQUENCY: u32 = 0x16;

/// The basic leaves that depend on more than their number, bit by bit.
const OWN_LEAVES: u32 = 1 << LEAF_FEATURES
    | 1 << LEAF_POWER
    | 1 << LEAF_STRUCTURED
    | 1 << LEAF_TOPOLOGY
    | 1 << LEAF_STATES;

/// SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND.
const FEATURES_ECX: u32 = 1 << 0
    | 1 << 1
    | 1 << 9
    | 1 << 12
    | 1 << 13
    | 1 << 19
    | 1 << 20
    | 1 << 22
    | 1 << 23
    | 1 << 25
    | 1 << 26
    | 1 << 28
    | 1 << 29
    | 1 << 30;
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const XSAVE: u32 = 1 << 26;
const OSXSAVE: u32 = 1 << 27;
const HYPERVISOR: u32 = 1 << 31;
/// FPU VME DE PSE TSC MSR PAE MCE CX8 SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2.
const FEATURES_EDX: u32 = 0x1ff | 1 << 11 | 0xf << 12 | 1 << 16 | 1 << 17 | 1 << 19 | 0xf << 23;
const APIC: u32 = 1 << 9;
const MULTI_THREADED: u32 = 1 << 28;
/// The APIC's timer runs in every idle state.
const ALWAYS_RUNNING_TIMER: u32 = 1 << 2;
/// FSGSBASE BMI1 AVX2 SMEP BMI2 ERMS INVPCID AVX512F AVX512DQ RDSEED ADX SMAP
/// CLFLUSHOPT CLWB AVX512CD SHA AVX512BW AVX512VL.
const STRUCTURED_EBX: u32 = 1 << 0
    | 1 << 3
    | 1 << 5
    | 1 << 7
    | 1 << 8
    | 1 << 9
    | 1 << 10
    | 1 << 16
    | 1 << 17
    | 1 << 18
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 24
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
/// UMIP VAES VPCLMULQDQ.
const STRUCTURED_ECX: u32 = 1 << 2 | 1 << 9 | 1 << 10;
/// Short REP MOV.
const STRUCTURED_EDX: u32 = 1 << 4;
/// LAHF CR8 ABM SSE4A misaligned SSE, prefetches, FMA4, TBM.
const EXTENDED_ECX: u32 = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 16 | 1 << 21;
const CORES_ARE_CPUS: u32 = 1 << 1;
/// SYSCALL NX MMXEXT 1-GiB pages RDTSCP LM, besides what leaf 1 has as well.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 26 | 1 << 27 | 1 << 29;
const RDTSCP: u32 = 1 << 27;
const SHARED_EDX: u32 = 0x0183_f3ff;
const INVARIANT_TSC: u32 = 1 << 8;
/// As many bits as stage 2 of every architecture serves, and one for devices above.
const PHYSICAL_BITS: u32 = 40;
const LINEAR_BITS: u32 = 48;

/// x87, SSE, AVX, and AVX-512's three.
const STATES: u64 = 0b1110_0111;
const STATES_ALWAYS: u64 = 0b11;
const STATE_COUNT: usize = 8;
/// The legacy area and the header of XSAVE.
const STATES_FIXED_BYTES: u32 = 576;
/// XSAVEOPT, and XGETBV with ecx = 1.
const STATES_FEATURES: u32 = 1 << 0 | 1 << 2;

/// A VM's CPUID.
pub(crate) struct Cpuid {
    basic: [Leaf; BASIC],
    extended: [Leaf; EXTENDED],
    states: [Leaf; STATE_COUNT],
    cpus: u32,
    rates: Rates,
    rights: Rights,
}

impl Cpuid {
    /// Freezes what a VM with so many vCPUs sees of this CPU.
    pub(crate) fn new(cpus: usize, rates: Rates) -> Self {
        let cpus = cpus as u32;
        let mut cpuid = Self {
            basic: [[0; 4]; BASIC],
            extended: [[0; 4]; EXTENDED],
            states: states(),
            cpus,
            rates,
            rights: Rights::default(),
        };
        for (leaf, slot) in (0..).zip(&mut cpuid.basic) {
            *slot = basic(leaf, cpus, rates);
        }
        for (leaf, slot) in (EXTENDED_FIRST..).zip(&mut cpuid.extended) {
            *slot = extended(leaf, cpus);
        }
        cpuid.rights = Rights::of(|leaf, subleaf| cpuid.same(leaf, subleaf), regs::cpuid);
        cpuid
    }

    /// Returns the bits of control registers that guests may set.
    pub(crate) fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Returns the part of a leaf that is the same for each vCPU.
    fn same(&self, leaf: u32, subleaf: u32) -> Leaf {
        let found = match leaf {
            EXTENDED_FIRST.. => self.extended.get((leaf & !EXTENDED_FIRST) as usize),
            _ => self.basic.get(leaf as usize),
        };
        match (leaf, subleaf) {
            (LEAF_STRUCTURED | LEAF_POWER, 1..) => [0; 4],
            _ => found.copied().unwrap_or_default(),
        }
    }

    /// Returns a leaf that is the same for each vCPU and subleaf.
    #[inline]
    pub(crate) fn frozen(&self, leaf: u32) -> Option<&Leaf> {
        match leaf {
            EXTENDED_FIRST.. => self.extended.get((leaf & !EXTENDED_FIRST) as usize),
            0..=BASIC_MAX if OWN_LEAVES.wrapping_shr(leaf) & 1 == 0 => {
                self.basic.get(leaf as usize)
            }
            _ => None,
        }
    }

    /// Returns what a vCPU sees.
    pub(crate) fn get(&self, leaf: u32, subleaf: u32, vcpu: &Dynamic) -> Leaf {
        let stored = self.same(leaf, subleaf);
        match leaf {
            LEAF_FEATURES => features_of(stored, vcpu),
            LEAF_TOPOLOGY => self.topology(subleaf, vcpu),
            LEAF_STATES => self.states_of(subleaf, vcpu),
            HYPERVISOR_FIRST..=PARAVIRT_FEATURES => self.hypervisor(leaf),
            _ => stored,
        }
    }

    /// Returns the extended states that a guest may enable.
    pub(crate) fn states(&self) -> u64 {
        let [[allowed, ..], ..] = self.states;
        allowed.into()
    }

    /// Tells whether a guest may use XSAVE.
    pub(crate) fn has_xsave(&self) -> bool {
        let [_, [_, _, features, _], ..] = self.basic;
        features & XSAVE != 0
    }

    /// Tells whether a guest has RDTSCP.
    pub(crate) fn has_tsc_aux(&self) -> bool {
        let [_, [_, _, _, features], ..] = self.extended;
        features & RDTSCP != 0
    }

    fn hypervisor(&self, leaf: u32) -> Leaf {
        let khz = |hz: u64| u32::try_from(hz / 1000).unwrap_or(u32::MAX);
        match leaf {
            HYPERVISOR_FIRST => named(SIGNATURE, HYPERVISOR_CLOCKS),
            PARAVIRT_FIRST => named(paravirt::SIGNATURE, PARAVIRT_FEATURES),
            PARAVIRT_FEATURES => [paravirt::Features::all().bits(), 0, 0, 0],
            HYPERVISOR_CLOCKS => [khz(self.rates.tsc_hz), khz(self.rates.apic_hz), 0, 0],
            _ => [0; 4],
        }
    }

    fn topology(&self, subleaf: u32, vcpu: &Dynamic) -> Leaf {
        const THREADS: u32 = 1 << 8;
        const CORES: u32 = 2 << 8;
        let id = vcpu.id as u32;
        let level = subleaf & 0xff;
        match subleaf {
            0 => [0, 1, THREADS, id],
            1 => [bits_for(self.cpus), self.cpus, CORES | level, id],
            _ => [0, 0, level, id],
        }
    }

    fn states_of(&self, subleaf: u32, vcpu: &Dynamic) -> Leaf {
        let found = self.states.get(subleaf as usize);
        let mut leaf = found.copied().unwrap_or_default();
        if subleaf == 0 {
            leaf[1] = self.area_bytes(vcpu.xcr0);
        }
        leaf
    }

    /// Returns how many bytes XSAVE stores with these states enabled.
    fn area_bytes(&self, xcr0: u64) -> u32 {
        let states = (0_u32..).zip(&self.states).skip(2);
        states
            .filter(|(state, _)| xcr0.wrapping_shr(*state) & 1 == 1)
            .map(|(_, [size, offset, ..])| offset.saturating_add(*size))
            .fold(STATES_FIXED_BYTES, u32::max)
    }
}

/// Returns the first leaf of a range: its last one, and a name.
fn named(name: &[u8; 12], last: u32) -> Leaf {
    let (words, _) = name.as_chunks::<4>();
    let mut leaf = [last; 4];
    for (number, word) in leaf.iter_mut().skip(1).zip(words) {
        *number = u32::from_le_bytes(*word);
    }
    leaf
}

/// Returns how many bits tell so many CPUs apart.
fn bits_for(cpus: u32) -> u32 {
    u32::BITS.saturating_sub(cpus.saturating_sub(1).leading_zeros())
}

fn basic(leaf: u32, cpus: u32, rates: Rates) -> Leaf {
    let [eax, ebx, ecx, edx] = regs::cpuid(leaf, 0);
    match leaf {
        0 => [BASIC_MAX, ebx, ecx, edx],
        LEAF_FEATURES => {
            let cache_line = ebx & 0xff00;
            let threads = if cpus > 1 { MULTI_THREADED } else { 0 };
            [
                eax,
                cache_line | (cpus & 0xff) << 16,
                ecx & FEATURES_ECX | X2APIC | TSC_DEADLINE | HYPERVISOR,
                edx & FEATURES_EDX | threads,
            ]
        }
        LEAF_POWER => [ALWAYS_RUNNING_TIMER, 0, 0, 0],
        LEAF_STRUCTURED => [
            0,
            ebx & STRUCTURED_EBX,
            ecx & STRUCTURED_ECX,
            edx & STRUCTURED_EDX,
        ],
        LEAF_TSC => tsc_ratio(rates),
        LEAF_FREQUENCY => {
            let mhz = u32::try_from(rates.tsc_hz / 1_000_000).unwrap_or(u32::MAX);
            [mhz, mhz, 0, 0]
        }
        _ => [0; 4],
    }
}

/// The counter's rate as a multiple of the APIC timer's: the best fraction that
/// Linux can multiply by the timer's kilohertz in 32 bits, as it does.
fn tsc_ratio(rates: Rates) -> Leaf {
    let (Ok(apic_hz), Some(tsc_hz)) = (u32::try_from(rates.apic_hz), NonZeroU64::new(rates.tsc_hz))
    else {
        return [0; 4];
    };
    let most = u64::from(u32::MAX).checked_div(rates.apic_hz / 1000);
    let fractions = (1..=most.unwrap_or(1)).filter_map(|numerator: u64| {
        let scaled = numerator.checked_mul(rates.apic_hz)?;
        let denominator = scaled.saturating_add(rates.tsc_hz / 2) / tsc_hz;
        let product = denominator.checked_mul(rates.tsc_hz)?;
        // Per unit of the denominator, in 2^-32.
        let error = (u128::from(product.abs_diff(scaled)) << 32).checked_div(scaled.into())?;
        let fits = denominator != 0 && u32::try_from(denominator).is_ok();
        fits.then_some((error, denominator, numerator))
    });
    match fractions.min() {
        Some((_, denominator, numerator)) => [denominator as u32, numerator as u32, apic_hz, 0],
        None => [0; 4],
    }
}

fn extended(leaf: u32, cpus: u32) -> Leaf {
    let host = regs::cpuid(leaf, 0);
    let [eax, ebx, ecx, edx] = host;
    match leaf {
        EXTENDED_FIRST => [EXTENDED_MAX, ebx, ecx, edx],
        0x8000_0001 => {
            let cores = if cpus > 1 { CORES_ARE_CPUS } else { 0 };
            let edx = edx & (EXTENDED_EDX | SHARED_EDX & !APIC);
            [eax, ebx, ecx & EXTENDED_ECX | cores, edx]
        }
        0x8000_0007 => [0, 0, 0, edx & INVARIANT_TSC],
        EXTENDED_MAX => {
            let cores = cpus.saturating_sub(1) & 0xff | bits_for(cpus) << 12;
            let sizes = (eax & 0xff).min(PHYSICAL_BITS) | LINEAR_BITS << 8;
            [sizes, 0, cores, 0]
        }
        _ => host,
    }
}

/// The leaves of the extended states.
fn states() -> [Leaf; STATE_COUNT] {
    let mut leaves = [[0; 4]; STATE_COUNT];
    let [offered, ..] = regs::cpuid(LEAF_STATES, 0);
    let allowed = u64::from(offered) & STATES | STATES_ALWAYS;
    let mut size_bytes = STATES_FIXED_BYTES;
    for (state, slot) in (2_u32..).zip(leaves.iter_mut().skip(2)) {
        if allowed.wrapping_shr(state) & 1 == 1 {
            let [size, offset, ..] = regs::cpuid(LEAF_STATES, state);
            *slot = [size, offset, 0, 0];
            size_bytes = size_bytes.max(offset.saturating_add(size));
        }
    }
    let [features, ..] = regs::cpuid(LEAF_STATES, 1);
    let [first, second, ..] = &mut leaves;
    *first = [allowed as u32, 0, size_bytes, 0];
    *second = [features & STATES_FEATURES, 0, 0, 0];
    leaves
}

#[inline]
fn features_of([eax, ebx, ecx, edx]: Leaf, vcpu: &Dynamic) -> Leaf {
    let apic = if vcpu.has_apic { APIC } else { 0 };
    let xsave = if vcpu.uses_xsave { OSXSAVE } else { 0 };
    [eax, ebx | (vcpu.id as u32) << 24, ecx | xsave, edx | apic]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::regs::set_cpuid;

    const RATES: Rates = Rates {
        tsc_hz: 2_500_000_000,
        apic_hz: 1_000_000_000,
    };
    const VCPU: Dynamic = Dynamic {
        id: 2,
        has_apic: true,
        uses_xsave: false,
        xcr0: 1,
    };

    /// A CPU that says that it has everything.
    fn cpuid_of_everything(cpus: usize) -> Cpuid {
        for leaf in (0..=BASIC_MAX).chain(EXTENDED_FIRST..=EXTENDED_MAX + 32) {
            set_cpuid(leaf, 0, [u32::MAX; 4]);
        }
        set_cpuid(LEAF_STATES, 1, [0xf, 0, 0, 0]);
        for (state, size, offset) in [(2, 256, 576), (5, 64, 1088), (9, 8, 2688)] {
            set_cpuid(LEAF_STATES, state, [size, offset, 0, 0]);
        }
        Cpuid::new(cpus, RATES)
    }

    #[test]
    fn what_is_refused_elsewhere_is_not_shown() {
        let cpuid = cpuid_of_everything(1);
        let [_, _, ecx, edx] = cpuid.get(1, 0, &VCPU);
        let monitor_vmx_pcid_osxsave = 1 << 3 | 1 << 5 | 1 << 17 | OSXSAVE;
        assert_eq!(ecx & monitor_vmx_pcid_osxsave, 0);
        assert_ne!(ecx & (X2APIC | TSC_DEADLINE | HYPERVISOR), 0);
        let perf_and_thermal = 1 << 21 | 1 << 22 | 1 << 29;
        assert_eq!(edx & perf_and_thermal, 0);
        let basics = 0x1ff | 1 << 9 | 1 << 12 | 1 << 16 | 1 << 24 | 1 << 26;
        assert_eq!(edx & basics, basics);
        let [_, _, ecx, edx] = cpuid.get(0x8000_0001, 0, &VCPU);
        let svm_osvw_topology = 1 << 2 | 1 << 9 | 1 << 22;
        assert_eq!(ecx & svm_osvw_topology, 0);
        assert_ne!(edx & (1 << 29), 0, "long mode");
        assert_eq!(cpuid.get(0x8000_000a, 0, &VCPU), [0; 4], "SVM");
        assert_eq!(cpuid.get(0x1f, 0, &VCPU), [0; 4]);
        assert_eq!(cpuid.get(0x4000_0011, 0, &VCPU), [0; 4]);
    }

    #[test]
    fn a_vcpu_says_its_own_id_and_what_it_has_enabled() {
        let cpuid = cpuid_of_everything(4);
        let [_, ebx, _, edx] = cpuid.get(1, 0, &VCPU);
        assert_eq!((ebx >> 24, ebx >> 16 & 0xff), (2, 4));
        assert_ne!(edx & APIC, 0);
        assert_eq!(cpuid.get(LEAF_TOPOLOGY, 1, &VCPU), [2, 4, 0x201, 2]);
        let other = Dynamic {
            has_apic: false,
            uses_xsave: true,
            ..VCPU
        };
        let [_, _, ecx, edx] = cpuid.get(1, 0, &other);
        assert_eq!((edx & APIC, ecx & OSXSAVE), (0, OSXSAVE));
        let [_, _, _, edx] = cpuid.get(0x8000_0001, 0, &VCPU);
        assert_eq!(edx & APIC, 0, "only leaf 1 says it");
    }

    #[test]
    fn linux_finds_the_counters_rate_in_32_bits() {
        for tsc_hz in [
            50_004_321,
            999_999_937,
            1_000_000_000,
            2_593_906_123,
            4_900_000_001,
        ] {
            let rates = Rates { tsc_hz, ..RATES };
            let [denominator, numerator, hz, _] = tsc_ratio(rates);
            let product = (hz / 1000).checked_mul(numerator).expect("32 bits");
            let found_khz = u64::from(product / denominator);
            let wrong_khz = found_khz.abs_diff(tsc_hz / 1000);
            assert!(wrong_khz * 100_000 <= tsc_hz / 1000, "{found_khz} {tsc_hz}");
        }
    }

    #[test]
    fn what_is_frozen_is_what_each_vcpu_sees() {
        let cpuid = cpuid_of_everything(4);
        let leaves = (0..=BASIC_MAX + 2).chain(EXTENDED_FIRST - 1..=EXTENDED_MAX + 2);
        for leaf in leaves.chain(HYPERVISOR_FIRST..=HYPERVISOR_CLOCKS + 1) {
            for (id, subleaf) in [(0, 0), (2, 0), (2, 1), (3, 7)] {
                let vcpu = Dynamic { id, ..VCPU };
                let frozen = cpuid.frozen(leaf).copied();
                let seen = cpuid.get(leaf, subleaf, &vcpu);
                assert_eq!(frozen.unwrap_or(seen), seen, "{leaf:#x} {subleaf}");
            }
        }
    }

    #[test]
    fn the_area_of_extended_states_is_as_large_as_what_is_enabled() {
        let cpuid = cpuid_of_everything(1);
        let at = |xcr0| cpuid.get(LEAF_STATES, 0, &Dynamic { xcr0, ..VCPU });
        assert_eq!(at(3)[1], 576);
        assert_eq!(at(7)[1], 832);
        assert_eq!(at(7)[2], 1152, "the largest that could be");
        assert_eq!(at(7)[0], 0b1110_0111);
        assert_eq!(cpuid.get(LEAF_STATES, 2, &VCPU), [256, 576, 0, 0]);
        assert_eq!(cpuid.get(LEAF_STATES, 9, &VCPU), [0; 4], "not switched");
    }

    #[test]
    fn the_counter_is_said_to_be_invariant_only_if_it_is() {
        for (host, seen) in [(0, 0), (u32::MAX, INVARIANT_TSC)] {
            set_cpuid(0x8000_0007, 0, [0, 0, 0, host]);
            let cpuid = Cpuid::new(1, RATES);
            assert_eq!(cpuid.get(0x8000_0007, 0, &VCPU), [0, 0, 0, seen]);
        }
    }

    #[test]
    fn the_clocks_rates_are_told() {
        let cpuid = cpuid_of_everything(1);
        let clocks = cpuid.get(HYPERVISOR_CLOCKS, 0, &VCPU);
        assert_eq!(clocks, [2_500_000, 1_000_000, 0, 0]);
        let [denominator, numerator, hz, _] = cpuid.get(LEAF_TSC, 0, &VCPU);
        let tsc = u64::from(hz) * u64::from(numerator) / u64::from(denominator);
        assert_eq!(tsc, RATES.tsc_hz);
        assert_eq!(cpuid.get(LEAF_FREQUENCY, 0, &VCPU)[0], 2500);
        let [_, ebx, ecx, edx] = cpuid.get(HYPERVISOR_FIRST, 0, &VCPU);
        let name = [ebx, ecx, edx].map(u32::to_le_bytes);
        assert_eq!(name.as_flattened(), SIGNATURE);
        let [last, name @ ..] = cpuid.get(PARAVIRT_FIRST, 0, &VCPU);
        let name = name.map(u32::to_le_bytes);
        assert_eq!(
            (last, name.as_flattened()),
            (0x4000_0101, &b"KVMKVMKVM\0\0\0"[..])
        );
        assert_eq!(
            cpuid.get(PARAVIRT_FEATURES, 0, &VCPU),
            [0x0100_000a, 0, 0, 0]
        );
    }
}
