/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Interrupts: PIT through PICs and through the IOAPIC, LAPIC timer one-shot, periodic and by TSC deadline, self-IPI, NMI and its mask, TPR,
 * x2APIC, STI's shadow, HLT, windows that open by POPF, IRET and CR8.
 */
#define GUEST_MODE 64
#include "env.h"

#define LAPIC   0xfee00000
#define IOAPIC  0xfec00000
#define APIC_ID  (LAPIC + 0x20)
#define APIC_TPR (LAPIC + 0x80)
#define APIC_EOI (LAPIC + 0xb0)
#define APIC_SVR (LAPIC + 0xf0)
#define APIC_ISR (LAPIC + 0x110)        /* vectors 32..63 */
#define APIC_IRR (LAPIC + 0x210)
#define APIC_ICR (LAPIC + 0x300)
#define APIC_ICR2 (LAPIC + 0x310)
#define APIC_LVTT (LAPIC + 0x320)
#define APIC_LINT0 (LAPIC + 0x350)
#define APIC_TMICT (LAPIC + 0x380)
#define APIC_TMCCT (LAPIC + 0x390)
#define APIC_TDCR (LAPIC + 0x3e0)
#define TSC_DEADLINE 0x6e0
#define PD3     0x106000

#define OUTB(port, val) mov $(val), %al; out %al, $(port)

/* A register of the LAPIC or IOAPIC: 32-bit absolute addresses above 2 GiB need a register. */
.macro APIC_WRITE reg, val
        mov     $\reg, %ebx
        movl    $\val, (%rbx)
.endm
.macro APIC_READ reg
        mov     $\reg, %ebx
        mov     (%rbx), %eax
.endm
.macro IOAPIC_WRITE index, val
        mov     $IOAPIC, %ebx
        movl    $\index, (%rbx)
        movl    $\val, 0x10(%rbx)
.endm

/* Waits by HLT until the handler has counted up to n. */
.macro WAIT n
        movl    $0, exc_count
97:     sti
        hlt
        cli
        cmpl    $\n, exc_count
        jb      97b
.endm

/* Takes what a source that has just been stopped still had under way, so that the next part does not meet it. */
.macro DRAIN vector
98:     sti
        nop
        nop
        cli
        APIC_READ APIC_IRR
        bt      $\vector - 32, %eax
        jc      98b
.endm

