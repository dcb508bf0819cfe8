/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 64-bit mode: every exception with its error code, return address, CR2 and stack frame; from ring 0 and ring 3; IST; interrupt frames. */
#define GUEST_MODE 64
#include "env.h"

main:
        /* #DE */
        TRY
        xor     %ecx, %ecx
de_ip:  div     %ecx
        END_TRY
        CHECK_EXC(0, 0)
        CHECK_IP(de_ip)
        mov     exc_flags, %eax
        and     $0x10200, %eax          /* a fault saves RF */
        CHECK(0x10000)
        CHECK_AT(exc_cs, SEL_CODE64)

        KVM_GAP_BEGIN                   /* INT3 in ring 0 */
        /* #BP and INT n: traps, RF clear */
        TRY
        int3
bp_ip:  nop
        END_TRY
        CHECK_EXC(3, 0)
        CHECK_IP(bp_ip)
        mov     exc_flags, %eax
        and     $0x10000, %eax
        CHECK(0)
        TRY
        int     $0x21
int_ip: nop
        END_TRY
        CHECK_EXC(0x21, 0)
        CHECK_IP(int_ip)

        /* INT1: a trap through vector 1 */
        TRY
        .byte   0xf1
db_ip:  nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(db_ip)

        /* #UD */
        TRY
ud_ip:  ud2
        END_TRY
        CHECK_EXC(6, 0)
        CHECK_IP(ud_ip)
        TRY
        .byte   0x06                    /* PUSH ES does not exist in 64-bit code */
        END_TRY
        CHECK_EXC(6, 0)
        TRY
        .byte   0xf0, 0x90              /* LOCK NOP */
        END_TRY
        CHECK_EXC(6, 0)
        TRY
        mov     %cr1, %rax
        END_TRY
        CHECK_EXC(6, 0)

        /* #NM: CR0.TS with x87 and SSE */
        mov     %cr0, %rax
        or      $8, %rax
        mov     %rax, %cr0
        TRY
        fld1
        END_TRY
        CHECK_EXC(7, 0)
        TRY
        xorps   %xmm0, %xmm0
        END_TRY
        CHECK_EXC(7, 0)
        clts
        fninit

        /* #GP: MSR, non-canonical address, selector, CR bits */
        TRY
        mov     $0x12345678, %ecx
        rdmsr
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     $0x8000000000000000, %rbx
gp_ip:  mov     (%rbx), %eax
        END_TRY
        CHECK_EXC(13, 0)
        CHECK_IP(gp_ip)
        TRY
        mov     $0x8000, %eax           /* beyond the GDT */
        mov     %eax, %ds
        END_TRY
        CHECK_EXC(13, 0x8000)
        TRY
        mov     $0x0c, %eax             /* no LDT */
        mov     %eax, %es
        END_TRY
        CHECK_EXC(13, 0x0c)
        TRY
        mov     $SEL_UDATA, %eax        /* RPL and DPL 3 in ring 0 */
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(13, SEL_UDATA & ~3)
#ifndef DEBUGCON /* QEMU lets these pass, with ill effects */
        TRY
        mov     $0x100000000, %rax
        mov     %rax, %cr0
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %cr4, %rax
        and     $~0x20, %rax            /* PAE cannot go in long mode */
        mov     %rax, %cr4
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     $16, %eax
        mov     %rax, %cr8
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        int     $0x50                   /* beyond the IDT */
        END_TRY
        CHECK_EXC(13, 0x50 * 8 + 2)
        TRY
        movaps  1f + 1(%rip), %xmm0
        END_TRY
        CHECK_EXC(13, 0)
        jmp     2f
        .balign 16
1:      .quad   0, 0, 0, 0
2:
        /* #SS: non-canonical stack; the handler needs another one */
        movb    $1, idt + 12 * 16 + 4
        TRY
        mov     $0x8000000000000000, %rsp
        push    %rax
        END_TRY
        CHECK_EXC(12, 0)
        TRY
        mov     $0x4000000000000000, %rbp
        mov     (%rbp), %eax
        END_TRY
        CHECK_EXC(12, 0)
        movb    $0, idt + 12 * 16 + 4
