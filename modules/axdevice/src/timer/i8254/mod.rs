// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The 8254 of a PC, and its port 0x61.
//!
//! Three channels at offsets 0 to 2 and the control word at 3. Channel 0 drives
//! the interrupt line; channel 2's gate and output are in port 0x61, with the
//! speaker that nobody hears. Only rising edges of the line come at their time:
//! it falls when it is next looked at, before the next edge at the latest. Edges
//! that come while nobody looks are one.
//!
//! Spec: Intel 82C54 Programmable Interval Timer. Threats: docs/devices.md.

mod channel;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;

use tock_registers::LocalRegisterCopy;

use crate::{
    AccessFault, AccessWidth, Clock, IoDevice, IrqLine, LevelLine, Lock, Timed, TimedDevice,
    regs::{
        self,
        i8254::{self, CHANNELS, CONTROL, PORT61, READ_BACK},
    },
};
use channel::Channel;

const SPEAKER: usize = 2;
const CONTROL_OFFSET: u64 = 3;
/// How long a bit of port 0x61 stays as it is: memory was refreshed so often.
const REFRESH_NS: u64 = 15_085;

/// An 8254.
pub struct Pit {
    clock: Arc<dyn Clock>,
    line: LevelLine,
    channels: [Channel; CHANNELS],
    /// The latest time at which the line was looked at.
    seen_ns: u64,
}

impl Pit {
    /// Makes a timer in which nothing counts; channel 0 drives `irq`.
    pub fn new(clock: Arc<dyn Clock>, irq: IrqLine) -> Self {
        Self {
            seen_ns: clock.monotonic_ns(),
            clock,
            line: LevelLine::new(irq),
            channels: [true, true, false].map(Channel::new),
        }
    }

    /// Moves the gate of the speaker's channel.
    fn set_speaker_gate(&mut self, gate: bool) {
        let now_ns = self.clock.monotonic_ns();
        if let Some(channel) = self.channels.get_mut(SPEAKER) {
            channel.set_gate(gate, now_ns);
        }
    }

    fn speaker_output(&self, now_ns: u64) -> bool {
        self.channels
            .get(SPEAKER)
            .is_some_and(|channel| channel.output(now_ns))
    }

    /// Drives the line as channel 0 says, with the edges that have come.
    fn update_line(&mut self, now_ns: u64) {
        let [timer, ..] = &self.channels;
        let has_risen = timer
            .next_rise_ns(self.seen_ns)
            .is_some_and(|at| at <= now_ns);
        if has_risen {
            self.line.drive(false);
            self.line.drive(true);
        }
        self.line.drive(timer.output(now_ns));
        self.seen_ns = now_ns;
    }

    fn control(&mut self, value: u8, now_ns: u64) {
        let word = LocalRegisterCopy::<u8, CONTROL::Register>::new(value);
        let index = usize::from(word.read(CONTROL::CHANNEL));
        match self.channels.get_mut(index) {
            None => self.read_back(value, now_ns),
            Some(channel) if word.matches_all(CONTROL::ACCESS::Latch) => {
                channel.latch_count(now_ns);
            }
            Some(channel) => channel.control(word),
        }
    }

    fn read_back(&mut self, value: u8, now_ns: u64) {
        let command = LocalRegisterCopy::<u8, READ_BACK::Register>::new(value);
        let named = |(index, _): &(usize, &mut Channel)| i8254::reads_back(value, *index);
        for (_, channel) in self.channels.iter_mut().enumerate().filter(named) {
            if !command.is_set(READ_BACK::NO_COUNT) {
                channel.latch_count(now_ns);
            }
            if !command.is_set(READ_BACK::NO_STATUS) {
                channel.latch_status(now_ns);
            }
        }
    }
}

impl IoDevice for Pit {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        let now_ns = self.clock.monotonic_ns();
        match (offset, width) {
            // The control word cannot be read.
            (CONTROL_OFFSET, AccessWidth::Byte) => Ok(0),
            (_, AccessWidth::Byte) => {
                let channel = self.channels.get_mut(offset as usize).ok_or(AccessFault)?;
                Ok(channel.read(now_ns).into())
            }
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        let now_ns = self.clock.monotonic_ns();
        let byte = regs::byte_lane(value, 0);
        self.update_line(now_ns);
        match (offset, width) {
            (CONTROL_OFFSET, AccessWidth::Byte) => self.control(byte, now_ns),
            (_, AccessWidth::Byte) => {
                let channel = self.channels.get_mut(offset as usize).ok_or(AccessFault)?;
                channel.write(byte, now_ns);
            }
            _ => return Err(AccessFault),
        }
        self.update_line(now_ns);
        Ok(())
    }
}

impl TimedDevice for Pit {
    fn next_deadline_ns(&self) -> Option<u64> {
        let [timer, ..] = &self.channels;
        timer.next_rise_ns(self.seen_ns)
    }

    fn tick(&mut self, now_ns: u64) {
        self.update_line(now_ns.max(self.seen_ns));
    }
}

/// Port 0x61: the speaker's gate and data, and what can be seen of the timer.
pub struct SystemControl {
    clock: Arc<dyn Clock>,
    pit: Arc<Lock<Timed<Pit>>>,
    written: LocalRegisterCopy<u8, PORT61::Register>,
}

impl SystemControl {
    /// Makes the port beside its timer.
    pub fn new(clock: Arc<dyn Clock>, pit: Arc<Lock<Timed<Pit>>>) -> Self {
        Self {
            clock,
            pit,
            written: LocalRegisterCopy::new(0),
        }
    }

    fn value(&self) -> u8 {
        let now_ns = self.clock.monotonic_ns();
        let mut value = self.written;
        let output = self.pit.lock().device_mut().speaker_output(now_ns);
        let is_odd = now_ns / REFRESH_NS % 2 == 1;
        value.modify(PORT61::OUTPUT2.val(output.into()) + PORT61::REFRESH.val(is_odd.into()));
        value.get()
    }
}

impl IoDevice for SystemControl {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        match (offset, width) {
            (0, AccessWidth::Byte) => Ok(self.value().into()),
            _ => Err(AccessFault),
        }
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        if (offset, width) != (0, AccessWidth::Byte) {
            return Err(AccessFault);
        }
        let value = LocalRegisterCopy::<u8, PORT61::Register>::new(regs::byte_lane(value, 0));
        let kept = PORT61::GATE2.val(value.read(PORT61::GATE2))
            + PORT61::SPEAKER.val(value.read(PORT61::SPEAKER))
            + PORT61::PARITY_OFF.val(value.read(PORT61::PARITY_OFF))
            + PORT61::CHECK_OFF.val(value.read(PORT61::CHECK_OFF));
        self.written.set(kept.value);
        let gate = value.is_set(PORT61::GATE2);
        self.pit.lock().device_mut().set_speaker_gate(gate);
        Ok(())
    }
}
