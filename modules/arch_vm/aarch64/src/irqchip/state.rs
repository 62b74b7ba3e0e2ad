// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The state of a guest's interrupt controller, GICv2 or GICv3.
//!
//! Private interrupts are banked by vCPU, shared ones have one target each.
//! Register files (`distributor`, `redistributor`, `cpu_interface`) and list
//! registers (`lists`) work on this. Everything is a function of values.
//! Invariant: whoever changes what a vCPU could take adds it to `attention`,
//! which the caller hands on to the vCPUs.
//!
//! Spec: Arm GIC Architecture Specification, v2 and v3/v4.

use alloc::{vec, vec::Vec};

use super::{
    bank::{BANK, Bank, GroupEnables, bits, mask},
    its::Its,
    lpi::{FIRST, FIRST_BANK, Lpis},
};

/// The shared interrupts of QEMU's machine.
pub(crate) const SPI_BANKS: usize = 8;
/// The first number that no interrupt has.
pub(crate) const INTIDS: u32 = 32 * (1 + SPI_BANKS as u32);
/// What acknowledging returns when nothing is there.
pub(crate) const SPURIOUS: u32 = 1023;
/// The bank of private interrupts, which is always looked at.
const PRIVATE_BANK: u32 = 1;
/// The most vCPUs that a machine may have.
pub(crate) const VCPUS_MAX: usize = 64;

/// The software-generated interrupts, in the bank of each vCPU.
pub(crate) const SGIS: u32 = 0xffff;
const SGI_COUNT: usize = 16;

/// Which controller the guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// With a CPU interface in memory.
    V2,
    /// With redistributors and a CPU interface in system registers.
    V3,
}

/// One vCPU's part.
#[derive(Clone, Debug)]
pub(crate) struct Private {
    pub(crate) bank: Bank,
    /// GICR_WAKER.ProcessorSleep.
    pub(crate) is_asleep: bool,
    /// GICv2: which CPUs sent each SGI that is pending.
    pub(crate) senders: [u8; SGI_COUNT],
    pub(crate) interface: super::cpu_interface::CpuInterface,
    /// GICv3: messages.
    pub(crate) lpis: Lpis,
}

/// Thirty-two shared interrupts.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) bank: Bank,
    /// The vCPU that takes each, or 255 for none.
    pub(crate) target: [u8; BANK],
    /// As the guest wrote it: GICD_IROUTER, or GICD_ITARGETSR.
    pub(crate) route: [u64; BANK],
}

/// No vCPU.
pub(crate) const NOBODY: u8 = u8::MAX;

/// A guest's interrupt controller.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) version: Version,
    pub(crate) enables: GroupEnables,
    pub(crate) privates: Vec<Private>,
    pub(crate) shared: Vec<Shared>,
    /// The banks that may hold something for somebody, a bit each; the others
    /// have nothing pending and nothing active, and need no look.
    busy: u32,
    pub(crate) its: Its,
    /// Whether a redistributor was told to have LPIs, or to have none.
    pub(crate) has_stale_lpis: bool,
    /// The vCPUs whose interrupts have changed, a bit each.
    pub(crate) attention: u64,
}

/// An interrupt that a vCPU could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Candidate {
    pub(crate) priority: u8,
    pub(crate) intid: u32,
}

impl State {
    /// Makes a controller after reset.
    pub(crate) fn new(version: Version, vcpus: usize) -> Self {
        let mut bank = Bank::new(SGIS);
        if version == Version::V2 {
            bank.enabled = SGIS;
        }
        let private = Private {
            bank,
            is_asleep: true,
            senders: [0; SGI_COUNT],
            interface: super::cpu_interface::CpuInterface::default(),
            lpis: Lpis::default(),
        };
        let shared = Shared {
            bank: Bank::new(0),
            target: [if version == Version::V3 { 0 } else { NOBODY }; BANK],
            route: [0; BANK],
        };
        Self {
            version,
            enables: GroupEnables::default(),
            privates: vec![private; vcpus.min(VCPUS_MAX)],
            shared: vec![shared; SPI_BANKS],
            busy: PRIVATE_BANK,
            its: Its::default(),
            has_stale_lpis: false,
            attention: 0,
        }
    }

