// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the harts of one VM share, and how they reach each other.
//!
//! Held by the machine and by each of its vCPUs. Each hart has wires that others
//! drive (software and external interrupt) and a box of fences; a vCPU looks at
//! its own before each entry. Whoever changes something that a hart must see
//! sets it first and then asks the hart to look.
//!
//! Locks are taken with interrupts closed, as vCPUs take them so: whoever holds
//! one is not switched out.

use alloc::{sync::Arc, vec::Vec};
use core::{
    hint,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use axdevice::RawLock;
use axdevice::{AccessFault, AccessWidth, IoDevice, IrqSink};
use axvm::{
    AxVCpuHal, AxVMHal, CpuPower, GuestPhysAddr, HostPhysAddr, HostVirtAddr, PCpuId, Ram, Request,
    VCpuControl, stage2::LivePages, vmid::VmTlb,
};

use crate::{
    entry,
    fence::{Fence, FenceBox},
    files::FileOwner,
    irqchip::{
        Intc,
        aplic::{Aplic, Delivery},
        imsic::{Identities, Imsic, InterruptFile},
        plic::{Plic, SourceSet, WORDS},
    },
    sbi::{Events, HartSet},
    stage2::Mode,
    timer::GuestTime,
};

/// The contexts of each hart: machine mode's, which nobody uses, and supervisor's.
pub(crate) const CONTEXTS_PER_HART: usize = 2;
const SUPERVISOR: usize = 1;
/// All devices of the machine drive levels.
const EDGE_SOURCES: SourceSet = [0; WORDS];

/// One hart as others see it.
pub(crate) struct Hart<H: AxVMHal> {
    pub(crate) control: Arc<VCpuControl<H>>,
    /// A software interrupt was sent and not shown to the guest yet.
    software: AtomicBool,
    pub(crate) fences: FenceBox,
    /// The firmware events that happened to it.
    pub(crate) events: Events,
    /// It sleeps by an SBI call.
    pub(crate) is_suspended: AtomicBool,
    /// Its software interrupt file, if it has files.
    file: Option<Arc<InterruptFile>>,
    /// Where its messages go instead; held while one is on its way.
    pub(crate) page: RawLock<Option<MessagePage>>,
}

/// A page of the hardware that takes messages for a hart.
pub(crate) struct MessagePage(HostVirtAddr);

impl MessagePage {
    /// Makes it from the page of a guest interrupt file.
    pub(crate) fn at(hal: &impl AxVCpuHal, page: HostPhysAddr) -> Self {
        Self(hal.phys_to_virt(page))
    }

    /// Sends a message there.
    pub(crate) fn send(&self, identity: u32) {
        let register = core::ptr::with_exposed_provenance_mut::<u32>(self.0.as_usize());
        // SAFETY: the host maps its files' pages for ever, and a write to one
        // changes that file only, which is the hart's while this is.
        unsafe { register.write_volatile(identity.to_le()) }
    }
}

impl<H: AxVMHal> FileOwner for Hart<H> {
    fn message_waits(&self) {
        self.control.request(Request::Event);
    }

    fn software_file(&self) -> Option<&InterruptFile> {
        self.file.as_deref()
    }
}

impl<H: AxVMHal> Hart<H> {
    fn new(control: &Arc<VCpuControl<H>>, imsic: Option<&Imsic>) -> Self {
        Self {
            file: imsic.and_then(|imsic| imsic.file(control.id()).cloned()),
            page: RawLock::new(None),
            control: control.clone(),
            software: AtomicBool::new(false),
            fences: FenceBox::default(),
            events: Events::default(),
            is_suspended: AtomicBool::new(false),
        }
    }

    /// Takes a software interrupt that was sent.
    #[inline]
    pub(crate) fn take_software(&self) -> bool {
        self.software.load(Ordering::Relaxed) && self.software.swap(false, Ordering::SeqCst)
    }

    /// Tells whether a software interrupt was sent and not taken.
    pub(crate) fn has_software(&self) -> bool {
        self.software.load(Ordering::SeqCst)
    }

    /// Waits until the hart has left its guest or carried its fences out.
    fn wait_for_fences(&self) {
        while self.control.resides_on().is_some() && self.fences.is_full() {
            hint::spin_loop();
        }
    }
}

/// The harts of one VM and what is between them.
pub(crate) struct Harts<H: AxVMHal> {
    pub(crate) hal: H,
    harts: Vec<Arc<Hart<H>>>,
    pub(crate) intc: Intc,
    plic: RawLock<Plic>,
    /// In the place of the PLIC.
    pub(crate) aplic: RawLock<Aplic>,
    /// The interrupt files, if the harts have some.
    pub(crate) imsic: Option<Imsic>,
    /// The files' pages in stage 2, if the hardware has files for guests.
    pub(crate) live_pages: Option<LivePages<H, Mode>>,
    /// The interrupt controller's outputs, a bit for each context; of interrupt
    /// files, that they may have something for the hart.
    pub(crate) raised: AtomicU64,
    ram: Arc<Ram<H>>,
    pub(crate) tlb: VmTlb,
    pub(crate) time: GuestTime,
}

impl<H: AxVMHal> Harts<H> {
    /// Makes the harts that `controls` reach.
    pub(crate) fn new(
        hal: &H,
        controls: &[Arc<VCpuControl<H>>],
        ram: &Arc<Ram<H>>,
        time: GuestTime,
        (intc, live): (Intc, Option<LivePages<H, Mode>>),
    ) -> Self {
        let delivery = match intc {
            Intc::Aia => Delivery::Msi,
            Intc::Plic | Intc::Aplic => Delivery::Direct,
        };
        let imsic = (intc == Intc::Aia).then(|| Imsic::new(controls.len(), Identities::VIRT));
        let new_hart = |control| Arc::new(Hart::new(control, imsic.as_ref()));
        let contexts = controls.len().saturating_mul(CONTEXTS_PER_HART);
        Self {
            hal: hal.clone(),
            harts: controls.iter().map(new_hart).collect(),
            intc,
            plic: RawLock::new(Plic::new(contexts, EDGE_SOURCES)),
            aplic: RawLock::new(Aplic::new(delivery, controls.len())),
            imsic,
            live_pages: live,
            raised: AtomicU64::new(0),
            ram: ram.clone(),
            tlb: VmTlb::new(),
            time,
        }
    }

    /// Returns how many there are.
    pub(crate) fn count(&self) -> usize {
        self.harts.len()
    }

    /// Returns a hart.
    pub(crate) fn get(&self, id: usize) -> Option<&Arc<Hart<H>>> {
        self.harts.get(id)
    }

    /// Tells whether a range is wholly RAM.
    pub(crate) fn is_ram(&self, start: GuestPhysAddr, size_bytes: usize) -> bool {
        self.ram.contains(start, size_bytes)
    }

    /// Returns the machine's RAM.
    pub(crate) fn ram(&self) -> &Ram<H> {
        &self.ram
    }

    /// Returns the CPU that the caller runs on.
    pub(crate) fn pcpu(&self) -> PCpuId {
        self.hal.current_pcpu_id()
    }

    /// Sends software interrupts.
    // Not inlined, as `fast`, which never comes here, would pay for its registers.
    #[inline(never)]
    pub(crate) fn send_ipi(&self, targets: HartSet) {
        for hart in self.in_set(targets) {
            hart.software.store(true, Ordering::SeqCst);
            hart.control.request(Request::Event);
        }
    }

    /// Lets harts other than the caller's carry a fence out before their next
    /// instruction; when this returns, none is in its guest without having done so.
    #[inline(never)]
    pub(crate) fn fence_others(&self, others: HartSet, fence: Fence) {
        self.fill_and_wait(others, |fences| fences.put(fence));
    }

    /// Lets harts other than the caller's take the VM's new VMID before their next
    /// instruction; none is in its guest with the old one when this returns.
    pub(crate) fn renew_vmid_of(&self, others: HartSet) {
        self.fill_and_wait(others, FenceBox::ask_for_vmid);
    }

    fn fill_and_wait(&self, others: HartSet, fill: impl Fn(&FenceBox)) {
        for hart in self.in_set(others) {
            fill(&hart.fences);
            hart.control.request(Request::Event);
        }
        self.in_set(others).for_each(|hart| hart.wait_for_fences());
    }

    /// Returns a hart's power.
    pub(crate) fn power(&self, id: usize) -> CpuPower {
        self.get(id)
            .map_or(CpuPower::Off, |hart| hart.control.power())
    }

    fn in_set(&self, set: HartSet) -> impl Iterator<Item = &Arc<Hart<H>>> {
        self.harts
            .iter()
            .filter(move |hart| set.contains(hart.control.id()))
    }

    /// Uses the interrupt controller, and passes on what changes of its outputs.
    ///
    /// Interrupts are closed, so that nobody on this CPU finds it locked.
    #[inline]
    pub(crate) fn with_plic<T>(&self, own: Option<usize>, act: impl FnOnce(&mut Plic) -> T) -> T {
        let (result, risen) = self.change_plic(act);
        if risen != 0 {
            self.make_look(risen, own);
        }
        result
    }

    /// Uses the interrupt controller, and returns the contexts that have risen.
    #[inline]
    fn change_plic<T>(&self, act: impl FnOnce(&mut Plic) -> T) -> (T, u64) {
        let mut plic = self.plic.lock();
        let before = plic.raised();
        let result = act(&mut plic);
        let now = plic.raised();
        if now != before {
            // Under the lock, so that the last change is what stays; who must see
            // it is asked to look afterwards, which orders this.
            self.raised.store(now, Ordering::Relaxed);
        }
        (result, now & !before)
    }

    /// Returns the level of a hart's external interrupt.
    #[inline]
    pub(crate) fn external(&self, id: usize) -> bool {
        let raised = self.raised.load(Ordering::Relaxed);
        raised & output(id) != 0 && (self.intc != Intc::Aia || self.is_file_raised(id))
    }

    /// Asks the harts of these contexts to look, but not the one that does this.
    #[inline(never)]
    pub(crate) fn make_look(&self, contexts: u64, own: Option<usize>) {
        for hart in &self.harts {
            let id = hart.control.id();
            if contexts & output(id) != 0 && own != Some(id) {
                hart.control.request(Request::Event);
            }
        }
    }
}

/// Returns the bit of a hart's supervisor context.
#[inline]
pub(crate) fn output(id: usize) -> u64 {
    let context = id.wrapping_mul(CONTEXTS_PER_HART).wrapping_add(SUPERVISOR);
    1_u64.wrapping_shl(context as u32)
}

impl<H: AxVMHal> IrqSink for Harts<H> {
    fn set_level(&self, irq: u32, level: bool) {
        if self.intc != Intc::Plic {
            return self.drive_aplic(irq as usize, level);
        }
        let set = |plic: &mut Plic| plic.set_level(irq as usize, level);
        let ((), risen) = closed(|| self.change_plic(set));
        if risen != 0 {
            self.make_look(risen, None);
        }
    }
}

/// Runs `act` with interrupts closed.
pub(crate) fn closed<T>(act: impl FnOnce() -> T) -> T {
    let were_open = entry::close_interrupts();
    let result = act();
    entry::restore_interrupts(were_open);
    result
}

/// Reads a register of the interrupt controller, which takes words only;
/// interrupts are closed.
pub(crate) fn read_plic<H: AxVMHal>(
    harts: &Harts<H>,
    own: Option<usize>,
    offset: u64,
    width: AccessWidth,
) -> Result<u64, AccessFault> {
    match width {
        AccessWidth::Dword if offset.is_multiple_of(4) => {
            Ok(u64::from(harts.with_plic(own, |plic| plic.read(offset))))
        }
        _ => Err(AccessFault),
    }
}

/// Writes a register of the interrupt controller; interrupts are closed.
pub(crate) fn write_plic<H: AxVMHal>(
    harts: &Harts<H>,
    own: Option<usize>,
    offset: u64,
    access: (AccessWidth, u64),
) -> Result<(), AccessFault> {
    match access {
        (AccessWidth::Dword, value) if offset.is_multiple_of(4) => {
            harts.with_plic(own, |plic| plic.write(offset, value as u32));
            Ok(())
        }
        _ => Err(AccessFault),
    }
}

/// The interrupt controller on the bus, for accesses that are not a vCPU's own.
pub(crate) struct PlicPort<H: AxVMHal>(pub(crate) Arc<Harts<H>>);

impl<H: AxVMHal> IoDevice for PlicPort<H> {
    fn read(&mut self, offset: u64, width: AccessWidth) -> Result<u64, AccessFault> {
        closed(|| read_plic(&self.0, None, offset, width))
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        closed(|| write_plic(&self.0, None, offset, (width, value)))
    }
}
