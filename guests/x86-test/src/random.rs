// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Random numbers, the same in each run; for `opcodes` and `noise`.

/// Returns what makes one number after the other.
pub fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}
