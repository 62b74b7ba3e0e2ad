// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What a vCPU is interrupted by, and how that reaches its guest.
//!
//! Interrupts of the local APIC and of the 8259 pair are injected when the guest
//! can take them; otherwise a window is opened, at which it leaves. Called by
//! `vcpu` before an entry whenever something may have changed, and by `handle`
//! for the local APIC's registers. The local APIC is the vCPU's own; what others
//! send waits in its inbox until the vCPU looks.
//!
//! A CPU that waits for a startup, or in HLT, does not enter its guest.
//!
//! Spec: AMD64 APM 2, "Virtual Interrupts", "Event Injection"; Intel SDM 3,
//! "Multiple-Processor Initialization", "Handling Multiple NMIs".

use axdevice::PowerRequest;
use axvm::{
    AccessWidth, AxVCpuExitReason as Leave, AxVMHal, ExitKind, GuestPhysAddr, Request, Result,
    VCpuId,
};

use crate::{
    backend::{Backend, NmiWatch},
    debug::{DR6_BREAKPOINTS, DR6_STEP},
    exit::Event,
    fabric::Starts,
    handle::Step,
    irqchip::lapic::{self, Effect, LocalApic, Mode, NEVER, Signals, Time},
    pc::boot::BootState,
    regs::{self, Msr, RFLAGS},
    timer::GuestTime,
    vcpu::VCpu,
};

const PRIORITY_SHIFT: u32 = 4;

/// One vCPU's interrupts.
pub(crate) struct Interrupts<H: AxVMHal> {
    pub(crate) apic: LocalApic<H>,
    /// What is pending may differ from what the guest was shown.
    pub(crate) is_stale: bool,
    /// It waits in HLT.
    pub(crate) is_halted: bool,
    /// It waits for a startup.
    waits_for_startup: bool,
    has_window: bool,
    has_nmi: bool,
    in_nmi: bool,
    /// Where it is about to return from its NMI.
    returns_at: Option<u64>,
    /// It leaves behind the instruction that returns.
    steps_out: bool,
    /// CR8 as the guest last left it.
    shown_priority: u8,
    /// Others that this vCPU has started and that are switched off.
    starts: Starts,
    /// When the host was asked to interrupt the guest.
    armed_ns: u64,
}

impl<H: AxVMHal> Interrupts<H> {
    /// Makes what a vCPU has at power-on.
    pub(crate) fn new(hal: &H, id: VCpuId) -> Result<Self> {
        Ok(Self {
            apic: LocalApic::new(hal, id as u32)?,
            is_stale: true,
            is_halted: false,
            waits_for_startup: id != 0,
            has_window: false,
            has_nmi: false,
            in_nmi: false,
            returns_at: None,
            steps_out: false,
            shown_priority: 0,
            starts: 0,
            armed_ns: NEVER,
        })
    }

    /// Forgets what a CPU that starts anew does not have.
    pub(crate) fn restart(&mut self) {
        self.is_stale = true;
        self.is_halted = false;
        self.has_window = false;
        self.has_nmi = false;
        self.in_nmi = false;
        self.returns_at = None;
        self.steps_out = false;
        self.shown_priority = 0;
    }

    /// The guest's NMI has ended.
    pub(crate) fn nmi_ends(&mut self) {
        self.in_nmi = false;
        self.returns_at = None;
        self.is_stale = true;
    }

    /// The vCPU comes to a CPU whose timer is not set for it.
    pub(crate) fn forget_alarm(&mut self) {
        self.armed_ns = NEVER;
    }

    /// Tells whether what is pending must be looked at.
    #[inline]
    pub(crate) fn must_look(&self) -> bool {
        self.is_stale || self.apic.is_stale()
    }
}

/// The time as a guest's local APIC sees it.
struct Now<'a, H> {
    hal: &'a H,
    time: &'a GuestTime,
    tsc_offset: u64,
}

impl<H: AxVMHal> Time for Now<'_, H> {
    fn now_ns(&self) -> u64 {
        self.hal.current_time_nanos()
    }

    fn tsc(&self) -> u64 {
        regs::tsc().wrapping_add(self.tsc_offset)
    }

    fn ns_at_tsc(&self, tsc: u64) -> u64 {
        self.time.host_ns_when(tsc, self.tsc_offset)
    }
}

