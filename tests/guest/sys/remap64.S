/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code at an address that leads somewhere else than before, or to where this ring may not execute: each way to say so, and each time both the first
 * call and a later one, which a hypervisor may have prepared itself for.
 */
#define GUEST_MODE 64
#include "env.h"

#define PAGE(n)  (TESTPAGES + (n) * 0x1000)
#define PTE(n)   (PT + (n) * 8)
#define ALIAS    0x40000000             /* the first 2 MiB again, for ring 3 */
#define PDUSER   0x104000
#define PDPTE(n) (PDPT + (n) * 8)
#define MOVING   PAGE(2)

.macro FLUSH_CR3
        mov     %cr3, %rax
        mov     %rax, %cr3
.endm
.macro FLUSH_GLOBAL
        mov     %cr4, %rax
        xor     $0x80, %rax
        mov     %rax, %cr4
        xor     $0x80, %rax
        mov     %rax, %cr4
.endm
.macro FLUSH_PAGE
        invlpg  MOVING
.endm

.macro MOVE entry, flush, high=0
        movl    $\entry, PTE(2)
        movl    $\high, PTE(2) + 4
        \flush
.endm

/* Both of these leave what the page's code has put in EAX there, and in exc_vector 3 if it has come back. */
.macro RUN0
        TRY
        mov     $MOVING, %ebx
        xor     %eax, %eax
        call    *%rbx
        mov     %rax, saved_a           /* as INT3 would, which some /dev/kvm cannot in ring 0 */
        movl    $3, exc_vector
        END_TRY
        mov     saved_a, %eax
.endm
.macro RUN3
        TRY
        RING3   alias=ALIAS
        mov     $MOVING, %ebx
        xor     %eax, %eax
        call    *%rbx
        int3
        END_TRY
        mov     saved_a, %eax
.endm
#define COMES_TO(call, what) .rept 2; call; CHECK(what); CHECK_EXC(3, 0); .endr
#define FAULTS(call, error)  .rept 2; call; CHECK(0); CHECK_EXC(14, error); CHECK_AT(exc_cr2, MOVING); CHECK_AT(exc_ip, MOVING); .endr

main:
        movl    $0x87, PDUSER
        movl    $PDUSER + 7, PDPTE(1)
        movl    $0x83, PD               /* at home they are ring 0's alone, for SMEP */
        FLUSH_CR3
        movl    $0x0010b8, PAGE(0)      /* mov $0x10, %eax; ret */
        movl    $0xc30000, PAGE(0) + 3
        movl    $0x0011b8, PAGE(1)
        movl    $0xc30000, PAGE(1) + 3

        /* there and back by each kind of flush, in either ring */
        .irp    flush, FLUSH_PAGE, FLUSH_CR3, FLUSH_GLOBAL
        MOVE    PAGE(0) + 7, \flush
        COMES_TO(RUN0, 0x10)
        MOVE    PAGE(1) + 7, \flush
        COMES_TO(RUN0, 0x11)
        MOVE    PAGE(0) + 7, \flush
        COMES_TO(RUN3, 0x10)
        MOVE    PAGE(1) + 7, \flush
        COMES_TO(RUN3, 0x11)
        COMES_TO(RUN0, 0x11)
        MOVE    PAGE(0) + 7, \flush
        COMES_TO(RUN0, 0x10)
        COMES_TO(RUN3, 0x10)
        /* not executable any more, then not there, then as before */
        MOVE    PAGE(0) + 7, \flush, 0x80000000
        FAULTS(RUN0, 0x11)
        FAULTS(RUN3, 0x15)
        MOVE    0, \flush
        FAULTS(RUN0, 0x10)
        FAULTS(RUN3, 0x14)
        MOVE    PAGE(0) + 7, \flush
        COMES_TO(RUN0, 0x10)
        COMES_TO(RUN3, 0x10)
        /* ring 0's alone, and ring 0 uses it first */
        MOVE    PAGE(0) + 3, \flush
        COMES_TO(RUN0, 0x10)
        FAULTS(RUN3, 0x15)
        .endr

        /* the bytes change while it is elsewhere */
        MOVE    PAGE(1) + 7, FLUSH_PAGE
        COMES_TO(RUN0, 0x11)
        movb    $0x12, PAGE(0) + 1
        MOVE    PAGE(0) + 7, FLUSH_PAGE
        COMES_TO(RUN0, 0x12)
        movb    $0x13, MOVING + 1
        COMES_TO(RUN0, 0x13)
        COMES_TO(RUN3, 0x13)

        /* SMEP: ring 3's alone, once ring 0 has used it and ring 3 uses it first */
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        bt      $7, %ebx
        jnc     no_smep
        MOVE    PAGE(0) + 3, FLUSH_PAGE
        mov     %cr4, %rax
        or      $0x100000, %eax
        mov     %rax, %cr4
        COMES_TO(RUN0, 0x13)
        MOVE    PAGE(0) + 7, FLUSH_PAGE
        COMES_TO(RUN3, 0x13)
        FAULTS(RUN0, 0x11)
        MOVE    PAGE(0) + 3, FLUSH_CR3
        COMES_TO(RUN0, 0x13)
        FAULTS(RUN3, 0x15)
        mov     %cr4, %rax
        and     $~0x100000, %rax
        mov     %rax, %cr4
no_smep:
        DONE
