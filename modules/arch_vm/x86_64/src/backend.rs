// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The hardware that runs guests: SVM or VMX, as CPUID says once.
//!
//! What is above sees a [`Backend`], whose methods are those that both have.

use alloc::sync::Arc;

use axvm::{AxVMHal, HostPhysAddr, Result, vmid::Flush};

use crate::{
    ept::Extended,
    exit::{Event, Exit},
    frame::Frame,
    insn::{CodeSize, SegmentName},
    nested::Nested,
    npt::LongMode,
    pc::boot::BootState,
    svm::{self, Svm},
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
            Self::Svm(_) => Nested::LongMode(LongMode),
            Self::Vmx(features) => Nested::Extended(Extended {
                has_huge_pages: features.has_huge_pages(),
            }),
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
    /// Makes the maps.
    pub(crate) fn new(hal: &H, features: Features) -> Result<Self> {
        Ok(match features {
            Features::Svm(features) => Self::Svm(features, Arc::new(svm::Maps::new(hal)?)),
            Features::Vmx(features) => Self::Vmx(features, Arc::new(vmx::Maps::new(hal)?)),
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

/// One vCPU's hardware.
pub(crate) enum Backend<H: AxVMHal> {
    Svm(Svm<H>),
    Vmx(Vmx<H>),
}

impl<H: AxVMHal> Backend<H> {
    /// Makes what a vCPU needs.
    pub(crate) fn new(hal: &H, maps: &Maps<H>) -> Result<Self> {
        match maps {
            Maps::Svm(features, maps) => Svm::new(hal, *features, maps.clone()).map(Self::Svm),
            Maps::Vmx(features, maps) => Vmx::new(hal, *features, maps.clone()).map(Self::Vmx),
        }
    }

    /// Leaves this CPU.
    pub(crate) fn unbind(&mut self) {
        if let Self::Vmx(vmx) = self {
            vmx.unbind();
        }
    }

    /// Runs the guest until it leaves, and says why.
    ///
    /// # Safety
    ///
    /// 1. The vCPU is bound to this CPU, and interrupts are closed.
    /// 2. Its nested page tables map what is the guest's.
    #[inline]
    pub(crate) unsafe fn enter(&mut self, frame: &mut Frame) -> Exit {
        match self {
            // SAFETY: 1 and 2 are the caller's.
            Self::Svm(svm) => unsafe { svm.enter(frame) },
            // SAFETY: 1 and 2 are the caller's.
            Self::Vmx(vmx) => unsafe { vmx.enter(frame) },
        }
    }
}

/// Passes methods on to the hardware that there is.
macro_rules! passed_on {
    (reads { $($read:ident($($argument:ident: $type:ty),*) -> $result:ty;)* }
     changes { $($change:ident($($value:ident: $value_type:ty),*);)* }) => {
        impl<H: AxVMHal> Backend<H> {
            $(
                #[inline]
                pub(crate) fn $read(&self, $($argument: $type),*) -> $result {
                    match self {
                        Self::Svm(svm) => svm.$read($($argument),*),
                        Self::Vmx(vmx) => vmx.$read($($argument),*),
                    }
                }
            )*
            $(
                #[inline]
                pub(crate) fn $change(&mut self, $($value: $value_type),*) {
                    match self {
                        Self::Svm(svm) => svm.$change($($value),*),
                        Self::Vmx(vmx) => vmx.$change($($value),*),
                    }
                }
            )*
        }
    };
}

passed_on! {
    reads {
    rip() -> u64;
    rflags() -> u64;
    cr0() -> u64;
    cr3() -> u64;
    cr4() -> u64;
    efer() -> u64;
    pat() -> u64;
    dr6() -> u64;
    cpl() -> u8;
    code_size() -> CodeSize;
    segment_base(name: SegmentName) -> u64;
    fetched() -> Option<&[u8]>;
    can_interrupt() -> bool;
    has_event() -> bool;
    task_priority() -> u8;
    }
    changes {
    set_nested_root(root: HostPhysAddr);
    start(state: &BootState);
    bind();
    set_address_space(id: u32, flush: Flush);
    set_tsc_offset(offset: u64);
    skip(length: u8);
    go_on_at(next: u64);
    set_rflags(rflags: u64);
    set_efer(value: u64);
    set_pat(value: u64);
    set_cr2(address: u64);
    set_dr6(value: u64);
    inject(event: Event);
    resume_event();
    open_window(priority: u8);
    close_window();
    set_task_priority(priority: u8);
    watch_nmi_end(watch: NmiWatch);
    give_debug(to: DebugOwner);
    }
}

#[cfg(test)]
impl<H: AxVMHal> Backend<H> {
    /// Returns SVM, which the tests of exits have.
    pub(crate) fn svm(&mut self) -> &mut Svm<H> {
        match self {
            Self::Svm(svm) => svm,
            Self::Vmx(_) => panic!("the test's CPU has SVM"),
        }
    }
}
