// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One vCPU's control structure, and what the rest of the crate may do with it.
//!
//! A VMCS can be read and written only by the CPU that has loaded it. While the
//! vCPU is bound that is its CPU; otherwise [`Vmx::on`] loads it for a moment. What
//! the VMCS does not hold (CR2, DR6, registers of system calls) is in the CPU
//! while the vCPU is bound, and here otherwise. VMX operation is on exactly while
//! a vCPU is bound, or for that moment.
//!
//! Spec: Intel SDM 3, "Virtual-Machine Control Structures", "VM Entries",
//! "Software Use of the VMCS".

use alloc::sync::Arc;

use axvm::{AxVMHal, HostPhysAddr, PCpuId, Result, vmid::Flush};

use super::{
    Features, Maps, check,
    control_register::Trial,
    controls::EntryControls,
    cpu::{self, Scope},
    entry, exit,
    features::Translation,
    fields::{
        ACTIVITY, CR0_MASK, CR0_SHADOW, CR4_MASK, CR4_SHADOW, ENTRY_CONTROLS, ENTRY_ERROR,
        ENTRY_EVENT, EPT_POINTER, EXCEPTION_BITMAP, EXIT_CONTROLS, GUEST_CR0, GUEST_CR3, GUEST_CR4,
        GUEST_CS, GUEST_DEBUGCTL, GUEST_DR7, GUEST_DS, GUEST_EFER, GUEST_ES, GUEST_FS,
        GUEST_GDTR_BASE, GUEST_GDTR_LIMIT, GUEST_GS, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT, GUEST_LDTR,
        GUEST_PAT, GUEST_RFLAGS, GUEST_RIP, GUEST_RSP, GUEST_SS, GUEST_SYSENTER_CS,
        GUEST_SYSENTER_EIP, GUEST_SYSENTER_ESP, GUEST_TR, INSTRUCTION_ERROR, INTERRUPTIBILITY,
        LINK_POINTER, PENDING_DEBUG, PIN_CONTROLS, PREEMPTION_TIMER, PRIMARY_CONTROLS,
        TPR_THRESHOLD, TSC_OFFSET, VIRTUAL_APIC, VPID,
    },
    host,
    maps::MOVED,
    vmcs,
};
use crate::{
    bytes::put,
    exit::Exit,
    frame::{Frame, RSP},
    frames::{Frames, PAGE_BYTES},
    irqchip::lapic::{Mode, Page},
    pc::boot::BootState,
    regs::{self, CR0, CR4},
    rights::Rights,
    vcpu::VCpu,
};

/// The frames of a vCPU: its VMCS, the CPU's own region.
const FRAMES: usize = 2;
const VMCS: usize = 0;
const OPERATION: usize = 1;

/// #DB and #AC, which could keep a CPU busy for ever, and machine checks.
const EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;
const DR6_AT_RESET: u64 = 0xffff_0ff0;
const DR7_AT_RESET: u64 = 0x400;
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
/// What VMX keeps set; the guest sees its own.
const CR0_KEPT: u64 = CR0::NE::SET.value;
/// What a guest does not change but in its shadow: exits leave NW and CD as it had
/// them, and the host would go on without its cache.
pub(super) const CR0_OWNED: u64 = CR0_KEPT | CR0::NW::SET.value | CR0::CD::SET.value;
pub(super) const CR4_OWNED: u64 = CR4::VMXE::SET.value;
/// Write-back, four levels.
const EPT_POINTER_FLAGS: u64 = 6 | 3 << 3;
const EPT_ACCESSED_DIRTY: u64 = 1 << 6;
/// How many ticks of its timer a guest is given that has interrupts closed: some
/// CPUs do not leave such a guest for a physical interrupt. Exits that end here do
/// not start it anew, as no interrupt comes in between.
const CLOSED_TICKS: u32 = 1 << 14;
const OPEN_TICKS: u32 = u32::MAX;

/// What is reported of an entry without a VMCS: VMX could not be switched on.
const NOT_LOADED: u64 = u64::MAX;

/// What waits for the next entry.
#[derive(Clone, Copy, Default)]
pub(super) struct Pending {
    pub(super) event: u32,
    pub(super) error: u32,
}

