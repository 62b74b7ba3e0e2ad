// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! VMIDs with generations: which fence a vCPU needs when it comes to a CPU.
//!
//! A [`VmidPool`] hands out tickets that only grow; the low bits are the VMID,
//! the rest its generation. A VM keeps its ticket until the pool is in another
//! generation. A CPU that meets a new generation drops all guest translations
//! once, after which no VMID of an older generation is used there. With no VMID
//! bits each ticket is a generation of its own, and the same rules hold.
//!
//! Translations made by one vCPU may not be seen by another of the same VM, as
//! their guest thinks that each has a TLB of its own: [`VmTlb`] remembers who
//! was on which CPU last. Called by the vCPU's `bind`, preemption off.
//!
//! Spec: Arm Architecture Reference Manual, VTTBR_EL2.VMID, "TLB maintenance".

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// As many physical CPUs as a host has at most.
const PCPUS_MAX: usize = 64;

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
    /// What goes into VTTBR_EL2.
    pub vmid: u64,
    /// What follows.
    pub flush: Flush,
}

/// The VMIDs of this machine.
pub struct VmidPool {
    bits: AtomicUsize,
    next: AtomicU64,
    /// The generation for which each CPU has dropped what was older.
    seen: [AtomicU64; PCPUS_MAX],
}

impl VmidPool {
    /// Makes a pool of VMIDs of no bits.
    pub const fn new() -> Self {
        Self {
            bits: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            seen: [const { AtomicU64::new(0) }; PCPUS_MAX],
        }
    }

    /// Says how many bits the hardware has, before any VMID is taken.
    pub fn set_bits(&self, bits: usize) {
        self.bits.store(bits, Ordering::Release);
        self.next
            .store(first_of_generation(1, bits), Ordering::Release);
    }

    fn generation(&self, ticket: u64) -> u64 {
        ticket.wrapping_shr(self.bits.load(Ordering::Acquire) as u32)
    }

    fn vmid(&self, ticket: u64) -> u64 {
        let bits = self.bits.load(Ordering::Acquire) as u32;
        ticket & 1_u64.wrapping_shl(bits).wrapping_sub(1)
    }

    fn is_current(&self, ticket: u64) -> bool {
        // The last ticket given out decides, not the next one.
        let last = self.next.load(Ordering::SeqCst).wrapping_sub(1);
        ticket != 0 && self.generation(ticket) == self.generation(last)
    }

    /// Takes the next ticket.
    fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::SeqCst)
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

fn first_of_generation(generation: u64, bits: usize) -> u64 {
    generation.wrapping_shl(bits as u32)
}

/// The traces that one VM's vCPUs leave in the CPUs' TLBs.
pub struct VmTlb {
    ticket: AtomicU64,
    /// The vCPU, plus one, that was last on each CPU.
    last_on: [AtomicUsize; PCPUS_MAX],
}

impl VmTlb {
    /// Makes the books of a VM that never ran.
    pub fn new() -> Self {
        Self {
            ticket: AtomicU64::new(0),
            last_on: [const { AtomicUsize::new(0) }; PCPUS_MAX],
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
        let flush = if pool.is_new_on(cpu, pool.generation(ticket)) {
            self.note(vcpu, cpu);
            Flush::Everything
        } else if self.note(vcpu, cpu) || came_from != Some(cpu) {
            Flush::OwnTables
        } else {
            Flush::None
        };
        Lease {
            vmid: pool.vmid(ticket),
            flush,
        }
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

    /// Notes who is on a CPU, and tells whether somebody else was.
    fn note(&self, vcpu: usize, cpu: usize) -> bool {
        let own = vcpu.wrapping_add(1);
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
    use proptest::prelude::*;
    use std::{collections::BTreeMap, vec::Vec};

    fn pool(bits: usize) -> VmidPool {
        let pool = VmidPool::new();
        pool.set_bits(bits);
        pool
    }

    #[test]
    fn a_vcpu_that_stays_needs_no_flush() {
        let (pool, vm) = (pool(7), VmTlb::new());
        assert_eq!(vm.enter(&pool, 0, 0, None).flush, Flush::Everything);
        assert_eq!(vm.enter(&pool, 0, 0, Some(0)).flush, Flush::None);
    }

    #[test]
    fn two_vms_that_take_turns_need_no_flush() {
        let pool = pool(7);
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
        let (pool, vm) = (pool(7), VmTlb::new());
        vm.enter(&pool, 0, 0, None);
        assert_eq!(vm.enter(&pool, 1, 0, None).flush, Flush::OwnTables);
        assert_eq!(vm.enter(&pool, 0, 0, Some(0)).flush, Flush::OwnTables);
        vm.enter(&pool, 0, 1, Some(0));
        assert_eq!(vm.enter(&pool, 0, 0, Some(1)).flush, Flush::OwnTables);
    }

    #[test]
    fn without_vmid_bits_each_switch_of_vms_flushes_everything() {
        let pool = pool(0);
        let vms = [VmTlb::new(), VmTlb::new()];
        for vm in vms.iter().cycle().take(6) {
            let lease = vm.enter(&pool, 0, 0, Some(0));
            assert_eq!((lease.vmid, lease.flush), (0, Flush::Everything));
        }
        assert_eq!(vms[1].enter(&pool, 0, 0, Some(0)).flush, Flush::None);
    }

    proptest! {
        /// The model is the TLB itself: each CPU remembers which VM last filled
        /// each VMID, and may never meet another's entries.
        #[test]
        fn no_vm_ever_sees_the_translations_of_another(
            bits in 0_usize..4,
            visits in prop::collection::vec((0_usize..12, 0_usize..3, 0_usize..2), 1..200),
        ) {
            let pool = pool(bits);
            let vms: Vec<_> = (0..12).map(|_| VmTlb::new()).collect();
            let mut tlbs: [BTreeMap<u64, (usize, usize)>; 2] = Default::default();
            let mut came_from = BTreeMap::new();
            for (vm, vcpu, cpu) in visits {
                let from = came_from.insert((vm, vcpu), cpu);
                let lease = vms[vm].enter(&pool, vcpu, cpu, from);
                prop_assert!(lease.vmid < 1 << bits);
                match lease.flush {
                    Flush::Everything => tlbs[cpu].clear(),
                    Flush::OwnTables => {
                        let old = tlbs[cpu].remove(&lease.vmid);
                        prop_assert!(old.is_none_or(|(owner, _)| owner == vm));
                    }
                    Flush::None => {}
                }
                let owner = *tlbs[cpu].entry(lease.vmid).or_insert((vm, vcpu));
                prop_assert_eq!(owner, (vm, vcpu));
            }
        }
    }
}
