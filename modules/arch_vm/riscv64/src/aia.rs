// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A hart's own view of the advanced interrupt architecture.
//!
//! A guest that has interrupt files uses them by CSRs. Where the hardware has
//! AIA, siselect and stopi are its own (vsiselect, vstopi), and what needs a
//! file traps as a virtual instruction while the vCPU has none of the hardware
//! (`settle` says which).
//! Where it has not, all of them are illegal instructions, which then are never
//! delegated to this guest (`units`). Both come from `exit` to [`use_interrupt_csr`].
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Interrupts for virtual
//! machines (VS level)"; RISC-V Privileged, hstateen0.
//!
//! [`use_interrupt_csr`]: RiscvVCpu::use_interrupt_csr

use axvm::{AxVMHal, ExitKind};
use tock_registers::interfaces::{Readable, Writeable};

use crate::{
    insn::{self, CsrAccess, Effect, Operand},
    irqchip::{
        Intc,
        imsic::csrs::{self, Csr, HartView, Operation},
    },
    regs::{HSTATEEN0, HVICTL, SSTATUS, STATE_ENABLE, VSISELECT},
    vcpu::RiscvVCpu,
};

/// What hstateen0 has of AIA.
const AIA_STATE: u64 =
    STATE_ENABLE::IMSIC::SET.value | STATE_ENABLE::AIA::SET.value | STATE_ENABLE::CSRIND::SET.value;

