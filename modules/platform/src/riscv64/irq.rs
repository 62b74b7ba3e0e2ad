// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupts of a hart: timer, software (IPI) and external through a PLIC.
//!
//! CPU-local interrupts have the number that scause shows, with the top bit
//! set; others are PLIC sources. On a machine with AIA instead of a PLIC there
//! are no external interrupts, and the console is polled.
//! Spec: RISC-V Privileged, "scause"; RISC-V PLIC; RISC-V SBI, "IPI".

use core::{num::NonZeroU32, ptr::NonNull};

use axconfig::devices::PLIC_PADDR;
use axplat::percpu::this_cpu_id;
use kspin::SpinNoIrq;
use riscv::register::{sie, sip};
use riscv_plic::Plic;
use sbi_rt::HartMask;

use super::front;
use crate::{
    init::machine,
    irq::dispatch,
    machine::{InterruptController, Machine},
    mem::linear,
};

const LOCAL: usize = 1 << (usize::BITS - 1);
const SOFTWARE: usize = LOCAL | 1;
const TIMER: usize = LOCAL | 5;
const EXTERNAL: usize = LOCAL | 9;
const FIRST_LOCAL_SLOT: usize = 1024;
const PRIORITY: u32 = 1;

static PLIC: SpinNoIrq<Option<Plic>> = SpinNoIrq::new(None);

/// Returns the place of `irq` in the handler table.
pub(crate) fn slot(irq: usize) -> usize {
    if irq & LOCAL == 0 {
        irq
    } else {
        FIRST_LOCAL_SLOT + (irq & !LOCAL)
    }
}

/// Sets up the PLIC, if there is one, and this hart's part of it.
pub(crate) fn init_primary(machine: &Machine) {
    if machine.interrupt_controller == InterruptController::Plic {
        let registers = NonNull::new(linear(PLIC_PADDR) as *mut _).expect("not at address 0");
        // SAFETY: the registers are mapped linearly for ever, and this is the only `Plic`.
        *PLIC.lock() = Some(unsafe { Plic::new(registers) });
    }
    init_secondary(machine);
}

/// Sets up this hart's part of the interrupt controller.
pub(crate) fn init_secondary(machine: &Machine) {
    if machine.interrupt_controller == InterruptController::Aia {
        front::install();
    }
    if let Some(plic) = PLIC.lock().as_mut() {
        plic.init_by_context(context());
        // SAFETY: the trap vector is set, and the PLIC shows only what is enabled in it.
        unsafe { sie::set_sext() };
    }
}

/// The supervisor context of this hart: machine and supervisor alternate.
fn context() -> usize {
    let hart = machine()
        .hardware_id(this_cpu_id())
        .expect("this hart is known");
    hart * 2 + 1
}

/// Lets `irq` through.
pub(crate) fn set_enabled(irq: usize) {
    match irq {
        // SAFETY: the trap vector is set; an interrupt without a handler is only logged.
        SOFTWARE => unsafe { sie::set_ssoft() },
        // SAFETY: as above.
        TIMER => unsafe { sie::set_stimer() },
        _ => with_source(irq, |plic, source| {
            plic.set_priority(source, PRIORITY);
            plic.enable(source, context());
        }),
    }
}

/// Masks `irq`.
pub(crate) fn set_disabled(irq: usize) {
    match irq {
        // SAFETY: masking an interrupt has no effect on memory.
        SOFTWARE => unsafe { sie::clear_ssoft() },
        // SAFETY: as above.
        TIMER => unsafe { sie::clear_stimer() },
        _ => with_source(irq, |plic, source| plic.disable(source, context())),
    }
}

fn with_source(irq: usize, act: impl FnOnce(&mut Plic, NonZeroU32)) {
    let source = u32::try_from(irq).ok().and_then(NonZeroU32::new);
    if let (Some(source), Some(plic)) = (source, PLIC.lock().as_mut()) {
        act(plic, source);
    }
}

/// Handles the interrupt that scause shows and returns its real number.
pub(crate) fn handle(cause: usize) -> Option<usize> {
    match cause {
        SOFTWARE => {
            // SAFETY: acknowledged before the handler looks for work, so that none is lost.
            unsafe { sip::clear_ssoft() };
            dispatch(cause);
            Some(cause)
        }
        EXTERNAL => handle_external(),
        _ => {
            dispatch(cause);
            Some(cause)
        }
    }
}

fn handle_external() -> Option<usize> {
    let source = PLIC.lock().as_mut()?.claim(context())?;
    dispatch(source.get() as usize);
    PLIC.lock().as_mut()?.complete(context(), source);
    Some(source.get() as usize)
}

/// Raises the software interrupt of `hart`.
pub(crate) fn send_ipi(_irq: usize, hart: usize) {
    let result = sbi_rt::send_ipi(HartMask::from_mask_base(1, hart));
    if result.is_err() {
        log::warn!("the firmware sends no interrupt to hart {hart}: {result:?}");
    }
}