impl<H: AxVMHal, B: Backend<H>> VCpu<H, B> {
    /// Looks at everything that can interrupt the guest.
    #[inline(never)]
    pub(crate) fn show_interrupts(&mut self) -> Step {
        self.interrupts.is_stale = false;
        if let Some(signals) = self.interrupts.apic.take_signals() {
            self.take_signals(signals);
        }
        if let Some(step) = self.start_next() {
            return step;
        }
        if self.interrupts.waits_for_startup {
            return self.keep_waiting();
        }
        if self.interrupts.has_nmi {
            self.show_nmi();
        }
        self.show_vectors();
        match self.interrupts.is_halted {
            true => self.keep_waiting(),
            false => Step::Resume,
        }
    }

    fn keep_waiting(&mut self) -> Step {
        self.interrupts.is_stale = true;
        Step::Leave(Leave::Halt)
    }

    /// Injects an NMI, or has the guest leave when it can take it.
    fn show_nmi(&mut self) {
        let returns_at = self.interrupts.returns_at;
        if returns_at.is_some_and(|at| at != self.backend.rip()) {
            self.interrupts.nmi_ends();
        }
        match (self.interrupts.in_nmi, self.backend.has_event()) {
            (false, false) if self.backend.can_take_nmi() => self.inject_nmi(),
            (false, false) => self.backend.watch_nmi_end(NmiWatch::On),
            // It is interrupted as soon as what comes first was delivered.
            (false, true) => self.control.request(Request::Event),
            (true, _) if returns_at.is_some() => self.step_out(),
            (true, _) => {}
        }
    }

    /// The guest is about to return from its NMI, and takes no other before it has:
    /// each would find the frame of the last one still on the stack.
    pub(crate) fn nmi_returns(&mut self) -> Step {
        self.backend.watch_nmi_end(NmiWatch::Off);
        self.interrupts.returns_at = Some(self.backend.rip());
        self.interrupts.is_stale = true;
        Step::Resume
    }

    /// Has the guest leave behind one instruction, which brings flags of its own.
    fn step_out(&mut self) {
        self.interrupts.steps_out = true;
        let flags = self.backend.rflags() | RFLAGS::TRAP::SET.value;
        self.backend.set_rflags(flags);
    }

    /// Takes a #DB that is nobody's but [`Self::step_out`]'s; tells whether it was.
    pub(crate) fn has_stepped_out(&mut self) -> bool {
        if !core::mem::take(&mut self.interrupts.steps_out) {
            return false;
        }
        self.interrupts.nmi_ends();
        let dr6 = self.backend.dr6() & !DR6_STEP;
        self.backend.set_dr6(dr6);
        dr6 & DR6_BREAKPOINTS == 0
    }

    fn inject_nmi(&mut self) {
        self.interrupts.has_nmi = false;
        self.interrupts.in_nmi = true;
        self.interrupts.returns_at = None;
        self.interrupts.is_halted = false;
        self.backend.inject(Event::Nmi);
        self.backend.watch_nmi_end(NmiWatch::On);
    }

    /// Injects the highest vector, and opens a window for what cannot be taken yet,
    /// be it that CR8 has to fall first.
    fn show_vectors(&mut self) {
        self.give_apic();
        let mut pending = self.pending();
        if pending.is_some() && self.backend.can_interrupt() {
            self.inject_pending();
            pending = self.pending();
        }
        match pending.or_else(|| self.interrupts.apic.masked_class()) {
            Some(priority) => {
                self.backend.open_window(priority);
                self.interrupts.has_window = true;
            }
            None if self.interrupts.has_window => {
                self.backend.close_window();
                self.interrupts.has_window = false;
            }
            None => {}
        }
    }

