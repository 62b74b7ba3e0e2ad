// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU's control block, and what the rest of the crate may do with it.
//!
//! Nothing in it is the guest's to write but by executing; what a guest executes
//! is checked by the hardware. Every change of what the CPU may have kept since
//! the last entry is noted, so that it is read again.
//!
//! Spec: AMD64 APM 2, "VMRUN Instruction", "Event Injection", "Virtual
//! Interrupts", "VMCB State Caching".

use alloc::sync::Arc;
use core::mem::offset_of;

use axvm::{AxVMHal, HostPhysAddr, Result, vmid::Flush};
use tock_registers::{LocalRegisterCopy, fields::FieldValue};

use super::{
    Features, Maps, entry, exit,
    vmcb::{CLEAN, EVENT, FIRST, SECOND, SHADOW, Save, Segment, THIRD, VINTR, Vmcb, tlb},
};
use crate::{
    backend::{DebugOwner, NmiWatch},
    exit::{Event, Exception, Exit},
    frame::{RAX, RSP},
    frames::Frames,
    insn::{CodeSize, SegmentName},
    irqchip::lapic::{Given, Mode},
    pc::boot::{self, BootState},
    regs::{self, EFER, Msr, RFLAGS, bits},
    rights::Rights,
    vcpu::VCpu,
};

/// The frames of a vCPU: its block, the host's block, the host's save area.
const FRAMES: usize = 4;
const GUEST: usize = 0;
const HOST: usize = 1;
const SAVE_AREA: usize = 2;

/// Of the control registers only CR8 is ever intercepted, and CR4 on a CPU of which
/// guests do not have all.
const CR8_WRITES: u32 = 1 << 24;
const CR4_WRITES: u32 = 1 << 20;
const ALL_DEBUG_REGISTERS: u32 = u32::MAX;
/// #DB and #AC, which could keep a CPU busy for ever, and machine checks.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;
/// DR6 and DR7 after reset.
const DR6_AT_RESET: u64 = 0xffff_0ff0;
const DR7_AT_RESET: u64 = 0x400;
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
/// All that a CPU may have kept; one that keeps less, or nothing, ignores the rest.
const ALL_CLEAN: u32 = 0x7ff;
/// The code segment's attributes: 64-bit code, and 32-bit operands.
const ATTRIBUTE_LONG: u16 = 1 << 9;
const ATTRIBUTE_BIG: u16 = 1 << 10;

/// One vCPU in SVM.
pub(crate) struct Svm<H: AxVMHal> {
    features: Features,
    rights: Rights,
    /// The block points to them.
    _maps: Arc<Maps<H>>,
    frames: Frames<H>,
    /// Where the hypervisor sees the block.
    block: usize,
}

impl<H: AxVMHal> Svm<H> {
    /// Makes the block of a vCPU.
    pub(crate) fn new(
        hal: &H,
        features: Features,
        maps: Arc<Maps<H>>,
        rights: Rights,
    ) -> Result<Self> {
        let frames = Frames::new(hal, FRAMES)?;
        let block = frames.pointer(GUEST) as usize;
        let mut svm = Self {
            features,
            rights,
            frames,
            _maps: maps.clone(),
            block,
        };
        let control = &mut svm.vmcb_mut().control;
        control.io_map = maps.io();
        control.msr_map = maps.msr();
        control.intercept_dr = ALL_DEBUG_REGISTERS;
        control.intercept_exceptions = EXCEPTIONS;
        control.intercept_first = first_intercepts().value;
        control.intercept_second = second_intercepts().value;
        control.intercept_third = third_intercepts().value;
        control.nested_enable = 1;
        control.vintr = VINTR::MASKING::SET.value;
        Ok(svm)
    }

    #[inline]
    fn vmcb(&self) -> &Vmcb {
        let block = self.block as *const Vmcb;
        // SAFETY: the frame is this value's alone, and the CPU uses it in `enter` only.
        unsafe { &*block }
    }

