// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! System registers as typed values.
//!
//! A [`SysReg`] is a register's encoding and its fields; reading and writing it
//! is the only thing it does. Used by every file of this crate that touches the
//! hardware, and by nothing outside. Off the real machine the registers are a
//! fake, one set for each test thread, so that the logic above can be tested.
//! Registers are named by encoding and not by name, so that no assembler has to
//! know the architecture's extensions.
//!
//! Spec: Arm Architecture Reference Manual, "AArch64 System Register Encoding".

mod control;
mod debug;
mod gic;
mod guest;
mod id;
mod its;

#[cfg_attr(all(target_arch = "aarch64", target_os = "none"), path = "hardware.rs")]
#[cfg_attr(
    not(all(target_arch = "aarch64", target_os = "none")),
    path = "fake.rs"
)]
mod access;

use core::marker::PhantomData;

use tock_registers::{
    RegisterLongName,
    interfaces::{Readable, Writeable},
};

pub(crate) use access::{
    firmware_call, flush_all_guests, flush_vmid, invalidate_instructions, random_word, synchronize,
    translate_read,
};
pub(crate) use control::*;
pub(crate) use debug::*;
pub(crate) use gic::*;
pub use guest::GuestSystemRegisters;
pub(crate) use guest::*;
pub(crate) use id::*;
pub(crate) use its::*;

/// A system register's encoding: op0, op1, CRn, CRm, op2 from the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SysRegId(u16);

impl SysRegId {
    /// Makes an encoding of its five fields.
    pub const fn new(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> Self {
        Self((op0 & 3) << 14 | (op1 & 7) << 11 | (crn & 15) << 7 | (crm & 15) << 3 | (op2 & 7))
    }

    /// Returns the encoding as a number.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Returns op0.
    pub const fn op0(self) -> u16 {
        self.0 >> 14
    }

    /// Returns op1.
    pub const fn op1(self) -> u16 {
        self.0 >> 11 & 7
    }

    /// Returns CRn.
    pub const fn crn(self) -> u16 {
        self.0 >> 7 & 15
    }

    /// Returns CRm.
    pub const fn crm(self) -> u16 {
        self.0 >> 3 & 15
    }

    /// Returns op2.
    pub const fn op2(self) -> u16 {
        self.0 & 7
    }
}

/// Returns the number of an encoding, for [`SysReg`].
pub(crate) const fn id(op0: u16, op1: u16, crn: u16, crm: u16, op2: u16) -> u16 {
    SysRegId::new(op0, op1, crn, crm, op2).number()
}

/// A system register.
pub(crate) struct SysReg<const ID: u16, R: RegisterLongName = PLAIN::Register>(PhantomData<R>);

impl<const ID: u16, R: RegisterLongName> SysReg<ID, R> {
    const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<const ID: u16, R: RegisterLongName> Readable for SysReg<ID, R> {
    type T = u64;
    type R = R;

    #[inline]
    fn get(&self) -> u64 {
        access::read::<ID>()
    }
}

impl<const ID: u16, R: RegisterLongName> Writeable for SysReg<ID, R> {
    type T = u64;
    type R = R;

    #[inline]
    fn set(&self, value: u64) {
        access::write::<ID>(value);
    }
}
