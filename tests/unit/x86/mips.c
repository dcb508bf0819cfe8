// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Speed of the interpreter on small integer programs, in million guest instructions per second of CPU time.
 *
 *     mips [seconds a program]
 */
#include <stdio.h>
#include <stdlib.h>

#include "flat.h"

FLAT_PROGRAM(prog_fib, "    mov $30, %edi\n"
                       "    call 1f\n"
                       "    hlt\n"
                       "1:  cmp $2, %edi\n"
                       "    jae 2f\n"
                       "    mov %edi, %eax\n"
                       "    ret\n"
                       "2:  push %rbx\n"
                       "    push %rbp\n"
                       "    mov %edi, %ebx\n"
                       "    lea -1(%rdi), %edi\n"
                       "    call 1b\n"
                       "    mov %eax, %ebp\n"
                       "    lea -2(%rbx), %edi\n"
                       "    call 1b\n"
                       "    add %ebp, %eax\n"
                       "    pop %rbp\n"
                       "    pop %rbx\n"
                       "    ret\n");

FLAT_PROGRAM(prog_sieve, "    mov $0x100000, %ebx\n"
                         "    mov $0x200000, %ecx\n"
                         "    mov %rbx, %rdi\n"
                         "    mov $1, %al\n"
                         "    rep stosb\n"
                         "    mov $2, %esi\n"
                         "1:  cmpb $0, (%rbx,%rsi)\n"
                         "    je 3f\n"
                         "    lea (%rsi,%rsi), %rdi\n"
                         "2:  cmp $0x200000, %rdi\n"
                         "    jae 3f\n"
                         "    movb $0, (%rbx,%rdi)\n"
                         "    add %rsi, %rdi\n"
                         "    jmp 2b\n"
                         "3:  inc %esi\n"
                         "    cmp $1500, %esi\n"
                         "    jb 1b\n"
                         "    hlt\n");

FLAT_PROGRAM(prog_copy, "    mov $200, %r8d\n"
                        "1:  mov $0x100000, %esi\n"
                        "    mov $0x400000, %edi\n"
                        "    mov $4096, %ecx\n"
                        "2:  mov (%rsi), %rax\n"
                        "    mov 8(%rsi), %rdx\n"
                        "    mov %rax, (%rdi)\n"
                        "    mov %rdx, 8(%rdi)\n"
                        "    add $16, %rsi\n"
                        "    add $16, %rdi\n"
                        "    dec %ecx\n"
                        "    jnz 2b\n"
                        "    dec %r8d\n"
                        "    jnz 1b\n"
                        "    hlt\n");

/* A hash over words: shifts, rotates, multiplication, indexed loads. */
FLAT_PROGRAM(prog_hash, "    mov $2000000, %ecx\n"
                        "    mov $0x100000, %esi\n"
                        "    xor %eax, %eax\n"
                        "1:  mov %ecx, %edx\n"
                        "    and $0xffff, %edx\n"
                        "    movzwl (%rsi,%rdx,2), %ebx\n"
                        "    xor %ebx, %eax\n"
                        "    imul $0x01000193, %eax, %eax\n"
                        "    rol $5, %eax\n"
                        "    mov %eax, %edi\n"
                        "    shr $13, %edi\n"
                        "    xor %edi, %eax\n"
                        "    test $1, %al\n"
                        "    setz %dl\n"
                        "    movzbl %dl, %edx\n"
                        "    add %edx, %eax\n"
                        "    sub $1, %ecx\n"
                        "    jnz 1b\n"
                        "    hlt\n");

static uint64_t cpu_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void measure(const char *name, const uint8_t *code, const uint8_t *end, double seconds)
{
    struct flat f;
    flat_init(&f, CODE64);
    uint64_t start = cpu_ns(), insns;
    double s;
    do {
        flat_code(&f, code, (size_t)(end - code));
        f.v->gpr[RSP] = FLAT_STACK;
        enum cpu_stop stop = cpu_run(f.v);
        if (stop != STOP_HALT || flat_exception(f.v) >= 0) {
            fprintf(stderr, "%s: stopped by %d at %#lx\n", name, stop, f.v->rip);
            exit(1);
        }
        s = (double)(cpu_ns() - start) / 1e9;
    } while (s < seconds);
    insns = f.v->stats.insns;
    printf("%-8s %7.1f MIPS  (%lu instructions, %lu decoded)\n", name, (double)insns / s / 1e6, insns,
           (uint64_t)f.v->stats.decode_misses);
    flat_free(&f);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    measure("fib", prog_fib, prog_fib_end, seconds);
    measure("sieve", prog_sieve, prog_sieve_end, seconds);
    measure("copy", prog_copy, prog_copy_end, seconds);
    measure("hash", prog_hash, prog_hash_end, seconds);
    return 0;
}
