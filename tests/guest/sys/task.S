/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hardware task switches: JMP, CALL and IRET, task gates, an exception through a task gate, 16-bit TSS, busy bits, NT, back link, T bit, faults. */
#define GUEST_MODE 32
#include "env.h"

#define SEL_TSS_B    (SEL_FREE + 0x00)
#define SEL_TSS_16   (SEL_FREE + 0x08)
#define SEL_GATE_B   (SEL_FREE + 0x10)
#define SEL_TSS_DF   (SEL_FREE + 0x18)
#define SEL_TSS_BAD  (SEL_FREE + 0x20)

.macro TSSDESC at, where, limit, type
        mov     $\where, %eax
        mov     %ax, gdt + \at + 2
        shr     $16, %eax
        mov     %al, gdt + \at + 4
        movb    $0, gdt + \at + 7
        movb    $0, gdt + \at + 6
        movw    $\limit, gdt + \at
        movb    $\type, gdt + \at + 5
.endm

#define TYPE_OF(sel) movzbl gdt + (sel) + 5, %eax

main:
        KVM_GAP_BEGIN                   /* task switches */
        TSSDESC SEL_TSS_B, tss_b, 0x67, 0x89
        TSSDESC SEL_TSS_16, tss_16, 0x2b, 0x81
        TSSDESC SEL_TSS_DF, tss_df, 0x67, 0x89
        TSSDESC SEL_TSS_BAD, tss_b, 0x66, 0x89
        movl    $SEL_TSS_B << 16, gdt + SEL_GATE_B
        movl    $0x8500, gdt + SEL_GATE_B + 4

        /* CALL: nested, both busy, link and NT; IRET comes back */
        mov     $0x1234, %esi
        mov     %cr0, %eax
        and     $~8, %eax
        mov     %eax, %cr0
        lcall   $SEL_TSS_B, $0
back_from_call:
        mov     %esi, %eax
        CHECK(0x1234)
        CHECK_AT(saw_flags, 0x4002)     /* NT */
        CHECK_AT(saw_link, SEL_TSS)
        CHECK_AT(saw_old_type, 0x8b)
        CHECK_AT(saw_new_type, 0x8b)
        CHECK_AT(saw_ecx, 0xbbbb)
        CHECK_AT(saw_cr0, 8)            /* TS */
        TYPE_OF(SEL_TSS_B)
        CHECK(0x89)                     /* IRET has freed it */
        TYPE_OF(SEL_TSS)
        CHECK(0x8b)
        str     %eax
        CHECK(SEL_TSS)
        pushfl
        pop     %eax
        and     $0x4000, %eax
        CHECK(0)
        mov     tss + 32, %eax          /* our own EIP, saved by the switch */
        sub     $back_from_call, %eax
        CHECK(0)
        clts
        /* its EIP now stands behind its IRET: the next switch goes on there */
        lcall   $SEL_GATE_B, $0
        CHECK_AT(saw_second, 1)
        clts

        /* JMP: the old task becomes free, no link */
        movl    $task_b_jmp, tss_b + 32
        movl    $2, tss_b + 36
        movl    $jmp_back, tss + 32
        movl    $0, tss_b               /* link */
        ljmp    $SEL_TSS_B, $0
jmp_back:
        CHECK_AT(saw_old_type, 0x89)
        CHECK_AT(saw_flags, 2)
        CHECK_AT(saw_link, 0)
        clts

        /* 16-bit TSS */
        movw    $task_16, tss_16 + 14
        lcall   $SEL_TSS_16, $0
        CHECK_AT(saw_ecx, 0x1616)
        movzwl  gdt + SEL_TSS_16 + 4, %eax
        and     $0xff00, %eax
        CHECK(0x8100)
        clts

        /* an exception through a task gate: error code on the new stack, RF in the saved flags */
        movl    $SEL_TSS_DF << 16, idt + 13 * 8
        movl    $0xe500, idt + 13 * 8 + 4
gp_ip:  mov     $0x7770, %eax
gp_at:  mov     %eax, %fs               /* beyond the GDT */
        nop                             /* the task skips to here */
        CHECK_AT(saw_error, 0x7770)
        CHECK_AT(saw_eip, gp_at)
        mov     saw_flags, %eax
        and     $0x10000, %eax
        CHECK(0x10000)
        clts
        /* INT n through it pushes no error code */
        movl    $SEL_TSS_DF << 16, idt + 0x26 * 8
        movl    $0xe500, idt + 0x26 * 8 + 4
        movl    $task_int, tss_df + 32
        int     $0x26
