// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The world switch where there is no SVM: a guest leaves at once.
//!
//! Same functions as `entry`, so that what is above compiles and is tested on
//! any machine.

use crate::frame::Frame;

/// Leaves the guest at once, with the exit that its block has.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(super) unsafe fn enter(_frame: &mut Frame, _guest: u64, _host: u64) {}

/// There is nothing to store.
///
/// # Safety
///
/// None is needed here; the real one has duties.
pub(super) unsafe fn save_host(_block: u64) {}
