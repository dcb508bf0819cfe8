// SPDX-License-Identifier: GPL-2.0-or-later
/* Several vCPUs on threads of their own: pauses, memslot changes and the dirty log under way, locked accesses across pages, IPIs.
 */
#include "threads.h"

#define VCPUS 3

/* Runs `n` vCPUs until each has made an exit. */
static void run_all(struct guest *g, struct runner *r, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        runner_start(&r[i], g, i);
    for (unsigned i = 0; i < n; i++) {
        CHECK(runner_ends(&r[i]));
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_HLT);
    }
}

/* Atomics: each vCPU adds 1 to one word 20,000 times. */
static void atomic_add(void)
{
    struct guest *g = guest_new(VCPUS, GUEST_CPUID);
    struct runner r[VCPUS];
    /* mov ecx,20000; again: lock inc dword [0x3000]; dec ecx; jnz again; hlt */
    for (unsigned i = 0; i < VCPUS; i++)
        guest_long(g, i, 0x1000,
                   CODE(0xb9, 0x20, 0x4e, 0, 0, 0xf0, 0xff, 0x04, 0x25, 0x00, 0x30, 0, 0, 0xff, 0xc9, 0x75, 0xf4, 0xf4));
    run_all(g, r, VCPUS);
    CHECK_EQ(*(uint32_t *)(void *)(g->ram + 0x3000), 20000 * VCPUS);
}

/* The same across a page boundary: there is no such host instruction to use, so the others are held. */
static void atomic_add_crossing(void)
{
    struct guest *g = guest_new(VCPUS, GUEST_CPUID);
    struct runner r[VCPUS];
    for (unsigned i = 0; i < VCPUS; i++)
        guest_long(g, i, 0x1000,
                   CODE(0xb9, 0xe8, 0x03, 0, 0, 0xf0, 0xff, 0x04, 0x25, 0xfe, 0x3f, 0, 0, 0xff, 0xc9, 0x75, 0xf4, 0xf4));
    run_all(g, r, VCPUS);
    uint32_t sum;
    memcpy(&sum, g->ram + 0x3ffe, 4);
    CHECK_EQ(sum, 1000 * VCPUS);
}

/* A locked access across pages into MMIO exits while the others are held, and lets them go. */
static void crossing_into_mmio(void)
{
    struct guest *g = guest_new(2, GUEST_CPUID);
    guest_cut_ram(g, 0x180000);
    guest_long(g, 0, 0x1000, CODE(0xf0, 0xff, 0x04, 0x25, 0xfe, 0xff, 0x17, 0, 0xf4)); /* lock inc dword [0x17fffe]; hlt */
    guest_long(g, 1, 0x2000, CODE(0xb9, 0x00, 0x80, 0, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4));
    struct runner other;
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    runner_start(&other, g, 1); /* not held by an instruction that waits for user space */
    CHECK(runner_ends(&other));
    CHECK_EQ(runner_join(&other), KVM_EXIT_HLT);
    memcpy(run->mmio.data, "\xff\xff", 2);
    do {
        OK(g->vcpu[0], KVM_RUN, 0);
    } while (run->exit_reason == KVM_EXIT_MMIO);
    CHECK_EQ(run->exit_reason, KVM_EXIT_HLT);
}

/* Slots come and go elsewhere while two vCPUs run; their own memory is never gone. */
static void slots_under_way(void)
{
    struct guest *g = guest_new(2, GUEST_CPUID);
    struct runner r[2];
    uint8_t *p = pages_new(0x10000);
    /* mov ecx,3000000; again: inc dword [0x3000 + cpu*8]; dec ecx; jnz again; hlt */
    for (unsigned i = 0; i < 2; i++)
        guest_long(g, i, 0x1000 + 0x100 * i,
                   CODE(0xb9, 0xc0, 0xc6, 0x2d, 0, 0xff, 0x04, 0x25, (uint8_t)(8 * i), 0x30, 0, 0, 0xff, 0xc9, 0x75, 0xf5, 0xf4));
    for (unsigned i = 0; i < 2; i++)
        runner_start(&r[i], g, i);
    unsigned changes = 0;
    for (; !r[0].done || !r[1].done; changes++) {
        set_region(g, 1, 0, 0x400000 + (changes % 2) * 0x100000, 0x10000, p);
        set_region(g, 1, 0, 0, 0, NULL);
        CHECK(changes < 1000000);
    }
    for (unsigned i = 0; i < 2; i++) {
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_HLT);
        CHECK_EQ(*(uint32_t *)(void *)(g->ram + 0x3000 + 8 * i), 3000000);
    }
}

