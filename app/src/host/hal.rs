// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The host's services, each by ArceOS's means.
//!
//! Called by axvm and by the architecture; see the traits for what each promises.

use alloc::{boxed::Box, string::String, sync::Arc};

use axalloc::{UsageKind, global_allocator};
use axdevice::{AlarmListener, Clock, SharedAlarm};
use axhal::{irq, mem, percpu::this_cpu_id};
use axvm::{
    AxVCpuHal, AxVMHal, HostPhysAddr, HostVirtAddr, PCpuId, PCpuSet, Progress, VCpuId, VCpuTask,
    VMId,
};
use kernel_guard::NoPreempt;

use super::{
    alarm::HostAlarm,
    event::Event,
    memory, random, seat,
    thread::{self, Thread},
    timer,
};
use crate::vmm::Spawn;

const PAGE_BYTES: usize = 4096;
/// What is left of ArceOS's own heap to what cannot be refused.
const RESERVE_BYTES: usize = 512 << 10;

/// ArceOS as a host of virtual machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

/// Returns how much of ArceOS's own heap is free.
pub fn heap_free_bytes() -> usize {
    let heap = global_allocator();
    let pages = heap.available_pages().saturating_mul(PAGE_BYTES);
    pages.saturating_add(heap.available_bytes())
}

impl AxVMHal for Host {
    type Thread = Thread;

    fn alloc_ram(&self, size_bytes: usize) -> Option<HostPhysAddr> {
        memory::alloc(size_bytes)
    }

    fn free_ram(&self, start: HostPhysAddr, size_bytes: usize) {
        memory::free(start, size_bytes);
    }

    fn zero_ram(&self, start: HostPhysAddr, size_bytes: usize) {
        memory::zero(start, size_bytes);
    }

    fn wall_time_nanos(&self) -> u64 {
        axhal::time::wall_time_nanos()
    }

    fn spawn_vcpu(
        &self,
        name: String,
        cpus: PCpuSet,
        task: Arc<dyn VCpuTask>,
    ) -> Option<Self::Thread> {
        thread::spawn_vcpu(name, cpus, task)
    }

    fn current_vcpu(&self) -> Option<(VMId, VCpuId)> {
        thread::current_vcpu()
    }

    fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl AxVCpuHal for Host {
    type Event = Event;

    fn alloc_frames(&self, count: usize) -> Option<HostPhysAddr> {
        let bytes = count.checked_mul(PAGE_BYTES)?;
        if !self.can_spare(bytes) {
            return None;
        }
        let start = global_allocator()
            .alloc_pages(count, bytes, UsageKind::PageTable)
            .ok()?;
        let physical = mem::virt_to_phys(start.into());
        let start = HostPhysAddr::from_usize(physical.as_usize());
        memory::zero(start, bytes);
        Some(start)
    }

    fn can_spare(&self, size_bytes: usize) -> bool {
        heap_free_bytes() >= size_bytes.saturating_add(RESERVE_BYTES)
    }

    fn free_frames(&self, start: HostPhysAddr, count: usize) {
        let start = mem::phys_to_virt(start.as_usize().into());
        global_allocator().dealloc_pages(start.as_usize(), count, UsageKind::PageTable);
    }

    fn phys_to_virt(&self, address: HostPhysAddr) -> HostVirtAddr {
        let virt = mem::phys_to_virt(address.as_usize().into());
        HostVirtAddr::from_usize(virt.as_usize())
    }

    fn new_event(&self) -> Event {
        Event::default()
    }

    fn new_alarm(&self, listener: Arc<dyn AlarmListener>) -> SharedAlarm {
        Arc::new(HostAlarm::new(listener))
    }

    fn current_time_nanos(&self) -> u64 {
        axhal::time::monotonic_time_nanos()
    }

    fn current_pcpu_id(&self) -> PCpuId {
        PCpuId(this_cpu_id())
    }

    fn cpu_hardware_id(&self, cpu: PCpuId) -> u64 {
        let id = platform::machine().hardware_id(cpu.0);
        id.unwrap_or(cpu.0) as u64
    }

    fn kick_pcpu(&self, cpu: PCpuId) {
        let target = irq::IpiTarget::Other { cpu_id: cpu.0 };
        irq::send_ipi(irq::IPI_IRQ, target);
    }

    fn yield_vcpu(&self, progress: Progress) {
        if let Some(seat) = thread::current_seat() {
            seat.give_up(progress);
        }
    }

    fn hurry_vcpu(&self, vm: VMId, vcpu: VCpuId) {
        seat::hurry(vm, vcpu);
    }

    fn interrupt_at(&self, deadline_ns: u64) {
        timer::interrupt_at(deadline_ns);
    }

    fn fill_random(&self, to: &mut [u8]) -> bool {
        random::fill(to)
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        let _guard = NoPreempt::new();
        f()
    }
}

impl Spawn for Host {
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) {
        thread::spawn(name, body);
    }
}

impl Clock for Host {
    fn monotonic_ns(&self) -> u64 {
        axhal::time::monotonic_time_nanos()
    }

    fn wall_ns(&self) -> u64 {
        axhal::time::wall_time_nanos()
    }
}
