// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries out instructions on devices in memory, and strings on ports.
//!
//! Where the CPU does not say which bytes the instruction has, they are read by
//! the guest's own page tables. An instruction is carried out as the CPU would:
//! its operands are found by segmentation and paging with all their rights, but
//! for the one that the CPU has found just before. One that is not known is
//! undefined; so is a fetch from a device, where a bus reads all ones. An event
//! that is delivered to a device's memory (a stack, a descriptor table) cannot be
//! delivered: the CPU shuts down.
//!
//! Spec: AMD64 APM 2, "Nested Page Faults", "IOIO Intercept Information",
//! "Canonical Address Form".

use axdevice::GuestMemory;
use axvm::{
    AccessWidth, AxVCpuExitReason as Leave, AxVMHal, ExitKind, GuestPhysAddr, MappingFlags,
};

use crate::{
    backend::Backend,
    exit::{Exception, MemoryAccess, MemoryKind, PortAccess},
    frame::mask,
    handle::Step,
    insn::{
        self, Access, Bus, CodeSize, Instruction, LENGTH_MAX, PAGE_BYTES, Progress, Refusal,
        SegmentName, Span, State, Vector,
    },
    regs::{CR0, CR4, bits},
    vcpu::VCpu,
    walk::{Paging, Purpose},
};

