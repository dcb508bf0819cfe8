/* SPDX-License-Identifier: GPL-2.0-or-later */
/* 32-bit protected mode without paging: segment limits and types, far transfers, call gates with parameters, rings, LAR and its kin, flags. */
#define GUEST_MODE 32
#include "env.h"

#define SEL_SMALL  (SEL_FREE + 0x00)    /* data, limit ff */
#define SEL_DOWN   (SEL_FREE + 0x08)    /* data, expands down, limit ff */
#define SEL_RO     (SEL_FREE + 0x10)    /* data, read only */
#define SEL_XO     (SEL_FREE + 0x18)    /* code, execute only */
#define SEL_CONF   (SEL_FREE + 0x20)    /* code, conforming, DPL 0 */
#define SEL_GATE0  (SEL_FREE + 0x28)    /* call gate to ring 0, DPL 3, two parameters */
#define SEL_GATE16 (SEL_FREE + 0x30)    /* 16-bit call gate to the same ring */
#define SEL_LDT    (SEL_FREE + 0x38)
#define SEL_ABSENT (SEL_FREE + 0x40)    /* data, not present */
#define SEL_CODE1  (SEL_FREE + 0x48)    /* code, DPL 1 */
#define SEL_FRESH  (SEL_FREE + 0x50)    /* data, accessed bit clear */
#define SEL_TINY   (SEL_FREE + 0x58)    /* code, base of `tiny`, limit f */

main:
        DESC    SEL_SMALL, 0x000000ff, 0x00409300
        DESC    SEL_DOWN, 0x000000ff, 0x00409700
        DESC    SEL_RO, 0x0000ffff, 0x00cf9100
        DESC    SEL_XO, 0x0000ffff, 0x00cf9900
        DESC    SEL_CONF, 0x0000ffff, 0x00cf9f00
        DESC    SEL_ABSENT, 0x0000ffff, 0x00cf1300
        DESC    SEL_CODE1, 0x0000ffff, 0x00cfbb00
        DESC    SEL_FRESH, 0x0000ffff, 0x00cf9200

        /* limits: the last byte is in, the next is out; #GP for data, #SS for the stack */
        mov     $SEL_SMALL, %eax
        mov     %eax, %fs
        TRY
        mov     %fs:0xfc, %eax
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        mov     %fs:0xfd, %eax
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        movb    %fs:0x100, %al
        END_TRY
        CHECK_EXC(13, 0)
        mov     $SEL_DOWN, %eax
        mov     %eax, %fs
        TRY
        mov     %fs:0xff, %al
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %fs:0x100, %al
        END_TRY
        CHECK_EXC(NONE, 0)

        /* types */
        mov     $SEL_RO, %eax
        mov     %eax, %fs
        TRY
        mov     %fs:0x8000, %eax
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        mov     %eax, %fs:0x80000
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     %eax, %cs:0x80000
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     $SEL_XO, %eax
        mov     %eax, %fs
        END_TRY
        CHECK_EXC(13, SEL_XO)
        TRY
        mov     $SEL_RO, %eax
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(13, SEL_RO)
        TRY
        mov     $SEL_ABSENT, %eax
        mov     %eax, %fs
        END_TRY
        CHECK_EXC(11, SEL_ABSENT)
        mov     %fs, %eax
        CHECK(SEL_RO)                   /* a failed load leaves the register */
        TRY
        mov     $SEL_ABSENT, %eax
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(12, SEL_ABSENT)
        TRY
        xor     %eax, %eax
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(13, 0)

        /* null selectors load, and fault when used */
        mov     $3, %eax
        mov     %eax, %fs
        mov     %fs, %eax
        CHECK(3)
        TRY
        mov     %fs:0, %eax
        END_TRY
        CHECK_EXC(13, 0)

        /* loading sets the accessed bit */
        mov     $SEL_FRESH, %eax
        mov     %eax, %gs
        mov     gdt + SEL_FRESH + 4, %eax
        CHECK(0x00cf9300)

        /* POP and LFS */
        pushl   $SEL_SMALL
        pop     %fs
        mov     %fs, %eax
        CHECK(SEL_SMALL)
        lfs     farptr, %ecx
        mov     %ecx, %eax
        CHECK(0x12345678)
        mov     %fs, %eax
        CHECK(SEL_RO)
        mov     %fs, %edx
        movl    $-1, scratch
        mov     %fs, scratch            /* memory form stores two bytes */
        CHECK_AT(scratch, 0xffff0000 + SEL_RO)

        KVM_GAP_BEGIN                   /* LAR, VERW */
        /* LAR LSL VERR VERW ARPL */
        mov     $SEL_SMALL, %ecx
        lar     %ecx, %eax
        CHECK(0x409300)
        lsl     %ecx, %eax
        CHECK(0xff)
        mov     $SEL_RO, %ecx
        lsl     %ecx, %eax
        CHECK(0xffffffff)
        verw    %cx
        setz    %al
        verr    %cx
        setz    %ah
        movzwl  %ax, %eax
        CHECK(0x100)
        mov     $SEL_XO, %ecx
        verr    %cx
        setz    %al
        movzbl  %al, %eax
        CHECK(0)
        mov     $0x1000, %ecx
        lar     %ecx, %eax
        setz    %al
        movzbl  %al, %eax
        CHECK(0)
        mov     $0x10, %eax
        mov     $0x2b, %ecx
        arpl    %cx, %ax
        setz    %cl
        CHECK(0x13)
        movzbl  %cl, %eax
        CHECK(1)

        /* far calls and returns within the ring; conforming code keeps the CPL */
        lcall   $SEL_CODE32, $far_same
        CHECK(0xfa5)
        lcall   $SEL_CONF, $far_same
        CHECK(0xfa5)
        lcall   *farcall
        CHECK(0xfa5)
        TRY
        lcall   $SEL_CODE1, $far_same
        END_TRY
        CHECK_EXC(13, SEL_CODE1)
        TRY
        ljmp    $SEL_DATA, $far_same
        END_TRY
        CHECK_EXC(13, SEL_DATA)
        TRY
        ljmp    $0, $far_same
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        ljmp    $SEL_UCODE32, $far_same
        END_TRY
        CHECK_EXC(13, SEL_UCODE32 & ~3)

        /* a code segment with a small limit: jumping out of it faults */
        mov     $tiny, %eax
        DESC    SEL_TINY, 0x0000000f, 0x00409b00
        mov     %ax, gdt + SEL_TINY + 2
        TRY
        ljmp    $SEL_TINY, $0x10
        END_TRY
        CHECK_EXC(13, 0)
        lcall   $SEL_TINY, $0
        CHECK(0x717)

        /* call gate, same ring, 16 bits */
        mov     $gate16, %eax
        mov     %ax, gdt + SEL_GATE16
        movw    $SEL_CODE32, gdt + SEL_GATE16 + 2
        movl    $0x8400, gdt + SEL_GATE16 + 4
        mov     %esp, %ebx
        lcall   $SEL_GATE16, $0xdeadbeef
        CHECK(4)

        /* call gate from ring 3 to ring 0 with two parameters, and back by RET 8 */
        mov     $gate0, %eax
        mov     %ax, gdt + SEL_GATE0
        movw    $SEL_CODE32, gdt + SEL_GATE0 + 2
        movl    $0xec02, gdt + SEL_GATE0 + 4
        TRY
        RING3_WITH_DATA
        pushl   $0x1111
        pushl   $0x2222
        lcall   $SEL_GATE0 + 3, $0
