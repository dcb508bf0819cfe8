/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * 4-level paging: 4 KiB, 2 MiB and 1 GiB pages, A and D bits at every level, NX, WP, U/S, SMEP, SMAP with AC, protection keys, PCID, reserved
 * bits, canonical edges, self-modifying code through an alias. What CPUID does not offer is left out.
 */
#define GUEST_MODE 64
#include "env.h"

#define PDPTE(n) (PDPT + (n) * 8)
#define PKEY(k)  ((k) << 59)

.macro FLUSH
        mov     %cr3, %rax
        mov     %rax, %cr3
.endm

/* Sets page n's entry to `low` with the upper bits `high`. */
.macro SETPTE n, low, high=0
        movl    $\low, PTE(\n)
        movl    $\high, PTE(\n) + 4
        invlpg  PAGE(\n)
.endm

/* Jumps over the guest's part when a feature bit is clear: leaf in EAX (ECX 0), register, bit. */
.macro NEED leaf, reg, bit, else
        mov     $\leaf, %eax
        xor     %ecx, %ecx
        cpuid
        bt      $\bit, \reg
        jnc     \else
.endm

main:
        USE_ALIAS
        /* A at every level, D in the leaf alone */
        FLUSH
        movl    $PAGE(0) + 7, PTE(0)
        movl    $PT + 7, PD + 16
        movl    $PD + 7, PDPT
        FLUSH
        mov     PAGE(0), %eax
        CHECK_AT(PTE(0), PAGE(0) + 0x27)
        mov     PD + 16, %eax
        and     $0x60, %eax
        CHECK(0x20)
        mov     PDPT, %eax
        and     $0x60, %eax
        CHECK(0x20)
        mov     PML4, %eax
        and     $0x60, %eax
        CHECK(0x20)
        movl    $1, PAGE(0)
        CHECK_AT(PTE(0), PAGE(0) + 0x67)
        mov     PD + 16, %eax
        and     $0x60, %eax
        CHECK(0x20)
        /* a locked access that fails its comparison still sets D; a faulting one sets nothing */
        SETPTE  1, PAGE(1) + 7
        xor     %eax, %eax
        mov     $5, %ecx
        dec     %eax
        lock cmpxchg %ecx, PAGE(1)
        CHECK_AT(PTE(1), PAGE(1) + 0x67)

        /* 2 MiB page: A and D in the PDE */
        movl    $0x600087, PD + 24
        invlpg  0x600000
        mov     0x600000, %eax
        CHECK_AT(PD + 24, 0x6000a7)
        movl    $0x22, 0x654320
        CHECK_AT(PD + 24, 0x6000e7)

        /* 1 GiB page */
        NEED    0x80000001, %edx, 26, no_1g
        movl    $0x87, PDPTE(2)         /* 80000000 -> 0 */
        movl    $0, PDPTE(2) + 4
        mov     $0x80654320, %ebx
        mov     (%rbx), %eax
        CHECK(0x22)
        CHECK_AT(PDPTE(2), 0xa7)
        movl    $0x33, (%rbx)
        CHECK_AT(PDPTE(2), 0xe7)
        CHECK_AT(0x654320, 0x33)
        movl    $0x2087, PDPTE(2)       /* bits 13..29 are reserved in it */
        invlpg  (%rbx)
        TRY
        mov     (%rbx), %eax
        END_TRY
        CHECK_EXC(14, 9)
        movl    $0, PDPTE(2)
        invlpg  (%rbx)
