// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
//! Handlers of exceptions of one's own, in place of the runtime's.
//!
//! Used by `interrupts` and `steps`, which route a vector to one.

/// Makes `$name` what calls `$handler` with the frame of an exception that has no
/// error code, and then returns from that.
macro_rules! handler {
    ($name:ident calls $handler:ident) => {
        core::arch::global_asm!(
            concat!(".pushsection .text.", stringify!($name), ", \"ax\""),
            concat!(".globl ", stringify!($name)),
            concat!(stringify!($name), ":"),
            "push    rax",
            "push    rcx",
            "push    rdx",
            "push    rsi",
            "push    rdi",
            "push    r8",
            "push    r9",
            "push    r10",
            "push    r11",
            "cld",
            "lea     rdi, [rsp + 9 * 8]",
            "call    {handler}",
            "pop     r11",
            "pop     r10",
            "pop     r9",
            "pop     r8",
            "pop     rdi",
            "pop     rsi",
            "pop     rdx",
            "pop     rcx",
            "pop     rax",
            "iretq",
            ".popsection",
            handler = sym $handler,
        );

        unsafe extern "C" {
            static $name: u8;
        }
    };
}

pub(crate) use handler;