after_gate:
        mov     %esp, %ebx
        mov     %ds, %ecx
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        CHECK_AT(gate_saw, 0x2222)
        CHECK_AT(gate_saw + 4, 0x1111)
        CHECK_AT(gate_saw + 8, STACK3 - 8)
        CHECK_AT(gate_saw + 12, SEL_UDATA)
        CHECK_AT(gate_saw + 16, SEL_UCODE32)
        CHECK_AT(gate_saw + 20, STACK30 - 24)
        mov     %ebx, %eax
        CHECK(STACK3)                   /* RET 8 has released the parameters on both stacks */
        mov     %ecx, %eax
        CHECK(SEL_UDATA)                /* data segments of the outer ring survive */
        /* ring 0's data segments do not */
        TRY
        RING3_WITH_DATA
        mov     $7, %eax
        pushl   $0
        pushl   $0
        movl    $1, gate_mode
        lcall   $SEL_GATE0 + 3, $0
        mov     %ds, %ecx
        mov     %fs, %edx
        mov     $SEL_UDATA, %eax
        mov     %eax, %ds
        int     $0x30
        END_TRY
        mov     %ecx, %eax
        CHECK(0)
        mov     %edx, %eax
        CHECK(0)
        movl    $0, gate_mode

        /* gates that refuse */
        andb    $0x7f, gdt + SEL_GATE0 + 5
        TRY
        RING3_WITH_DATA
        lcall   $SEL_GATE0 + 3, $0
        END_TRY
        CHECK_EXC(11, SEL_GATE0)
        movb    $0x8c, gdt + SEL_GATE0 + 5
        TRY
        RING3_WITH_DATA
        lcall   $SEL_GATE0 + 3, $0
        END_TRY
        CHECK_EXC(13, SEL_GATE0)
        movb    $0xec, gdt + SEL_GATE0 + 5

        /* returns that are refused leave everything as it was */
        TRY
        pushl   $SEL_CODE1
        pushl   $main
        lret                            /* RPL 0 with DPL 1 */
        END_TRY
        CHECK_EXC(13, SEL_CODE1)
        TRY
        RING3_WITH_DATA
        pushl   $SEL_CODE32
        pushl   $main
        lret                            /* inwards */
        END_TRY
        CHECK_EXC(13, SEL_CODE32)
        TRY
        pushl   $SEL_DATA
        pushl   $STACK3
        pushl   $SEL_UCODE32
        pushl   $main
        lret                            /* ring 3 with a stack of ring 0 */
        END_TRY
        CHECK_EXC(13, SEL_DATA)

        /* IOPL and IF in ring 3 */
        TRY
        RING3_WITH_DATA
        pushl   $0x3202
        popfl                           /* neither IOPL nor IF can be set from ring 3 with IOPL 0 */
        pushfl
        pop     %ebx
        int     $0x30
        END_TRY
        mov     %ebx, %eax
        and     $0x3200, %eax
        CHECK(0)
        TRY
        RING3_WITH_DATA
        cli
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3_WITH_DATA
        in      $0x80, %al
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3_WITH_DATA
        clts
        END_TRY
        CHECK_EXC(13, 0)

        /* #BR, #OF; BOUND and INTO exist here */
        TRY
        mov     $5, %ecx
        bound   %ecx, bounds
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        mov     $11, %ecx
        bound   %ecx, bounds
        END_TRY
        CHECK_EXC(5, 0)
        TRY
        mov     $0x7fffffff, %ecx
        inc     %ecx
        into
