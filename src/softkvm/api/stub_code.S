/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stub's program (stub.h): makes the system calls of a list. RBX: the first struct stub_op; R12: how many there are. Ends at INT3, with R12 = 0 if each
 * has returned what it should. It has no stack, and is copied to where it runs.
 */
        .text
        .globl  stub_code, stub_code_once, stub_code_end
        .type   stub_code, @object
stub_code:
        mov     0(%rbx), %rax
        mov     8(%rbx), %rdi
        mov     16(%rbx), %rsi
        mov     24(%rbx), %rdx
        mov     32(%rbx), %r10
        mov     40(%rbx), %r8
        mov     48(%rbx), %r9
        syscall
        cmp     56(%rbx), %rax
        jne     1f
        add     $64, %rbx
        dec     %r12
        jnz     stub_code
1:      int3
stub_code_once: /* one call, with its arguments in the registers */
        syscall
        int3
stub_code_end:
        .size   stub_code, . - stub_code
        .section .note.GNU-stack,"",@progbits
