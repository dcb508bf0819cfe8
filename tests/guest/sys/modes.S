/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A tour through the modes: real, 16-bit protected, 32-bit protected, PAE paging, long mode, compatibility mode, and all the way back to real
 * mode; "unreal" mode; interrupts through the IVT; what the switches demand.
 */
#define GUEST_MODE 16
#include "env.h"

#define L4   0x100000
#define L3   0x101000
#define L2   0x102000   /* also the PAE directory: same entries */
#define EFER 0xc0000080

main:
        /* real mode: segments, 16-bit wrap of IP targets, IVT */
        movl    $0x12345678, 0x6000
        mov     $0x0600, %ax
        mov     %ax, %fs
        movl    %fs:0, %eax
        CHECK(0x12345678)
        mov     $0xffff, %ax            /* ffff:0010 is 100000, A20 is on */
        mov     %ax, %fs
        movl    $0x600d, %fs:0x10
        movl    %fs:0x10, %eax
        CHECK(0x600d)
        movw    $ivt_handler, 0x21 * 4
        movw    $0, 0x21 * 4 + 2
        xor     %ebx, %ebx
        sti
        int     $0x21
        cli
        mov     %ebx, %eax
        CHECK(0x21)
        mov     %edx, %eax
        CHECK(0)                        /* IF was clear in the handler */
        movw    $ivt_fault, 0
        movw    $0, 2
        xor     %ebx, %ebx
        xor     %cx, %cx
        div     %cx
        mov     %ebx, %eax
        CHECK(0xde)
        movw    $ivt_fault, 6 * 4
        movw    $0, 6 * 4 + 2
        xor     %ebx, %ebx
        ud2
        mov     %ebx, %eax
        CHECK(0xde)
        movw    $ivt_limit, 13 * 4      /* a word at ffff: #GP through the IVT, without an error code */
        movw    $0, 13 * 4 + 2
        xor     %ebx, %ebx
        mov     $0xffff, %di
        mov     %sp, %bp
        movw    (%di), %ax
after_limit:
        mov     %ebx, %eax
        CHECK(6)
        lcallw  $0x0800, $far16 - 0x8000
        CHECK(0xfa16)
        xor     %ebx, %ebx
        mov     $0x12345678, %esp       /* the upper half of ESP is free in real mode */
        mov     $0x7000, %sp
        push    %ax
        pop     %ax
        mov     %esp, %eax
        CHECK(0x12347000)
        mov     $0x7000, %esp
        smsw    %ax
        and     $1, %eax
        CHECK(0)

        /* 16-bit protected mode and back: "unreal" limits stay */
        lgdtl   gdtr
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        mov     $SEL_DATA, %bx
        mov     %bx, %fs
        and     $0xfe, %al
        mov     %eax, %cr0
        jmp     1f
1:      xor     %bx, %bx
        mov     %bx, %fs
        mov     $0x234000, %ebx
        movl    $0xbeef, %fs:(%ebx)
        movl    %fs:(%ebx), %eax
        CHECK(0xbeef)
        mov     $0x1000, %bx            /* a new base keeps the limit */
        mov     %bx, %fs
        mov     $0x224000, %ebx
        movl    %fs:(%ebx), %eax
        CHECK(0xbeef)

        /* protected, 16-bit code segment */
        mov     %cr0, %eax
        or      $1, %al
        mov     %eax, %cr0
        ljmpl   $SEL_CODE16, $prot16
prot16: mov     $SEL_DATA, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %ss
        mov     $0x7000, %esp
        smsw    %ax
        and     $1, %eax
        CHECK(1)
        mov     $0x234000, %ebx
        movl    (%ebx), %eax
        CHECK(0xbeef)
        ljmpl   $SEL_CODE32, $prot32

        .code32
prot32: mov     $0x80000, %esp
        push    $0x55
        pop     %eax
        CHECK(0x55)

        KVM_GAP_BEGIN                   /* PAE paging outside long mode */
        /* PAE paging with 2 MiB pages: the PDPTEs are loaded with CR3 */
        mov     $L4, %edi
        xor     %eax, %eax
        mov     $0x4000 / 4, %ecx
        rep stosl
        movl    $L3 + 3, L4
        movl    $L2 + 1, L3             /* as PAE's PDPTE: P alone */
        mov     $L2, %edi
        mov     $0x83, %eax