/* A copy that races with the guest on purpose: what it gets wrong is in the next log. */
static __attribute__((no_sanitize("thread"))) void copy_page(uint8_t *to, const uint8_t *from)
{
    for (unsigned i = 0; i < 4096; i += 8)
        *(volatile uint64_t *)(void *)(to + i) = *(const volatile uint64_t *)(const void *)(from + i);
}

/*
 * The dirty log, read while the guest writes: a copy that takes over the pages that the log names, time and again, ends up equal to
 * the guest's memory. That is live migration.
 */
static void dirty_log_under_way(void)
{
    struct guest *g = guest_new(2, GUEST_LOG | GUEST_CPUID);
    struct runner r[2];
    uint8_t *copy = pages_new(GUEST_RAM);
    uint64_t bits[GUEST_RAM / 4096 / 64];
    struct kvm_dirty_log log = {.slot = 0, .dirty_bitmap = bits};
    /* mov ecx,1000000; again: imul edx,edx,0x41c64e6d; add edx,12345; mov eax,edx; and eax,0x3fffc; inc dword [rax+0x8000 or
     * 0x88000]; dec ecx; jnz again; hlt */
    for (unsigned i = 0; i < 2; i++)
        guest_long(g, i, 0x1000 + 0x100 * i,
                   CODE(0xb9, 0x40, 0x42, 0x0f, 0, 0x69, 0xd2, 0x6d, 0x4e, 0xc6, 0x41, 0x81, 0xc2, 0x39, 0x30, 0, 0, 0x89, 0xd0,
                        0x25, 0xfc, 0xff, 0x03, 0, 0xff, 0x80, 0x00, 0x80, (uint8_t)(8 * i), 0, 0xff, 0xc9, 0x75, 0xe3, 0xf4));
    memcpy(copy, g->ram, GUEST_RAM);
    for (unsigned i = 0; i < 2; i++)
        runner_start(&r[i], g, i);
    for (bool last = false; !last; usleep(500)) { /* who asks without a break leaves the vCPUs hardly any time */
        last = r[0].done && r[1].done;
        OK(g->vm, KVM_GET_DIRTY_LOG, &log);
        for (unsigned p = 0; p < GUEST_RAM / 4096; p++)
            if (bits[p / 64] >> (p % 64) & 1)
                copy_page(copy + p * 4096, g->ram + p * 4096);
    }
    for (unsigned i = 0; i < 2; i++)
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_HLT);
    CHECK(!memcmp(copy, g->ram, GUEST_RAM));
}

/* Real mode with a data segment of 4 GiB, which reaches the LAPIC; that is enabled. */
static void big_real(struct guest *g, unsigned cpu)
{
    guest_big_data(g, cpu);
    guest_enable_lapic(g, cpu);
}

/* Two vCPUs wake each other by IPIs and wait for them in HLT, 2,000 times: no wake-up is lost. */
static void ipi_ping_pong(void)
{
    struct guest *g = guest_new(2, GUEST_SPLIT | GUEST_CPUID);
    static const uint8_t handler[] = {0x67, 0x66, 0xc7, 0x05, 0xb0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0xcf}; /* EOI; iret */
    memcpy(g->ram + 4 * 0x40, &(uint32_t){0x2000}, 4);
    memcpy(g->ram + 0x2000, handler, sizeof(handler));
    for (unsigned i = 0; i < 2; i++) {
        uint8_t other = !i;
#define SEND \
    0x67, 0x66, 0xc7, 0x05, 0x10, 0x03, 0xe0, 0xfe, 0, 0, 0, other, 0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x40, 0x40, 0, 0
#define WAIT 0xfb, 0xf4, 0xfa
        /* mov cx,2000; again: ICR2 := other<<24, ICR := 0x4040, sti, hlt, cli, in one order or the other; loop again; out 0x10,al
         */
        const uint8_t first[] = {0xb9, 0xd0, 0x07, SEND, WAIT, 0xe2, 0xe3, 0xe6, 0x10},
                      second[] = {0xb9, 0xd0, 0x07, WAIT, SEND, 0xe2, 0xe3, 0xe6, 0x10};
        const uint8_t *code = i ? second : first;
        guest_real(g, i, (uint16_t)(0x1000 + 0x100 * i), code, sizeof(first));
        big_real(g, i);
        OK(g->vcpu[i], KVM_SET_MP_STATE, &(struct kvm_mp_state){KVM_MP_STATE_RUNNABLE});
    }
    struct runner r[2];
    for (unsigned i = 0; i < 2; i++)
        runner_start(&r[i], g, i);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(runner_ends(&r[i]));
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_IO);
    }
}

