// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The local APIC of the CPU that runs this, in xAPIC or x2APIC mode.
//!
//! x2APIC is used where CPUID offers it. Register numbers are the x2APIC MSR
//! offsets; in xAPIC mode they are the MMIO offsets divided by 16.
//! Spec: Intel SDM volume 3, "Advanced Programmable Interrupt Controller".

use core::sync::atomic::{AtomicBool, Ordering};

use raw_cpuid::CpuId;
use x86_64::registers::model_specific::Msr;

use crate::mem::linear;

const MMIO_BASE: usize = 0xfee0_0000;
const X2APIC_MSRS: u32 = 0x800;
const APIC_BASE_MSR: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLED: u64 = 1 << 11;

const END_OF_INTERRUPT: u32 = 0x0b;
const SPURIOUS: u32 = 0x0f;
const COMMAND: u32 = 0x30;
const COMMAND_HIGH: u32 = 0x31;
const TIMER: u32 = 0x32;
const LINT0: u32 = 0x35;
const ERROR: u32 = 0x37;
const INITIAL_COUNT: u32 = 0x38;
const CURRENT_COUNT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_1: u32 = 0b1011;
const DELIVERY_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;
const INIT: u32 = 0b101 << 8;
const STARTUP: u32 = 0b110 << 8;
const SPURIOUS_VECTOR: u32 = 0xff;
const ERROR_VECTOR: u32 = 0xfe;

static IS_X2APIC: AtomicBool = AtomicBool::new(false);

/// Returns the APIC id of this CPU, before or after its APIC is enabled.
pub(super) fn id_of_this_cpu() -> usize {
    CpuId::new()
        .get_feature_info()
        .map_or(0, |info| usize::from(info.initial_local_apic_id()))
}

/// Enables this CPU's APIC with its timer masked.
pub(super) fn enable() {
    let has_x2apic = CpuId::new()
        .get_feature_info()
        .is_some_and(|info| info.has_x2apic());
    let mut base = Msr::new(APIC_BASE_MSR);
    let mode = if has_x2apic {
        BASE_X2APIC | BASE_ENABLED
    } else {
        BASE_ENABLED
    };
    // SAFETY: the MSR exists on every CPU with long mode.
    let old = unsafe { base.read() };
    // SAFETY: it only enables the APIC; its address stays.
    unsafe { base.write(old | mode) };
    IS_X2APIC.store(has_x2apic, Ordering::Relaxed);
    write(LINT0, MASKED);
    write(ERROR, ERROR_VECTOR);
    write(TIMER, MASKED);
    write(DIVIDE, DIVIDE_BY_1);
    write(SPURIOUS, SOFTWARE_ENABLE | SPURIOUS_VECTOR);
}

/// Ends the interrupt that is being handled.
pub(super) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Delivers the timer's interrupt as `vector`, once for each count.
pub(super) fn unmask_timer(vector: u8) {
    write(TIMER, vector.into());
}

/// Masks the timer's interrupt.
pub(super) fn mask_timer() {
    write(TIMER, MASKED);
}

/// Starts the timer to count down from `ticks`.
pub(super) fn start_timer(ticks: u32) {
    write(INITIAL_COUNT, ticks);
}

/// Returns what is left of the timer's count.
pub(super) fn timer_count() -> u32 {
    read(CURRENT_COUNT)
}

/// Sends `vector` to the CPU with APIC id `target`.
pub(super) fn send(vector: u8, target: usize) {
    command(target, ASSERT | u32::from(vector));
}

/// Resets the CPU with APIC id `target`.
pub(super) fn send_init(target: usize) {
    command(target, ASSERT | INIT);
}

/// Starts the CPU with APIC id `target` at page `page` of low memory.
pub(super) fn send_startup(page: u8, target: usize) {
    command(target, ASSERT | STARTUP | u32::from(page));
}

fn command(target: usize, order: u32) {
    if IS_X2APIC.load(Ordering::Relaxed) {
        let mut msr = Msr::new(X2APIC_MSRS + COMMAND);
        // SAFETY: the command register sends interrupts; every vector sent is handled.
        unsafe { msr.write((target as u64) << 32 | u64::from(order)) };
        return;
    }
    // An interrupt between the two halves could send with them: keep them together.
    x86_64::instructions::interrupts::without_interrupts(|| {
        write(COMMAND_HIGH, (target as u32) << 24);
        write(COMMAND, order);
        while read(COMMAND) & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
    });
}

fn mmio(register: u32) -> *mut u32 {
    linear(MMIO_BASE + register as usize * 16) as *mut u32
}

fn read(register: u32) -> u32 {
    if IS_X2APIC.load(Ordering::Relaxed) {
        // SAFETY: the APIC is in x2APIC mode, and the register exists.
        return unsafe { Msr::new(X2APIC_MSRS + register).read() } as u32;
    }
    // SAFETY: the APIC's page is mapped as device memory.
    unsafe { mmio(register).read_volatile() }
}

fn write(register: u32, value: u32) {
    if IS_X2APIC.load(Ordering::Relaxed) {
        let mut msr = Msr::new(X2APIC_MSRS + register);
        // SAFETY: the APIC is in x2APIC mode; vectors written are handled.
        unsafe { msr.write(value.into()) };
        return;
    }
    // SAFETY: the APIC's page is mapped as device memory; vectors written are handled.
    unsafe { mmio(register).write_volatile(value) };
}
