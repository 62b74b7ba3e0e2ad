// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries out a decoded instruction on a guest's registers and its [`Bus`].
//!
//! First every operand is found, which may be refused, and only then is the first
//! one read: an instruction is done or has left no trace but for RSP, which its
//! caller puts back. What it leaves in flags and RIP is in [`State`]. A repeated
//! string instruction is carried out element by element, RIP staying on it until
//! the last: interrupts come between.
//!
//! Spec: AMD64 APM 3, "Repeat Prefixes", "Condition Codes", and each instruction.

use axvm::{AccessWidth, GuestPhysAddr};

use super::{
    Alu, Instruction, Operand, Operation, Repeat, SegmentName, Span, Vector, operands::Place,
    vector::Half,
};
use crate::{
    exit::Exception,
    frame::{Frame, RAX, RCX, RDI, RSI, Reg, mask, sign_extend},
    regs::{RFLAGS, bits},
    walk::Purpose,
};

/// An operand in memory, as the instruction names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) segment: SegmentName,
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
    pub(crate) purpose: Purpose,
}

/// Why an instruction is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A page fault: the address, and its error code.
    Page(u64, u32),
    /// Another exception.
    Exception(Exception),
    /// The CPU would not have left for it: another vCPU has changed it meanwhile.
    Changed,
}

/// What instructions reach.
pub(crate) trait Bus {
    /// Returns the general registers.
    fn frame(&mut self) -> &mut Frame;
    /// Finds an operand in memory.
    fn find(&mut self, access: Access) -> Result<Span, Refusal>;
    fn read(&mut self, at: GuestPhysAddr, width: AccessWidth) -> u64;
    fn write(&mut self, at: GuestPhysAddr, width: AccessWidth, value: u64);
    fn read_port(&mut self, width: AccessWidth) -> u64;
    fn write_port(&mut self, width: AccessWidth, value: u64);
    /// Reads a vector register.
    fn vector(&mut self, vector: Vector) -> Result<[u64; 4], Refusal>;
    /// Loads a vector register.
    fn set_vector(&mut self, vector: Vector, value: [u64; 4]);
}

/// What an instruction changes besides memory and general registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct State {
    pub(crate) flags: u64,
    /// Where the guest goes on.
    pub(crate) next: u64,
}

/// How far a repeated instruction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    /// The instruction is to be executed once more.
    Again,
}

/// Carries out an instruction, or one element of a string.
pub(crate) fn execute(
    instruction: &Instruction,
    state: &mut State,
    bus: &mut impl Bus,
) -> Result<Progress, Refusal> {
    if instruction.is_over(bus.frame()) {
        return Ok(Progress::Done);
    }
    let mut executor = Executor {
        instruction,
        state,
        bus,
    };
    executor.operate()?;
    Ok(executor.end())
}

/// An instruction that is being carried out.
pub(super) struct Executor<'a, B: Bus> {
    pub(super) instruction: &'a Instruction,
    pub(super) state: &'a mut State,
    pub(super) bus: &'a mut B,
}

