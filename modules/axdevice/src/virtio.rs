// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Virtio's transports.

mod empty_slot;

pub use empty_slot::{EmptySlot, SLOT_BYTES, add_empty_slots};
