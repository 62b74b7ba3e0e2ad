// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The advanced platform-level interrupt controller, as a model.
//!
//! One supervisor-level domain with all the wires and no child, which is what
//! an operating system on QEMU's `virt` finds once the firmware has delegated
//! everything. The machine decides between direct and MSI delivery, and the
//! byte order is little: both fields of domaincfg are read-only, as QEMU's are.
//! MSIs go to a function that the caller gives; in direct delivery the caller
//! asks [`Aplic::is_raised`] for each hart after each change. Every call is
//! bounded by the number of sources.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Advanced Platform-Level
//! Interrupt Controller (APLIC)".

mod registers;
mod sources;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use tock_registers::{LocalRegisterCopy, RegisterLongName, fields::Field};

pub use sources::SOURCES;

use registers::{DOMAINCFG, FLAG, MSI_TARGET, Register, TARGET, TOPI};
use sources::{Source, Sources, sources_in};

/// How interrupts get from the controller to the harts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// By a wire to each hart.
    Direct,
    /// By writes to the harts' interrupt files.
    Msi,
}

/// A message to a hart's supervisor-level interrupt file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msi {
    /// The hart's index, which no hart may have.
    pub hart: u32,
    /// The identity, which the file may not have.
    pub identity: u32,
}

impl Msi {
    fn to(target: u32) -> Self {
        let target = LocalRegisterCopy::<u32, MSI_TARGET::Register>::new(target);
        Self {
            hart: target.read(MSI_TARGET::HART),
            identity: target.read(MSI_TARGET::EIID),
        }
    }
}

/// One hart's delivery control.
#[derive(Clone, Copy, Debug, Default)]
struct Idc {
    is_delivering: bool,
    is_forced: bool,
    threshold: u32,
}

/// The controller.
pub struct Aplic {
    delivery: Delivery,
    is_enabled: bool,
    sources: Sources,
    extempore: u32,
    /// Of direct delivery only.
    idcs: Vec<Idc>,
}

impl Aplic {
    /// Makes a controller for so many harts, whose indices are their ids.
    pub fn new(delivery: Delivery, harts: usize) -> Self {
        let idcs = match delivery {
            Delivery::Direct => harts,
            Delivery::Msi => 0,
        };
        Self {
            delivery,
            is_enabled: false,
            sources: Sources::new(delivery),
            extempore: 0,
            idcs: alloc::vec![Idc::default(); idcs],
        }
    }

    /// Drives a source's wire; sources that do not exist have none.
    pub fn set_level(&mut self, source: usize, is_high: bool, send: impl FnMut(Msi)) {
        let number = u32::try_from(source).unwrap_or(0);
        if let Some(source) = Source::new(number) {
            self.sources.set_level(source, is_high);
            self.forward(send);
        }
    }

    /// Tells whether a hart's external interrupt is raised; never by MSI delivery.
    pub fn is_raised(&self, hart: usize) -> bool {
        self.idcs.get(hart).is_some_and(|idc| {
            let is_open = self.is_enabled && idc.is_delivering;
            is_open && (idc.is_forced || self.best(hart).is_some())
        })
    }

    /// Reads a register; a claim claims.
    pub fn read(&mut self, offset: u64) -> u32 {
        match Register::at(offset) {
            Register::Domain => self.domain(),
            Register::Source(source) => self.sources.configuration(source),
            Register::SetPending { word } => self.sources.pending_word(word),
            Register::Input { word } => self.sources.input_word(word),
            Register::SetEnabled { word } => self.sources.enabled_word(word),
            Register::GenerateMsi => self.extempore,
            Register::Target(source) => self.sources.target(source),
            Register::Delivery { hart } => self.idc(hart).is_delivering.into(),
            Register::Force { hart } => self.idc(hart).is_forced.into(),
            Register::Threshold { hart } => self.idc(hart).threshold,
            Register::Top { hart } => self.top(hart),
            Register::Claim { hart } => self.claim(hart),
            _ => 0,
        }
    }