impl<B: Bus> Executor<'_, B> {
    fn operate(&mut self) -> Result<(), Refusal> {
        let Instruction {
            operation, width, ..
        } = *self.instruction;
        match operation {
            Operation::Move => self.copy(|value| value),
            Operation::MoveZero => self.copy(|value| value & mask(width)),
            Operation::MoveSigned => self.copy(|value| sign_extend(value, width)),
            Operation::MoveSwapped => self.copy(|value| swapped(value, width)),
            Operation::MoveIf(condition) => self.move_if(condition),
            Operation::SetIf(condition) => self.set_if(condition),
            Operation::Compute(alu) => self.compute(alu),
            Operation::Exchange => self.exchange(|old, given, _| (given, old)),
            Operation::ExchangeAdd => self.exchange(|old, given, flags| {
                let (sum, new) = Alu::Add.compute((old, given), width, *flags);
                *flags = new;
                (sum, old)
            }),
            Operation::CompareExchange => self.compare_exchange(),
            Operation::Call => self.call(),
            Operation::Vector(vector) if vector.is_store => self.store_vector(vector),
            Operation::Vector(vector) => self.load_vector(vector),
        }
    }

    fn copy(&mut self, change: impl Fn(u64) -> u64) -> Result<(), Refusal> {
        let from = self.source()?;
        let to = self.find(self.instruction.to, Purpose::Write)?;
        let value = self.read(from);
        self.write(to, change(value));
        Ok(())
    }

    fn move_if(&mut self, condition: u8) -> Result<(), Refusal> {
        let from = self.source()?;
        let to = self.find(self.instruction.to, Purpose::Write)?;
        let [new, old] = [from, to].map(|place| self.read(place));
        // The register is written in any case, which may clear its upper half.
        let value = if self.holds(condition) { new } else { old };
        self.write(to, value);
        Ok(())
    }

    fn set_if(&mut self, condition: u8) -> Result<(), Refusal> {
        let to = self.find(self.instruction.to, Purpose::Write)?;
        let value = self.holds(condition).into();
        self.write(to, value);
        Ok(())
    }

    fn compute(&mut self, alu: Alu) -> Result<(), Refusal> {
        let purpose = match alu.has_result() {
            true => Purpose::Write,
            false => Purpose::Read,
        };
        let to = self.find(self.instruction.to, purpose)?;
        let from = self.source()?;
        let pair = (self.read(to), self.read(from));
        let width = self.instruction.width;
        let (result, flags) = alu.compute(pair, width, self.state.flags);
        self.state.flags = flags;
        if alu.has_result() {
            self.write(to, result);
        }
        Ok(())
    }

    /// Writes both operands, with what a function makes of both.
    fn exchange(&mut self, swap: impl Fn(u64, u64, &mut u64) -> (u64, u64)) -> Result<(), Refusal> {
        let to = self.find(self.instruction.to, Purpose::Write)?;
        let from = self.find(self.instruction.from, Purpose::Write)?;
        let (old, given) = (self.read(to), self.read(from));
        let (new, left) = swap(old, given, &mut self.state.flags);
        self.write(from, left);
        self.write(to, new);
        Ok(())
    }

    /// Writes in any case, as the CPU does: either the register or what was read.
    fn compare_exchange(&mut self) -> Result<(), Refusal> {
        let to = self.find(self.instruction.to, Purpose::Write)?;
        let from = self.source()?;
        let accumulator = Place::Register(Reg::new(RAX as u8));
        let pair = (self.read(accumulator), self.read(to));
        let width = self.instruction.width;
        (_, self.state.flags) = Alu::Compare.compute(pair, width, self.state.flags);
        if pair.0 == pair.1 {
            let new = self.read(from);
            self.write(to, new);
        } else {
            self.write(accumulator, pair.1);
            self.write(to, pair.1);
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), Refusal> {
        let from = self.source()?;
        let stack = self.find(Operand::Stack, Purpose::Write)?;
        let target = self.read(from);
        self.write(stack, self.state.next);
        self.write(Place::Next, target);
        Ok(())
    }

    fn store_vector(&mut self, vector: Vector) -> Result<(), Refusal> {
        let mut value = self.bus.vector(vector)?;
        if let (Some(Half::High), [low, high, ..]) = (vector.half, &mut value) {
            *low = *high;
        }
        let span = self.memory(vector.bytes.into(), Purpose::Write)?;
        for (offset, width, value) in words(vector, value) {
            self.write_span(span.from(offset), width, value);
        }
        Ok(())
    }

    fn load_vector(&mut self, vector: Vector) -> Result<(), Refusal> {
        let register = vector.other;
        let [low, high, ..] = self.bus.vector(Vector { register, ..vector })?;
        let span = self.memory(vector.bytes.into(), Purpose::Read)?;
        let mut value = [0; 4];
        for (slot, (offset, width, _)) in value.iter_mut().zip(words(vector, [0; 4])) {
            *slot = self.read_span(span.from(offset), width);
        }
        let [read, ..] = value;
        match vector.half {
            None => {}
            Some(Half::Low) => value = [read, high, 0, 0],
            Some(Half::High) => value = [low, read, 0, 0],
        }
        self.bus.set_vector(vector, value);
        Ok(())
    }

    /// Tells whether the condition in an opcode's low bits holds.
    fn holds(&self, opcode: u8) -> bool {
        let flags = bits::<RFLAGS::Register>(self.state.flags);
        let is_less = flags.is_set(RFLAGS::SIGN) != flags.is_set(RFLAGS::OVERFLOW);
        let holds = match opcode >> 1 & 7 {
            0 => flags.is_set(RFLAGS::OVERFLOW),
            1 => flags.is_set(RFLAGS::CARRY),
            2 => flags.is_set(RFLAGS::ZERO),
            3 => flags.is_set(RFLAGS::CARRY) || flags.is_set(RFLAGS::ZERO),
            4 => flags.is_set(RFLAGS::SIGN),
            5 => flags.is_set(RFLAGS::PARITY),
            6 => is_less,
            _ => is_less || flags.is_set(RFLAGS::ZERO),
        };
        holds == (opcode & 1 == 0)
    }

    /// Ends an instruction, or one element of a string.
    fn end(&mut self) -> Progress {
        let Instruction {
            to,
            from,
            width,
            repeat,
            ..
        } = *self.instruction;
        if !self.instruction.is_string() {
            return Progress::Done;
        }
        let flags = bits::<RFLAGS::Register>(self.state.flags);
        let size = width.size() as u64;
        let step = match flags.is_set(RFLAGS::DIRECTION) {
            true => size.wrapping_neg(),
            false => size,
        };
        for (operand, index) in [(Operand::Source, RSI), (Operand::Target, RDI)] {
            if to == operand || from == operand {
                self.advance(index, step);
            }
        }
        if repeat == Repeat::Once {
            return Progress::Done;
        }
        self.advance(RCX, u64::MAX);
        let compares = matches!(self.instruction.operation, Operation::Compute(_));
        let is_found = flags.is_set(RFLAGS::ZERO) != (repeat == Repeat::WhileEqual);
        match self.instruction.is_over(self.bus.frame()) || compares && is_found {
            true => Progress::Done,
            false => Progress::Again,
        }
    }

    fn advance(&mut self, reg: usize, by: u64) {
        let value = self.bus.frame().get(reg).wrapping_add(by);
        let width = self.instruction.address_width;
        self.bus.frame().write(Reg::new(reg as u8), width, value);
    }
}

/// Returns the accesses of a vector: their offset, their width, and their value.
fn words(vector: Vector, value: [u64; 4]) -> impl Iterator<Item = (usize, AccessWidth, u64)> {
    let (count, width) = match vector.bytes {
        4 => (1, AccessWidth::Dword),
        bytes => (usize::from(bytes / 8), AccessWidth::Qword),
    };
    let words = (0..).step_by(8).zip(value).take(count);
    words.map(move |(offset, value)| (offset, width, value))
}

fn swapped(value: u64, width: AccessWidth) -> u64 {
    match width {
        AccessWidth::Byte => value,
        AccessWidth::Word => (value as u16).swap_bytes().into(),
        AccessWidth::Dword => (value as u32).swap_bytes().into(),
        AccessWidth::Qword => value.swap_bytes(),
    }
}
