// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Writes of control registers that touched what VMX keeps.
//!
//! VMX keeps CR0.NE and CR4.VMXE set; the guest sees its own from the shadows,
//! and leaves when it writes another value. Other bits never exit. A write of
//! CR0 that would change NE changes the shadow's and is executed again: now it
//! touches nothing that is kept, and the CPU makes all its checks and loads what
//! follows, such as the entries of PAE's page directory pointers. Of a write that
//! it refuses then, the new NE is left.
//!
//! Spec: Intel SDM 3, "Guest/Host Masks and Read Shadows for CR0 and CR4".

use super::{controls::CR_ACCESS, exit, fields::CR0_SHADOW, state::CR0_OWNED, vmcs};
use crate::{exit::Exit, frame::Frame, regs::bits};

/// Does what a write of a control register that touched what VMX keeps asks for;
/// other exits are as they were.
#[inline]
pub(super) fn finish(exit: Exit, frame: &Frame) -> Exit {
    match exit {
        Exit::Unknown(code, qualification) if code == exit::CONTROL_REGISTER.into() => {
            write(qualification, frame)
        }
        other => other,
    }
}

#[cold]
fn write(qualification: u64, frame: &Frame) -> Exit {
    let access = bits::<CR_ACCESS::Register>(qualification);
    let is_write = access.matches_all(CR_ACCESS::KIND::ToRegister);
    let value = frame.get(access.read(CR_ACCESS::GPR) as usize);
    match access.read(CR_ACCESS::NUMBER) {
        0 if is_write => {
            vmcs::modify(CR0_SHADOW, |old| old & !CR0_OWNED | value & CR0_OWNED);
            Exit::Answered
        }
        // Only VMXE leaves, which this CPU does not have for its guests.
        _ => Exit::Protection,
    }
}
