/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ground that the small guests stand on: from the first instruction in real mode at 0:8000 to `main` in the mode that the guest asks for with
 * `#define GUEST_MODE 16`, 32 or 64; a GDT, an IDT whose handlers note what happened, and macros to try something and to check its outcome.
 *
 * Guests are flat binaries for GPA 0x8000, code and data in one section, below 64 KiB so that 16-bit code reaches all of it.
 *
 *      7000  real-mode stack, downwards      90000  ring 0 stack     a0000  ring 0 stack entered from ring 3
 *      8000  the guest                       b0000  ring 3 stack     c0000  stack of IST 1
 *    100000  page tables                    400000  pages for tests, mapped one by one from PT at 103000 (64-bit guests)
 *
 * A check puts the actual value on port F1, the expected one on F3 and its line number on F5; runner.c compares. A note (port F7) has no
 * expected value and is only compared between two hypervisors. Port F4 ends the guest, F6 announces that it ends by a triple fault, F8 that
 * from here on a software-only /dev/kvm cannot follow.
 */
#define CHECK(expected)   TELL 0xf1; mov $(expected), %eax; TELL 0xf3; mov $__LINE__, %eax; TELL 0xf5
#define CHECK_AT(where, expected) mov where, %eax; CHECK(expected)
#define NOTE              TELL 0xf7
#define DONE              xor %eax, %eax; TELL 0xf4; 77: hlt; jmp 77b
/* What follows fails on a /dev/kvm without hardware behind it, which is an emulation with gaps: the reason stands beside it. */
#define KVM_GAP_BEGIN     mov $1, %eax; TELL 0xf8
#define EXPECT_SHUTDOWN   mov $1, %eax; TELL 0xf6

/* The last exception: vector and error code. NONE: there was none. */
#define NONE 0xff
#define CHECK_EXC(vector, error) CHECK_AT(exc_vector, vector); CHECK_AT(exc_error, error)
#define CHECK_IP(label) mov exc_ip, A; sub $label, A; CHECK(0)

#define SEL_CODE32 0x08
#define SEL_DATA   0x10
#define SEL_CODE64 0x18
#define SEL_DATA_B 0x20 /* SYSCALL: SS = CS + 8 */
#define SEL_CODE16 0x28
#define SEL_UCODE32 0x33
#define SEL_UDATA  0x3b
#define SEL_UCODE64 0x43
#define SEL_DATA16 0x48
#define SEL_TSS    0x50 /* 16 bytes in 64-bit guests */
#define SEL_FREE   0x60 /* from here on the guest's own */

#define STACK0   0x90000
#define STACK30  0xa0000
#define STACK3   0xb0000
#define STACKIST 0xc0000
#define PML4     0x100000
#define PDPT     0x101000
#define PD       0x102000
#define PT       0x103000
#define PDALIAS  0x104000
#define TESTPAGES 0x400000

#if GUEST_MODE == 64
#define IDT_ENTRY 16
#define GUEST_CODE SEL_CODE64
#define WORD .quad
#define MOVW movq
#define SP %rsp
#define A %rax
#else
#define IDT_ENTRY 8
#define GUEST_CODE SEL_CODE32
#define WORD .long
#define MOVW movl
#define SP %esp
#define A %eax
#endif

#ifndef DEBUGCON
.macro TELL port
        out     %eax, $\port
.endm
#else
/* For third opinions: a hypervisor that offers no more than a debug console of one byte gets the port's number and the value, byte by byte. */
.macro TELL port
        ror     $8, %eax
        push    A
        mov     $\port, %al
        out     %al, $0xe9
        pop     A
        .rept   4
        rol     $8, %eax
        out     %al, $0xe9
        .endr
.endm
#endif

/* TRY ... END_TRY: what stands between may fault; execution goes on behind END_TRY in ring 0 with the stack as it was before. */
.macro TRY
    movl $NONE, exc_vector
    movl $0, exc_error
    MOVW $99f, resume
    mov SP, resume_sp
.endm
.macro END_TRY
99:
.endm

/* Puts a descriptor, by its two halves, into the GDT. */
.macro DESC at, low, high
        movl    $\low, gdt + \at
        movl    $\high, gdt + \at + 4
.endm

