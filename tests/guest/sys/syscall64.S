/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, FS/GS bases, UMIP, TSD, compatibility mode, far transfers and call gates in long mode. */
#define GUEST_MODE 64
#include "env.h"

#define MSR(n) mov $(n), %ecx
#define STAR   0xc0000081
#define LSTAR  0xc0000082
#define SFMASK 0xc0000084
#define FSBASE 0xc0000100
#define GSBASE 0xc0000101
#define KGSBASE 0xc0000102
#define SEL_GATE (SEL_FREE)             /* 16 bytes */

.macro WRMSR64 index, high, low
        mov     $\index, %ecx
        mov     $\low, %eax
        mov     $\high, %edx
        wrmsr
.endm

.macro COMPAT3
        RING3   code=SEL_UCODE32
        .code32
.endm

main:
        KVM_GAP_BEGIN                   /* SYSCALL and SYSENTER show the host's segments and flags */
        WRMSR64 STAR, (SEL_UCODE32 << 16) + SEL_CODE64, 0
        WRMSR64 LSTAR, 0, syscall_entry
        WRMSR64 SFMASK, 0, 0x40d5

        /* SYSCALL from ring 3: RCX, R11, flags masked, selectors, RSP untouched */
        TRY
        RING3   0xcd7
        syscall
sc_ret: nop
        END_TRY
        mov     %rcx, %rax
        sub     $sc_ret, %rax
        CHECK(0)
        mov     %r11d, %eax
        CHECK(0xcd7)
        mov     %r12d, %eax
        and     $0xfd7, %eax
        CHECK(0xc02)
        mov     %r13d, %eax
        CHECK(SEL_CODE64)
        mov     %r14d, %eax
        CHECK(SEL_DATA_B)
        mov     %r15d, %eax
        CHECK(STACK3)

        /* SYSRET to 64-bit code: CS, SS, flags without RF and VM */
        TRY
        mov     $sr_64, %ecx
        mov     $0x30cd7, %r11d
        mov     $STACK3, %esp
        sysretq
sr_64:  mov     %ss, %ebx
        pushfq
        pop     %rbp
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        CHECK_AT(exc_cs, SEL_UCODE64)
        mov     %ebx, %eax
        CHECK(SEL_UDATA)
        mov     %ebp, %eax
        CHECK(0xcd7)
        /* to compatibility mode */
        TRY
        mov     $sr_32, %ecx
        mov     $2, %r11d
        mov     $STACK3, %esp
        sysretl
        .code32
sr_32:  mov     $-1, %eax
        inc     %eax                    /* one byte in 32-bit code, a REX prefix in 64-bit code */
        int     $0x30
        .code64
        END_TRY
        CHECK_EXC(0x30, 0)
        CHECK_AT(exc_cs, SEL_UCODE32)
        CHECK_AT(saved_a, 0)
        /* refusals */
        TRY
        mov     $0x8000000000000000, %rcx
        mov     $2, %r11d
        sysretq
        END_TRY
        CHECK_EXC(13, 0)
        CHECK_AT(exc_cs, SEL_CODE64)
        TRY
        RING3
        sysretq
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        COMPAT3
        syscall                         /* on Intel 64-bit code alone has it */
        .code64
        END_TRY
        NOTE
        mov     $0xc0000080, %ecx
        rdmsr
        and     $~1, %eax
        wrmsr
        TRY
        syscall
        END_TRY
        CHECK_EXC(6, 0)
        mov     $0xc0000080, %ecx
        rdmsr
        or      $1, %eax
        wrmsr
        TRY
        WRMSR64 LSTAR, 0x80000000, 0    /* not canonical */
        END_TRY
        CHECK_EXC(13, 0)

        /* SYSENTER and SYSEXIT */
        TRY
        RING3
        sysenter                        /* IA32_SYSENTER_CS is 0 */
        END_TRY
        CHECK_EXC(13, 0)
        WRMSR64 0x174, 0, SEL_CODE64
        WRMSR64 0x175, 0, STACK30
        WRMSR64 0x176, 0, sysenter_entry
        TRY
        RING3   0x3202
        sysenter
        END_TRY
        mov     %r12d, %eax
        and     $0x3200, %eax
        CHECK(0x3000)                   /* IF cleared */
        mov     %r13d, %eax
        CHECK(SEL_CODE64)
        mov     %r14d, %eax
        CHECK(SEL_DATA_B)
        mov     %r15d, %eax
        CHECK(STACK30)
        TRY
        COMPAT3
        sysenter                        /* works from compatibility mode as well */
        .code64
        END_TRY
        mov     %r13d, %eax
        CHECK(SEL_CODE64)
        TRY
        mov     $sx_64, %edx
        mov     $STACK3, %ecx
        sysexitq
