// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One 8259A.
//!
//! Eight inputs with rotating priorities. An input is triggered by its edge,
//! or by its level where ELCR or ICW1 say so. Nothing here knows the other
//! chip: the pair in `super` connects the cascade.
//!
//! Spec: Intel 8259A Programmable Interrupt Controller; ELCR as of the 82378IB.

use tock_registers::LocalRegisterCopy;

use super::registers::{Command, ICW1, ICW2, ICW4, OCW2, OCW3, POLL, bit};

/// The input of a chip that carries nothing: spurious interrupts come from it.
pub(super) const SPURIOUS_INPUT: u8 = 7;
/// The master's input to which the slave is wired.
pub(super) const CASCADE_INPUT: u8 = 2;

/// Which initialization word the data port takes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Mask,
    Icw2,
    Icw3,
    Icw4,
}

/// Which of the two a chip is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    Slave,
}

impl Role {
    /// The inputs that ELCR may make level-triggered.
    fn level_inputs(self) -> u8 {
        match self {
            Self::Master => 0xf8,
            Self::Slave => 0xde,
        }
    }
}

/// What ICW1 sets back.
#[derive(Clone, Debug, Default)]
struct Settings {
    icw1: u8,
    base: u8,
    mask: u8,
    expects: Expects,
    /// The input of the highest priority.
    first: u8,
    reads_service: bool,
    is_polled: bool,
    is_special_mask: bool,
    is_special_nested: bool,
    is_auto_eoi: bool,
    rotates_in_auto_eoi: bool,
}

/// A chip.
#[derive(Clone, Debug)]
pub(super) struct Chip {
    role: Role,
    /// The level of each input, as far as an edge is told by it.
    wires: u8,
    requests: u8,
    in_service: u8,
    elcr: u8,
    settings: Settings,
}

impl Chip {
    pub(super) fn new(role: Role) -> Self {
        Self {
            role,
            wires: 0,
            requests: 0,
            in_service: 0,
            elcr: 0,
            settings: Settings::default(),
        }
    }

    /// The inputs that are triggered by their level.
    fn levels(&self) -> u8 {
        let icw1 = LocalRegisterCopy::<u8, ICW1::Register>::new(self.settings.icw1);
        match icw1.is_set(ICW1::LTIM) {
            true => u8::MAX,
            false => self.elcr,
        }
    }

    /// Drives an input.
    pub(super) fn set_level(&mut self, input: u8, is_high: bool) {
        let bit = bit(input);
        let is_rising = is_high && self.wires & bit == 0;
        match is_high {
            true => self.wires |= bit,
            false => self.wires &= !bit,
        }
        if is_rising {
            self.requests |= bit;
        } else if !is_high && self.levels() & bit != 0 {
            self.requests &= !bit;
        }
    }

    pub(super) fn elcr(&self) -> u8 {
        self.elcr
    }

    pub(super) fn set_elcr(&mut self, value: u8) {
        self.elcr = value & self.role.level_inputs();
        self.follow_levels();
    }

    /// Makes the inputs that are triggered by their level request as their wires say.
    fn follow_levels(&mut self) {
        let levels = self.levels();
        self.requests = (self.requests & !levels) | (self.wires & levels);
    }

    /// The first input of a set, in the order of priority, with its rank.
    fn first_of(&self, set: u8) -> Option<(u32, u8)> {
        let first = self.settings.first;
        let rank = set.rotate_right(first.into()).trailing_zeros();
        let input = (rank as u8).wrapping_add(first) & 7;
        (set != 0).then_some((rank, input))
    }

    /// Returns the input that the chip's output stands for, if that is high.
    pub(super) fn request(&self) -> Option<u8> {
        let (rank, input) = self.first_of(self.requests & !self.settings.mask)?;
        let mut blocking = self.in_service;
        if self.settings.is_special_mask {
            blocking &= !self.settings.mask;
        }
        if self.settings.is_special_nested && self.role == Role::Master {
            blocking &= !bit(CASCADE_INPUT);
        }
        let is_free = self.first_of(blocking).is_none_or(|(by, _)| rank < by);
        is_free.then_some(input)
    }

    /// Takes the interrupt of an input, as the second INTA pulse does.
    pub(super) fn acknowledge(&mut self, input: u8) {
        if !self.settings.is_auto_eoi {
            self.in_service |= bit(input);
        } else if self.settings.rotates_in_auto_eoi {
            self.make_last(input);
        }
        if self.levels() & bit(input) == 0 {
            self.requests &= !bit(input);
        }
    }

