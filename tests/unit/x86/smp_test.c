// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Two vCPUs on two threads that hammer the same memory with every kind of atomic instruction, operands across pages among them.
 * Counters must come out exact, and ThreadSanitizer must find nothing.
 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "flat.h"
#include "softkvm/api/api.h"

enum { THREADS = 2, ROUNDS = 20000, SPLIT_EVERY = 64 };

#define LOCK_WORD   (FLAT_DATA + 0x40)
#define PLAIN       (FLAT_DATA + 0x80) /* guarded by the lock word */
#define INC_COUNT   (FLAT_DATA + 0xc0)
#define XADD_COUNT  (FLAT_DATA + 0x100)
#define CAS_COUNT   (FLAT_DATA + 0x140)
#define CAS16_COUNT (FLAT_DATA + 0x180) /* low and high half count in step */
#define BIT_WORD    (FLAT_DATA + 0x1c0) /* each vCPU flips a bit of its own */
#define SPLIT_COUNT (FLAT_DATA + 0xffe) /* crosses a page */
#define SPLIT_XADD  (FLAT_DATA + 0x1ffd)

/* rbp: FLAT_DATA; r8d: rounds; r9d: own bit */
FLAT_PROGRAM(prog_hammer, "1:  mov $1, %eax\n"
                          "2:  xchg %eax, 0x40(%rbp)\n"
                          "    test %eax, %eax\n"
                          "    jz 4f\n"
                          "3:  pause\n"
                          "    cmpl $0, 0x40(%rbp)\n"
                          "    jne 3b\n"
                          "    jmp 2b\n"
                          "4:  mov 0x80(%rbp), %rcx\n"
                          "    inc %rcx\n"
                          "    mov %rcx, 0x80(%rbp)\n"
                          "    movl $0, 0x40(%rbp)\n"
                          "    lock incq 0xc0(%rbp)\n"
                          "    mov $3, %eax\n"
                          "    lock xadd %rax, 0x100(%rbp)\n"
                          "    mov 0x140(%rbp), %rax\n"
                          "5:  lea 1(%rax), %rdx\n"
                          "    lock cmpxchg %rdx, 0x140(%rbp)\n"
                          "    jne 5b\n"
                          "    mov 0x180(%rbp), %rax\n"
                          "    mov 0x188(%rbp), %rdx\n"
                          "6:  lea 1(%rax), %rbx\n"
                          "    lea 1(%rdx), %rcx\n"
                          "    lock cmpxchg16b 0x180(%rbp)\n"
                          "    jne 6b\n"
                          "    lock btc %r9d, 0x1c0(%rbp)\n"
                          "    test $63, %r8b\n"
                          "    jnz 7f\n"
                          "    lock incl 0xffe(%rbp)\n"
                          "    mov $5, %eax\n"
                          "    lock xadd %rax, 0x1ffd(%rbp)\n"
                          "7:  dec %r8d\n"
                          "    jnz 1b\n"
                          "    hlt\n");

/* What api/run.c does between two runs, as far as it matters here. */
static void *run_vcpu(void *opaque)
{
    struct vcpu *v = opaque;
    enum cpu_stop stop;
    section_enter(v);
    while ((stop = cpu_run(v)) == STOP_REQUEST) {
        exclusive_drop(v);
        atomic_fetch_and(&v->requests, ~(uint32_t)(REQ_PAUSE | REQ_EVENT));
        section_leave(v);
        section_enter(v);
    }
    section_leave(v);
    return stop == STOP_HALT ? v : NULL;
}

/* Another thread that keeps asking for attention must not disturb anything. */
static void *kick_vcpus(void *opaque)
{
    struct flat *f = opaque;
    for (unsigned n = 0; n < 2000; n++) {
        for (unsigned k = 0; k < THREADS; k++)
            cpu_request(f->vm.vcpus[k], REQ_EVENT);
        for (volatile unsigned spin = 0; spin < 1000; spin++)
            ;
    }
    return NULL;
}

static unsigned failures;

static void expect(const struct flat *f, const char *what, uint64_t gpa, unsigned size, uint64_t want)
{
    uint64_t got = 0;
    memcpy(&got, f->ram + gpa, size);
    if (got == want)
        return;
    printf("smp: %s is %lu, not %lu\n", what, got, want);
    failures++;
}

int main(void)
{
    struct flat f;
    pthread_t threads[THREADS], kicker;
    flat_init(&f, CODE64);
    flat_code(&f, prog_hammer, (size_t)(prog_hammer_end - prog_hammer));
    for (unsigned n = 1; n < THREADS; n++)
        flat_add(&f, CODE64);
    for (unsigned n = 0; n < THREADS; n++) {
        struct vcpu *v = f.vm.vcpus[n];
        v->gpr[RBP] = FLAT_DATA;
        v->gpr[R8] = ROUNDS;
        v->gpr[R9] = n;
    }
    for (unsigned n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, run_vcpu, f.vm.vcpus[n]);
    pthread_create(&kicker, NULL, kick_vcpus, &f);
    for (unsigned n = 0; n < THREADS; n++) {
        void *done;
        pthread_join(threads[n], &done);
        if (!done || flat_exception(done) >= 0) {
            printf("smp: vCPU %u did not reach its end\n", n);
            failures++;
        }
    }
    pthread_join(kicker, NULL);
    uint64_t total = (uint64_t)THREADS * ROUNDS, splits = (uint64_t)THREADS * (ROUNDS / SPLIT_EVERY);
    expect(&f, "the counter under the spin lock", PLAIN, 8, total);
    expect(&f, "lock inc", INC_COUNT, 8, total);
    expect(&f, "lock xadd", XADD_COUNT, 8, 3 * total);
    expect(&f, "lock cmpxchg", CAS_COUNT, 8, total);
    expect(&f, "lock cmpxchg16b, low half", CAS16_COUNT, 8, total);
    expect(&f, "lock cmpxchg16b, high half", CAS16_COUNT + 8, 8, total);
    expect(&f, "lock btc", BIT_WORD, 4, ROUNDS % 2 ? (1u << THREADS) - 1 : 0);
    expect(&f, "lock inc across pages", SPLIT_COUNT, 4, splits);
    expect(&f, "lock xadd across pages", SPLIT_XADD, 8, 5 * splits);
    expect(&f, "the spin lock", LOCK_WORD, 4, 0);
    flat_free(&f);
    printf("smp: %u threads, %u rounds, %u failed\n", THREADS, ROUNDS, failures);
    return failures != 0;
}