sx_64:  mov     %cs, %ebx
        mov     %ss, %ebp
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        mov     %ebx, %eax
        CHECK(SEL_CODE64 + 35)
        mov     %ebp, %eax
        CHECK(SEL_CODE64 + 43)
        TRY
        mov     $sx_32, %edx
        mov     $STACK3, %ecx
        sysexitl
        .code32
sx_32:  mov     %cs, %ebx
        mov     %ss, %ebp
        int     $0x30
        .code64
        END_TRY
        CHECK_EXC(0x30, 0)
        mov     %ebx, %eax
        CHECK(SEL_CODE64 + 19)
        mov     %ebp, %eax
        CHECK(SEL_CODE64 + 27)
        TRY
        RING3
        sysexitl
        END_TRY
        CHECK_EXC(13, 0)

        /* bases: MSRs, SWAPGS, instructions, and what a selector load leaves */
        WRMSR64 GSBASE, 0, gs_data
        WRMSR64 KGSBASE, 0, gs_data + 8
        mov     %gs:0, %eax
        CHECK(0x111)
        swapgs
        mov     %gs:0, %eax
        CHECK(0x222)
        mov     $KGSBASE, %ecx
        rdmsr
        sub     $gs_data, %eax
        CHECK(0)
        TRY
        RING3
        swapgs
        END_TRY
        CHECK_EXC(13, 0)
        WRMSR64 FSBASE, 0x7fff, 0xfffff000
        mov     $SEL_DATA, %eax
        mov     %eax, %fs
        mov     $FSBASE, %ecx
        rdmsr
        CHECK(0)
        TRY
        rdfsbase %rax
        END_TRY
        CHECK_EXC(6, 0)
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        test    $1, %ebx
        jz      1f
        mov     %cr4, %rax
        or      $0x10000, %eax
        mov     %rax, %cr4
        mov     $gs_data, %eax
        wrfsbase %rax
        mov     %fs:8, %eax
        CHECK(0x222)
        rdgsbase %rax
        sub     $gs_data + 8, %rax
        CHECK(0)
        TRY
        mov     $0x8000000000000000, %rax
        wrgsbase %rax
        END_TRY
        CHECK_EXC(13, 0)
1:
        /* UMIP */
        mov     $7, %eax
        xor     %ecx, %ecx
        cpuid
        test    $4, %ecx
        jz      2f
        mov     %cr4, %rax
        or      $0x800, %eax
        mov     %rax, %cr4
        TRY
        sgdt    scratch
        smsw    %eax
        str     %eax
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        RING3
        sgdt    scratch
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3
        sidt    scratch
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3
        sldt    %eax
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3
        str     %eax
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        RING3
        smsw    %eax
        END_TRY
        CHECK_EXC(13, 0)
        mov     %cr4, %rax
        and     $~0x800, %rax
        mov     %rax, %cr4
