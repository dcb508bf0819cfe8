// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A guest tries to reach what is not its memory: every kind of access with every shape of address, at the edges of pages, of the
 * canonical ranges and of 64 bits, at each non-canonical name of a mapped page, and at the addresses where, seen from a mapped
 * page, the host process has something of its own.
 *
 * Each try is one snippet of escape_guest.S. It must end as the guest's page tables and the manual have it: with the fault, or
 * through and with no fault only where the guest has memory. What lies around the guest's memory in the host must not change.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"

extern const uint8_t escape_ops[], escape_ops_end[], escape_others[], escape_others_end[], escape_begin[], escape_begin_avx[],
    escape_to_user[];

#define SNIPPET 64u
#define CODE_AT 0x10000u
#define STUBS   0x40000u /* of faults: 16 bytes each */
#define TSS     0x105000u
#define TSS_LIMIT (0x68u + 256 / 8) /* with the map of ports 0 to 255, all allowed */
#define IST_TOP 0x90000u
#define FRAME   0x70000u /* of IRET to ring 3 */
#define USER_CODE 0x60000u /* the snippet that ring 3 runs: alone in its page, as its neighbours might keep it from running natively */
#define USER_CS 0x33u /* as Linux has them: the host's own, so that ring 3 can run natively (SOFTKVM_DIRECT) */
#define USER_SS 0x2bu
#define USER_CS32 0x23u
#define LOW     0x106000u /* page table of the first 2 MiB */
#define POOL    0x110000u /* of page tables */
#define PAGES   0x140000u /* of guest memory that is mapped at the places below; only every second page is used */
#define FILL    0xcc      /* what it holds: int3, where it is run */

#define L0      0x40000000ull
#define FS_BASE 0x123456789000ull
#define GS_BASE (asked_direct() ? 0x234567891000ull : 0xffff900000000000ull) /* ring 3 runs natively with bases of the lower half only */

static bool asked_direct(void)
{
    const char *direct = getenv("SOFTKVM_DIRECT");
    return direct && strcmp(direct, "always") == 0;
}

static const struct place {
    uint64_t la;
    bool user, write;
} places[] = {
    {L0, true, true},
    {L0 + 0x2000, true, false},
    {L0 + 0x3000, true, true},
    {L0 + 0x4000, true, true},
    {0x7ffffffff000, true, true},
    {0xffff800000000000, false, true},
    {0xfffffffffffff000, false, true},
};

/* ---- what may come of an access: a set of ports ---- */

enum { R = 1, W = 2, THROUGH = 30 };
#define SET(n) (1u << (n))
enum { BP = 3, SS = 12, GP = 13, PF = 14 };

static bool canonical(uint64_t la)
{
    return (uint64_t)((int64_t)(la << 16) >> 16) == la;
}

static bool allowed(uint64_t la, unsigned access, bool user)
{
    if (la < 2 * MIB)
        return true;
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        if ((la & ~4095ull) == places[i].la)
            return (places[i].user || !user) && (places[i].write || !(access & W));
    return false;
}

struct access {
    uint64_t la;
    unsigned size, access, align;
    bool stack;
};

/* SDM vol. 1, 3.3.7.1 and vol. 3, 4.7. Where an access has more than one flaw, the manual leaves open which is told. */
static uint32_t outcome(const struct access *a, bool user)
{
    uint64_t last = a->la + a->size - 1;
    uint32_t set = 0, not_canonical = SET(a->stack ? SS : GP);
    if (a->align && a->la % a->align)
        set |= SET(GP);
    if (!canonical(a->la) || !canonical(last))
        set |= not_canonical;
    for (uint64_t page = a->la & ~4095ull;; page += 4096) {
        if (canonical(page) && !allowed(page, a->access, user))
            set |= SET(PF);
        if (page == (last & ~4095ull))
            break;
    }
    if (last < a->la && !set) /* around the end of 64 bits: on some processors, and what it loads is anything */
        return ~0u;
    return set ? set : SET(THROUGH);
}

/* ---- the guest ---- */

static struct {
    struct guest *g;
    struct kvm_sregs sregs;
    unsigned pool;
    bool user, in_user; /* the tries are in ring 3; the vCPU is */
    uint64_t tries;
} t;

