// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One physical hart's virtualization.
//!
//! The hypervisor makes one on each CPU and enables it before the first VM.
//! What it sets is the same for all guests and stays: delegation, counters,
//! environment. Guests' user-mode traps and page faults are delegated, so that
//! they never leave the guest.
//!
//! Spec: RISC-V Privileged, "H" extension, hedeleg, hideleg, hgatp, henvcfg.

use axvm::{AxArchPerCpu, Error, PCpuId, Result};
use tock_registers::interfaces::{Readable, Writeable};

use crate::{
    entry, files,
    host::{self, Probed},
    regs::{
        COUNTERS, EXCEPTIONS, HCOUNTEREN, HEDELEG, HENVCFG, HGATP, HGEIE, HIDELEG, HIE, HSTATEEN0,
        HSTATUS, HVICTL, HVIEN, HVIP, HVIPRIO1, HVIPRIO2, HYPERVISOR_INTERRUPTS, STATE_ENABLE,
        VS_INTERRUPTS, VSIE,
    },
    stage2::Mode,
    vcpu::VMIDS,
    vector,
};

/// A physical hart that can run guests.
pub struct RiscvPerCpu {
    is_enabled: bool,
}

impl AxArchPerCpu for RiscvPerCpu {
    fn describe_machine(device_tree: Option<&[u8]>) -> Result<()> {
        let missing = Error::Unsupported("its firmware hands over no device tree");
        host::describe(device_tree.ok_or(missing)?)
    }

