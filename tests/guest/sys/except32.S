/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 32-bit protected mode: faults while an event is being delivered (SDM vol. 3, table 6-5), the double fault by a task gate, 16-bit and trap gates,
 * handlers in conforming code and on bad stacks, interrupts that change rings, and the frames that they leave.
 */
#define GUEST_MODE 32
#include "env.h"

#define SEL_TSS_DF (SEL_FREE + 0x00)
#define SEL_CONF   (SEL_FREE + 0x08)    /* conforming code, DPL 0 */
#define SEL_CONF3  (SEL_FREE + 0x10)    /* conforming code, DPL 3 */
#define SEL_SMALL  (SEL_FREE + 0x18)    /* a stack of 16 bytes, DPL 0 */
#define SEL_ABSENT (SEL_FREE + 0x20)    /* a stack that is not present */
#define SEL_SHORT  (SEL_FREE + 0x28)    /* code of 16 bytes */

#define DIR  0x100000
#define TAB0 0x101000
#define TAB1 0x102000
#define PAGE 0x400000                   /* not present */

.macro GATE vector, sel, attr           /* keeps the offset */
        movw    $\sel, idt + \vector * 8 + 2
        movw    $\attr, idt + \vector * 8 + 4
.endm

/* The double fault's task saw: no error but 0, the interrupted EIP, and comes back behind it. */
#define CHECK_DF(ip) CHECK_AT(df_count, 1); CHECK_AT(df_error, 0); mov df_ip, %eax; sub $ip, %eax; CHECK(0); movl $0, df_count

main:
        KVM_GAP_BEGIN                   /* task gates, paging outside long mode */
        DESC    SEL_CONF, 0x0000ffff, 0x00cf9f00
        DESC    SEL_CONF3, 0x0000ffff, 0x00cfff00
        DESC    SEL_SMALL, 0x0000000f, 0x00409300
        DESC    SEL_ABSENT, 0x0000ffff, 0x00cf1300
        DESC    SEL_SHORT, 0x0000000f, 0x00409b00
        mov     $tss_df, %eax
        mov     %ax, gdt + SEL_TSS_DF + 2
        movw    $0x67, gdt + SEL_TSS_DF
        movb    $0x89, gdt + SEL_TSS_DF + 5
        movl    $SEL_TSS_DF << 16, idt + 8 * 8
        movl    $0x8500, idt + 8 * 8 + 4

        /* contributory within contributory: #DF */
        GATE    13, SEL_CODE32, 0x6e00
        TRY
        mov     $0x7770, %eax
df1_ip: mov     %eax, %fs
        END_TRY
        CHECK_DF(df1_ip)
        /* contributory within benign: served, with EXT */
        GATE    6, SEL_CODE32, 0x6e00
        GATE    13, SEL_CODE32, 0xee00
        TRY
        ud2
        END_TRY
        CHECK_EXC(11, 6 * 8 + 3)
        CHECK_AT(df_count, 0)
        GATE    6, SEL_CODE32, 0xee00
        /* INT n has no EXT */
        GATE    0x22, SEL_CODE32, 0x6e00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(11, 0x22 * 8 + 2)
        /* its handler's code segment is bad */
        GATE    0x22, SEL_DATA, 0xee00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, SEL_DATA)
        GATE    6, SEL_DATA, 0xee00
        TRY
        ud2
        END_TRY
        CHECK_EXC(13, SEL_DATA + 1)
        GATE    6, SEL_CODE32, 0xee00
        GATE    0x22, 0, 0xee00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, 0)
        /* beyond its limit */
        mov     idt + 0x22 * 8, %edx
        GATE    0x22, SEL_SHORT, 0xee00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, 0)

        /* the IDT's limit cuts a gate */
        movw    $0x22 * 8 + 6, idtr
        lidt    idtr
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, 0x22 * 8 + 2)
        movw    $idt_end - idt - 1, idtr
        lidt    idtr

        /* trap gate, 16-bit gate */
        GATE    0x22, SEL_CODE32, 0xef00
        pushl   $0x202
        popfl
        TRY
        int     $0x22
        END_TRY
        pushfl
        pop     %eax
        cli
        and     $0x200, %eax
        CHECK(0x200)
        mov     $handler16, %eax
        mov     %ax, idt + 0x22 * 8
        GATE    0x22, SEL_CODE16, 0xe600
        TRY
        mov     %esp, %ebx
        int     $0x22
int16:  END_TRY
        mov     %ecx, %eax
        CHECK(6)                        /* three words */
        CHECK_AT(saw_ip16, int16)
        mov     $stubs + 0x22 * 16, %eax
        mov     %ax, idt + 0x22 * 8

        /* conforming handlers run in the ring that they interrupt */
        GATE    0x22, SEL_CONF, 0xee00
        mov     $handler_conf, %eax
        mov     %ax, idt + 0x22 * 8
        TRY
        RING3
        int     $0x22
back_conf:
        int     $0x30
        END_TRY
        CHECK_AT(saw_cs, SEL_CONF + 3)
        CHECK_AT(saw_esp, STACK3 - 12)  /* and on its stack */
        mov     $stubs + 0x22 * 16, %eax
        mov     %ax, idt + 0x22 * 8
        /* a handler in an outer ring */
        GATE    0x22, SEL_CONF3, 0xee00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, SEL_CONF3)
        GATE    0x22, SEL_UCODE32, 0xee00
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, SEL_UCODE32 & ~3)
        GATE    0x22, SEL_CODE32, 0xee00

        /* inner stacks that are not fit: #TS and #SS cannot be served there either, so the double fault's task takes over */
        movl    $SEL_UDATA, tss + 8
        TRY
        RING3