static uint64_t *entry(uint64_t table, unsigned n)
{
    return (uint64_t *)(void *)(t.g->ram + (table & 0xffffff000)) + n;
}

static void map(uint64_t la, uint64_t gpa, unsigned flags)
{
    uint64_t table = 0x100000;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
        uint64_t *e = entry(table, la >> shift & 511);
        if (!*e)
            *e = (POOL + 4096 * t.pool++) | 7;
        table = *e;
    }
    *entry(table, la >> 12 & 511) = gpa | flags | 1;
}

/* The first 2 MiB by small pages, as they are, but for the code: ring 3 may not write it. */
static void map_low(void)
{
    uint64_t code_end = CODE_AT + (uint64_t)(escape_to_user + SNIPPET - escape_ops);
    for (uint64_t gpa = 0; gpa < 2 * MIB; gpa += 4096)
        *entry(LOW, (unsigned)(gpa / 4096)) = gpa | ((gpa >= CODE_AT && gpa < code_end) || gpa == USER_CODE ? 5 : 7);
    *entry(0x102000, 0) = LOW | 7;
}

static void fill_pages(void)
{
    memset(t.g->ram + PAGES, FILL, 2 * ARRAY_SIZE(places) * 4096);
}

static void set_gate(unsigned vector)
{
    uint64_t *gate = (uint64_t *)(void *)(t.g->ram + 0x104000) + 2 * vector, to = STUBS + 16 * vector;
    memcpy(t.g->ram + to, (uint8_t[]){0xe6, (uint8_t)vector, 0xf4}, 3);              /* out vector,al; hlt */
    gate[0] = (to & 0xffff) | 8 << 16 | (to >> 16 & 0xffff) << 48 | 0xee01ull << 32; /* DPL 3, IST 1 */
    gate[1] = 0;
}

static void set_sregs(void)
{
    struct kvm_sregs *s = &t.sregs;
    uint64_t *gdt = (uint64_t *)(void *)(t.g->ram + 0x103000);
    gdt[USER_CS / 8] = 0x00affb000000ffffull;
    gdt[USER_SS / 8] = 0x00cff3000000ffffull;
    gdt[USER_CS32 / 8] = 0x00cffb000000ffffull;
    OK(t.g->vcpu[0], KVM_GET_SREGS, s);
    s->gdt.limit = 0x37;
    s->ds.selector = USER_SS; /* IRET leaves these alone */
    s->ds.dpl = 3;
    s->es = s->fs = s->gs = s->ds;
    s->fs.base = FS_BASE;
    s->gs.base = GS_BASE;
    s->tr = (struct kvm_segment){.base = TSS, .limit = TSS_LIMIT, .selector = 0x18, .type = 11, .present = 1};
    s->cr4 |= 1u << 16; /* FSGSBASE */
    s->cr4 |= __builtin_cpu_supports("avx2") ? 1u << 18 : 0;
    OK(t.g->vcpu[0], KVM_SET_SREGS, s);
}

/* Where this process has memory of its own, as far from the guest's page as there. */
#define CANARIES 9
static const int64_t canary_at[CANARIES] = {
    -(int64_t)GIB, -(int64_t)(16 * MIB), -65536, -4096, GUEST_RAM, GUEST_RAM + 65536, 16 * MIB, GIB, 0x7ffff000};
static uint8_t *reservation;
#define RESERVED (4 * GIB)

static uint8_t *canary(unsigned n)
{
    return t.g->ram + canary_at[n];
}

static void guest_begin(void)
{
    t.pool = 0;
    reservation = mmap(NULL, RESERVED, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(reservation != MAP_FAILED);
    guest_ram_at = reservation + 2 * GIB;
    t.g = guest_new(1, GUEST_CPUID);
    for (unsigned n = 0; n < CANARIES; n++) {
        CHECK(!mprotect(canary(n), 4096, PROT_READ | PROT_WRITE));
        memset(canary(n), 0xc5, 4096);
    }
    guest_long(t.g, 0, CODE_AT, escape_ops, (size_t)(escape_to_user + SNIPPET - escape_ops));
    map_low();
    memset(t.g->ram + TSS, 0, TSS_LIMIT);
    t.g->ram[TSS + TSS_LIMIT] = 0xff;
    memcpy(t.g->ram + TSS + 102, &(uint16_t){0x68}, 2);
    memcpy(t.g->ram + TSS + 36, &(uint64_t){IST_TOP}, 8);
    for (unsigned n = 0; n < 32; n++)
        set_gate(n);
    for (unsigned n = 0; n < ARRAY_SIZE(places); n++)
        map(places[n].la, PAGES + 8192 * n, (places[n].user ? 4u : 0) | (places[n].write ? 2u : 0));
    fill_pages();
    set_sregs();
    if (__builtin_cpu_supports("avx2")) {
        struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.value = 7}}};
        OK(t.g->vcpu[0], KVM_SET_XCRS, &x);
    }
    t.g->run[0]->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    t.user = t.in_user = false;
}

