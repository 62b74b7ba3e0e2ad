// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The image that the machine boots: a header and a flat payload.
//!
//! ```text
//! 0..8  "AXHOSTP1"   8..16 entry, from the payload's start   16..24 payload bytes   24.. payload
//! ```
//!
//! Written by `program`, read by `machine`. An image is input: it is checked
//! before RAM is touched, and refused with the key it was named by.

use alloc::{format, string::String, vec::Vec};

use axvm::ConfigFault;

/// What every image begins with.
pub const MAGIC: [u8; 8] = *b"AXHOSTP1";
/// How long a command line may be.
pub const CMDLINE_BYTES_MAX: usize = 4096;

/// A checked image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image<'a> {
    pub(crate) entry: u64,
    pub(crate) payload: &'a [u8],
}

impl<'a> Image<'a> {
    /// Reads an image.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, ConfigFault> {
        let (magic, rest) = bytes.split_first_chunk().ok_or_else(not_recognised)?;
        let (entry, rest) = rest.split_first_chunk().ok_or_else(not_recognised)?;
        let (size, payload) = rest.split_first_chunk().ok_or_else(not_recognised)?;
        if *magic != MAGIC {
            return Err(not_recognised());
        }
        let (entry, size) = (u64::from_le_bytes(*entry), u64::from_le_bytes(*size));
        if size != payload.len() as u64 || entry >= size {
            let cause = format!(
                "the image says {size} bytes and entry {entry:#x}, but has {} bytes",
                payload.len()
            );
            return Err(kernel_fault(cause, "build it again"));
        }
        Ok(Self { entry, payload })
    }

    /// Returns the bytes of an image.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let size = (self.payload.len() as u64).to_le_bytes();
        let header = [MAGIC, self.entry.to_le_bytes(), size];
        header
            .as_flattened()
            .iter()
            .chain(self.payload)
            .copied()
            .collect()
    }
}

fn not_recognised() -> ConfigFault {
    kernel_fault(
        "this is no image of the host profile".into(),
        "name a file that Program::image made",
    )
}

fn kernel_fault(cause: String, remedy: &str) -> ConfigFault {
    ConfigFault {
        key: "boot.kernel",
        cause,
        remedy: remedy.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_panic_the_parser(bytes: Vec<u8>) {
            let _ = Image::parse(&bytes);
        }

        #[test]
        fn an_image_reads_back_and_no_prefix_of_it_does(
            payload in proptest::collection::vec(any::<u8>(), 1..64),
        ) {
            let image = Image { entry: payload.len() as u64 - 1, payload: &payload };
            let bytes = image.to_bytes();
            prop_assert_eq!(Image::parse(&bytes), Ok(image));
            for end in 0..bytes.len() {
                prop_assert!(Image::parse(&bytes[..end]).is_err());
            }
        }
    }
}