no_1g:
        movl    $0x602087, PD + 24      /* bits 13..20 are reserved in a 2 MiB entry */
        invlpg  0x600000
        TRY
        movl    $1, 0x600000
        END_TRY
        CHECK_EXC(14, 0xb)
        movl    $0x600087, PD + 24
        invlpg  0x600000

        /* NX: data stays readable */
        movb    $0xc3, PAGE(2)          /* RET */
        SETPTE  2, PAGE(2) + 7, 0x80000000
        movzbl  PAGE(2), %eax
        CHECK(0xc3)
        mov     $PAGE(2), %ebx
        TRY
        call    *%rbx
        END_TRY
        CHECK_EXC(14, 0x11)
        CHECK_AT(exc_cr2, PAGE(2))
        SETPTE  2, PAGE(2) + 7
        TRY
        call    *%rbx
        END_TRY
        CHECK_EXC(NONE, 0)
        /* NX at an upper level covers everything below */
        orl     $0x80000000, PD + 16 + 4
        FLUSH
        TRY
        call    *%rbx
        END_TRY
        CHECK_EXC(14, 0x11)
        andl    $0x7fffffff, PD + 16 + 4
        FLUSH

        /* WP in ring 0 */
        SETPTE  3, PAGE(3) + 5
        TRY
        movl    $1, PAGE(3)
        END_TRY
        CHECK_EXC(14, 3)
        mov     %cr0, %rax
        and     $~0x10000, %rax
        mov     %rax, %cr0
        TRY
        movl    $1, PAGE(3)
        END_TRY
        CHECK_EXC(NONE, 0)
        CHECK_AT(PTE(3), PAGE(3) + 0x65)
        mov     %cr0, %rax
        or      $0x10000, %rax
        mov     %rax, %cr0
        TRY
        movl    $1, PAGE(3)
        END_TRY
        CHECK_EXC(14, 3)

        /* a fault leaves registers and memory alone: the second half of a push, a string half done */
        SETPTE  5, 0
        movl    $0, PAGE(4) + 0xffc
        TRY
        mov     $PAGE(4) + 0xff8, %edi
        mov     $4, %ecx
        mov     $0x5a5a5a5a, %eax
        cld
        rep stosl
        END_TRY
        CHECK_EXC(14, 2)
        CHECK_AT(exc_cr2, PAGE(5))
        mov     %ecx, %eax
        CHECK(2)
        mov     %edi, %eax
        CHECK(PAGE(5))
        CHECK_AT(PAGE(4) + 0xffc, 0x5a5a5a5a)
        SETPTE  5, PAGE(5) + 7

        /* canonical edges: 47 bits up to ...fff, then #GP */
        mov     $0xffff7fffffffffff, %rbx
        TRY
        mov     (%rbx), %al
        END_TRY
        CHECK_EXC(13, 0)
        mov     $0xffff800000000000, %rbx
        TRY
        mov     (%rbx), %al
        END_TRY
        CHECK_EXC(14, 0)

        /* self-modifying code, directly and through another mapping */
        movl    $PAGE(6) + 7, PTE(7)    /* page 7 is an alias of page 6 */
        movl    $0, PTE(7) + 4
        invlpg  PAGE(7)
        movl    $0x0001b8, PAGE(6)      /* mov $1, %eax */
        movl    $0xc30000, PAGE(6) + 3
        mov     $PAGE(6), %ebx
        call    *%rbx
        CHECK(1)
        movb    $2, PAGE(6) + 1
        call    *%rbx
        CHECK(2)
        movb    $3, PAGE(7) + 1
        call    *%rbx
        CHECK(3)
        /* an instruction over two pages, the second of which is remapped */
        movb    $0xb8, PAGE(8) + 0xfff  /* mov $imm32 */
        movl    $0x11111111, PAGE(9)
        movb    $0xc3, PAGE(9) + 4
        movl    $0x22222222, PAGE(10)
        movb    $0xc3, PAGE(10) + 4
        mov     $PAGE(8) + 0xfff, %ebx
        call    *%rbx
        CHECK(0x11111111)
        SETPTE  9, PAGE(10) + 7
        call    *%rbx
        CHECK(0x22222222)

        NEED    7, %ebx, 7, no_smep
        mov     %cr4, %rax
        or      $0x100000, %eax
        mov     %rax, %cr4
        movb    $0xc3, PAGE(11)
        mov     $PAGE(11), %ebx
        TRY
        call    *%rbx
        END_TRY
        CHECK_EXC(14, 0x11)
        SETPTE  11, PAGE(11) + 3
        TRY
        call    *%rbx
        END_TRY
        CHECK_EXC(NONE, 0)
no_smep:
        KVM_GAP_BEGIN                   /* STAC; an access that reaches into the non-canonical hole */
        mov     $0x7ffffffffffd, %rbx
        TRY
        mov     (%rbx), %eax
        END_TRY
        CHECK_EXC(13, 0)                /* its last byte is not canonical: that comes before any page */
        NEED    7, %ebx, 20, no_smap
        mov     %cr4, %rax
        or      $0x200000, %eax
        mov     %rax, %cr4
        SETPTE  12, PAGE(12) + 7
        TRY
        mov     PAGE(12), %eax
        END_TRY
        CHECK_EXC(14, 1)
        TRY
        mov     %eax, PAGE(12)
        END_TRY
        CHECK_EXC(14, 3)
        TRY
        stac
        mov     PAGE(12), %eax
        clac
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        mov     PAGE(12), %eax
        END_TRY
        CHECK_EXC(14, 1)
        stac
        mov     %cr4, %rax
        and     $~0x200000, %rax
        mov     %rax, %cr4
        clac