/* Some containers forbid it, and so do debuggers of this program. */
static bool can_trace(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0);
    int status;
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* Where it is asked for, ring 3 has run natively. */
static void check_direct(void)
{
    if (!asked_direct() || !t.user)
        return;
    int fd = OK(t.g->vcpu[0], KVM_GET_STATS_FD, 0);
    int64_t stops = figure(fd, "direct_stops");
    close(fd);
    if (can_trace())
        CHECK(stops > 0);
    else
        printf("skip: ptrace is not allowed here, so ring 3 was translated\n");
}

static void guest_end(void)
{
    check_direct();
    for (unsigned n = 0; n < CANARIES; n++)
        for (unsigned i = 0; i < 4096; i++)
            CHECK_EQ(canary(n)[i], 0xc5);
    guest_free(t.g);
    CHECK(!munmap(reservation, RESERVED));
}

static uint64_t snippet(const uint8_t *first, unsigned n)
{
    return CODE_AT + (uint64_t)(first - escape_ops) + SNIPPET * n;
}

/* Runs a snippet; returns the port that it left by. */
static unsigned try(uint64_t rip, struct kvm_regs r)
{
    struct kvm_run *run = t.g->run[0];
    r.rip = rip;
    r.rflags = 2;
    if (t.user) {
        memcpy(t.g->ram + USER_CODE, t.g->ram + rip, SNIPPET);
        const uint64_t frame[] = {USER_CODE, USER_CS, 0x202, r.rsp, USER_SS};
        memcpy(t.g->ram + FRAME, frame, sizeof frame);
        r.rip = snippet(escape_to_user, 0);
        r.rsp = FRAME;
    }
    run->s.regs.regs = r;
    run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
    if (t.user) { /* also for the TLB: the code has changed */
        run->s.regs.sregs = t.sregs;
        run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    }
    RUN(t.g, 0, KVM_EXIT_IO);
    bool through = run->io.port == 0x80; /* else it is at a handler, in ring 0 */
    t.in_user = t.user && through;
    return through ? THROUGH : run->io.port;
}

static void forget(void)
{
    OK(t.g->vcpu[0], KVM_SET_SREGS, &t.sregs);
    t.in_user = false;
}

/* The first byte that is not there; instructions with much to store may begin anywhere. */
static bool faults_there(const struct access *a, uint64_t cr2)
{
    return cr2 == a->la || (cr2 - a->la < a->size && (!(cr2 & 4095) || a->size >= 16));
}

static void judge(const char *what, const char *how, uint64_t x, const struct access *a, uint32_t expected, unsigned port)
{
    uint64_t cr2 = t.g->run[0]->s.regs.sregs.cr2;
    if (!(expected & SET(port)))
        test_fail(__FILE__, __LINE__, "%s %s, address %#llx, ring %d: leaves by %u, expected one of %#x; cr2 %#llx", what, how,
                  (unsigned long long)x, t.user ? 3 : 0, port, expected, (unsigned long long)cr2);
    if (port == PF && a && expected != ~0u && !faults_there(a, cr2))
        test_fail(__FILE__, __LINE__, "%s %s, address %#llx, ring %d: cr2 is %#llx", what, how, (unsigned long long)x,
                  t.user ? 3 : 0, (unsigned long long)cr2);
    if (port == THROUGH)
        fill_pages();
}

/* ---- addresses ---- */

#define MAX_ADDRESSES 4096
static uint64_t addresses[MAX_ADDRESSES];
static unsigned naddresses;