2:
        TRY
        RING3
        smsw    %eax
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)

        /* TSD */
        TRY
        RING3
        rdtsc
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        mov     %cr4, %rax
        or      $4, %eax
        mov     %rax, %cr4
        TRY
        RING3
        rdtsc
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        rdtsc
        END_TRY
        CHECK_EXC(NONE, 0)
        TRY
        RING3
        mov     $0, %ecx
        rdpmc
        END_TRY
        CHECK_EXC(13, 0)

        /* compatibility mode: 32-bit addresses and instructions, faults come back to 64-bit code */
        TRY
        COMPAT3
        mov     $SEL_UDATA, %eax        /* 64-bit code does not mind what IRET left in DS, this does */
        mov     %eax, %ds
        mov     $-1, %eax
        inc     %eax
        mov     $0xfffffffc, %ebx
        mov     0x401000(%ebx,%eax), %ecx /* wraps at 4 GiB */
        ud2
        .code64
        END_TRY
        CHECK_EXC(6, 0)
        CHECK_AT(exc_cs, SEL_UCODE32)
        CHECK_AT(exc_sp, STACK3)
        /* ring 0, both ways by far jumps and calls */
        mov     $SEL_DATA, %eax
        mov     %eax, %ss
        lcall   *to_compat
        CHECK(0xc0de)
        movl    $0x0000ffff, gdt + SEL_FREE + 16
        movl    $0x00ef9b00, gdt + SEL_FREE + 20
        TRY
        ljmp    *bad_cs                 /* L and D both set */
        END_TRY
        CHECK_EXC(13, SEL_FREE + 16)

        /* a 64-bit call gate from ring 3 and back */
        mov     $gate64, %eax
        mov     %ax, gdt + SEL_GATE
        movw    $SEL_CODE64, gdt + SEL_GATE + 2
        movl    $0xec00, gdt + SEL_GATE + 4
        movq    $0, gdt + SEL_GATE + 8
        TRY
        RING3
        mov     %rsp, %rbp
        lcall   *gate_ptr
        mov     %ss, %ebx
        int     $0x30
        END_TRY
        CHECK_EXC(0x30, 0)
        mov     %r12d, %eax
        CHECK(STACK30 - 32)
        mov     %r13d, %eax
        CHECK(0)                        /* SS is null in the gate */
        mov     %r14d, %eax
        CHECK(SEL_UCODE64)
        mov     %ebx, %eax
        CHECK(SEL_UDATA)
        CHECK_AT(exc_sp, STACK3)
        movb    $0xe4, gdt + SEL_GATE + 5 /* 16-bit gates are gone */
        TRY
        lcall   *gate_ptr
        END_TRY
        CHECK_EXC(13, SEL_GATE)
        /* task switches too */
        TRY
        ljmp    *tss_ptr
        END_TRY
        CHECK_EXC(13, SEL_TSS)

        /* 64-bit system descriptors need their second half */
        TRY
        mov     $gdt_end - gdt - 8, %eax
        movl    $0x67, gdt_end - 8
        movl    $0x8900, gdt_end - 4
        ltr     %ax
        END_TRY
        CHECK_EXC(13, gdt_end - gdt - 8)

        /* LAR and LSL know fewer types */
        mov     $SEL_TSS, %ecx
        lsl     %ecx, %eax
        CHECK(0x67)
        movl    $0x8500, gdt + SEL_FREE + 4 /* task gate */
        mov     $SEL_FREE, %ecx
        lar     %ecx, %eax
        setz    %al
        movzbl  %al, %eax
        CHECK(0)

        /* null SS in ring 0 of 64-bit code, not RPL 3 */
        xor     %eax, %eax
        mov     %eax, %ss
        push    %rax
        pop     %rax
        mov     %ss, %eax
        CHECK(0)
        TRY
        mov     $3, %eax
        mov     %eax, %ss
        END_TRY
        CHECK_EXC(13, 0)
        DONE

syscall_entry:
        mov     %rsp, %r15
        mov     $STACK0 - 0x1000, %esp
        jmp     note_entry
sysenter_entry:
        mov     %rsp, %r15
note_entry:
        pushfq
        pop     %r12
        mov     %cs, %r13d
        mov     %ss, %r14d
        mov     resume_sp, %rsp
        jmp     *resume

gate64: mov     %rsp, %r12
        mov     %ss, %r13d
        mov     8(%rsp), %r14d
        rex.w lret

        .code32
compat: mov     $0xc0dd, %eax
        inc     %eax
        lret
        .code64

        .balign 16
scratch: .quad  0, 0
gs_data: .quad  0x111, 0x222
to_compat: .long compat
        .word   SEL_CODE32
bad_cs: .long   compat
        .word   SEL_FREE + 16
gate_ptr: .long 0
        .word   SEL_GATE
tss_ptr: .long  0
        .word   SEL_TSS
