// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hardware that runs guests: SVM or VMX, as CPUID says once.
//!
//! What is above is written for any [`Backend`], and built for each: which one it
//! is is asked once when a vCPU is run, and on no exit.

use alloc::sync::Arc;

use axvm::{AxVMHal, HostPhysAddr, Result, vmid::Flush};

use crate::{
    exit::{Event, Exit},
    insn::{CodeSize, SegmentName},
    irqchip::lapic::{Given, Mode},
    nested::{Bits, Nested},
    pc::boot::BootState,
    svm::{self, Svm},
    vcpu::VCpu,
    vmx::{self, Vmx},
};

/// What the machine's CPUs have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Features {
    Svm(svm::Features),
    Vmx(vmx::Features),
}

impl Features {
    /// Asks this CPU; refuses one that cannot run guests.
    pub(crate) fn detect() -> Result<Self> {
        match vmx::is_there() {
            true => vmx::Features::detect().map(Self::Vmx),
            false => svm::Features::detect().map(Self::Svm),
        }
    }

    /// Returns how many address space identifiers guests have, the first being 1.
    pub(crate) fn identifiers(&self) -> u64 {
        match self {
            Self::Svm(features) => u64::from(features.asids).saturating_sub(1),
            Self::Vmx(_) => u16::MAX.into(),
        }
    }

    /// Returns the format of nested page tables.
    pub(crate) fn nested_format(&self) -> Nested {
        match self {
            Self::Svm(features) => Nested {
                bits: Bits::LongMode,
                has_huge_pages: features.has_huge_pages,
            },
            Self::Vmx(features) => Nested {
                bits: Bits::Extended,
                has_huge_pages: features.has_huge_pages(),
            },
        }
    }

    /// Switches virtualization on.
    pub(crate) fn enable(&self) -> Result<()> {
        match self {
            Self::Svm(_) => svm::enable(),
            Self::Vmx(_) => vmx::enable(),
        }
    }

    /// Switches virtualization off; VMX is on only while a vCPU is bound.
    pub(crate) fn disable(&self) {
        if let Self::Svm(_) = self {
            svm::disable();
        }
    }
}

/// What a VM's guests reach by themselves.
pub(crate) enum Maps<H: AxVMHal> {
    Svm(svm::Features, Arc<svm::Maps<H>>),
    Vmx(vmx::Features, Arc<vmx::Maps<H>>),
}

impl<H: AxVMHal> Maps<H> {
    /// Makes the maps of a VM with these nested page tables.
    pub(crate) fn new(hal: &H, features: Features, root: HostPhysAddr) -> Result<Self> {
        let format = features.nested_format();
        Ok(match features {
            Features::Svm(features) => Self::Svm(features, Arc::new(svm::Maps::new(hal)?)),
            Features::Vmx(features) => Self::Vmx(
                features,
                Arc::new(vmx::Maps::new(hal, features, (root, format))?),
            ),
        })
    }
}

/// Whether the end of an NMI is of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NmiWatch {
    On,
    Off,
}

/// Whose addresses the debug registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DebugOwner {
    Guest,
    Nobody,
}

