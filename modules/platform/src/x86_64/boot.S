# SPDX-License-Identifier: Apache-2.0 OR MulanPSL-2.0
# From 32-bit protected mode (first CPU) or real mode (the others) to long mode.
# Symbols are linear addresses; physical ones are theirs minus the offset.

.section .text.boot, "ax"
.code32
.global _start
_start:
    mov     edi, eax                    # magic
    mov     esi, ebx                    # the loader's information
    lgdt    [boot_gdt_pointer - {offset}]
    mov     eax, offset primary64 - {offset}
    jmp     enter_long_mode

.balign 4
multiboot_header:
    .long   {header_magic}
    .long   {header_flags}
    .long   -({header_magic} + {header_flags})
    .long   multiboot_header - {offset}
    .long   _skernel - {offset}
    .long   0                           # the whole file, a flat binary
    .long   {memory_end}
    .long   _start - {offset}

# Goes to the physical address in eax in 64-bit mode; keeps edi and esi.
enter_long_mode:
    mov     ebp, eax
    mov     ax, 0x18
    mov     ds, ax
    mov     es, ax
    mov     ss, ax
    mov     eax, {cr4}
    mov     cr4, eax
    lea     eax, [boot_pml4 - {offset}]
    mov     cr3, eax
    mov     ecx, {efer_msr}
    xor     edx, edx
    mov     eax, {efer}
    wrmsr
    mov     eax, {cr0}
    mov     cr0, eax
    mov     eax, ebp
    .byte   0xea                        # jmp 0x10:long_mode
    .long   long_mode - {offset}
    .word   0x10

.code64
long_mode:
    xor     ecx, ecx
    mov     ds, cx
    mov     es, cx
    mov     ss, cx
    mov     fs, cx
    mov     gs, cx
    jmp     rax

primary64:
    movabs  rsp, offset {stack}
    add     rsp, {stack_size}
    movabs  rax, offset {primary}
    xor     ebp, ebp
    call    rax

secondary64:
    movabs  rax, offset ap_stack_top
    mov     rsp, [rax]
    movabs  rax, offset {secondary}
    xor     ebp, ebp
    call    rax

# What `smp` copies to a page below 1 MiB. It runs at CS = page, IP = 0.
.section .rodata.trampoline, "a"
.balign 16
.code16
.global ap_trampoline
ap_trampoline:
    cli
    mov     ax, cs
    mov     ds, ax
    .byte   0x66, 0x0f, 0x01, 0x16      # lgdt [ap_gdt_pointer], 32-bit base
    .word   ap_gdt_pointer - ap_trampoline
    mov     eax, cr0
    or      al, 1
    mov     cr0, eax
    .byte   0x66, 0xea                  # jmp 0x08:protected_mode, 32-bit
    .long   ap_protected_mode - {offset}
    .word   0x08
.balign 8
ap_gdt_pointer:
    .word   boot_gdt_end - boot_gdt - 1
    .long   boot_gdt - {offset}
.global ap_trampoline_end
ap_trampoline_end:

.section .text.boot, "ax"
.code32
ap_protected_mode:
    mov     eax, offset secondary64 - {offset}
    jmp     enter_long_mode
.code64

.section .data
.balign 16
boot_gdt:
    .quad   0
    .quad   0x00cf9b000000ffff          # 0x08: code, 32-bit
    .quad   0x00af9b000000ffff          # 0x10: code, 64-bit
    .quad   0x00cf93000000ffff          # 0x18: data
boot_gdt_end:
boot_gdt_pointer:
    .word   boot_gdt_end - boot_gdt - 1
    .long   boot_gdt - {offset}

.balign 8
.global ap_stack_top
ap_stack_top:
    .quad   0

.balign 4096
boot_pml4:                              # present, writable
    .quad   boot_pdpt - {offset} + 3
    .zero   8 * 255
    .quad   boot_pdpt - {offset} + 3
    .zero   8 * 255
boot_pdpt:
    .quad   boot_pd - {offset} + 0x0003
    .quad   boot_pd - {offset} + 0x1003
    .quad   boot_pd - {offset} + 0x2003
    .quad   boot_pd - {offset} + 0x3003
    .zero   8 * 508
boot_pd:                                # 2048 pages of 2 MiB
.set page, 0
.rept 2048
    .quad   page * 0x200000 + 0x83
    .set    page, page + 1
.endr
.text
