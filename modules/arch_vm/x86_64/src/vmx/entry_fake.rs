// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch where there is no VMX: a guest leaves at once.

use super::{fields::INSTRUCTION_ERROR, vmcs};
use crate::frame::Frame;

/// Leaves the guest at once, with the exit or the error that its VMCS has.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(super) unsafe fn enter(_frame: &mut Frame, _is_launched: bool) -> bool {
    vmcs::read(INSTRUCTION_ERROR) == 0
}

/// There is nowhere to go on.
pub(super) fn exit_address() -> u64 {
    0
}
