// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! The assembly that moves a guest's general registers: the world switches' share.
//!
//! Each macro becomes a piece of assembly text. Registers come in two groups:
//! those that a call of a function may change, with RBX, in which CPUID answers,
//! and those that it keeps. RAX and RSP are in neither, since every world switch
//! has its own way with them. A register's place in the frame is eight times its
//! number.
//!
//! Spec: System V ABI, AMD64, "Register Usage".

/// Loads one register from a frame.
macro_rules! load {
    ($frame:literal, $register:literal, $offset:literal) => {
        concat!("mov ", $register, ", [", $frame, " + ", $offset, "]\n")
    };
}

/// Stores one register into a frame.
macro_rules! store {
    ($frame:literal, $register:literal, $offset:literal) => {
        concat!("mov [", $frame, " + ", $offset, "], ", $register, "\n")
    };
}

/// Loads or stores what a call may change, and RBX; the register that points to
/// the frame may be RDI, which is the last to be loaded.
macro_rules! scratch {
    ($move:ident $frame:literal) => {
        concat!(
            $crate::moves::$move!($frame, "rcx", 8),
            $crate::moves::$move!($frame, "rdx", 16),
            $crate::moves::$move!($frame, "rbx", 24),
            $crate::moves::$move!($frame, "rsi", 48),
            $crate::moves::$move!($frame, "r8", 64),
            $crate::moves::$move!($frame, "r9", 72),
            $crate::moves::$move!($frame, "r10", 80),
            $crate::moves::$move!($frame, "r11", 88),
            $crate::moves::$move!($frame, "rdi", 56),
        )
    };
}

/// Loads or stores what a call keeps.
macro_rules! kept {
    ($move:ident $frame:literal) => {
        concat!(
            $crate::moves::$move!($frame, "rbp", 40),
            $crate::moves::$move!($frame, "r12", 96),
            $crate::moves::$move!($frame, "r13", 104),
            $crate::moves::$move!($frame, "r14", 112),
            $crate::moves::$move!($frame, "r15", 120),
        )
    };
}

/// Puts away what the host's caller wants to have kept, or brings it back.
macro_rules! host_kept {
    (push) => {
        "push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15\n"
    };
    (pop) => {
        "pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n"
    };
}

pub(crate) use {host_kept, kept, load, scratch, store};
