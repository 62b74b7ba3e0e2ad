// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! A set of physical CPUs as a person reads it: `0-3,5`.
//!
//! Used in complaints about `pcpus` and by the console's `vm show`.

use alloc::{format, string::String, vec::Vec};

use axvm::{PCpuId, PCpuSet};

/// Returns the set as numbers and ranges.
pub fn show(set: PCpuSet) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for cpu in (0..64).filter(|cpu| set.contains(PCpuId(*cpu))) {
        match ranges.last_mut() {
            Some((_, last)) if last.saturating_add(1) == cpu => *last = cpu,
            _ => ranges.push((cpu, cpu)),
        }
    }
    let ranges: Vec<String> = ranges.into_iter().map(show_range).collect();
    ranges.join(",")
}

fn show_range((first, last): (usize, usize)) -> String {
    if first == last {
        return format!("{first}");
    }
    format!("{first}-{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_become_ranges() {
        assert_eq!(show(PCpuSet(0b10_1111)), "0-3,5");
        assert_eq!(show(PCpuSet(1 << 63)), "63");
        assert_eq!(show(PCpuSet::ALL), "0-63");
        assert_eq!(show(PCpuSet(0)), "");
    }
}
