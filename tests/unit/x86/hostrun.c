// SPDX-License-Identifier: GPL-2.0-or-later
/* See hostrun.h. */
#include "hostrun.h"

#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define ARITH 0x8d5u /* CF PF AF ZF SF OF */

static struct hostrun *current;
uint64_t hostrun_rsp, hostrun_rip; /* used by the code below */
void hostrun_enter(struct hostrun *h);
void hostrun_back(void);

_Static_assert(offsetof(struct hostrun, area) == 192, "hostrun_enter knows the layout");
__asm__(".text\n"
        "hostrun_enter:\n"
        "    push %rbx\n push %rbp\n push %r12\n push %r13\n push %r14\n push %r15\n"
        "    mov %rsp, hostrun_rsp(%rip)\n"
        "    mov $7, %eax\n xor %edx, %edx\n"
        "    xrstor64 192(%rdi)\n"
        "    pushq 128(%rdi)\n popfq\n"
        "    mov 0(%rdi), %rax\n mov 8(%rdi), %rcx\n mov 16(%rdi), %rdx\n mov 24(%rdi), %rbx\n"
        "    mov 32(%rdi), %rsp\n mov 40(%rdi), %rbp\n mov 48(%rdi), %rsi\n"
        "    mov 64(%rdi), %r8\n mov 72(%rdi), %r9\n mov 80(%rdi), %r10\n mov 88(%rdi), %r11\n"
        "    mov 96(%rdi), %r12\n mov 104(%rdi), %r13\n mov 112(%rdi), %r14\n mov 120(%rdi), %r15\n"
        "    mov 56(%rdi), %rdi\n"
        "    jmp *hostrun_rip(%rip)\n"
        "hostrun_back:\n"
        "    mov hostrun_rsp(%rip), %rsp\n"
        "    pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbp\n pop %rbx\n"
        "    fninit\n vzeroupper\n"
        "    pushq $0x1f80\n ldmxcsr (%rsp)\n pop %rax\n"
        "    ret\n");

static const int gregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void caught(int sig, siginfo_t *info, void *ctx)
{
    ucontext_t *uc = ctx;
    greg_t *r = uc->uc_mcontext.gregs;
    struct hostrun *h = current;
    if (!h) { /* none of ours */
        signal(sig, SIG_DFL);
        return;
    }
    for (unsigned n = 0; n < 16; n++)
        h->gpr[n] = (uint64_t)r[gregs[n]];
    h->rflags = (uint64_t)r[REG_EFL];
    memcpy(h->area, uc->uc_mcontext.fpregs, 832);
    h->vector = sig == SIGTRAP ? -1 : (int)r[REG_TRAPNO];
    h->fault_address = sig == SIGSEGV ? (uint64_t)(uintptr_t)info->si_addr : 0;
    h->rip = sig == SIGTRAP ? (uint64_t)r[REG_RIP] - 1 : (uint64_t)r[REG_RIP];
    r[REG_RIP] = (greg_t)(uintptr_t)hostrun_back;
    r[REG_EFL] &= ~(greg_t)0x40400; /* DF, AC */
    current = NULL;
}

void hostrun_init(void)
{
    static const int sigs[] = {SIGTRAP, SIGSEGV, SIGFPE, SIGILL, SIGBUS};
    stack_t ss = {.ss_size = 64 << 10};
    struct sigaction sa = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    ss.ss_sp = mmap(NULL, ss.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (ss.ss_sp == MAP_FAILED || sigaltstack(&ss, NULL)) {
        perror("cannot set up a signal stack");
        exit(2);
    }
    for (unsigned n = 0; n < sizeof(sigs) / sizeof(sigs[0]); n++)
        sigaction(sigs[n], &sa, NULL);
}

void hostrun(struct hostrun *h, unsigned len)
{
    uint8_t *end = (uint8_t *)(uintptr_t)h->rip + len;
    *end = 0xcc;
    h->rflags = (h->rflags & ARITH) | 2;
    h->vector = 0;
    hostrun_rip = h->rip;
    current = h;
    hostrun_enter(h);
}