#if defined(__has_feature)
#define SANITIZED (__has_feature(thread_sanitizer) || __has_feature(address_sanitizer))
#elif defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

/*
 * Two vCPUs that have one CPU of the host between them, and hand a word to each other with PAUSE loops: the one that spins gives
 * way. Else each of the 1,000 turns would last until the host ends a time slice.
 */
static void spinner_gives_way(void)
{
    struct guest *g = guest_new(2, GUEST_CPUID);
    struct runner r[2];
    int stats[2];
    cpu_set_t all, one;
    CHECK(!sched_getaffinity(0, sizeof(all), &all));
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    for (uint8_t i = 0; i < 2; i++) {
        uint8_t other = !i;
        /* mov ecx,500; again: pause; cmp dword [0x3000],cpu; jne again; mov dword [0x3000],other; dec ecx; jnz again; hlt */
        guest_long(g, i, 0x1000 + 0x100u * i,
                   CODE(0xb9, 0xf4, 0x01, 0, 0, 0xf3, 0x90, 0x83, 0x3c, 0x25, 0, 0x30, 0, 0, i, 0x75, 0xf4, 0xc7, 0x04, 0x25, 0, 0x30, 0, 0, other, 0, 0, 0,
                        0xff, 0xc9, 0x75, 0xe5, 0xf4));
        stats[i] = OK(g->vcpu[i], KVM_GET_STATS_FD, 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        runner_start(&r[i], g, i);
        CHECK(!pthread_setaffinity_np(r[i].thread, sizeof(one), &one));
    }
    int64_t yields = 0;
    for (unsigned i = 0; i < 2; i++) {
        CHECK(runner_ends(&r[i]));
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_HLT);
        yields += figure(stats[i], "pause_yields");
        close(stats[i]);
    }
    /* Nearly each turn has one; how many more depends on who else wants the CPU. A sanitizer makes a turn of the loop so slow that it may be none. */
    if (!SANITIZED)
        CHECK(yields >= 100);
}

/* A vCPU whose waits are long sleeps between them, without polling first. */
static void idle_costs_nothing(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    int stats = OK(g->vcpu[0], KVM_GET_STATS_FD, 0);
    guest_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xeb, 0xfd));
    memcpy(g->ram + 4 * 2, &(uint32_t){0x2000}, 4);
    g->ram[0x2000] = 0xcf; /* NMI: iret */
    struct kvm_msi nmi = {.address_lo = 0xfee00000, .data = 0x400};
    struct runner r;
    runner_start(&r, g, 0);
    CHECK(runner_sleeps(&r));
    for (int64_t i = 2; i <= 20; i++) {
        OK(g->vm, KVM_SIGNAL_MSI, &nmi);
        for (unsigned n = 0; figure(stats, "halts") < i; n++, usleep(1000))
            CHECK(n < 60000);
        CHECK(runner_sleeps(&r));
    }
    __atomic_store_n(&g->run[0]->immediate_exit, 1, __ATOMIC_RELAXED);
    OK(g->vm, KVM_SIGNAL_MSI, &nmi);
    CHECK(runner_ends(&r));
    pthread_join(r.thread, NULL);
    CHECK_EQ(figure(stats, "halts"), 20);
    CHECK_EQ(figure(stats, "halt_attempted_poll"), 0);
    close(stats);
}

