// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The PC around the CPUs, as QEMU's q35 shows it to a guest.
//!
//! Pure logic over values and axdevice's seams, tested on the host: nothing
//! here knows SVM or VMX. `layout` says where memory is, `boot` what a loader
//! leaves behind.

pub mod boot;
pub mod layout;