    /// Returns the bank of an interrupt as vCPU `cpu` sees it, and its bit there.
    pub(crate) fn bank_mut(&mut self, cpu: usize, intid: u32) -> Option<(&mut Bank, u32)> {
        let bank = self.bank_at_mut(cpu, (intid >> 5) as usize)?;
        Some((bank, intid & 31))
    }

    pub(crate) fn bank_at_mut(&mut self, cpu: usize, index: usize) -> Option<&mut Bank> {
        if index < FIRST_BANK {
            self.busy |= mask(index as u32);
        }
        match index.checked_sub(1) {
            None => self.privates.get_mut(cpu).map(|private| &mut private.bank),
            Some(_) if index >= FIRST_BANK => {
                let index = index.wrapping_sub(FIRST_BANK);
                self.privates.get_mut(cpu)?.lpis.bank_mut(index)
            }
            Some(shared) => self.shared.get_mut(shared).map(|shared| &mut shared.bank),
        }
    }

    pub(crate) fn bank_at(&self, cpu: usize, index: usize) -> Option<&Bank> {
        match index.checked_sub(1) {
            None => self.privates.get(cpu).map(|private| &private.bank),
            Some(_) if index >= FIRST_BANK => {
                let index = index.wrapping_sub(FIRST_BANK);
                self.privates.get(cpu)?.lpis.bank(index)
            }
            Some(shared) => self.shared.get(shared).map(|shared| &shared.bank),
        }
    }

    /// Moves the wire of a shared interrupt.
    pub(crate) fn set_line(&mut self, intid: u32, level: bool) {
        self.set_private_line(0, intid, level);
    }

