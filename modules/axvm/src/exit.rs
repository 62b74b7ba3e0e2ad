// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Why a vCPU came back from its guest.
//!
//! Only what leaves the architecture is here; firmware calls, timers and
//! in-VM interrupt controllers are finished inside `arch_vm`.

use axvm_types::{AccessWidth, GuestPhysAddr, Port, SysRegAddr};

use crate::{MappingFlags, TraceEntry};

/// What one call of a vCPU's `run` ended with.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxVCpuExitReason {
    /// The guest called AxHive itself; the result goes to `set_return_value`.
    Hypercall {
        /// Which call.
        nr: u64,
        /// Its arguments.
        args: [u64; 6],
    },
    /// The guest read an address that is not RAM.
    MmioRead {
        /// Where.
        addr: GuestPhysAddr,
        /// How many bytes.
        width: AccessWidth,
        /// The register that takes the value.
        reg: usize,
        /// The width to which the value is extended.
        reg_width: AccessWidth,
        /// Whether the extension copies the sign.
        signed_ext: bool,
    },
    /// The guest wrote an address that is not RAM.
    MmioWrite {
        /// Where.
        addr: GuestPhysAddr,
        /// How many bytes.
        width: AccessWidth,
        /// The value.
        data: u64,
    },
    /// The guest read a system register that the bus answers.
    SysRegRead {
        /// Which one.
        addr: SysRegAddr,
        /// The register that takes the value.
        reg: usize,
    },
    /// The guest wrote a system register that the bus answers.
    SysRegWrite {
        /// Which one.
        addr: SysRegAddr,
        /// The value.
        value: u64,
    },
    /// The guest read an I/O port; the value goes to `set_return_value`.
    IoRead {
        /// Which one.
        port: Port,
        /// How many bytes.
        width: AccessWidth,
    },
    /// The guest wrote an I/O port.
    IoWrite {
        /// Which one.
        port: Port,
        /// How many bytes.
        width: AccessWidth,
        /// The value.
        data: u64,
    },
    /// The host has an interrupt; it is taken when interrupts are open again.
    ExternalInterrupt {
        /// The host's number for it, as far as it is known.
        vector: u64,
    },
    /// The guest touched an address that stage 2 does not allow.
    NestedPageFault {
        /// Where.
        addr: GuestPhysAddr,
        /// What it wanted.
        access_flags: MappingFlags,
    },
    /// The guest waits for an interrupt.
    Halt,
    /// The guest starts another of its CPUs; the answer is
    /// [`ArchVm::cpu_up_status`](crate::ArchVm::cpu_up_status).
    CpuUp {
        /// The architecture's id of that CPU, as the guest gave it.
        target_cpu: u64,
        /// Where it starts.
        entry_point: GuestPhysAddr,
        /// What it is given.
        arg: u64,
    },
    /// The guest switches the calling CPU off.
    CpuDown {
        /// The state asked for, as the firmware interface defines it.
        state: u64,
    },
    /// The guest ended its machine.
    SystemDown {
        /// How.
        request: axdevice::PowerRequest,
    },
    /// The guest uses its console by a firmware call; the answer goes to
    /// `set_return_value`.
    Console {
        /// What it wants.
        call: ConsoleCall,
    },
    /// Nothing to do: look at requests and go on.
    Nothing,
    /// The hardware refused to enter the guest; the VM cannot go on.
    FailEntry {
        /// The hardware's own reason.
        hardware_entry_failure_reason: u64,
    },
    /// The guest interrupts other CPUs of its VM.
    SendIPI {
        /// Which ones.
        targets: IpiTargets,
        /// With which interrupt.
        vector: u64,
    },
    /// The guest's CPU met a fault at each attempt to deliver one, and shut down: on
    /// x86 the VM stops with this fault.
    TripleFault,
    /// The guest did what cannot be handled; the VM stops with this fault.
    Unhandled {
        /// The architecture's code of the event (cause register, exit code).
        code: u64,
        /// What goes with it (address, qualification).
        detail: u64,
    },
}

/// What a guest wants of its console; the architecture has checked the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleCall {
    /// Write out RAM; the answer is how many bytes were taken.
    Write {
        /// Where they are.
        from: GuestPhysAddr,
        /// How many at most.
        size_bytes: usize,
    },
    /// Put waiting input into RAM; the answer is how many bytes there were.
    Read {
        /// Where they go.
        to: GuestPhysAddr,
        /// How many at most.
        size_bytes: usize,
    },
    /// Write one byte; the answer is zero.
    Put {
        /// The byte.
        byte: u8,
    },
    /// Take one byte of input; the answer is the byte, or all ones if none waits.
    Get,
}