static void add(uint64_t x)
{
    if (naddresses < MAX_ADDRESSES && x >= 2 * MIB) /* not what the guest itself is made of */
        addresses[naddresses++] = x;
}

static void add_around(uint64_t x)
{
    static const unsigned below[] = {1, 2, 4, 5, 7, 8, 15, 16, 31, 32, 512};
    add(x);
    for (unsigned i = 0; i < ARRAY_SIZE(below); i++)
        add(x - below[i]);
}

/* The host's own addresses, and those that lead to them if what is added to a page of the guest is added to them too. */
static void add_host(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    char line[512];
    unsigned long from, to;
    CHECK(f);
    for (unsigned n = 0; n < 100 && fgets(line, sizeof line, f); n++)
        if (sscanf(line, "%lx-%lx", &from, &to) == 2) {
            add(from);
            add(L0 + from - (uintptr_t)(t.g->ram + PAGES));
        }
    fclose(f);
    for (unsigned n = 0; n < CANARIES; n++)
        add(L0 + (uintptr_t)canary(n) + 64 - (uintptr_t)(t.g->ram + PAGES));
}

static void find_addresses(void)
{
    naddresses = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        add_around(places[i].la);
        add_around(places[i].la + 4096);
        for (unsigned bit = 47; bit < 64; bit++) /* other names with the same 47 or 48 bits */
            add(places[i].la ^ 1ull << bit ^ 64);
        add((places[i].la & 0xffffffffffff) | 64);
        add(places[i].la | 0xffff000000000000 | 64);
        add(places[i].la ^ 0xffff000000000000 ^ 64);
    }
    add_around(0);
    add_around(1ull << 32);
    add_around(1ull << 63);
    add_around(0xffff800000000000);
    add_around(0x800000000000);
    add_host();
}

/* ---- each operation with each shape of address ---- */

enum { NOT_STACK = 1, NONE = 2, TO_GP = 4, AVX = 8 };
static const struct op {
    const char *name;
    uint16_t size;
    uint8_t access, align, flags;
} ops[] = {
    {"load8", 1, R, 0, 0},
    {"load16", 2, R, 0, 0},
    {"load32", 4, R, 0, 0},
    {"load64", 8, R, 0, 0},
    {"store8", 1, W, 0, 0},
    {"store16", 2, W, 0, 0},
    {"store32", 4, W, 0, 0},
    {"store64", 8, W, 0, 0},
    {"add", 4, R | W, 0, 0},
    {"lock inc", 8, R | W, 0, 0},
    {"xchg", 8, R | W, 0, 0},
    {"cmp", 1, R, 0, 0},
    {"cmpxchg16b", 16, R | W, 16, 0},
    {"lock cmpxchg", 1, R | W, 0, 0},
    {"bts", 8, R | W, 0, 0},
    {"movbe", 8, R, 0, 0},
    {"imul", 8, R, 0, 0},
    {"setc", 1, W, 0, 0},
    {"movzx", 1, R, 0, 0},
    {"shl", 2, R | W, 0, 0},
    {"push", 8, R, 0, NOT_STACK},
    {"pop", 8, W, 0, NOT_STACK},
    {"call", 8, R, 0, NOT_STACK | TO_GP},
    {"jmp", 8, R, 0, TO_GP},
    {"movups load", 16, R, 0, 0},
    {"movups store", 16, W, 0, 0},
    {"movaps", 16, R, 16, 0},
    {"movntdq", 16, W, 16, 0},
    {"movss", 4, R, 0, 0},
    {"movlps", 8, W, 0, 0},
    {"paddb", 16, R, 16, 0},
    {"pmovzx", 8, R, 0, 0},
    {"movq mmx load", 8, R, 0, 0},
    {"movq mmx store", 8, W, 0, 0},
    {"fld", 10, R, 0, 0},
    {"fstp", 10, W, 0, 0},
    {"fild", 8, R, 0, 0},
    {"fnstcw", 2, W, 0, 0},
    {"fnstenv", 28, W, 0, 0},
    {"fxsave", 512, W, 16, 0},
    {"ldmxcsr", 4, R, 0, TO_GP},
    {"stmxcsr", 4, W, 0, 0},
    {"sgdt", 10, W, 0, 0},
    {"lfs", 6, R, 0, TO_GP},
    {"ljmp", 6, R, 0, TO_GP},
    {"nop", 2, R, 0, NONE},
    {"prefetch", 1, R, 0, NONE},
    {"vmovups load", 32, R, 0, AVX},
    {"vmovups store", 32, W, 0, AVX},
    {"vaddps", 32, R, 0, AVX},
    {"vmaskmov", 32, W, 0, AVX},
};