/* A vCPU that wakes up just when another wants it held is held, though it has nothing else to leave for. */
static void pause_meets_wake_up(void)
{
    struct guest *g = guest_new(2, GUEST_SPLIT | GUEST_CPUID);
    memcpy(g->ram + 4 * 2, &(uint32_t){0x2000}, 4);
    memcpy(g->ram + 0x2000, (const uint8_t[]){0xfe, 0x06, 0x04, 0x31, 0xcf}, 5); /* NMI: inc byte [0x3104]; iret */
    /* hlt; mov eax,[0x3ffe]; again: cmp byte [0x3100],0; jne end; cmp eax,[0x3ffe]; je again; jmp to hlt; end: mov byte [0x3108],1;
     * out 0x10,al */
    guest_real(g, 0, 0x1000, CODE(0xf4, 0x66, 0xa1, 0xfe, 0x3f, 0x80, 0x3e, 0x00, 0x31, 0, 0x75, 0x09, 0x66, 0x3b, 0x06, 0xfe, 0x3f, 0x74, 0xf2, 0xeb,
                                  0xeb, 0xc6, 0x06, 0x08, 0x31, 1, 0xe6, 0x10));
    /* mov cx,2000; next: mov al,[0x3104]; ICR := NMI for CPU 0; again: lock inc dword [0x3ffe], which crosses pages; cmp al,[0x3104];
     * je again; loop next; mov byte [0x3100],1;
     * CPU 0 may be about to halt when it takes an NMI, so the last one is repeated until it has seen the end:
     * once more: mov al,[0x3104]; ICR := NMI; wait: cmp byte [0x3108],0; jne end; cmp al,[0x3104]; je wait; mov dx,1000;
     * delay: dec dx; jnz delay; jmp once more; end: out 0x10,al */
#define NMI 0x67, 0x66, 0xc7, 0x05, 0x00, 0x03, 0xe0, 0xfe, 0x00, 0x44, 0, 0
    guest_real(g, 1, 0x1100, CODE(0xb9, 0xd0, 0x07, 0xa0, 0x04, 0x31, NMI, 0xf0, 0x66, 0xff, 0x06, 0xfe, 0x3f, 0x3a, 0x06, 0x04, 0x31, 0x74, 0xf4, 0xe2,
                                  0xe3, 0xc6, 0x06, 0x00, 0x31, 1, 0xa0, 0x04, 0x31, NMI, 0x80, 0x3e, 0x08, 0x31, 0, 0x75, 0x0e, 0x3a, 0x06, 0x04, 0x31,
                                  0x74, 0xf3, 0xba, 0xe8, 0x03, 0x4a, 0x75, 0xfd, 0xeb, 0xdc, 0xe6, 0x10));
    big_real(g, 1);
    OK(g->vcpu[1], KVM_SET_MP_STATE, &(struct kvm_mp_state){KVM_MP_STATE_RUNNABLE});
    struct runner r[2];
    for (unsigned i = 0; i < 2; i++)
        runner_start(&r[i], g, i);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(runner_ends(&r[i]));
        CHECK_EQ(runner_join(&r[i]), KVM_EXIT_IO);
    }
}

/* A look at what the guest writes meanwhile. */
static __attribute__((no_sanitize("thread"))) uint32_t peek(const struct guest *g, unsigned at)
{
    return *(const volatile uint32_t *)(const void *)(g->ram + at);
}

/* Takes a page from the running guest. */
static __attribute__((no_sanitize("thread"))) void clear_page(struct guest *g, unsigned at)
{
    for (unsigned i = 0; i < 0x1000; i += 8)
        *(volatile uint64_t *)(void *)(g->ram + at + i) = 0;
}

static uint64_t rises_above(const struct guest *g, const struct runner *r, unsigned at, uint32_t n)
{
    uint64_t now = now_ns();
    for (uint64_t end = now + 120 * NS_PER_S; peek(g, at) <= n; now = now_ns())
        CHECK(!r->done && now < end);
    return now;
}

