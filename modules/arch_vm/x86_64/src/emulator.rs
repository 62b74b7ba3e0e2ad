// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries out instructions on devices in memory, and strings on ports.
//!
//! What the instruction is `fetch` finds. It is carried out as the CPU would: its
//! operands are found by segmentation and paging with all their rights, but
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
    frame::{Frame, RSP, mask},
    handle::Step,
    insn::{
        self, Access, Bus, CodeSize, Instruction, Plain, Progress, Refusal, SegmentName, Span,
        State, Vector,
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
        let found = self.instruction();
        let decoded = match &found {
            Ok(decoded) => decoded,
            Err(refusal) => return self.refuse(*refusal),
        };
        if access.is_in_walk {
            return self.emulate(decoded, None, 0, ExitKind::Mmio);
        }
        if let Some(step) = self.move_plainly(decoded, access) {
            return step;
        }
        // What the CPU has found is its address, if there is no other.
        let known = decoded.has_one_place().then_some(access);
        self.emulate(decoded, known, 0, ExitKind::Mmio)
    }

    /// Carries out a plain MOV of what the CPU has found, with no more than it needs.
    #[inline]
    fn move_plainly(&mut self, instruction: &Instruction, access: MemoryAccess) -> Option<Step> {
        let plain = instruction.plain()?;
        let width = instruction.width;
        let next = self.backend.rip().wrapping_add(instruction.length.into());
        let base = self.backend.segment_base(instruction.segment);
        let linear = self.cut(base.wrapping_add(instruction.offset(&self.frame, next)));
        let purpose = match plain {
            Plain::Load(..) => Purpose::Read,
            Plain::Store(_) | Plain::Put(_) => Purpose::Write,
        };
        if !access.is_of(linear, width.size(), purpose) || !self.is_canonical(next) {
            return None;
        }
        let value = match plain {
            Plain::Load(reg, to_width) => {
                let value = self.read_memory(access.address, width);
                self.frame.write(reg, to_width, value);
                return Some(self.done_at(next, ExitKind::Mmio));
            }
            Plain::Store(reg) => self.frame.read(reg, width),
            Plain::Put(value) => value & mask(width),
        };
        self.write_memory(access.address, width, value);
        Some(self.done_at(next, ExitKind::Mmio))
    }

    /// Begins INS or OUTS.
    #[cold]
    pub(crate) fn port_string(&mut self, access: PortAccess) -> Step {
        match self.instruction() {
            Ok(decoded) if decoded.uses_port() => {
                self.emulate(&decoded, None, access.port, ExitKind::Port)
            }
            Ok(_) => self.refuse(Refusal::Changed),
            Err(refusal) => self.refuse(refusal),
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

    pub(crate) fn paging(&self) -> Paging {
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

    /// Cuts a linear address to what this mode has.
    fn cut(&self, address: u64) -> u64 {
        self.backend.code_size().cut(address)
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
    ///
    /// Apart from the loop, for which all of an instruction would be prepared.
    #[inline(never)]
    fn emulate_once(
        &mut self,
        instruction: &Instruction,
        known: Option<MemoryAccess>,
        port: u16,
    ) -> Result<(Progress, u64), Refusal> {
        let (rip, rsp) = (self.backend.rip(), self.frame.get(RSP));
        let mut state = State {
            flags: self.backend.rflags(),
            next: rip.wrapping_add(instruction.length.into()),
        };
        let mut reach = Reach {
            vcpu: self,
            known,
            port,
        };
        let refusal = match insn::execute(instruction, &mut state, &mut reach) {
            Ok(progress) if self.is_canonical(state.next) => {
                self.backend.set_rflags(state.flags);
                return Ok((progress, state.next));
            }
            Ok(_) => Refusal::Exception(Exception::PROTECTION),
            Err(refusal) => refusal,
        };
        // What goes elsewhere changes no other register.
        self.frame.set(RSP, rsp);
        Err(refusal)
    }

    /// Reads RAM or a device; where nothing is, all bits are one.
    fn read_memory(&mut self, address: GuestPhysAddr, width: AccessWidth) -> u64 {
        if let Some(value) = self.read_apic_page(address, width) {
            return value;
        }
        let mut bytes = [0; 8];
        let slots = bytes.get_mut(..width.size()).unwrap_or_default();
        if self.machine.ram.read(address, slots).is_ok() {
            return u64::from_le_bytes(bytes);
        }
        self.step_outside();
        let read = self.devices.handle_mmio_read(address, width);
        read.unwrap_or(u64::MAX) & mask(width)
    }

    /// Writes RAM or a device, if something is there.
    fn write_memory(&mut self, address: GuestPhysAddr, width: AccessWidth, value: u64) {
        if self.write_apic_page(address, width, value) {
            return;
        }
        let bytes = value.to_le_bytes();
        let bytes = bytes.get(..width.size()).unwrap_or_default();
        if self.machine.ram.write(address, bytes).is_ok() {
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
    /// Finds an operand of which the CPU has told nothing.
    #[inline(never)]
    fn find_anew(&mut self, linear: u64, access: Access) -> Result<Span, Refusal> {
        let Access {
            segment,
            bytes,
            purpose,
            ..
        } = access;
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
}

impl<H: AxVMHal, B: Backend<H>> Bus for Reach<'_, H, B> {
    fn frame(&mut self) -> &mut Frame {
        &mut self.vcpu.frame
    }

    #[inline]
    fn find(&mut self, access: Access) -> Result<Span, Refusal> {
        let Access {
            segment,
            offset,
            bytes,
            purpose,
        } = access;
        let base = self.vcpu.backend.segment_base(segment);
        let linear = self.vcpu.cut(base.wrapping_add(offset));
        match self.known {
            Some(known) if known.is_of(linear, bytes, purpose) => Ok(Span::within(known.address)),
            _ => self.find_anew(linear, access),
        }
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