static const char *const modes[] = {"(rbx)", "127(rbx)", "4096(rbx)", "-2G(rbx)",        "2G(rbx)",     "16(,rcx,4)", "(ebx)",
                                    "(rbp)", "8(rsp)",   "fs:(rbx)",  "gs:8(rbx,rcx,2)", "(rbx,rcx,8)", "-8(rcx,rbx)"};
enum { MODE_RBP = 7, MODE_RSP = 8 };

/* Registers that make mode m's address x, or near it where it cannot; returns what it is. */
static uint64_t aim(unsigned m, uint64_t x, struct kvm_regs *r)
{
    static const int64_t disp[] = {0, 0x7f, 0x1000, -0x80000000ll, 0x7fffffff};
    r->rbx = L0 + ((x - L0) & 7);
    switch (m) {
    case 5:
        r->rcx = (x - 16) >> 2;
        return x & ~3ull;
    case 6:
        r->rbx = x;
        return (uint32_t)x;
    case MODE_RBP:
        r->rbp = x;
        return x;
    case MODE_RSP:
        r->rsp = x - 8;
        return x;
    case 9:
        r->rbx = x - FS_BASE;
        return x;
    case 10:
        r->rcx = 0x123456789abc;
        r->rbx = x - GS_BASE - 2 * r->rcx - 8;
        return x;
    case 11:
        r->rcx = (x - r->rbx) >> 3;
        return x;
    case 12:
        r->rbx = L0 + 128;
        r->rcx = x + 8 - r->rbx;
        return x;
    default:
        r->rbx = x - (uint64_t)disp[m];
        return x;
    }
}

static void try_op(const struct op *o, unsigned n, unsigned m, uint64_t x)
{
    struct kvm_regs r = {.rax = 0xcccccccccccccccc, .rsp = 0x80000};
    bool stack = m == MODE_RBP || m == MODE_RSP;
    struct access a = {aim(m, x, &r), o->size, o->access, o->align, stack};
    if (a.la < 2 * MIB || (o->flags & TO_GP && a.la + o->size < a.la)) /* what the guest itself is made of */
        return;
    uint32_t expected = o->flags & NONE ? SET(THROUGH) : outcome(&a, t.user);
    if (o->flags & TO_GP && expected == SET(THROUGH)) /* what it loads is no address, selector or MXCSR */
        expected = SET(GP);
    judge(o->name, modes[m], a.la, &a, expected, try(snippet(escape_ops, m * ARRAY_SIZE(ops) + n), r));
}

static void operations(void)
{
    guest_begin();
    CHECK_EQ(escape_ops_end - escape_ops, SNIPPET * ARRAY_SIZE(ops) * ARRAY_SIZE(modes));
    bool avx = __builtin_cpu_supports("avx2");
    CHECK_EQ(try(avx ? snippet(escape_begin_avx, 0) : snippet(escape_begin, 0), (struct kvm_regs){.rsp = 0x80000}), THROUGH);
    find_addresses();
    for (unsigned user = 0; user < 2; user++) {
        t.user = user;
        for (unsigned m = 0; m < ARRAY_SIZE(modes); m++)
            for (unsigned n = 0; n < ARRAY_SIZE(ops); n++) {
                if ((ops[n].flags & AVX && !avx) || (ops[n].flags & NOT_STACK && m == MODE_RSP))
                    continue;
                for (unsigned i = 0; i < naddresses; i++)
                    try_op(&ops[n], n, m, addresses[i]);
            }
    }
    guest_end();
}

/* ---- operations that have their addresses elsewhere ---- */

