// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Fields of a piece of memory that is laid out by a specification.
//!
//! What would be behind the end of the piece is left out.

/// Puts bytes at an offset.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let slots = bytes.iter_mut().skip(at);
    slots.zip(value).for_each(|(slot, byte)| *slot = *byte);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_the_end_is_left_out() {
        let mut bytes = [0; 4];
        put(&mut bytes, 1, &[1, 2]);
        put(&mut bytes, 3, &[3, 4]);
        put(&mut bytes, usize::MAX, &[5]);
        assert_eq!(bytes, [0, 1, 2, 3]);
    }
}
