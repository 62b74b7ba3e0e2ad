// SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
// The world switch: into the guest of the vCPU in a0, and back.
//
// In:  a0 = vCPU, which starts with its frame; interrupts closed, sscratch 0,
//      the guest's CSRs loaded.
// Out: as a function that returns; the frame has the guest's registers.
//
//  caller -> save s0-s11 ra gp tp -> 4: sscratch = vCPU, stvec = 2f, the guest's
//     sepc, sstatus, gp, tp, s0-s11 -> 5: its ra, sp, t0-t6, a0-a7, sret
//  2: guest traps -> save t0-t6 a0-a7 ra sp -> a call? finish it on the host's
//     stack: sepc behind it -> 5:
//  6: anything else -> save the rest -> all as the host has it, but for s0-s11
//     -> deal with it: 4: or -> caller
//
// What is between 2 and 5 keeps sscratch, stvec, sstatus and hstatus as they are
// in the guest, and gp and tp are the guest's, too.

    .option push
    .option norelax

    addi    sp, sp, -16 * 8
    sd      ra,  0 * 8(sp)
    sd      gp,  1 * 8(sp)
    sd      tp,  2 * 8(sp)
    sd      s0,  3 * 8(sp)
    sd      s1,  4 * 8(sp)
    sd      s2,  5 * 8(sp)
    sd      s3,  6 * 8(sp)
    sd      s4,  7 * 8(sp)
    sd      s5,  8 * 8(sp)
    sd      s6,  9 * 8(sp)
    sd      s7, 10 * 8(sp)
    sd      s8, 11 * 8(sp)
    sd      s9, 12 * 8(sp)
    sd      s10, 13 * 8(sp)
    sd      s11, 14 * 8(sp)
    sd      sp, {host_sp}(a0)
    csrr    t0, stvec
    sd      t0, {host_stvec}(a0)
    csrr    t0, sstatus
    sd      t0, {host_sstatus}(a0)

4:
    csrw    sscratch, a0
    la      t0, 2f
    csrw    stvec, t0
    ld      t0, {sepc}(a0)
    csrw    sepc, t0
    ld      t0, {sstatus}(a0)
    csrw    sstatus, t0
    li      t0, {spv}
    csrs    0x600, t0               // hstatus: sret goes to V=1
    ld      gp,  3 * 8(a0)
    ld      tp,  4 * 8(a0)
    ld      s0,  8 * 8(a0)
    ld      s1,  9 * 8(a0)
    ld      s2, 18 * 8(a0)
    ld      s3, 19 * 8(a0)
    ld      s4, 20 * 8(a0)
    ld      s5, 21 * 8(a0)
    ld      s6, 22 * 8(a0)
    ld      s7, 23 * 8(a0)
    ld      s8, 24 * 8(a0)
    ld      s9, 25 * 8(a0)
    ld      s10, 26 * 8(a0)
    ld      s11, 27 * 8(a0)
    j       5f

    .balign 4                       // stvec has no low bits
2:
    csrrw   a0, sscratch, a0
    sd      ra,  1 * 8(a0)
    sd      sp,  2 * 8(a0)
    sd      t0,  5 * 8(a0)
    sd      t1,  6 * 8(a0)
    sd      t2,  7 * 8(a0)
    sd      a1, 11 * 8(a0)
    sd      a2, 12 * 8(a0)
    sd      a3, 13 * 8(a0)
    sd      a4, 14 * 8(a0)
    sd      a5, 15 * 8(a0)
    sd      a6, 16 * 8(a0)
    sd      a7, 17 * 8(a0)
    sd      t3, 28 * 8(a0)
    sd      t4, 29 * 8(a0)
    sd      t5, 30 * 8(a0)
    sd      t6, 31 * 8(a0)
    csrrw   t0, sscratch, a0        // the guest's a0
    sd      t0, 10 * 8(a0)

    csrr    t0, scause
    li      t1, {supervisor_ecall}
    ld      sp, {host_sp}(a0)
    bne     t0, t1, 6f
    call    {finish_call}           // returns the vCPU, or 0
    beqz    a0, 6f
    csrr    t0, sepc
    addi    t0, t0, 4
    csrw    sepc, t0
5:
    ld      ra,  1 * 8(a0)
    ld      sp,  2 * 8(a0)
    ld      t0,  5 * 8(a0)
    ld      t1,  6 * 8(a0)
    ld      t2,  7 * 8(a0)
    ld      a1, 11 * 8(a0)
    ld      a2, 12 * 8(a0)
    ld      a3, 13 * 8(a0)
    ld      a4, 14 * 8(a0)
    ld      a5, 15 * 8(a0)
    ld      a6, 16 * 8(a0)
    ld      a7, 17 * 8(a0)
    ld      t3, 28 * 8(a0)
    ld      t4, 29 * 8(a0)
    ld      t5, 30 * 8(a0)
    ld      t6, 31 * 8(a0)
    ld      a0, 10 * 8(a0)
    sret

6:
    csrrw   a0, sscratch, zero
    sd      gp,  3 * 8(a0)
    sd      tp,  4 * 8(a0)
    sd      s0,  8 * 8(a0)
    sd      s1,  9 * 8(a0)
    sd      s2, 18 * 8(a0)
    sd      s3, 19 * 8(a0)
    sd      s4, 20 * 8(a0)
    sd      s5, 21 * 8(a0)
    sd      s6, 22 * 8(a0)
    sd      s7, 23 * 8(a0)
    sd      s8, 24 * 8(a0)
    sd      s9, 25 * 8(a0)
    sd      s10, 26 * 8(a0)
    sd      s11, 27 * 8(a0)

    ld      t0, {host_stvec}(a0)
    csrw    stvec, t0
    ld      t0, {host_sstatus}(a0)
    csrrw   t0, sstatus, t0
    sd      t0, {sstatus}(a0)
    csrr    t0, sepc
    sd      t0, {sepc}(a0)
    ld      gp,  1 * 8(sp)
    ld      tp,  2 * 8(sp)
    call    {take_exit}             // returns the vCPU, or 0
    bnez    a0, 4b

    ld      ra,  0 * 8(sp)
    ld      s0,  3 * 8(sp)
    ld      s1,  4 * 8(sp)
    ld      s2,  5 * 8(sp)
    ld      s3,  6 * 8(sp)
    ld      s4,  7 * 8(sp)
    ld      s5,  8 * 8(sp)
    ld      s6,  9 * 8(sp)
    ld      s7, 10 * 8(sp)
    ld      s8, 11 * 8(sp)
    ld      s9, 12 * 8(sp)
    ld      s10, 13 * 8(sp)
    ld      s11, 14 * 8(sp)
    addi    sp, sp, 16 * 8
    ret

    .option pop