    /// Writes a register; what cannot be written stays as it is.
    pub fn write(&mut self, offset: u64, value: u32, mut send: impl FnMut(Msi)) {
        match Register::at(offset) {
            Register::Domain => self.is_enabled = is_set(value, DOMAINCFG::IE),
            Register::Source(source) => self.sources.configure(source, value),
            Register::SetPending { word } => self.each(word, value, Sources::set_pending),
            Register::SetPendingNumber => self.one(value, Sources::set_pending),
            Register::SetPendingNumberBig => self.one(value.swap_bytes(), Sources::set_pending),
            Register::Input { word } => self.each(word, value, Sources::clear_pending),
            Register::ClearPendingNumber => self.one(value, Sources::clear_pending),
            Register::SetEnabled { word } => self.each(word, value, Sources::enable),
            Register::SetEnabledNumber => self.one(value, Sources::enable),
            Register::ClearEnabled { word } => self.each(word, value, Sources::disable),
            Register::ClearEnabledNumber => self.one(value, Sources::disable),
            Register::GenerateMsi => self.generate(value, &mut send),
            Register::Target(source) => self.sources.set_target(source, value),
            Register::Delivery { hart } => {
                self.change(hart, |idc| idc.is_delivering = is_set(value, FLAG::VALUE));
            }
            Register::Force { hart } => {
                self.change(hart, |idc| idc.is_forced = is_set(value, FLAG::VALUE));
            }
            Register::Threshold { hart } => {
                self.change(hart, |idc| idc.threshold = priority(value))
            }
            Register::Top { .. } | Register::Claim { .. } | Register::Nothing => {}
        }
        self.forward(send);
    }

    /// Acts on each source whose bit is set in a word of a register array.
    fn each(&mut self, word: usize, bits: u32, act: fn(&mut Sources, Source)) {
        sources_in(word, bits).for_each(|source| act(&mut self.sources, source));
    }

    /// Acts on the source of a number, if there is one.
    fn one(&mut self, number: u32, act: fn(&mut Sources, Source)) {
        if let Some(source) = Source::new(number) {
            act(&mut self.sources, source);
        }
    }

    /// Changes the delivery control of a hart, if there is one.
    fn change(&mut self, hart: usize, act: impl FnOnce(&mut Idc)) {
        if let Some(idc) = self.idcs.get_mut(hart) {
            act(idc);
        }
    }

    fn idc(&self, hart: usize) -> Idc {
        self.idcs.get(hart).copied().unwrap_or_default()
    }

    fn domain(&self) -> u32 {
        let mode = match self.delivery {
            Delivery::Direct => DOMAINCFG::DM::Direct,
            Delivery::Msi => DOMAINCFG::DM::Msi,
        };
        let enabled = DOMAINCFG::IE.val(self.is_enabled.into());
        DOMAINCFG::ORDER::Mark.value | mode.value | enabled.value
    }

    /// Sends an MSI that no source asked for, whether the domain is enabled or not.
    fn generate(&mut self, value: u32, send: &mut impl FnMut(Msi)) {
        if self.delivery == Delivery::Direct {
            return;
        }
        let msi = Msi::to(value);
        let hart = MSI_TARGET::HART.val(msi.hart);
        self.extempore = hart.value | MSI_TARGET::EIID.val(msi.identity).value;
        send(msi);
    }

    /// Sends an MSI for each source that is pending and enabled, which ends its
    /// being pending.
    fn forward(&mut self, mut send: impl FnMut(Msi)) {
        if !self.is_enabled || self.delivery == Delivery::Direct {
            return;
        }
        while let Some(source) = self.next_ready() {
            self.sources.clear_pending(source);
            send(Msi::to(self.sources.target(source)));
        }
    }

    fn next_ready(&self) -> Option<Source> {
        self.sources.ready().next()
    }

    /// Returns a hart's source of the lowest priority number, the lowest
    /// source among equals, and the number.
    fn best(&self, hart: usize) -> Option<(Source, u32)> {
        let threshold = self.idc(hart).threshold;
        self.sources
            .ready()
            .map(|source| (source, self.sources.target(source)))
            .filter(|&(_, target)| hart_of(target) == hart)
            .map(|(source, target)| (source, priority(target)))
            .filter(|&(_, priority)| threshold == 0 || priority < threshold)
            .min_by_key(|&(_, priority)| priority)
    }

    fn top(&self, hart: usize) -> u32 {
        if hart >= self.idcs.len() {
            return 0;
        }
        self.best(hart).map_or(0, |(source, priority)| {
            TOPI::IDENTITY.val(source.number()).value | TOPI::PRIORITY.val(priority).value
        })
    }

    fn claim(&mut self, hart: usize) -> u32 {
        let top = self.top(hart);
        let claimed = LocalRegisterCopy::<u32, TOPI::Register>::new(top);
        match Source::new(claimed.read(TOPI::IDENTITY)) {
            Some(source) => self.sources.clear_pending(source),
            None => self.change(hart, |idc| idc.is_forced = false),
        }
        top
    }
}

fn is_set<R: RegisterLongName>(value: u32, field: Field<u32, R>) -> bool {
    LocalRegisterCopy::<u32, R>::new(value).is_set(field)
}

fn hart_of(target: u32) -> usize {
    LocalRegisterCopy::<u32, TARGET::Register>::new(target).read(TARGET::HART) as usize
}

fn priority(value: u32) -> u32 {
    LocalRegisterCopy::<u32, TARGET::Register>::new(value).read(TARGET::IPRIO)
}