/// One vCPU in VMX.
pub(crate) struct Vmx<H: AxVMHal> {
    hal: H,
    pub(super) features: Features,
    rights: Rights,
    /// The VMCS points to it, and to the registers of the local APIC.
    pub(super) maps: Arc<Maps<H>>,
    pub(super) apic: Page<H>,
    /// How the guest reaches the local APIC that the CPU has been given.
    pub(super) apic_mode: Mode,
    frames: Frames<H>,
    /// Which CPU has the VMCS.
    pub(super) here: Option<PCpuId>,
    is_launched: bool,
    pub(super) pending: Pending,
    /// What the CPU was left to try.
    pub(super) trial: Option<Trial>,
    /// What the timer was set to, or 0.
    ticks: u32,
    /// CR8 may not fall below it without an exit.
    pub(super) threshold: u8,
    vpid: u16,
    /// The CPUs on which it has been.
    visited: u64,
    ept_pointer: u64,
    /// As of the last exit, or as set since.
    pub(super) rip: u64,
    pub(super) rflags: u64,
    pub(super) cr2: u64,
    pub(super) dr6: u64,
    moved: [u64; MOVED.len()],
}

impl<H: AxVMHal> Vmx<H> {
    /// Makes the structure of a vCPU.
    pub(crate) fn new(
        hal: &H,
        features: Features,
        maps: Arc<Maps<H>>,
        apic: Page<H>,
        rights: Rights,
    ) -> Result<Self> {
        let mut frames = Frames::new(hal, FRAMES)?;
        for region in [VMCS, OPERATION] {
            let start = region.saturating_mul(PAGE_BYTES);
            put(frames.bytes(), start, &features.revision.to_le_bytes());
        }
        let vmx = Self {
            hal: hal.clone(),
            features,
            rights,
            maps,
            apic,
            apic_mode: Mode::Disabled,
            frames,
            here: None,
            is_launched: false,
            pending: Pending::default(),
            trial: None,
            ticks: 0,
            threshold: 0,
            vpid: 1,
            visited: 0,
            ept_pointer: 0,
            rip: 0,
            rflags: 0,
            cr2: 0,
            dr6: DR6_AT_RESET,
            moved: [0; MOVED.len()],
        };
        vmx.on(|| vmx.write_controls());
        Ok(vmx)
    }

    /// Does something with the VMCS loaded.
    pub(super) fn on<T: Default>(&self, act: impl FnOnce() -> T) -> T {
        match self.here {
            Some(cpu) if cpu == self.hal.current_pcpu_id() => act(),
            // Another CPU has it, and only a person looks on.
            Some(_) => T::default(),
            None => {
                let interrupts = regs::close_interrupts();
                let result = self.load().map(|()| {
                    let result = act();
                    self.unload();
                    result
                });
                regs::restore_interrupts(interrupts);
                result.unwrap_or_default()
            }
        }
    }

    fn load(&self) -> core::result::Result<(), cpu::Failed> {
        cpu::switch_on(self.frames.physical(OPERATION))?;
        let region = self.frames.physical(VMCS);
        let loaded = cpu::clear(region).and_then(|()| cpu::load(region));
        if loaded.is_err() {
            cpu::switch_off();
        }
        loaded
    }

    /// Stores the VMCS, which was loaded.
    fn unload(&self) {
        // It fails for addresses only, and this one was good for loading.
        let _ = cpu::clear(self.frames.physical(VMCS));
        cpu::switch_off();
    }

    fn write_controls(&self) {
        let features = &self.features;
        vmcs::write(PIN_CONTROLS, features.pin);
        vmcs::write(PRIMARY_CONTROLS, features.primary);
        vmcs::write(EXIT_CONTROLS, features.exit);
        vmcs::write(ENTRY_CONTROLS, features.entry);
        self.write_apic_controls();
        vmcs::write(VIRTUAL_APIC, self.apic.physical());
        vmcs::write(CR0_MASK, CR0_OWNED);
        // What the guest has not got, VMXE included, cannot be set.
        vmcs::write(CR4_MASK, !self.rights.cr4);
        vmcs::write(LINK_POINTER, u64::MAX);
        vmcs::write(VPID, self.vpid);
    }

    /// Sets the root of the nested page tables.
    pub(crate) fn set_nested_root(&mut self, root: HostPhysAddr) {
        let translation = self.features.translation;
        let accessed_dirty = match translation.contains(Translation::ACCESSED_DIRTY) {
            true => EPT_ACCESSED_DIRTY,
            false => 0,
        };
        self.ept_pointer = root.as_usize() as u64 | EPT_POINTER_FLAGS | accessed_dirty;
        self.on(|| vmcs::write(EPT_POINTER, self.ept_pointer));
    }

