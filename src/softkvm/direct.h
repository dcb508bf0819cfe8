/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Direct execution: user code of the guest that computes runs natively, in a process that has nothing but the guest's own pages.
 *
 * A stub (api/stub.c) is such a process: an address space in which the pages of one guest address space are mapped at the guest's own linear
 * addresses, from the descriptors of the guest's memory. The vCPU's thread traces it: each system call, fault and signal stops it, and it never
 * makes a system call of its own. What the stub stops for, the interpreter executes; the guest's kernel is translated as ever.
 *
 * Invariants
 * - Only code at CPL 3 in 64-bit mode runs there, with the selectors that the host's user code has, too (fits()). Each instruction that reads
 *   what the host would answer otherwise either traps (RDTSC is made to) or keeps its page from being executable (direct_scan.c).
 * - A stub's mappings are a TLB: each is made from the guest's page tables with A set (and D, for one that can be written), and goes when the guest
 *   says so. The MMU only notes what is to go (direct_note.c); it goes before the stub runs next.
 * - A page that translated code was made from is never mapped for writing. `writable` knows the guest pages that may be; who makes code of one makes
 *   all mappings stale (bt_page_protect()). A page is executable in a stub only if the guest cannot write it through the same mapping.
 * - Everything here belongs to the vCPU's thread, but for `running`, which vcpu_kick() reads.
 */
#ifndef LODGE_SOFTKVM_DIRECT_H
#define LODGE_SOFTKVM_DIRECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct vcpu;
struct softkvm_vm;
struct stub;

#define DIRECT_SPACES 4  /* address spaces of a vCPU that have a stub, or are on their way to one */
#define DIRECT_DROPS  64 /* single pages to go, before everything does */
#define DIRECT_MEMORY 8  /* runs of guest memory with a descriptor */
#define DIRECT_KNOWN  4096 /* pages of code whose verdict is remembered */
#define DIRECT_PAGES  (1ull << 35) /* of the lower half of the address space */

/* What is known of a linear page, in direct_space.pages. */
enum { DIRECT_MAPPED = 1, DIRECT_WRITE = 2, DIRECT_EXEC = 4, DIRECT_REFUSED = 8 /* not to be executed in the stub */ };

struct direct_space {
    uint64_t cr3; /* with the PCID; ~0: free */
    struct stub *stub;
    uint8_t *pages;   /* by linear page: DIRECT_*; address space of which little is resident. With the stub. */
    bool active;      /* runs in its stub */
    bool stale;       /* all mappings are to go */
    bool large;       /* a page of 2 MiB was mapped from, of 1 GiB: */
    bool giant;
    unsigned ndrops;
    uint64_t drops[DIRECT_DROPS]; /* linear page addresses */
    unsigned unwritten; /* pages that were taken from it because code was made of them */
    uint64_t missed;  /* linear address that the stub has stopped at, +1; 0 none */
    unsigned heat, wait; /* interrupts that have lately found it in user code, and how many it takes */
    uint64_t warmed;     /* TSC of the last of them */
    unsigned stops, maps; /* of the current window; lists of mappings that the stub has made */
    uint64_t began_ns; /* CPU time of the stub when that began */
    uint64_t used;
};

struct direct_memory { /* guest memory that stubs can map */
    const uint8_t *host;
    uint64_t bytes, offset;
    int fd;
};

enum direct_result {
    DIRECT_LOOK,      /* something is asked of the vCPU, or nothing: come again */
    DIRECT_TRANSLATE, /* it does not run there: the translator has it */
    DIRECT_INTERPRET, /* the instruction at rip is the interpreter's */
    DIRECT_STEPPED,   /* an instruction has run with TF set: its #DB is due */
    DIRECT_LOST,      /* somebody has killed the stub, and the vCPU's registers with it */
};


struct direct_cpu {
    enum direct_result (*run)(struct vcpu *v); /* runs user code up to its stub's next stop; begins with fpu_put() */
    struct direct_space space[DIRECT_SPACES];
    uint64_t *writable;       /* bit map by guest page below BT_GPA_MAX */
    uint64_t known[DIRECT_KNOWN]; /* by hash of a page of code: the hash, with bit 0 for `may be executed` */
    uint64_t uses;
    bool always;              /* for tests: all user code that fits, whatever it brings */
    bool impossible;          /* this host has no stubs for us */
    uint64_t around;          /* linear page that is being interpreted, as it must not be executed in the stub; 1 none */
    unsigned around_left;     /* instructions, before the translator takes over */
    _Atomic int running;      /* pidfd of the stub that runs, -1 none */
};

/* ---- for the MMU; x86/direct_note.c ---- */
struct direct_space *direct_current(const struct vcpu *v); /* that of CR3, NULL none */
void direct_note_cr3(struct vcpu *v, bool keep); /* v->cr3 has been written; keep: the translations of its PCID are valid */
void direct_note_page(struct vcpu *v, uint64_t la); /* INVLPG */
void direct_note_pcid(struct vcpu *v, unsigned pcid);
void direct_note_all(struct vcpu *v);
void direct_unwrite(struct vcpu *v, uint64_t gpa);
bool direct_may_write(const struct vcpu *v, uint64_t gpa); /* any thread, once bt_is_code(gpa) */

/* ---- x86/direct_scan.c ---- */
#define DIRECT_BEFORE 96
#define DIRECT_CODE   (DIRECT_BEFORE + 4096 + 16)
struct direct_code { /* a page with what lies around it in the guest's address space; zeroes for what is not there */
    uint8_t before[DIRECT_BEFORE]; /* of which the last `nbefore` are there */
    uint8_t page[4096];
    uint8_t after[16];
    unsigned nbefore;
};
/* May this page of 64-bit code run on the host as it is? With AVX-512, EVEX instructions may. */
bool direct_scan(const struct direct_code *c, bool avx512);

/* ---- for the API; api/direct.c ---- */
/* Guest memory at `host` is a shared mapping of fd's bytes from `offset` on. Before the first vCPU. 0 or -errno; takes a copy of fd. */
int direct_memory(struct softkvm_vm *vm, const void *host, uint64_t bytes, int fd, uint64_t offset);
void direct_memory_free(struct softkvm_vm *vm);
int direct_create(struct vcpu *v); /* 0 or -errno, also where the vCPU will do without */
void direct_destroy(struct vcpu *v);
void direct_tick(struct vcpu *v);  /* an interrupt is about to be delivered */
void direct_kick(struct vcpu *v);  /* stops a stub that runs. Any thread. */

#endif
