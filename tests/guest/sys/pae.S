/* SPDX-License-Identifier: GPL-2.0-or-later */
/* PAE paging in 32-bit mode: 4 KiB and 2 MiB pages, NX, A and D bits, reserved bits, PDPTEs that are registers, addresses above 4 GiB refused or not. */
#define GUEST_MODE 32
#include "env.h"

#define PDP  0x100000
#define DIR0 0x101000
#define TAB  0x102000
#define PAGE(n) (0x400000 + (n) * 0x1000)
#define PTE(n)  (TAB + (n) * 8)
#define EFER 0xc0000080

.macro SETPTE n, low, high=0
        movl    $\low, PTE(\n)
        movl    $\high, PTE(\n) + 4
        invlpg  PAGE(\n)
.endm
.macro FLUSH
        mov     %cr3, %eax
        mov     %eax, %cr3
.endm

main:
        KVM_GAP_BEGIN                   /* PAE paging outside long mode */
        mov     $PDP, %edi
        xor     %eax, %eax
        mov     $0x3000 / 4, %ecx
        cld
        rep stosl
        movl    $DIR0 + 1, PDP
        movl    $0x87, DIR0             /* 0..2 MiB */
        movl    $0x200087, DIR0 + 8
        movl    $TAB + 7, DIR0 + 16     /* 4..6 MiB */
        mov     $TAB, %edi
        mov     $0x400007, %eax
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x1000, %eax
        cmp     $TAB + 0x1000, %edi
        jne     1b
        mov     $EFER, %ecx
        rdmsr
        or      $0x800, %eax
        wrmsr
        mov     %cr4, %eax
        or      $0x20, %eax
        mov     %eax, %cr4
        mov     $PDP, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $0x80010000, %eax
        mov     %eax, %cr0

        /* A and D; the PDPTE has neither */
        movl    $0x77, PAGE(0)
        CHECK_AT(PTE(0), PAGE(0) + 0x67)
        CHECK_AT(DIR0 + 16, TAB + 0x27)
        mov     PAGE(1), %eax
        CHECK_AT(PTE(1), PAGE(1) + 0x27)
        CHECK_AT(PDP, DIR0 + 1)
        mov     0x200000, %eax
        mov     DIR0 + 8, %eax
        and     $0x60, %eax
        CHECK(0x20)

        /* errors */
        SETPTE  2, 0
        TRY
        mov     PAGE(2) + 8, %eax
        END_TRY
        CHECK_EXC(14, 0)
        CHECK_AT(exc_cr2, PAGE(2) + 8)
        SETPTE  2, PAGE(2) + 5
        TRY
        movl    $1, PAGE(2)
        END_TRY
        CHECK_EXC(14, 3)
        movb    $0xc3, PAGE(3)
        SETPTE  3, PAGE(3) + 7, 0x80000000
        TRY
        mov     $PAGE(3), %ebx
        call    *%ebx
        END_TRY
        CHECK_EXC(14, 0x11)
        SETPTE  3, PAGE(3) + 7
        TRY
        call    *%ebx
        END_TRY
        CHECK_EXC(NONE, 0)
        SETPTE  4, PAGE(4) + 7, 0x00100000      /* bit 52 */
        TRY
        mov     PAGE(4), %eax
        END_TRY
        CHECK_EXC(14, 9)
        movl    $0x202087, DIR0 + 24    /* bit 13 of a 2 MiB entry */
        TRY
        mov     0x600000, %eax
        END_TRY
        CHECK_EXC(14, 9)
        /* XD is reserved without EFER.NXE, and then there is no I bit */
        mov     $EFER, %ecx
        rdmsr
        and     $~0x800, %eax
        wrmsr
        SETPTE  3, PAGE(3) + 7, 0x80000000
        TRY
        mov     PAGE(3), %eax
        END_TRY
        CHECK_EXC(14, 9)
        movl    $0, PTE(3)
        invlpg  PAGE(3)
        TRY
        call    *%ebx
        END_TRY
        CHECK_EXC(14, 0)
        SETPTE  3, PAGE(3) + 7

        /* the four PDPTEs: an absent one faults, a new one counts from the next write of CR3 */
        TRY
        mov     0x40000000, %eax
        END_TRY
        CHECK_EXC(14, 0)
        movl    $DIR0 + 1, PDP + 8
        TRY
        mov     0x40000000 + PTE(0), %eax
        END_TRY
        CHECK_EXC(14, 0)
        FLUSH
        CHECK_AT(0x40000000 + PDP, DIR0 + 1)
        /* reserved bits in one: #GP, and CR3 keeps its value */
        movl    $DIR0 + 3, PDP + 8
        TRY
        mov     $PDP, %eax
        mov     %eax, %cr3
        END_TRY
        CHECK_EXC(13, 0)
        CHECK_AT(0x40000000 + PDP + 8, DIR0 + 3)
        movl    $DIR0 + 2, PDP + 8      /* not present: anything goes */
        TRY
        FLUSH
        END_TRY
        CHECK_EXC(NONE, 0)
        /* CR4.PGE reloads them too */
        movl    $DIR0 + 1, PDP + 8
        mov     %cr4, %eax
        or      $0x80, %eax
        mov     %eax, %cr4
        CHECK_AT(0x40000000 + PDP, DIR0 + 1)

        /* CR3 points to 32 bytes, not to a page */
        mov     PDP, %eax
        mov     %eax, PDP + 32
        movl    $DIR0 + 1, PDP + 32 + 16
        mov     $PDP + 32, %eax
        mov     %eax, %cr3
        CHECK_AT(0x80000000 + PDP, DIR0 + 1)
        TRY
        mov     0x40000000, %eax
        END_TRY
        CHECK_EXC(14, 0)
        DONE
