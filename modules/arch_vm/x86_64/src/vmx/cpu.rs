// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The instructions of VMX, and what of the host an exit brings back.
//!
//! The VMCS that VMREAD and VMWRITE reach is the one that `load` named last on
//! this CPU. Off the real machine `cpu_fake` stands in.
//!
//! Spec: Intel SDM 3, "VMX Instruction Reference", "Host-State Area".

use core::arch::asm;

/// The instruction failed: there is no VMCS, or its error field says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed;

/// Executes an instruction on the region that begins at this physical address,
/// and makes a result of the flags that it leaves.
macro_rules! on_region {
    ($instruction:literal, $region:expr) => {{
        let region: u64 = $region;
        let (carry, zero): (u8, u8);
        // SAFETY: the region is a frame of the vCPU's that begins with the
        // revision; the instruction reads the address, and what it stores there is
        // the CPU's business.
        unsafe {
            asm!(concat!($instruction, " [{region}]"), "setc {carry}", "setz {zero}",
                region = in(reg) &raw const region,
                carry = out(reg_byte) carry, zero = out(reg_byte) zero);
        }
        match (carry, zero) {
            (0, 0) => Ok(()),
            _ => Err(Failed),
        }
    }};
}

/// Switches VMX operation on, with a region of the caller's.
pub(super) fn switch_on(region: u64) -> Result<(), Failed> {
    on_region!("vmxon", region)
}

/// Switches VMX operation off.
pub(super) fn switch_off() {
    // SAFETY: the caller has switched it on, and has cleared its VMCS.
    unsafe { asm!("vmxoff", options(nostack)) };
}

/// Stores a VMCS and forgets it.
pub(super) fn clear(region: u64) -> Result<(), Failed> {
    on_region!("vmclear", region)
}

/// Makes a VMCS this CPU's.
pub(super) fn load(region: u64) -> Result<(), Failed> {
    on_region!("vmptrld", region)
}

/// Reads a field.
#[inline]
pub(super) fn read(encoding: u32) -> u64 {
    let value: u64;
    // SAFETY: the caller has loaded a VMCS; an unknown field changes nothing.
    unsafe {
        asm!("vmread {}, {}", out(reg) value, in(reg) u64::from(encoding), options(nostack));
    }
    value
}

/// Writes a field.
#[inline]
pub(super) fn write(encoding: u32, value: u64) {
    // SAFETY: as for `read`; what is written takes effect at an entry only.
    unsafe {
        asm!("vmwrite {}, {}", in(reg) u64::from(encoding), in(reg) value, options(nostack));
    }
}

/// How much of the translations is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Those of one guest.
    One(u64),
    /// All.
    All,
}

impl Scope {
    fn operands(self) -> (u64, [u64; 2]) {
        match self {
            Self::One(context) => (1, [context, 0]),
            Self::All => (2, [0, 0]),
        }
    }
}

/// Drops translations that EPT took part in; one guest is named by its pointer.
pub(super) fn drop_extended(scope: Scope) {
    let (kind, descriptor) = scope.operands();
    // SAFETY: dropping translations is always allowed.
    unsafe { asm!("invept {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack)) };
}

/// Drops a guest's own translations; it is named by its identifier.
pub(super) fn drop_linear(scope: Scope) {
    let (kind, descriptor) = scope.operands();
    // SAFETY: as above.
    unsafe { asm!("invvpid {}, [{}]", in(reg) kind, in(reg) &descriptor, options(nostack)) };
}

/// Reads CR2.
pub(super) fn cr2() -> u64 {
    let value;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack)) };
    value
}

/// Writes CR2, which is the guest's: the hypervisor's own faults end it.
pub(super) fn set_cr2(value: u64) {
    // SAFETY: see above.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack)) };
}

/// Reads DR6.
pub(super) fn dr6() -> u64 {
    let value;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, dr6", out(reg) value, options(nomem, nostack)) };
    value
}

/// Writes DR6, which is the guest's: the hypervisor has no breakpoints.
pub(super) fn set_dr6(value: u64) {
    // SAFETY: see above; the upper half, which must be zero, is cut off.
    unsafe { asm!("mov dr6, {}", in(reg) value & 0xffff_ffff, options(nomem, nostack)) };
}

/// Hands the host the NMI that ended the guest's time.
pub(super) fn take_nmi() {
    // SAFETY: the host's handler for NMIs returns.
    unsafe { asm!("int 2") };
}

/// Sets CR0.NE, which VMX wants; a fault of floating point is then an exception.
pub(super) fn set_numeric_errors() {
    const NE: u64 = 1 << 5;
    let old: u64;
    // SAFETY: only reads.
    unsafe { asm!("mov {}, cr0", out(reg) old, options(nomem, nostack)) };
    // SAFETY: the hypervisor uses no floating point.
    unsafe { asm!("mov cr0, {}", in(reg) old | NE, options(nostack)) };
}

/// What an exit restores of this CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    pub(super) cr0: u64,
    pub(super) cr3: u64,
    pub(super) cr4: u64,
    /// ES, CS, SS, DS, FS, GS, TR.
    pub(super) selectors: [u16; 7],
    pub(super) gdt: u64,
    pub(super) idt: u64,
    pub(super) task: u64,
}

/// What SGDT and SIDT store.
#[repr(C, packed)]
#[derive(Clone, Copy, Default)]
struct Table {
    limit: u16,
    base: u64,
}

/// Reads what an exit restores.
pub(super) fn host() -> Host {
    let mut host = Host::default();
    let (mut gdt, mut idt) = (Table::default(), Table::default());
    // SAFETY: only reads registers.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4",
            out(reg) host.cr0, out(reg) host.cr3, out(reg) host.cr4, options(nomem, nostack));
    }
    // SAFETY: both are as large as the instructions store.
    unsafe { asm!("sgdt [{}]", "sidt [{}]", in(reg) &raw mut gdt, in(reg) &raw mut idt) };
    let [es, cs, ss, ds, fs, gs, tr] = &mut host.selectors;
    // SAFETY: only reads registers.
    unsafe {
        asm!(
            "mov {0:x}, es",
            "mov {1:x}, cs",
            "mov {2:x}, ss",
            "mov {3:x}, ds",
            out(reg) * es,
            out(reg) * cs,
            out(reg) * ss,
            out(reg) * ds,
            options(nomem, nostack)
        );
    }
    // SAFETY: only reads registers.
    unsafe {
        asm!(
            "mov {0:x}, fs",
            "mov {1:x}, gs",
            "str {2:x}",
            out(reg) * fs,
            out(reg) * gs,
            out(reg) * tr,
            options(nomem, nostack)
        );
    }
    let tr = *tr;
    (host.gdt, host.idt) = (gdt.base, idt.base);
    host.task = task_base(host.gdt, tr);
    host
}

/// Reads where the task state is from its descriptor.
fn task_base(gdt: u64, selector: u16) -> u64 {
    let at = gdt.wrapping_add(u64::from(selector & !7)) as *const [u64; 2];
    // SAFETY: the selector is in TR, so that its descriptor is in this GDT.
    let [low, high] = unsafe { at.read_unaligned() };
    low >> 16 & 0xff_ffff | low >> 32 & 0xff00_0000 | high << 32
}
