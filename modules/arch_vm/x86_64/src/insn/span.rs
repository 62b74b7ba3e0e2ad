// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Where an operand is: in one page, or in two that need not be neighbours.
//!
//! What is in one page is one access; what is not is made in parts, of which each
//! is in one page, has the size of a number and is a multiple of it, as a bus has
//! them.
//!
//! Spec: AMD64 APM 2, "Access Atomicity".

use axvm::{AccessWidth, GuestPhysAddr};

pub(crate) const PAGE_BYTES: u64 = 4096;

/// The guest-physical memory of an operand of at most a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    first: GuestPhysAddr,
    /// What is in the next page.
    second: Option<GuestPhysAddr>,
}

/// One access of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) at: GuestPhysAddr,
    pub(super) width: AccessWidth,
    /// Where its bits are in the operand.
    pub(super) shift: u32,
}

impl Span {
    /// An operand that does not cross a page's end.
    pub(crate) fn within(first: GuestPhysAddr) -> Self {
        Self {
            first,
            second: None,
        }
    }

    /// Finds an operand by its linear address; `translate` knows where each page is.
    pub(crate) fn find<E>(
        linear: u64,
        bytes: usize,
        mut translate: impl FnMut(u64) -> Result<GuestPhysAddr, E>,
    ) -> Result<Self, E> {
        let first = translate(linear)?;
        if is_in_page(linear, bytes) {
            return Ok(Self::within(first));
        }
        let second = translate((linear | PAGE_BYTES.wrapping_sub(1)).wrapping_add(1))?;
        Ok(Self {
            first,
            second: Some(second),
        })
    }

    /// Returns what is from an offset on; the offset is inside the operand.
    pub(super) fn from(self, offset: usize) -> Self {
        match (self.second, offset.checked_sub(self.room())) {
            (Some(second), Some(behind)) => Self::within(moved(second, behind)),
            _ => Self {
                first: moved(self.first, offset),
                ..self
            },
        }
    }

    /// Returns where it is, if that is in one page.
    pub(super) fn whole(self) -> Option<GuestPhysAddr> {
        self.second.is_none().then_some(self.first)
    }

    /// Cuts an operand of this width into accesses.
    pub(super) fn parts(self, width: AccessWidth) -> impl Iterator<Item = Part> {
        let mut done = 0;
        core::iter::from_fn(move || {
            let left = width.size().checked_sub(done).filter(|left| *left != 0)?;
            let at = self.from(done);
            let part = match self.second {
                None => width,
                Some(_) => largest(at.first, left.min(at.room())),
            };
            let shift = done.wrapping_mul(8) as u32;
            done = done.saturating_add(part.size());
            Some(Part {
                at: at.first,
                width: part,
                shift,
            })
        })
    }

    /// Returns how many bytes the first page has from here on.
    fn room(self) -> usize {
        PAGE_BYTES.wrapping_sub(self.first.as_usize() as u64 % PAGE_BYTES) as usize
    }
}

/// Tells whether an operand does not cross a page's end.
pub(crate) fn is_in_page(linear: u64, bytes: usize) -> bool {
    (linear % PAGE_BYTES).saturating_add(bytes as u64) <= PAGE_BYTES
}

fn moved(address: GuestPhysAddr, by: usize) -> GuestPhysAddr {
    GuestPhysAddr::from_usize(address.as_usize().wrapping_add(by))
}

/// Returns the largest access that an address is a multiple of, and that fits.
fn largest(at: GuestPhysAddr, bytes: usize) -> AccessWidth {
    let fits =
        |width: &AccessWidth| width.size() <= bytes && at.as_usize().is_multiple_of(width.size());
    [AccessWidth::Qword, AccessWidth::Dword, AccessWidth::Word]
        .into_iter()
        .find(fits)
        .unwrap_or(AccessWidth::Byte)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn at(address: usize) -> GuestPhysAddr {
        GuestPhysAddr::from_usize(address)
    }

    fn parts(linear: u64, width: AccessWidth) -> Vec<(usize, usize, u32)> {
        // The second page is elsewhere.
        let translate = |linear: u64| match linear < 0x1000 {
            true => Ok::<_, ()>(at(linear as usize | 0x7000)),
            false => Ok(at(0x3000)),
        };
        let span = Span::find(linear, width.size(), translate).unwrap();
        let parts = span.parts(width);
        parts
            .map(|part| (part.at.as_usize(), part.width.size(), part.shift))
            .collect()
    }

    #[test]
    fn what_is_in_one_page_is_one_access_wherever_it_is() {
        assert_eq!(parts(0xff8, AccessWidth::Qword), [(0x7ff8, 8, 0)]);
        assert_eq!(parts(0x123, AccessWidth::Dword), [(0x7123, 4, 0)]);
    }

    #[test]
    fn what_crosses_a_page_is_cut_into_numbers_that_do_not() {
        assert_eq!(
            parts(0xffd, AccessWidth::Dword),
            [(0x7ffd, 1, 0), (0x7ffe, 2, 8), (0x3000, 1, 24)]
        );
        assert_eq!(
            parts(0xffc, AccessWidth::Qword),
            [(0x7ffc, 4, 0), (0x3000, 4, 32)]
        );
        assert_eq!(
            parts(0xfff, AccessWidth::Word),
            [(0x7fff, 1, 0), (0x3000, 1, 8)]
        );
    }

    #[test]
    fn a_later_piece_of_an_operand_is_where_it_was_found() {
        let translate = |linear: u64| Ok::<_, ()>(at((linear as usize ^ 0x4000) + 0x10_0000));
        let span = Span::find(0xff4, 32, translate).unwrap();
        assert_eq!(span.from(8).first, at(0x10_4ffc));
        assert_eq!(span.from(12), Span::within(at(0x10_5000)));
        assert_eq!(span.from(24), Span::within(at(0x10_500c)));
    }
}