    /// Puts all registers to where the guest starts.
    pub(crate) fn start(&mut self, state: &BootState) {
        (self.pending, self.trial) = (Pending::default(), None);
        (self.rip, self.rflags) = (state.rip, state.rflags);
        self.moved = [0; MOVED.len()];
        self.on(|| self.write_start(state));
        self.set_cr2(0);
        self.set_dr6(DR6_AT_RESET);
        if self.here.is_some() {
            self.load_moved();
        }
        self.set_task_priority(0);
        // As paging ends: what was found by it may not be where the CPU starts.
        self.set_address_space(self.vpid.into(), Flush::OwnTables);
    }

    fn write_start(&self, state: &BootState) {
        vmcs::write_segment(GUEST_CS, &state.code);
        for fields in [GUEST_SS, GUEST_DS, GUEST_ES, GUEST_FS, GUEST_GS] {
            vmcs::write_segment(fields, &state.data);
        }
        vmcs::write_segment(GUEST_TR, &state.task);
        vmcs::write_segment(GUEST_LDTR, &state.local);
        vmcs::write(GUEST_GDTR_BASE, state.gdt.base);
        vmcs::write(GUEST_GDTR_LIMIT, state.gdt.limit.into());
        vmcs::write(GUEST_IDTR_BASE, state.idt.base);
        vmcs::write(GUEST_IDTR_LIMIT, state.idt.limit.into());
        vmcs::write(GUEST_CR0, state.cr0 & !CR0_OWNED | CR0_KEPT);
        // Whoever enables errors of floating point as exceptions then writes
        // what is there, and does not leave for it.
        vmcs::write(CR0_SHADOW, state.cr0 | CR0_KEPT);
        vmcs::write(GUEST_CR3, state.cr3);
        vmcs::write(GUEST_CR4, state.cr4 | CR4_OWNED);
        vmcs::write(CR4_SHADOW, state.cr4);
        vmcs::write(GUEST_EFER, state.efer);
        vmcs::modify(ENTRY_CONTROLS, |word| with_long_mode(word, state.is_long()));
        vmcs::write(GUEST_RIP, state.rip);
        vmcs::write(GUEST_RFLAGS, state.rflags);
        vmcs::write(GUEST_DR7, DR7_AT_RESET);
        vmcs::write(GUEST_PAT, PAT_AT_RESET);
        vmcs::write(GUEST_DEBUGCTL, 0);
        vmcs::write(GUEST_SYSENTER_CS, 0);
        vmcs::write(GUEST_SYSENTER_ESP, 0);
        vmcs::write(GUEST_SYSENTER_EIP, 0);
        vmcs::write(INTERRUPTIBILITY, 0);
        vmcs::write(ACTIVITY, 0);
        vmcs::write(PENDING_DEBUG, 0);
        vmcs::write(PRIMARY_CONTROLS, self.features.primary);
        vmcs::write(EXCEPTION_BITMAP, EXCEPTIONS);
    }

    /// Comes to this CPU.
    pub(crate) fn bind(&mut self) {
        // Without it the entry fails, which is reported.
        if self.load().is_err() {
            return;
        }
        self.here = Some(self.hal.current_pcpu_id());
        self.is_launched = false;
        self.ticks = 0;
        host::write_host();
        self.forget_older_tables();
        cpu::set_cr2(self.cr2);
        cpu::set_dr6(self.dr6);
        self.load_moved();
    }

    /// Leaves this CPU.
    pub(crate) fn unbind(&mut self) {
        if self.here.is_none() {
            return;
        }
        self.cr2 = cpu::cr2();
        self.dr6 = cpu::dr6();
        self.moved = MOVED.map(regs::read_msr);
        self.unload();
        self.here = None;
    }

    /// Drops, on the first visit to this CPU, what older tables with the same
    /// root have left there.
    fn forget_older_tables(&mut self) {
        let cpu = self.here.map_or(0, |cpu| cpu.0 as u32);
        let bit = 1_u64.wrapping_shl(cpu);
        if self.visited & bit == 0 {
            self.visited |= bit;
            let by_pointer = self.features.translation.contains(Translation::INVEPT_ONE);
            cpu::drop_extended(match by_pointer {
                true => Scope::One(self.ept_pointer),
                false => Scope::All,
            });
        }
    }

