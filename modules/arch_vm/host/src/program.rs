// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The assembler: programs written as Rust, one call for each instruction.
//!
//! Used by tests and by whoever wants a guest without a compiler. Jumps name
//! labels; [`Program::image`] resolves them and puts the header before them.
//! A program is placed at the start of RAM and begins with its first line.

use alloc::{format, string::String, vec::Vec};

use axvm::AccessWidth;

use crate::{
    image::Image,
    insn::{INSN_BYTES, Insn, Op, Reg},
    machine::RAM_START,
    regs::SysReg,
};

/// A jump to a label that the program does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program has no label {0:?}")]
pub struct UnknownLabel(pub String);

/// A program in the making.
#[derive(Clone, Debug, Default)]
pub struct Program {
    lines: Vec<(Insn, Option<String>)>,
    labels: Vec<(String, usize)>,
}

impl Program {
    /// Makes an empty program.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the image that boots it.
    pub fn image(&self) -> Result<Vec<u8>, UnknownLabel> {
        let mut payload = Vec::with_capacity(self.lines.len().saturating_mul(INSN_BYTES));
        for (insn, label) in &self.lines {
            let insn = match label {
                Some(label) => insn.imm(self.address_of(label)?),
                None => *insn,
            };
            let (low, high) = insn.encode();
            payload.extend(low.to_le_bytes());
            payload.extend(high.to_le_bytes());
        }
        let image = Image {
            entry: 0,
            payload: &payload,
        };
        Ok(image.to_bytes())
    }

    /// Returns where a label is in guest RAM.
    pub fn address_of(&self, label: &str) -> Result<u64, UnknownLabel> {
        self.labels
            .iter()
            .find(|(name, _)| name == label)
            .map(|(_, line)| address_of_line(*line))
            .ok_or_else(|| UnknownLabel(label.into()))
    }

    /// Adds an instruction.
    #[must_use]
    pub fn insn(mut self, insn: Insn) -> Self {
        self.lines.push((insn, None));
        self
    }

    /// Adds an instruction whose value is where `label` is.
    #[must_use]
    pub fn insn_to(mut self, insn: Insn, label: &str) -> Self {
        self.lines.push((insn, Some(label.into())));
        self
    }

    /// Names the next instruction.
    #[must_use]
    pub fn label(mut self, name: &str) -> Self {
        self.labels.push((name.into(), self.lines.len()));
        self
    }

    /// Adds another program, whose labels are known to both.
    #[must_use]
    pub fn append(mut self, other: Self) -> Self {
        let first = self.lines.len();
        let moved = |(name, line): (String, usize)| (name, line.saturating_add(first));
        self.labels.extend(other.labels.into_iter().map(moved));
        self.lines.extend(other.lines);
        self
    }

    /// `reg = value`
    #[must_use]
    pub fn set(self, reg: Reg, value: u64) -> Self {
        self.insn(Insn::new(Op::Set).a(reg).imm(value))
    }

    /// `reg = reg + value`
    #[must_use]
    pub fn add(self, reg: Reg, value: u64) -> Self {
        self.insn(Insn::new(Op::Add).a(reg).b(reg).imm(value))
    }

    /// `reg = [address]`, through register 15.
    #[must_use]
    pub fn load(self, reg: Reg, address: u64, width: AccessWidth) -> Self {
        self.set(Reg(15), address)
            .insn(Insn::new(Op::Load).a(reg).b(Reg(15)).width(width))
    }

    /// `reg = [address]` with its sign copied, through register 15.
    #[must_use]
    pub fn load_signed(self, reg: Reg, address: u64, width: AccessWidth) -> Self {
        let load = Insn::new(Op::Load).a(reg).b(Reg(15)).width(width).signed();
        self.set(Reg(15), address).insn(load)
    }

    /// `[address] = reg`, through register 15.
    #[must_use]
    pub fn store(self, reg: Reg, address: u64, width: AccessWidth) -> Self {
        self.set(Reg(15), address)
            .insn(Insn::new(Op::Store).a(reg).b(Reg(15)).width(width))
    }

    /// `[address] = value`, through registers 14 and 15.
    #[must_use]
    pub fn write(self, address: u64, width: AccessWidth, value: u64) -> Self {
        self.set(Reg(14), value).store(Reg(14), address, width)
    }

    /// Adds one to the eight bytes at `address`, through registers 14 and 15.
    #[must_use]
    pub fn count(self, address: u64) -> Self {
        self.set(Reg(15), address)
            .insn(Insn::new(Op::Count).a(Reg(14)).b(Reg(15)))
    }

    /// Goes on at `label`.
    #[must_use]
    pub fn jump(self, label: &str) -> Self {
        self.insn_to(Insn::new(Op::Jump), label)
    }