/// What of AIA a vCPU takes with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interface {
    /// siselect, while it is not in the hardware.
    select: u64,
}

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Brings the hart's AIA state to this CPU.
    pub(crate) fn aia_enters(&mut self) {
        let has_files = self.harts.intc == Intc::Aia;
        if self.host.has_aia {
            self.enter_file();
            VSISELECT.set(self.aia.select);
            self.show_in_stopi();
            if self.host.has_state_enable {
                match has_files {
                    true => HSTATEEN0.set_bits(AIA_STATE),
                    false => HSTATEEN0.clear_bits(AIA_STATE),
                };
            }
        }
    }

    /// Lets the guest's stopi have the external interrupt that hvip shows.
    ///
    /// It would without this, as the least urgent, but does not in QEMU.
    #[inline(never)]
    pub(crate) fn show_in_stopi(&self) {
        let made_up = HVICTL::IID::SupervisorExternal + HVICTL::IPRIO.val(1);
        HVICTL.set(if self.shows_external {
            made_up.value
        } else {
            0
        });
    }

    /// Takes it from this CPU.
    pub(crate) fn aia_leaves(&mut self) {
        if self.host.has_aia {
            self.aia.select = VSISELECT.get();
            self.leave_file();
        }
    }

    /// Does what an instruction of the guest does to the CSRs of its interrupt
    /// file; false if it is another one, or not allowed.
    pub(crate) fn use_interrupt_csr(&mut self, word: u64) -> bool {
        let is_supervisor = self.frame.sstatus.matches_all(SSTATUS::SPP::Supervisor);
        let access = insn::csr(word as u32).filter(|_| is_supervisor);
        let Some((access, csr)) = access.and_then(|access| Some((access, Csr::of(access.number)?)))
        else {
            return false;
        };
        let Some(old) = self.access_interrupt_csr(csr, self.operation(access)) else {
            return false;
        };
        self.frame.set_gpr(access.to, old);
        self.count(ExitKind::SysReg);
        true
    }

    fn access_interrupt_csr(&mut self, csr: Csr, operation: Operation) -> Option<u64> {
        if self.file_here().is_some() {
            // The hardware does what can be done.
            return None;
        }
        let mut view = HartView {
            select: self.selected(),
            interrupts: self.pending_interrupts(),
        };
        let file = self.harts.imsic.as_ref()?.file(self.id)?;
        let old = csrs::access(file, &mut view, csr, operation).ok()?;
        // Whatever it was, the file may have something else for the hart now.
        self.harts.look_at_file(self.id);
        self.select(view.select);
        Some(old)
    }

    fn operation(&self, access: CsrAccess) -> Operation {
        let value = match access.operand {
            Operand::Register(register) => self.frame.gpr(register),
            Operand::Immediate(value) => value,
        };
        match access.effect {
            Effect::Read => Operation::Read,
            Effect::Write => Operation::Write(value),
            Effect::Set => Operation::Set(value),
            Effect::Clear => Operation::Clear(value),
        }
    }

    fn selected(&self) -> u64 {
        match self.host.has_aia {
            true => VSISELECT.get(),
            false => self.aia.select,
        }
    }

    fn select(&mut self, select: u64) {
        match self.host.has_aia {
            true => VSISELECT.set(select),
            false => self.aia.select = select,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        interrupts::Registers,
        regs::{HVIP, VSIE, VSTIMECMP},
        testing::{with_bound_vcpu, with_bound_vcpu_of},
    };
    use arch_vm_host::testing::StdHost;
    use axdevice::AccessWidth;

    const SISELECT: u64 = 0x150;
    const SIREG: u64 = 0x151;
    const STOPEI: u64 = 0x15c;
    const STOPI: u64 = 0xdb0;
    const EXTERNAL: u64 = 1 << 10;
    const A0: usize = 10;
    const A1: usize = 11;

    type VCpu = RiscvVCpu<StdHost>;

    /// csrrw a0, csr, a1; returns a0.
    fn swap(vcpu: &mut VCpu, csr: u64, value: u64) -> u64 {
        vcpu.frame.set_gpr(A1, value);
        assert!(vcpu.use_interrupt_csr((csr << 20) | 0x5_9573), "{csr:#x}");
        vcpu.frame.gpr(A0)
    }

    /// csrrs a0, csr, x0
    fn read(csr: u64) -> u64 {
        (csr << 20) | 0x2573
    }

    fn open_file(vcpu: &mut VCpu) {
        for (register, value) in [(0x70, 1), (0xc0, u64::MAX)] {
            swap(vcpu, SISELECT, register);
            swap(vcpu, SIREG, value);
        }
        VSTIMECMP.set(u64::MAX);
        VSIE.set(1 << 9);
    }

    fn send(vcpu: &VCpu, hart: u64, identity: u64) {
        let at = (Registers::Files, hart * 0x1000);
        let written = (AccessWidth::Dword, identity);
        vcpu.harts.write_interrupts(Some(1), at, written).unwrap();
    }

    #[test]
    fn a_message_is_shown_until_it_is_claimed() {
        with_bound_vcpu_of("aia", 0, |vcpu| {
            open_file(vcpu);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), 0);
            send(vcpu, 0, 7);
            send(vcpu, 1, 9);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), EXTERNAL);
            assert!(vcpu.use_interrupt_csr(read(STOPI)));
            assert_eq!(vcpu.frame.gpr(A0), 0x9_0001);
            assert_eq!(swap(vcpu, STOPEI, 0), 0x7_0007);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), 0);
            assert_eq!(swap(vcpu, STOPEI, 0), 0, "the other hart's is its own");
        });
    }

    #[test]
    fn a_device_reaches_the_file_that_its_source_is_sent_to() {
        use axdevice::IrqSink;
        with_bound_vcpu_of("aia", 0, |vcpu| {
            open_file(vcpu);
            let target = 0x3004 + 4 * 9;
            // Enabled; level; enabled; identity 10 of hart 0.
            for (offset, value) in [(0, 0x100), (4 * 10, 6), (0x1edc, 10), (target, 10)] {
                let at = (Registers::Aplic, offset);
                let written = (AccessWidth::Dword, value);
                vcpu.harts.write_interrupts(Some(0), at, written).unwrap();
            }
            vcpu.harts.set_level(10, true);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), EXTERNAL);
            assert_eq!(swap(vcpu, STOPEI, 0), 0xa_000a);
        });
    }

    #[test]
    fn an_aplic_without_files_drives_the_hart() {
        use axdevice::IrqSink;
        with_bound_vcpu_of("aplic", 0, |vcpu| {
            let idelivery = 0x4000;
            for (offset, value) in [(0, 0x100), (4 * 10, 6), (0x1edc, 10), (idelivery, 1)] {
                let at = (Registers::Aplic, offset);
                let written = (AccessWidth::Dword, value);
                vcpu.harts.write_interrupts(Some(0), at, written).unwrap();
            }
            vcpu.harts.set_level(10, true);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), EXTERNAL);
            vcpu.harts.set_level(10, false);
            vcpu.show_pending();
            assert_eq!(HVIP.get(), 0);
        });
    }

    #[test]
    fn only_a_supervisor_with_files_has_the_registers() {
        let is_known = |vcpu: &mut VCpu| vcpu.use_interrupt_csr(read(STOPI));
        assert!(!with_bound_vcpu(0, is_known));
        assert!(!with_bound_vcpu_of("aplic", 0, is_known));
        assert!(with_bound_vcpu_of("aia", 0, is_known));
        let by_user = with_bound_vcpu_of("aia", 0, |vcpu| {
            vcpu.frame.sstatus.modify(SSTATUS::SPP::User);
            is_known(vcpu)
        });
        assert!(!by_user);
    }

    #[test]
    fn accesses_that_are_no_words_are_refused() {
        with_bound_vcpu_of("aia", 0, |vcpu| {
            let harts = &vcpu.harts;
            for registers in [Registers::Aplic, Registers::Files] {
                let half = (AccessWidth::Word, 1);
                assert!(harts.write_interrupts(None, (registers, 0), half).is_err());
                let odd = (registers, 2);
                assert!(
                    harts
                        .read_interrupts(None, odd, AccessWidth::Dword)
                        .is_err()
                );
                let own = (registers, 0);
                assert!(harts.read_interrupts(None, own, AccessWidth::Dword).is_ok());
            }
        });
    }

    #[test]
    fn each_machine_has_its_registers_where_qemu_has_them() {
        let at = |intc: &str, address| {
            with_bound_vcpu_of(intc, 0, |vcpu| vcpu.harts.interrupt_registers(address))
        };
        assert_eq!(at("plic", 0x0d00_0000), None);
        assert_eq!(at("plic", 0x2800_0000), None);
        assert_eq!(at("aplic", 0x0d00_0000), Some((Registers::Aplic, 0)));
        assert_eq!(at("aplic", 0x2800_0000), None);
        assert_eq!(at("aia", 0x0d00_7ffc), Some((Registers::Aplic, 0x7ffc)));
        assert_eq!(at("aia", 0x2800_1000), Some((Registers::Files, 0x1000)));
        assert_eq!(at("aia", 0x2800_2000), None, "there are two harts");
        assert_eq!(at("aia", 0x0c00_0000), None);
    }
}
