/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stub: a process that runs guest user code under ptrace(2), and nothing else.
 *
 * Its program is one page, made here and executed from a memfd. Behind that page lies a second mapping, read-only there and writable here: the list of
 * system calls (mmap, munmap) that the stub is to make next. Nothing else is in its address space but what these calls have mapped. It has no
 * descriptors but those of the guest's memory, and a seccomp filter allows these two calls, from its own page only. All calls of guest code end in a stop before they begin (PTRACE_SYSEMU).
 *
 * All functions are for the thread that has started the stub, its tracer, but for stub_kick().
 */
#ifndef LODGE_SOFTKVM_API_STUB_H
#define LODGE_SOFTKVM_API_STUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define STUB_OPS    512          /* calls in the list */
#define STUB_XSAVE  16384        /* bytes of the largest XSAVE area that any host has */
#define STUB_MEM_FD 3            /* descriptors of the guest's memory in the stub, from here on */
#define STUB_BEGIN  0x10000ull /* of what a process can map without privileges, */
#define STUB_END    0x7ffffffff000ull /* and its end */

struct stub_op { /* a system call, and what it must return */
    uint64_t nr, args[6], expect;
};

/* As PTRACE_GETREGS has them: struct user_regs_struct, whose header redefines PAGE_SIZE. */
struct stub_regs {
    uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss, fs_base, gs_base, ds, es, fs, gs;
};

struct stub {
    pid_t pid, tracer;
    int pidfd;
    int cpu;              /* of the host that it is bound to, -1 none */
    uint64_t base, end;   /* linear addresses that it takes for itself */
    struct stub_op *ops;  /* the list, shared with the stub */
    size_t ops_bytes;
    unsigned nops;
    uint64_t stop_ns;     /* CPU time that a stop costs the stub, measured when it was started */
    bool broken;          /* a call has failed: the mappings are not what they should be */
    struct stub_regs regs;
    size_t xsave_bytes;   /* of the host's area */
    uint8_t xsave[STUB_XSAVE] __attribute__((aligned(64)));
};

enum stub_stop {
    STUB_KICKED,  /* stub_kick(), or any signal from outside */
    STUB_SYSCALL, /* SYSCALL or INT 80h; rip is behind it, RAX in orig_rax */
    STUB_FAULT,   /* SIGSEGV, SIGBUS, SIGILL, SIGFPE: rip at the instruction */
    STUB_TRAP,    /* SIGTRAP: rip behind the instruction */
    STUB_VSYSCALL,/* a call of the host's vsyscall page was refused: *address is its number */
    STUB_DEAD,    /* killed by somebody: its registers are lost */
};

/* Starts a stub with copies of `fds`; the calling thread becomes its tracer. NULL with errno. */
struct stub *stub_start(const int *fds, unsigned nfds);
void stub_end(struct stub *s); /* by any thread; NULL is nothing */

/* Puts calls on the list; a full list is executed at once. */
void stub_map(struct stub *s, uint64_t la, uint64_t bytes, int prot, unsigned mem, uint64_t offset);
void stub_unmap(struct stub *s, uint64_t la, uint64_t bytes);
/* Executes the list. False: a call has failed (s->broken), or the stub is dead. */
bool stub_flush(struct stub *s);

/* Gives the stub s->regs and s->xsave. False: the host does not take these registers. */
bool stub_load(struct stub *s);
/*
 * Runs guest code with what stub_load() has given, and leaves in s->regs and s->xsave what that has come to. *address: of a fault, 0 where the host does
 * not say; *cycles: of the TSC that it took.
 */
enum stub_stop stub_run(struct stub *s, uint64_t *address, uint64_t *cycles);
void stub_kick(int pidfd); /* ends a stub_run() that is under way, or the next one. Any thread. */
uint64_t stub_cpu_ns(const struct stub *s); /* CPU time of the process */

#endif
