// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Reading and writing the registers of a local APIC.
//!
//! In memory nothing is refused: what does not exist reads as zero and ignores
//! writes. As MSRs everything that does not exist, or a bit that is reserved,
//! raises #GP. The page stays at its address: to move it raises #GP, too.
//!
//! Spec: Intel SDM vol. 3, "Local APIC Register Address Map", "x2APIC Register
//! Address Space", "x2APIC State Transitions".

use axdevice::AccessWidth;
use axvm::AxVCpuHal;
use tock_registers::LocalRegisterCopy;

use super::{
    Effect, LocalApic, Mode, Time,
    registers::{
        BASE, COMMAND, DIVIDE, FORMAT, HIGH_BYTE, LVT, Lvt, LvtEntry, Register, SPURIOUS, number,
    },
};
use crate::irqchip::message::{Delivery, Destination, Message, Trigger};

/// Where the page is.
pub(crate) const PAGE: u64 = 0xfee0_0000;
/// How large it is.
pub(crate) const PAGE_BYTES: u64 = 0x1000;

const MSR_BASE: u32 = 0x1b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;
const MSR_X2APIC: u32 = 0x800;

/// The guest did what raises #GP(0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GeneralProtection;

impl<H: AxVCpuHal> LocalApic<H> {
    /// Reads an MSR: IA32_APIC_BASE, IA32_TSC_DEADLINE, or one of x2APIC.
    pub(crate) fn read_msr(&self, msr: u32, time: &impl Time) -> Result<u64, GeneralProtection> {
        match msr {
            MSR_BASE => Ok(self.base()),
            MSR_TSC_DEADLINE => Ok(self.timer.tsc_deadline()),
            _ => self.read_x2apic(msr, time),
        }
    }

    /// Writes an MSR that `read_msr` reads.
    pub(crate) fn write_msr(
        &mut self,
        msr: u32,
        value: u64,
        time: &impl Time,
    ) -> Result<Effect, GeneralProtection> {
        match msr {
            MSR_TSC_DEADLINE => self.set_tsc_deadline(value, time),
            MSR_BASE => self.set_base(value)?,
            _ => return self.write_x2apic(msr, value, time),
        }
        Ok(Effect::Nothing)
    }

    fn x2apic_register(&self, msr: u32) -> Result<Register, GeneralProtection> {
        let number = msr.checked_sub(MSR_X2APIC).ok_or(GeneralProtection)?;
        match self.mode {
            Mode::X2Apic => Ok(Register::of(number)),
            Mode::XApic | Mode::Disabled => Err(GeneralProtection),
        }
    }

    fn read_x2apic(&self, msr: u32, time: &impl Time) -> Result<u64, GeneralProtection> {
        match self.x2apic_register(msr)? {
            Register::Command => Ok(self.last_command()),
            register if register.is_readable_msr() => {
                Ok(self.read(msr.wrapping_sub(MSR_X2APIC), time).into())
            }
            _ => Err(GeneralProtection),
        }
    }

    fn write_x2apic(
        &mut self,
        msr: u32,
        value: u64,
        time: &impl Time,
    ) -> Result<Effect, GeneralProtection> {
        let register = self.x2apic_register(msr)?;
        let writable = register.writable_bits().ok_or(GeneralProtection)?;
        if value & !writable != 0 {
            return Err(GeneralProtection);
        }
        Ok(match register {
            Register::Command => {
                let command = LocalRegisterCopy::<u64, COMMAND::Register>::new(value);
                let id = command.read(COMMAND::DESTINATION) as u32;
                let destination = match command.is_set(COMMAND::LOGICAL) {
                    true => Destination::Logical(id),
                    false => Destination::Physical(id),
                };
                self.command(command, destination)
            }
            register => self.write(register, value as u32, time),
        })
    }

    /// Reads the page; only the first four bytes of a register are there.
    pub(crate) fn read_page(&self, offset: u64, width: AccessWidth, time: &impl Time) -> u64 {
        let skipped = (offset % 16) as usize;
        let mut bytes = [0; 8];
        let value = self.read((offset / 16) as u32, time).to_le_bytes();
        let there = value.iter().skip(skipped).take(width.size());
        there.zip(&mut bytes).for_each(|(from, to)| *to = *from);
        u64::from_le_bytes(bytes)
    }