    #[inline]
    fn vmcb_mut(&mut self) -> &mut Vmcb {
        let block = self.block as *mut Vmcb;
        // SAFETY: as for `vmcb`.
        unsafe { &mut *block }
    }

    #[inline]
    fn save_mut(&mut self) -> &mut Save {
        &mut self.vmcb_mut().save
    }

    /// Notes that something changed which the CPU may have kept.
    fn changed(&mut self, what: FieldValue<u32, CLEAN::Register>) {
        self.vmcb_mut().control.clean &= !what.mask();
    }

    /// Sets the root of the nested page tables.
    pub(crate) fn set_nested_root(&mut self, root: HostPhysAddr) {
        self.vmcb_mut().control.nested_root = root.as_usize() as u64;
        self.changed(CLEAN::NESTED::SET);
    }

    /// Puts all registers to where the guest starts.
    pub(crate) fn start(&mut self, state: &BootState) {
        let save = self.save_mut();
        for segment in [&mut save.ds, &mut save.es, &mut save.fs, &mut save.gs] {
            *segment = segment_of(&state.data);
        }
        save.ss = segment_of(&state.data);
        save.cs = segment_of(&state.code);
        save.tr = segment_of(&state.task);
        save.ldtr = segment_of(&state.local);
        save.gdtr = table_of(&state.gdt);
        save.idtr = table_of(&state.idt);
        save.cpl = 0;
        save.efer = state.efer | EFER::SVME::SET.value;
        (save.cr0, save.cr3, save.cr4) = (state.cr0, state.cr3, state.cr4);
        (save.dr6, save.dr7) = (DR6_AT_RESET, DR7_AT_RESET);
        (save.rip, save.rflags) = (state.rip, state.rflags);
        save.cr2 = 0;
        save.pat = PAT_AT_RESET;
        (save.star, save.lstar, save.cstar, save.sfmask) = (0, 0, 0, 0);
        save.kernel_gs_base = 0;
        (save.sysenter_cs, save.sysenter_esp, save.sysenter_eip) = (0, 0, 0);
        let is_cr4_cut = self.rights.is_cr4_cut;
        let control = &mut self.vmcb_mut().control;
        (control.event, control.shadow) = (0, 0);
        control.vintr = VINTR::MASKING::SET.value;
        control.intercept_first = first_intercepts().value;
        control.intercept_cr = match is_cr4_cut {
            true => CR4_WRITES,
            false => 0,
        };
        control.clean = 0;
        // As paging ends: what was found by it may not be where the CPU starts.
        let asid = control.asid;
        self.set_address_space(asid, Flush::OwnTables);
    }

    /// Comes to this CPU.
    pub(crate) fn bind(&mut self) {
        regs::write_msr(Msr::VM_HSAVE_PA, self.frames.physical(SAVE_AREA));
        // SAFETY: the frame is this value's, and `percpu` has switched SVM on.
        unsafe { entry::save_host(self.frames.physical(HOST)) };
        self.vmcb_mut().control.clean = 0;
    }

    /// Leaves this CPU, where nothing is left behind.
    pub(crate) fn unbind(&mut self) {}

    /// Sets the address space identifier, and what the TLB forgets on the next entry.
    pub(crate) fn set_address_space(&mut self, asid: u32, flush: Flush) {
        let by_asid = self.features.has_flush_by_asid;
        let control = &mut self.vmcb_mut().control;
        control.asid = asid;
        control.tlb_control = match flush {
            // What no entry has carried out since is still to be done.
            Flush::None => control.tlb_control,
            Flush::OwnTables if by_asid && control.tlb_control != tlb::FLUSH_ALL => tlb::FLUSH_ASID,
            Flush::OwnTables | Flush::Everything => tlb::FLUSH_ALL,
        };
        self.changed(CLEAN::ASID::SET);
    }