    /// Goes on at `label` if the registers are equal.
    #[must_use]
    pub fn jump_equal(self, a: Reg, b: Reg, label: &str) -> Self {
        self.insn_to(Insn::new(Op::JumpEqual).a(a).b(b), label)
    }

    /// Goes on at `label` if `a` is less than `b`.
    #[must_use]
    pub fn jump_less(self, a: Reg, b: Reg, label: &str) -> Self {
        self.insn_to(Insn::new(Op::JumpLess).a(a).b(b), label)
    }

    /// Does nothing for ever, without leaving the guest.
    #[must_use]
    pub fn spin(self) -> Self {
        let here = format!("spin at {}", self.lines.len());
        self.label(&here).jump(&here)
    }

    /// `reg = ` a system register of the vCPU
    #[must_use]
    pub fn sys_read(self, reg: Reg, from: SysReg) -> Self {
        self.insn(Insn::new(Op::SysRead).a(reg).imm(from as u64))
    }

    /// a system register of the vCPU ` = reg`
    #[must_use]
    pub fn sys_write(self, to: SysReg, reg: Reg) -> Self {
        self.insn(Insn::new(Op::SysWrite).a(reg).imm(to as u64))
    }

    /// Sends faults and interrupts to `label`, through register 15.
    #[must_use]
    pub fn handler(self, label: &str) -> Self {
        self.insn_to(Insn::new(Op::Set).a(Reg(15)), label)
            .sys_write(SysReg::Handler, Reg(15))
    }

    /// Lets the timer interrupt become pending in so many nanoseconds, through
    /// register 15.
    #[must_use]
    pub fn timer_in(self, delay_ns: u64) -> Self {
        self.sys_read(Reg(15), SysReg::Time)
            .add(Reg(15), delay_ns)
            .sys_write(SysReg::Timer, Reg(15))
    }

    /// Calls the hypervisor; the answer is in register 0.
    #[must_use]
    pub fn hypercall(self, nr: u64) -> Self {
        self.insn(Insn::new(Op::Hypercall).imm(nr))
    }

    /// Waits until an interrupt is pending.
    #[must_use]
    pub fn halt(self) -> Self {
        self.insn(Insn::new(Op::Halt))
    }

    /// Starts CPU `cpu` at `label` with `arg`, through registers 13 and 14; the
    /// answer is in register 0.
    #[must_use]
    pub fn cpu_start(self, cpu: u64, label: &str, arg: u64) -> Self {
        self.set(Reg(13), cpu)
            .set(Reg(14), arg)
            .insn_to(Insn::new(Op::CpuStart).a(Reg(13)).b(Reg(14)), label)
    }

    /// Switches this CPU off.
    #[must_use]
    pub fn cpu_stop(self) -> Self {
        self.insn(Insn::new(Op::CpuStop))
    }

    /// Sends an interrupt to the CPUs of a mask, through register 13.
    #[must_use]
    pub fn ipi(self, mask: u64, vector: u64) -> Self {
        self.set(Reg(13), mask)
            .insn(Insn::new(Op::Ipi).a(Reg(13)).imm(vector))
    }

    /// Prints by the firmware's console; the answers are in register 0.
    #[must_use]
    pub fn print(self, text: &str) -> Self {
        text.bytes().fold(self, |program, byte| {
            program.insn(Insn::new(Op::Print).imm(byte.into()))
        })
    }

    /// Ends the machine, all well.
    #[must_use]
    pub fn power_off(self) -> Self {
        self.insn(Insn::new(Op::PowerOff))
    }

    /// Ends the machine, reporting failure.
    #[must_use]
    pub fn power_fail(self, code: u32) -> Self {
        self.insn(Insn::new(Op::PowerFail).imm(code.into()))
    }

    /// Asks for a restart of the machine.
    #[must_use]
    pub fn reset(self) -> Self {
        self.insn(Insn::new(Op::Reset))
    }

    /// Does what cannot be handled.
    #[must_use]
    pub fn unhandled(self, code: u64) -> Self {
        self.insn(Insn::new(Op::Unhandled).imm(code))
    }
}

fn address_of_line(line: usize) -> u64 {
    let offset = (line as u64).saturating_mul(INSN_BYTES as u64);
    RAM_START.saturating_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_to_nowhere_is_named() {
        let program = Program::new().jump("nowhere");
        assert_eq!(program.image(), Err(UnknownLabel("nowhere".into())));
    }

    #[test]
    fn a_label_is_the_address_of_the_next_line() {
        let program = Program::new().set(Reg(0), 1).label("here").spin();
        assert_eq!(program.address_of("here"), Ok(RAM_START + 16));
    }
}
