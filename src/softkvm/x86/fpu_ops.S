/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only code of the engine, besides native.c's stubs, that touches x87, MMX, XMM and YMM registers; tools/check-fpu-clean.sh
 * sees to it. Declared in native.h.
 *
 * fpu_enter and fpu_leave exchange the VMM's vector state with a guest's. The VMM's XMM and YMM registers need no saving, since
 * every one of them is the caller's to save in the System V ABI; its control words do, and its x87 stack is empty at a call.
 *
 * Operations (fpu_op_*) have the signature of a stub: RDI struct native_regs, RSI memory; 0 in RAX. They and the stubs are leaves
 * without a stack frame: when one of them traps, trap.c's signal handler sets RAX and continues at fpu_trap_return, which so
 * returns to the caller.
 */
        .text

        .macro  FUNC name
        .p2align 4
        .globl  \name
        .type   \name, @function
\name:
        endbr64
        .endm

        .macro  END name
        .size   \name, .-\name
        .endm

        /* An operation of one instruction; `mask`: it takes a component mask in EDX:EAX, from native_regs.a. */
        .macro  OP name, insn:vararg
        FUNC    fpu_op_\name
        \insn
        xor     %eax, %eax
        ret
        END     fpu_op_\name
        .endm
        .macro  OP_MASK name, insn:vararg
        FUNC    fpu_op_\name
        mov     0(%rdi), %eax
        mov     4(%rdi), %edx
        \insn
        xor     %eax, %eax
        ret
        END     fpu_op_\name
        .endm

        .globl  fpu_ops_begin
fpu_ops_begin:
        OP_MASK xsave64, xsave64 (%rsi)
        OP_MASK xsave, xsave (%rsi)
        OP_MASK xrstor64, xrstor64 (%rsi)
        OP_MASK xrstor, xrstor (%rsi)
        OP      fxsave64, fxsave64 (%rsi)
        OP      fxsave, fxsave (%rsi)
        OP      fxrstor64, fxrstor64 (%rsi)
        OP      fxrstor, fxrstor (%rsi)
        OP      ldmxcsr, ldmxcsr (%rsi)
        OP      stmxcsr, stmxcsr (%rsi)
        OP      fwait, fwait
        OP      fninit, fninit
        OP      fnstsw, fnstsw (%rsi)
        /* x87 environments in their 32-bit and 16-bit protected-mode formats, SDM vol. 1, figures 8-9 and 8-11 */
        OP      fnstenv32, fnstenv (%rsi)
        OP      fnstenv16, data16 fnstenv (%rsi)
        OP      fldenv32, fldenv (%rsi)
        OP      fldenv16, data16 fldenv (%rsi)
        OP      fnsave32, fnsave (%rsi)
        OP      fnsave16, data16 fnsave (%rsi)
        OP      frstor32, frstor (%rsi)
        OP      frstor16, data16 frstor (%rsi)
        /* What they leave as last-instruction pointers tells which of those this processor keeps up to date. RSI: a float. */
        OP      fld1, fninit; fld1
        OP      flds, fninit; flds (%rsi)
        .globl  fpu_ops_end
fpu_ops_end:

FUNC fpu_trap_return
        ret
END fpu_trap_return

/* void fpu_enter(const void *area, uint64_t mask, struct fpu_host *save) */
FUNC fpu_enter
        fnstcw  0(%rdx)
        stmxcsr 4(%rdx)
        mov     %esi, %eax
        xor     %edx, %edx
        xrstor64 (%rdi)
        ret
END fpu_enter

/* void fpu_leave(void *area, uint64_t save_mask, const void *init, uint64_t init_mask, const struct fpu_host *saved);
 * area may be NULL */
FUNC fpu_leave
        mov     %rdx, %r9
        xor     %edx, %edx
        test    %rdi, %rdi
        jz      1f
        mov     %esi, %eax
        xsave64 (%rdi)
1:      mov     %ecx, %eax
        xrstor64 (%r9)
        fldcw   0(%r8)
        ldmxcsr 4(%r8)
        ret
END fpu_leave

/* uint64_t fpu_bracket(const struct fpu_bracket *b): enter, run b->code, leave; with no compiled code in between. */
FUNC fpu_bracket
        push    %rbx
        push    %r12
        sub     $8, %rsp
        mov     %rdi, %rbx
        mov     0(%rbx), %rdi           /* load */
        mov     48(%rbx), %rsi          /* load_mask */
        mov     64(%rbx), %rdx          /* host */
        call    fpu_enter
        mov     32(%rbx), %rdi          /* regs */
        mov     40(%rbx), %rsi          /* mem */
        call    *24(%rbx)               /* code */
        mov     %rax, %r12
        mov     8(%rbx), %rdi           /* store */
        mov     56(%rbx), %rsi          /* save_mask */
        mov     16(%rbx), %rdx          /* init */
        mov     48(%rbx), %rcx
        mov     64(%rbx), %r8
        call    fpu_leave
        mov     %r12, %rax
        add     $8, %rsp
        pop     %r12
        pop     %rbx
        ret
END fpu_bracket

/*
 * void native_sync(void): IRET to the next instruction serialises (SDM vol. 3, 8.3 and 8.1.3), so that code written through another
 * mapping, or by another CPU, is executed as written.
 */
FUNC native_sync
        mov     %rsp, %rdx
        mov     %ss, %eax
        push    %rax
        push    %rdx
        pushfq
        mov     %cs, %eax
        push    %rax
        lea     1f(%rip), %rax
        push    %rax
        iretq
1:      ret
END native_sync

        .section .note.GNU-stack,"",@progbits