no_smap:
        mov     %cr4, %rax
        and     $~0x100000, %rax
        mov     %rax, %cr4

        /* protection keys */
        NEED    7, %ecx, 3, no_pku
        mov     %cr4, %rax
        or      $0x400000, %eax
        mov     %rax, %cr4
        SETPTE  13, PAGE(13) + 7, PKEY(5) >> 32
        SETPTE  14, PAGE(14) + 3, PKEY(5) >> 32
        movl    $0x1313, PAGE(13)
        xor     %ecx, %ecx
        rdpkru
        CHECK(0)
        mov     $0x400, %eax            /* key 5: no access */
        call    set_pkru
        TRY
        mov     PAGE(13), %eax
        END_TRY
        CHECK_EXC(14, 0x21)
        TRY
        mov     PAGE(14), %eax          /* keys are for user pages */
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        RING3   alias=ALIAS
        movl    $1, PAGE(13)
        END_TRY
        CHECK_EXC(14, 0x27)
        mov     $0x800, %eax            /* key 5: no writes */
        call    set_pkru
        TRY
        mov     PAGE(13), %eax
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        RING3   alias=ALIAS
        movl    $1, PAGE(13)
        END_TRY
        CHECK_EXC(14, 0x27)
        TRY
        movl    $1, PAGE(13)            /* ring 0 with WP obeys too */
        END_TRY
        CHECK_EXC(14, 0x23)
        xor     %eax, %eax
        call    set_pkru
        TRY
        mov     $1, %ecx
        rdpkru
        END_TRY
        CHECK_EXC(13, 0)
no_pku:
        /* PCID: needs CR3's low bits clear; bit 63 does not reach CR3; INVPCID */
        NEED    1, %ecx, 17, no_pcid
        mov     %cr4, %rax
        or      $0x20000, %eax
        mov     %rax, %cr4
        mov     $PML4 + 1, %rax
        bts     $63, %rax
        mov     %rax, %cr3
        mov     %cr3, %rax
        mov     %rax, %rbx
        CHECK(PML4 + 1)
        mov     %rbx, %rax
        shr     $32, %rax
        CHECK(0)
        movl    $0x15, PAGE(15)
        movl    $0x16, PAGE(16)
        SETPTE  15, PAGE(15) + 7
        CHECK_AT(PAGE(15), 0x15)
        movl    $PAGE(16) + 7, PTE(15)
        NEED    7, %ebx, 10, no_invpcid
        movq    $1, invpcid_desc
        movq    $PAGE(15), invpcid_desc + 8
        xor     %eax, %eax
        invpcid invpcid_desc, %rax
        CHECK_AT(PAGE(15), 0x16)
        TRY
        mov     $4, %eax
        invpcid invpcid_desc, %rax
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        movq    $0x1000, invpcid_desc
        mov     $1, %eax
        invpcid invpcid_desc, %rax
        END_TRY
        CHECK_EXC(13, 0)
no_invpcid:
        TRY
        mov     %cr0, %rax
        and     $0x7fffffff, %eax       /* PG cannot go with PCIDE, nor in 64-bit mode */
        mov     %rax, %cr0
        END_TRY
        CHECK_EXC(13, 0)
        mov     $PML4, %eax
        mov     %rax, %cr3
        mov     %cr4, %rax
        and     $~0x20000, %rax
        mov     %rax, %cr4
        mov     $PML4 + 1, %eax
        mov     %rax, %cr3
        TRY
        mov     %cr4, %rax
        or      $0x20000, %eax          /* CR3[11:0] is not 0 */
        mov     %rax, %cr4
        END_TRY
        CHECK_EXC(13, 0)
        mov     $PML4, %eax
        mov     %rax, %cr3
no_pcid:
        /* reserved bits of CR3 */
        TRY
        mov     $0x4000000000000000, %rax
        mov     %rax, %cr3
        END_TRY
        CHECK_EXC(13, 0)
        DONE

set_pkru:
        xor     %ecx, %ecx
        xor     %edx, %edx
        wrpkru
        ret

        .balign 16
invpcid_desc: .quad 0, 0
