// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Registers of the local APIC, in memory and as MSRs.
//!
//! A register's number is its offset in the page divided by 16, which is also
//! its MSR less 0x800.
//!
//! Spec: Intel SDM vol. 3, "Local APIC", "Extended XAPIC (x2APIC)".

use tock_registers::{LocalRegisterCopy, register_bitfields};

register_bitfields![u64,
    /// IA32_APIC_BASE.
    pub(super) BASE [
        BSP OFFSET(8) NUMBITS(1) [],
        EXTD OFFSET(10) NUMBITS(1) [],
        EN OFFSET(11) NUMBITS(1) [],
        PAGE OFFSET(12) NUMBITS(52) []
    ],

    /// The interrupt command register; x2APIC's has 32 bits of destination.
    pub(super) COMMAND [
        VECTOR OFFSET(0) NUMBITS(8) [],
        DELIVERY OFFSET(8) NUMBITS(3) [],
        LOGICAL OFFSET(11) NUMBITS(1) [],
        BUSY OFFSET(12) NUMBITS(1) [],
        ASSERT OFFSET(14) NUMBITS(1) [],
        LEVEL OFFSET(15) NUMBITS(1) [],
        SHORTHAND OFFSET(18) NUMBITS(2) [ None = 0, Own = 1, All = 2, Others = 3 ],
        DESTINATION_BYTE OFFSET(56) NUMBITS(8) [],
        DESTINATION OFFSET(32) NUMBITS(32) []
    ],

    /// How a local APIC is addressed, as its owner tells others.
    pub(super) ADDRESS [
        LOGICAL OFFSET(0) NUMBITS(32) [],
        MODE OFFSET(32) NUMBITS(2) [ Disabled = 0, XApic = 1, X2Apic = 2 ],
        ENABLED OFFSET(34) NUMBITS(1) [],
        FLAT OFFSET(35) NUMBITS(1) []
    ]
];

register_bitfields![u32,
    pub(super) VERSION [
        VERSION OFFSET(0) NUMBITS(8) [],
        MAX_LVT OFFSET(16) NUMBITS(8) []
    ],

    pub(super) SPURIOUS [
        VECTOR OFFSET(0) NUMBITS(8) [],
        ENABLE OFFSET(8) NUMBITS(1) [],
        FOCUS OFFSET(9) NUMBITS(1) []
    ],

    /// An entry of the local vector table.
    pub(super) LVT [
        VECTOR OFFSET(0) NUMBITS(8) [],
        DELIVERY OFFSET(8) NUMBITS(3) [ Fixed = 0, Nmi = 4, ExtInt = 7 ],
        POLARITY OFFSET(13) NUMBITS(1) [],
        LEVEL OFFSET(15) NUMBITS(1) [],
        MASK OFFSET(16) NUMBITS(1) [],
        TIMER OFFSET(17) NUMBITS(2) [ OneShot = 0, Periodic = 1, TscDeadline = 2 ]
    ],

    pub(super) ERRORS [
        SEND_ILLEGAL OFFSET(5) NUMBITS(1) [],
        RECEIVE_ILLEGAL OFFSET(6) NUMBITS(1) []
    ],

    pub(super) DIVIDE [
        LOW OFFSET(0) NUMBITS(2) [],
        HIGH OFFSET(3) NUMBITS(1) []
    ],

    /// xAPIC's logical destination, identity and the destination of commands.
    pub(super) HIGH_BYTE [
        ID OFFSET(24) NUMBITS(8) []
    ],

    pub(super) FORMAT [
        MODEL OFFSET(28) NUMBITS(4) [ Cluster = 0, Flat = 15 ],
        ONES OFFSET(0) NUMBITS(28) []
    ],

    /// x2APIC's logical destination.
    pub(super) LOGICAL [
        MEMBERS OFFSET(0) NUMBITS(16) [],
        CLUSTER OFFSET(16) NUMBITS(16) []
    ],

    /// xAPIC's logical destination, by clusters.
    pub(super) LOGICAL_BYTE [
        MEMBERS OFFSET(0) NUMBITS(4) [],
        CLUSTER OFFSET(4) NUMBITS(4) []
    ],

    /// What others ask of a CPU beside interrupts.
    pub(super) SIGNALS [
        NMI OFFSET(0) NUMBITS(1) [],
        INIT OFFSET(1) NUMBITS(1) [],
        STARTUP OFFSET(2) NUMBITS(1) [],
        RECEIVE_ILLEGAL OFFSET(3) NUMBITS(1) [],
        PAGE OFFSET(8) NUMBITS(8) []
    ]
];

/// The class of a priority or a vector.
pub(super) const CLASS: u8 = 0xf0;

/// An entry of the local vector table.
pub(super) type LvtEntry = LocalRegisterCopy<u32, LVT::Register>;

/// The entries of the local vector table, in the order of their registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lvt {
    Timer,
    Thermal,
    Performance,
    Lint0,
    Lint1,
    Error,
}

impl Lvt {
    pub(super) const ALL: [Self; 6] = [
        Self::Timer,
        Self::Thermal,
        Self::Performance,
        Self::Lint0,
        Self::Lint1,
        Self::Error,
    ];
    pub(super) const COUNT: usize = Self::ALL.len();

    /// Returns the number of the entry's register.
    pub(super) fn number(self) -> u32 {
        number::TABLE.wrapping_add(self as u32)
    }

    /// Returns the bits that an entry has.
    pub(super) fn bits(self) -> u32 {
        let common = LVT::VECTOR::SET.value | LVT::MASK::SET.value;
        let of_entry = match self {
            Self::Timer => LVT::TIMER::SET.value,
            Self::Thermal | Self::Performance => LVT::DELIVERY::SET.value,
            Self::Lint0 | Self::Lint1 => {
                LVT::DELIVERY::SET.value | LVT::POLARITY::SET.value | LVT::LEVEL::SET.value
            }
            Self::Error => 0,
        };
        common | of_entry
    }
}

