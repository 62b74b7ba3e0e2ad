// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Why a guest left, in terms that SVM and VMX share.
//!
//! Made by a backend from its codes, handled by `handle`.

use axvm::GuestPhysAddr;

use crate::{
    insn::{self, PAGE_BYTES},
    walk::Purpose,
};

/// Why a guest left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The host has an interrupt, an NMI, or something else of its own.
    Host,
    /// The guest can take an interrupt now.
    Window,
    /// The guest writes CR8.
    TaskPriority,
    /// The guest writes CR4.
    WriteCr4,
    /// The guest is about to return from its NMI.
    NmiReturns,
    /// The guest has ended its NMI.
    NmiEnds,
    /// The hardware has ended a level-triggered interrupt of this vector.
    EndOfLevel(u8),
    /// The hardware has written a register of the local APIC, at this offset.
    ApicWritten(u64),
    /// It is finished; only what comes before an entry is left.
    Answered,
    /// CPUID.
    Cpuid,
    /// The hypercall of this backend.
    Hypercall,
    /// HLT.
    Halt,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// IN, OUT and their strings.
    Port(PortAccess),
    /// An address that nested paging does not map.
    Memory(MemoryAccess),
    /// XSETBV.
    SetXcr,
    /// An instruction of this length that does nothing here.
    Skip(u8),
    /// An instruction that this CPU does not have.
    Undefined,
    /// An instruction that is not allowed.
    Protection,
    /// A switch to the hardware task of this selector.
    NoTask(u16),
    /// The first access to a debug register.
    DebugRegister,
    /// INT1, whose #DB comes behind it.
    Int1,
    /// An exception that is the guest's own business.
    Exception(Exception),
    /// The guest's triple fault.
    Shutdown,
    /// The hardware did not enter the guest.
    Failed(u64),
    /// Anything else: the hardware's code, and what goes with it.
    Unknown(u64, u64),
}

/// An access to I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PortAccess {
    pub(crate) port: u16,
    pub(crate) width: axvm::AccessWidth,
    pub(crate) is_input: bool,
    pub(crate) is_string: bool,
    /// Where the next instruction is.
    pub(crate) next_rip: u64,
}

/// An access to guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryAccess {
    pub(crate) address: GuestPhysAddr,
    pub(crate) kind: MemoryKind,
    /// It was the guest's own page tables that were to be read.
    pub(crate) is_in_walk: bool,
}

impl MemoryAccess {
    /// Tells whether it is that of an operand, of which it is known by that where it
    /// is: the CPU reports a page, and of an operand that crosses into it the other
    /// one is not known. One that was read may not be written.
    #[inline]
    pub(crate) fn is_of(&self, linear: u64, bytes: usize, purpose: Purpose) -> bool {
        linear % PAGE_BYTES == self.address.as_usize() as u64 % PAGE_BYTES
            && insn::is_in_page(linear, bytes)
            && (self.kind == MemoryKind::Write || purpose == Purpose::Read)
    }
}

/// What an access to memory was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemoryKind {
    Read,
    Write,
    Fetch,
}

/// An exception, with its error code if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    pub(crate) vector: u8,
    pub(crate) error: Option<u32>,
}

impl Exception {
    pub(crate) const DEBUG: Self = Self::plain(1);
    pub(crate) const UNDEFINED: Self = Self::plain(6);
    pub(crate) const FLOATING_POINT: Self = Self::plain(16);
    pub(crate) const STACK: Self = Self::with(12, 0);
    pub(crate) const PROTECTION: Self = Self::with(13, 0);
    pub(crate) const ALIGNMENT: Self = Self::with(17, 0);

    const fn plain(vector: u8) -> Self {
        Self {
            vector,
            error: None,
        }
    }

    const fn with(vector: u8, error: u32) -> Self {
        Self {
            vector,
            error: Some(error),
        }
    }

    /// Returns the fault of a segment that may not be used.
    pub(crate) const fn of_selector(selector: u16) -> Self {
        // The lowest bits are the event's, not the privilege.
        Self::with(13, selector as u32 & !3)
    }

    /// Returns a page fault.
    pub(crate) const fn page_fault(error: u32) -> Self {
        Self::with(14, error)
    }
}

/// What is delivered to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Interrupt(u8),
    Nmi,
    Exception(Exception),
}