int_at: CHECK_AT(saw_eip, int_at)
        CHECK_AT(saw_error, STACK3)     /* where ESP was */
        clts

        /* refusals, with the old task still running */
        mov     $stubs + 13 * 16, %eax
        mov     %ax, idt + 13 * 8
        movw    $SEL_CODE32, idt + 13 * 8 + 2
        movl    $0xee00, idt + 13 * 8 + 4
        TRY
        ljmp    $SEL_TSS, $0            /* busy */
        END_TRY
        CHECK_EXC(13, SEL_TSS)
        TRY
        lcall   $SEL_TSS_BAD, $0        /* limit too small */
        END_TRY
        CHECK_EXC(10, SEL_TSS_BAD)
        movb    $0x09, gdt + SEL_TSS_BAD + 5
        TRY
        lcall   $SEL_TSS_BAD, $0
        END_TRY
        CHECK_EXC(11, SEL_TSS_BAD)
        TRY
        pushfl
        orl     $0x4000, (%esp)
        popfl
        movl    $SEL_TSS_B, tss         /* a back link to a task that is not busy */
        iretl
        END_TRY
        CHECK_EXC(10, SEL_TSS_B)
        pushfl
        andl    $~0x4000, (%esp)
        popfl

        /* a fault after the point of no return is the new task's: its bad DS gives #TS there, handled on its stack */
        movl    $task_b_jmp, tss_b + 32
        movl    $0x2, tss_b + 36
        movl    $0x1000, tss_b + 84
        TRY
        ljmp    $SEL_TSS_B, $0
        END_TRY
        CHECK_EXC(10, 0x1000)
        CHECK_AT(exc_ip, task_b_jmp)
        str     %eax
        CHECK(SEL_TSS_B)
        movl    $SEL_DATA, tss_b + 84
        movl    $after_ts, tss + 32
        ljmp    $SEL_TSS, $0
after_ts:
        clts

        /* T bit: #DB before the new task's first instruction, DR6.BT */
        movl    $task_b_jmp, tss_b + 32
        movw    $1, tss_b + 100
        xor     %eax, %eax
        mov     %eax, %dr6
        TRY
        ljmp    $SEL_TSS_B, $0
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_AT(exc_ip, task_b_jmp)
        mov     %dr6, %eax
        and     $0xe00f, %eax
        CHECK(0x8000)

        DONE

/* ---- task B ---- */
task_b:
        mov     %ecx, saw_ecx
        pushfl
        popl    saw_flags
        movzwl  tss_b, %eax
        mov     %eax, saw_link
        TYPE_OF(SEL_TSS)
        mov     %eax, saw_old_type
        TYPE_OF(SEL_TSS_B)
        mov     %eax, saw_new_type
        mov     %cr0, %eax
        and     $8, %eax
        mov     %eax, saw_cr0
        clts
        iretl
        movl    $1, saw_second
        clts
        iretl

task_b_jmp:
        pushfl
        popl    saw_flags
        TYPE_OF(SEL_TSS)
        mov     %eax, saw_old_type
        movzwl  tss_b, %eax
        mov     %eax, saw_link
        clts
        ljmp    $SEL_TSS, $0

        .code16
task_16:
        movzwl  %cx, %ecx
        movl    %ecx, saw_ecx
        clts
        iret
        .code32

/* ---- the exception's task ---- */
task_df:
        popl    saw_error
        mov     tss + 32, %eax
        mov     %eax, saw_eip
        mov     tss + 36, %eax
        mov     %eax, saw_flags
        addl    $2, tss + 32            /* skip the faulting MOV */
        clts
        iretl

task_int:
        mov     %esp, saw_error
        mov     tss + 32, %eax
        mov     %eax, saw_eip
        clts
        iretl

        .balign 16
tss_b:  .long   0, 0, 0, 0, 0, 0, 0, 0
        .long   task_b, 2, 0, 0xbbbb, 0, 0, STACK3, 0, 0, 0
        .long   SEL_DATA, SEL_CODE32, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA, 0
        .word   0, 104
        .balign 16
tss_df: .long   0, 0, 0, 0, 0, 0, 0, 0
        .long   task_df, 2, 0, 0, 0, 0, STACK3, 0, 0, 0
        .long   SEL_DATA, SEL_CODE32, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA, 0
        .word   0, 104
        .balign 16
tss_16: .word   0, 0, 0, 0, 0, 0, 0
        .word   0, 2, 0, 0x1616, 0, 0, 0x6000, 0, 0, 0
        .word   SEL_DATA, SEL_CODE16, SEL_DATA, SEL_DATA, 0
        .balign 4
saw_flags: .long 0
saw_link: .long 0
saw_old_type: .long 0
saw_new_type: .long 0
saw_ecx: .long  0
saw_cr0: .long  0
saw_second: .long 0
saw_error: .long 0
saw_eip: .long  0
