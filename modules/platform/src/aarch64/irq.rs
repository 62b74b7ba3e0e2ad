// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupts through GICv2 or GICv3, whichever the device tree names.
//!
//! An interrupt's number is its INTID. GICv3's are ended in two steps (EOI mode
//! 1): a guest's timer that fires in the guest is acknowledged there and ended by
//! the guest. Those timers run in guests only, so that their interrupts are open
//! on each CPU and never come here. With IMO set and TGE clear
//! interrupts are taken to EL2 from EL1 and EL2.
//! Spec: Arm GIC Architecture Specification, v2 and v3/v4.

use arm_gic_driver::{IntId, VirtAddr, v2, v3};
use kspin::SpinNoIrq;
use spin::Once;

use crate::{
    irq::dispatch,
    machine::{InterruptController, Machine},
    mem::linear,
};

enum Gic {
    V2(v2::Gic),
    V3(v3::Gic),
}

static GIC: SpinNoIrq<Option<Gic>> = SpinNoIrq::new(None);

/// The CPU interface of GICv2, used without the lock; not set on GICv3.
static V2_CPU: Once<v2::TrapOp> = Once::new();
const V2_CPU_MASK: usize = 7;

/// What guests cause: list registers, EL1's virtual and physical timers.
const GUEST_IRQS: [usize; 3] = [25, 27, 30];

/// Returns the place of `irq` in the handler table.
pub(crate) const fn slot(irq: usize) -> usize {
    irq
}

/// Sets up the distributor and this CPU's interface.
pub(crate) fn init_primary(machine: &Machine) {
    *GIC.lock() = Some(new_gic(machine.interrupt_controller));
    init_secondary(machine);
}

fn new_gic(controller: InterruptController) -> Gic {
    let mapped = |address| VirtAddr::new(linear(address));
    match controller {
        InterruptController::GicV3 {
            distributor,
            redistributors,
        } => {
            // SAFETY: both frames are mapped for ever, and this is the only driver of them.
            let mut gic = unsafe { v3::Gic::new(mapped(distributor), mapped(redistributors)) };
            gic.init();
            Gic::V3(gic)
        }
        InterruptController::GicV2 {
            distributor,
            cpu_interface,
        } => {
            // SAFETY: both frames are mapped for ever, and this is the only driver of them.
            let mut gic = unsafe { v2::Gic::new(mapped(distributor), mapped(cpu_interface), None) };
            gic.init();
            V2_CPU.call_once(|| gic.cpu_interface().trap_operations());
            Gic::V2(gic)
        }
        other => panic!("the device tree names no GIC that is known here ({other:?})"),
    }
}

/// Sets up this CPU's interface.
pub(crate) fn init_secondary(_machine: &Machine) {
    with_gic(|gic| match gic {
        Gic::V2(gic) => {
            let mut cpu = gic.cpu_interface();
            cpu.init_current_cpu();
            cpu.set_eoi_mode_ns(false);
        }
        Gic::V3(gic) => {
            let mut cpu = gic.cpu_interface();
            cpu.init_current_cpu()
                .expect("the redistributor of this CPU wakes up");
            cpu.set_eoi_mode(true);
        }
    });
    GUEST_IRQS.into_iter().for_each(set_enabled);
}

fn with_gic<R>(act: impl FnOnce(&mut Gic) -> R) -> R {
    act(GIC
        .lock()
        .as_mut()
        .expect("the GIC is set up before interrupts are"))
}

fn intid(irq: usize) -> IntId {
    // SAFETY: the number names an interrupt; the driver checks its range on use.
    unsafe { IntId::raw(irq as u32) }
}

/// Lets `irq` through.
pub(crate) fn set_enabled(irq: usize) {
    with_gic(|gic| match gic {
        Gic::V2(gic) => gic.set_irq_enable(intid(irq), true),
        Gic::V3(gic) => gic.set_irq_enable(intid(irq), true),
    });
}

/// Masks `irq`.
pub(crate) fn set_disabled(irq: usize) {
    with_gic(|gic| match gic {
        Gic::V2(gic) => gic.set_irq_enable(intid(irq), false),
        Gic::V3(gic) => gic.set_irq_enable(intid(irq), false),
    });
}

/// Handles the interrupt that the GIC shows and returns its number.
pub(crate) fn handle(_vector: usize) -> Option<usize> {
    match V2_CPU.get() {
        Some(cpu) => handle_v2(cpu),
        None => handle_v3(),
    }
}

fn handle_v3() -> Option<usize> {
    let id = v3::ack1();
    if id.is_special() {
        return None;
    }
    let irq = id.to_u32() as usize;
    dispatch(irq);
    v3::eoi1(id);
    v3::dir(id);
    Some(irq)
}

fn handle_v2(cpu: &v2::TrapOp) -> Option<usize> {
    let ack = cpu.ack();
    if ack.is_special() {
        return None;
    }
    let (v2::Ack::Other(id) | v2::Ack::SGI { intid: id, .. }) = ack;
    let irq = id.to_u32() as usize;
    dispatch(irq);
    cpu.eoi(ack);
    Some(irq)
}

/// Sends software-generated interrupt `irq` to the CPU of `affinity`.
pub(crate) fn send_ipi(irq: usize, affinity: usize) {
    let sgi = IntId::sgi(irq as u32);
    if V2_CPU.is_completed() {
        send_ipi_v2(sgi, affinity);
    } else {
        let target = v3::Affinity::from_mpidr(affinity as u64);
        v3::send_sgi(sgi, v3::SGITarget::list([target]));
    }
}

fn send_ipi_v2(sgi: IntId, affinity: usize) {
    with_gic(|gic| {
        if let Gic::V2(gic) = gic {
            let list = v2::TargetList::new(&mut [affinity & V2_CPU_MASK].into_iter());
            gic.send_sgi(sgi, v2::SGITarget::TargetList(list));
        }
    });
}
