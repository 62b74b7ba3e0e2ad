// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The CSRs that are a vCPU's own.
//!
//! They stay in the hardware while the vCPU is bound to a physical CPU and are
//! here otherwise; an exit touches none of them. While nobody is bound, vsie is
//! zero, so that a put-away guest's interrupts do not keep an idle CPU awake.
//!
//! Spec: RISC-V Privileged, "H" extension, "Virtual Supervisor CSRs".

use tock_registers::{
    LocalRegisterCopy,
    interfaces::{Readable, Writeable},
};

use crate::regs::{
    COUNTERS, HVIP, PLAIN, S_INTERRUPTS, SCOUNTEREN, SENVCFG, SSTATUS, TVEC, VS_INTERRUPTS, VSATP,
    VSCAUSE, VSEPC, VSIE, VSSCRATCH, VSSTATUS, VSTIMECMP, VSTVAL, VSTVEC,
};

type Copy64<R> = LocalRegisterCopy<u64, R>;

/// A timer that never fires.
pub(crate) const NEVER: u64 = u64::MAX;

/// One vCPU's CSRs.
#[derive(Clone)]
pub(crate) struct Bank {
    pub(crate) status: Copy64<SSTATUS::Register>,
    pub(crate) interrupts_enabled: Copy64<S_INTERRUPTS::Register>,
    pub(crate) vector: Copy64<TVEC::Register>,
    scratch: u64,
    pub(crate) exception_pc: u64,
    pub(crate) cause: u64,
    pub(crate) value: u64,
    pub(crate) address_translation: u64,
    /// stimecmp, where the hardware has it.
    pub(crate) timer: u64,
    pub(crate) pending: Copy64<VS_INTERRUPTS::Register>,
    counters: Copy64<COUNTERS::Register>,
    environment: Copy64<PLAIN::Register>,
}

impl Bank {
    /// Makes the bank as firmware leaves a hart: translation off, interrupts
    /// closed, floating point usable.
    pub(crate) fn new() -> Self {
        let status = SSTATUS::UXL::Xlen64 + SSTATUS::FS::Initial;
        let counters = COUNTERS::CYCLE::SET + COUNTERS::TIME::SET + COUNTERS::INSTRET::SET;
        Self {
            status: Copy64::new(status.value),
            interrupts_enabled: Copy64::new(0),
            vector: Copy64::new(0),
            scratch: 0,
            exception_pc: 0,
            cause: 0,
            value: 0,
            address_translation: 0,
            timer: NEVER,
            pending: Copy64::new(0),
            counters: Copy64::new(counters.value),
            environment: Copy64::new(0),
        }
    }

    /// Writes the bank into this CPU; stimecmp only where there is one.
    pub(crate) fn load(&self, timer: TimerRegister) {
        VSSTATUS.set(self.status.get());
        VSTVEC.set(self.vector.get());
        VSSCRATCH.set(self.scratch);
        VSEPC.set(self.exception_pc);
        VSCAUSE.set(self.cause);
        VSTVAL.set(self.value);
        VSATP.set(self.address_translation);
        if timer == TimerRegister::Present {
            VSTIMECMP.set(self.timer);
        }
        HVIP.set(self.pending.get());
        SCOUNTEREN.set(self.counters.get());
        SENVCFG.set(self.environment.get());
        VSIE.set(self.interrupts_enabled.get());
    }

    /// Takes the bank out of this CPU.
    pub(crate) fn save(&mut self, timer: TimerRegister) {
        let enabled = VSIE.swap(0);
        self.look();
        self.interrupts_enabled.set(enabled);
        self.scratch = VSSCRATCH.get();
        if timer == TimerRegister::Present {
            self.timer = VSTIMECMP.get();
        }
        self.pending.set(HVIP.get());
        self.counters.set(SCOUNTEREN.get());
        self.environment.set(SENVCFG.get());
    }

    /// Reads what a person wants to see from this CPU, and leaves it there.
    pub(crate) fn look(&mut self) {
        self.status.set(VSSTATUS.get());
        self.interrupts_enabled.set(VSIE.get());
        self.vector.set(VSTVEC.get());
        self.exception_pc = VSEPC.get();
        self.cause = VSCAUSE.get();
        self.value = VSTVAL.get();
        self.address_translation = VSATP.get();
    }

    /// Writes what tells most for a person to read.
    pub(crate) fn dump(&self, out: &mut dyn core::fmt::Write) -> core::fmt::Result {
        let rows = [
            ("sstatus", self.status.get()),
            ("sie", self.interrupts_enabled.get()),
            ("stvec", self.vector.get()),
            ("sepc", self.exception_pc),
            ("scause", self.cause),
            ("stval", self.value),
            ("satp", self.address_translation),
        ];
        for (name, value) in rows {
            writeln!(out, "{name:<7} {value:#018x}")?;
        }
        Ok(())
    }
}

/// Whether guests have a stimecmp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimerRegister {
    /// They have: Sstc.
    Present,
    /// They have not, and set their timer by SBI only.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_is_what_is_saved() {
        let mut bank = Bank::new();
        bank.interrupts_enabled.set(0x222);
        bank.exception_pc = 7;
        bank.timer = 9;
        bank.load(TimerRegister::Present);
        let mut saved = Bank::new();
        saved.save(TimerRegister::Present);
        assert_eq!(saved.interrupts_enabled.get(), 0x222);
        assert_eq!((saved.exception_pc, saved.timer), (7, 9));
        assert_eq!(VSIE.get(), 0, "a bank that is put away enables nothing");
    }

    #[test]
    fn without_sstc_the_register_is_not_touched() {
        VSTIMECMP.set(5);
        let mut bank = Bank::new();
        bank.load(TimerRegister::Absent);
        bank.save(TimerRegister::Absent);
        assert_eq!((VSTIMECMP.get(), bank.timer), (5, NEVER));
    }
}