    /// Lets the hardware deliver the local APIC's vectors, where it does that.
    #[inline]
    fn give_apic(&mut self) {
        let mode = self.interrupts.apic.enabled_mode();
        if !self.backend.delivers(mode) {
            self.interrupts.apic.take_back();
            return self.backend.take_apic();
        }
        let given = self.interrupts.apic.give();
        self.backend.give_apic(mode, given);
        let is_halted = self.interrupts.is_halted;
        if is_halted && self.interrupts.apic.is_due() && self.backend.can_interrupt() {
            self.interrupts.is_halted = false;
        }
    }

    /// The hardware has ended an interrupt that somebody else waits for.
    pub(crate) fn level_ends(&mut self, vector: u8) -> Step {
        self.machine.fabric.end(vector);
        self.interrupts.is_stale = true;
        self.count(ExitKind::SysReg)
    }

    /// The hardware has written a register of the local APIC for the guest.
    pub(crate) fn apic_written(&mut self, offset: u64) -> Step {
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        let effect = self.interrupts.apic.written(offset, &now);
        self.follow(effect);
        self.count(ExitKind::SysReg)
    }

    /// Returns the priority of what the guest would take.
    fn pending(&mut self) -> Option<u8> {
        if self.machine.fabric.has_external(self.id) {
            return Some(u8::MAX >> PRIORITY_SHIFT);
        }
        let vector = self.interrupts.apic.next()?;
        Some(vector >> PRIORITY_SHIFT)
    }

    fn inject_pending(&mut self) {
        let vector = if self.machine.fabric.has_external(self.id) {
            self.machine.fabric.acknowledge_external()
        } else if let Some(vector) = self.interrupts.apic.next() {
            self.interrupts.apic.acknowledge(vector);
            vector
        } else {
            return;
        };
        self.interrupts.is_halted = false;
        self.backend.inject(Event::Interrupt(vector));
    }

    fn take_signals(&mut self, signals: Signals) {
        let Signals {
            init, startup, nmi, ..
        } = signals;
        if init {
            self.take_init();
        }
        if let Some(page) = startup
            && self.interrupts.waits_for_startup
        {
            self.interrupts.waits_for_startup = false;
            self.start_at(&BootState::sipi(page));
        }
        self.interrupts.has_nmi |= nmi;
    }

    /// Resets this CPU. Without firmware a boot CPU has nowhere to start again.
    fn take_init(&mut self) {
        if self.id == 0 {
            self.machine.power.request(PowerRequest::Reset);
            self.control.request(Request::Look);
            return;
        }
        self.interrupts.apic.reset();
        self.start_at(&BootState::reset());
        self.interrupts.waits_for_startup = true;
    }

    /// Leaves to switch on a vCPU that a startup was sent to.
    fn start_next(&mut self) -> Option<Step> {
        let starts = &mut self.interrupts.starts;
        if *starts == 0 {
            return None;
        }
        let target = starts.trailing_zeros();
        *starts &= starts.wrapping_sub(1);
        self.interrupts.is_stale = true;
        Some(Step::Leave(Leave::CpuUp {
            target_cpu: target.into(),
            // Its inbox knows where it starts.
            entry_point: GuestPhysAddr::from_usize(0),
            arg: 0,
        }))
    }

    /// Returns when the timer interrupts next, on the host's clock.
    pub(crate) fn timer_deadline_ns(&self) -> Option<u64> {
        let deadline_ns = self.interrupts.apic.timer_deadline_ns();
        (deadline_ns != NEVER).then_some(deadline_ns)
    }

    /// Raises the timer's interrupt if it is due, and has the host ring for the next.
    #[inline]
    pub(crate) fn serve_timer(&mut self) {
        let (deadline_ns, armed_ns) = (
            self.interrupts.apic.timer_deadline_ns(),
            self.interrupts.armed_ns,
        );
        if deadline_ns.min(armed_ns) == NEVER {
            return;
        }
        let now_ns = self.machine.hal.current_time_nanos();
        if armed_ns <= now_ns {
            self.interrupts.armed_ns = NEVER;
        }
        if deadline_ns <= now_ns {
            let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
            self.interrupts.apic.poll_timer(&now);
        }
        self.arm_timer();
    }

