// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The one register of the SiFive test finisher.

use tock_registers::register_bitfields;

/// Size of the device's region.
pub const REGION_BYTES: u64 = 0x1000;

register_bitfields![u32,
    /// The finisher, at offset 0.
    pub FINISHER [
        STATUS OFFSET(0) NUMBITS(16) [
            Fail = 0x3333,
            Pass = 0x5555,
            Reset = 0x7777
        ],
        CODE OFFSET(16) NUMBITS(16) []
    ]
];
