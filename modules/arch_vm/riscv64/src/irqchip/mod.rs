// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Interrupt controllers of the machine, as pure models.
//!
//! They know sources, harts and registers, and neither vCPUs nor locks: `harts`
//! connects their outputs to the vCPUs. A machine has a `plic`, or an `aplic`
//! that sends to `imsic` files; `aia` says where those two are.

#[cfg_attr(
    not(test),
    expect(dead_code, reason = "for machines with `intc = \"aia\"`")
)]
pub mod aia;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "for machines with `intc = \"aia\"`")
)]
pub mod aplic;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "for machines with `intc = \"aia\"`")
)]
pub mod imsic;
pub mod plic;
