// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's interrupts in the hardware: list registers, or the virtual IRQ line.
//!
//! Guests that see a GICv3 get theirs by list registers, so that they take and
//! end interrupts without an exit; the two timers' are linked to the hardware's,
//! which the host's GIC then does not end (it ends interrupts in two steps, and
//! this part takes only the first). What a list register held once is made pending
//! there again without a look at the controller's state, which holds it as listed
//! until somebody takes all of them back. Guests that see a GICv2 have their CPU
//! interface emulated, and HCR_EL2.VI is its line; a timer that fired is masked
//! until its interrupt has been served. All calls come with interrupts closed or
//! from `bind` and `unbind`.
//!
//! Spec: Arm GIC Architecture Specification, "GIC support for virtualization".

use axvm::{AxVCpuHal, VCpuId};
use tock_registers::{
    LocalRegisterCopy,
    interfaces::{ReadWriteable, Readable, Writeable},
};

use crate::{
    irqchip::{
        Again, Filled, Gic, PHYSICAL_TIMER, State, VIRTUAL_TIMER, Version, again, fill, fill_one,
        fold, is_of,
    },
    regs::{
        ActivePriorities, CNTP_CTL_EL02, CNTV_CTL_EL02, HCR, HCR_EL2, ICC_DIR_EL1, ICC_EOIR1_EL1,
        ICC_HPPIR1_EL1, ICC_IAR1_EL1, ICC_SGI1R_EL1, ICH_HCR, ICH_HCR_EL2, ICH_VMCR, ICH_VMCR_EL2,
        ICH_VTR, ICH_VTR_EL2, LIST_REGISTERS_MAX, LR, MPIDR, MPIDR_EL1, SGI, TIMER,
        read_list_register, write_list_register,
    },
};

/// The interrupt that list registers raise.
const MAINTENANCE: u32 = 25;
/// No interrupt is pending any more.
const SPECIAL_FIRST: u32 = 1020;
const INTID: u64 = 0xff_ffff;
const SGIS: u32 = 16;
const TIMERS: [u32; 2] = [VIRTUAL_TIMER, PHYSICAL_TIMER];

/// What a host interrupt in the guest was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The guest's own: it goes on.
    Guest,
    /// The host's, with its number as far as it is known.
    Host(u32),
}

/// One vCPU's interrupts.
#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    id: VCpuId,
    /// List registers of this CPU, and how many may hold something.
    lists: usize,
    used: usize,
    /// What was written to those last.
    given: [u64; LIST_REGISTERS_MAX],
    pre_bits: u64,
    vmcr: u64,
    priorities: ActivePriorities,
    /// Which timers are masked by us, in the order of [`TIMERS`].
    masked: [bool; 2],
    /// Whether the state has to be looked at before the next entry.
    pub(crate) is_stale: bool,
}

