// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Control and status registers as typed values.
//!
//! A [`Csr`] is a register's number and its fields; reading and writing it is
//! the only thing it does. Used by every file of this crate that touches the
//! hardware, and by nothing outside. Off the real machine the registers are a
//! fake, one set for each test thread, so that the logic above can be tested.
//!
//! Spec: RISC-V Privileged, "Control and Status Registers (CSRs)".

mod hypervisor;
mod supervisor;

#[cfg_attr(all(target_arch = "riscv64", target_os = "none"), path = "hardware.rs")]
#[cfg_attr(
    not(all(target_arch = "riscv64", target_os = "none")),
    path = "fake.rs"
)]
mod access;

use core::marker::PhantomData;

use tock_registers::{
    RegisterLongName,
    interfaces::{Readable, Writeable},
};

#[cfg(test)]
pub(crate) use access::limit;
pub(crate) use hypervisor::*;
pub(crate) use supervisor::*;

/// A control and status register.
pub(crate) struct Csr<const NUMBER: u16, R: RegisterLongName>(PhantomData<R>);

impl<const NUMBER: u16, R: RegisterLongName> Csr<NUMBER, R> {
    const fn new() -> Self {
        Self(PhantomData)
    }

    /// Sets the bits that are one in `bits` and returns what was there.
    pub(crate) fn set_bits(&self, bits: u64) -> u64 {
        access::set_bits::<NUMBER>(bits)
    }

    /// Clears the bits that are one in `bits` and returns what was there.
    pub(crate) fn clear_bits(&self, bits: u64) -> u64 {
        access::clear_bits::<NUMBER>(bits)
    }

    /// Writes `value` and returns what was there.
    pub(crate) fn swap(&self, value: u64) -> u64 {
        access::swap::<NUMBER>(value)
    }
}

impl<const NUMBER: u16, R: RegisterLongName> Readable for Csr<NUMBER, R> {
    type T = u64;
    type R = R;

    #[inline]
    fn get(&self) -> u64 {
        access::read::<NUMBER>()
    }
}

impl<const NUMBER: u16, R: RegisterLongName> Writeable for Csr<NUMBER, R> {
    type T = u64;
    type R = R;

    #[inline]
    fn set(&self, value: u64) {
        access::write::<NUMBER>(value);
    }
}
