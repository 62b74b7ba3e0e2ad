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
    sync::atomic::{AtomicBool, Ordering},
};

use axdevice::RawLock;
use axdevice::{AccessFault, AccessWidth, IoDevice, IrqSink};
use axvm::{AxVMHal, CpuPower, GuestPhysAddr, PCpuId, Ram, Request, VCpuControl, vmid::VmTlb};

use crate::{
    entry,
    fence::{Fence, FenceBox},
    irqchip::plic::{Plic, SourceSet, WORDS},
    sbi::{Events, HartSet},
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
    /// The interrupt controller's output.
    external: AtomicBool,
    pub(crate) fences: FenceBox,
    /// The firmware events that happened to it.
    pub(crate) events: Events,
    /// It sleeps by an SBI call.
    pub(crate) is_suspended: AtomicBool,
}

impl<H: AxVMHal> Hart<H> {
    fn new(control: &Arc<VCpuControl<H>>) -> Self {
        Self {
            control: control.clone(),
            software: AtomicBool::new(false),
            external: AtomicBool::new(false),
            fences: FenceBox::default(),
            events: Events::default(),
            is_suspended: AtomicBool::new(false),
        }
    }

    /// Takes a software interrupt that was sent.
    pub(crate) fn take_software(&self) -> bool {
        self.software.load(Ordering::Relaxed) && self.software.swap(false, Ordering::SeqCst)
    }

    /// Tells whether a software interrupt was sent and not taken.
    pub(crate) fn has_software(&self) -> bool {
        self.software.load(Ordering::SeqCst)
    }

    /// Returns the level of the external interrupt.
    pub(crate) fn external(&self) -> bool {
        self.external.load(Ordering::SeqCst)
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
    harts: Vec<Hart<H>>,
    plic: RawLock<Plic>,
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
    ) -> Self {
        let contexts = controls.len().saturating_mul(CONTEXTS_PER_HART);
        Self {
            hal: hal.clone(),
            harts: controls.iter().map(Hart::new).collect(),
            plic: RawLock::new(Plic::new(contexts, EDGE_SOURCES)),
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
    pub(crate) fn get(&self, id: usize) -> Option<&Hart<H>> {
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
        for hart in self.in_set(others) {
            hart.fences.put(fence);
            hart.control.request(Request::Event);
        }
        self.in_set(others).for_each(Hart::wait_for_fences);
    }

    /// Returns a hart's power.
    pub(crate) fn power(&self, id: usize) -> CpuPower {
        self.get(id)
            .map_or(CpuPower::Off, |hart| hart.control.power())
    }

    fn in_set(&self, set: HartSet) -> impl Iterator<Item = &Hart<H>> {
        self.harts
            .iter()
            .filter(move |hart| set.contains(hart.control.id()))
    }

    fn make_look(&self, hart: &Hart<H>, own: Option<usize>) {
        if own != Some(hart.control.id()) {
            hart.control.request(Request::Event);
        }
    }

    /// Uses the interrupt controller, and passes on what changes of its outputs.
    pub(crate) fn with_plic<T>(&self, own: Option<usize>, act: impl FnOnce(&mut Plic) -> T) -> T {
        let were_open = entry::close_interrupts();
        let (result, raised) = {
            let mut plic = self.plic.lock();
            let result = act(&mut plic);
            (result, self.update_outputs(&plic))
        };
        entry::restore_interrupts(were_open);
        if raised != 0 {
            self.harts
                .iter()
                .filter(|hart| raised & hart_bit(hart) != 0)
                .for_each(|hart| self.make_look(hart, own));
        }
        result
    }

    /// Drives each hart's wire; returns those whose wire has gone high.
    fn update_outputs(&self, plic: &Plic) -> u64 {
        let mut raised = 0;
        for hart in &self.harts {
            let context = hart
                .control
                .id()
                .wrapping_mul(CONTEXTS_PER_HART)
                .wrapping_add(SUPERVISOR);
            let is_raised = plic.is_raised(context);
            // Changed by holders of the lock only.
            if hart.external.load(Ordering::Relaxed) == is_raised {
                continue;
            }
            hart.external.store(is_raised, Ordering::SeqCst);
            if is_raised {
                raised |= hart_bit(hart);
            }
        }
        raised
    }
}

fn hart_bit<H: AxVMHal>(hart: &Hart<H>) -> u64 {
    1_u64.wrapping_shl(hart.control.id() as u32)
}

impl<H: AxVMHal> IrqSink for Harts<H> {
    fn set_level(&self, irq: u32, level: bool) {
        self.with_plic(None, |plic| plic.set_level(irq as usize, level));
    }
}

/// Reads a register of the interrupt controller, which takes words only.
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

/// Writes a register of the interrupt controller.
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
        read_plic(&self.0, None, offset, width)
    }

    fn write(&mut self, offset: u64, width: AccessWidth, value: u64) -> Result<(), AccessFault> {
        write_plic(&self.0, None, offset, (width, value))
    }
}