2:      mov     %eax, (%edi)
        add     $8, %edi
        add     $0x200000, %eax
        cmp     $L2 + 64, %edi
        jne     2b
        movl    $0x200083, L2 + 72      /* 1200000 -> 200000 */
        mov     %cr4, %eax
        or      $0x20, %eax
        mov     %eax, %cr4
        mov     $L3, %eax
        mov     %eax, %cr3
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        jmp     3f
3:      mov     0x1234000, %eax
        CHECK(0xbeef)
        mov     L2 + 72, %eax
        CHECK(0x2000a3)
        /* a change of the PDPTE in memory is not seen until CR3 is written */
        movl    $0, L3
        mov     0x1234000, %eax
        invlpg  0x1234000
        mov     0x1234000, %eax
        CHECK(0xbeef)
        movl    $L2 + 1, L3

        /* PAE off again, LME on, and into long mode */
        mov     %cr0, %eax
        and     $0x7fffffff, %eax
        mov     %eax, %cr0
        movl    $L2 + 3, L3
        mov     $L4, %eax
        mov     %eax, %cr3
        mov     $EFER, %ecx
        rdmsr
        or      $0x100, %eax
        wrmsr
        rdmsr
        and     $0x500, %eax
        CHECK(0x100)                    /* LME, LMA not yet */
        mov     %cr0, %eax
        or      $0x80000000, %eax
        mov     %eax, %cr0
        mov     $EFER, %ecx
        rdmsr
        and     $0x500, %eax
        CHECK(0x500)
        mov     $-1, %eax               /* still 32-bit code: compatibility mode */
        inc     %eax
        CHECK(0)
        ljmp    $SEL_CODE64, $long64

        .code64
long64: mov     $0x1122334455667788, %rax
        mov     %rax, %rbx
        shr     $32, %rax
        CHECK(0x11223344)
        mov     0x1234000, %eax
        CHECK(0xbeef)
        mov     $-1, %eax               /* writes of 32 bits clear the upper half */
        mov     %rax, %rcx
        shr     $32, %rcx
        mov     %ecx, %eax
        CHECK(0)
        lea     here(%rip), %rax
here:   sub     $here, %rax
        CHECK(0)
        xor     %r15, %r15
        mov     $0x7700, %r15w
        mov     %r15d, %eax
        CHECK(0x7700)

        /* compatibility mode and back, twice: 32 and 16 bits */
        lcall   *to32
        CHECK(0x3232)
        lcall   *to16
        CHECK(0x1616)

        /* out of long mode: to 32-bit code first, then PG off clears LMA */
        ljmp    *leave
        .code32
leave32:
        mov     %cr0, %eax
        and     $0x7fffffff, %eax
        mov     %eax, %cr0
        mov     $EFER, %ecx
        rdmsr
        and     $0x500, %eax
        CHECK(0x100)
        rdmsr
        and     $~0x100, %eax
        wrmsr
        xor     %eax, %eax
        mov     %eax, %cr4
        CHECK_AT(0x234000, 0xbeef)

        /* back to real mode, by way of 16-bit segments */
        ljmp    $SEL_CODE16, $leave16
        .code16
leave16:
        mov     $SEL_DATA16, %ax
        mov     %ax, %ds
        mov     %ax, %es
        mov     %ax, %fs
        mov     %ax, %ss
        mov     %cr0, %eax
        and     $0xfe, %al
        mov     %eax, %cr0
        ljmpw   $0, $real
real:   xor     %ax, %ax
        mov     %ax, %ds
        mov     %ax, %ss
        mov     $0x7000, %sp
        xor     %ebx, %ebx
        int     $0x21
        mov     %ebx, %eax
        CHECK(0x21)
        movw    $ivt_limit, 13 * 4
        xor     %ebx, %ebx
        mov     %sp, %bp
        mov     $0xffff, %di
        movw    %fs:(%di), %ax          /* limits are 64 KiB again */
        mov     %ebx, %eax
        CHECK(6)
        DONE

ivt_handler:
        mov     $0x21, %ebx
        pushf
        pop     %dx
        and     $0x200, %edx
        iret
ivt_fault:                              /* skips the two bytes of DIV or UD2 */
        push    %bp
        mov     %sp, %bp
        addw    $2, 2(%bp)
        pop     %bp
        mov     $0xde, %ebx
        iret
ivt_limit:                              /* counts what the CPU has pushed, and skips the MOV */
        mov     %bp, %bx
        sub     %sp, %bx
        movzwl  %bx, %ebx
        push    %bp
        mov     %sp, %bp
        push    %di
        push    %si
        mov     2(%bp), %si
        addw    $2, 2(%bp)
        cmpb    $0x64, (%si)            /* FS: makes it three bytes */
        jne     4f
        incw    2(%bp)
4:      pop     %si
        pop     %di
        pop     %bp
        iret
far16:  mov     $0xfa16, %eax
        lretw

        .code32
compat32:
        mov     $SEL_DATA, %eax
        mov     $0x3231, %eax
        inc     %eax
        lret
        .code16
compat16:
        movl    $0x1615, %eax
        inc     %eax
        lretl

        .balign 8
to32:   .long   compat32
        .word   SEL_CODE32
to16:   .long   compat16
        .word   SEL_CODE16
leave:  .long   leave32
        .word   SEL_CODE32