main:
        /* the LAPIC's page is not mapped by env.h's first GiB */
        movl    $PD3 + 3, PDPT + 24
        mov     $PD3, %edi
        xor     %eax, %eax
        mov     $1024, %ecx
        rep stosl
        movl    $0xfec0009b, PD3 + 8 * 0x1f6
        movl    $0xfee0009b, PD3 + 8 * 0x1f7
        mov     %cr3, %rax
        mov     %rax, %cr3
        movq    $irq_hook, hook

        /* PIT channel 0, mode 2 at 1 kHz, through PIC IRQ 0 at vector 20 */
        OUTB(0x20, 0x11)
        OUTB(0x21, 0x20)
        OUTB(0x21, 4)
        OUTB(0x21, 1)
        OUTB(0xa0, 0x11)
        OUTB(0xa1, 0x28)
        OUTB(0xa1, 2)
        OUTB(0xa1, 1)
        OUTB(0x21, 0xfe)
        OUTB(0xa1, 0xff)
        APIC_WRITE APIC_SVR, 0x13f
        APIC_WRITE APIC_LINT0, 0x700    /* ExtINT */
        OUTB(0x43, 0x34)
        OUTB(0x40, 0xa9)
        OUTB(0x40, 0x04)
        movl    $1, pic_eoi
        WAIT    3
        CHECK_AT(exc_vector, 0x20)
        OUTB(0x21, 0xff)

        /* the same GSI through the IOAPIC: by default pin 0 */
        movl    $0, pic_eoi
        movl    $1, apic_eoi
        APIC_WRITE APIC_LINT0, 0x10700
        IOAPIC_WRITE 0x11, 0
        IOAPIC_WRITE 0x10, 0x31
        WAIT    3
        CHECK_AT(exc_vector, 0x31)
        IOAPIC_WRITE 0x10, 0x10031
        OUTB(0x43, 0x30)                /* one-shot: no more ticks */
        OUTB(0x40, 0)
        OUTB(0x40, 0)
        DRAIN   0x31

        /* LAPIC timer: one-shot, once only */
        APIC_WRITE APIC_TDCR, 0xb       /* by 1 */
        APIC_WRITE APIC_LVTT, 0x32
        APIC_WRITE APIC_TMICT, 100000
        APIC_READ APIC_TMCCT
        cmp     $100000, %eax
        setbe   %al
        movzbl  %al, %eax
        CHECK(1)
        WAIT    1
        CHECK_AT(exc_vector, 0x32)
        APIC_READ APIC_TMCCT
        CHECK(0)

        /* periodic */
        APIC_WRITE APIC_LVTT, 0x20033
        APIC_WRITE APIC_TMICT, 1000000
        WAIT    3
        CHECK_AT(exc_vector, 0x33)
        APIC_WRITE APIC_TMICT, 0
        DRAIN   0x33

        /* TSC deadline: the interrupt comes not before it, and the MSR is 0 then */
        mov     $1, %eax
        cpuid
        bt      $24, %ecx
        jnc     no_deadline
        APIC_WRITE APIC_LVTT, 0x40034
        mfence
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        add     $3000000, %rax
        mov     %rax, %r15
        mov     %rax, %rdx
        shr     $32, %rdx
        mov     $TSC_DEADLINE, %ecx
        wrmsr
        WAIT    1
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        cmp     %r15, %rax
        setae   %al
        movzbl  %al, %eax
        CHECK(1)
        CHECK_AT(exc_vector, 0x34)
        mov     $TSC_DEADLINE, %ecx
        rdmsr
        CHECK(0)
no_deadline:
        APIC_WRITE APIC_LVTT, 0x10000

        KVM_GAP_BEGIN                   /* an IPI to itself is late by several instructions, and NMI lost */
        /* self-IPI, held back by IF, seen in IRR, then in ISR */
        movl    $0, exc_count
        movl    $0, apic_eoi
        APIC_WRITE APIC_ICR, 0x44035
        APIC_READ APIC_IRR
        CHECK(0x200000)
        CHECK_AT(exc_count, 0)
        /* STI shields one instruction: the interrupt comes behind the NOP */
        sti
        nop
sti_ip: nop
        cli
        CHECK_AT(exc_count, 1)
        mov     exc_ip, %rax
        sub     $sti_ip, %rax
        CHECK(0)
        APIC_READ APIC_ISR
        CHECK(0x200000)
        /* in service: the same and lower vectors wait, a higher class passes */
        APIC_WRITE APIC_ICR, 0x44034
        movl    $0, exc_count
        sti
        nop
        nop
        cli
        CHECK_AT(exc_count, 0)
        APIC_WRITE APIC_EOI, 0
        movl    $1, apic_eoi
        sti
        nop
        nop
        cli
        CHECK_AT(exc_count, 1)
        CHECK_AT(exc_vector, 0x34)

        /* STI STI, STI CLI: no window */
        APIC_WRITE APIC_ICR, 0x44035
        movl    $0, exc_count
        sti
        cli
        CHECK_AT(exc_count, 0)
        /* POPF opens at once */
        pushq   $0x202
        popfq
pop_ip: nop
        cli
        CHECK_AT(exc_count, 1)
        mov     exc_ip, %rax
        sub     $pop_ip, %rax
        CHECK(0)
        /* so does IRET */
        APIC_WRITE APIC_ICR, 0x44035
        movl    $0, exc_count
        mov     %rsp, %rax
        pushq   $SEL_DATA
        push    %rax
        pushq   $0x202
        pushq   $SEL_CODE64
        pushq   $iret_ip
        iretq
