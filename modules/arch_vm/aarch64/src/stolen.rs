// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Stolen time: a page of records that guests can read and we write.
//!
//! It lies where QEMU's machine has it. Each vCPU has a record of 64 bytes;
//! revision and attributes are zero, as the page is after a reset. A guest reads
//! the time whenever it likes, without an exit.
//!
//! Spec: Arm Paravirtualized Time (DEN 0057) 1.0, "Stolen Time".

use axvm::{AxVCpuHal, GuestPhysAddr, RecordPage, StolenTime, VCpuId};

/// Where the guest finds the page.
pub(crate) const PAGE: u64 = 0x090a_0000;
const RECORD_BYTES: u64 = 64;
const RECORDS: u64 = 64;
const STOLEN_NS: usize = 8;

/// Returns the page as a guest address.
pub(crate) fn page() -> GuestPhysAddr {
    GuestPhysAddr::from_usize(PAGE as usize)
}

/// Returns where a vCPU's record is.
pub(crate) fn address_of(vcpu: VCpuId) -> Option<u64> {
    let index = vcpu as u64;
    let offset = index.saturating_mul(RECORD_BYTES);
    (index < RECORDS).then(|| PAGE.saturating_add(offset))
}

/// One vCPU's account, and whether its thread waits of its own will.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    time: StolenTime,
    pub(crate) is_waiting: bool,
}

impl Account {
    /// Notes that the registers are put away.
    pub(crate) fn leaves<H: AxVCpuHal>(&mut self, hal: &H) {
        if !self.is_waiting {
            self.time.takes(hal.current_time_nanos());
        }
    }

    /// Notes that the registers are loaded, and tells the guest what that cost.
    pub(crate) fn enters<H: AxVCpuHal>(&mut self, vcpu: VCpuId, page: &RecordPage<H>) {
        let stolen = self.time.gives_back(page.hal().current_time_nanos());
        if let Some(ns) = stolen {
            let offset = vcpu.saturating_mul(RECORD_BYTES as usize);
            page.write(offset.saturating_add(STOLEN_NS), ns);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vcpu_has_a_record_of_its_own() {
        assert_eq!(address_of(0), Some(0x90a_0000));
        assert_eq!(address_of(63), Some(0x90a_0fc0));
        assert_eq!(address_of(64), None);
    }
}