/// The vCPUs that an inter-processor interrupt goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpiTargets {
    /// Bit `n` is vCPU `n`.
    Mask(u64),
    /// All but the sender.
    Others,
    /// All.
    All,
}

/// What came of a [`AxVCpuExitReason::CpuUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuUpStatus {
    /// It starts.
    Started,
    /// There is no such CPU.
    NoSuchCpu,
    /// It runs already.
    AlreadyOn,
    /// Somebody else is starting it right now.
    Pending,
    /// The entry point is not in RAM.
    BadEntry,
}

/// Exit reasons without their values: the rows of the exit counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExitKind {
    /// A call to AxHive.
    Hypercall,
    /// A firmware call finished inside the architecture.
    Firmware,
    /// A device register in memory.
    Mmio,
    /// A system register.
    SysReg,
    /// An I/O port.
    Port,
    /// A host interrupt.
    Interrupt,
    /// The guest's own timer.
    Timer,
    /// A stage-2 fault.
    PageFault,
    /// Waiting for an interrupt.
    Halt,
    /// Starting, stopping, resetting CPUs and machines.
    Power,
    /// An inter-processor interrupt.
    Ipi,
    /// Anything else.
    Other,
}

impl ExitKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Hypercall,
        Self::Firmware,
        Self::Mmio,
        Self::SysReg,
        Self::Port,
        Self::Interrupt,
        Self::Timer,
        Self::PageFault,
        Self::Halt,
        Self::Power,
        Self::Ipi,
        Self::Other,
    ];

    /// Returns the name that the console shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hypercall => "hypercall",
            Self::Firmware => "firmware",
            Self::Mmio => "mmio",
            Self::SysReg => "sysreg",
            Self::Port => "port",
            Self::Interrupt => "interrupt",
            Self::Timer => "timer",
            Self::PageFault => "page-fault",
            Self::Halt => "halt",
            Self::Power => "power",
            Self::Ipi => "ipi",
            Self::Other => "other",
        }
    }
}

impl AxVCpuExitReason {
    /// Returns the counter row that this exit belongs to.
    #[inline]
    pub fn kind(&self) -> ExitKind {
        match self {
            Self::Hypercall { .. } => ExitKind::Hypercall,
            Self::MmioRead { .. } | Self::MmioWrite { .. } => ExitKind::Mmio,
            Self::SysRegRead { .. } | Self::SysRegWrite { .. } => ExitKind::SysReg,
            Self::IoRead { .. } | Self::IoWrite { .. } => ExitKind::Port,
            Self::ExternalInterrupt { .. } => ExitKind::Interrupt,
            Self::NestedPageFault { .. } => ExitKind::PageFault,
            Self::Halt => ExitKind::Halt,
            Self::CpuUp { .. } | Self::CpuDown { .. } | Self::SystemDown { .. } => ExitKind::Power,
            Self::SendIPI { .. } => ExitKind::Ipi,
            Self::Console { .. } => ExitKind::Firmware,
            _ => ExitKind::Other,
        }
    }

    /// Returns what the trace remembers of this exit.
    #[inline]
    pub fn trace(&self, pc: u64) -> TraceEntry {
        TraceEntry {
            kind: self.kind(),
            pc,
            detail: self.detail(),
        }
    }

    /// Returns the one value that tells most about this exit.
    #[inline]
    fn detail(&self) -> u64 {
        match *self {
            Self::Hypercall { nr, .. } => nr,
            Self::MmioRead { addr, .. }
            | Self::MmioWrite { addr, .. }
            | Self::NestedPageFault { addr, .. } => addr.as_usize() as u64,
            Self::SysRegRead { addr, .. } | Self::SysRegWrite { addr, .. } => addr.addr() as u64,
            Self::IoRead { port, .. } | Self::IoWrite { port, .. } => u64::from(port.number()),
            Self::ExternalInterrupt { vector } | Self::SendIPI { vector, .. } => vector,
            Self::CpuUp { target_cpu, .. } => target_cpu,
            Self::CpuDown { state } => state,
            Self::FailEntry {
                hardware_entry_failure_reason: code,
            }
            | Self::Unhandled { code, .. } => code,
            Self::Halt
            | Self::SystemDown { .. }
            | Self::Console { .. }
            | Self::TripleFault
            | Self::Nothing => 0,
        }
    }
}