    /// Writes the page; only whole registers can be written.
    pub(crate) fn write_page(
        &mut self,
        offset: u64,
        width: AccessWidth,
        value: u64,
        time: &impl Time,
    ) -> Effect {
        match (width, offset % 16) {
            (AccessWidth::Dword, 0) => {
                let register = Register::of((offset / 16) as u32);
                self.write(register, value as u32, time)
            }
            _ => Effect::Nothing,
        }
    }

    /// Does what follows from a write that the hardware has done to the page.
    pub(crate) fn written(&mut self, offset: u64, time: &impl Time) -> Effect {
        let number = (offset / 16) as u32;
        let value = self.page.read(number);
        // What cannot be written is as before.
        self.show_identity();
        self.write(Register::of(number), value, time)
    }

    fn read(&self, number: u32, time: &impl Time) -> u32 {
        match Register::of(number) {
            Register::ArbitrationPriority => self.processor_priority().into(),
            Register::Trigger(index) => self.inbox.levels.register(index),
            Register::Request(index) => {
                self.page.read(number) | self.inbox.requests.register(index)
            }
            Register::CurrentCount => self.timer.current(time),
            Register::EndOfInterrupt | Register::SelfIpi | Register::Nothing => 0,
            _ => self.page.read(number),
        }
    }

    /// Returns what was last sent, with its destination.
    fn last_command(&self) -> u64 {
        let [low, high] = [number::COMMAND, number::COMMAND_HIGH].map(|half| self.page.read(half));
        u64::from(high) << 32 | u64::from(low)
    }

    fn keep_command(&self, command: u64) {
        self.page.write(number::COMMAND, command as u32);
        self.page
            .write(number::COMMAND_HIGH, (command >> 32) as u32);
    }

    fn write(&mut self, register: Register, value: u32, time: &impl Time) -> Effect {
        match register {
            Register::EndOfInterrupt => return self.end(),
            Register::Command => return self.command_by_byte(value),
            Register::CommandHigh => {
                let id = value & HIGH_BYTE::ID::SET.value;
                self.page.write(number::COMMAND_HIGH, id);
            }
            Register::SelfIpi if self.mode == Mode::X2Apic => self.send_self(value as u8),
            Register::TaskPriority => self.set_task_priority(value as u8),
            Register::LogicalDestination => {
                let logical = value & HIGH_BYTE::ID::SET.value;
                self.page.write(number::LOGICAL_DESTINATION, logical);
                self.publish();
            }
            Register::DestinationFormat => {
                let format = value | FORMAT::ONES::SET.value;
                self.page.write(number::DESTINATION_FORMAT, format);
                self.publish();
            }
            Register::Spurious => self.set_spurious(value),
            Register::ErrorStatus => {
                let errors = core::mem::take(&mut self.errors);
                self.page.write(number::ERROR_STATUS, errors);
            }
            Register::Lvt(lvt) => self.set_entry(lvt, value, time),
            Register::InitialCount => {
                self.timer.set_initial(value, time);
                self.show_timer();
            }
            Register::Divide => {
                self.timer.set_divide(value & DIVIDE_BITS, time);
                self.show_timer();
            }
            _ => {}
        }
        Effect::Nothing
    }

    fn set_spurious(&mut self, value: u32) {
        self.page.write(number::SPURIOUS, value & SPURIOUS_BITS);
        if !self.spurious().is_set(SPURIOUS::ENABLE) {
            for lvt in Lvt::ALL {
                let masked = self.entry(lvt).get() | LVT::MASK::SET.value;
                self.page.write(lvt.number(), masked);
            }
        }
        self.publish();
    }

    fn set_entry(&mut self, lvt: Lvt, value: u32, time: &impl Time) {
        let mut entry = LvtEntry::new(value & lvt.bits());
        if !self.spurious().is_set(SPURIOUS::ENABLE) {
            entry.modify(LVT::MASK::SET);
        }
        self.page.write(lvt.number(), entry.get());
        match lvt {
            Lvt::Timer => {
                self.timer.set_mode(entry, time);
                self.show_timer();
            }
            Lvt::Lint0 => self.publish(),
            _ => {}
        }
    }

