/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest guests, for each boot protocol: -DLINUX a bzImage with a 64-bit entry, -DLINUX32 one without, -DMULTIBOOT, -DPVH.
 * Each prints "up: " and its command line on COM1, and does what the command line's first letter says (see `act`).
 */
#define COM1 0x3f8

#if defined(LINUX) || defined(LINUX32)
        .text
        .org    0x1f1
        .byte   1                       /* setup_sects */
        .word   0
        .long   (image_end - payload) / 16
        .word   0, 0, 0, 0xaa55
        .byte   0xeb, 0x66              /* the header ends at 0x268 */
        .ascii  "HdrS"
        .word   0x20f
        .long   0
        .word   0, 0
        .byte   0, 1                    /* type_of_loader, loadflags: LOADED_HIGH */
        .word   0
        .long   0x100000
        .long   0, 0, 0
        .word   0, 0
        .long   0, 0x7fffffff           /* cmd_line_ptr, initrd_addr_max */
        .long   0x200000                /* kernel_alignment */
        .byte   1, 21
# ifdef LINUX
        .word   1                       /* xloadflags: XLF_KERNEL_64 */
# else
        .word   0
# endif
        .long   2047                    /* cmdline_size */
        .long   0
        .quad   0
        .long   0, 0
        .quad   0
        .quad   0x1000000               /* pref_address */
        .long   0x100000, 0             /* init_size */
        .org    0x400
payload:
# ifdef LINUX
        .org    0x600
        .code64
# else
        .code32
# endif
entry:  mov     0x228(%esi), %esi
#elif defined(MULTIBOOT)
        .code32
        .section .text
        .align  4
        .long   0x1badb002, 3, -(0x1badb002 + 3)
        .globl  _start
_start: cmp     $0x2badb002, %eax
        jne     hang
        mov     16(%ebx), %esi
1:      lodsb                           /* the kernel's name comes first */
        cmp     $' ', %al
        jne     1b
#else
        .code32
        .section .note, "a", @note
        .long   4, 4, 18
        .asciz  "Xen"
        .long   _start
        .section .text
        .globl  _start
_start: cmpl    $0x336ec578, (%ebx)
        jne     hang
        mov     24(%ebx), %esi
#endif

act:    mov     %esi, %edi              /* keeps the command line */
        mov     $COM1, %dx
        mov     $'u', %al
        out     %al, %dx
        mov     $'p', %al
        out     %al, %dx
        mov     $':', %al
        out     %al, %dx
        mov     $' ', %al
        out     %al, %dx
1:      lodsb
        test    %al, %al
        jz      2f
        out     %al, %dx
        jmp     1b
2:      mov     $10, %al
        out     %al, %dx
        mov     (%edi), %al
        cmp     $'o', %al
        je      off
        cmp     $'r', %al
        je      reset
        cmp     $'l', %al
        je      lapic_reset
        cmp     $'k', %al
        je      keyboard_reset
        cmp     $'t', %al
        je      triple
        cmp     $'d', %al
        je      debug_exit
        cmp     $'v', %al
        je      panic
        cmp     $'b', %al
        je      button
        cmp     $'e', %al
        je      echo
        cmp     $'m', %al
        je      hole
hang:   jmp     hang

off:    mov     $0x604, %dx             /* PM1_CNT: SLP_EN, SLP_TYP 7 */
        mov     $0x3c00, %ax
        out     %ax, %dx
        jmp     hang
lapic_reset:                            /* as a kernel does it, whose local APIC is in use */
        mov     $0x1b, %ecx             /* IA32_APIC_BASE: x2APIC */
        rdmsr
        or      $0xc00, %eax
        wrmsr
        mov     $0x80f, %ecx            /* the spurious vector: APIC enabled */
        mov     $0x1ff, %eax
        xor     %edx, %edx
        wrmsr
reset:  mov     $0xcf9, %dx
        mov     $6, %al
        out     %al, %dx
        jmp     hang
keyboard_reset:
        mov     $0xfe, %al
        out     %al, $0x64
        jmp     hang
triple: ud2                             /* there is no IDT */
debug_exit:
        mov     $0xf4, %dx
        mov     $5, %eax
        out     %eax, %dx
        jmp     hang
panic:  mov     $0x505, %dx
        in      %dx, %al
        out     %al, %dx
        jmp     hang
button: mov     $0x600, %dx             /* PM1_STS: PWRBTN_STS */
        in      %dx, %ax
        test    $0x100, %ax
        jz      button
        jmp     off
echo:   mov     $COM1 + 5, %dx
        in      %dx, %al
        test    $1, %al
        jz      echo
        mov     $COM1, %dx
        in      %dx, %al
        out     %al, %dx
        cmp     $'q', %al
        jne     echo
        jmp     off
hole:   mov     $0xa0000, %edi          /* nothing is there: reads as ones, and writes are lost */
        movl    $0, (%edi)
        cmpl    $-1, (%edi)
        jne     hang
        jmp     off

#if defined(LINUX) || defined(LINUX32)
        .balign 16
image_end:
#endif
