// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A vCPU's interrupt file follows it to the CPU that it runs on.
//!
//! `bind` finds out whether the file is elsewhere; the next run brings it here
//! before the guest goes on, as that may take another CPU's help. A vCPU gets a file
//! of the hardware when it comes back to a CPU on which one is free, and keeps it
//! until it is seen on another: those that move about live by their software file,
//! and so do those for whom there is none. While the file is in the hardware, stage
//! 2 shows its page to the guest: messages of other vCPUs and of the APLIC arrive
//! without an exit, and wake a vCPU that sleeps by the host's interrupt (`files`).
//!
//! Nobody can reach a page any more once it was taken out of stage 2 and the VM
//! has another VMID, which each vCPU takes before it goes on.
//!
//! Spec: RISC-V Advanced Interrupt Architecture 1.0, "Migrating a virtual hart to a
//! different guest interrupt file".

use core::mem;

use axvm::{AxVMHal, CpuPower, HostPhysAddr, PCpuId};
use tock_registers::interfaces::{ReadWriteable, Readable};

use crate::{
    files::{self, FileOwner},
    harts::{MessagePage, closed},
    irqchip::{
        Intc,
        imsic::guest_files::{FileId, Home, Step},
    },
    regs::{HSTATUS, S_INTERRUPTS, VSIE},
    sbi::HartSet,
    vcpu::RiscvVCpu,
};

/// Where a vCPU's interrupt file is.
#[derive(Debug)]
pub(crate) struct Place {
    home: Home,
    /// It is not where it should be.
    is_wrong: bool,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            home: Home::SOFTWARE,
            is_wrong: false,
        }
    }
}

impl Place {
    /// Tells whether the next run must begin with [`RiscvVCpu::settle`].
    #[inline]
    pub(crate) fn is_wrong(&self) -> bool {
        self.is_wrong
    }

    /// Returns the file of the hardware that the vCPU has on a CPU.
    fn file_on(&self, cpu: Option<PCpuId>) -> Option<FileId> {
        self.home.file().filter(|file| Some(file.pcpu) == cpu)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        files::release(mem::replace(&mut self.home, Home::SOFTWARE));
    }
}

impl<H: AxVMHal> RiscvVCpu<H> {
    /// Returns the file of the hardware that serves the guest here.
    pub(crate) fn file_here(&self) -> Option<FileId> {
        self.place.file_on(self.bound_on)
    }

    /// Lets the guest use its file, if that is on this CPU.
    pub(crate) fn enter_file(&mut self) {
        let file = self.file_here();
        HSTATUS.modify(HSTATUS::VGEIN.val(file.map_or(0, |file| file.number.into())));
        file.into_iter().for_each(files::unwatch);
        let may_have_one = self.harts.intc == Intc::Aia && self.host.files.is_some();
        let is_back = self.came_from.map(PCpuId) == self.bound_on;
        self.place.is_wrong = match self.place.home.file() {
            Some(_) => file.is_none(),
            None => may_have_one && is_back,
        };
    }

    /// Lets the vCPU be told of messages while it does not run, if they would wake it.
    pub(crate) fn leave_file(&self) {
        let takes = VSIE.is_set(S_INTERRUPTS::EXTERNAL) && self.control.power() == CpuPower::On;
        if let Some(file) = self.file_here().filter(|_| takes) {
            files::watch(file);
        }
    }

    /// Tells whether the vCPU's file of the hardware has something for it.
    pub(crate) fn has_message(&self) -> bool {
        self.file_here().is_some_and(files::has_message)
    }

    /// Brings the vCPU's file to this CPU; preemption off, interrupts open.
    #[inline(never)]
    pub(crate) fn settle(&mut self) {
        self.place.is_wrong = false;
        let Some(cpu) = self.bound_on else { return };
        let home = mem::replace(&mut self.place.home, Home::SOFTWARE);
        let movement = match home.file() {
            Some(_) => files::evict(home),
            None => files::place(self.hart.clone(), home, cpu),
        };
        let Some(movement) = movement else { return };
        for step in movement.steps() {
            self.carry_out(step, cpu);
        }
        self.place.home = files::finish(movement);
        self.enter_file();
        self.place.is_wrong = false;
        self.harts.look_at_file(self.id);
    }

    fn carry_out(&mut self, step: Step, here: PCpuId) {
        match step {
            Step::Empty(file) => files::empty(file),
            Step::Route(to) => self.route(to),
            Step::Save(file) => files::save(file, here, |cpu| self.harts.hal.kick_pcpu(cpu)),
            Step::Load(file) => {
                if let Some(from) = self.hart.software_file() {
                    files::load(file, from);
                }
            }
        }
    }

    /// Sends the vCPU's messages elsewhere, and waits until all come there.
    fn route(&self, to: Option<FileId>) {
        let page = to.and_then(|file| self.page_of(file));
        if let Some(live) = &self.harts.live_pages {
            live.set(self.id, page);
        }
        let page = page.map(|page| MessagePage::at(&self.harts.hal, page));
        let had_one = closed(|| mem::replace(&mut *self.hart.page.lock(), page));
        if had_one.is_some() {
            self.harts.tlb.renew();
            let others = HartSet::all(self.harts.count()).without(self.id);
            self.harts.renew_vmid_of(others);
            self.take_vmid();
        }
    }