/// The numbers of registers.
pub(super) mod number {
    pub(crate) const ID: u32 = 0x02;
    pub(crate) const VERSION: u32 = 0x03;
    pub(crate) const TASK_PRIORITY: u32 = 0x08;
    pub(crate) const PROCESSOR_PRIORITY: u32 = 0x0a;
    pub(crate) const LOGICAL_DESTINATION: u32 = 0x0d;
    pub(crate) const DESTINATION_FORMAT: u32 = 0x0e;
    pub(crate) const SPURIOUS: u32 = 0x0f;
    /// The first of eight, as of the two that follow.
    pub(crate) const IN_SERVICE: u32 = 0x10;
    pub(crate) const LEVELS: u32 = 0x18;
    pub(crate) const REQUESTS: u32 = 0x20;
    pub(crate) const ERROR_STATUS: u32 = 0x28;
    pub(crate) const COMMAND: u32 = 0x30;
    pub(crate) const COMMAND_HIGH: u32 = 0x31;
    /// The first entry of the local vector table.
    pub(crate) const TABLE: u32 = 0x32;
    pub(crate) const INITIAL_COUNT: u32 = 0x38;
    pub(crate) const DIVIDE: u32 = 0x3e;
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Id,
    Version,
    TaskPriority,
    ArbitrationPriority,
    ProcessorPriority,
    EndOfInterrupt,
    LogicalDestination,
    DestinationFormat,
    Spurious,
    InService,
    Trigger(usize),
    Request(usize),
    ErrorStatus,
    Command,
    CommandHigh,
    Lvt(Lvt),
    InitialCount,
    CurrentCount,
    Divide,
    SelfIpi,
    Nothing,
}

impl Register {
    /// Finds the register of a number.
    pub(super) fn of(number: u32) -> Self {
        match number {
            number::ID => Self::Id,
            number::VERSION => Self::Version,
            number::TASK_PRIORITY => Self::TaskPriority,
            0x09 => Self::ArbitrationPriority,
            number::PROCESSOR_PRIORITY => Self::ProcessorPriority,
            0x0b => Self::EndOfInterrupt,
            number::LOGICAL_DESTINATION => Self::LogicalDestination,
            number::DESTINATION_FORMAT => Self::DestinationFormat,
            number::SPURIOUS => Self::Spurious,
            0x10..=0x17 => Self::InService,
            0x18..=0x1f => Self::Trigger((number & 7) as usize),
            0x20..=0x27 => Self::Request((number & 7) as usize),
            number::ERROR_STATUS => Self::ErrorStatus,
            number::COMMAND => Self::Command,
            number::COMMAND_HIGH => Self::CommandHigh,
            0x32 => Self::Lvt(Lvt::Timer),
            0x33 => Self::Lvt(Lvt::Thermal),
            0x34 => Self::Lvt(Lvt::Performance),
            0x35 => Self::Lvt(Lvt::Lint0),
            0x36 => Self::Lvt(Lvt::Lint1),
            0x37 => Self::Lvt(Lvt::Error),
            number::INITIAL_COUNT => Self::InitialCount,
            0x39 => Self::CurrentCount,
            number::DIVIDE => Self::Divide,
            0x3f => Self::SelfIpi,
            _ => Self::Nothing,
        }
    }

    /// Tells whether x2APIC has the register for reading.
    pub(super) fn is_readable_msr(self) -> bool {
        !matches!(
            self,
            Self::ArbitrationPriority
                | Self::EndOfInterrupt
                | Self::DestinationFormat
                | Self::CommandHigh
                | Self::SelfIpi
                | Self::Nothing
        )
    }

    /// Returns the bits that x2APIC lets be written; `None` refuses any.
    pub(super) fn writable_bits(self) -> Option<u64> {
        match self {
            Self::TaskPriority | Self::SelfIpi => Some(0xff),
            Self::EndOfInterrupt | Self::ErrorStatus => Some(0),
            Self::Spurious => Some(0x3ff),
            Self::Command => Some(COMMAND_BITS),
            Self::Lvt(lvt) => Some(u64::from(lvt.bits() | LVT_BUSY)),
            Self::InitialCount => Some(u32::MAX.into()),
            Self::Divide => Some((DIVIDE::LOW::SET.value | DIVIDE::HIGH::SET.value).into()),
            _ => None,
        }
    }
}

/// Delivery status and remote IRR, which writes may carry and do not change.
const LVT_BUSY: u32 = 1 << 12 | 1 << 14;

/// What a command may have set.
const COMMAND_BITS: u64 = COMMAND::VECTOR::SET.value
    | COMMAND::DELIVERY::SET.value
    | COMMAND::LOGICAL::SET.value
    | COMMAND::BUSY::SET.value
    | COMMAND::ASSERT::SET.value
    | COMMAND::LEVEL::SET.value
    | COMMAND::SHORTHAND::SET.value
    | COMMAND::DESTINATION::SET.value;

/// Returns the logical destination of an x2APIC.
pub(super) fn logical_id(id: u32) -> u32 {
    let member = 1_u32.wrapping_shl(id & 0xf);
    (LOGICAL::CLUSTER.val(id >> 4) + LOGICAL::MEMBERS.val(member)).value
}

/// Returns by how many bits a divide register shifts the rate down.
pub(super) fn divide_shift(divide: u32) -> u32 {
    let divide = LocalRegisterCopy::<u32, DIVIDE::Register>::new(divide);
    let code = divide.read(DIVIDE::HIGH) << 2 | divide.read(DIVIDE::LOW);
    code.wrapping_add(1) & 7
}
