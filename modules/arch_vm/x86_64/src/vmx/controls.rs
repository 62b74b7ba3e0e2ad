// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The control words of a VMCS, and the words that exits bring.
//!
//! Spec: Intel SDM 3, "VM-Execution Control Fields", "VM-Exit Control Fields",
//! "VM-Entry Control Fields", "Information for VM Exits Due to Vectored Events".

use bitflags::bitflags;
use tock_registers::register_bitfields;

bitflags! {
    /// What external events do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Pin: u32 {
        const EXTERNAL_INTERRUPT = 1 << 0;
        const NMI = 1 << 3;
        const VIRTUAL_NMIS = 1 << 5;
        const PREEMPTION_TIMER = 1 << 6;
    }
}

bitflags! {
    /// What instructions do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Primary: u32 {
        const INTERRUPT_WINDOW = 1 << 2;
        const TSC_OFFSET = 1 << 3;
        const HLT = 1 << 7;
        const MWAIT = 1 << 10;
        const RDPMC = 1 << 11;
        const TPR_SHADOW = 1 << 21;
        const NMI_WINDOW = 1 << 22;
        const MOV_DR = 1 << 23;
        const UNCONDITIONAL_IO = 1 << 24;
        const MSR_BITMAPS = 1 << 28;
        const MONITOR = 1 << 29;
        const SECONDARY = 1 << 31;
        /// Exits for CR3, which old CPUs cannot do without.
        const CR3_LOAD = 1 << 15;
        const CR3_STORE = 1 << 16;
    }
}

bitflags! {
    /// What later CPUs added.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Secondary: u32 {
        const APIC_ACCESSES = 1 << 0;
        const EPT = 1 << 1;
        const RDTSCP = 1 << 3;
        const X2APIC = 1 << 4;
        const VPID = 1 << 5;
        const WBINVD = 1 << 6;
        const UNRESTRICTED_GUEST = 1 << 7;
        const APIC_REGISTERS = 1 << 8;
        const INTERRUPT_DELIVERY = 1 << 9;
        const INVPCID = 1 << 12;
    }
}

bitflags! {
    /// What exits save and load.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct ExitControls: u32 {
        const SAVE_DEBUG = 1 << 2;
        const HOST_64_BIT = 1 << 9;
        const SAVE_PAT = 1 << 18;
        const LOAD_PAT = 1 << 19;
        const SAVE_EFER = 1 << 20;
        const LOAD_EFER = 1 << 21;
        const SAVE_TIMER = 1 << 22;
    }
}

bitflags! {
    /// What entries load.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct EntryControls: u32 {
        const LOAD_DEBUG = 1 << 2;
        const LONG_MODE = 1 << 9;
        const LOAD_PAT = 1 << 14;
        const LOAD_EFER = 1 << 15;
    }
}

bitflags! {
    /// What keeps the guest from taking events.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Blocking: u32 {
        const STI = 1 << 0;
        const MOV_SS = 1 << 1;
        /// What ends behind one instruction.
        const SHADOW = Self::STI.bits() | Self::MOV_SS.bits();
        const NMI = 1 << 3;
    }
}

register_bitfields![u32,
    /// An event: one to deliver, one that exited, or one whose delivery did.
    pub(super) EVENT [
        VECTOR OFFSET(0) NUMBITS(8) [],
        KIND OFFSET(8) NUMBITS(3) [
            External = 0,
            Nmi = 2,
            Exception = 3,
            Int1 = 5
        ],
        HAS_ERROR OFFSET(11) NUMBITS(1) [],
        VALID OFFSET(31) NUMBITS(1) []
    ],
    /// A segment's access rights.
    pub(super) RIGHTS [
        TYPE OFFSET(0) NUMBITS(4) [],
        PRIVILEGE OFFSET(5) NUMBITS(2) [],
        PRESENT OFFSET(7) NUMBITS(1) [],
        LONG OFFSET(13) NUMBITS(1) [],
        BIG OFFSET(14) NUMBITS(1) [],
        UNUSABLE OFFSET(16) NUMBITS(1) []
    ],
    /// Why the guest left.
    pub(super) REASON [
        BASIC OFFSET(0) NUMBITS(16) [],
        ENTRY_FAILED OFFSET(31) NUMBITS(1) []
    ]
];

register_bitfields![u64,
    /// What an access to a port was.
    pub(super) IO [
        SIZE OFFSET(0) NUMBITS(3) [],
        IS_INPUT OFFSET(3) NUMBITS(1) [],
        IS_STRING OFFSET(4) NUMBITS(1) [],
        PORT OFFSET(16) NUMBITS(16) []
    ],
    /// What a task switch was.
    pub(super) TASK [
        SELECTOR OFFSET(0) NUMBITS(16) [],
        SOURCE OFFSET(30) NUMBITS(2) [
            Gate = 3
        ]
    ],
    /// What an access to memory was.
    pub(super) EPT_VIOLATION [
        READ OFFSET(0) NUMBITS(1) [],
        WRITE OFFSET(1) NUMBITS(1) [],
        FETCH OFFSET(2) NUMBITS(1) [],
        HAS_LINEAR OFFSET(7) NUMBITS(1) [],
        IS_FINAL OFFSET(8) NUMBITS(1) []
    ],
    /// Where EPT's tables are, and how they are read.
    pub(super) POINTER [
        TYPE OFFSET(0) NUMBITS(3) [
            WriteBack = 6
        ],
        WALK OFFSET(3) NUMBITS(3) [
            FourLevels = 3
        ],
        ACCESSED_DIRTY OFFSET(6) NUMBITS(1) [],
        RESERVED OFFSET(7) NUMBITS(5) []
    ],
    /// What an access to the local APIC's page was.
    pub(super) APIC_ACCESS [
        OFFSET OFFSET(0) NUMBITS(12) [],
        KIND OFFSET(12) NUMBITS(4) [
            Read = 0,
            Write = 1,
            Fetch = 2,
            Delivery = 3,
            PhysicalDelivery = 10,
            Walk = 15
        ]
    ],
    /// What an access to a control register was.
    pub(super) CR_ACCESS [
        NUMBER OFFSET(0) NUMBITS(4) [],
        KIND OFFSET(4) NUMBITS(2) [
            ToRegister = 0
        ],
        GPR OFFSET(8) NUMBITS(4) []
    ]
];
