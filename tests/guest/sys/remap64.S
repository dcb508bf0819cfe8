/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Code at an address that leads somewhere else than before, in another address space or in this one, or to where this ring may not execute: each way
 * to say so, and each time both the first call and a later one, which a hypervisor may have prepared itself for.
 */
#define GUEST_MODE 64
#include "env.h"

#define MOVING   PAGE(2)
#define TABLES_B 0x105000               /* another address space: a copy of the tables at PML4 */
#define PTE_B(n) (PTE(n) - PML4 + TABLES_B)
#define SPACE_A  (PML4 + 1)             /* with their PCIDs */
#define SPACE_B  (TABLES_B + 2)

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

.macro MOVE_B entry, high=0
        movl    $\entry, PTE_B(2)
        movl    $\high, PTE_B(2) + 4
.endm
/* Goes to an address space of which nothing is flushed. */
.macro SWITCH space
        mov     $\space, %eax
        bts     $63, %rax
        mov     %rax, %cr3
.endm
.macro FLUSH_BY type, pcid=0
        movq    $\pcid, invpcid_desc
        mov     $\type, %eax
        invpcid invpcid_desc, %rax
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

/* Has code run in B, and goes over to A. */
.macro LEAVE_B
        MOVE_B  PAGE(1) + 7
        FLUSH_PAGE
        COMES_TO(RUN3, 0x11)
        COMES_TO(RUN0, 0x11)
        SWITCH  SPACE_A
        COMES_TO(RUN0, 0x13)
.endm

main:
        USE_ALIAS
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
        /* the same bytes in another mode: INC EAX; NOP is REX; NOP there */
        movl    $0x9040c031, PAGE(3)    /* xor %eax, %eax */
        movb    $0xcb, PAGE(3) + 4      /* lret */
        mov     $SEL_DATA, %eax         /* 32-bit code has no use for the null SS of a handler that ring 3 led to */
        mov     %eax, %ss
        .rept   3
        lcall   *in_code64
        CHECK(0)
        lcall   *in_code32
        CHECK(1)
        .endr

        /* two address spaces, which know it as different pages */
        mov     $1, %eax
        cpuid
        bt      $17, %ecx
        jnc     no_pcid
        mov     $PML4, %esi
        mov     $TABLES_B, %edi
        mov     $0x4000 / 4, %ecx
        rep movsl
        addl    $TABLES_B - PML4, TABLES_B
        addl    $TABLES_B - PML4, PDPT - PML4 + TABLES_B
        addl    $TABLES_B - PML4, PD - PML4 + TABLES_B + 16
        mov     %cr4, %rax
        or      $0x20000, %eax
        mov     %rax, %cr4
        MOVE    PAGE(0) + 7, FLUSH_PAGE
        MOVE_B  PAGE(1) + 7
        .rept   2
        SWITCH  SPACE_A
        COMES_TO(RUN0, 0x13)
        SWITCH  SPACE_B
        COMES_TO(RUN0, 0x11)
        COMES_TO(RUN3, 0x11)
        SWITCH  SPACE_A
        COMES_TO(RUN3, 0x13)
        .endr
        /* what has changed of one while the other was current: no code of ring 3 runs there meanwhile, which might push out what is known of it here */
        SWITCH  SPACE_B
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        bt      $10, %ebx
        jnc     no_invpcid
        LEAVE_B
        MOVE_B  PAGE(1) + 7, 0x80000000
        movq    $MOVING, invpcid_desc + 8
        FLUSH_BY 0, 2                   /* this page of that space */
        SWITCH  SPACE_B
        FAULTS(RUN3, 0x15)
        FAULTS(RUN0, 0x11)
        LEAVE_B
        MOVE_B  PAGE(0) + 3
        FLUSH_BY 1, 2                   /* all of that space */
        SWITCH  SPACE_B
        FAULTS(RUN3, 0x15)
        COMES_TO(RUN0, 0x13)
        LEAVE_B
        MOVE_B  PAGE(0) + 7
        FLUSH_BY 3                      /* all spaces */
        SWITCH  SPACE_B
        COMES_TO(RUN3, 0x13)
        LEAVE_B
        MOVE_B  0
        FLUSH_BY 2                      /* and what is global */
        SWITCH  SPACE_B
        FAULTS(RUN3, 0x14)
        FAULTS(RUN0, 0x10)
no_invpcid:
        LEAVE_B
        MOVE_B  PAGE(1) + 3
        mov     $SPACE_B, %eax          /* a load of CR3 flushes the space that it goes to */
        mov     %rax, %cr3
        FAULTS(RUN3, 0x15)
        COMES_TO(RUN0, 0x11)
no_pcid:
        DONE

        .balign 16
invpcid_desc: .quad 0, 0
in_code64: .long PAGE(3)
        .word   SEL_CODE64
in_code32: .long PAGE(3)
        .word   SEL_CODE32
