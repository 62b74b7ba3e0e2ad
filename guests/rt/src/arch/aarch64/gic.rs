// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The interrupt controller, GICv2 or GICv3, as far as SGIs and PPIs go.
//!
//! Called by `irq`, and by guests that take interrupts themselves. All interrupts are in group 1 (GICv3) or left in the only
//! group there is for us (GICv2), with one priority. SPIs are not used.
//!
//! Spec: Arm GIC Architecture Specification, GICv2 (IHI 0048) "GICD_", "GICC_";
//! GICv3/v4 (IHI 0069) "GICR_", "ICC_".

use core::sync::atomic::{AtomicU8, Ordering};
use spin::Once;

use super::{sysreg_read, sysreg_write};
use crate::cpu;
use crate::firmware::arm::Gic;
use crate::machine::{Failure, MAX_CPUS, Region};
use crate::wait;

/// Number of the interrupt, below 16 an SGI, below 32 a PPI.
pub type InterruptId = u32;
/// From here on numbers mean that nothing is pending.
pub const SPECIAL: InterruptId = 1020;

const PRIORITY: u8 = 0x80;

// Offsets that the distributor of GICv2 and the second frame of a GICv3
// redistributor have in common.
const GROUP: usize = 0x080;
const ENABLE: usize = 0x100;
const PRIORITIES: usize = 0x400;

mod v2 {
    pub const CONTROL: usize = 0x000;
    pub const TARGETS: usize = 0x800;
    pub const GENERATE: usize = 0xf00;
    pub const CPU_CONTROL: usize = 0x00;
    pub const CPU_PRIORITY_MASK: usize = 0x04;
    pub const ACKNOWLEDGE: usize = 0x0c;
    pub const END: usize = 0x10;
    pub const DEACTIVATE: usize = 0x1000;
    pub const ENABLE: u32 = 1;
    pub const SPLIT_END: u32 = 1 << 9;
}

mod v3 {
    pub const CONTROL: usize = 0x000;
    pub const AFFINITY_ROUTING_GROUP_1: u32 = 1 << 4 | 1 << 1;
    pub const TYPE_LOW: usize = 0x008;
    pub const TYPE_AFFINITY: usize = 0x00c;
    pub const WAKER: usize = 0x014;
    pub const PROCESSOR_SLEEP: u32 = 1 << 1;
    pub const CHILDREN_ASLEEP: u32 = 1 << 2;
    pub const LAST: u32 = 1 << 4;
    pub const VIRTUAL_LPIS: u32 = 1 << 1;
    pub const FRAME: usize = 0x1_0000;
    pub const SPLIT_END: u64 = 1 << 1;
}

static GIC: Once<Gic> = Once::new();
// GICv2 only: the bit by which each CPU is a target.
static TARGETS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(0) }; MAX_CPUS];

/// Notes which controller the machine has.
pub fn set(gic: Gic) {
    GIC.call_once(|| gic);
}

fn gic() -> Result<&'static Gic, Failure> {
    GIC.get().ok_or(Failure("no GIC"))
}

/// Enables the distributor.
pub fn init_machine() -> Result<(), Failure> {
    match *gic()? {
        Gic::V2 { distributor, .. } => write(distributor + v2::CONTROL, 1),
        Gic::V3 { distributor, .. } => {
            write(distributor + v3::CONTROL, v3::AFFINITY_ROUTING_GROUP_1);
        }
    }
    Ok(())
}

/// Enables this CPU's interface and the private interrupts in `enabled`.
pub fn init_cpu(enabled: u32) -> Result<(), Failure> {
    match *gic()? {
        Gic::V2 {
            distributor,
            cpu_interface,
        } => init_cpu_v2(distributor, cpu_interface, enabled),
        Gic::V3 { redistributors, .. } => return init_cpu_v3(redistributors, enabled),
    }
    Ok(())
}

fn init_cpu_v2(distributor: usize, cpu_interface: usize, enabled: u32) {
    // Each CPU reads itself in the targets of its private interrupts.
    let target = read(distributor + v2::TARGETS) as u8;
    if let Some(own) = TARGETS.get(super::entry::cpu_index()) {
        own.store(target, Ordering::Release);
    }
    set_priorities(distributor);
    write(distributor + ENABLE, enabled);
    write(cpu_interface + v2::CPU_PRIORITY_MASK, 0xff);
    write(cpu_interface + v2::CPU_CONTROL, v2::ENABLE);
}

fn init_cpu_v3(redistributors: Region, enabled: u32) -> Result<(), Failure> {
    let frame = own_redistributor(redistributors).ok_or(Failure("no GICR for this cpu"))?;
    let waker = frame + v3::WAKER;
    write(waker, read(waker) & !v3::PROCESSOR_SLEEP);
    wait::spin_until("GICR does not wake", || {
        read(waker) & v3::CHILDREN_ASLEEP == 0
    })?;
    let private = frame + v3::FRAME;
    write(private + GROUP, u32::MAX);
    set_priorities(private);
    write(private + ENABLE, enabled);
    sysreg_write!("icc_sre_el1", sysreg_read!("icc_sre_el1") | 1);
    sysreg_write!("icc_pmr_el1", 0xff);
    sysreg_write!("icc_igrpen1_el1", 1);
    Ok(())
}

fn own_redistributor(region: Region) -> Option<usize> {
    let own = own_affinity();
    let end = region.end() as usize;
    let mut frame = region.start as usize;
    while frame < end {
        if read(frame + v3::TYPE_AFFINITY) == own {
            return Some(frame);
        }
        let kind = read(frame + v3::TYPE_LOW);
        if kind & v3::LAST != 0 {
            return None;
        }
        let frames = if kind & v3::VIRTUAL_LPIS != 0 { 4 } else { 2 };
        frame += frames * v3::FRAME;
    }
    None
}

