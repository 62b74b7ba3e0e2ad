// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
// The world switch: into the guest of the vCPU in x0, and back.
//
// In:  x0 = vCPU, which starts with its frame; interrupts closed, the guest's
//      system registers loaded.
// Out: x0 = what is left to do; the frame has the guest's registers.
//
//  caller -> save x19-x30 -> VBAR = the table, SP = the frame -> 5: load, eret
//  guest leaves -> save x0-x18 x30 -> answer it on the host's stack -> 5:
//  6: no answer -> save x19-x29 -> finish it -> load x19-x29 -> 5:
//  8: not finished -> save the rest -> the host's VBAR -> caller
//
// While the guest runs, SP_EL2 is its frame. What answers or finishes an exit runs
// on the host's stack, with the guest's x19-x29, which a function keeps as they are.

    .macro SAVE_SOME
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    str     x18, [sp, #144]
    str     x30, [sp, #240]
    .endm

    .macro SAVE_OTHERS
    stp     x19, x20, [x9, #152]
    stp     x21, x22, [x9, #168]
    stp     x23, x24, [x9, #184]
    stp     x25, x26, [x9, #200]
    stp     x27, x28, [x9, #216]
    str     x29, [x9, #232]
    .endm

    .macro LOAD_OTHERS
    ldp     x19, x20, [sp, #152]
    ldp     x21, x22, [sp, #168]
    ldp     x23, x24, [sp, #184]
    ldp     x25, x26, [sp, #200]
    ldp     x27, x28, [sp, #216]
    ldr     x29, [sp, #232]
    .endm

    .macro HOST_FAILED
    .p2align 7
    b       3f
    .endm

    // As long as a vector may be: 32 instructions.
    .macro GUEST_LEFT finish, otherwise
    .p2align 7
    stp     x0, x1, [sp]
    SAVE_SOME
    mov     x0, sp
    ldr     x9, [sp, #{host_sp}]
    mov     sp, x9
    bl      \finish
    cbnz    x0, \otherwise
    ldr     x9, [sp, #96]
    mov     sp, x9
5:  ldr     x30, [sp, #240]
    ldr     x18, [sp, #144]
    ldp     x16, x17, [sp, #128]
    ldp     x14, x15, [sp, #112]
    ldp     x12, x13, [sp, #96]
    ldp     x10, x11, [sp, #80]
    ldp     x8, x9, [sp, #64]
    ldp     x6, x7, [sp, #48]
    ldp     x4, x5, [sp, #32]
    ldp     x2, x3, [sp, #16]
    ldp     x0, x1, [sp]
    eret
    dsb     nsh                     // nothing is speculated behind it
    isb
    .endm

    .macro GUEST_FAILED left
    .p2align 7
    stp     x0, x1, [sp]
    mov     x0, #\left
    b       9f
    .endm

    stp     x29, x30, [sp, #-112]!
    stp     x27, x28, [sp, #16]
    stp     x25, x26, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x21, x22, [sp, #64]
    stp     x19, x20, [sp, #80]
    str     x0, [sp, #96]
    mov     x9, sp
    str     x9, [x0, #{host_sp}]
    adr     x9, 1f
    msr     vbar_el2, x9
    ldp     x9, x10, [x0, #{pc}]
    msr     elr_el2, x9
    msr     spsr_el2, x10
    mov     sp, x0
    LOAD_OTHERS
    b       5f

    .p2align 11
1:
    HOST_FAILED                     // current EL, SP_EL0
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED                     // current EL, SP_EL2
    HOST_FAILED
    HOST_FAILED
    HOST_FAILED
    GUEST_LEFT {answer}, 6f         // lower EL, AArch64
    GUEST_LEFT {finish_interrupt}, 7f
    GUEST_FAILED {fiq}
    GUEST_FAILED {error}
    GUEST_LEFT {answer}, 6f         // lower EL, AArch32
    GUEST_LEFT {finish_interrupt}, 7f
    GUEST_FAILED {fiq}
    GUEST_FAILED {error}

    .p2align 7
6:  ldr     x9, [sp, #96]
    SAVE_OTHERS
    mov     x0, x9
    bl      {finish}
    ldr     x9, [sp, #96]
    cbnz    x0, 8f
    mov     sp, x9
    LOAD_OTHERS
    b       5b

9:  SAVE_SOME
    ldr     x9, [sp, #{host_sp}]
    mov     sp, x9
7:  ldr     x9, [sp, #96]
    SAVE_OTHERS
8:  mrs     x10, elr_el2
    mrs     x11, spsr_el2
    stp     x10, x11, [x9, #{pc}]
    adrp    x10, {host_vectors}
    ldr     x10, [x10, :lo12:{host_vectors}]
    msr     vbar_el2, x10
    ldp     x19, x20, [sp, #80]
    ldp     x21, x22, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #32]
    ldp     x27, x28, [sp, #16]
    ldp     x29, x30, [sp], #112
    ret

3:  stp     x0, x1, [sp, #-16]!
    adrp    x0, {host_vectors}
    ldr     x0, [x0, :lo12:{host_vectors}]
    msr     vbar_el2, x0
    isb
    ldp     x0, x1, [sp], #16
    eret                            // and fails again

    .purgem SAVE_SOME
    .purgem SAVE_OTHERS
    .purgem LOAD_OTHERS
    .purgem HOST_FAILED
    .purgem GUEST_LEFT
    .purgem GUEST_FAILED