/// So many elements of a string come before the host's interrupts are looked at.
const ELEMENTS_AT_ONCE: usize = 64;
/// The states of XCR0 that VEX's instructions use.
const SSE_AND_AVX: u64 = 0b110;

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Begins what an access to a device's memory asks for.
    pub(crate) fn begin_emulation(&mut self, access: MemoryAccess) -> Step {
        if self.machine.ram.contains(access.address, 1) {
            return Step::Leave(Leave::NestedPageFault {
                addr: access.address,
                access_flags: flags_of(access.kind),
            });
        }
        if self.backend.was_delivering() {
            // What stands at RIP has not asked for it, and the event would come again.
            return Step::Leave(Leave::TripleFault);
        }
        if access.kind == MemoryKind::Fetch && !access.is_in_walk {
            // The handler may be there as well.
            return self.deliver_again(Exception::UNDEFINED);
        }
        let bytes = match self.instruction_bytes() {
            Ok(bytes) => bytes,
            Err(refusal) => return self.refuse(refusal),
        };
        let Some(decoded) = insn::decode(&bytes, self.backend.code_size()) else {
            return self.fault(Exception::UNDEFINED);
        };
        // What the CPU has found is its address, if there is no other.
        let is_known = decoded.has_one_place() && !access.is_in_walk;
        self.emulate(&decoded, is_known.then_some(access), 0, ExitKind::Mmio)
    }

    /// Begins INS or OUTS.
    #[cold]
    pub(crate) fn port_string(&mut self, access: PortAccess) -> Step {
        let bytes = match self.instruction_bytes() {
            Ok(bytes) => bytes,
            Err(refusal) => return self.refuse(refusal),
        };
        match insn::decode(&bytes, self.backend.code_size()) {
            Some(decoded) if decoded.uses_port() => {
                self.emulate(&decoded, None, access.port, ExitKind::Port)
            }
            Some(_) => self.refuse(Refusal::Changed),
            None => self.fault(Exception::UNDEFINED),
        }
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) -> Step {
        match refusal {
            Refusal::Page(address, code) => {
                self.backend.set_cr2(address);
                self.fault(Exception::page_fault(code))
            }
            Refusal::Exception(exception) => self.fault(exception),
            Refusal::Changed => Step::Resume,
        }
    }

    fn paging(&self) -> Paging {
        let backend = &self.backend;
        Paging {
            cr0: backend.cr0(),
            cr3: backend.cr3(),
            cr4: backend.cr4(),
            efer: backend.efer(),
            rflags: backend.rflags(),
            cpl: backend.cpl(),
        }
    }

    /// Returns the bytes at the guest's RIP, zeros behind what can be read.
    pub(crate) fn instruction_bytes(&self) -> Result<[u8; LENGTH_MAX], Refusal> {
        let mut bytes = [0; LENGTH_MAX];
        if let Some(fetched) = self.backend.fetched() {
            for (slot, byte) in bytes.iter_mut().zip(fetched) {
                *slot = *byte;
            }
            return Ok(bytes);
        }
        let base = self.backend.segment_base(SegmentName::Cs);
        let start = self.cut(base.wrapping_add(self.backend.rip()));
        let room = PAGE_BYTES.wrapping_sub(start % PAGE_BYTES) as usize;
        let (first, second) = bytes.split_at_mut(room.min(LENGTH_MAX));
        self.fetch(start, first)?;
        if !second.is_empty() {
            // What is not there was not executed.
            let _ = self.fetch(self.cut(start.wrapping_add(room as u64)), second);
        }
        Ok(bytes)
    }

    fn fetch(&self, linear: u64, to: &mut [u8]) -> Result<(), Refusal> {
        let ram = &*self.machine.ram;
        let found = self.paging().translate(linear, Purpose::Fetch, ram);
        let address = found.map_err(|code| Refusal::Page(linear, code))?;
        ram.read(address, to).map_err(|_| Refusal::Changed)
    }

    /// Cuts a linear address to what this mode has.
    fn cut(&self, address: u64) -> u64 {
        match self.backend.code_size() {
            CodeSize::Bits64 => address,
            _ => address & u64::from(u32::MAX),
        }
    }

    fn is_canonical(&self, address: u64) -> bool {
        const UNUSED: u32 = 16;
        let cut = address.wrapping_shl(UNUSED) as i64;
        self.backend.code_size() != CodeSize::Bits64 || cut.wrapping_shr(UNUSED) as u64 == address
    }

    /// Carries out an instruction; of a repeated one some elements, as long as nobody
    /// wants anything else of this vCPU.
    fn emulate(
        &mut self,
        instruction: &Instruction,
        known: Option<MemoryAccess>,
        port: u16,
        kind: ExitKind,
    ) -> Step {
        let mut known = known;
        for _ in 0..ELEMENTS_AT_ONCE {
            match self.emulate_once(instruction, known.take(), port) {
                Ok((Progress::Done, next)) => return self.done_at(next, kind),
                Ok((Progress::Again, _)) if self.is_wanted() => break,
                Ok((Progress::Again, _)) => {}
                Err(refusal) => return self.refuse(refusal),
            }
        }
        // Its breakpoint counts again when all of it is done.
        if self.is_stepped() {
            self.trap_step();
        }
        self.count(kind)
    }

    /// Tells whether a repeated instruction is to be interrupted.
    fn is_wanted(&self) -> bool {
        self.interrupts.must_look() || self.control.has_request() || self.is_stepped()
    }

    /// Carries out an instruction, or one element; returns where the guest goes on.
    fn emulate_once(
        &mut self,
        instruction: &Instruction,
        known: Option<MemoryAccess>,
        port: u16,
    ) -> Result<(Progress, u64), Refusal> {
        let rip = self.backend.rip();
        let mut state = State {
            frame: self.frame.clone(),
            flags: self.backend.rflags(),
            next: rip.wrapping_add(instruction.length.into()),
        };
        let mut reach = Reach {
            vcpu: self,
            known,
            port,
        };
        let progress = insn::execute(instruction, &mut state, &mut reach)?;
        if !self.is_canonical(state.next) {
            return Err(Refusal::Exception(Exception::PROTECTION));
        }
        self.frame = state.frame;
        self.backend.set_rflags(state.flags);
        Ok((progress, state.next))
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

    /// Tells whether the guest may use vector registers now; it was asked by the CPU,
    /// but maybe for another instruction.
    fn has_vectors(&self, is_vex: bool) -> bool {
        let cr0 = bits::<CR0::Register>(self.backend.cr0());
        let cr4 = bits::<CR4::Register>(self.backend.cr4());
        let is_enabled = match is_vex {
            true => cr4.is_set(CR4::OSXSAVE) && self.extended.xcr0() & SSE_AND_AVX == SSE_AND_AVX,
            false => !cr0.is_set(CR0::EM) && cr4.is_set(CR4::OSFXSR),
        };
        is_enabled && !cr0.is_set(CR0::TS)
    }
}

