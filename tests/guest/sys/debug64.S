/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Debug registers: single step, breakpoints on code, data and ports, RF, GD, DR6, shadows of MOV SS, steps over INT and SYSCALL. */
#define GUEST_MODE 64
#include "env.h"

#define CHECK_DR6(bits) mov %dr6, %rax; and $0xe00f, %eax; CHECK(bits)

.macro CLEAR_DR6
        xor     %eax, %eax
        mov     %rax, %dr6
.endm

.macro SET_TF
        pushfq
        orl     $0x100, (%rsp)
        popfq
.endm

.macro BREAK n, where, dr7
        mov     $\where, %eax
        mov     %rax, %dr\n
        mov     $\dr7, %eax
        mov     %rax, %dr7
.endm

main:
        KVM_GAP_BEGIN                   /* DR6 shows RTM whatever CPUID says; steps over REP; MOV SS */
        /* fixed bits */
        mov     $0xffffffff, %eax
        mov     %rax, %dr6
        mov     %dr6, %rax
        and     $0xffff1ff0, %eax
        CHECK(0xffff0ff0)
        CLEAR_DR6
        mov     %dr6, %rax
        CHECK(0xffff0ff0)
        xor     %eax, %eax
        mov     %rax, %dr7
        mov     %dr7, %rax
        CHECK(0x400)
        TRY
        mov     $0x100000000, %rax
        mov     %rax, %dr7
        END_TRY
        CHECK_EXC(13, 0)
        mov     %dr4, %rax              /* DR6 while CR4.DE is clear */
        CHECK(0xffff0ff0)

        /* single step: the trap comes behind the instruction after POPF */
        TRY
        SET_TF
        nop
step1:  nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(step1)
        CHECK_DR6(0x4000)
        mov     exc_flags, %eax
        and     $0x10100, %eax
        CHECK(0x100)                    /* TF saved, RF not */
        pushfq
        pop     %rax
        and     $0x100, %eax            /* and cleared */
        CHECK(0)
        CLEAR_DR6

        /* DR6.BS stays until software clears it; a step through a whole piece of code */
        movl    $0, exc_count
        movq    $count_hook, hook
        SET_TF
        nop
        nop
        mov     $3, %ecx
1:      dec     %ecx
        jnz     1b
        pushq   $2
        popfq                           /* itself still stepped */
        nop
        movq    $0, hook
        CHECK_AT(exc_count, 11)
        CLEAR_DR6

        /* REP MOVS traps after each iteration, its RIP standing still */
        movl    $0, exc_count
        movq    $rep_hook, hook
        mov     $rep_ip, %eax
        mov     %rax, rep_at
        movl    $0, rep_seen
        mov     $scratch, %esi
        mov     $scratch + 32, %edi
        mov     $4, %ecx
        SET_TF
rep_ip: rep movsb
        pushq   $2
        popfq
        movq    $0, hook
        CHECK_AT(rep_seen, 3)
        CLEAR_DR6

        /* MOV SS puts the trap off by one instruction */
        TRY
        mov     $0x10, %ecx
        SET_TF
        mov     %ecx, %ss
        nop
ss_ip:  nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(ss_ip)
        CLEAR_DR6

        /* INT n under TF: the handler is entered without a trap, and its saved flags have TF */
        TRY
        SET_TF
        int     $0x21
        END_TRY
        CHECK_EXC(0x21, 0)
        mov     exc_flags, %eax
        and     $0x100, %eax
        CHECK(0x100)
        CHECK_DR6(0)
        /* HLT is left at once by its own trap */
        TRY
        SET_TF
        hlt
hlt_ip: nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(hlt_ip)
        CLEAR_DR6
        /* a fault under TF likewise */
        TRY
        SET_TF
        ud2
        END_TRY
        CHECK_EXC(6, 0)
        CHECK_DR6(0)

        /* code breakpoint: a fault, so before the instruction; RF is not set in its image */
        BREAK   0, code_bp, 0x402
        TRY
        xor     %ebx, %ebx
code_bp:
        inc     %ebx
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(code_bp)
        CHECK_DR6(1)
        mov     %ebx, %eax
        CHECK(0)
        /* with RF set on return it does not hit again */
        movq    $rf_hook, hook
        movl    $0, exc_count
        mov     $code_bp2, %eax
        mov     %rax, %dr0
        xor     %ebx, %ebx
code_bp2:
        inc     %ebx
        movq    $0, hook
        mov     %ebx, %eax
        CHECK(1)
        CHECK_AT(exc_count, 1)
        /* not while disabled */
        xor     %eax, %eax
        mov     %rax, %dr7
        mov     $code_bp3, %eax
        mov     %rax, %dr0
        TRY
code_bp3:
        nop
        END_TRY
        CHECK_EXC(NONE, 0)
        CLEAR_DR6

        /* data breakpoints: traps; write only, read or write, lengths */
        BREAK   1, scratch + 8, 0x00d00408  /* DR1: 4 bytes, writes */
        TRY
        mov     scratch + 8, %eax
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        movl    $0x55, scratch + 8
data_ip:
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(data_ip)
        CHECK_DR6(2)
        CHECK_AT(scratch + 8, 0x55)     /* the write has happened */
        TRY
        movb    $1, scratch + 11        /* its last byte */
        nop
        END_TRY
        CHECK_EXC(1, 0)
        TRY
        movb    $1, scratch + 12
        nop
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        movq    $1, scratch + 4         /* overlaps */
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CLEAR_DR6
        BREAK   2, scratch + 16, 0x0b000420 /* DR2: 8 bytes, reads and writes */
        TRY
        mov     scratch + 20, %al
rd_ip:  nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(rd_ip)
        CHECK_DR6(4)
        CLEAR_DR6
        TRY
        push    scratch + 16
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CLEAR_DR6
        TRY
        lock incl scratch + 16
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CLEAR_DR6
        TRY
        movups  %xmm0, scratch + 16
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CLEAR_DR6
        /* data breakpoint and step together */
        TRY
        SET_TF
        mov     scratch + 16, %eax
        nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_DR6(0x4004)
        CLEAR_DR6

        /* I/O breakpoint: needs CR4.DE, and with it DR4 is #UD */
        mov     %cr4, %rax
        or      $8, %eax
        mov     %rax, %cr4
        BREAK   3, 0x80, 0x20000480
        TRY
        out     %al, $0x80
io_ip:  nop
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(io_ip)
        CHECK_DR6(8)
        CLEAR_DR6
        TRY
        mov     %dr4, %rax
        END_TRY
        CHECK_EXC(6, 0)

        /* general detect */
        mov     $0x2400, %eax
        mov     %rax, %dr7
        TRY
gd_ip:  mov     %dr0, %rax
        END_TRY
        CHECK_EXC(1, 0)
        CHECK_IP(gd_ip)
        CHECK_DR6(0x2000)
        mov     %dr7, %rax
        CHECK(0x400)                    /* the handler may touch them */

        /* CHECK itself writes ports while breakpoints are off again */
        DONE

/* Handlers that come back. */
count_hook:
        iretq
rep_hook:
        push    %rax
        mov     8(%rsp), %rax
        cmp     %rax, rep_at
        jne     1f
        incl    rep_seen
1:      pop     %rax
        iretq
rf_hook:
        orl     $0x10000, 16(%rsp)
        iretq

        .balign 64
scratch: .fill  64, 1, 0
rep_at: .quad   0
rep_seen: .quad 0