    /// Has the host interrupt this guest at the timer's deadline, or earlier.
    ///
    /// A deadline that was put off is looked at again when the old one has come.
    #[inline]
    pub(crate) fn arm_timer(&mut self) {
        let deadline_ns = self.interrupts.apic.timer_deadline_ns();
        if deadline_ns < self.interrupts.armed_ns {
            self.interrupts.armed_ns = deadline_ns;
            self.machine.hal.interrupt_at(deadline_ns);
        }
    }

    /// Takes CR8 as the guest left it.
    #[inline]
    pub(crate) fn take_task_priority(&mut self) {
        let priority = self.backend.task_priority();
        if priority != self.interrupts.shown_priority {
            self.interrupts.shown_priority = priority;
            self.interrupts.apic.set_task_class(priority);
        }
    }

    pub(crate) fn has_apic(&self) -> bool {
        self.interrupts.apic.mode() != Mode::Disabled
    }

    #[inline]
    pub(crate) fn is_apic_msr(msr: Msr) -> bool {
        matches!(msr, Msr::APIC_BASE | Msr::TSC_DEADLINE)
            || (Msr::X2APIC_FIRST..=Msr::X2APIC_LAST).contains(&msr)
    }

    pub(crate) fn read_apic_msr(&mut self, msr: Msr) -> Option<u64> {
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        self.interrupts.apic.read_msr(msr.0, &now).ok()
    }

    #[inline]
    pub(crate) fn write_apic_msr(&mut self, msr: Msr, value: u64) -> Option<()> {
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        let effect = self.interrupts.apic.write_msr(msr.0, value, &now).ok()?;
        self.follow(effect);
        Some(())
    }

    /// Writes IA32_TSC_DEADLINE, and tells whether the host would ring too late.
    #[inline]
    pub(crate) fn set_tsc_deadline(&mut self, tsc: u64) -> bool {
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        self.interrupts.apic.set_tsc_deadline(tsc, &now);
        self.interrupts.apic.timer_deadline_ns() < self.interrupts.armed_ns
    }

    /// Takes note that the counter was set: its deadline is at another time.
    pub(crate) fn counter_was_set(&mut self) {
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        self.interrupts.apic.counter_was_set(&now);
        self.arm_timer();
    }

    /// Reads the local APIC's page, if it is there.
    pub(crate) fn read_apic_page(
        &mut self,
        address: GuestPhysAddr,
        width: AccessWidth,
    ) -> Option<u64> {
        let offset = self.apic_offset(address)?;
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        Some(self.interrupts.apic.read_page(offset, width, &now))
    }

    /// Writes the local APIC's page, and tells whether it was there.
    pub(crate) fn write_apic_page(
        &mut self,
        address: GuestPhysAddr,
        width: AccessWidth,
        value: u64,
    ) -> bool {
        let Some(offset) = self.apic_offset(address) else {
            return false;
        };
        let now = now(&self.machine.hal, &self.machine.time, self.tsc_offset);
        let effect = self.interrupts.apic.write_page(offset, width, value, &now);
        self.follow(effect);
        true
    }

    fn apic_offset(&self, address: GuestPhysAddr) -> Option<u64> {
        let offset = (address.as_usize() as u64).checked_sub(lapic::PAGE)?;
        let is_there = self.interrupts.apic.mode() == Mode::XApic;
        (is_there && offset < lapic::PAGE_BYTES).then_some(offset)
    }

    /// Does what a write of the local APIC has outside of it.
    #[inline]
    fn follow(&mut self, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Send(message) => {
                let starts = self.machine.fabric.send(message, Some(self.id as u32));
                self.interrupts.starts |= starts;
                self.interrupts.is_stale = true;
            }
            Effect::End(vector) => self.machine.fabric.end(vector),
        }
        let priority = self.interrupts.apic.task_priority() >> PRIORITY_SHIFT;
        if priority != self.interrupts.shown_priority {
            self.interrupts.shown_priority = priority;
            self.backend.set_task_priority(priority);
        }
        self.arm_timer();
    }
}

fn now<'a, H>(hal: &'a H, time: &'a GuestTime, tsc_offset: u64) -> Now<'a, H> {
    Now {
        hal,
        time,
        tsc_offset,
    }
}