    pub(super) fn load_moved(&self) {
        for (msr, value) in MOVED.into_iter().zip(self.moved) {
            regs::write_msr(msr, value);
        }
    }

    /// Sets the address space identifier, and drops what the TLB must forget.
    pub(crate) fn set_address_space(&mut self, id: u32, flush: Flush) {
        self.vpid = u16::try_from(id).unwrap_or(1);
        self.on(|| vmcs::write(VPID, self.vpid));
        match flush {
            _ if self.here.is_none() => {}
            Flush::None => {}
            Flush::OwnTables => cpu::drop_linear(self.linear_scope()),
            Flush::Everything => {
                cpu::drop_extended(Scope::All);
                cpu::drop_linear(Scope::All);
            }
        }
    }

    fn linear_scope(&self) -> Scope {
        match self.features.translation.contains(Translation::INVVPID_ONE) {
            true => Scope::One(self.vpid.into()),
            false => Scope::All,
        }
    }

    /// Sets what the guest's time-stamp counter is ahead of this CPU's.
    pub(crate) fn set_tsc_offset(&mut self, offset: u64) {
        self.on(|| vmcs::write(TSC_OFFSET, offset));
    }

    /// Runs the guest until it leaves, and says why.
    ///
    /// # Safety
    ///
    /// 1. The vCPU is bound to this CPU, and interrupts are closed.
    /// 2. Its nested page tables map what is the guest's.
    #[inline]
    pub(crate) unsafe fn run(vcpu: &mut VCpu<H, Self>) -> Exit {
        // SAFETY: 1 and 2 are the caller's.
        unsafe { vcpu.backend.enter(&mut vcpu.frame) }
    }

    /// Does the same for the general registers in a frame.
    ///
    /// # Safety
    ///
    /// As for [`Self::run`].
    #[inline]
    pub(super) unsafe fn enter(&mut self, frame: &mut Frame) -> Exit {
        if self.here.is_none() {
            return Exit::Failed(NOT_LOADED);
        }
        self.deliver_pending();
        self.bound_time();
        self.check_threshold();
        vmcs::write(GUEST_RSP, frame.get(RSP));
        // SAFETY: 1 and 2 are the caller's; `new` has set the controls and `bind`
        // has written the host's state.
        if !unsafe { entry::enter(frame, self.is_launched) } {
            let error = vmcs::read(INSTRUCTION_ERROR);
            return Exit::Failed(check::refusal(error, self.task_priority()));
        }
        frame.set(RSP, vmcs::read(GUEST_RSP));
        self.rip = vmcs::read(GUEST_RIP);
        self.rflags = vmcs::read(GUEST_RFLAGS);
        match exit::decode() {
            Exit::Failed(reason) => Exit::Failed(reason),
            exit => {
                self.is_launched = true;
                if exit == Exit::Host {
                    self.ticks = 0;
                }
                self.finish(exit, frame)
            }
        }
    }

    fn deliver_pending(&mut self) {
        let pending = core::mem::take(&mut self.pending);
        if pending.event != 0 {
            vmcs::write(ENTRY_EVENT, pending.event);
            vmcs::write(ENTRY_ERROR, pending.error);
        }
    }

    /// Drops a threshold that CR8 has fallen below: an entry would fail.
    fn check_threshold(&mut self) {
        if self.threshold > self.task_priority() {
            self.set_threshold(0);
        }
    }

    pub(super) fn set_threshold(&mut self, threshold: u8) {
        self.threshold = threshold;
        self.on(|| vmcs::write(TPR_THRESHOLD, threshold.into()));
    }

    fn bound_time(&mut self) {
        let ticks = match self.has_interrupts_open() {
            true => OPEN_TICKS,
            false => CLOSED_TICKS,
        };
        if ticks != self.ticks {
            self.ticks = ticks;
            vmcs::write(PREEMPTION_TIMER, ticks);
        }
    }
}

pub(super) fn with_long_mode(word: u32, is_long: bool) -> u32 {
    let mut controls = EntryControls::from_bits_retain(word);
    controls.set(EntryControls::LONG_MODE, is_long);
    controls.bits()
}
