// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The vector registers of a guest.
//!
//! They are in the hardware while their vCPU is bound and here otherwise, where
//! the hart has them at all. Loaded when the vCPU comes, as what another guest
//! left there may not be seen; saved when it goes, if it wrote to them since, and
//! their control in any case.
//! The host uses none of them.
//!
//! Spec: RISC-V Unprivileged, "V" extension; RISC-V Privileged, sstatus.VS.

use alloc::{vec, vec::Vec};

use crate::{entry, regs::SSTATUS};

/// How many registers there are.
const REGISTERS: usize = 32;
/// vtype.vill: the type is none that the hart has.
const ILLEGAL_TYPE: u64 = 1 << 63;

/// One vCPU's vector registers; none where the hart has none.
pub(crate) struct VectorRegisters {
    values: Vec<u8>,
    control: Control,
}

/// The CSRs that go with them, where the assembly expects them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Control {
    start: u64,
    fixed_point: u64,
    length: u64,
    kind: u64,
}

impl Control {
    const AT_RESET: Self = Self {
        start: 0,
        fixed_point: 0,
        length: 0,
        kind: ILLEGAL_TYPE,
    };
}

impl VectorRegisters {
    /// Makes registers of so many bytes each as they are after a reset.
    pub(crate) fn new(register_bytes: usize) -> Self {
        Self {
            values: vec![0; register_bytes.saturating_mul(REGISTERS)],
            control: Control::AT_RESET,
        }
    }

    /// Tells whether there are any.
    pub(crate) fn is_present(&self) -> bool {
        !self.values.is_empty()
    }

    /// Puts them to what they are after a reset.
    pub(crate) fn reset(&mut self) {
        self.values.fill(0);
        self.control = Control::AT_RESET;
    }

    /// Loads them into this hart.
    pub(crate) fn load(&self) {
        if self.is_present() {
            with_vectors_on(|| {
                // SAFETY: vectors are on, the host uses none of them, and there
                // are as many bytes as the hart's registers have.
                unsafe { assembly::load(self.values.as_ptr(), &raw const self.control) }
            });
        }
    }

    /// Takes them from this hart; the values only if they were written.
    pub(crate) fn save(&mut self, is_dirty: bool) {
        if !self.is_present() {
            return;
        }
        with_vectors_on(|| {
            // SAFETY: vectors are on.
            unsafe { assembly::save_control(&raw mut self.control) };
            if is_dirty {
                // SAFETY: vectors are on, and there is room for as many bytes as
                // the hart's registers have.
                unsafe { assembly::save(self.values.as_mut_ptr()) };
            }
        });
    }
}

/// Runs `act` with vectors on, and switches them off again.
fn with_vectors_on<T>(act: impl FnOnce() -> T) -> T {
    let before = SSTATUS.set_bits(SSTATUS::VS::Dirty.value);
    let result = act();
    SSTATUS.clear_bits(SSTATUS::VS::Dirty.value & !before);
    result
}

/// Returns the bytes of one register of this hart, if it has vectors.
pub(crate) fn register_bytes() -> Option<usize> {
    with_vectors_on(entry::vector_bytes).map(|bytes| bytes as usize)
}

/// What must be assembly.
#[cfg(all(target_arch = "riscv64", target_os = "none"))]
mod assembly {
    use core::arch::naked_asm;

    use super::Control;

    /// Saves the CSRs.
    ///
    /// # Safety
    /// sstatus.VS is not off.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn save_control(to: *mut Control) {
        naked_asm!(
            ".option push",
            ".option arch, +v",
            "csrr   t0, vstart",
            "csrr   t1, vcsr",
            "csrr   t2, vl",
            "csrr   t3, vtype",
            "sd     t0, 0(a0)",
            "sd     t1, 8(a0)",
            "sd     t2, 16(a0)",
            "sd     t3, 24(a0)",
            "ret",
            ".option pop",
        )
    }

    /// Saves the registers, whose number the hart's own length fixes, and clears
    /// vstart.
    ///
    /// # Safety
    /// 1. sstatus.VS is not off.
    /// 2. `to` has room for 32 registers.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn save(to: *mut u8) {
        naked_asm!(
            ".option push",
            ".option arch, +v",
            // A whole-register access begins at vstart.
            "csrw   vstart, zero",
            "csrr   t0, vlenb",
            "slli   t0, t0, 3",
            "vs8r.v v0, (a0)",
            "add    a0, a0, t0",
            "vs8r.v v8, (a0)",
            "add    a0, a0, t0",
            "vs8r.v v16, (a0)",
            "add    a0, a0, t0",
            "vs8r.v v24, (a0)",
            "ret",
            ".option pop",
        )
    }

    /// Loads the registers.
    ///
    /// # Safety
    /// 1. sstatus.VS is not off, and what is there belongs to nobody.
    /// 2. `from` has 32 registers.
    #[unsafe(naked)]
    pub(super) unsafe extern "C" fn load(from: *const u8, control: *const Control) {
        naked_asm!(
            ".option push",
            ".option arch, +v",
            "csrw    vstart, zero",
            "csrr    t0, vlenb",
            "slli    t0, t0, 3",
            "vl8re8.v v0, (a0)",
            "add     a0, a0, t0",
            "vl8re8.v v8, (a0)",
            "add     a0, a0, t0",
            "vl8re8.v v16, (a0)",
            "add     a0, a0, t0",
            "vl8re8.v v24, (a0)",
            "ld      t0, 0(a1)",
            "ld      t1, 8(a1)",
            "ld      t2, 16(a1)",
            "ld      t3, 24(a1)",
            "vsetvl  zero, t2, t3",
            "csrw    vcsr, t1",
            "csrw    vstart, t0",
            "ret",
            ".option pop",
        )
    }
}

/// The assembly's place on machines that cannot run it: one set of registers
/// for each test thread.
#[cfg(not(all(target_arch = "riscv64", target_os = "none")))]
mod assembly {
    use super::Control;

    pub(super) unsafe fn save_control(_to: *mut Control) {}

    pub(super) unsafe fn save(_to: *mut u8) {}

    pub(super) unsafe fn load(_from: *const u8, _control: *const Control) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use tock_registers::interfaces::Readable;

    #[test]
    fn a_hart_without_vectors_has_no_registers() {
        assert!(!VectorRegisters::new(0).is_present());
        assert!(VectorRegisters::new(16).is_present());
    }

    #[test]
    fn vectors_are_off_in_the_host_before_and_after() {
        SSTATUS.clear_bits(u64::MAX);
        let mut registers = VectorRegisters::new(16);
        registers.load();
        registers.save(true);
        assert!(SSTATUS.matches_all(SSTATUS::VS::Off));
        let inside = with_vectors_on(|| SSTATUS.matches_all(SSTATUS::VS::Dirty));
        assert!(inside && SSTATUS.matches_all(SSTATUS::VS::Off));
    }

    #[test]
    fn registers_after_a_reset_are_zero_and_of_no_type() {
        let mut registers = VectorRegisters::new(16);
        registers.values.fill(7);
        registers.control.length = 4;
        registers.control.kind = 0;
        registers.reset();
        assert!(registers.values.iter().all(|byte| *byte == 0));
        assert_eq!(registers.values.len(), 512);
        assert_eq!(registers.control, Control::AT_RESET);
    }
}