    /// Sets what the guest's time-stamp counter is ahead of this CPU's.
    pub(crate) fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcb_mut().control.tsc_offset = offset;
        self.changed(CLEAN::INTERCEPTS::SET);
    }

    /// Runs the guest until it leaves for what `fast` does not finish, and says why.
    ///
    /// # Safety
    ///
    /// 1. The vCPU is bound to this CPU, and interrupts are closed.
    /// 2. Its nested page tables map what is the guest's.
    #[inline]
    pub(crate) unsafe fn run(vcpu: &mut VCpu<H, Self>) -> Exit {
        const { assert!(offset_of!(VCpu<H, Self>, frame) == 0) };
        let (rax, rsp) = (vcpu.frame.get(RAX), vcpu.frame.get(RSP));
        let svm = &mut vcpu.backend;
        let (guest, host) = (svm.frames.physical(GUEST), svm.frames.physical(HOST));
        let save = svm.save_mut();
        (save.rax, save.rsp) = (rax, rsp);
        // SAFETY: 1 and 2 are the caller's; `new` has set the intercepts, `bind` has
        // stored the host's state, and the frame comes first.
        unsafe { entry::enter(vcpu, guest, host) };
        let save = vcpu.backend.save();
        let (rax, rsp) = (save.rax, save.rsp);
        vcpu.frame.set(RAX, rax);
        vcpu.frame.set(RSP, rsp);
        exit::decode(&vcpu.backend.vmcb().control)
    }

    /// Notes what holds after each exit: the CPU has what the block has, and what
    /// was to be delivered is, unless the block says that it was interrupted. The
    /// emulation is made to look at its local APIC again.
    #[inline]
    pub(super) fn note_exit(&mut self) {
        let control = &mut self.vmcb_mut().control;
        control.clean = ALL_CLEAN;
        control.tlb_control = tlb::KEEP;
        control.event = 0;
        if self.features.is_emulated {
            regs::renew_task_priority();
        }
    }

    /// Returns why the guest left.
    #[inline]
    pub(super) fn exit_code(&self) -> u64 {
        self.vmcb().control.exit_code
    }

    /// Tells whether an access to a model-specific register was a write.
    #[inline]
    pub(super) fn is_msr_write(&self) -> bool {
        self.vmcb().control.exit_info_1 != 0
    }

    /// Notes that nothing is left to do of an exit.
    pub(super) fn set_answered(&mut self) {
        self.vmcb_mut().control.exit_code = exit::ANSWERED;
    }

    #[inline]
    pub(super) fn rax(&self) -> u64 {
        self.save().rax
    }

    #[inline]
    pub(super) fn set_rax(&mut self, value: u64) {
        self.save_mut().rax = value;
    }

    /// Returns the event whose delivery this exit interrupted.
    #[inline]
    pub(super) fn interrupted_event(&self) -> Option<LocalRegisterCopy<u64, EVENT::Register>> {
        let event = bits::<EVENT::Register>(self.vmcb().control.exit_event);
        event.is_set(EVENT::VALID).then_some(event)
    }

    /// Tells whether the last exit interrupted the delivery of an event.
    pub(crate) fn was_delivering(&self) -> bool {
        self.interrupted_event().is_some()
    }

    /// Returns the address of the next instruction to execute.
    pub(crate) fn rip(&self) -> u64 {
        self.vmcb().save.rip
    }

    /// Goes on behind an instruction of this length, where the CPU does not say it.
    #[inline]
    pub(crate) fn skip(&mut self, length: u8) {
        let next = match self.features.has_next_rip {
            true => self.vmcb().control.next_rip,
            false => self.rip().wrapping_add(length.into()),
        };
        self.go_on_at(next);
    }

    /// Goes on at an address: the instruction before it is done.
    #[inline]
    pub(crate) fn go_on_at(&mut self, next: u64) {
        let is_long = self.save().cs.attributes & ATTRIBUTE_LONG != 0;
        let vmcb = self.vmcb_mut();
        vmcb.save.rip = match is_long {
            true => next,
            false => next & u64::from(u32::MAX),
        };
        vmcb.control.shadow = 0;
    }

    #[inline]
    fn save(&self) -> &Save {
        &self.vmcb().save
    }

    pub(crate) fn rflags(&self) -> u64 {
        self.save().rflags
    }

    pub(crate) fn set_rflags(&mut self, rflags: u64) {
        self.save_mut().rflags = rflags;
    }

    pub(crate) fn cr0(&self) -> u64 {
        self.save().cr0
    }

    pub(crate) fn cr3(&self) -> u64 {
        self.save().cr3
    }

    pub(crate) fn cr4(&self) -> u64 {
        self.save().cr4
    }

    /// Sets CR4; the caller has checked the value. As with the instruction, the TLB
    /// forgets what it knows of this guest.
    pub(crate) fn set_cr4(&mut self, value: u64) {
        self.save_mut().cr4 = value;
        let asid = self.vmcb().control.asid;
        self.set_address_space(asid, Flush::OwnTables);
        self.changed(CLEAN::CONTROL_REGISTERS::SET);
    }

    /// Returns EFER as the guest sees it.
    pub(crate) fn efer(&self) -> u64 {
        self.save().efer & !EFER::SVME::SET.value
    }

    /// Sets EFER; the caller has checked the value.
    pub(crate) fn set_efer(&mut self, value: u64) {
        self.save_mut().efer = value | EFER::SVME::SET.value;
        self.changed(CLEAN::CONTROL_REGISTERS::SET);
    }

    pub(crate) fn pat(&self) -> u64 {
        self.save().pat
    }

    pub(crate) fn set_pat(&mut self, value: u64) {
        self.save_mut().pat = value;
        self.changed(CLEAN::NESTED::SET);
    }

    /// Sets the address of a page fault.
    pub(crate) fn set_cr2(&mut self, address: u64) {
        self.save_mut().cr2 = address;
        self.changed(CLEAN::CR2::SET);
    }

    /// Returns DR6.
    pub(crate) fn dr6(&self) -> u64 {
        self.save().dr6
    }

    /// Returns DR7.
    pub(crate) fn dr7(&self) -> u64 {
        self.save().dr7
    }

    /// Sets DR6.
    pub(crate) fn set_dr6(&mut self, value: u64) {
        self.save_mut().dr6 = value;
        self.changed(CLEAN::DEBUG_REGISTERS::SET);
    }

    /// Returns the privilege level: 3 is user code.
    pub(crate) fn cpl(&self) -> u8 {
        self.save().cpl & 3
    }

    /// Returns the size of the code that runs.
    pub(crate) fn code_size(&self) -> CodeSize {
        let attributes = self.save().cs.attributes;
        if self.is_long_mode() && attributes & ATTRIBUTE_LONG != 0 {
            CodeSize::Bits64
        } else if attributes & ATTRIBUTE_BIG != 0 {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    fn is_long_mode(&self) -> bool {
        bits::<EFER::Register>(self.efer()).is_set(EFER::LMA)
    }

    /// Returns where a segment starts.
    pub(crate) fn segment_base(&self, name: SegmentName) -> u64 {
        let save = self.save();
        let is_flat = self.code_size() == CodeSize::Bits64;
        match name {
            SegmentName::Fs => save.fs.base,
            SegmentName::Gs => save.gs.base,
            _ if is_flat => 0,
            SegmentName::Es => save.es.base,
            SegmentName::Cs => save.cs.base,
            SegmentName::Ss => save.ss.base,
            SegmentName::Ds => save.ds.base,
        }
    }

    /// Returns the bytes of the instruction that faulted, if the CPU tells them: of
    /// other exits they may be those of an earlier one.
    pub(crate) fn fetched(&self) -> Option<&[u8]> {
        let control = &self.vmcb().control;
        let count = usize::from(control.fetched & 15);
        let has_faulted = control.exit_code == exit::NESTED_PAGE_FAULT;
        (self.features.has_decode_assists && has_faulted && count != 0)
            .then(|| control.fetched_bytes.get(..count))?
    }

    /// Tells whether the guest takes an interrupt now.
    #[inline]
    pub(crate) fn can_interrupt(&self) -> bool {
        let control = &self.vmcb().control;
        bits::<RFLAGS::Register>(self.rflags()).is_set(RFLAGS::INTERRUPT)
            && !bits::<SHADOW::Register>(control.shadow).is_set(SHADOW::ACTIVE)
            && !self.has_event()
    }

    /// Tells whether the guest takes an NMI now that is in none: the hardware delivers
    /// it behind STI and MOV to SS as well.
    pub(crate) fn can_take_nmi(&self) -> bool {
        true
    }

    /// Tells whether something is delivered on the next entry.
    #[inline]
    pub(crate) fn has_event(&self) -> bool {
        bits::<EVENT::Register>(self.vmcb().control.event).is_set(EVENT::VALID)
            || self.virtual_event().is_some()
    }

    /// Delivers an event on the next entry.
    pub(crate) fn inject(&mut self, event: Event) {
        match event {
            Event::Interrupt(vector) if self.features.is_emulated => {
                self.inject_virtual(vector);
            }
            event => self.inject_now(event),
        }
    }

    fn inject_now(&mut self, event: Event) {
        let number = |vector: u8| EVENT::VALID::SET + EVENT::VECTOR.val(vector.into());
        let value = match event {
            Event::Interrupt(vector) => number(vector) + EVENT::KIND::Interrupt,
            Event::Nmi => number(2) + EVENT::KIND::Nmi,
            Event::Exception(Exception { vector, error }) => {
                let exception = number(vector) + EVENT::KIND::Exception;
                match error {
                    None => exception,
                    Some(code) => exception + EVENT::HAS_ERROR::SET + EVENT::ERROR.val(code.into()),
                }
            }
        };
        self.vmcb_mut().control.event = value.value;
    }

    /// Delivers an interrupt on the next entry as a virtual one: it is pending, and
    /// nothing but an interrupt of the host comes before it.
    fn inject_virtual(&mut self, vector: u8) {
        let control = &mut self.vmcb_mut().control;
        let mut vintr = bits::<VINTR::Register>(control.vintr);
        vintr.modify(VINTR::IRQ::SET + VINTR::IGNORE_TPR::SET + VINTR::VECTOR.val(vector.into()));
        control.vintr = vintr.get();
        control.intercept_first &= !FIRST::VINTR::SET.value;
        self.changed(CLEAN::TPR::SET + CLEAN::INTERCEPTS::SET);
    }

    /// Returns the virtual interrupt that the guest has not taken; while a window
    /// is open there is none.
    fn virtual_event(&self) -> Option<u8> {
        let control = &self.vmcb().control;
        let vintr = bits::<VINTR::Register>(control.vintr);
        let is_window = control.intercept_first & FIRST::VINTR::SET.value != 0;
        (vintr.is_set(VINTR::IRQ) && !is_window).then(|| vintr.read(VINTR::VECTOR) as u8)
    }

    /// Takes up an event again whose delivery was interrupted by this exit.
    ///
    /// Software interrupts and breakpoints are executed again, as RIP is still
    /// on them.
    #[inline]
    pub(crate) fn resume_event(&mut self) {
        const BREAKPOINT: u64 = 3;
        const OVERFLOW: u64 = 4;
        let Some(event) = self.interrupted_event() else {
            return;
        };
        // What is pending still will be delivered anew.
        if self.virtual_event().is_some() {
            return;
        }
        let is_software = event.matches_all(EVENT::KIND::Software)
            || event.matches_all(EVENT::KIND::Exception)
                && matches!(event.read(EVENT::VECTOR), BREAKPOINT | OVERFLOW);
        if !is_software {
            self.vmcb_mut().control.event = event.get();
        }
    }

    /// Makes the guest leave as soon as it can take an interrupt of this priority.
    ///
    /// The hardware could compare CR8 with a virtual interrupt's priority. QEMU's
    /// emulation ends when CR8 is written while one waits, so that these writes
    /// leave as long as there is a window.
    pub(crate) fn open_window(&mut self, priority: u8) {
        if let Some(vector) = self.virtual_event() {
            self.inject_now(Event::Interrupt(vector));
        }
        let mut vintr = bits::<VINTR::Register>(self.vmcb().control.vintr);
        let is_masked = u64::from(priority) <= vintr.read(VINTR::TPR);
        let control = &mut self.vmcb_mut().control;
        vintr.modify(
            VINTR::IRQ.val(u64::from(!is_masked))
                + VINTR::IGNORE_TPR::CLEAR
                + VINTR::PRIORITY.val(priority.into()),
        );
        control.vintr = vintr.get();
        match is_masked {
            true => control.intercept_first &= !FIRST::VINTR::SET.value,
            false => control.intercept_first |= FIRST::VINTR::SET.value,
        }
        control.intercept_cr |= CR8_WRITES;
        self.changed(CLEAN::TPR::SET + CLEAN::INTERCEPTS::SET);
    }

    /// Withdraws [`Self::open_window`], unless a virtual interrupt has done so.
    pub(crate) fn close_window(&mut self) {
        self.vmcb_mut().control.intercept_cr &= !CR8_WRITES;
        self.changed(CLEAN::TPR::SET + CLEAN::INTERCEPTS::SET);
        if self.virtual_event().is_some() {
            return;
        }
        let control = &mut self.vmcb_mut().control;
        let mut vintr = bits::<VINTR::Register>(control.vintr);
        vintr.modify(VINTR::IRQ::CLEAR);
        control.vintr = vintr.get();
        control.intercept_first &= !FIRST::VINTR::SET.value;
    }

    /// The local APIC is left to software.
    #[inline]
    pub(crate) fn delivers(&self, _mode: Mode) -> bool {
        false
    }

    /// Is not asked for.
    pub(crate) fn give_apic(&mut self, _mode: Mode, _given: Given) {}

    /// There is nothing to withdraw.
    #[inline]
    pub(crate) fn take_apic(&mut self) {}

    /// Returns CR8.
    #[inline]
    pub(crate) fn task_priority(&self) -> u8 {
        bits::<VINTR::Register>(self.vmcb().control.vintr).read(VINTR::TPR) as u8 & 0xf
    }

    /// Sets CR8.
    #[inline]
    pub(crate) fn set_task_priority(&mut self, priority: u8) {
        let control = &mut self.vmcb_mut().control;
        let mut vintr = bits::<VINTR::Register>(control.vintr);
        vintr.modify(VINTR::TPR.val(priority.into()));
        control.vintr = vintr.get();
        self.changed(CLEAN::TPR::SET);
    }

    /// Makes the guest leave when its NMI ends.
    pub(crate) fn watch_nmi_end(&mut self, watch: NmiWatch) {
        let control = &mut self.vmcb_mut().control;
        match watch {
            NmiWatch::On => control.intercept_first |= FIRST::IRET::SET.value,
            NmiWatch::Off => control.intercept_first &= !FIRST::IRET::SET.value,
        }
        self.changed(CLEAN::INTERCEPTS::SET);
    }

    /// Lets the guest have the debug registers, or makes it leave at the first access.
    pub(crate) fn give_debug(&mut self, to: DebugOwner) {
        self.vmcb_mut().control.intercept_dr = match to {
            DebugOwner::Guest => 0,
            DebugOwner::Nobody => ALL_DEBUG_REGISTERS,
        };
        self.changed(CLEAN::INTERCEPTS::SET);
    }
}

#[cfg(test)]
impl<H: AxVMHal> Svm<H> {
    /// Makes the next entry end like this.
    pub(crate) fn leave_with(&mut self, code: u64, infos: [u64; 2]) {
        let control = &mut self.vmcb_mut().control;
        control.exit_code = code;
        [control.exit_info_1, control.exit_info_2] = infos;
    }

    /// Returns which parts of the block the CPU need not read.
    pub(crate) fn clean(&self) -> u32 {
        self.vmcb().control.clean
    }

    /// Returns the event that the next entry delivers: its kind, vector and error.
    pub(crate) fn event(&self) -> Option<(u64, u64, u64)> {
        let event = bits::<EVENT::Register>(self.vmcb().control.event);
        let parts = [EVENT::KIND, EVENT::VECTOR, EVENT::ERROR].map(|field| event.read(field));
        event.is_set(EVENT::VALID).then_some(parts.into())
    }

    /// Tells whether the event that the next entry delivers has an error code.
    pub(crate) fn has_error_code(&self) -> bool {
        bits::<EVENT::Register>(self.vmcb().control.event).is_set(EVENT::HAS_ERROR)
    }

    /// Returns whether the guest leaves when it can take an interrupt, and when it
    /// writes CR8.
    pub(crate) fn window(&self) -> (bool, bool) {
        let control = &self.vmcb().control;
        let is_open = control.intercept_first & FIRST::VINTR::SET.value != 0;
        (is_open, control.intercept_cr & CR8_WRITES != 0)
    }

    /// Tells whether the guest leaves when it writes CR4.
    pub(crate) fn leaves_for_cr4(&self) -> bool {
        self.vmcb().control.intercept_cr & CR4_WRITES != 0
    }

    /// Tells whether the TLB forgets something on the next entry.
    pub(crate) fn forgets(&self) -> bool {
        self.vmcb().control.tlb_control != tlb::KEEP
    }

    /// Lets the next entry end with what a CPU with assists tells besides.
    pub(crate) fn leave_with_assists(&mut self, next_rip: u64, bytes: [u8; 15]) {
        let control = &mut self.vmcb_mut().control;
        control.next_rip = next_rip;
        (control.fetched, control.fetched_bytes) = (bytes.len() as u8, bytes);
    }

    /// Returns how much the TLB forgets on the next entry.
    pub(crate) fn tlb_control(&self) -> u32 {
        self.vmcb().control.tlb_control
    }

    /// Lets exits say that they interrupted the delivery of an event.
    pub(crate) fn interrupt_delivery(&mut self, event: u64) {
        self.vmcb_mut().control.exit_event = event;
    }

    pub(crate) fn set_dr7(&mut self, value: u64) {
        self.save_mut().dr7 = value;
    }

    pub(crate) fn set_cr3(&mut self, value: u64) {
        self.save_mut().cr3 = value;
    }

    pub(crate) fn set_cr0(&mut self, value: u64) {
        self.save_mut().cr0 = value;
    }
}

fn first_intercepts() -> FieldValue<u32, FIRST::Register> {
    FIRST::INTR::SET
        + FIRST::NMI::SET
        + FIRST::SMI::SET
        + FIRST::INIT::SET
        + FIRST::RDPMC::SET
        + FIRST::CPUID::SET
        + FIRST::RSM::SET
        + FIRST::INVD::SET
        + FIRST::HLT::SET
        + FIRST::INVLPGA::SET
        + FIRST::IOIO_PROT::SET
        + FIRST::MSR_PROT::SET
        + FIRST::FERR_FREEZE::SET
        + FIRST::SHUTDOWN::SET
}

fn second_intercepts() -> FieldValue<u32, SECOND::Register> {
    SECOND::VMRUN::SET
        + SECOND::VMMCALL::SET
        + SECOND::VMLOAD::SET
        + SECOND::VMSAVE::SET
        + SECOND::STGI::SET
        + SECOND::CLGI::SET
        + SECOND::SKINIT::SET
        + SECOND::WBINVD::SET
        + SECOND::MONITOR::SET
        + SECOND::MWAIT::SET
        + SECOND::MWAIT_ARMED::SET
        + SECOND::XSETBV::SET
        + SECOND::RDPRU::SET
}

fn third_intercepts() -> FieldValue<u32, THIRD::Register> {
    THIRD::INVLPGB::SET + THIRD::INVLPGB_ILLEGAL::SET + THIRD::MCOMMIT::SET + THIRD::TLBSYNC::SET
}

fn segment_of(segment: &boot::Segment) -> Segment {
    Segment {
        selector: segment.selector,
        attributes: segment.svm_attributes(),
        limit: segment.limit,
        base: segment.base,
    }
}

fn table_of(table: &boot::DescriptorTable) -> Segment {
    Segment {
        selector: 0,
        attributes: 0,
        limit: table.limit.into(),
        base: table.base,
    }
}
