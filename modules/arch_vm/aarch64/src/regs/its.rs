// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What guests write to the interrupt translation service, as values.
//!
//! Registers of the service and of redistributors' LPIs, the words of commands,
//! and the entries of tables, whose format is ours.
//!
//! Spec: Arm GIC Architecture Specification v3, "ITS register descriptions",
//! "ITS commands".

use tock_registers::register_bitfields;

register_bitfields![u64,
    pub(crate) GITS_CTLR [
        ENABLED OFFSET(0) NUMBITS(1) [],
        /// Nothing is left to be done.
        QUIESCENT OFFSET(31) NUMBITS(1) []
    ],

    pub(crate) CBASER [
        /// Pages of 4 KiB, less one.
        SIZE OFFSET(0) NUMBITS(8) [],
        ADDRESS OFFSET(12) NUMBITS(40) [],
        VALID OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) BASER [
        /// Pages, less one.
        SIZE OFFSET(0) NUMBITS(8) [],
        PAGE_SIZE OFFSET(8) NUMBITS(2) [],
        ADDRESS OFFSET(12) NUMBITS(36) [],
        ENTRY_SIZE OFFSET(48) NUMBITS(5) [],
        TYPE OFFSET(56) NUMBITS(3) [ Devices = 1, Collections = 4 ],
        INDIRECT OFFSET(62) NUMBITS(1) [],
        VALID OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) PROPBASER [
        /// Bits of an interrupt's number, less one.
        ID_BITS OFFSET(0) NUMBITS(5) [],
        ADDRESS OFFSET(12) NUMBITS(40) []
    ],

    pub(crate) PENDBASER [
        ADDRESS OFFSET(16) NUMBITS(36) [],
        /// The table is all zero.
        ZEROED OFFSET(62) NUMBITS(1) []
    ],

    /// The first word of a command.
    pub(crate) COMMAND_0 [
        KIND OFFSET(0) NUMBITS(8) [],
        DEVICE OFFSET(32) NUMBITS(32) []
    ],

    pub(crate) COMMAND_1 [
        /// MAPD: bits of an event's number, less one.
        SIZE OFFSET(0) NUMBITS(5) [],
        EVENT OFFSET(0) NUMBITS(32) [],
        INTID OFFSET(32) NUMBITS(32) []
    ],

    pub(crate) COMMAND_2 [
        COLLECTION OFFSET(0) NUMBITS(16) [],
        /// MAPD: where the device's table is, without its lowest bits.
        TABLE OFFSET(8) NUMBITS(44) [],
        REDISTRIBUTOR OFFSET(16) NUMBITS(35) [],
        VALID OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) COMMAND_3 [
        REDISTRIBUTOR OFFSET(16) NUMBITS(35) []
    ],

    pub(crate) DEVICE_ENTRY [
        BITS OFFSET(0) NUMBITS(5) [],
        TABLE OFFSET(8) NUMBITS(44) [],
        VALID OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) EVENT_ENTRY [
        INTID OFFSET(0) NUMBITS(24) [],
        COLLECTION OFFSET(32) NUMBITS(16) [],
        VALID OFFSET(63) NUMBITS(1) []
    ],

    pub(crate) COLLECTION_ENTRY [
        VCPU OFFSET(0) NUMBITS(16) [],
        VALID OFFSET(63) NUMBITS(1) []
    ]
];