impl Interrupts {
    pub(crate) fn new(id: VCpuId) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// Comes to a CPU.
    pub(crate) fn bind<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        self.is_stale = true;
        if gic.version() == Version::V2 {
            return;
        }
        let kind = ICH_VTR_EL2.extract();
        self.lists = (kind.read(ICH_VTR::LIST_REGISTERS) as usize).saturating_add(1);
        self.pre_bits = kind.read(ICH_VTR::PRE_BITS).saturating_add(1);
        self.used = 0;
        for index in 0..self.lists {
            write_list_register(index, 0);
        }
        ICH_VMCR_EL2.set(self.vmcr);
        self.priorities.load(self.pre_bits);
        ICH_HCR_EL2.set(0);
    }

    /// Lets list registers interrupt: the guest is about to run.
    pub(crate) fn open<H: AxVCpuHal>(&self, gic: &Gic<H>) {
        if gic.version() == Version::V3 {
            ICH_HCR_EL2.modify(ICH_HCR::EN::SET);
        }
    }

    /// Keeps list registers from interrupting the host, who cannot serve them: their
    /// interrupt would come for ever.
    pub(crate) fn close<H: AxVCpuHal>(&self, gic: &Gic<H>) {
        if gic.version() == Version::V3 {
            ICH_HCR_EL2.modify(ICH_HCR::EN::CLEAR);
        }
    }

    /// Leaves the CPU; nothing of this vCPU stays in its GIC.
    pub(crate) fn unbind<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        if gic.version() == Version::V2 {
            return;
        }
        let mut lists = self.read_lists();
        let linked = gic.look(|state| {
            self.fold(state, &mut lists);
            state.unlink(self.id)
        });
        for intid in TIMERS.into_iter().filter(|intid| linked >> intid & 1 == 1) {
            ICC_DIR_EL1.set(intid.into());
        }
        self.vmcr = ICH_VMCR_EL2.get();
        self.priorities.store(self.pre_bits);
        ICH_HCR_EL2.set(0);
        for index in 0..self.used {
            write_list_register(index, 0);
        }
        self.used = 0;
    }

    /// Makes the hardware show what is pending now.
    pub(crate) fn sync<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        self.is_stale = false;
        match gic.version() {
            Version::V3 => self.sync_lists(gic),
            Version::V2 => self.sync_line(gic),
        }
    }

    /// Takes back what list registers hold; they are filled before the next entry.
    pub(crate) fn take_back<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        if self.used == 0 {
            return;
        }
        let mut lists = self.read_lists();
        gic.look(|state| self.fold(state, &mut lists));
        for index in 0..self.used {
            write_list_register(index, 0);
        }
        self.used = 0;
        self.is_stale = true;
    }

    fn sync_lists<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        let mut lists = self.read_lists();
        let before = self.used;
        let filled = gic.look(|state| {
            self.fold(state, &mut lists);
            fill(state, self.id, in_use(&mut lists, self.lists))
        });
        self.used = lists.iter().take_while(|list| **list != 0).count();
        for (index, list) in lists.iter().enumerate().take(self.used.max(before)) {
            write_list_register(index, *list);
        }
        self.given = lists;
        ICH_HCR_EL2.write(match filled {
            Filled::All => ICH_HCR::EN::SET,
            Filled::Served => ICH_HCR::EN::SET + ICH_HCR::LRENPIE::SET,
            Filled::Waiting => {
                ICH_HCR::EN::SET + ICH_HCR::UIE::SET + ICH_HCR::LRENPIE::SET + ICH_HCR::NPIE::SET
            }
        });
    }

    /// Takes over what the guest has done: first what it ended that was in none of
    /// the list registers, then what these hold.
    fn fold(&self, state: &mut State, lists: &mut [u64]) {
        let ended = ICH_HCR_EL2.read(ICH_HCR::EOI_COUNT);
        if ended != 0 {
            state.end_unlisted(self.id, ended);
            ICH_HCR_EL2.modify(ICH_HCR::EOI_COUNT::CLEAR);
        }
        fold(state, self.id, in_use(lists, self.used));
    }

    fn read_lists(&self) -> [u64; LIST_REGISTERS_MAX] {
        let mut lists = [0; LIST_REGISTERS_MAX];
        for (index, list) in lists.iter_mut().enumerate().take(self.used) {
            *list = read_list_register(index);
        }
        lists
    }

    fn sync_line<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        let is_high = gic.look(|state| {
            self.refresh_timers(state);
            state.signals(self.id)
        });
        match is_high {
            true => HCR_EL2.modify(HCR::VI::SET),
            false => HCR_EL2.modify(HCR::VI::CLEAR),
        }
    }

    /// Finds out what a host interrupt is about, and deals with the guest's own.
    pub(crate) fn on_host_interrupt<H: AxVCpuHal>(&mut self, gic: &Gic<H>) -> Cause {
        if gic.version() == Version::V2 {
            gic.look(|state| self.mask_timers(state));
            self.is_stale = true;
            return Cause::Host(0);
        }
        let intid = (ICC_HPPIR1_EL1.get() & INTID) as u32;
        match intid {
            VIRTUAL_TIMER | PHYSICAL_TIMER => {
                self.link_timer(gic);
                Cause::Guest
            }
            MAINTENANCE => {
                self.is_stale = true;
                Cause::Guest
            }
            SPECIAL_FIRST..=1023 => Cause::Guest,
            other => Cause::Host(other),
        }
    }

    /// Hands a timer's interrupt to the guest, who ends it in the hardware, too.
    fn link_timer<H: AxVCpuHal>(&mut self, gic: &Gic<H>) {
        let acknowledged = ICC_IAR1_EL1.get();
        let intid = (acknowledged & INTID) as u32;
        if intid >= SPECIAL_FIRST {
            return;
        }
        ICC_EOIR1_EL1.set(acknowledged);
        if !TIMERS.contains(&intid) {
            return give_back(intid);
        }
        let id = self.id;
        if !self.is_again(intid) {
            // What the guest ended before may still be listed, and is no news.
            self.take_back(gic);
            self.is_stale |= !self.list(gic, intid, |state| state.link(id, intid));
        }
    }

    /// Makes an SGI pending that this vCPU sends itself.
    pub(crate) fn raise_own_sgi<H: AxVCpuHal>(&mut self, gic: &Gic<H>, intid: u32) {
        let id = self.id;
        if !self.is_again(intid) {
            self.is_stale |= !self.list(gic, intid, |state| state.send_sgi(id, id, intid));
        }
    }

    /// Makes an interrupt pending in the list register that it has, if it has one;
    /// otherwise nothing has happened.
    pub(crate) fn is_again(&mut self, intid: u32) -> bool {
        let mut given = self.given.iter().take(self.used);
        let Some(index) = given.position(|list| is_of(*list, intid)) else {
            return false;
        };
        let given = self.given.get(index).copied().unwrap_or(0);
        match again(given, read_list_register(index)) {
            Again::Pending => true,
            Again::Write(list) => {
                write_list_register(index, list);
                true
            }
            Again::Elsewhere => false,
        }
    }

    /// Changes the state of one interrupt, and gives it the next list register if
    /// there is one and the guest can take it; otherwise all must be looked at.
    #[cold]
    fn list<H: AxVCpuHal>(
        &mut self,
        gic: &Gic<H>,
        intid: u32,
        change: impl FnOnce(&mut State),
    ) -> bool {
        let has_room = self.used < self.lists;
        let mut list = None;
        gic.change_as(self.id, |state| {
            change(state);
            list = has_room.then(|| fill_one(state, self.id, intid)).flatten();
        });
        let (Some(list), Some(given)) = (list, self.given.get_mut(self.used)) else {
            return false;
        };
        write_list_register(self.used, list);
        *given = list;
        self.used = self.used.saturating_add(1);
        true
    }

    /// Masks the timers that fired, and raises their lines.
    fn mask_timers(&mut self, state: &mut State) {
        for (index, intid) in TIMERS.into_iter().enumerate() {
            let control = timer_control(index);
            if is_firing(control) && !control.is_set(TIMER::IMASK) {
                set_timer_control(index, control.get() | TIMER::IMASK::SET.value);
                state.link(self.id, intid);
                self.set_masked(index, true);
            }
        }
    }

    /// Unmasks the timers that need it no more.
    fn refresh_timers(&mut self, state: &mut State) {
        for (index, intid) in TIMERS.into_iter().enumerate() {
            if !self.masked.get(index).copied().unwrap_or(false) {
                continue;
            }
            let control = timer_control(index);
            let was_written = !control.is_set(TIMER::IMASK);
            let is_served = !state.is_linked(self.id, intid);
            if was_written || is_served || !is_firing(control) {
                set_timer_control(index, control.get() & !TIMER::IMASK::SET.value);
                state.end_linked(self.id, intid);
                self.set_masked(index, false);
            }
        }
    }

    fn set_masked(&mut self, index: usize, is_masked: bool) {
        if let Some(masked) = self.masked.get_mut(index) {
            *masked = is_masked;
        }
    }

    /// Tells whether something would end a wait for an interrupt.
    pub(crate) fn has_pending<H: AxVCpuHal>(&mut self, gic: &Gic<H>) -> bool {
        self.sync(gic);
        if gic.version() == Version::V2 {
            return gic.look(|state| state.signals(self.id));
        }
        let interface = ICH_VMCR_EL2.extract();
        let mask = interface.read(ICH_VMCR::PRIORITY_MASK);
        let lists = self.read_lists();
        lists.iter().any(|list| {
            let list = LocalRegisterCopy::<u64, LR::Register>::new(*list);
            let is_enabled = match list.is_set(LR::GROUP) {
                true => interface.is_set(ICH_VMCR::GROUP1),
                false => interface.is_set(ICH_VMCR::GROUP0),
            };
            list.is_set(LR::PENDING) && is_enabled && list.read(LR::PRIORITY) < mask
        })
    }
}