/// What an instruction of a vCPU reaches.
struct Reach<'a, H: AxVMHal, B: Backend<H>> {
    vcpu: &'a mut VCpu<H, B>,
    /// Where the CPU has found the only operand in memory, and for what.
    known: Option<MemoryAccess>,
    port: u16,
}

impl<H: AxVMHal, B: Backend<H>> Reach<'_, H, B> {
    /// Returns where the operand is if that is what the CPU has found: it reports the
    /// page, and of an operand that crosses into it the other one is not known. One
    /// that was read may not be written.
    fn known(&self, linear: u64, bytes: usize, purpose: Purpose) -> Option<Span> {
        let MemoryAccess { address, kind, .. } = self.known?;
        let is_found = linear % PAGE_BYTES == address.as_usize() as u64 % PAGE_BYTES
            && insn::is_in_page(linear, bytes)
            && (kind == MemoryKind::Write || purpose == Purpose::Read);
        is_found.then(|| Span::within(address))
    }
}

impl<H: AxVMHal, B: Backend<H>> Bus for Reach<'_, H, B> {
    fn find(&mut self, access: Access) -> Result<Span, Refusal> {
        let Access {
            segment,
            offset,
            bytes,
            purpose,
        } = access;
        let base = self.vcpu.backend.segment_base(segment);
        let linear = self.vcpu.cut(base.wrapping_add(offset));
        if let Some(span) = self.known(linear, bytes, purpose) {
            return Ok(span);
        }
        let last = linear.wrapping_add(bytes as u64).wrapping_sub(1);
        if !self.vcpu.is_canonical(linear) || !self.vcpu.is_canonical(last) {
            return Err(Refusal::Exception(match segment {
                SegmentName::Ss => Exception::STACK,
                _ => Exception::PROTECTION,
            }));
        }
        let paging = self.vcpu.paging();
        Span::find(linear, bytes, |linear| {
            let linear = self.vcpu.cut(linear);
            let found = paging.translate(linear, purpose, &*self.vcpu.machine.ram);
            found.map_err(|code| Refusal::Page(linear, code))
        })
    }

    fn read(&mut self, at: GuestPhysAddr, width: AccessWidth) -> u64 {
        self.vcpu.read_memory(at, width)
    }

    fn write(&mut self, at: GuestPhysAddr, width: AccessWidth, value: u64) {
        self.vcpu.write_memory(at, width, value);
    }

    fn read_port(&mut self, width: AccessWidth) -> u64 {
        self.vcpu.read_port(self.port, width)
    }

    fn write_port(&mut self, width: AccessWidth, value: u64) {
        self.vcpu.write_port(self.port, width, value);
    }

    fn vector(&mut self, vector: Vector) -> Result<[u64; 4], Refusal> {
        match self.vcpu.has_vectors(vector.is_vex) {
            true => Ok(self.vcpu.extended.vector(vector.register)),
            false => Err(Refusal::Changed),
        }
    }

    fn set_vector(&mut self, vector: Vector, value: [u64; 4]) {
        self.vcpu.extended.set_vector(vector, value);
    }
}

fn flags_of(kind: MemoryKind) -> MappingFlags {
    match kind {
        MemoryKind::Read => MappingFlags::READ,
        MemoryKind::Write => MappingFlags::WRITE,
        MemoryKind::Fetch => MappingFlags::EXECUTE,
    }
}