    /// Moves the wire of an interrupt; `cpu` says whose, if it is private.
    pub(crate) fn set_private_line(&mut self, cpu: usize, intid: u32, level: bool) {
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            bank.set_line(bit, level);
            if level {
                self.attend(cpu, intid);
            }
        }
    }

    /// Makes an interrupt pending, as an edge does.
    pub(crate) fn pend(&mut self, cpu: usize, intid: u32) {
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            bank.latch |= mask(bit);
            self.attend(cpu, intid);
        }
    }

    /// Makes an SGI pending that vCPU `from` sends.
    pub(crate) fn send_sgi(&mut self, from: usize, to: usize, intid: u32) {
        if let Some(private) = self.privates.get_mut(to)
            && let Some(senders) = private.senders.get_mut(intid as usize)
        {
            *senders |= mask(from as u32 & 7) as u8;
            self.pend(to, intid);
        }
    }

    /// Raises the line of a private interrupt that is active in the hardware
    /// until the guest ends it.
    pub(crate) fn link(&mut self, cpu: usize, intid: u32) {
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            bank.line |= mask(bit);
            bank.linked |= mask(bit);
        }
    }

    /// Cuts all private interrupts off the hardware and returns which they were;
    /// those whose line is still high come again by themselves.
    pub(crate) fn unlink(&mut self, cpu: usize) -> u32 {
        let Some(bank) = self.bank_at_mut(cpu, 0) else {
            return 0;
        };
        let linked = core::mem::take(&mut bank.linked);
        bank.line &= !linked;
        linked
    }

    /// Tells whether the source of an interrupt waits for its end: of a private one.
    pub(crate) fn is_linked(&self, cpu: usize, intid: u32) -> bool {
        let bank = self.bank_at(cpu, 0).filter(|_| intid < u32::BITS);
        bank.is_some_and(|bank| bank.linked & mask(intid) != 0)
    }

    /// Ends what [`Self::link`] began.
    pub(crate) fn end_linked(&mut self, cpu: usize, intid: u32) {
        if let Some((bank, bit)) = self.bank_mut(cpu, intid) {
            let linked = bank.linked & mask(bit);
            bank.linked &= !linked;
            bank.line &= !linked;
        }
    }

    /// Notes that the vCPU which takes an interrupt has to look.
    pub(crate) fn attend(&mut self, cpu: usize, intid: u32) {
        let target = match (intid >> 5).checked_sub(1) {
            None => cpu,
            Some(_) if intid >= FIRST => cpu,
            Some(bank) => self.target_of(bank as usize, intid & 31),
        };
        self.attention |= 1_u64.checked_shl(target as u32).unwrap_or(0);
    }

    /// Notes that a vCPU has to look.
    pub(crate) fn attend_vcpu(&mut self, cpu: usize) {
        self.attention |= 1_u64.checked_shl(cpu as u32).unwrap_or(0);
    }

    /// Notes that every vCPU has to look.
    pub(crate) fn attend_all(&mut self) {
        self.attention = u64::MAX;
    }

    fn target_of(&self, bank: usize, bit: u32) -> usize {
        self.shared
            .get(bank)
            .and_then(|shared| shared.target.get(bit as usize))
            .map_or(usize::from(NOBODY), |&target| target.into())
    }

    /// Returns the bits of a bank that a vCPU takes.
    pub(crate) fn owned(&self, cpu: usize, index: usize) -> u32 {
        let Some(bank) = index.checked_sub(1).filter(|_| index < FIRST_BANK) else {
            return u32::MAX;
        };
        let Some(shared) = self.shared.get(bank) else {
            return 0;
        };
        let is_own = |bit: &u32| {
            let target = shared.target.get(*bit as usize);
            target.is_some_and(|&target| usize::from(target) == cpu)
        };
        let interesting = shared.bank.pending() | shared.bank.active;
        bits(interesting)
            .filter(is_own)
            .fold(0, |word, bit| word | mask(bit))
    }

    /// Finds out which shared banks hold nothing, so that nobody looks at them.
    pub(crate) fn settle(&mut self) {
        for index in bits(self.busy & !PRIVATE_BANK) {
            let bank = self.bank_at(0, index as usize);
            if bank.is_none_or(Bank::is_idle) {
                self.busy &= !mask(index);
            }
        }
    }

    /// Visits the indices of the banks in which a vCPU may have something.
    fn banks(&self, cpu: usize) -> impl Iterator<Item = usize> + '_ {
        let private = self.privates.get(cpu).into_iter();
        let lpis = private.flat_map(|private| private.lpis.busy_banks());
        let wired = bits(self.busy).map(|index| index as usize);
        wired.chain(lpis.map(|index| index.saturating_add(FIRST_BANK)))
    }

    /// Visits what a vCPU could take now, in no order.
    pub(crate) fn candidates(&self, cpu: usize) -> impl Iterator<Item = Candidate> + '_ {
        let enables = self.enables;
        self.visit(cpu, move |bank| bank.deliverable(bank.groups(enables)))
    }

    /// Visits what is active at a vCPU and not in a list register.
    pub(crate) fn active(&self, cpu: usize) -> impl Iterator<Item = Candidate> + '_ {
        self.visit(cpu, |bank| bank.active & !bank.listed)
    }

    /// Visits those interrupts of a vCPU that `choose` picks of each bank.
    fn visit<'a>(
        &'a self,
        cpu: usize,
        choose: impl Fn(&Bank) -> u32 + 'a,
    ) -> impl Iterator<Item = Candidate> + 'a {
        self.banks(cpu).flat_map(move |index| {
            let chosen = self.bank_at(cpu, index).map_or(0, &choose);
            let own = match chosen {
                0 => 0,
                some => some & self.owned(cpu, index),
            };
            bits(own).map(move |bit| self.candidate(cpu, index, bit))
        })
    }

    fn candidate(&self, cpu: usize, index: usize, bit: u32) -> Candidate {
        let priority = self
            .bank_at(cpu, index)
            .map_or(u8::MAX, |bank| bank.priority_of(bit));
        Candidate {
            priority,
            intid: (index as u32) << 5 | bit,
        }
    }
}
