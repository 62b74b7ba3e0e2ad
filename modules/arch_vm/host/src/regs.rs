// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a vCPU remembers, and what its system registers mean.
//!
//! Used by `exec` and `vcpu`. A fault or an interrupt goes to the handler that
//! the guest has set; in the handler neither is taken, and a fault there (or
//! without a handler) is the guest's end.

use crate::insn::{REGS, Reg};

/// System registers that the vCPU answers itself; all others are on the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum SysReg {
    /// The vCPU's number.
    Id = 0,
    /// Nanoseconds of the host's clock.
    Time = 1,
    /// When the timer interrupt becomes pending; all ones: never.
    Timer = 2,
    /// Where faults and interrupts go; 0: nowhere.
    Handler = 3,
    /// Why the handler was entered.
    Cause = 4,
    /// Where the handler returns to.
    Return = 5,
    /// Bit `n`: interrupt `n` may enter the handler.
    Enabled = 6,
    /// Reading takes the lowest pending interrupt's number plus one; 0: none.
    Claim = 7,
    /// The interrupts that are pending.
    Pending = 8,
}

impl SysReg {
    /// Every register, in the order of its number.
    pub const ALL: [Self; 9] = [
        Self::Id,
        Self::Time,
        Self::Timer,
        Self::Handler,
        Self::Cause,
        Self::Return,
        Self::Enabled,
        Self::Claim,
        Self::Pending,
    ];

    pub(crate) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }
}

/// Why the handler was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An instruction fetch that nothing answers.
    Fetch,
    /// Bytes that are no instruction, or a register that is not there.
    Illegal,
    /// An address that is no multiple of the access's width.
    Misaligned,
    /// A read that nothing answers.
    Read,
    /// A write that nothing answers.
    Write,
    /// An interrupt.
    Interrupt(u32),
}

impl Cause {
    /// Returns what [`SysReg::Cause`] reads as.
    pub const fn number(self) -> u64 {
        match self {
            Self::Fetch => 1,
            Self::Illegal => 2,
            Self::Misaligned => 4,
            Self::Read => 5,
            Self::Write => 7,
            Self::Interrupt(vector) => (1 << 63) | vector as u64,
        }
    }
}

/// A fault that the guest has no handler for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fatal {
    pub(crate) cause: Cause,
    pub(crate) address: u64,
}

/// The registers of one vCPU.
#[derive(Clone, Debug, Default)]
pub(crate) struct Regs {
    file: [u64; REGS],
    /// The next instruction.
    pub(crate) pc: u64,
    /// The instruction that runs or ran last.
    pub(crate) at: u64,
    pub(crate) handler: u64,
    pub(crate) cause: u64,
    pub(crate) return_to: u64,
    pub(crate) enabled: u64,
    pub(crate) timer_ns: Option<u64>,
    pub(crate) in_handler: bool,
    pub(crate) fatal: Option<Fatal>,
}

impl Regs {
    pub(crate) fn get(&self, reg: Reg) -> u64 {
        self.file.get(reg.index()).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, reg: Reg, value: u64) {
        if let Some(slot) = self.file.get_mut(reg.index()) {
            *slot = value;
        }
    }

    /// Returns all registers.
    pub(crate) fn file(&self) -> &[u64; REGS] {
        &self.file
    }

    /// Starts at `entry`, everything else as at power-on.
    pub(crate) fn start_at(&mut self, entry: u64) {
        *self = Self {
            pc: entry,
            at: entry,
            ..Self::default()
        };
    }

    /// Raises a fault of the instruction that ran last.
    pub(crate) fn raise(&mut self, cause: Cause, address: u64) {
        if self.handler == 0 || self.in_handler {
            self.fatal = Some(Fatal { cause, address });
        } else {
            self.enter_handler(cause, self.at);
        }
    }

    /// Enters the handler for an interrupt of those pending, if one may.
    pub(crate) fn take_interrupt(&mut self, pending: u64) {
        let ready = pending & self.enabled;
        if ready != 0 && self.handler != 0 && !self.in_handler {
            self.enter_handler(Cause::Interrupt(ready.trailing_zeros()), self.pc);
        }
    }

    fn enter_handler(&mut self, cause: Cause, return_to: u64) {
        self.cause = cause.number();
        self.return_to = return_to;
        self.in_handler = true;
        self.pc = self.handler;
    }

    /// Leaves the handler.
    pub(crate) fn leave_handler(&mut self) {
        self.in_handler = false;
        self.pc = self.return_to;
    }
}
