/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * unwind_set/unwind_jump: setjmp and longjmp that touch general registers only, so that live guest x87/SSE/AVX state and the signal
 * mask stay as they are, and that cost a few nanoseconds. buf: rbx rbp r12 r13 r14 r15 rsp rip (System V ABI's callee-saved set).
 * unwind_set returns 0 at first, then the value given to unwind_jump (not 0). The frame of its caller must still exist.
 */
#ifndef LODGE_SOFTKVM_X86_UNWIND_H
#define LODGE_SOFTKVM_X86_UNWIND_H

int unwind_set(void *buf[8]) __attribute__((returns_twice));
_Noreturn void unwind_jump(void *buf[8], int value);

#endif