into_ip:
        END_TRY
        CHECK_EXC(4, 0)
        CHECK_IP(into_ip)

        /* an LDT */
        mov     $ldt, %eax
        DESC    SEL_LDT, 0x0000000f, 0x00008200
        mov     %ax, gdt + SEL_LDT + 2
        mov     $ldt_value, %eax
        mov     %ax, ldt + 8 + 2
        mov     $SEL_LDT, %eax
        lldt    %ax
        sldt    %eax
        CHECK(SEL_LDT)
        mov     $0x0c, %eax
        mov     %eax, %fs
        mov     %fs:0, %eax
        CHECK(0xcafe)
        TRY
        mov     $0x14, %eax
        mov     %eax, %fs
        END_TRY
        CHECK_EXC(13, 0x14)
        TRY
        mov     $SEL_DATA, %eax
        lldt    %ax
        END_TRY
        CHECK_EXC(13, SEL_DATA)
        TRY
        mov     $SEL_TSS, %eax
        ltr     %ax                     /* busy */
        END_TRY
        CHECK_EXC(13, SEL_TSS)
        xor     %eax, %eax
        lldt    %ax
        TRY
        mov     $0x0c, %eax
        mov     %eax, %fs
        END_TRY
        CHECK_EXC(13, 0x0c)

        /* SGDT, SMSW */
        sgdt    scratch
        movzwl  scratch, %eax
        CHECK(gdt_end - gdt - 1)
        CHECK_AT(scratch + 2, gdt)
        smsw    %ecx
        mov     %cr0, %eax
        sub     %ecx, %eax
        CHECK(0)

        /* a 16-bit stack segment: only SP counts */
        mov     %esp, %ebp
        mov     $SEL_DATA16, %eax
        mov     %eax, %ss
        mov     $0x12347000, %esp
        push    %eax
        mov     %esp, %ebx
        mov     $SEL_DATA, %eax
        mov     %eax, %ss
        mov     %ebp, %esp
        mov     %ebx, %eax
        CHECK(0x12346ffc)
        CHECK_AT(0x6ffc, SEL_DATA16)

        DONE

        .balign 8
bounds: .long   3, 10
ldt:    .quad   0
        .long   0x0000ffff, 0x00409300
ldt_value: .long 0xcafe

far_same:
        mov     $0xfa5, %eax
        lret

gate16: movzwl  (%esp), %eax            /* a 16-bit gate pushes words */
        mov     %ebx, %eax
        sub     %esp, %eax
        .byte   0x66
        lret

        .balign 16
gate0:
        mov     $SEL_DATA, %eax
        mov     %eax, %ds
        mov     %eax, %fs
        mov     8(%esp), %eax
        mov     %eax, gate_saw
        mov     12(%esp), %eax
        mov     %eax, gate_saw + 4
        mov     16(%esp), %eax
        mov     %eax, gate_saw + 8
        mov     20(%esp), %eax
        mov     %eax, gate_saw + 12
        mov     4(%esp), %eax
        mov     %eax, gate_saw + 16
        mov     %esp, gate_saw + 20
        cmpl    $0, gate_mode
        jne     1f
        mov     $SEL_UDATA, %eax
        mov     %eax, %ds
1:      lret    $8

tiny:   mov     $0x717, %eax
        lret

        .balign 8
gate_saw: .long 0, 0, 0, 0, 0, 0
gate_mode: .long 0
farptr: .long   0x12345678
        .word   SEL_RO
farcall: .long  far_same
        .word   SEL_CODE32
        .balign 8
scratch: .quad  0
