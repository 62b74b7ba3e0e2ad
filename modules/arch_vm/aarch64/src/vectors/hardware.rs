// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Loading and storing wide vectors, which the hypervisor itself never uses.
//!
//! EL2's own length is the greatest that the CPU has: `percpu` sets it.
//!
//! Spec: Arm Architecture Reference Manual, "SVE registers", LDR and STR of
//! vectors and predicates, RDFFR, WRFFR.

use core::arch::global_asm;

global_asm!(
    r#"
    .arch_extension sve
    .pushsection .text.aarch64_vectors, "ax"
    .globl  aarch64_vectors_length
aarch64_vectors_length:
    rdvl    x0, #1
    ret

    .globl  aarch64_vectors_store
aarch64_vectors_store:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     z\n, [x0, #\n, mul vl]
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    str     z\n, [x0, #\n, mul vl]
    .endr
    addvl   x1, x0, #31
    addvl   x1, x1, #1
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    str     p\n, [x1, #\n, mul vl]
    .endr
    rdffr   p0.b
    str     p0, [x1, #16, mul vl]
    ret

    .globl  aarch64_vectors_load
aarch64_vectors_load:
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldr     z\n, [x0, #\n, mul vl]
    .endr
    .irp    n, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
    ldr     z\n, [x0, #\n, mul vl]
    .endr
    addvl   x1, x0, #31
    addvl   x1, x1, #1
    ldr     p0, [x1, #16, mul vl]
    wrffr   p0.b
    .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
    ldr     p\n, [x1, #\n, mul vl]
    .endr
    ret
    .popsection
    .arch_extension nosve
    "#,
);

unsafe extern "C" {
    fn aarch64_vectors_length() -> usize;
    fn aarch64_vectors_store(to: *mut u64);
    fn aarch64_vectors_load(from: *const u64);
}

/// Returns the length of a vector; they do not trap now.
pub(super) fn length_bytes() -> usize {
    // SAFETY: only reads the length.
    unsafe { aarch64_vectors_length() }
}

/// Loads the registers; they do not trap now.
pub(super) fn load(image: &[u64; super::IMAGE_WORDS]) {
    // SAFETY: the image has room for vectors of the greatest length.
    unsafe { aarch64_vectors_load(image.as_ptr()) };
}

/// Stores the registers; they do not trap now.
pub(super) fn store(image: &mut [u64; super::IMAGE_WORDS]) {
    // SAFETY: as for `load`.
    unsafe { aarch64_vectors_store(image.as_mut_ptr()) };
}