enum reg { NO_REG, RSI, RDI, RSP, RBP, RBX, BITS64, BITS32, GATHER };
enum { REP = 16, LOOSE = 32, FETCH = 64, KERNEL_ONLY = 128 };
static const struct other {
    const char *name;
    struct {
        uint8_t reg, size, access;
        int16_t off;
    } a[2]; /* in the order that it takes them */
    uint8_t flags;
} others[] = {
    {"lodsb", {{RSI, 1, R, 0}}, 0},
    {"lodsq", {{RSI, 8, R, 0}}, 0},
    {"stosb", {{RDI, 1, W, 0}}, 0},
    {"stosl", {{RDI, 4, W, 0}}, 0},
    {"movsb", {{RSI, 1, R, 0}, {RDI, 1, W, 0}}, 0},
    {"movsq", {{RSI, 8, R, 0}, {RDI, 8, W, 0}}, 0},
    {"scasw", {{RDI, 2, R, 0}}, 0},
    {"cmpsq", {{RSI, 8, R, 0}, {RDI, 8, R, 0}}, 0},
    {"rep lodsb", {{RSI, 1, R, 0}}, REP},
    {"rep stosb", {{RDI, 1, W, 0}}, REP},
    {"rep stosq", {{RDI, 8, W, 0}}, REP},
    {"rep movsb", {{RSI, 1, R, 0}, {RDI, 1, W, 0}}, REP},
    {"rep movsq", {{RSI, 8, R, 0}, {RDI, 8, W, 0}}, REP},
    {"repe scasb", {{RDI, 1, R, 0}}, REP},
    {"repe cmpsb", {{RSI, 1, R, 0}, {RDI, 1, R, 0}}, REP},
    {"maskmovdqu", {{RDI, 16, W, 0}}, 0},
    {"maskmovq", {{RDI, 8, W, 0}}, 0},
    {"push", {{RSP, 8, W, -8}}, 0},
    {"push imm", {{RSP, 8, W, -8}}, 0},
    {"push16", {{RSP, 2, W, -2}}, 0},
    {"pushf", {{RSP, 8, W, -8}}, 0},
    {"pop", {{RSP, 8, R, 0}}, 0},
    {"pop16", {{RSP, 2, R, 0}}, 0},
    {"popf", {{RSP, 8, R, 0}}, 0},
    {"ret", {{RSP, 8, R, 0}}, TO_GP},
    {"lret", {{RSP, 16, R, 0}}, TO_GP},
    {"iret", {{RSP, 40, R, 0}}, TO_GP},
    {"leave", {{RBP, 8, R, 0}}, 0},
    {"enter", {{RSP, 8, W, -8}}, LOOSE},
    {"enter 3", {{RSP, 8, W, -8}}, LOOSE},
    {"call", {{RSP, 8, W, -8}}, 0},
    {"xlat", {{RBX, 1, R, 0xcc}}, 0},
    {"jmp to", {{RDI, 1, R, 0}}, FETCH},
    {"ret to", {{RDI, 1, R, 0}}, FETCH},
    {"call to", {{RDI, 1, R, 0}}, FETCH},
    {"clflush", {{RDI, 1, R, 0}}, 0},
    {"invlpg", {{NO_REG, 0, 0, 0}}, KERNEL_ONLY},
    {"bts", {{BITS64, 8, R | W, 0}}, 0},
    {"lock btc", {{BITS32, 4, R | W, 0}}, 0},
    {"bt", {{BITS64, 8, R, 0}}, 0},
    {"vpgatherqq", {{GATHER, 8, R, 0}}, AVX},
};

/* Gives the register behind access `n` the address x; returns false where it cannot be. */
static bool aim_other(const struct other *o, unsigned n, uint64_t x, struct kvm_regs *r)
{
    uint64_t to = x - (uint64_t)(int64_t)o->a[n].off, bits;
    switch (o->a[n].reg) {
    case RSI:
        r->rsi = to;
        return true;
    case RDI:
        r->rdi = to;
        return true;
    case RSP:
        r->rsp = to;
        return true;
    case RBP:
        r->rbp = to;
        return true;
    case RBX:
        r->rbx = to;
        return true;
    case BITS64:
        bits = (x - L0) * 8;
        r->rcx = bits;
        return !(x & 7) && (uint64_t)((int64_t)bits >> 3) == x - L0;
    case BITS32:
        bits = (x - L0) * 8;
        r->rcx = bits;
        return !(x & 3) && (uint64_t)((int64_t)(int32_t)bits >> 3) == x - L0;
    case GATHER: {
        struct kvm_fpu f;
        OK(t.g->vcpu[0], KVM_GET_FPU, &f);
        memcpy(f.xmm[1], &(uint64_t[2]){x - L0, 64}, 16);
        OK(t.g->vcpu[0], KVM_SET_FPU, &f);
        return true;
    }
    default:
        return true;
    }
}

