// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Clears RAM by the machine's own engine, where it has one.
//!
//! Called by whoever clears a VM's memory. On QEMU's `virt` machines the device that
//! hands out firmware's files copies them into RAM by itself, and an item that
//! does not exist reads as zeros of any length: one request instead of a store
//! for each word. Other machines have no such device, and the caller clears.
//! The engine is tried once, on a line of its own, before it is trusted.
//!
//! Spec: QEMU, "Firmware Configuration (fw_cfg) Device", "DMA interface".

use core::{
    ptr,
    sync::atomic::{Ordering, fence},
};

use axconfig::{devices::MMIO_RANGES, plat::PHYS_VIRT_OFFSET};
use kspin::SpinNoIrq;
use spin::Once;

use crate::{init::machine, machine::PhysRange, mem::linear};

/// The register that takes a request's address, and starts it; reads as the signature.
const REQUEST_OFFSET: usize = 16;
const SIGNATURE: u64 = u64::from_be_bytes(*b"QEMU CFG");

const IS_READ: u32 = 1 << 1;
const IS_SELECTING: u32 = 1 << 3;
/// The number of an item that no machine has, where a request has it.
const NO_ITEM: u32 = 0xffff << 16;

/// One request holds the machine up for some milliseconds, not more.
const REQUEST_BYTES: usize = 16 << 20;
const TRIAL_BYTES: usize = 64;

/// What the device reads; its numbers are big-endian.
#[repr(C, align(16))]
struct Request {
    /// What is to be done; 0 once it is.
    control: u32,
    length: u32,
    address: u64,
}

#[repr(align(64))]
struct Trial([u8; TRIAL_BYTES]);

/// The device, and the request that it works on.
struct Engine {
    register: *mut u64,
    request: Request,
}

// SAFETY: the register is mapped on every CPU alike.
unsafe impl Send for Engine {}

static ENGINE: Once<Option<SpinNoIrq<Engine>>> = Once::new();

/// Writes zeros over RAM that nobody else uses; tells whether it could.
///
/// # Safety
/// The range is RAM that the caller owns, and no reference into it exists.
pub unsafe fn clear(range: PhysRange) -> bool {
    let Some(engine) = ENGINE.call_once(Engine::find) else {
        return false;
    };
    (range.start..range.end)
        .step_by(REQUEST_BYTES)
        .all(|start| {
            let bytes = REQUEST_BYTES.min(range.end - start);
            // SAFETY: the range is the caller's.
            unsafe { engine.lock().clear(start, bytes) }
        })
}

impl Engine {
    /// Finds the device and tries it.
    fn find() -> Option<SpinNoIrq<Self>> {
        let registers = machine().fw_cfg?;
        let is_mapped = |&(start, size): &(usize, usize)| {
            start <= registers.start && registers.end <= start + size
        };
        let has_request = registers.size() >= REQUEST_OFFSET + size_of::<u64>();
        if !has_request || !MMIO_RANGES.iter().any(is_mapped) {
            return None;
        }
        let register = linear(registers.start + REQUEST_OFFSET) as *mut u64;
        // SAFETY: a register of the device, mapped linearly for ever.
        if unsafe { register.read_volatile() } != SIGNATURE.to_be() {
            return None;
        }
        let request = Request {
            control: 0,
            length: 0,
            address: 0,
        };
        let mut engine = Self { register, request };
        engine.works().then(|| SpinNoIrq::new(engine))
    }

    fn works(&mut self) -> bool {
        let mut trial = Trial([0xff; TRIAL_BYTES]);
        let start = ptr::from_mut(&mut trial);
        // SAFETY: the trial is on this thread's stack, which is mapped linearly.
        let is_done = unsafe { self.clear(physical(start as usize), TRIAL_BYTES) };
        // SAFETY: as above; the device has written it behind the compiler's back.
        is_done && unsafe { start.read_volatile() }.0 == [0; TRIAL_BYTES]
    }

    /// # Safety
    /// The range is RAM that the caller owns.
    unsafe fn clear(&mut self, start: usize, bytes: usize) -> bool {
        let Ok(length) = u32::try_from(bytes) else {
            return false;
        };
        let request = ptr::from_mut(&mut self.request);
        let wanted = Request {
            control: (NO_ITEM | IS_SELECTING | IS_READ).to_be(),
            length: length.to_be(),
            address: (start as u64).to_be(),
        };
        let at = physical(request as usize) as u64;
        // SAFETY: the request is ours.
        unsafe { request.write_volatile(wanted) };
        fence(Ordering::SeqCst);
        // SAFETY: a register of the device, which works until the write returns, on
        // the range alone.
        unsafe { self.register.write_volatile(at.to_be()) };
        fence(Ordering::SeqCst);
        // SAFETY: as above; the device has written to it behind the compiler's back.
        let done = unsafe { request.read_volatile() };
        done.control == 0
    }
}

/// Returns the physical address of what is mapped linearly.
fn physical(address: usize) -> usize {
    address - PHYS_VIRT_OFFSET
}