#endif

        /* #NP: data segment and gate */
        movabs  $0x00cf13000000ffff, %rax
        mov     %rax, gdt + SEL_FREE
        TRY
        mov     $SEL_FREE + 3, %eax
        mov     %eax, %ds
        END_TRY
        CHECK_EXC(13, SEL_FREE)         /* RPL 3 against DPL 0 comes before P */
        TRY
        mov     $SEL_FREE, %eax
        mov     %eax, %ds
        END_TRY
        CHECK_EXC(11, SEL_FREE)
        TRY
        mov     $SEL_FREE, %eax
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(12, SEL_FREE)
        andb    $0x7f, idt + 0x22 * 16 + 5
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(11, 0x22 * 8 + 2)
        movb    $0x8f, idt + 0x22 * 16 + 5 /* trap gate of ring 0 */
        TRY
        sti
        int     $0x22
        END_TRY
        CHECK_EXC(0x22, 0)
        pushfq
        pop     %rax
        cli
        and     $0x200, %eax            /* a trap gate leaves IF set */
        CHECK(0x200)
        movb    $0x8c, idt + 0x22 * 16 + 5 /* a call gate is no interrupt gate */
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, 0x22 * 8 + 2)
        movb    $0xee, idt + 0x22 * 16 + 5
        movw    $SEL_CODE32, idt + 0x22 * 16 + 2 /* the handler must be 64-bit code */
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, SEL_CODE32)
        movw    $0, idt + 0x22 * 16 + 2
        TRY
        int     $0x22
        END_TRY
        CHECK_EXC(13, 0)
        movw    $SEL_CODE64, idt + 0x22 * 16 + 2

        /* #PF: not present, write, fetch, reserved bit; CR2 */
        movq    $0, PT + 8 * 5
        invlpg  TESTPAGES + 0x5000
        TRY
        mov     TESTPAGES + 0x5123, %eax
        END_TRY
        CHECK_EXC(14, 0)
        CHECK_AT(exc_cr2, TESTPAGES + 0x5123)
        TRY
        mov     %eax, TESTPAGES + 0x5ffc
        END_TRY
        CHECK_EXC(14, 2)
        CHECK_AT(exc_cr2, TESTPAGES + 0x5ffc)
        TRY
        mov     $TESTPAGES + 0x5456, %ebx
        jmp     *%rbx
        END_TRY
        CHECK_EXC(14, 0x10)             /* EFER.NXE is on */
        CHECK_AT(exc_cr2, TESTPAGES + 0x5456)
        CHECK_AT(exc_ip, TESTPAGES + 0x5456)
        /* an access over a page edge reports the page that is missing */
        TRY
        movq    $-1, TESTPAGES + 0x4ffd
        END_TRY
        CHECK_EXC(14, 2)
        CHECK_AT(exc_cr2, TESTPAGES + 0x5000)
        CHECK_AT(TESTPAGES + 0x4ffc, 0)
        movabs  $0x0008000000405007, %rax
        mov     %rax, PT + 8 * 5        /* a physical address of 52 bits: reserved on most CPUs, so use it only where it is */
        mov     $0x80000008, %eax
        cpuid
        cmp     $52, %al
        je      3f
        TRY
        mov     TESTPAGES + 0x5123, %eax
        END_TRY
        CHECK_EXC(14, 9)
3:      movq    $TESTPAGES + 0x5007, PT + 8 * 5
        invlpg  TESTPAGES + 0x5000

        /* from ring 3 */
        TRY
        RING3   IOPL3
        mov     $0xb123, %esi
        int     $0x30
