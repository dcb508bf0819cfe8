# SPDX-License-Identifier: GPL-2.0-or-later
# Two sectors that a BIOS boots. The first says so by the screen's service (INT 10h), reads the second by the extended disk service (INT
# 13h) and by the old one, and jumps there; that one says so by the serial port's service (INT 14h), writes itself to the disk's third sector, and ends the
# guest with status (5 << 1) | 1. A service that fails is named, and ends it with status 3.
    .code16
    .globl _start
_start:
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movw $0x7c00, %sp
    cld
    movb %dl, drive
    movw $hello, %si
    call screen

    movw $packet, %si                   # extended read: one sector, LBA 1, to 0x7e00
    movb $0x42, %ah
    movb drive, %dl
    int $0x13
    movw $failed_lba, %si
    jc fail
    cmpl $0x4c6f6467, second_magic
    jne fail

    movw $0x0201, %ax                   # and again by cylinder 0, head 0, sector 2
    movw $0x0002, %cx
    movb $0, %dh
    movb drive, %dl
    movw $0x8000, %bx
    int $0x13
    movw $failed_chs, %si
    jc fail
    movw $0x7e00, %si
    movw $0x8000, %di
    movw $256, %cx
    repe cmpsw
    movw $failed_chs, %si
    jne fail
    movb 0x46c, %al                     # SeaBIOS holds the screen's last characters back until the clock ticks
    addb $2, %al
1:  sti
    hlt
    cmpb %al, 0x46c
    jne 1b
    jmp second

fail:
    call screen
    movb $1, %al
    outb %al, $0xf4
1:  hlt
    jmp 1b

screen:
    lodsb
    testb %al, %al
    jz 1f
    movb $0x0e, %ah
    movw $7, %bx
    int $0x10
    jmp screen
1:  ret

drive:      .byte 0
packet:     .byte 16, 0
            .word 1, 0x7e00, 0
            .quad 1
hello:      .asciz "boot sector: here\r\n"
failed_lba: .asciz "boot sector: INT 13h AH=42h fails\r\n"
failed_chs: .asciz "boot sector: INT 13h AH=02h fails\r\n"
    .org 510
    .word 0xaa55

    .org 512                            # the second sector, at 0x7e00
second_magic:
    .long 0x4c6f6467
second:
    movw $here, %si
1:  lodsb
    testb %al, %al
    jz 1f
    movb $1, %ah
    xorw %dx, %dx
    int $0x14
    jmp 1b
1:  movw $write, %si                    # extended write: this sector to LBA 2
    movb $0x43, %ah
    xorb %al, %al
    movb drive, %dl
    int $0x13
    movw $failed_write, %si
    jc fail
    movb $5, %al
    outb %al, $0xf4
1:  hlt
    jmp 1b
write:      .byte 16, 0
            .word 1, 0x7e00, 0
            .quad 2
here:         .asciz "second sector: here\r\n"
failed_write: .asciz "second sector: INT 13h AH=43h fails\r\n"
    .org 1024
