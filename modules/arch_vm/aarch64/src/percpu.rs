// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! One physical CPU's virtualization.
//!
//! The hypervisor makes one on each CPU and enables it before the first VM.
//! What it sets is the same for all guests and stays: which debug and
//! performance registers trap, who may use the timers. The host runs at EL2
//! already, so nothing here changes how it runs.
//!
//! Spec: Arm Architecture Reference Manual, MDCR_EL2, CNTHCTL_EL2, HCRX_EL2.

use axvm::{AxArchPerCpu, Error, Result};
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

use crate::{
    entry,
    regs::{
        CNTHCTL, CNTHCTL_EL2, CNTP_CTL_EL02, CNTV_CTL_EL02, CPTR, CPTR_EL2, HAFGRTR_EL2, HCR,
        HCR_EL2, HCRX_EL2, HDFGRTR_EL2, HDFGWTR_EL2, HFGITR_EL2, HFGRTR_EL2, HFGWTR_EL2, HSTR_EL2,
        ICC_SRE_EL2, ICH_HCR_EL2, ID_AA64MMFR0_EL1, ID_AA64MMFR1_EL1, ID_AA64PFR0_EL1, MDCR,
        MDCR_EL2, MDSCR_EL1, MMFR0, MMFR1, OSLAR_EL1, PFR0, ZCR_EL2, flush_all_guests, synchronize,
    },
    vcpu::{VMIDS, has_16_bit_vmids},
};

/// System registers at EL2, and EL1 may turn its own on.
const SRE_ALL: u64 = 0xf;

/// Sixteen times 128 bits, or as much as there is.
const VECTOR_LENGTH_MAX: u64 = 0xf;

/// A physical CPU that can run guests.
pub struct Aarch64PerCpu {
    is_enabled: bool,
}

impl AxArchPerCpu for Aarch64PerCpu {
    fn new() -> Result<Self> {
        if !HCR_EL2.is_set(HCR::E2H) {
            return Err(Error::Unsupported("it does not run with VHE at EL2"));
        }
        VMIDS.set_count(if has_16_bit_vmids() { 1 << 16 } else { 1 << 8 });
        Ok(Self { is_enabled: false })
    }

    fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    fn hardware_enable(&mut self) -> Result<()> {
        entry::remember_host_vectors();
        CNTV_CTL_EL02.set(0);
        CNTP_CTL_EL02.set(0);
        CNTHCTL_EL2.modify(CNTHCTL::EL1PCTEN::SET + CNTHCTL::EL1PTEN::SET);
        HSTR_EL2.set(0);
        OSLAR_EL1.set(0);
        MDSCR_EL1.set(0);
        trap_debug_and_counters();
        lengthen_vectors();
        open_fine_grained_traps();
        if has_gic_registers() {
            ICC_SRE_EL2.set(SRE_ALL);
            ICH_HCR_EL2.set(0);
        }
        synchronize();
        flush_all_guests();
        self.is_enabled = true;
        Ok(())
    }

    fn hardware_disable(&mut self) -> Result<()> {
        flush_all_guests();
        self.is_enabled = false;
        Ok(())
    }
}

/// Tells whether the GIC is reached by system registers: a GICv3.
pub(crate) fn has_gic_registers() -> bool {
    ID_AA64PFR0_EL1.read(PFR0::GIC) != 0
}

fn trap_debug_and_counters() {
    // Debug registers trap until a guest uses them (`debug`); their lock is open.
    // The number of counters is the host's to give, and stays what it is.
    MDCR_EL2.modify(
        MDCR::TPMCR::SET
            + MDCR::TPM::SET
            + MDCR::TDE::CLEAR
            + MDCR::TDA::SET
            + MDCR::TDOSA::SET
            + MDCR::TDRA::SET
            + MDCR::TPMS::SET
            + MDCR::TTRF::SET,
    );
}

/// Lets guests have vectors as long as the CPU's.
fn lengthen_vectors() {
    if ID_AA64PFR0_EL1.read(PFR0::SVE) == 0 {
        return;
    }
    let before = CPTR_EL2.get();
    CPTR_EL2.modify(CPTR::ZEN::Open);
    synchronize();
    ZCR_EL2.set(VECTOR_LENGTH_MAX);
    CPTR_EL2.set(before);
}

/// Where there are finer traps, they trap only what a guest is not told of.
fn open_fine_grained_traps() {
    if ID_AA64MMFR0_EL1.read(MMFR0::FGT) != 0 {
        HFGRTR_EL2.set(0);
        HFGWTR_EL2.set(0);
        HFGITR_EL2.set(0);
        HDFGRTR_EL2.set(0);
        HDFGWTR_EL2.set(0);
        if ID_AA64PFR0_EL1.read(PFR0::AMU) != 0 {
            HAFGRTR_EL2.set(0);
        }
    }
    if ID_AA64MMFR1_EL1.read(MMFR1::HCX) != 0 {
        HCRX_EL2.set(0);
    }
}
