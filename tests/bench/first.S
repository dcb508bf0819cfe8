/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The smallest guests: their first instructions print '!' on the debug console (port 0xe9). Assembled twice: as a Multiboot kernel for
 * `lodge run --kernel`, and with -DROM as a 64 KiB ROM whose reset vector does the same, for `qemu -bios`.
 */
#ifdef ROM
        .code16
        .text
        .globl _start
_start: mov     $'!', %al
        out     %al, $0xe9
1:      hlt
        jmp     1b
        .org    0xfff0
        jmp     _start
        .org    0x10000
#else
        .code32
        .section .text
        .align  4
        .long   0x1badb002, 0, -0x1badb002
        .globl _start
_start: mov     $'!', %al
        out     %al, $0xe9
1:      hlt
        jmp     1b
#endif