    fn page_of(&self, file: FileId) -> Option<HostPhysAddr> {
        let hart = self.harts.hal.cpu_hardware_id(file.pcpu);
        let page = self.host.files.as_ref()?.page(hart, file.number)?;
        Some(HostPhysAddr::from_usize(page as usize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        host_files::HostFiles,
        irqchip::imsic::{Array, Operation},
        regs::{HGEIE, HGEIP},
        testing::with_bound_vcpu_of,
    };
    use arch_vm_host::testing::StdHost;
    use axvm::{AxArchVCpu, AxVCpuHal, Request};
    use std::{boxed::Box, sync::Mutex, thread};
    use tock_registers::interfaces::Writeable;

    type VCpu = RiscvVCpu<StdHost>;

    /// The tests are on the same physical CPU, one after the other.
    static CPU: Mutex<()> = Mutex::new(());

    /// Lets a vCPU be on a machine whose two harts have files; `frames` are the
    /// pages of all.
    fn with_files(act: impl FnOnce(&mut VCpu, &StdHost)) {
        let _cpu = CPU.lock();
        with_bound_vcpu_of("aia", 0, |vcpu| {
            let hal = vcpu.harts.hal.clone();
            let frames = hal.alloc_frames(8).unwrap();
            let mut host = vcpu.host.clone();
            host.has_aia = true;
            host.files = Some(HostFiles::at(frames.as_usize() as u64));
            files::init(8, 2);
            vcpu.host = Box::leak(Box::new(host));
            vcpu.unbind().unwrap();
            act(vcpu, &hal);
            vcpu.place = Place::default();
            hal.free_frames(frames, 8);
        });
    }

    fn come_back(vcpu: &mut VCpu) {
        vcpu.bind().unwrap();
        assert!(vcpu.place.is_wrong());
        vcpu.settle();
        assert!(!vcpu.place.is_wrong());
    }

    fn send(vcpu: &VCpu, identity: u32) {
        use crate::{interrupts::Registers, irqchip::imsic::PAGE_BYTES};
        use axdevice::AccessWidth;
        let at = (Registers::Files, vcpu.id as u64 * PAGE_BYTES);
        let written = (AccessWidth::Dword, identity.into());
        vcpu.harts.write_interrupts(Some(1), at, written).unwrap();
    }

    fn last_message(vcpu: &VCpu, hal: &StdHost) -> u32 {
        let page = vcpu.page_of(vcpu.file_here().unwrap()).unwrap();
        let seen = hal.phys_to_virt(page).as_usize();
        // SAFETY: the page is one of `with_files`.
        unsafe { core::ptr::with_exposed_provenance::<u32>(seen).read_volatile() }
    }

    #[test]
    fn a_vcpu_that_comes_back_has_its_messages_in_the_hardware() {
        with_files(|vcpu, hal| {
            send(vcpu, 9);
            come_back(vcpu);
            let file = vcpu.file_here().unwrap();
            assert_eq!(HSTATUS.read(HSTATUS::VGEIN), u64::from(file.number));
            let own = vcpu.hart.software_file().unwrap();
            assert_eq!(own.array(Array::Pending, 0, Operation::Read), 0);
            send(vcpu, 77);
            assert_eq!(last_message(vcpu, hal), 77);
            assert_eq!(own.array(Array::Pending, 1, Operation::Read), 0);
            assert!(!vcpu.use_interrupt_csr(0x15c0_2573), "the hardware's own");
        });
    }

    #[test]
    fn who_sleeps_and_wants_messages_is_told_of_them() {
        with_files(|vcpu, _| {
            come_back(vcpu);
            let file = vcpu.file_here().unwrap();
            vcpu.unbind().unwrap();
            assert_eq!(HGEIE.get(), 0, "it enabled none");
            vcpu.bind().unwrap();
            VSIE.set(1 << 9);
            HGEIP.set(file.bit());
            assert!(vcpu.has_interrupt());
            vcpu.unbind().unwrap();
            assert_eq!(HGEIE.get(), file.bit());
            files::hear(file.pcpu);
            assert!(vcpu.control.take(Request::Event));
            vcpu.bind().unwrap();
            assert_eq!(HGEIE.get(), 0);
            HGEIP.set(0);
        });
    }

    #[test]
    fn on_another_cpu_the_software_file_has_it_all() {
        with_files(|vcpu, _| {
            come_back(vcpu);
            let file = vcpu.file_here().unwrap();
            // Identity 3 is pending in the hardware, and vsireg is at eip0.
            crate::regs::VSISELECT.set(0x80);
            crate::regs::VSIREG.set(1 << 3);
            vcpu.unbind().unwrap();
            let vcpu = &mut *vcpu;
            thread::scope(|scope| {
                let moved = scope.spawn(|| {
                    vcpu.bound_on = Some(PCpuId(file.pcpu.0 + 1));
                    vcpu.enter_file();
                    assert!(vcpu.place.is_wrong());
                    vcpu.settle();
                    assert_eq!(HSTATUS.read(HSTATUS::VGEIN), 0);
                    vcpu.bound_on = None;
                });
                while !moved.is_finished() {
                    files::hear(file.pcpu);
                }
                moved.join().unwrap();
            });
            let own = vcpu.hart.software_file().unwrap();
            assert_eq!(own.array(Array::Pending, 0, Operation::Read), 1 << 3);
            assert!(vcpu.hart.page.lock().is_none());
            send(vcpu, 4);
            let pending = own.array(Array::Pending, 0, Operation::Read);
            assert_eq!(pending, (1 << 3) | (1 << 4));
        });
    }
}
