// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Finds an instruction's operands, and reads and writes what was found.
//!
//! Called by `execute`: first [`Executor::find`] for each operand, which may be
//! refused, then the accesses, which may not.
//!
//! Spec: AMD64 APM 1, "Operand Addressing"; APM 3, PUSH, POP, "BT".

use axvm::AccessWidth;

use super::{
    Instruction, Operand, Operation, SegmentName, Span,
    execute::{Access, Bus, Executor, Refusal},
};
use crate::{
    frame::{RDI, RSI, RSP, Reg, mask, sign_extend},
    walk::Purpose,
};

/// An operand that was found.
#[derive(Clone, Copy)]
pub(super) enum Place {
    Nowhere,
    Value(u64),
    Register(Reg),
    Memory(Span),
    Port,
    Next,
}

impl<B: Bus> Executor<'_, B> {
    /// Finds the second operand, which is only read; what is no memory is read now.
    pub(super) fn source(&mut self) -> Result<Place, Refusal> {
        Ok(match self.find(self.instruction.from, Purpose::Read)? {
            Place::Register(reg) => {
                Place::Value(self.bus.frame().read(reg, self.instruction.width))
            }
            place => place,
        })
    }

    pub(super) fn find(&mut self, operand: Operand, purpose: Purpose) -> Result<Place, Refusal> {
        let bytes = self.instruction.width.size();
        let span = match operand {
            Operand::None => return Ok(Place::Nowhere),
            Operand::Register(reg) => return Ok(Place::Register(reg)),
            Operand::Immediate(value) => return Ok(Place::Value(value)),
            Operand::Ahead(distance) => {
                return Ok(Place::Value(self.state.next.wrapping_add(distance)));
            }
            Operand::Port => return Ok(Place::Port),
            Operand::Next => return Ok(Place::Next),
            Operand::Memory => self.memory(bytes, purpose),
            Operand::Source => self.string(self.instruction.segment, RSI, purpose),
            Operand::Target => self.string(SegmentName::Es, RDI, purpose),
            Operand::Stack => self.stack(purpose),
        }?;
        Ok(Place::Memory(span))
    }

    pub(super) fn memory(&mut self, bytes: usize, purpose: Purpose) -> Result<Span, Refusal> {
        let Instruction {
            segment,
            address,
            address_width,
            ..
        } = *self.instruction;
        let address = address.plus(self.bit_distance());
        let offset = address.offset(self.bus.frame(), self.state.next, address_width);
        self.bus.find(Access {
            segment,
            offset,
            bytes,
            purpose,
        })
    }

    /// Returns how far away a bit is that a register names: a string of bits goes on
    /// above and below its address.
    fn bit_distance(&mut self) -> u64 {
        let Instruction {
            operation,
            from,
            width,
            ..
        } = *self.instruction;
        match (operation, from) {
            (Operation::Compute(alu), Operand::Register(reg)) if alu.is_of_bits() => {
                let bit = sign_extend(self.bus.frame().read(reg, width), width) as i64;
                let bits = (width.size() as i64).wrapping_mul(8);
                bit.div_euclid(bits).wrapping_mul(bits / 8) as u64
            }
            _ => 0,
        }
    }

    fn string(
        &mut self,
        segment: SegmentName,
        index: usize,
        purpose: Purpose,
    ) -> Result<Span, Refusal> {
        let offset = self.bus.frame().get(index) & mask(self.instruction.address_width);
        self.bus.find(Access {
            segment,
            offset,
            bytes: self.instruction.width.size(),
            purpose,
        })
    }

    /// Pushes or pops: the stack pointer has moved when the next operand is found.
    fn stack(&mut self, purpose: Purpose) -> Result<Span, Refusal> {
        let bytes = self.instruction.width.size();
        let width = self.instruction.stack_width;
        let old = self.bus.frame().get(RSP);
        let (new, offset) = match purpose {
            Purpose::Write => {
                let new = old.wrapping_sub(bytes as u64);
                (new, new)
            }
            _ => (old.wrapping_add(bytes as u64), old),
        };
        self.bus.frame().write(Reg::new(RSP as u8), width, new);
        self.bus.find(Access {
            segment: SegmentName::Ss,
            offset: offset & mask(width),
            bytes,
            purpose,
        })
    }

    pub(super) fn read(&mut self, place: Place) -> u64 {
        let width = self.instruction.width;
        let value = match place {
            Place::Nowhere => 0,
            Place::Value(value) => value,
            Place::Register(reg) => self.bus.frame().read(reg, width),
            Place::Memory(span) => self.read_span(span, width),
            Place::Port => self.bus.read_port(width),
            Place::Next => self.state.next,
        };
        value & mask(width)
    }

    pub(super) fn write(&mut self, place: Place, value: u64) {
        let width = self.instruction.width;
        match place {
            Place::Nowhere | Place::Value(_) => {}
            Place::Register(reg) => {
                let width = self.instruction.to_width;
                self.bus.frame().write(reg, width, value);
            }
            Place::Memory(span) => self.write_span(span, width, value & mask(width)),
            Place::Port => self.bus.write_port(width, value & mask(width)),
            Place::Next => self.state.next = value & mask(width),
        }
    }

    pub(super) fn read_span(&mut self, span: Span, width: AccessWidth) -> u64 {
        if let Some(at) = span.whole() {
            return self.bus.read(at, width);
        }
        let parts = span.parts(width);
        parts.fold(0, |value, part| {
            let read = self.bus.read(part.at, part.width) & mask(part.width);
            value | read.wrapping_shl(part.shift)
        })
    }

    pub(super) fn write_span(&mut self, span: Span, width: AccessWidth, value: u64) {
        if let Some(at) = span.whole() {
            return self.bus.write(at, width, value);
        }
        for part in span.parts(width) {
            let value = value.wrapping_shr(part.shift) & mask(part.width);
            self.bus.write(part.at, part.width, value);
        }
    }
}
