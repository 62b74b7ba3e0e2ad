// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Floating point and vectors come to a CPU when their guest uses them.
//!
//! Called by `vcpu` when the vCPU comes and goes, and by `exit` for illegal
//! instructions. A vCPU comes with both units off in the hypervisor's sstatus, and
//! its illegal instructions come out of the guest. The first one brings floating
//! point, the next one vectors, and the guest tries again; then they are its own
//! affair, and those that mean something else are delegated as ever. A vCPU goes
//! with what it has written; what it has not touched stays where it is.
//! Invariant: a unit that is on in the frame's sstatus holds this vCPU's registers.
//!
//! Spec: RISC-V Privileged, sstatus.FS and VS, "H" extension, hedeleg.

use axvm::AxVMHal;
use tock_registers::interfaces::ReadWriteable;

use crate::{
    entry,
    irqchip::Intc,
    regs::{EXCEPTIONS, HEDELEG, SSTATUS},
    vcpu::RiscvVCpu,
};

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Lets the guest come without its units.
    pub(crate) fn units_enter(&mut self) {
        self.frame
            .sstatus
            .modify(SSTATUS::FS::Off + SSTATUS::VS::Off);
        HEDELEG.modify(EXCEPTIONS::ILLEGAL_INSTRUCTION::CLEAR);
    }

    /// Brings a unit that is not here yet; tells whether there was one.
    #[inline(never)]
    pub(crate) fn bring_unit(&mut self) -> bool {
        let lacks_float = self.frame.sstatus.matches_all(SSTATUS::FS::Off);
        let lacks_vectors =
            self.vector.is_present() && self.frame.sstatus.matches_all(SSTATUS::VS::Off);
        if lacks_float {
            with_float_on(|| {
                // SAFETY: floating point is on, and what is there belongs to nobody.
                unsafe { entry::load_float(&raw const self.float) }
            });
            self.frame.sstatus.modify(SSTATUS::FS::Clean);
        } else if lacks_vectors {
            self.vector.load();
            self.frame.sstatus.modify(SSTATUS::VS::Clean);
        }
        let is_complete = !(lacks_float && lacks_vectors);
        if is_complete && !self.answers_illegal() {
            HEDELEG.modify(EXCEPTIONS::ILLEGAL_INSTRUCTION::SET);
        }
        lacks_float || lacks_vectors
    }

    /// Tells whether illegal instructions of this guest mean interrupt files.
    fn answers_illegal(&self) -> bool {
        !self.host.has_aia && self.harts.intc == Intc::Aia
    }

    /// Takes what the guest wrote of the units that are here.
    ///
    /// Their control in any case: QEMU 7.2 does not make the status dirty when a
    /// guest writes those CSRs.
    pub(crate) fn units_leave(&mut self) {
        let status = self.frame.sstatus;
        if !status.matches_all(SSTATUS::FS::Off) {
            let to = &raw mut self.float;
            with_float_on(|| match status.matches_all(SSTATUS::FS::Dirty) {
                // SAFETY: floating point is on.
                true => unsafe { entry::save_float(to) },
                // SAFETY: as above.
                false => unsafe { entry::save_float_control(to) },
            });
        }
        if !status.matches_all(SSTATUS::VS::Off) {
            self.vector.save(status.matches_all(SSTATUS::VS::Dirty));
        }
        self.frame
            .sstatus
            .modify(SSTATUS::FS::Off + SSTATUS::VS::Off);
    }
}

/// Runs `act` with floating point on, and switches it off again.
fn with_float_on(act: impl FnOnce()) {
    let before = SSTATUS.set_bits(SSTATUS::FS::Dirty.value);
    act();
    SSTATUS.clear_bits(SSTATUS::FS::Dirty.value & !before);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        exit::{self, Step},
        regs::SCAUSE,
        testing::{with_bound_vcpu, with_bound_vcpu_of},
    };
    use tock_registers::interfaces::{Readable, Writeable};

    const ILLEGAL: u64 = 1 << 2;

    /// Lets the guest's instruction be illegal, as any of a unit that is off.
    fn uses_unit<H: AxVMHal>(vcpu: &mut RiscvVCpu<H>) {
        SCAUSE.set(2);
        assert_eq!(exit::handle(vcpu), Step::Resume);
    }

    fn has_float<H: AxVMHal>(vcpu: &RiscvVCpu<H>) -> bool {
        vcpu.frame.sstatus.matches_all(SSTATUS::FS::Clean)
    }

    #[test]
    fn a_vcpu_comes_and_goes_without_its_units() {
        with_bound_vcpu(0, |vcpu| {
            assert!(!has_float(vcpu));
            assert_eq!(HEDELEG.get() & ILLEGAL, 0);
            uses_unit(vcpu);
            assert!(has_float(vcpu));
            vcpu.units_leave();
            assert!(vcpu.frame.sstatus.matches_all(SSTATUS::FS::Off));
            vcpu.units_enter();
            assert_eq!(HEDELEG.get() & ILLEGAL, 0);
        });
    }

    #[test]
    fn the_guest_tries_again_until_it_has_all_units_and_then_on_its_own() {
        with_bound_vcpu(0, |vcpu| {
            vcpu.frame.pc = 0x8020_0000;
            let units = 1 + u32::from(vcpu.vector.is_present());
            for _ in 0..units {
                assert_eq!(HEDELEG.get() & ILLEGAL, 0);
                uses_unit(vcpu);
            }
            assert_eq!(vcpu.frame.pc, 0x8020_0000);
            assert_eq!(HEDELEG.get() & ILLEGAL, ILLEGAL);
            assert!(!vcpu.bring_unit());
        });
    }

    #[test]
    fn what_means_interrupt_files_never_becomes_the_guests_own() {
        with_bound_vcpu_of("aia", 0, |vcpu| {
            while vcpu.bring_unit() {}
            assert_eq!(HEDELEG.get() & ILLEGAL, 0);
        });
    }

    #[test]
    fn a_hart_that_starts_anew_has_no_unit() {
        with_bound_vcpu(0, |vcpu| {
            uses_unit(vcpu);
            vcpu.start_at(axvm::GuestPhysAddr::from_usize(0x8020_0000), 0);
            assert!(!has_float(vcpu));
            assert_eq!(HEDELEG.get() & ILLEGAL, 0);
        });
    }
}
