// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The registers by which a CPU debugs itself.
//!
//! A CPU has two to sixteen breakpoints and watchpoints, as ID_AA64DFR0_EL1 says;
//! whoever accesses others gets an exception.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 Self-hosted Debug".

use tock_registers::{
    interfaces::{Readable, Writeable},
    register_bitfields,
};

use super::{SysReg, id};

register_bitfields![u64,
    pub(crate) MDSCR [
        /// Step one instruction.
        SS OFFSET(0) NUMBITS(1) [],
        /// Breakpoints and watchpoints are on.
        MDE OFFSET(15) NUMBITS(1) []
    ]
];

pub(crate) const MDSCR_EL1: SysReg<{ id(2, 0, 0, 2, 2) }, MDSCR::Register> = SysReg::new();
pub(crate) const OSLAR_EL1: SysReg<{ id(2, 0, 1, 0, 4) }> = SysReg::new();

/// The most breakpoints, or watchpoints, that there can be.
pub(crate) const POINTS_MAX: usize = 16;

/// An address, and when it counts.
pub(crate) type Point = [u64; 2];

/// Declares the access to pairs of registers by index.
macro_rules! points {
    ($what:literal, $read:ident, $write:ident, $address:literal, $control:literal: $($index:literal)*) => {
        #[doc = concat!("Reads a ", $what, "; those that there cannot be are off.")]
        pub(crate) fn $read(index: usize) -> Point {
            match index {
                $($index => [
                    SysReg::<{ id(2, 0, 0, $index, $address) }>::new().get(),
                    SysReg::<{ id(2, 0, 0, $index, $control) }>::new().get(),
                ],)*
                _ => [0; 2],
            }
        }

        #[doc = concat!("Writes a ", $what, ".")]
        pub(crate) fn $write(index: usize, [address, control]: Point) {
            match index {
                $($index => {
                    SysReg::<{ id(2, 0, 0, $index, $address) }>::new().set(address);
                    SysReg::<{ id(2, 0, 0, $index, $control) }>::new().set(control);
                })*
                _ => {}
            }
        }
    };
}

points! { "breakpoint", read_breakpoint, write_breakpoint, 4, 5: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
points! { "watchpoint", read_watchpoint, write_watchpoint, 6, 7: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 }
