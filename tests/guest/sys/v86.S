/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Virtual-8086 mode: entry by IRET, exits by interrupts and faults, IOPL-sensitive instructions, the I/O bitmap, VME's redirection, VIF and VIP. */
#define GUEST_MODE 32
#include "env.h"

#define VM   0x20000
#define VIF  0x80000
#define VIP  0x100000

/* To virtual-8086 mode at the next instruction, with more flags. */
.macro V86 flags
        pushl   $0x44                   /* gs fs ds es */
        pushl   $0x33
        pushl   $0x22
        pushl   $0x11
        pushl   $0x0                    /* ss */
        pushl   $0x6f00
        pushl   $VM | 2 | \flags
        pushl   $0x0                    /* cs */
        pushl   $98f
        iretl
        .code16
98:
.endm
.macro END_V86
        .code32
        END_TRY
.endm

main:
        KVM_GAP_BEGIN                   /* virtual-8086 mode */
        /* what v86 code sees, and what an interrupt saves */
        TRY
        V86     0
        mov     %ds, %bx
        mov     %cs, %cx
        lea     0x10(%bx), %edx
        mov     $0x0, %si
        mov     %si, %ds
        movl    v86_word, %edi
        int3
int3_ip:
        END_V86
        CHECK_EXC(3, 0)
        CHECK_IP(int3_ip)
        movzwl  %bx, %eax
        CHECK(0x22)
        mov     %edi, %eax
        CHECK(0x86868686)
        mov     exc_flags, %eax
        and     $VM, %eax
        CHECK(VM)
        CHECK_AT(exc_sp, 0x6f00)
        CHECK_AT(exc_ds, 0)             /* ring 0 gets null data segments */
        CHECK_AT(exc_frame, STACK30 - 36)
        mov     exc_frame, %ebx
        mov     20(%ebx), %eax
        CHECK(0x11)                     /* es ds fs gs stand above SS:ESP */
        mov     24(%ebx), %eax
        CHECK(0)
        mov     28(%ebx), %eax
        CHECK(0x33)
        mov     32(%ebx), %eax
        CHECK(0x44)

        /* IOPL 0: CLI STI PUSHF POPF INT IRET fault, INT3 and INTO do not */
        TRY
        V86     0
        cli
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        pushf
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        popf
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        int     $0x21
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        iret
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        hlt
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        sldt    %ax
        END_V86
        CHECK_EXC(6, 0)
        TRY
        V86     0
        mov     %cr0, %eax
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        mov     $0xffff, %bx
        mov     (%bx), %ax              /* a word at the limit */
        END_V86
        CHECK_EXC(13, 0)

        /* IOPL 3: they work, INT goes through the IDT */
        TRY
        V86     0x3000
        cli
        pushf
        pop     %bx
        int     $0x21
        END_V86
        CHECK_EXC(0x21, 0)
        movzwl  %bx, %eax
        and     $0x3200, %eax
        CHECK(0x3000)

        /* a handler that is not in ring 0 */
        movw    $SEL_UCODE32, idt + 0x22 * 8 + 2
        TRY
        V86     0x3000
        int     $0x22
        END_V86
        CHECK_EXC(13, SEL_UCODE32 & ~3)

        /* ports go by the bitmap, whatever IOPL */
        TRY
        V86     0x3000
        in      $0x80, %al
        END_V86
        CHECK_EXC(13, 0)
        movw    $SEL_TSS_LIMIT, gdt + SEL_TSS
        andb    $~2, gdt + SEL_TSS + 5
        mov     $SEL_TSS, %eax
        mov     $big_tss, %ecx
        mov     %cx, gdt + SEL_TSS + 2
        ltr     %ax
        TRY
        V86     0
        mov     $0x80, %al
        out     %al, $0x80
        int3
        END_V86
        CHECK_EXC(3, 0)
        TRY
        V86     0
        in      $0x81, %al
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     0
        in      $0x80, %ax              /* a word needs both bits */
        END_V86
        CHECK_EXC(13, 0)

        /* VME: CLI and STI work on VIF, INT 40 goes to the program's own handler, INT 41 does not */
        mov     $1, %eax
        cpuid
        test    $2, %edx
        jz      no_vme
        mov     %cr4, %eax
        or      $1, %eax
        mov     %eax, %cr4
        movw    $v86_handler, 0x40 * 4
        movw    $0, 0x40 * 4 + 2
        TRY
        V86     0
        sti
        pushf
        pop     %bx
        int     $0x40
after_int:
        pushf
        pop     %cx
        int3
        END_V86
        CHECK_EXC(3, 0)
        movzwl  %bx, %eax
        and     $0x3200, %eax
        CHECK(0x3200)                   /* PUSHF shows VIF as IF, and IOPL 3 */
        mov     exc_flags, %eax
        and     $VIF | 0x3200, %eax
        CHECK(VIF)
        CHECK_AT(handler_ip, after_int)
        mov     handler_flags, %eax
        and     $0x3200, %eax
        CHECK(0x3200)
        mov     handler_now, %eax
        and     $0x3200, %eax
        CHECK(0x3000)                   /* the redirected INT clears VIF */
        movzwl  %cx, %eax
        and     $0x200, %eax
        CHECK(0x200)                    /* and IRET brings it back */
        TRY
        V86     0
        int     $0x41
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     VIP
        sti
        END_V86
        CHECK_EXC(13, 0)
        TRY
        V86     VIF
        cli
        int3
        END_V86
        mov     exc_flags, %eax
        and     $VIF, %eax
        CHECK(0)

        /* PVI: the same for ring 3 of protected mode */
        mov     %cr4, %eax
        and     $~1, %eax
        or      $2, %eax
        mov     %eax, %cr4
        TRY
        pushl   $SEL_UDATA
        pushl   $STACK3
        pushl   $2
        pushl   $SEL_UCODE32
        pushl   $97f
        iretl
97:     sti
        int3
        END_TRY
        CHECK_EXC(3, 0)
        mov     exc_flags, %eax
        and     $VIF | 0x200, %eax
        CHECK(VIF)
no_vme:
        DONE

        .code16
v86_handler:
        push    %bp
        mov     %sp, %bp
        push    %eax
        movzwl  2(%bp), %eax
        movl    %eax, %cs:handler_ip
        movzwl  6(%bp), %eax
        movl    %eax, %cs:handler_flags
        pushf
        pop     %ax
        movzwl  %ax, %eax
        movl    %eax, %cs:handler_now
        pop     %eax
        pop     %bp
        iret
        .code32

        .balign 4
v86_word: .long 0x86868686
handler_ip: .long 0
handler_flags: .long 0
handler_now: .long 0
        .balign 16
big_tss:
        .long   0, STACK30, SEL_DATA
        .fill   22, 4, 0
        .word   0, io_map - big_tss
        .fill   8, 1, 0                 /* redirection: vectors 0..3f to the program */
        .byte   2                       /* 40 too, 41 not */
        .fill   23, 1, 0xff
io_map: .fill   16, 1, 0xff
        .byte   0xfe                    /* port 80 */
        .fill   15, 1, 0xff
        .byte   0xff
big_tss_end:
        .set    SEL_TSS_LIMIT, big_tss_end - big_tss - 1
