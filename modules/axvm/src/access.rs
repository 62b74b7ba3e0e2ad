// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Guests' accesses to devices, by memory, port or system register.
//!
//! An access is finished where the vCPU's registers are at hand: by the thread's
//! loop when it has left `run`, or inside `run` already, by an architecture whose
//! world switch can go straight back to the guest. Both call [`finish`], so that
//! what an access does is written once.
//!
//! The caller is held on its CPU; its interrupts may be closed. A device may ask
//! vCPUs to look, also the one that accesses it: an architecture publishes that
//! it is outside of its guest before, and looks at its requests afterwards.

use crate::{AxArchVCpu, AxVCpuExitReason as Exit, GuestAccess};
use axdevice::AccessFault;
use axvm_types::{AccessWidth, GuestPhysAddr};

/// How a value that was read goes into a register.
#[derive(Clone, Copy)]
struct Extension {
    width: AccessWidth,
    reg_width: AccessWidth,
    is_signed: bool,
}

/// Does what a device access asks for, and gives the guest its value or fault;
/// any other exit comes back.
///
/// An architecture that calls it traces the exit itself, as it does not leave.
// Always inlined, so that an exit that was just made for it is never in memory.
#[inline(always)]
pub fn finish<V: AxArchVCpu>(vcpu: &mut V, exit: Exit) -> Option<Exit> {
    match exit {
        Exit::MmioRead {
            addr,
            width,
            reg,
            reg_width,
            signed_ext: is_signed,
        } => {
            let extension = Extension {
                width,
                reg_width,
                is_signed,
            };
            read_memory(vcpu, addr, reg, extension);
        }
        Exit::MmioWrite { addr, width, data } => {
            let written = vcpu.devices().handle_mmio_write(addr, width, data);
            give(vcpu, written, GuestAccess::Write(addr), |_, ()| {});
        }
        Exit::IoRead { port, width } => {
            let read = vcpu.devices().handle_port_read(port, width);
            give(vcpu, read, GuestAccess::PortRead, V::set_return_value);
        }
        Exit::IoWrite { port, width, data } => {
            let written = vcpu.devices().handle_port_write(port, width, data);
            give(vcpu, written, GuestAccess::PortWrite, |_, ()| {});
        }
        Exit::SysRegRead { addr, reg } => {
            let read = vcpu.devices().handle_sys_reg_read(addr);
            give(vcpu, read, GuestAccess::SysReg, |vcpu, value| {
                vcpu.set_gpr(reg, value);
            });
        }
        Exit::SysRegWrite { addr, value } => {
            let written = vcpu.devices().handle_sys_reg_write(addr, value);
            give(vcpu, written, GuestAccess::SysReg, |_, ()| {});
        }
        other => return Some(other),
    }
    None
}

#[inline]
fn read_memory<V: AxArchVCpu>(vcpu: &mut V, addr: GuestPhysAddr, reg: usize, extension: Extension) {
    let read = vcpu.devices().handle_mmio_read(addr, extension.width);
    give(vcpu, read, GuestAccess::Read(addr), |vcpu, raw| {
        vcpu.set_gpr(reg, extend(raw, extension));
    });
}

/// Gives the guest what came of its access.
#[inline]
fn give<V: AxArchVCpu, T>(
    vcpu: &mut V,
    answer: Result<T, AccessFault>,
    access: GuestAccess,
    deliver: impl FnOnce(&mut V, T),
) {
    match answer {
        Ok(value) => deliver(vcpu, value),
        Err(AccessFault) => vcpu.refuse_access(access),
    }
}

#[inline]
fn extend(raw: u64, extension: Extension) -> u64 {
    match extension.is_signed {
        true => sign_extend(raw, extension.width, extension.reg_width),
        false => truncate(raw, extension.width),
    }
}

/// Returns the number of bits above the value of a width.
#[inline]
fn bits_above(width: AccessWidth) -> u32 {
    64_u32.wrapping_sub(8_u32.wrapping_shl(width as u32))
}

/// Keeps the low bytes of a value.
#[inline]
fn truncate(raw: u64, width: AccessWidth) -> u64 {
    raw & (u64::MAX >> bits_above(width))
}

/// Copies the sign of the low bytes up to the width of the register.
#[inline]
fn sign_extend(raw: u64, width: AccessWidth, reg_width: AccessWidth) -> u64 {
    let bits = bits_above(width);
    truncate((((raw << bits) as i64) >> bits) as u64, reg_width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn extended(raw: u64, width: AccessWidth, reg_width: AccessWidth, is_signed: bool) -> u64 {
        let extension = Extension {
            width,
            reg_width,
            is_signed,
        };
        extend(raw, extension)
    }

    #[test]
    fn a_value_takes_its_sign_as_far_as_the_register_goes() {
        use AccessWidth::{Byte, Dword, Qword, Word};
        assert_eq!(extended(0x1_0080, Byte, Qword, true), u64::MAX - 0x7f);
        assert_eq!(extended(0x1_0080, Byte, Dword, true), 0xffff_ff80);
        assert_eq!(extended(0x1_0080, Byte, Qword, false), 0x80);
        assert_eq!(extended(0x7fff, Word, Qword, true), 0x7fff);
        assert_eq!(extended(u64::MAX, Qword, Qword, false), u64::MAX);
    }

    proptest! {
        #[test]
        fn a_words_extensions_are_what_casts_do(raw: u64) {
            use AccessWidth::{Dword, Qword};
            prop_assert_eq!(extended(raw, Dword, Qword, true), raw as i32 as i64 as u64);
            prop_assert_eq!(extended(raw, Dword, Qword, false), u64::from(raw as u32));
        }
    }
}