/* From an interrupt message to its handler on a vCPU in the tightest of loops, time and again. How long it takes is printed. */
static void reaches_running_vcpu(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 0x40};
    /* The handler at 0x6000: push rax; push rcx; push rdx; inc dword [0x3000]; x2APIC EOI; pop...; iretq */
    static const uint8_t handler[] = {0x50, 0x51, 0x52, 0xff, 0x04, 0x25, 0, 0x30, 0, 0, 0xb9, 0x0b, 0x08, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30,
                                      0x5a, 0x59, 0x58, 0x48, 0xcf};
    memcpy(g->ram + 0x6000, handler, sizeof(handler));
    memcpy(g->ram + 0x5000 + 16 * 0x40, &(uint64_t){0x8e0000086000}, 8);
    guest_long(g, 0, 0x1000, CODE(0xfb, 0xff, 0x04, 0x25, 0, 0x30, 0, 0, 0xeb, 0xfe)); /* sti; inc dword [0x3000]; jmp $ */
    struct kvm_sregs sregs;
    OK(g->vcpu[0], KVM_GET_SREGS, &sregs);
    sregs.apic_base |= 3 << 10;
    sregs.idt = (struct kvm_dtable){.base = 0x5000, .limit = 0xfff};
    OK(g->vcpu[0], KVM_SET_SREGS, &sregs);
    guest_enable_lapic(g, 0);
    struct runner r;
    uint64_t best = UINT64_MAX;
    runner_start(&r, g, 0);
    rises_above(g, &r, 0x3000, 0);
    for (uint32_t n = 1; n <= 200; n++) {
        usleep(100);
        uint64_t start = now_ns();
        OK(g->vm, KVM_SIGNAL_MSI, &msi);
        best = MIN(best, rises_above(g, &r, 0x3000, n) - start);
    }
    CHECK_EQ(peek(g, 0x3000), 201);
    printf("interrupt message to handler: %llu ns, the best of 200\n", (unsigned long long)best);
    clear_page(g, 0x5000);
    OK(g->vm, KVM_SIGNAL_MSI, &msi); /* without a gate it shuts down */
    CHECK(runner_ends(&r));
    CHECK_EQ(runner_join(&r), KVM_EXIT_SHUTDOWN);
}

/* Who asks for a vCPU's state waits until its KVM_RUN is over. */
struct asker {
    struct guest *g;
    pthread_t thread;
    _Atomic bool done;
};

static void *ask(void *arg)
{
    struct asker *a = arg;
    struct kvm_regs r;
    be->ioctl(a->g->vcpu[0], KVM_GET_REGS, &r);
    a->done = true;
    return NULL;
}

static void ioctl_waits_for_run(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    guest_real(g, 0, 0x1000, CODE(0xc6, 0x06, 0x00, 0x30, 0x01 /* mov [0x3000], 1 */, 0xfb, 0xf4, 0xeb, 0xfd));
    struct runner r;
    struct asker a = {.g = g};
    runner_start(&r, g, 0);
    rises_above(g, &r, 0x3000, 0); /* its KVM_RUN has begun: a thread may sleep before that, too */
    CHECK(runner_sleeps(&r));
    CHECK(!pthread_create(&a.thread, NULL, ask, &a));
    usleep(50000);
    CHECK(!a.done);
    set_region(g, 1, 0, 0x400000, 4096, pages_new(4096)); /* which does not wait for it */
    __atomic_store_n(&g->run[0]->immediate_exit, 1, __ATOMIC_RELAXED);
    struct kvm_msi m = {.address_lo = 0xfee00000, .data = 0x400}; /* NMI: wakes it, and it finds immediate_exit */
    OK(g->vm, KVM_SIGNAL_MSI, &m);
    CHECK(runner_ends(&r));
    pthread_join(r.thread, NULL);
    pthread_join(a.thread, NULL);
    CHECK(a.done);
}

#define EMULATED "a software-only /dev/kvm emulates this code too slowly, and not all of it"
const struct test tests[] = {
    {"atomic add", atomic_add, EMULATED},
    {"atomic add across pages", atomic_add_crossing, EMULATED},
    {"locked access into mmio", crossing_into_mmio, EMULATED},
    {"slots change under way", slots_under_way, EMULATED},
    {"dirty log under way", dirty_log_under_way, EMULATED},
    {"ipi ping-pong", ipi_ping_pong, NULL},
    {"spinner gives way", spinner_gives_way, EMULATED},
    {"idle costs nothing", idle_costs_nothing, "as with ioctl waits for run"},
    {"pause meets wake-up", pause_meets_wake_up, EMULATED},
    {"interrupt reaches running vcpu", reaches_running_vcpu, EMULATED},
    {"ioctl waits for run", ioctl_waits_for_run, "without a signal the kernel's vCPU does not look at immediate_exit"},
    {NULL, NULL, NULL},
};