// The four affinity levels, packed as in the upper half of GICR_TYPER.
fn own_affinity() -> u32 {
    let mpidr = sysreg_read!("mpidr_el1");
    (mpidr as u32 & 0xff_ffff) | ((mpidr >> 32) as u32 & 0xff) << 24
}

fn set_priorities(base: usize) {
    let four = u32::from_ne_bytes([PRIORITY; 4]);
    for word in 0..8 {
        write(base + PRIORITIES + word * 4, four);
    }
}

/// How this CPU sends an SGI to itself.
pub enum OwnSgi {
    /// By writing this to GICD_SGIR, which is at this address.
    Memory(usize, u32),
    /// By writing this to ICC_SGI1R_EL1.
    SystemRegister(u64),
}

/// Returns how this CPU sends SGI `id` to itself.
pub fn own_sgi(id: InterruptId) -> Result<OwnSgi, Failure> {
    const TO_SELF: u32 = 2 << 24;
    Ok(match *gic()? {
        Gic::V2 { distributor, .. } => OwnSgi::Memory(distributor + v2::GENERATE, TO_SELF | id),
        Gic::V3 { .. } => OwnSgi::SystemRegister(sgi_v3(id, sysreg_read!("mpidr_el1"))),
    })
}

/// Tells whether it is a GICv3.
pub fn is_v3() -> Result<bool, Failure> {
    Ok(matches!(*gic()?, Gic::V3 { .. }))
}

/// Returns the distributor's address.
pub fn distributor() -> Result<usize, Failure> {
    Ok(match *gic()? {
        Gic::V2 { distributor, .. } | Gic::V3 { distributor, .. } => distributor,
    })
}

/// Sends SGI `id` to the CPU with this index.
pub fn send(id: InterruptId, index: usize) -> Result<(), Failure> {
    // What the IPI is about must be seen before the IPI.
    // SAFETY: a barrier changes nothing.
    unsafe { core::arch::asm!("dsb ishst", options(nostack)) };
    match *gic()? {
        Gic::V2 { distributor, .. } => {
            let target = TARGETS
                .get(index)
                .map_or(0, |bit| bit.load(Ordering::Acquire));
            write(distributor + v2::GENERATE, u32::from(target) << 16 | id);
        }
        Gic::V3 { .. } => {
            sysreg_write!("icc_sgi1r_el1", sgi_v3(id, cpu::hardware_id(index).0));
        }
    }
    Ok(())
}

// Affinities 3, 2 and 1, and affinity 0 as a range of sixteen and a bit in it.
fn sgi_v3(id: InterruptId, mpidr: u64) -> u64 {
    let [aff0, aff1, aff2, _, aff3, ..] = mpidr.to_le_bytes().map(u64::from);
    let list = 1 << (aff0 & 0xf) | aff1 << 16 | aff2 << 32;
    list | u64::from(id) << 24 | (aff0 >> 4) << 44 | aff3 << 48
}

/// Takes the most urgent pending interrupt; its raw value goes to [`end`].
pub fn acknowledge() -> u32 {
    match gic() {
        Ok(Gic::V2 { cpu_interface, .. }) => read(cpu_interface + v2::ACKNOWLEDGE),
        _ => sysreg_read!("icc_iar1_el1") as u32,
    }
}

/// Returns the interrupt's number out of what was acknowledged.
pub fn id_of(acknowledged: u32) -> InterruptId {
    match gic() {
        Ok(Gic::V2 { .. }) => acknowledged & 0x3ff,
        _ => acknowledged & 0xff_ffff,
    }
}

/// Says that the interrupt has been dealt with.
pub fn end(acknowledged: u32) {
    match gic() {
        Ok(Gic::V2 { cpu_interface, .. }) => write(cpu_interface + v2::END, acknowledged),
        _ => sysreg_write!("icc_eoir1_el1", u64::from(acknowledged)),
    }
}

/// Lets [`end`] only drop the priority, or deactivate as well.
pub fn set_split_end(is_split: bool) {
    match gic() {
        Ok(Gic::V2 { cpu_interface, .. }) => {
            let mode = if is_split { v2::SPLIT_END } else { 0 };
            write(cpu_interface + v2::CPU_CONTROL, v2::ENABLE | mode);
        }
        _ => sysreg_write!("icc_ctlr_el1", if is_split { v3::SPLIT_END } else { 0 }),
    }
}

/// Deactivates an interrupt whose priority was dropped.
pub fn deactivate(acknowledged: u32) {
    match gic() {
        Ok(Gic::V2 { cpu_interface, .. }) => write(cpu_interface + v2::DEACTIVATE, acknowledged),
        _ => sysreg_write!("icc_dir_el1", u64::from(acknowledged)),
    }
}

/// Lets only interrupts through that are more urgent than this.
pub fn set_priority_mask(priority: u8) {
    match gic() {
        Ok(Gic::V2 { cpu_interface, .. }) => {
            write(cpu_interface + v2::CPU_PRIORITY_MASK, priority.into());
        }
        _ => sysreg_write!("icc_pmr_el1", u64::from(priority)),
    }
}

fn read(address: usize) -> u32 {
    // SAFETY: the device tree says that the GIC is here.
    unsafe { (address as *const u32).read_volatile() }
}

fn write(address: usize, value: u32) {
    // SAFETY: as for `read`; the GIC does not touch memory without LPIs.
    unsafe { (address as *mut u32).write_volatile(value) }
}
