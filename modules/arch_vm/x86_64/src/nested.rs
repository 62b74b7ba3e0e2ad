// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The format of nested page tables that this machine's hardware reads.

use axvm::{
    HostPhysAddr, MappingFlags,
    stage2::{Entry, TableFormat},
};

use crate::{ept::Extended, npt::LongMode};

/// One of the two formats.
#[derive(Clone, Copy, Debug)]
pub enum Nested {
    /// SVM's.
    LongMode(LongMode),
    /// VMX's.
    Extended(Extended),
}

/// Asks the format that there is.
macro_rules! passed_on {
    ($self:ident, $format:ident => $call:expr) => {
        match $self {
            Self::LongMode($format) => $call,
            Self::Extended($format) => $call,
        }
    };
}

impl TableFormat for Nested {
    fn address_bits(self) -> usize {
        passed_on!(self, format => format.address_bits())
    }

    fn levels(self) -> usize {
        passed_on!(self, format => format.levels())
    }

    fn largest_leaf(self) -> usize {
        passed_on!(self, format => format.largest_leaf())
    }

    fn table(self, table: HostPhysAddr) -> u64 {
        passed_on!(self, format => format.table(table))
    }

    fn leaf(self, to: HostPhysAddr, flags: MappingFlags, level: usize) -> Option<u64> {
        passed_on!(self, format => format.leaf(to, flags, level))
    }

    fn entry(self, value: u64, level: usize) -> Entry {
        passed_on!(self, format => format.entry(value, level))
    }
}
