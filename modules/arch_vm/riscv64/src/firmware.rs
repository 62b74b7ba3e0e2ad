// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What firmware calls change in the hardware, beside what `exit` does itself.
//!
//! Counters, features and the account of stolen time belong to a vCPU and follow
//! it: `bind` calls [`RiscvVCpu::firmware_enters`], `unbind` calls
//! [`RiscvVCpu::firmware_leaves`], both with interrupts closed. Nothing is done
//! there for what the guest never asked for.
//!
//! Spec: SBI; RISC-V Privileged, "H" extension, hcounteren, henvcfg.

use axvm::{AxVCpuExitReason as Exit, AxVMHal};
use tock_registers::interfaces::{Readable, Writeable};

use crate::{
    entry,
    host::Host,
    regs::{COUNTERS, CYCLE, HCOUNTEREN, HENVCFG, INSTRET, SCOUNTEREN, SSTATUS},
    sbi::{Counters, Events, Feature, Features, HartSet, Now, Source, State, read_by},
    vcpu::RiscvVCpu,
};

/// The bit of each counter that is a register, where hcounteren has it.
const REGISTER_BITS: [u64; 2] = [COUNTERS::CYCLE::SET.value, COUNTERS::INSTRET::SET.value];

/// Returns the firmware's state for a hart that starts.
pub(crate) fn state_at_start(host: &Host) -> State {
    let has_updates = host.environment & HENVCFG::ADUE::SET.value != 0;
    State::new(Features {
        table_updates: has_updates.then_some(Feature::ON),
    })
}

/// Returns what a source has counted until now.
fn read(source: Source, events: Option<&Events>) -> u64 {
    match source {
        Source::Cycles => CYCLE.get(),
        Source::Instructions => INSTRET.get(),
        Source::Event(code) => events.map_or(0, |events| events.get(usize::from(code))),
    }
}

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Changes the counters.
    pub(crate) fn change_counters(&mut self, act: &mut dyn FnMut(&mut Counters, Now)) {
        let events = &self.hart.events;
        act(&mut self.firmware.counters, &|source| {
            read(source, Some(events))
        });
        self.open_counters();
    }

    /// Lets the guest read by itself what is the hardware's own.
    fn open_counters(&self) {
        let counters = &self.firmware.counters;
        let open = REGISTER_BITS
            .iter()
            .enumerate()
            .filter(|(number, _)| counters.is_open(*number))
            .fold(COUNTERS::TIME::SET.value, |open, (_, bit)| open | bit);
        HCOUNTEREN.set(open);
    }

    /// Makes the hardware follow the features.
    pub(crate) fn use_features(&self) {
        let Some(updates) = self.firmware.features.table_updates else {
            return;
        };
        let bit = HENVCFG::ADUE::SET.value;
        match updates.is_on {
            true => HENVCFG.set_bits(bit),
            false => HENVCFG.clear_bits(bit),
        };
        // What was looked up before may follow the old rule.
        entry::fence_tables();
    }

    /// Gives the guest the value of a counter that it may not read by itself;
    /// false if the instruction is another one, or not allowed.
    pub(crate) fn read_counter(&mut self, word: u64) -> bool {
        let Some(found) = read_by(word) else {
            return false;
        };
        let bit = REGISTER_BITS.get(found.counter).copied().unwrap_or(0);
        let is_user = self.frame.sstatus.matches_all(SSTATUS::SPP::User);
        if is_user && SCOUNTEREN.get() & bit == 0 {
            return false;
        }
        let value = self
            .firmware
            .counters
            .value(found.counter, &|source| read(source, None));
        self.frame.set_gpr(found.to, value);
        true
    }

    /// Counts what this hart asks of others, and that they are asked; the code
    /// of what they receive is the next one.
    #[inline]
    pub(crate) fn count_sent(&self, targets: HartSet, code: usize) {
        let received = code.wrapping_add(1);
        let others = targets.without(self.id);
        let mut times = 0;
        if targets.contains(self.id) {
            self.count_event(received, 1);
            times = 1;
        }
        if !others.is_empty() {
            times = self.count_received(others, received).wrapping_add(times);
        }
        self.count_event(code, times);
    }

    /// Counts that these harts are asked for something; returns how many there are.
    // Not inlined, as `fast`, which never comes here, would pay for its registers.
    #[inline(never)]
    fn count_received(&self, targets: HartSet, code: usize) -> u64 {
        let harts = (0..self.harts.count()).filter(|target| targets.contains(*target));
        let counted = harts
            .filter_map(|target| self.harts.get(target))
            .map(|target| target.events.count(code, 1));
        counted.count() as u64
    }

    /// Counts something that this hart did.
    pub(crate) fn count_event(&self, code: usize, times: u64) {
        self.hart.events.count(code, times);
    }

    /// Brings the hart's counters, features and account to this CPU.
    pub(crate) fn firmware_enters(&mut self) {
        self.firmware.counters.swap(&|source| read(source, None));
        self.open_counters();
        self.use_features();
        if self.firmware.steal.is_read() {
            let now_ns = self.harts.hal.current_time_nanos();
            self.firmware.steal.gives_back(now_ns, self.harts.ram());
        }
    }

    /// Takes them from this CPU.
    pub(crate) fn firmware_leaves(&mut self) {
        self.firmware.counters.swap(&|source| read(source, None));
        if self.firmware.steal.is_read() && !self.is_waiting {
            let now_ns = self.harts.hal.current_time_nanos();
            self.firmware.steal.takes(now_ns, self.harts.ram());
        }
    }
}

/// Tells whether a hart that left so has nothing to run.
pub(crate) fn waits_after(exit: &Exit) -> bool {
    matches!(exit, Exit::Halt | Exit::CpuDown { .. })
}
