// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries out a decoded instruction, one access after the other.
//!
//! [`Emulation::next`] says which access follows; whoever runs the vCPU makes it
//! and gives the value that was read to [`Emulation::answer`]. Registers and flags
//! change only when everything before has happened, so that an instruction can be
//! dropped between two accesses. A repeated string instruction is carried out
//! element by element, RIP staying on it until the last: interrupts come between.
//!
//! Spec: AMD64 APM 3, "Repeat Prefixes", and each instruction.

use axvm::{AccessWidth, GuestPhysAddr};

use super::{Alu, Instruction, Operation, Source, StringEnd};
use crate::{
    frame::{Frame, RAX, RCX, RDI, RSI, Reg, mask, sign_extend},
    regs::{RFLAGS, bits},
};

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Memory(GuestPhysAddr),
    Port(u16),
    Accumulator,
}

/// What an instruction needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A read; the value goes to [`Emulation::answer`].
    Read(Place, AccessWidth),
    /// A write.
    Write(Place, AccessWidth, u64),
    /// Nothing: go on behind the instruction.
    Done,
    /// Nothing: the instruction is to be executed once more.
    Again,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Start,
    Answered(u64),
    Written,
}

/// An instruction that is being carried out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Emulation {
    pub(crate) instruction: Instruction,
    /// Where it reads, and where it writes; mostly the same.
    from: Place,
    to: Place,
    phase: Phase,
}

impl Emulation {
    /// Begins an instruction with one operand in memory.
    pub(crate) fn at(instruction: Instruction, address: GuestPhysAddr) -> Self {
        Self::between(instruction, Place::Memory(address), Place::Memory(address))
    }

    /// Begins a string instruction.
    pub(crate) fn between(instruction: Instruction, from: Place, to: Place) -> Self {
        Self {
            instruction,
            from,
            to,
            phase: Phase::Start,
        }
    }

    /// Takes the value of the read that was asked for.
    pub(crate) fn answer(&mut self, value: u64) {
        self.phase = Phase::Answered(value & mask(self.instruction.width));
    }

    /// Returns what follows, after the last access has been made.
    pub(crate) fn next(&mut self, frame: &mut Frame, flags: &mut u64) -> Progress {
        match self.phase {
            Phase::Start => self.start(frame),
            Phase::Answered(value) => self.go_on(value, frame, flags),
            Phase::Written => self.end(frame, *flags),
        }
    }

    fn read(&self) -> Progress {
        Progress::Read(self.from, self.instruction.width)
    }

    fn write(&mut self, value: u64) -> Progress {
        self.phase = Phase::Written;
        let width = self.instruction.width;
        Progress::Write(self.to, width, value & mask(width))
    }

    fn start(&mut self, frame: &Frame) -> Progress {
        match self.instruction.operation {
            Operation::Store { from } => self.write(self.value_of(from, frame)),
            Operation::String { .. } if self.instruction.is_over(frame) => Progress::Done,
            Operation::String {
                from: StringEnd::Accumulator,
                ..
            } => self.write(frame.get(RAX)),
            _ => self.read(),
        }
    }

    fn go_on(&mut self, value: u64, frame: &mut Frame, flags: &mut u64) -> Progress {
        let width = self.instruction.width;
        match self.instruction.operation {
            Operation::Load {
                to,
                to_width,
                is_signed,
            } => {
                let extended = match is_signed {
                    true => sign_extend(value, width),
                    false => value,
                };
                frame.write(to, to_width, extended);
                Progress::Done
            }
            Operation::Exchange { with } => {
                let old = frame.read(with, width);
                frame.write(with, width, value);
                self.write(old)
            }
            Operation::ExchangeAdd { with } => {
                let pair = (value, frame.read(with, width));
                frame.write(with, width, value);
                self.compute(Alu::Add, pair, flags)
            }
            Operation::CompareExchange { with } => self.compare_exchange(value, with, frame, flags),
            Operation::Modify { operation, with } => {
                let other = self.value_of(with, frame);
                self.compute(operation, (value, other), flags)
            }
            Operation::Combine { operation, to } => {
                let pair = (frame.read(to, width), value);
                let (result, new_flags) = operation.compute(pair, width, *flags);
                *flags = new_flags;
                if operation.has_result() {
                    frame.write(to, width, result);
                }
                Progress::Done
            }
            Operation::String {
                to: StringEnd::Accumulator,
                ..
            } => {
                frame.write(Reg::new(RAX as u8), width, value);
                self.end(frame, *flags)
            }
            Operation::Store { .. } | Operation::String { .. } => self.write(value),
        }
    }

    fn compute(&mut self, operation: Alu, pair: (u64, u64), flags: &mut u64) -> Progress {
        let (result, new_flags) = operation.compute(pair, self.instruction.width, *flags);
        *flags = new_flags;
        match operation.has_result() {
            true => self.write(result),
            false => Progress::Done,
        }
    }

    /// Writes in any case, as the CPU does: either the register or what was read.
    fn compare_exchange(
        &mut self,
        value: u64,
        with: Reg,
        frame: &mut Frame,
        flags: &mut u64,
    ) -> Progress {
        let (width, accumulator) = (self.instruction.width, Reg::new(RAX as u8));
        let pair = (frame.read(accumulator, width), value);
        (_, *flags) = Alu::Compare.compute(pair, width, *flags);
        if pair.0 == value {
            return self.write(frame.read(with, width));
        }
        frame.write(accumulator, width, value);
        self.write(value)
    }

    fn value_of(&self, source: Source, frame: &Frame) -> u64 {
        match source {
            Source::Register(reg) => frame.read(reg, self.instruction.width),
            Source::Immediate(value) => value,
        }
    }

    /// Ends an instruction, or one element of a string.
    fn end(&mut self, frame: &mut Frame, flags: u64) -> Progress {
        let Operation::String { from, to } = self.instruction.operation else {
            return Progress::Done;
        };
        let is_backward = bits::<RFLAGS::Register>(flags).is_set(RFLAGS::DIRECTION);
        let size = self.instruction.width.size() as u64;
        let step = match is_backward {
            true => size.wrapping_neg(),
            false => size,
        };
        if from == StringEnd::Memory {
            self.advance(frame, RSI, step);
        }
        if to == StringEnd::Memory {
            self.advance(frame, RDI, step);
        }
        if !self.instruction.repeats {
            return Progress::Done;
        }
        self.advance(frame, RCX, u64::MAX);
        match self.instruction.is_over(frame) {
            true => Progress::Done,
            false => Progress::Again,
        }
    }

    fn advance(&self, frame: &mut Frame, reg: usize, by: u64) {
        let value = frame.get(reg).wrapping_add(by);
        frame.write(Reg::new(reg as u8), self.instruction.address_width, value);
    }
}
