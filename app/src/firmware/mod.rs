// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! What the machine's firmware says: RAM, what of it is taken, the bundle.
//!
//! Read once at boot, from a device tree ([`fdt`]) or from multiboot
//! information ([`multiboot`]). Values only; how to reach the firmware's tables
//! is the caller's business.

pub mod fdt;
pub mod multiboot;

use alloc::{string::String, vec::Vec};

/// A range of physical addresses, the end not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first address.
    pub start: usize,
    /// The first address behind it.
    pub end: usize,
}

impl Span {
    /// Makes the span of `size` bytes from `start`, cut where addresses end.
    pub fn of(start: u64, size: u64) -> Self {
        let clamp = |address: u64| usize::try_from(address).unwrap_or(usize::MAX);
        Self {
            start: clamp(start),
            end: clamp(start.saturating_add(size)),
        }
    }

    fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns what is left on both sides when `hole` is cut out.
    fn without(self, hole: Self) -> [Self; 2] {
        let below = Self {
            start: self.start,
            end: self.end.min(hole.start),
        };
        let above = Self {
            start: self.start.max(hole.end),
            end: self.end,
        };
        [below, above]
    }
}

/// What the firmware says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firmware {
    /// The machine's RAM.
    pub ram: Vec<Span>,
    /// What of it is taken: by firmware, by its tables, by the bundle.
    pub taken: Vec<Span>,
    /// The bundle of VMs, if one was handed over.
    pub bundle: Option<Span>,
    /// The hypervisor's own command line.
    pub cmdline: String,
}

impl Firmware {
    /// Returns the RAM that nobody uses, `own` being the hypervisor's.
    pub fn free_ram(&self, own: impl Iterator<Item = Span>) -> Vec<Span> {
        let holes = self.taken.iter().copied().chain(self.bundle).chain(own);
        holes.fold(self.ram.clone(), |free, hole| {
            free.iter()
                .flat_map(|span| span.without(hole))
                .filter(|span| !span.is_empty())
                .collect()
        })
    }

    /// Tells whether a span is wholly RAM.
    pub fn is_ram(&self, span: Span) -> bool {
        let inside = |ram: &Span| ram.start <= span.start && span.end <= ram.end;
        !span.is_empty() && self.ram.iter().any(inside)
    }

    /// Returns the value of `key=value` on the command line.
    pub fn option(&self, key: &str) -> Option<&str> {
        self.cmdline
            .split_ascii_whitespace()
            .filter_map(|word| word.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::{Firmware, Span};

    fn span(start: usize, end: usize) -> Span {
        Span { start, end }
    }

    #[test]
    fn free_ram_is_ram_less_all_that_is_taken() {
        let firmware = Firmware {
            ram: vec![span(0x1000, 0x9000)],
            taken: vec![span(0, 0x2000), span(0x4000, 0x5000)],
            bundle: Some(span(0x8000, 0x8800)),
            ..Firmware::default()
        };
        let free = firmware.free_ram([span(0x2000, 0x3000)].into_iter());
        let expected = [
            span(0x3000, 0x4000),
            span(0x5000, 0x8000),
            span(0x8800, 0x9000),
        ];
        assert_eq!(free, expected);
    }

    #[test]
    fn a_hole_over_everything_leaves_nothing() {
        let firmware = Firmware {
            ram: vec![span(0x1000, 0x2000)],
            ..Firmware::default()
        };
        let all = [span(0, usize::MAX)].into_iter();
        assert!(firmware.free_ram(all).is_empty());
    }

    #[test]
    fn options_are_found_by_their_whole_name() {
        let firmware = Firmware {
            cmdline: "xlog=info log=warn onidle=poweroff".into(),
            ..Firmware::default()
        };
        assert_eq!(firmware.option("log"), Some("warn"));
        assert_eq!(firmware.option("onidle"), Some("poweroff"));
        assert_eq!(firmware.option("lo"), None);
    }

    #[test]
    fn a_span_that_wraps_is_cut() {
        let last = Span::of(u64::MAX - 1, 10);
        assert_eq!(last.end, usize::MAX);
    }
}