    /// Returns the vector of an input.
    pub(super) fn vector(&self, input: u8) -> u8 {
        self.settings.base | input
    }

    fn make_last(&mut self, input: u8) {
        self.settings.first = input.wrapping_add(1) & 7;
    }

    /// Reads a port.
    pub(super) fn read(&mut self, port: Port) -> u8 {
        if self.settings.is_polled {
            self.settings.is_polled = false;
            return self.poll();
        }
        match (port, self.settings.reads_service) {
            (Port::Data, _) => self.settings.mask,
            (Port::Command, true) => self.in_service,
            (Port::Command, false) => self.requests,
        }
    }

    fn poll(&mut self) -> u8 {
        let Some(input) = self.request() else {
            return 0;
        };
        self.acknowledge(input);
        (POLL::PENDING::SET + POLL::LEVEL.val(input)).value
    }

    pub(super) fn write(&mut self, port: Port, value: u8) {
        match port {
            Port::Data => self.write_data(value),
            Port::Command => match Command::decode(value) {
                Command::Icw1(word) => self.initialize(word.get()),
                Command::Ocw2(word) => self.end(word),
                Command::Ocw3(word) => self.set_modes(word),
            },
        }
    }

    fn initialize(&mut self, icw1: u8) {
        self.settings = Settings {
            icw1,
            expects: Expects::Icw2,
            ..Settings::default()
        };
        self.in_service = 0;
        // Edges are forgotten, and what is high may be one when it is next driven;
        // levels are still there.
        self.requests = 0;
        self.wires &= self.levels();
        self.follow_levels();
    }

    fn write_data(&mut self, value: u8) {
        let icw1 = LocalRegisterCopy::<u8, ICW1::Register>::new(self.settings.icw1);
        let after_vectors = match icw1.is_set(ICW1::IC4) {
            true => Expects::Icw4,
            false => Expects::Mask,
        };
        self.settings.expects = match self.settings.expects {
            Expects::Mask => {
                self.settings.mask = value;
                Expects::Mask
            }
            Expects::Icw2 => {
                self.settings.base = value & ICW2::BASE::SET.value;
                match icw1.is_set(ICW1::SNGL) {
                    true => after_vectors,
                    false => Expects::Icw3,
                }
            }
            // The wiring of the cascade is fixed.
            Expects::Icw3 => after_vectors,
            Expects::Icw4 => {
                let icw4 = LocalRegisterCopy::<u8, ICW4::Register>::new(value);
                self.settings.is_auto_eoi = icw4.is_set(ICW4::AEOI);
                self.settings.is_special_nested = icw4.is_set(ICW4::SFNM);
                Expects::Mask
            }
        };
    }

    fn set_modes(&mut self, word: LocalRegisterCopy<u8, OCW3::Register>) {
        if word.is_set(OCW3::POLL) {
            self.settings.is_polled = true;
        }
        if word.is_set(OCW3::RR) {
            self.settings.reads_service = word.matches_all(OCW3::RIS::Isr);
        }
        if word.is_set(OCW3::ESMM) {
            self.settings.is_special_mask = word.is_set(OCW3::SMM);
        }
    }

    fn end(&mut self, word: LocalRegisterCopy<u8, OCW2::Register>) {
        use OCW2::COMMAND::Value as End;
        let named = word.read(OCW2::LEVEL);
        let Some(command) = word.read_as_enum::<End>(OCW2::COMMAND) else {
            return;
        };
        match command {
            End::RotateInAutoEoiClear => self.settings.rotates_in_auto_eoi = false,
            End::RotateInAutoEoiSet => self.settings.rotates_in_auto_eoi = true,
            End::Nothing => {}
            End::SetPriority => self.make_last(named),
            End::SpecificEoi => self.in_service &= !bit(named),
            End::RotateOnSpecificEoi => {
                self.in_service &= !bit(named);
                self.make_last(named);
            }
            End::Eoi => {
                self.end_first();
            }
            End::RotateOnEoi => {
                if let Some(input) = self.end_first() {
                    self.make_last(input);
                }
            }
        }
    }

    fn end_first(&mut self) -> Option<u8> {
        let (_, input) = self.first_of(self.in_service)?;
        self.in_service &= !bit(input);
        Some(input)
    }
}

/// A chip's two addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Command,
    Data,
}