#define IOPL3 0x3002 /* flags */
#if GUEST_MODE == 64
#define PAGE(n) (TESTPAGES + (n) * 0x1000)
#define PTE(n)  (PT + (n) * 8)
#define ALIAS   0x40000000
/* The first 2 MiB are ring 0's alone from now on, for SMEP and SMAP; ring 3 has them ALIAS bytes further up. */
.macro USE_ALIAS
        movl    $0x87, PDALIAS
        movl    $PDALIAS + 7, PDPT + 8
        movl    $0x83, PD
        mov     %cr3, %rax
        mov     %rax, %cr3
.endm
/* Goes on in ring 3, at the next instruction as it stands `alias` bytes further up. */
.macro RING3 flags=2, alias=0, code=SEL_UCODE64
        pushq   $SEL_UDATA
        pushq   $STACK3 + \alias
        pushq   $\flags
        pushq   $\code
        pushq   $98f + \alias
        iretq
98:
.endm
#elif GUEST_MODE == 32
/* Goes on in ring 3 at the next instruction. DS and ES are null there: IRET does not leave ring 0's to it. */
.macro RING3
        pushl   $SEL_UDATA
        pushl   $STACK3
        pushl   $2
        pushl   $SEL_UCODE32
        pushl   $98f
        iretl
98:
.endm
.macro RING3_WITH_DATA
        RING3
        mov     $SEL_UDATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
.endm
#endif

        .text
        .code16
        .globl  _start
_start:
        cli
        cld
        xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7000, %sp
#if GUEST_MODE == 16
        jmp     main
#else
        lgdtl   gdtr
        mov     %cr0, %eax
        or      $1, %eax
        mov     %eax, %cr0
        ljmpl   $SEL_CODE32, $start32
        .code32
start32:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        mov     %eax, %ss
        mov     %eax, %fs
        mov     %eax, %gs
        mov     $STACK0, %esp
#if GUEST_MODE == 64
        /* identity map of the first GiB by 2 MiB pages, open to ring 3; TESTPAGES by 4 KiB pages */
        mov     $PML4, %edi
        xor     %eax, %eax
        mov     $0x4000 / 4, %ecx
        rep stosl
        movl    $PDPT + 7, PML4
        movl    $PD + 7, PDPT
        mov     $PD, %edi
        mov     $0x87, %eax
1:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        cmp     $0x40000087, %eax
        jne     1b
        movl    $PT + 7, PD + 16
        mov     $PT, %edi
        mov     $TESTPAGES + 7, %eax
2:      mov     %eax, (%edi)
        movl    $0, 4(%edi)
        add     $8, %edi
        add     $0x1000, %eax
        cmp     $PT + 0x1000, %edi
        jne     2b
        mov     $PML4, %eax
        mov     %eax, %cr3
        mov     %cr4, %eax
        or      $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        mov     %eax, %cr4
        mov     $0xc0000080, %ecx
        rdmsr
        or      $0x901, %eax            /* LME, NXE, SCE */
        wrmsr
        mov     %cr0, %eax
        or      $0x80010022, %eax       /* PG, WP, NE, MP */
        mov     %eax, %cr0
        ljmp    $SEL_CODE64, $start64
        .code64
start64:
        mov     $STACK0, %rsp
        movl    $0x67, gdt + SEL_TSS
        mov     $tss, %eax
        mov     %ax, gdt + SEL_TSS + 2
        shr     $16, %eax
        mov     %al, gdt + SEL_TSS + 4
        movb    $0x89, gdt + SEL_TSS + 5
        mov     $SEL_TSS, %eax
        ltr     %ax
#else
        mov     $tss, %eax
        mov     %ax, gdt + SEL_TSS + 2
        shr     $16, %eax
        mov     %al, gdt + SEL_TSS + 4
        movw    $0x67, gdt + SEL_TSS
        movb    $0x89, gdt + SEL_TSS + 5
        mov     $SEL_TSS, %eax
        ltr     %ax
#endif
        /* every vector has an interrupt gate to its stub; ring 3 may use all */
        mov     $stubs, %eax
        mov     $idt, %edi
3:      mov     %ax, (%edi)
        movw    $GUEST_CODE, 2(%edi)
        movw    $0xee00, 4(%edi)
        movw    $0, 6(%edi)
        add     $16, %eax
        add     $IDT_ENTRY, %edi
        cmp     $idt_end, %edi
        jne     3b
        lidt    idtr
        jmp     main

        .balign 16