static void try_other(const struct other *o, unsigned n, unsigned which, uint64_t x)
{
    struct kvm_regs r = {
        .rax = 0xcccccccccccccccc, .rbx = L0, .rcx = 0x180, .rsi = L0 + 64, .rdi = L0 + 0x3040, .rbp = 0x80000, .rsp = 0x80000};
    bool stack = o->a[which].reg == RSP || o->a[which].reg == RBP;
    struct access a = {x, o->a[which].size * (o->flags & REP ? (unsigned)r.rcx : 1), o->a[which].access, 0, stack};
    if (!aim_other(o, which, x, &r) || (o->flags & TO_GP && x + a.size < x))
        return;
    uint32_t expected = o->flags & KERNEL_ONLY ? SET(t.user ? GP : THROUGH) : outcome(&a, t.user);
    bool through = expected == SET(THROUGH);
    if (o->flags & TO_GP && (through || a.size > 8)) /* of a frame, what comes first is wrong already */
        expected = (expected & ~SET(THROUGH)) | SET(GP);
    if (o->flags & FETCH && through)
        expected = SET(BP);
    if (o->flags & LOOSE)
        expected |= SET(SS) | SET(PF);
    unsigned port = try(snippet(escape_others, n), r);
    judge(o->name, which ? "second address" : "", x, o->flags & LOOSE ? NULL : &a, expected, port);
}

static void other_operations(void)
{
    guest_begin();
    CHECK_EQ(escape_others_end - escape_others, SNIPPET * ARRAY_SIZE(others));
    CHECK_EQ(try(snippet(escape_begin, 0), (struct kvm_regs){.rsp = 0x80000}), THROUGH);
    find_addresses();
    for (unsigned user = 0; user < 2; user++) {
        t.user = user;
        for (unsigned n = 0; n < ARRAY_SIZE(others); n++) {
            if (others[n].flags & AVX && !__builtin_cpu_supports("avx2"))
                continue;
            for (unsigned which = 0; which < 2 && (which == 0 || others[n].a[which].reg); which++)
                for (unsigned i = 0; i < naddresses; i++)
                    try_other(&others[n], n, which, addresses[i]);
        }
    }
    guest_end();
}

/* ---- code at the edges: addresses relative to rip ---- */

/* mov eax,[rip+disp] or mov [rip+disp],eax; out 0x80,al */
static uint64_t put_code(uint8_t *page, unsigned at, int32_t disp, bool store)
{
    memcpy(page + at, (uint8_t[]){store ? 0x89 : 0x8b, 0x05, 0, 0, 0, 0, 0xe6, 0x80}, 8);
    memcpy(page + at + 2, &disp, 4);
    return at + 6;
}

static void relative_to_rip(void)
{
    guest_begin();
    static const int32_t far[] = {0x7fffffff, -0x7fffffff - 1, 0x10000, -0x10000, 0x40000000, -0x40000000};
    for (unsigned p = 0; p < ARRAY_SIZE(places); p++) {
        uint8_t *page = t.g->ram + PAGES + 8192 * p;
        for (unsigned n = 0; n < 2 * (64 + ARRAY_SIZE(far)); n++) {
            bool store = n & 1;
            int32_t disp = n / 2 < 64 ? 4096 - 32 + (int32_t)(n / 2) - 0x806 : far[n / 2 - 64];
            uint64_t x = places[p].la + put_code(page, 0x800, disp, store) + (uint64_t)(int64_t)disp;
            if (x < 2 * MIB)
                continue;
            forget(); /* the code that was there */
            struct access a = {x, 4, store ? W : R, 0, false};
            judge(store ? "store" : "load", "rip", x, &a, outcome(&a, false),
                  try(places[p].la + 0x800, (struct kvm_regs){.rsp = 0x80000, .rax = 0xcccccccccccccccc}));
        }
    }
    guest_end();
}

