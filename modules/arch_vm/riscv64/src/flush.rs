// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Carries fences of a guest out on the hart that it runs on.
//!
//! Called by the vCPU before it enters its guest and by its own calls, with its
//! VMID loaded.
//!
//! Spec: RISC-V Privileged, HFENCE.VVMA; Unprivileged, FENCE.I.

use crate::{
    entry,
    fence::{Asid, Fence, Range, Waiting},
};

/// Carries one fence out; not inlined, as `fast` would pay for its registers.
#[inline(never)]
pub(crate) fn fence(fence: Fence) {
    match fence {
        Fence::Instructions => entry::fence_instructions(),
        Fence::Tables { range, asid } => tables(range, asid),
    }
}

/// Carries out what waited.
pub(crate) fn waiting(waiting: &Waiting) {
    if waiting.instructions {
        entry::fence_instructions();
    }
    waiting
        .tables()
        .for_each(|(range, asid)| tables(range, asid));
}

fn tables(range: Range, asid: Asid) {
    match (range.pages(), asid) {
        (None, Asid::Every) => entry::fence_tables(),
        (None, Asid::One(asid)) => entry::fence_asid(asid),
        (Some(pages), Asid::Every) => pages.for_each(entry::fence_page),
        (Some(pages), Asid::One(asid)) => {
            pages.for_each(|page| entry::fence_page_of(page, asid));
        }
    }
}