r3_ip:  nop
        END_TRY
        CHECK_EXC(0x30, 0)
        CHECK_IP(r3_ip)
        CHECK_AT(exc_cs, SEL_UCODE64)
        CHECK_AT(exc_ss, SEL_UDATA)
        CHECK_AT(exc_sp, STACK3)
        CHECK_AT(exc_frame, STACK30 - 40)
        mov     %ss, %eax
        CHECK(0)                        /* a change of ring in long mode leaves SS null */
        TRY
        RING3   IOPL3
        hlt
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3   IOPL3
        mov     %cr0, %rax
        END_TRY
        CHECK_EXC(13, 0)
        movb    $0x8e, idt + 0x23 * 16 + 5
        TRY
        RING3   IOPL3
        int     $0x23                   /* DPL 0 */
        END_TRY
        CHECK_EXC(13, 0x23 * 8 + 2)
        movq    $TESTPAGES + 0x5003, PT + 8 * 5 /* supervisor page */
        invlpg  TESTPAGES + 0x5000
        TRY
        RING3   IOPL3
        mov     TESTPAGES + 0x5123, %eax
        END_TRY
        CHECK_EXC(14, 5)
        TRY
        RING3   IOPL3
        incl    TESTPAGES + 0x5123
        END_TRY
        CHECK_EXC(14, 7)
        TRY
        RING3   IOPL3
        mov     $TESTPAGES + 0x5123, %ecx
        jmp     *%rcx
        END_TRY
        CHECK_EXC(14, 0x15)

        /* #AC: ring 3 with CR0.AM and RFLAGS.AC */
        mov     %cr0, %rax
        or      $0x40000, %rax
        mov     %rax, %cr0
        TRY
        RING3   IOPL3
        pushfq
        orl     $0x40000, (%rsp)
        popfq
        mov     TESTPAGES + 0x6001, %eax
        END_TRY
        CHECK_EXC(17, 0)
        TRY
        RING3   IOPL3
        pushfq
        orl     $0x40000, (%rsp)
        popfq
        mov     TESTPAGES + 0x6001, %al /* bytes are always aligned */
        mov     TESTPAGES + 0x6004, %eax
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        mov     %cr0, %rax
        and     $~0x40000, %rax
        mov     %rax, %cr0

        /* #MF and #XM */
        fninit
        fnstcw  scratch
        andw    $~4, scratch            /* unmask divide by zero */
        fldcw   scratch
        TRY
        fldz
        fld1
        fdivp   %st, %st(1)
        fldz
        fld1
        fdiv    %st(1), %st
        fwait
        END_TRY
        CHECK_EXC(16, 0)
        fninit
        movl    $0x1d00, scratch        /* MXCSR: divide by zero unmasked */
        ldmxcsr scratch
        TRY
        xorps   %xmm1, %xmm1
        pcmpeqd %xmm0, %xmm0
        pslld   $25, %xmm0
        psrld   $2, %xmm0               /* 1.0 */
        divps   %xmm1, %xmm0
        END_TRY
        CHECK_EXC(19, 0)
        movl    $0x1f80, scratch
        ldmxcsr scratch

        /* IST: a new stack even without a change of ring, aligned to 16 */
        movb    $1, idt + 0x24 * 16 + 4
        TRY
        int     $0x24
        END_TRY
        CHECK_AT(exc_frame, STACKIST - 40)
        TRY
        push    %rax
        int     $0x25
        END_TRY
        mov     exc_frame, %eax         /* the frame is aligned, so it lies 48 bytes below a push of 8 */
        mov     exc_sp, %ecx
        sub     %eax, %ecx
        mov     %ecx, %eax
        CHECK(48)

        /* #TS: the TSS does not reach to IST 7; EXT is clear for INT n */
        movb    $7, idt + 0x24 * 16 + 4
        movw    $0x3f, gdt + SEL_TSS
        andb    $~2, gdt + SEL_TSS + 5
        mov     $SEL_TSS, %eax
        ltr     %ax
        TRY
        int     $0x24
        END_TRY
        CHECK_EXC(10, SEL_TSS)
        movw    $0x67, gdt + SEL_TSS
        andb    $~2, gdt + SEL_TSS + 5
        mov     $SEL_TSS, %eax
        ltr     %ax
        mov     gdt + SEL_TSS + 4, %eax
        and     $0xff00, %eax
        CHECK(0x8b00)                   /* LTR marks it busy */
        movb    $0, idt + 0x24 * 16 + 4

        /* #DF: #PF while #GP is being delivered is served as #PF; #GP within #GP is a double fault on its own stack */
        andb    $0x7f, idt + 13 * 16 + 5
        movb    $1, idt + 8 * 16 + 4
        TRY
        mov     $0x12345678, %ecx
df_ip:  rdmsr
        END_TRY
        CHECK_EXC(8, 0)
        CHECK_IP(df_ip)
        CHECK_AT(exc_frame, STACKIST - 40)
        orb     $0x80, idt + 13 * 16 + 5

        /* a fault within the delivery of #DE has EXT in its error code, and is served alone: #DE is contributory, but #PF is not second to it */
        andb    $0x7f, idt + 6 * 16 + 5
        TRY
        ud2                             /* benign: #NP is served with EXT */
        END_TRY
        CHECK_EXC(11, 6 * 8 + 3)
        orb     $0x80, idt + 6 * 16 + 5

        /* IRETQ refuses a bad return; the faulting IRETQ has changed nothing */
        TRY
        pushq   $SEL_DATA
        pushq   $STACK0
        pushq   $2
        pushq   $SEL_UCODE32 & ~3       /* RPL 0 with DPL 3 */
        pushq   $main
        iretq
        END_TRY
        CHECK_EXC(13, SEL_UCODE32 & ~3)
        TRY
        pushq   $0
        pushq   $STACK3
        pushq   $2
        pushq   $SEL_UCODE64
        pushq   $main
        iretq                           /* null SS for ring 3 */
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        pushfq
        orl     $0x4000, (%rsp)         /* NT */
        popfq
        iretq
        END_TRY
        CHECK_EXC(13, 0)

        DONE

        .balign 8
scratch: .quad 0
