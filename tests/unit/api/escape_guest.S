/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest of escape_test.c: each operation on memory (ops, in the order of the C file's table) with each shape of address (in the
 * order of its modes), as snippets of 64 bytes. Whoever comes through leaves by port 0x80; a fault leaves by the port of its vector.
 */
    .section .rodata

/*
 * With `touch`, an access to a page that is mapped comes first, by the same base register: what a translator has learnt by it must not
 * serve the next access.
 */
    .macro snippet text:vararg
    .balign 64, 0xcc
    .if touch
    mov (%rbx), %rdx
    mov %rdx, (%rbx)
    .endif
    \text
    out %al, $0x80
    .endm

    .macro ops m:vararg
    snippet mov \m, %al
    snippet mov \m, %ax
    snippet mov \m, %eax
    snippet mov \m, %rax
    snippet mov %al, \m
    snippet mov %ax, \m
    snippet mov %eax, \m
    snippet mov %rax, \m
    snippet addl $1, \m
    snippet lock incq \m
    snippet xchg %rax, \m
    snippet cmpb $0, \m
    snippet cmpxchg16b \m
    snippet lock cmpxchg %al, \m
    snippet btsq $5, \m
    snippet movbe \m, %rax
    snippet imul $3, \m, %rax
    snippet setc \m
    snippet movzbl \m, %eax
    snippet shlw $1, \m
    snippet pushq \m
    snippet popq \m
    snippet call *\m
    snippet jmp *\m
    snippet movups \m, %xmm0
    snippet movups %xmm0, \m
    snippet movaps \m, %xmm0
    snippet movntdq %xmm0, \m
    snippet movss \m, %xmm0
    snippet movlps %xmm0, \m
    snippet paddb \m, %xmm0
    snippet pmovzxbw \m, %xmm0
    snippet movq \m, %mm0
    snippet movq %mm0, \m
    snippet fldt \m
    snippet fstpt \m
    snippet fildll \m
    snippet fnstcw \m
    snippet fnstenv \m
    snippet fxsave64 \m
    snippet ldmxcsr \m
    snippet stmxcsr \m
    snippet sgdt \m
    snippet lfs \m, %eax
    snippet ljmp *\m
    snippet nopw \m
    snippet prefetcht0 \m
    snippet vmovups \m, %ymm0
    snippet vmovups %ymm0, \m
    snippet vaddps \m, %ymm0, %ymm0
    snippet vmaskmovps %ymm0, %ymm6, \m
    .endm

    .globl escape_ops, escape_ops_end
    .balign 64
escape_ops:
    .set touch, 0
    ops (%rbx)
    ops 0x7f(%rbx)
    ops 0x1000(%rbx)
    ops -0x80000000(%rbx)
    ops 0x7fffffff(%rbx)
    ops 0x10(,%rcx,4)
    ops (%ebx)
    ops (%rbp)
    ops 8(%rsp)
    ops %fs:(%rbx)
    ops %gs:8(%rbx,%rcx,2)
    .set touch, 1
    ops (%rbx,%rcx,8)
    ops -8(%rcx,%rbx)
    .balign 64, 0xcc
escape_ops_end:

    .macro push_and_ret
    push %rdi
    ret
    .endm

    .macro call_next
    call 1f
1:
    .endm

    .macro store_masked
    pcmpeqb %mm7, %mm7
    maskmovq %mm7, %mm0
    .endm

    .macro gather
    pcmpeqd %xmm7, %xmm7
    vpgatherqq %xmm7, (%rbx,%xmm1), %xmm2
    .endm

/* What has its address in other registers: rsi and rdi, rsp, rbp, or a bit's number in rcx. */
    .globl escape_others, escape_others_end
    .balign 64
escape_others:
    .set touch, 0
    snippet lodsb
    snippet lodsq
    snippet stosb
    snippet stosl
    snippet movsb
    snippet movsq
    snippet scasw
    snippet cmpsq
    snippet rep lodsb
    snippet rep stosb
    snippet rep stosq
    snippet rep movsb
    snippet rep movsq
    snippet repe scasb
    snippet repe cmpsb
    snippet maskmovdqu %xmm6, %xmm0
    snippet store_masked
    snippet push %rax
    snippet push $1
    snippet pushw %ax
    snippet pushfq
    snippet pop %rax
    snippet popw %ax
    snippet popfq
    snippet ret
    snippet lretq
    snippet iretq
    snippet leave
    snippet enter $16, $0
    snippet enter $16, $3
    snippet call_next
    snippet xlat
    snippet jmp *%rdi
    snippet push_and_ret
    snippet call *%rdi
    snippet clflush (%rdi)
    snippet invlpg (%rdi)
    .set touch, 1
    snippet bts %rcx, (%rbx)
    snippet lock btc %ecx, (%rbx)
    snippet bt %rcx, (%rbx)
    snippet gather
    .balign 64, 0xcc
escape_others_end:

/* Puts ones into the masks. */
    .globl escape_begin
    .balign 64
escape_begin:
    .set touch, 0
    snippet pcmpeqd %xmm6, %xmm6
    .globl escape_begin_avx
    .balign 64
escape_begin_avx:
    snippet vpcmpeqd %ymm6, %ymm6, %ymm6

/* Goes on in ring 3 with the frame on the stack. What the kernel has touched must not serve the user. */
    .globl escape_to_user
    .balign 64
escape_to_user:
    push %rax
    movabs 0xffff800000000040, %al
    movabs %al, 0xffff800000000040
    movabs 0xfffffffffffff040, %al
    movabs %al, 0xfffffffffffff040
    pop %rax
    iretq
    .balign 64, 0xcc

    .section .note.GNU-stack, "", @progbits
