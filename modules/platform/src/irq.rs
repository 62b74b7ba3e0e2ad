// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupts, as ArceOS registers and dispatches them.
//!
//! The handler table is common; masking, acknowledging and sending are the
//! instruction set's. Handlers run with interrupts closed. Invariant: the
//! controller is told of the end of an interrupt after its handler ran, and an
//! IPI is acknowledged before, so that one sent meanwhile is not lost.

use axconfig::devices::{IPI_IRQ, TIMER_IRQ};
use axplat::{
    impl_plat_interface,
    irq::{HandlerTable, IpiTarget, IrqHandler, IrqIf},
};

use crate::{arch, init::machine};

/// External interrupts, then the CPU-local ones of `arch::irq::slot`.
const SLOTS: usize = 1024 + 64;

static HANDLERS: HandlerTable<SLOTS> = HandlerTable::new();

/// Lets this CPU receive what every CPU must: its timer and IPIs.
pub(crate) fn enable_local() {
    arch::irq::set_enabled(TIMER_IRQ);
    arch::irq::set_enabled(IPI_IRQ);
    arch::time::start();
}

/// Runs the handler of `irq`.
pub(crate) fn dispatch(irq: usize) {
    if !HANDLERS.handle(arch::irq::slot(irq)) {
        log::debug!("interrupt {irq:#x} has no handler");
    }
}

fn send(irq: usize, cpu: usize) {
    match machine().hardware_id(cpu) {
        Some(hardware_id) => arch::irq::send_ipi(irq, hardware_id),
        None => log::warn!("no CPU {cpu} to send an interrupt to"),
    }
}

struct PlatformIrq;

#[impl_plat_interface]
impl IrqIf for PlatformIrq {
    fn set_enable(irq: usize, enabled: bool) {
        if enabled {
            arch::irq::set_enabled(irq);
        } else {
            arch::irq::set_disabled(irq);
        }
    }

    fn register(irq: usize, handler: IrqHandler) -> bool {
        let is_new = HANDLERS.register_handler(arch::irq::slot(irq), handler);
        if is_new {
            arch::irq::set_enabled(irq);
        } else {
            log::warn!("interrupt {irq:#x} has a handler already");
        }
        is_new
    }

    fn unregister(irq: usize) -> Option<IrqHandler> {
        arch::irq::set_disabled(irq);
        HANDLERS.unregister_handler(arch::irq::slot(irq))
    }

    fn handle(irq: usize) -> Option<usize> {
        arch::irq::handle(irq)
    }

    fn send_ipi(irq: usize, target: IpiTarget) {
        match target {
            IpiTarget::Current { cpu_id } | IpiTarget::Other { cpu_id } => send(irq, cpu_id),
            IpiTarget::AllExceptCurrent { cpu_id, .. } => (0..machine().cpu_count())
                .filter(|&cpu| cpu != cpu_id)
                .for_each(|cpu| send(irq, cpu)),
        }
    }
}