ts_ip:  int     $0x22
        END_TRY
        CHECK_DF(ts_ip)
        movl    $0, tss + 8
        TRY
        RING3
ts2_ip: int     $0x22
        END_TRY
        CHECK_DF(ts2_ip)
        movl    $SEL_ABSENT, tss + 8
        TRY
        RING3
ss_ip:  int     $0x22
        END_TRY
        CHECK_DF(ss_ip)
        movl    $SEL_SMALL, tss + 8     /* 20 bytes do not fit into 16 */
        movl    $16, tss + 4
        TRY
        RING3
ss2_ip: int     $0x22
        END_TRY
        CHECK_DF(ss2_ip)
        movl    $SEL_DATA, tss + 8
        movl    $STACK30, tss + 4

        /* paging: a page fault within a contributory one is served; #GP or #PF within #PF is a double fault */
        mov     $TAB0, %edi
        mov     $7, %eax
1:      stosl
        add     $0x1000, %eax
        cmp     $TAB0 + 0x1000, %edi
        jne     1b
        xor     %eax, %eax
        mov     $1024, %ecx
        rep stosl
        movl    $TAB0 + 7, DIR
        movl    $TAB1 + 7, DIR + 4
        mov     $DIR, %eax
        mov     %eax, %cr3
        mov     %eax, tss + 28
        mov     %eax, tss_df + 28
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0

        GATE    14, SEL_CODE32, 0x6e00
        TRY
df2_ip: mov     PAGE + 8, %eax
        END_TRY
        CHECK_DF(df2_ip)
        mov     %cr2, %eax
        CHECK(PAGE + 8)
        GATE    14, SEL_CODE32, 0xee00
        /* the IDT's page of #GP is missing: #PF, whose gate is there */
        mov     $idt, %esi
        mov     $PAGE + 0x1000 - 14 * 8, %edi
        mov     $TAB1 + 4, %eax
        movl    $TAB0P, (%eax)          /* page 1 behind a hole holds vectors 14 and up */
        lea     idt + 14 * 8, %esi
        mov     $0x3e1000, %edi         /* its frame */
        mov     $50 * 8 / 4, %ecx
        cld
        rep movsl
        movl    $PAGE + 0x1000 - 14 * 8, idtr + 2
        lidt    idtr
        TRY
        mov     $0x7770, %eax
pf_ip:  mov     %eax, %fs
        END_TRY
        CHECK_AT(exc_vector, 14)
        CHECK_AT(exc_error, 0)
        CHECK_AT(exc_cr2, PAGE + 0x1000 - 8)
        CHECK_IP(pf_ip)
        movl    $idt, idtr + 2
        lidt    idtr

        /* #PF while pushing on ring 0's stack, from ring 3: a page fault in the delivery of INT n is served on that same stack, and so doubles */
        movl    $PAGE + 0x800, tss + 4
        TRY
        RING3
df3_ip: int     $0x22
        END_TRY
        CHECK_DF(df3_ip)
        movl    $STACK30, tss + 4

        /* the same with a stack that straddles: the upper page is there, the lower is not; nothing half written counts */
        movl    $PAGE + 0x1008, tss + 4
        TRY
        RING3
df4_ip: int     $0x22
        END_TRY
        CHECK_DF(df4_ip)
        movl    $STACK30, tss + 4
        DONE

        .set    TAB0P, 0x3e1007

/* The double fault's task: notes, and sends the interrupted task to `resume` in ring 0. */
df_task:
        popl    df_error
        incl    df_count
        mov     tss + 32, %eax
        mov     %eax, df_ip
        mov     resume, %eax
        mov     %eax, tss + 32
        mov     resume_sp, %eax
        mov     %eax, tss + 56
        movl    $2, tss + 36
        movl    $SEL_CODE32, tss + 76
        movl    $SEL_DATA, tss + 72
        movl    $SEL_DATA, tss + 80
        movl    $SEL_DATA, tss + 84
        movl    $0, tss + 88
        movl    $0, tss + 92
        clts
        iretl
        jmp     df_task                 /* the next switch goes on here */

handler_conf:
        mov     %cs, %eax
        mov     $SEL_UDATA, %ecx
        mov     %ecx, %ds
        mov     %eax, saw_cs
        mov     %esp, saw_esp
        iretl

        .code16
handler16:
        mov     %ebx, %ecx
        sub     %esp, %ecx
        movzwl  %ss:(%esp), %eax
        movl    %eax, saw_ip16
        iretw
        .code32

        .balign 16
tss_df: .long   0, 0, 0, 0, 0, 0, 0, 0
        .long   df_task, 2, 0, 0, 0, 0, STACK3 + 0x8000, 0, 0, 0
        .long   SEL_DATA, SEL_CODE32, SEL_DATA, SEL_DATA, SEL_DATA, SEL_DATA, 0
        .word   0, 104
df_count: .long 0
df_error: .long 0
df_ip:  .long   0
saw_ip16: .long 0
saw_cs: .long   0
saw_esp: .long  0