iret_ip: nop
        cli
        CHECK_AT(exc_count, 1)
        mov     exc_ip, %rax
        sub     $iret_ip, %rax
        CHECK(0)
        /* MOV SS shields one instruction */
        APIC_WRITE APIC_ICR, 0x44035
        movl    $0, exc_count
        mov     $SEL_DATA, %ecx
        pushq   $0x202
        mov     %ecx, %ss
        popfq
        nop
        cli
        CHECK_AT(exc_count, 1)

        /* TPR by CR8 and by its register */
        mov     $3, %eax
        mov     %rax, %cr8
        APIC_READ APIC_TPR
        CHECK(0x30)
        APIC_WRITE APIC_ICR, 0x44035
        movl    $0, exc_count
        sti
        nop
        nop
        CHECK_AT(exc_count, 0)
        xor     %eax, %eax
        mov     %rax, %cr8
        nop
        cli
        CHECK_AT(exc_count, 1)
        APIC_WRITE APIC_TPR, 0x50
        mov     %cr8, %rax
        CHECK(5)
        APIC_WRITE APIC_TPR, 0

        /* HLT ends with an interrupt that is already there */
        APIC_WRITE APIC_ICR, 0x44036
        movl    $0, exc_count
        sti
        hlt
        cli
        CHECK_AT(exc_vector, 0x36)
        CHECK_AT(exc_count, 1)

        /* NMI: not masked by IF; a second one waits for IRET */
        movq    $nmi_hook, hook
        movl    $0, nmi_depth
        movl    $0, nmi_max
        movl    $0, exc_count
        APIC_WRITE APIC_ICR2, 0
        APIC_READ APIC_ID
        mov     $APIC_ICR2, %ebx
        mov     %eax, (%rbx)
        APIC_WRITE APIC_ICR, 0x4400
        nop
        CHECK_AT(exc_vector, 2)
        CHECK_AT(exc_count, 2)          /* the handler has sent itself another */
        CHECK_AT(nmi_max, 1)

        /* x2APIC */
        mov     $1, %eax
        cpuid
        bt      $21, %ecx
        jnc     no_x2apic
        movq    $x2_hook, hook
        mov     $0x1b, %ecx
        rdmsr
        or      $0x400, %eax
        wrmsr
        movl    $0, exc_count
        mov     $0x83f, %ecx            /* self-IPI */
        mov     $0x37, %eax
        xor     %edx, %edx
        wrmsr
        sti
        nop
        nop
        cli
        CHECK_AT(exc_count, 1)
        CHECK_AT(exc_vector, 0x37)
        movq    $0, hook
        TRY
        mov     $0x80e, %ecx            /* no such register */
        rdmsr
        END_TRY
        CHECK_EXC(13, 0)
        TRY
        mov     $0x808, %ecx            /* TPR: upper bits are reserved */
        mov     $0x100, %eax
        wrmsr
        END_TRY
        CHECK_EXC(13, 0)
no_x2apic:
        DONE

irq_hook:
        push    %rax
        push    %rbx
        cmpl    $0, pic_eoi
        je      1f
        mov     $0x20, %al
        out     %al, $0x20
1:      cmpl    $0, apic_eoi
        je      2f
        mov     $APIC_EOI, %ebx
        movl    $0, (%rbx)
2:      pop     %rbx
        pop     %rax
        iretq

nmi_hook:
        push    %rax
        push    %rbx
        incl    nmi_depth
        mov     nmi_depth, %eax
        cmp     nmi_max, %eax
        jbe     1f
        mov     %eax, nmi_max
1:      cmpl    $1, exc_count
        jne     2f
        mov     $APIC_ICR, %ebx
        movl    $0x4400, (%rbx)
        nop
        nop
2:      decl    nmi_depth
        pop     %rbx
        pop     %rax
        iretq

x2_hook:
        push    %rax
        push    %rcx
        push    %rdx
        xor     %eax, %eax
        xor     %edx, %edx
        mov     $0x80b, %ecx
        wrmsr
        pop     %rdx
        pop     %rcx
        pop     %rax
        iretq

        .balign 4
pic_eoi: .long  0
apic_eoi: .long 0
nmi_depth: .long 0
nmi_max: .long  0
