/* SPDX-License-Identifier: GPL-2.0-or-later */
        .text
        .globl  unwind_set
        .type   unwind_set, @function
unwind_set:
        endbr64
        mov     %rbx, 0(%rdi)
        mov     %rbp, 8(%rdi)
        mov     %r12, 16(%rdi)
        mov     %r13, 24(%rdi)
        mov     %r14, 32(%rdi)
        mov     %r15, 40(%rdi)
        lea     8(%rsp), %rax
        mov     %rax, 48(%rdi)
        mov     (%rsp), %rax
        mov     %rax, 56(%rdi)
        xor     %eax, %eax
        ret
        .size   unwind_set, .-unwind_set

        .globl  unwind_jump
        .type   unwind_jump, @function
unwind_jump:
        endbr64
        mov     0(%rdi), %rbx
        mov     8(%rdi), %rbp
        mov     16(%rdi), %r12
        mov     24(%rdi), %r13
        mov     32(%rdi), %r14
        mov     40(%rdi), %r15
        mov     48(%rdi), %rsp
        mov     %esi, %eax
        jmp     *56(%rdi)
        .size   unwind_jump, .-unwind_jump

        .section .note.GNU-stack,"",@progbits
