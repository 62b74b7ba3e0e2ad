// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! VMIDs with generations: what a CPU must forget when a vCPU comes to it.
//!
//! A [`VmidPool`] hands out tickets that only grow; divided by the number of
//! VMIDs that the hardware has, a ticket is a generation, and the rest its VMID. A
//! VM keeps its ticket until the pool is in another generation. A CPU that meets a
//! new generation drops all guest translations once, after which no VMID of an
//! older generation is used there. With one VMID, or none, each ticket is a
//! generation of its own, and the same rules hold.
//!
//! Translations made by one vCPU may not be seen by another of the same VM, as
//! their guest thinks that each has a TLB of its own: [`VmTlb`] remembers who
//! was on which CPU last, and under which VMID, so that whatever an older owner of
//! that VMID left there is dropped too. Called by each architecture's `bind`,
//! preemption off.
//!
//! Spec: RISC-V Privileged, hgatp.VMID; Arm Architecture Reference Manual,
//! VTTBR_EL2.VMID; AMD64 APM, "TLB Control" (ASIDs); Intel SDM, "VPIDs".

use core::{
    num::NonZeroU64,
    sync::atomic::{AtomicU64, Ordering},
};

use spin::Once;

/// As many physical CPUs as a host has at most.
const PCPUS_MAX: usize = 64;
/// More bits than a vCPU's number has.
const VCPU_BITS: u32 = 8;

/// What must be dropped before a guest is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing.
    None,
    /// What the guest's own page tables said, under its VMID; and its code.
    OwnTables,
    /// Everything of every guest.
    Everything,
}

/// The VMID to load, and the fence that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Below the number of VMIDs; an architecture that keeps 0 for itself adds 1.
    pub vmid: u64,
    /// What follows.
    pub flush: Flush,
}

/// The VMIDs of this machine.
pub struct VmidPool {
    count: Once<u64>,
    /// Tickets given out since the first.
    taken: AtomicU64,
    /// The generation for which each CPU has dropped what was older.
    seen: [AtomicU64; PCPUS_MAX],
}

impl VmidPool {
    /// Makes a pool of no VMIDs.
    pub const fn new() -> Self {
        Self {
            count: Once::new(),
            taken: AtomicU64::new(0),
            seen: [const { AtomicU64::new(0) }; PCPUS_MAX],
        }
    }

    /// Says how many VMIDs the hardware has, before any is taken; only the first
    /// caller's word counts.
    pub fn set_count(&self, count: u64) {
        self.count.call_once(|| count);
    }

    fn count(&self) -> NonZeroU64 {
        let count = self.count.get().copied().and_then(NonZeroU64::new);
        count.unwrap_or(NonZeroU64::MIN)
    }

    fn generation(&self, ticket: u64) -> u64 {
        ticket / self.count()
    }

    fn vmid(&self, ticket: u64) -> u64 {
        ticket % self.count()
    }

    /// Returns the last ticket that was given out; generation 0 has none.
    fn last(&self) -> u64 {
        let taken = self.taken.load(Ordering::SeqCst);
        self.count().get().wrapping_add(taken).wrapping_sub(1)
    }

    fn is_current(&self, ticket: u64) -> bool {
        ticket != 0 && self.generation(ticket) == self.generation(self.last())
    }

    /// Takes the next ticket.
    fn take(&self) -> u64 {
        let taken = self.taken.fetch_add(1, Ordering::SeqCst);
        self.count().get().wrapping_add(taken)
    }

    /// Notes that a CPU runs this generation, and tells whether that is new to it.
    fn is_new_on(&self, cpu: usize, generation: u64) -> bool {
        match self.seen.get(cpu) {
            Some(seen) => seen.swap(generation, Ordering::Relaxed) != generation,
            None => true,
        }
    }
}

impl Default for VmidPool {
    fn default() -> Self {
        Self::new()
    }
}

/// The traces that one VM's vCPUs leave in the CPUs' TLBs.
pub struct VmTlb {
    ticket: AtomicU64,
    /// Which vCPU was last on each CPU, and with which ticket.
    last_on: [AtomicU64; PCPUS_MAX],
}

impl VmTlb {
    /// Makes the books of a VM that never ran.
    pub fn new() -> Self {
        Self {
            ticket: AtomicU64::new(0),
            last_on: [const { AtomicU64::new(0) }; PCPUS_MAX],
        }
    }

    /// Returns the VMID for a vCPU that comes to `cpu` from `came_from`.
    pub fn enter(
        &self,
        pool: &VmidPool,
        vcpu: usize,
        cpu: usize,
        came_from: Option<usize>,
    ) -> Lease {
        let ticket = self.ticket(pool);
        let is_first = self.is_first(ticket, vcpu, cpu);
        let flush = if pool.is_new_on(cpu, pool.generation(ticket)) {
            Flush::Everything
        } else if is_first || came_from != Some(cpu) {
            Flush::OwnTables
        } else {
            Flush::None
        };
        Lease {
            vmid: pool.vmid(ticket),
            flush,
        }
    }

    /// Lets the VM have another VMID from each vCPU's next [`Self::enter`] on, under
    /// which no CPU remembers anything.
    pub fn renew(&self) {
        self.ticket.store(0, Ordering::SeqCst);
    }