    fn new() -> Result<Self> {
        if !entry::has_hypervisor() {
            return Err(Error::Unsupported("it has no hypervisor extension"));
        }
        let probed = probe().ok_or(Error::Unsupported("it has no stage-2 translation"))?;
        VMIDS.set_count(probed.vmids);
        host::note(probed)?;
        Ok(Self { is_enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    fn hardware_enable(&mut self) -> Result<()> {
        let host = host::host()?;
        VSIE.set(0);
        HVIP.set(0);
        HGEIE.set(0);
        HGATP.set(0);
        HSTATUS.write(HSTATUS::VSXL::Xlen64 + HSTATUS::VTW::SET + HSTATUS::SPVP::Supervisor);
        delegate();
        HCOUNTEREN.write(COUNTERS::CYCLE::SET + COUNTERS::TIME::SET + COUNTERS::INSTRET::SET);
        HENVCFG.set(host.environment);
        if host.has_state_enable {
            HSTATEEN0.write(STATE_ENABLE::ENVCFG::SET + STATE_ENABLE::SE0::SET);
        }
        if host.has_aia {
            clear_priorities();
        }
        if host.files.is_some() {
            HIE.set_bits(HYPERVISOR_INTERRUPTS::GUEST_EXTERNAL::SET.value);
        }
        entry::fence_all_guests();
        self.is_enabled = true;
        Ok(())
    }

    fn hear(cpu: PCpuId) {
        files::hear(cpu);
    }

    fn hardware_disable(&mut self) -> Result<()> {
        HIE.set(0);
        HIDELEG.set(0);
        HEDELEG.set(0);
        HGATP.set(0);
        HSTATUS.write(HSTATUS::VSXL::Xlen64);
        entry::fence_all_guests();
        self.is_enabled = false;
        Ok(())
    }
}

/// Lets guests' interrupts have their default priorities, and none be made up.
fn clear_priorities() {
    HVIEN.set(0);
    HVICTL.set(0);
    HVIPRIO1.set(0);
    HVIPRIO2.set(0);
}

fn delegate() {
    HEDELEG.write(
        EXCEPTIONS::FETCH_MISALIGNED::SET
            + EXCEPTIONS::ILLEGAL_INSTRUCTION::SET
            + EXCEPTIONS::BREAKPOINT::SET
            + EXCEPTIONS::LOAD_MISALIGNED::SET
            + EXCEPTIONS::STORE_MISALIGNED::SET
            + EXCEPTIONS::USER_ECALL::SET
            + EXCEPTIONS::FETCH_PAGE_FAULT::SET
            + EXCEPTIONS::LOAD_PAGE_FAULT::SET
            + EXCEPTIONS::STORE_PAGE_FAULT::SET,
    );
    HIDELEG.write(
        VS_INTERRUPTS::SOFTWARE::SET + VS_INTERRUPTS::TIMER::SET + VS_INTERRUPTS::EXTERNAL::SET,
    );
}

/// Tries what this hart's registers hold.
fn probe() -> Option<Probed> {
    let stage2 = Mode::ALL
        .into_iter()
        .filter(|mode| host::asked_stage2().is_none_or(|asked| asked == *mode))
        .find(|mode| holds_mode(*mode))?;
    let environment = HENVCFG.swap(u64::MAX);
    let found = HENVCFG.swap(environment);
    Some(Probed {
        stage2,
        vmids: vmids(stage2),
        environment: found,
        has_aia: entry::has_aia(),
        guest_files: guest_files(),
        vector_bytes: vector::register_bytes(),
    })
}

/// Counts the bits of hgeie that can be written.
fn guest_files() -> usize {
    HGEIE.set(u64::MAX);
    HGEIE.swap(0).count_ones() as usize
}

fn holds_mode(mode: Mode) -> bool {
    HGATP.write(mode.field());
    let holds = HGATP.matches_all(mode.field());
    HGATP.set(0);
    holds
}

/// Returns how many VMIDs can be written.
fn vmids(mode: Mode) -> u64 {
    HGATP.write(mode.field() + HGATP::VMID.val(u64::MAX));
    let bits = HGATP.read(HGATP::VMID).count_ones();
    HGATP.set(0);
    // Entries that the trial may have made are dropped when the hart is enabled.
    1 << bits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{regs::limit, testing::machine};

    const HGATP: u16 = 0x680;

    /// Lets this thread's hart have these modes of hgatp, and so many bits of VMID.
    fn hart_with(modes: &'static [u64], vmid_bits: u32) {
        limit(HGATP, move |old, written| {
            let has_mode = written >> 60 == 0 || modes.contains(&(written >> 60));
            let vmids = ((1 << vmid_bits) - 1) << 44;
            match has_mode {
                true => written & (0xf << 60 | vmids | ((1 << 44) - 1)),
                false => old,
            }
        });
    }

    #[test]
    fn the_smallest_format_that_a_hart_has_is_taken() {
        let offers: [(&[u64], _); 5] = [
            (&[8, 9, 10], Some(Mode::Sv39x4)),
            (&[9, 10], Some(Mode::Sv48x4)),
            (&[9], Some(Mode::Sv48x4)),
            (&[10], Some(Mode::Sv57x4)),
            (&[], None),
        ];
        for (modes, taken) in offers {
            hart_with(modes, 7);
            assert_eq!(probe().map(|probed| probed.stage2), taken, "{modes:?}");
        }
    }

    #[test]
    fn a_hart_without_vmids_has_one_for_all() {
        for bits in [0, 1, 7, 14] {
            hart_with(&[9], bits);
            assert_eq!(probe().unwrap().vmids, 1 << bits);
        }
    }

    #[test]
    fn what_a_guests_user_does_never_leaves_the_guest() {
        let _tells_of_the_host = machine();
        let mut cpu = RiscvPerCpu { is_enabled: false };
        cpu.hardware_enable().unwrap();
        let misaligned = (1 << 0) | (1 << 4) | (1 << 6);
        let instructions = (1 << 2) | (1 << 3) | (1 << 8);
        let page_faults = (1 << 12) | (1 << 13) | (1 << 15);
        assert_eq!(HEDELEG.get(), misaligned | instructions | page_faults);
        // Software, timer and external interrupts of the guest.
        assert_eq!(HIDELEG.get(), (1 << 2) | (1 << 6) | (1 << 10));
        cpu.hardware_disable().unwrap();
        assert_eq!((HEDELEG.get(), HIDELEG.get()), (0, 0));
    }
}