    fn show_timer(&self) {
        self.page.write(number::INITIAL_COUNT, self.timer.initial());
        self.page.write(number::DIVIDE, self.timer.divide());
    }

    /// Takes a command of xAPIC, whose destination was written before.
    fn command_by_byte(&mut self, value: u32) -> Effect {
        let high = LocalRegisterCopy::<u64, COMMAND::Register>::new(self.last_command());
        let id = high.read(COMMAND::DESTINATION_BYTE) as u32;
        let high = COMMAND::DESTINATION_BYTE.val(id.into()).value;
        let low = COMMAND_LOW_BITS & u64::from(value);
        let command = LocalRegisterCopy::<u64, COMMAND::Register>::new(high | low);
        let is_logical = command.is_set(COMMAND::LOGICAL);
        self.command(command, Destination::of_byte(id, is_logical))
    }

    fn command(
        &mut self,
        command: LocalRegisterCopy<u64, COMMAND::Register>,
        named: Destination,
    ) -> Effect {
        use COMMAND::SHORTHAND::Value as Shorthand;
        // It is sent when this returns.
        self.keep_command(command.get() & !COMMAND::BUSY::SET.value);
        let vector = command.read(COMMAND::VECTOR) as u8;
        let mode = command.read(COMMAND::DELIVERY) as u32;
        let Some(delivery) = Delivery::of(mode) else {
            return Effect::Nothing;
        };
        if delivery == Delivery::Init && !command.is_set(COMMAND::ASSERT) {
            return Effect::Nothing;
        }
        let destination = match command.read_as_enum(COMMAND::SHORTHAND) {
            Some(Shorthand::Own) => {
                if delivery == Delivery::Fixed {
                    self.send_self(vector);
                }
                return Effect::Nothing;
            }
            Some(Shorthand::All) => Destination::All,
            Some(Shorthand::Others) => Destination::Others,
            _ => named,
        };
        self.send(Message {
            destination,
            delivery,
            vector,
            trigger: Trigger::Edge,
        })
    }

    /// Returns IA32_APIC_BASE.
    fn base(&self) -> u64 {
        let page = LocalRegisterCopy::<u64, BASE::Register>::new(PAGE).read(BASE::PAGE);
        let mode = match self.mode {
            Mode::Disabled => BASE::EN::CLEAR + BASE::EXTD::CLEAR,
            Mode::XApic => BASE::EN::SET + BASE::EXTD::CLEAR,
            Mode::X2Apic => BASE::EN::SET + BASE::EXTD::SET,
        };
        (BASE::PAGE.val(page) + BASE::BSP.val(self.is_boot_cpu.into()) + mode).value
    }

    fn set_base(&mut self, value: u64) -> Result<(), GeneralProtection> {
        let base = LocalRegisterCopy::<u64, BASE::Register>::new(value);
        let modes = (BASE::EN::SET + BASE::EXTD::SET + BASE::BSP::SET).value;
        if value & !modes != PAGE {
            return Err(GeneralProtection);
        }
        let wanted = match (base.is_set(BASE::EN), base.is_set(BASE::EXTD)) {
            (false, false) => Mode::Disabled,
            (true, false) => Mode::XApic,
            (true, true) => Mode::X2Apic,
            (false, true) => return Err(GeneralProtection),
        };
        match (self.mode, wanted) {
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => {
                return Err(GeneralProtection);
            }
            (from, to) if from == to => {}
            (_, Mode::Disabled) => {
                self.mode = wanted;
                self.reset();
            }
            _ => {
                self.mode = wanted;
                self.keep_command(0);
                self.show_identity();
                self.publish();
            }
        }
        Ok(())
    }
}

const DIVIDE_BITS: u32 = DIVIDE::LOW::SET.value | DIVIDE::HIGH::SET.value;
const SPURIOUS_BITS: u32 =
    SPURIOUS::VECTOR::SET.value | SPURIOUS::ENABLE::SET.value | SPURIOUS::FOCUS::SET.value;
/// The bits of a command's low register.
const COMMAND_LOW_BITS: u64 = COMMAND::VECTOR::SET.value
    | COMMAND::DELIVERY::SET.value
    | COMMAND::LOGICAL::SET.value
    | COMMAND::ASSERT::SET.value
    | COMMAND::LEVEL::SET.value
    | COMMAND::SHORTHAND::SET.value;