/// Makes an interrupt of the host pending again that came between the look and
/// the acknowledgement: a level comes by itself, an SGI is sent again.
fn give_back(intid: u32) {
    ICC_DIR_EL1.set(intid.into());
    if intid < SGIS {
        let own = MPIDR_EL1.extract();
        let mut sgi = LocalRegisterCopy::<u64, SGI::Register>::new(0);
        sgi.modify(
            SGI::INTID.val(intid.into())
                + SGI::TARGET_LIST.val(1 << (own.read(MPIDR::AFF0) & 15))
                + SGI::RANGE.val(own.read(MPIDR::AFF0) >> 4)
                + SGI::AFF1.val(own.read(MPIDR::AFF1))
                + SGI::AFF2.val(own.read(MPIDR::AFF2))
                + SGI::AFF3.val(own.read(MPIDR::AFF3)),
        );
        ICC_SGI1R_EL1.set(sgi.get());
    }
}

fn in_use(lists: &mut [u64], count: usize) -> &mut [u64] {
    let count = count.min(lists.len());
    lists.get_mut(..count).unwrap_or_default()
}

type Control = LocalRegisterCopy<u64, TIMER::Register>;

fn timer_control(index: usize) -> Control {
    match index {
        0 => CNTV_CTL_EL02.extract(),
        _ => CNTP_CTL_EL02.extract(),
    }
}

fn set_timer_control(index: usize, value: u64) {
    match index {
        0 => CNTV_CTL_EL02.set(value),
        _ => CNTP_CTL_EL02.set(value),
    }
}

fn is_firing(control: Control) -> bool {
    control.is_set(TIMER::ENABLE) && control.is_set(TIMER::ISTATUS)
}