/* Instructions that begin in a page and end in the next, or would. */
static void code_across_pages(void)
{
    guest_begin();
    for (unsigned p = 0; places[p].la + 4096; p++)
        for (unsigned left = 1; left < 8; left += left == 5 ? 2 : 1) { /* 6 would take the port from the next page */
            uint8_t *page = t.g->ram + PAGES + 8192 * p;
            const uint8_t code[] = {0xb8, 1, 2, 3, 4, 0xe6, 0x80, 0xcc};
            uint64_t at = places[p].la + 4096 - left;
            memcpy(page + 4096 - left, code, left);
            forget();
            struct access a = {at, left < 7 ? 6 : left, R, 0, false};
            uint32_t expected = outcome(&a, false);
            if (left < 7 && expected & SET(THROUGH)) /* the next page has int3 */
                expected = (expected & ~SET(THROUGH)) | SET(BP);
            judge("code", "across pages", at, NULL, expected, try(at, (struct kvm_regs){.rsp = 0x80000}));
            fill_pages();
        }
    guest_end();
}

/* ---- guest-physical addresses that no slot has ---- */

#define TAIL  (64 * KIB) /* of the guest's RAM is in no slot */
#define SHORT (GUEST_RAM - TAIL)

/* A load and a store: each leaves for MMIO there and is then through. */
static void expect_mmio(uint64_t la, uint64_t gpa)
{
    struct kvm_run *run = t.g->run[0];
    for (unsigned store = 0; store < 2; store++) {
        run->s.regs.regs = (struct kvm_regs){.rip = snippet(escape_ops, store ? 7 : 3), .rbx = la, .rsp = 0x80000, .rflags = 2};
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
        RUN(t.g, 0, KVM_EXIT_MMIO);
        CHECK_EQ(run->mmio.phys_addr, gpa);
        CHECK_EQ(run->mmio.is_write, store);
        while (run->exit_reason == KVM_EXIT_MMIO)
            OK(t.g->vcpu[0], KVM_RUN, 0);
        CHECK_EQ(run->exit_reason, KVM_EXIT_IO);
        CHECK_EQ(run->io.port, 0x80);
    }
}

static void no_slot(void)
{
    guest_begin();
    set_region(t.g, 0, 0, 0, 0, NULL);
    set_region(t.g, 0, 0, 0, SHORT, t.g->ram);
    memset(t.g->ram + SHORT, 0xc5, TAIL);
    /* In the 2 MiB page that the guest runs in, and that the slot ends in. */
    CHECK_EQ(try(snippet(escape_ops, 7), (struct kvm_regs){.rbx = SHORT - 8, .rsp = 0x80000}), THROUGH);
    expect_mmio(SHORT, SHORT);
    expect_mmio(SHORT - 3, SHORT);
    expect_mmio(GUEST_RAM - 8, GUEST_RAM - 8);
    static const uint64_t beyond[] = {SHORT, GUEST_RAM, GUEST_RAM + 65536, GIB, 2 * GIB, 4 * GIB - 65536, 1ull << 38};
    for (unsigned n = 0; n < ARRAY_SIZE(beyond); n++) {
        map(L0 + 0x10000 + 4096 * n, beyond[n], 7);
        expect_mmio(L0 + 0x10010 + 4096 * n, beyond[n] + 16);
    }
    /* Tables that are in no slot. */
    for (unsigned n = 0; n < ARRAY_SIZE(beyond); n++) {
        *entry(0x100000, 1 + n) = beyond[n] | 7;
        CHECK_EQ(try(snippet(escape_ops, 3), (struct kvm_regs){.rbx = (1ull + n) << 39, .rsp = 0x80000}), PF);
        CHECK_EQ(try(snippet(escape_ops, 7), (struct kvm_regs){.rbx = (1ull + n) << 39, .rsp = 0x80000}), PF);
    }
    for (unsigned i = 0; i < TAIL; i++)
        CHECK_EQ(t.g->ram[SHORT + i], 0xc5);
    guest_end();
}

#define EMULATED "a software-only /dev/kvm emulates this code, and not all of it"
const struct test tests[] = {
    {"operations", operations, EMULATED},
    {"other operations", other_operations, EMULATED},
    {"relative to rip", relative_to_rip, EMULATED},
    {"code across pages", code_across_pages, EMULATED},
    {"no slot", no_slot, EMULATED},
    {NULL, NULL, NULL},
};