/// Declares the trait by its methods, and has both backends' own serve it.
macro_rules! backend {
    ($(#[$doc:meta])* trait $name:ident;
     reads {$($(#[$read_doc:meta])* $read:ident($($argument:ident: $type:ty),*) -> $result:ty;)*}
     changes {$($(#[$change_doc:meta])* $change:ident($($value:ident: $value_type:ty),*);)*}) => {
        $(#[$doc])*
        pub(crate) trait $name<H: AxVMHal>: Sized {
            /// Runs the guest until it leaves for what cannot be finished at once, and
            /// says why.
            ///
            /// # Safety
            ///
            /// 1. The vCPU is bound to this CPU, and interrupts are closed.
            /// 2. Its nested page tables map what is the guest's.
            unsafe fn enter(vcpu: &mut VCpu<H, Self>) -> Exit;

            $($(#[$read_doc])* fn $read(&self, $($argument: $type),*) -> $result;)*
            $($(#[$change_doc])* fn $change(&mut self, $($value: $value_type),*);)*
        }

        backend!(impl $name, Svm, [$($read($($argument: $type),*) -> $result;)*]
            [$($change($($value: $value_type),*);)*]);
        backend!(impl $name, Vmx, [$($read($($argument: $type),*) -> $result;)*]
            [$($change($($value: $value_type),*);)*]);
    };
    (impl $name:ident, $hardware:ident,
     [$($read:ident($($argument:ident: $type:ty),*) -> $result:ty;)*]
     [$($change:ident($($value:ident: $value_type:ty),*);)*]) => {
        impl<H: AxVMHal> $name<H> for $hardware<H> {
            #[inline]
            unsafe fn enter(vcpu: &mut VCpu<H, Self>) -> Exit {
                // SAFETY: 1 and 2 are the caller's.
                unsafe { Self::run(vcpu) }
            }

            $(#[inline] fn $read(&self, $($argument: $type),*) -> $result {
                Self::$read(self, $($argument),*)
            })*
            $(#[inline] fn $change(&mut self, $($value: $value_type),*) {
                Self::$change(self, $($value),*);
            })*
        }
    };
}

backend! {
    /// One vCPU's hardware.
    trait Backend;
    reads {
        /// Returns the address of the next instruction to execute.
        rip() -> u64;
        /// Returns the flags.
        rflags() -> u64;
        /// Returns CR0 as the guest sees it.
        cr0() -> u64;
        /// Returns CR3.
        cr3() -> u64;
        /// Returns CR4 as the guest sees it.
        cr4() -> u64;
        /// Returns EFER as the guest sees it.
        efer() -> u64;
        /// Returns the page attribute table.
        pat() -> u64;
        /// Returns DR6.
        dr6() -> u64;
        /// Returns DR7.
        dr7() -> u64;
        /// Returns the privilege level: 3 is user code.
        cpl() -> u8;
        /// Returns the size of the code that runs.
        code_size() -> CodeSize;
        /// Returns where a segment starts.
        segment_base(name: SegmentName) -> u64;
        /// Returns the bytes of the instruction that faulted, if the CPU tells them.
        fetched() -> Option<&[u8]>;
        /// Tells whether the guest takes an interrupt now.
        can_interrupt() -> bool;
        /// Tells whether the guest takes an NMI now that is in none; if it does not,
        /// watching for the end of an NMI tells when it does.
        can_take_nmi() -> bool;
        /// Tells whether something is delivered on the next entry.
        has_event() -> bool;
        /// Tells whether the last exit interrupted the delivery of an event.
        was_delivering() -> bool;
        /// Returns CR8.
        task_priority() -> u8;
        /// Tells whether the hardware delivers the vectors of a local APIC that is
        /// enabled and reached like this.
        delivers(mode: Mode) -> bool;
    }
    changes {
        /// Puts all registers to where the guest starts.
        start(state: &BootState);
        /// Comes to this CPU.
        bind();
        /// Leaves this CPU.
        unbind();
        /// Sets the address space identifier, and what the TLB forgets.
        set_address_space(id: u32, flush: Flush);
        /// Sets what the guest's time-stamp counter is ahead of this CPU's.
        set_tsc_offset(offset: u64);
        /// Goes on behind an instruction of this length, where the CPU does not say it.
        skip(length: u8);
        /// Goes on at an address: the instruction before it is done.
        go_on_at(next: u64);
        /// Sets the flags.
        set_rflags(rflags: u64);
        /// Sets CR4 when the guest has left for that; the caller has checked the value.
        set_cr4(value: u64);
        /// Sets EFER; the caller has checked the value.
        set_efer(value: u64);
        /// Sets the page attribute table.
        set_pat(value: u64);
        /// Sets the address of a page fault.
        set_cr2(address: u64);
        /// Sets DR6.
        set_dr6(value: u64);
        /// Delivers an event on the next entry.
        inject(event: Event);
        /// Takes up an event again whose delivery was interrupted by this exit.
        resume_event();
        /// Makes the guest leave as soon as it can take an interrupt of this priority.
        open_window(priority: u8);
        /// Withdraws [`Self::open_window`].
        close_window();
        /// Sets CR8.
        set_task_priority(priority: u8);
        /// Has the hardware deliver the local APIC's vectors.
        give_apic(mode: Mode, given: Given);
        /// Withdraws [`Self::give_apic`].
        take_apic();
        /// Makes the guest leave when its NMI ends.
        watch_nmi_end(watch: NmiWatch);
        /// Lets the guest have the debug registers, or makes it leave at the first access.
        give_debug(to: DebugOwner);
    }
}