    /// Returns the VM's ticket of the current generation; one thread renews it.
    fn ticket(&self, pool: &VmidPool) -> u64 {
        loop {
            let held = self.ticket.load(Ordering::Acquire);
            if pool.is_current(held) {
                return held;
            }
            // A loser's ticket is lost, and looks again at the winner's.
            let _ = self.ticket.compare_exchange(
                held,
                pool.take(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
    }

    /// Notes who is on a CPU under which VMID, and tells whether that is news.
    fn is_first(&self, ticket: u64, vcpu: usize, cpu: usize) -> bool {
        let own = ticket.wrapping_shl(VCPU_BITS) | (vcpu as u64).wrapping_add(1);
        match self.last_on.get(cpu) {
            Some(last) => last.swap(own, Ordering::Relaxed) != own,
            None => true,
        }
    }
}

impl Default for VmTlb {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeMap, vec::Vec};
    use proptest::prelude::*;

    fn pool(count: u64) -> VmidPool {
        let pool = VmidPool::new();
        pool.set_count(count);
        pool
    }

    #[test]
    fn a_vcpu_that_stays_needs_no_flush() {
        let (pool, vm) = (pool(128), VmTlb::new());
        assert_eq!(vm.enter(&pool, 0, 0, None).flush, Flush::Everything);
        assert_eq!(vm.enter(&pool, 0, 0, Some(0)).flush, Flush::None);
    }

    #[test]
    fn two_vms_that_take_turns_need_no_flush() {
        let pool = pool(128);
        let vms = [VmTlb::new(), VmTlb::new()];
        vms.iter().for_each(|vm| {
            vm.enter(&pool, 0, 0, None);
        });
        for vm in vms.iter().cycle().take(10) {
            assert_eq!(vm.enter(&pool, 0, 0, Some(0)).flush, Flush::None);
        }
    }

    #[test]
    fn siblings_on_one_cpu_and_a_return_from_another_flush_the_vms_own() {
        let (pool, vm) = (pool(128), VmTlb::new());
        vm.enter(&pool, 0, 0, None);
        assert_eq!(vm.enter(&pool, 1, 0, None).flush, Flush::OwnTables);
        assert_eq!(vm.enter(&pool, 0, 0, Some(0)).flush, Flush::OwnTables);
        vm.enter(&pool, 0, 1, Some(0));
        assert_eq!(vm.enter(&pool, 0, 0, Some(1)).flush, Flush::OwnTables);
    }

    #[test]
    fn without_a_choice_of_vmids_each_switch_of_vms_flushes_everything() {
        let pool = pool(1);
        let vms = [VmTlb::new(), VmTlb::new()];
        for vm in vms.iter().cycle().take(6) {
            let lease = vm.enter(&pool, 0, 0, Some(0));
            assert_eq!((lease.vmid, lease.flush), (0, Flush::Everything));
        }
        assert_eq!(vms[1].enter(&pool, 0, 0, Some(0)).flush, Flush::None);
    }

    #[test]
    fn after_a_renewal_nothing_is_remembered_under_the_vmid() {
        for count in [0, 1, 3] {
            let (pool, vm) = (pool(count), VmTlb::new());
            let old = vm.enter(&pool, 0, 0, None);
            vm.renew();
            let new = vm.enter(&pool, 0, 0, Some(0));
            match new.flush {
                Flush::Everything => {}
                _ => assert_ne!(new.vmid, old.vmid),
            }
        }
    }

    #[test]
    fn the_first_cpu_says_how_many_there_are() {
        let pool = pool(3);
        let vmids: Vec<_> = [1, 9, 2, 5, 4]
            .map(|count| {
                pool.set_count(count);
                VmTlb::new().enter(&pool, 0, 0, None).vmid
            })
            .into();
        assert_eq!(vmids, [0, 1, 2, 0, 1]);
    }

    proptest! {
        /// The model is the TLB itself: each CPU remembers which vCPU last filled
        /// each VMID, for its own tables and for combined entries, and may never
        /// meet another's.
        #[test]
        fn no_vm_ever_sees_the_translations_of_another(
            count in 0_u64..9,
            visits in prop::collection::vec((0_usize..12, 0_usize..3, 0_usize..2), 1..200),
        ) {
            let pool = pool(count);
            let vms: Vec<_> = (0..12).map(|_| VmTlb::new()).collect();
            let mut own: [BTreeMap<u64, (usize, usize)>; 2] = Default::default();
            let mut combined = own.clone();
            let mut came_from = BTreeMap::new();
            for (vm, vcpu, cpu) in visits {
                let from = came_from.insert((vm, vcpu), cpu);
                let lease = vms[vm].enter(&pool, vcpu, cpu, from);
                prop_assert!(lease.vmid < count.max(1));
                if lease.flush == Flush::Everything {
                    combined[cpu].clear();
                }
                if lease.flush != Flush::None {
                    own[cpu].remove(&lease.vmid);
                    let old = combined[cpu].remove(&lease.vmid);
                    prop_assert!(old.is_none_or(|(owner, _)| owner == vm));
                }
                for tlb in [&mut own[cpu], &mut combined[cpu]] {
                    let owner = *tlb.entry(lease.vmid).or_insert((vm, vcpu));
                    prop_assert_eq!(owner, (vm, vcpu));
                }
            }
        }
    }
}
