/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 32-bit paging without PAE: 4 KiB and 4 MiB pages, A and D bits, WP, error codes, CR2, INVLPG, CR3, PGE. */
#define GUEST_MODE 32
#include "env.h"

#define DIR  0x100000
#define TAB0 0x101000   /* 0..4 MiB, identity */
#define TAB1 0x102000   /* 4..8 MiB: test pages, backed by 2 MiB onwards */
#define PAGE(n) (0x400000 + (n) * 0x1000)
#define PTE(n)  (TAB1 + (n) * 4)
#define PHYS(n) (0x200000 + (n) * 0x1000)

main:
        KVM_GAP_BEGIN                   /* paging outside long mode */
        mov     $TAB0, %edi
        mov     $7, %eax
1:      stosl
        add     $0x1000, %eax
        cmp     $TAB0 + 0x1000, %edi
        jne     1b
        mov     $0x200007, %eax
2:      stosl
        add     $0x1000, %eax
        cmp     $TAB1 + 0x1000, %edi
        jne     2b
        movl    $TAB0 + 7, DIR
        movl    $TAB1 + 7, DIR + 4
        movl    $0xab, PHYS(0)
        movl    $0xcd, PHYS(1)
        mov     $DIR, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        jmp     1f
1:
        /* translation, A and D */
        CHECK_AT(PAGE(0), 0xab)
        CHECK_AT(PTE(0), PHYS(0) + 0x27)
        mov     DIR + 4, %eax
        and     $0x60, %eax
        CHECK(0x20)
        CHECK_AT(PTE(1), PHYS(1) + 7)
        movl    $0x11, PAGE(1)
        CHECK_AT(PTE(1), PHYS(1) + 0x67)
        /* D is set on the first write, however often the page was read before */
        movb    $1, PAGE(0)
        CHECK_AT(PTE(0), PHYS(0) + 0x67)
        /* cleared bits come back after INVLPG */
        movl    $PHYS(0) + 7, PTE(0)
        invlpg  PAGE(0)
        mov     PAGE(0), %eax
        CHECK_AT(PTE(0), PHYS(0) + 0x27)

        /* a remapped page is seen after INVLPG */
        movl    $0x77, PHYS(9)
        movl    $PHYS(9) + 7, PTE(2)
        invlpg  PAGE(2)
        CHECK_AT(PAGE(2), 0x77)
        /* and after a write of CR3 */
        movl    $PHYS(1) + 7, PTE(2)
        mov     %cr3, %eax
        mov     %eax, %cr3
        CHECK_AT(PAGE(2), 0x11)

        /* not present, at both levels */
        movl    $0, PTE(3)
        invlpg  PAGE(3)
        TRY
        mov     PAGE(3) + 4, %eax
        END_TRY
        CHECK_EXC(14, 0)
        CHECK_AT(exc_cr2, PAGE(3) + 4)
        TRY
        movl    $1, 0x800000
        END_TRY
        CHECK_EXC(14, 2)
        CHECK_AT(exc_cr2, 0x800000)

        /* read-only: ring 0 writes without WP, not with it */
        movl    $PHYS(3) + 5, PTE(3)
        invlpg  PAGE(3)
        TRY
        movl    $5, PAGE(3)
        END_TRY
        CHECK_EXC(NONE, 0)
        mov     %cr0, %eax
        or      $0x10000, %eax
        mov     %eax, %cr0
        TRY
        movl    $6, PAGE(3)
        END_TRY
        CHECK_EXC(14, 3)
        CHECK_AT(PAGE(3), 5)
        TRY
        RING3_WITH_DATA
        movl    $6, PAGE(3)
        END_TRY
        CHECK_EXC(14, 7)
        /* the directory's R/W counts as well */
        movl    $TAB1 + 5, DIR + 4
        mov     %cr3, %eax
        mov     %eax, %cr3
        TRY
        movl    $6, PAGE(4)
        END_TRY
        CHECK_EXC(14, 3)
        movl    $TAB1 + 3, DIR + 4      /* and its U/S */
        mov     %cr3, %eax
        mov     %eax, %cr3
        TRY
        RING3_WITH_DATA
        mov     PAGE(4), %eax
        END_TRY
        CHECK_EXC(14, 5)
        movl    $TAB1 + 7, DIR + 4
        mov     %cr3, %eax
        mov     %eax, %cr3

        /* an access over two pages writes both or neither */
        movl    $0, PTE(6)
        invlpg  PAGE(6)
        movl    $0, PAGE(5) + 0xffc
        TRY
        movl    $-1, PAGE(5) + 0xffe
        END_TRY
        CHECK_EXC(14, 2)
        CHECK_AT(exc_cr2, PAGE(6))
        CHECK_AT(PAGE(5) + 0xffc, 0)

        /* 4 MiB pages need CR4.PSE */
        mov     %cr4, %eax
        or      $0x10, %eax
        mov     %eax, %cr4
        movl    $0x87, DIR + 0xc00      /* c0000000 -> 0 */
        mov     %cr3, %eax
        mov     %eax, %cr3
        CHECK_AT(0xc0000000 + PHYS(9), 0x77)
        CHECK_AT(DIR + 0xc00, 0xa7)
        movl    $0x78, 0xc0000000 + PHYS(9)
        CHECK_AT(DIR + 0xc00, 0xe7)
        CHECK_AT(PHYS(9), 0x78)
        /* INVLPG anywhere in it drops all of it */
        mov     0xc0000000, %eax
        movl    $0x00400087, DIR + 0xc00
        invlpg  0xc03ff000
        movl    $0x99, 0xc0000000
        movl    $0x87, DIR + 0xc00
        invlpg  0xc0000000
        mov     0xc0000000 + PHYS(9), %eax
        CHECK(0x78)
        /* reserved bits of a 4 MiB entry */
        movl    $0x00200087, DIR + 0xc04
        TRY
        mov     0xc0400000, %eax
        END_TRY
        CHECK_EXC(14, 9)

        /* paging off and on again */
        mov     %cr0, %eax
        and     $0x7fffffff, %eax
        mov     %eax, %cr0
        mov     PAGE(2), %eax
        mov     %eax, %ebx
        CHECK_AT(PHYS(1), 0x11)
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        CHECK_AT(PAGE(2), 0x11)

        /* #GP for what CR0 and CR4 refuse */
        TRY
        mov     %cr0, %eax
        and     $~1, %eax               /* PG without PE */
        mov     %eax, %cr0
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %cr0, %eax
        and     $~0x40000000, %eax
        or      $0x20000000, %eax       /* NW without CD */
        mov     %eax, %cr0
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %cr4, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr4
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %cr4, %eax
        or      $0x20000, %eax          /* PCIDE outside long mode */
        mov     %eax, %cr4
        END_TRY
        CHECK_EXC(13, 0)
        DONE