stubs:
        .set    vec, 0
        .rept   64
        .balign 16
        .if     !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17)
        push    $0
        .endif
        push    $vec
        jmp     note_exception
        .set    vec, vec + 1
        .endr

/* Notes the exception and goes to `resume` in ring 0, or to the guest's own `hook`, which finds the stack as the CPU left it but for the error code. */
note_exception:
#if GUEST_MODE == 64
        mov     %rax, saved_a
        pop     %rax
        mov     %eax, exc_vector
        pop     %rax
        mov     %eax, exc_error
        mov     (%rsp), %rax
        mov     %rax, exc_ip
        mov     8(%rsp), %eax
        mov     %eax, exc_cs
        mov     16(%rsp), %rax
        mov     %rax, exc_flags
        mov     24(%rsp), %rax
        mov     %rax, exc_sp
        mov     32(%rsp), %eax
        mov     %eax, exc_ss
        mov     %rsp, exc_frame
        mov     %cr2, %rax
        mov     %rax, exc_cr2
        incl    exc_count
        mov     saved_a, %rax
        cmpq    $0, hook
        jne     4f
        mov     resume_sp, %rsp
        jmp     *resume
4:      jmp     *hook
#else
        push    %eax
        mov     %ds, %eax
        push    %eax
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %es
        pop     exc_ds
        pop     saved_a
        pop     %eax
        mov     %eax, exc_vector
        pop     %eax
        mov     %eax, exc_error
        mov     (%esp), %eax
        mov     %eax, exc_ip
        mov     4(%esp), %eax
        mov     %eax, exc_cs
        mov     8(%esp), %eax
        mov     %eax, exc_flags
        mov     12(%esp), %eax
        mov     %eax, exc_sp
        mov     16(%esp), %eax
        mov     %eax, exc_ss
        mov     %esp, exc_frame
        mov     %cr2, %eax
        mov     %eax, exc_cr2
        incl    exc_count
        mov     saved_a, %eax
        cmpl    $0, hook
        jne     4f
        mov     resume_sp, %esp
        mov     $SEL_DATA, %eax
        mov     %eax, %ss
        mov     resume_sp, %esp
        mov     saved_a, %eax
        jmp     *resume
4:      jmp     *hook
#endif

        .balign 8
exc_vector: .quad NONE
exc_error:  .quad 0
exc_ip:     .quad 0
exc_cs:     .quad 0
exc_flags:  .quad 0
exc_sp:     .quad 0
exc_ss:     .quad 0
exc_ds:     .quad 0
exc_frame:  .quad 0
exc_cr2:    .quad 0
exc_count:  .quad 0
saved_a:    .quad 0
resume:     .quad 0
resume_sp:  .quad 0
hook:       .quad 0

        .balign 16
tss:
#if GUEST_MODE == 64
        .long   0
        .quad   STACK30, 0, 0, 0, STACKIST, 0, 0, 0, 0, 0, 0, 0
        .word   0, 104
#else
        .long   0, STACK30, SEL_DATA
        .fill   22, 4, 0
        .word   0, 104
#endif

        .balign 16
idt:
        .fill   64 * IDT_ENTRY, 1, 0
idt_end:
idtr:   .word   idt_end - idt - 1
        WORD    idt
#endif

        .balign 16
gdt:    .quad   0
        .quad   0x00cf9b000000ffff      /* 08 32-bit code */
        .quad   0x00cf93000000ffff      /* 10 data */
        .quad   0x00af9b000000ffff      /* 18 64-bit code */
        .quad   0x00cf93000000ffff      /* 20 data */
        .quad   0x00009b000000ffff      /* 28 16-bit code */
        .quad   0x00cffb000000ffff      /* 30 ring 3 32-bit code */
        .quad   0x00cff3000000ffff      /* 38 ring 3 data */
        .quad   0x00affb000000ffff      /* 40 ring 3 64-bit code */
        .quad   0x000093000000ffff      /* 48 16-bit data */
        .quad   0, 0                    /* 50 TSS */
        .fill   20, 8, 0
gdt_end:
gdtr:   .word   gdt_end - gdt - 1
        .quad   gdt

#if GUEST_MODE == 64
        .code64
#elif GUEST_MODE == 32
        .code32
#else
        .code16
#endif
