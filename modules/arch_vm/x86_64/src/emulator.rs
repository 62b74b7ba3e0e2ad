// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries out instructions on devices in memory, and strings on ports.
//!
//! Where the CPU does not say which bytes the instruction has, they are read by
//! the guest's own page tables. An instruction that cannot be fetched any more is
//! executed again, as it was another vCPU's doing; one that is not known stops a
//! kernel's VM, and is undefined for user code, which must not do that.
//!
//! Spec: AMD64 APM 2, "Nested Page Faults", "IOIO Intercept Information".

use axdevice::GuestMemory;
use axvm::{
    AccessWidth, AxVCpuExitReason as Leave, AxVMHal, ExitKind, GuestPhysAddr, MappingFlags,
};

use crate::{
    backend::Backend,
    exit::{Exception, MemoryAccess, MemoryKind, PortAccess},
    frame::{RAX, RDI, RSI, mask},
    handle::Step,
    insn::{
        self, CodeSize, Emulation, Instruction, LENGTH_MAX, Operation, Place, Progress,
        SegmentName, StringEnd,
    },
    vcpu::VCpu,
    walk::{Paging, Purpose},
};

/// How an unknown instruction is called in the fault that stops a VM.
const UNKNOWN_INSTRUCTION: u64 = 0x1_0000_0000;
/// The guest's page tables are where no RAM is.
const TABLES_OUTSIDE_RAM: u64 = 0x1_0000_0001;
/// An exception's or interrupt's stack or tables are where no RAM is.
const DELIVERY_OUTSIDE_RAM: u64 = 0x1_0000_0002;
const PAGE_BYTES: u64 = 4096;
/// The highest that CR8 can be.
const TASK_PRIORITY_MAX: u8 = 15;

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Begins what an access to a device's memory asks for.
    pub(crate) fn begin_emulation(&mut self, access: MemoryAccess) -> Step {
        let MemoryAccess {
            address,
            kind,
            is_in_walk,
        } = access;
        if self.machine.ram.contains(address, 1) {
            return Step::Leave(Leave::NestedPageFault {
                addr: address,
                access_flags: flags_of(kind),
            });
        }
        if self.backend.was_delivering() {
            // What stands at RIP has not asked for it, and the event would come again.
            return Step::Leave(Leave::Unhandled {
                code: DELIVERY_OUTSIDE_RAM,
                detail: address.as_usize() as u64,
            });
        }
        if kind == MemoryKind::Fetch && self.backend.cpl() == 3 {
            // A kernel may give a program a device's page; what a bus answers is no
            // instruction.
            return self.fault(Exception::UNDEFINED);
        }
        if is_in_walk || kind == MemoryKind::Fetch {
            return Step::Leave(Leave::Unhandled {
                code: TABLES_OUTSIDE_RAM,
                detail: address.as_usize() as u64,
            });
        }
        let Some(bytes) = self.instruction_bytes() else {
            return Step::Resume;
        };
        let Some(instruction) = insn::decode(&bytes, self.backend.code_size()) else {
            return self.refuse_instruction(&bytes);
        };
        let emulation = match instruction.operation {
            Operation::String { from, to } => self.string(instruction, from, to, 0),
            _ => Ok(Emulation::at(instruction, address)),
        };
        self.emulate(emulation, ExitKind::Mmio)
    }

    /// Begins INS or OUTS.
    #[cold]
    pub(crate) fn port_string(&mut self, access: PortAccess) -> Step {
        let Some(bytes) = self.instruction_bytes() else {
            return Step::Resume;
        };
        let Some(instruction) = insn::decode(&bytes, self.backend.code_size()) else {
            return self.refuse_instruction(&bytes);
        };
        let Operation::String { from, to } = instruction.operation else {
            return self.refuse_instruction(&bytes);
        };
        let emulation = self.string(instruction, from, to, access.port);
        self.emulate(emulation, ExitKind::Port)
    }

    /// Carries out MOV to CR8.
    #[cold]
    pub(crate) fn write_task_priority(&mut self) -> Step {
        let Some(bytes) = self.instruction_bytes() else {
            return Step::Resume;
        };
        let Some((from, length)) = insn::move_to_control(&bytes, self.backend.code_size()) else {
            return self.refuse_instruction(&bytes);
        };
        match u8::try_from(self.frame.get(from)) {
            Ok(priority @ 0..=TASK_PRIORITY_MAX) => {
                self.backend.set_task_priority(priority);
                self.take_task_priority();
                let next = self.backend.rip().wrapping_add(length.into());
                self.done_at(next, ExitKind::SysReg)
            }
            _ => self.fault(Exception::PROTECTION),
        }
    }

    fn refuse_instruction(&mut self, bytes: &[u8; LENGTH_MAX]) -> Step {
        if self.backend.cpl() == 3 {
            return self.fault(Exception::UNDEFINED);
        }
        let mut first = [0; 8];
        first.copy_from_slice(bytes.first_chunk::<8>().unwrap_or(&[0; 8]));
        Step::Leave(Leave::Unhandled {
            code: UNKNOWN_INSTRUCTION,
            detail: u64::from_le_bytes(first),
        })
    }

    fn paging(&self) -> Paging {
        let backend = &self.backend;
        Paging {
            cr0: backend.cr0(),
            cr3: backend.cr3(),
            cr4: backend.cr4(),
            efer: backend.efer(),
            cpl: backend.cpl(),
        }
    }

    /// Returns the bytes at the guest's RIP, zeros behind what can be read.
    fn instruction_bytes(&self) -> Option<[u8; LENGTH_MAX]> {
        let mut bytes = [0; LENGTH_MAX];
        if let Some(fetched) = self.backend.fetched() {
            for (slot, byte) in bytes.iter_mut().zip(fetched) {
                *slot = *byte;
            }
            return Some(bytes);
        }
        let base = self.backend.segment_base(SegmentName::Cs);
        let start = self.linear(base.wrapping_add(self.backend.rip()));
        let room = PAGE_BYTES.wrapping_sub(start % PAGE_BYTES) as usize;
        let (first, second) = bytes.split_at_mut(room.min(LENGTH_MAX));
        self.fetch(start, first)?;
        if !second.is_empty() {
            // What is not there was not executed.
            let _ = self.fetch(start.wrapping_add(room as u64), second);
        }
        Some(bytes)
    }

    fn fetch(&self, linear: u64, to: &mut [u8]) -> Option<()> {
        let ram = &*self.machine.ram;
        let address = self.paging().translate(linear, Purpose::Fetch, ram).ok()?;
        ram.read(address, to).ok()
    }

    /// Cuts a linear address to what this mode has.
    fn linear(&self, address: u64) -> u64 {
        match self.backend.code_size() {
            CodeSize::Bits64 => address,
            _ => address & u64::from(u32::MAX),
        }
    }

    /// Finds both ends of a string instruction's next element.
    fn string(
        &self,
        instruction: Instruction,
        from: StringEnd,
        to: StringEnd,
        port: u16,
    ) -> Result<Emulation, (u64, u32)> {
        if instruction.is_over(&self.frame) {
            // Nothing is accessed, so that nothing can fault.
            let nowhere = Place::Accumulator;
            return Ok(Emulation::between(instruction, nowhere, nowhere));
        }
        let source = (instruction.segment, RSI, Purpose::Read);
        let target = (SegmentName::Es, RDI, Purpose::Write);
        let end = |end, memory| match end {
            StringEnd::Accumulator => Ok(Place::Accumulator),
            StringEnd::Port => Ok(Place::Port(port)),
            StringEnd::Memory => self.operand(instruction.address_width, memory),
        };
        Ok(Emulation::between(
            instruction,
            end(from, source)?,
            end(to, target)?,
        ))
    }

    /// Translates the address in an index register, or returns its page fault.
    fn operand(
        &self,
        width: AccessWidth,
        (segment, index, purpose): (SegmentName, usize, Purpose),
    ) -> Result<Place, (u64, u32)> {
        let offset = self.frame.get(index) & mask(width);
        let linear = self.linear(self.backend.segment_base(segment).wrapping_add(offset));
        let found = self.paging().translate(linear, purpose, &*self.machine.ram);
        match found {
            Ok(address) => Ok(Place::Memory(address)),
            Err(code) => Err((linear, code)),
        }
    }

    fn emulate(&mut self, emulation: Result<Emulation, (u64, u32)>, kind: ExitKind) -> Step {
        let mut emulation = match emulation {
            Ok(emulation) => emulation,
            Err((address, code)) => {
                self.backend.set_cr2(address);
                return self.fault(Exception::page_fault(code));
            }
        };
        let mut flags = self.backend.rflags();
        let step = loop {
            match emulation.next(&mut self.frame, &mut flags) {
                Progress::Read(place, width) => emulation.answer(self.read_place(place, width)),
                Progress::Write(place, width, value) => self.write_place(place, width, value),
                Progress::Done => {
                    let length = emulation.instruction.length;
                    let next = self.backend.rip().wrapping_add(length.into());
                    break self.done_at(next, kind);
                }
                Progress::Again => break self.count(kind),
            }
        };
        self.backend.set_rflags(flags);
        step
    }

    fn read_place(&mut self, place: Place, width: AccessWidth) -> u64 {
        match place {
            Place::Port(port) => self.read_port(port, width),
            Place::Memory(address) => self.read_memory(address, width),
            Place::Accumulator => self.frame.get(RAX),
        }
    }

    fn write_place(&mut self, place: Place, width: AccessWidth, value: u64) {
        match place {
            Place::Port(port) => self.write_port(port, width, value),
            Place::Memory(address) => self.write_memory(address, width, value),
            Place::Accumulator => {}
        }
    }

    /// Reads RAM or a device; where nothing is, all bits are one.
    fn read_memory(&mut self, address: GuestPhysAddr, width: AccessWidth) -> u64 {
        let mut bytes = [0; 8];
        let slots = bytes.get_mut(..width.size()).unwrap_or_default();
        if self.machine.ram.read(address, slots).is_ok() {
            return u64::from_le_bytes(bytes);
        }
        if let Some(value) = self.read_apic_page(address, width) {
            return value;
        }
        self.step_outside();
        let read = self.devices.handle_mmio_read(address, width);
        read.unwrap_or(u64::MAX) & mask(width)
    }

    /// Writes RAM or a device, if something is there.
    fn write_memory(&mut self, address: GuestPhysAddr, width: AccessWidth, value: u64) {
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..width.size()).unwrap_or_default();
        if self.machine.ram.write(address, bytes).is_ok()
            || self.write_apic_page(address, width, value)
        {
            return;
        }
        self.step_outside();
        let _ = self.devices.handle_mmio_write(address, width, value);
    }
}

fn flags_of(kind: MemoryKind) -> MappingFlags {
    match kind {
        MemoryKind::Read => MappingFlags::READ,
        MemoryKind::Write => MappingFlags::WRITE,
        MemoryKind::Fetch => MappingFlags::EXECUTE,
    }
}
