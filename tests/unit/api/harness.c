// SPDX-License-Identifier: GPL-2.0-or-later
/* See harness.h. Usage: PROGRAM [NAME]: runs all tests, or those whose name contains NAME. */
#include "harness.h"

#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "softkvm.h"

/* ---- the two sides ---- */

static int kvm_open(void)
{
    return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}
static int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}
static const struct backend backends[] = {
    {"softkvm", false, softkvm_open, softkvm_ioctl, softkvm_close},
    {"/dev/kvm", true, kvm_open, kvm_ioctl, close},
};
const struct backend *be;

/* ---- failure ---- */

static jmp_buf failed;

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    printf("%s:%d: ", file, line);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    longjmp(failed, 1);
}

int check_ok(const char *file, int line, const char *what, int fd, unsigned long req, void *arg)
{
    int r = be->ioctl(fd, req, arg);
    if (r < 0)
        test_fail(file, line, "%s: %s", what, strerror(errno));
    return r;
}

void check_fails(const char *file, int line, const char *what, int fd, unsigned long req, void *arg, int err)
{
    int r = be->ioctl(fd, req, arg);
    if (r >= 0)
        test_fail(file, line, "%s gives %d, should fail with %s", what, r, strerror(err));
    if (errno != err)
        test_fail(file, line, "%s: %s, should be: %s", what, strerror(errno), strerror(err));
}

/* ---- what a test leaves behind ---- */

static struct {
    void *p;
    size_t n;
} maps[64];
static unsigned nmaps;
static int fds[64];
static unsigned nfds;
static struct guest *guests[32];
static unsigned nguests;

void *pages_new(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(p != MAP_FAILED && nmaps < ARRAY_SIZE(maps));
    maps[nmaps].p = p;
    maps[nmaps++].n = bytes;
    return p;
}

uint8_t *guest_ram_at;

/* A shared mapping of a memfd, of which softkvm knows: user code may run natively (SOFTKVM_DIRECT). */
static uint8_t *ram_new(const struct guest *g)
{
    AUTO_CLOSE int fd = memfd_create("guest", MFD_CLOEXEC);
    CHECK(fd >= 0 && !ftruncate(fd, GUEST_RAM));
    void *p = mmap(guest_ram_at, GUEST_RAM, PROT_READ | PROT_WRITE, MAP_SHARED | (guest_ram_at ? MAP_FIXED : 0), fd, 0);
    CHECK(p != MAP_FAILED);
    if (!guest_ram_at) {
        CHECK(nmaps < ARRAY_SIZE(maps));
        maps[nmaps].p = p;
        maps[nmaps++].n = GUEST_RAM;
    }
    guest_ram_at = NULL;
    if (!be->real)
        CHECK(!softkvm_share_memory(g->vm, p, GUEST_RAM, fd, 0));
    return p;
}

int eventfd_new(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    CHECK(fd >= 0 && nfds < ARRAY_SIZE(fds));
    return fds[nfds++] = fd;
}

uint64_t eventfd_count(int fd)
{
    uint64_t n = 0;
    return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

bool eventfd_wait(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, ms) == 1;
}

void harness_clean_up(void)
{
    while (nguests)
        guest_free(guests[nguests - 1]);
    while (nmaps) {
        nmaps--;
        munmap(maps[nmaps].p, maps[nmaps].n);
    }
    while (nfds)
        close(fds[--nfds]);
}

/* ---- guests ---- */

int try_region(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
    struct kvm_userspace_memory_region m = {
        .slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)hva};
    return be->ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &m) < 0 ? errno : 0;
}

void set_region(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva)
{
    int err = try_region(g, slot, flags, gpa, size, hva);
    if (err)
        test_fail(__FILE__, __LINE__, "slot %u: %s", slot, strerror(err));
}

void guest_cut_ram(struct guest *g, uint64_t size)
{
    set_region(g, 0, 0, 0, 0, NULL); /* a slot's size cannot change */
    set_region(g, 0, 0, 0, size, g->ram);
}

static void guest_cpuid(struct guest *g, unsigned cpu)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[128];
    } c = {.head.nent = 128};
    OK(g->sys, KVM_GET_SUPPORTED_CPUID, &c);
    OK(g->vcpu[cpu], KVM_SET_CPUID2, &c);
}

struct guest *guest_new(unsigned vcpus, unsigned flags)
{
    struct guest *g = calloc(1, sizeof(*g));
    CHECK(g && nguests < ARRAY_SIZE(guests));
    guests[nguests++] = g;
    g->vm = -1;
    g->sys = be->open();
    CHECK(g->sys >= 0);
    g->vm = OK(g->sys, KVM_CREATE_VM, 0);
    g->run_size = (size_t)OK(g->sys, KVM_GET_VCPU_MMAP_SIZE, 0);
    OK(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000u);
    if (flags & GUEST_IRQCHIP)
        OK(g->vm, KVM_CREATE_IRQCHIP, 0);
    if (flags & GUEST_SPLIT) {
        struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
        OK(g->vm, KVM_ENABLE_CAP, &cap);
    }
    if (flags & GUEST_PIT) {
        struct kvm_pit_config pit = {0};
        OK(g->vm, KVM_CREATE_PIT2, &pit);
    }
    if (!(flags & GUEST_NO_RAM)) {
        g->ram = ram_new(g);
        set_region(g, 0, flags & GUEST_LOG ? KVM_MEM_LOG_DIRTY_PAGES : 0, 0, GUEST_RAM, g->ram);
    }
    for (unsigned i = 0; i < vcpus; i++) {
        g->vcpu[i] = OK(g->vm, KVM_CREATE_VCPU, i);
        g->nvcpus++;
        g->run[i] = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu[i], 0);
        CHECK(g->run[i] != MAP_FAILED);
        if (flags & GUEST_CPUID)
            guest_cpuid(g, i);
    }
    return g;
}

void guest_free(struct guest *g)
{
    for (unsigned i = 0; i < g->nvcpus; i++) {
        if (g->run[i] && g->run[i] != MAP_FAILED)
            munmap(g->run[i], g->run_size);
        be->close(g->vcpu[i]);
    }
    if (g->vm >= 0)
        be->close(g->vm);
    if (g->sys >= 0)
        be->close(g->sys);
    for (unsigned i = 0; i < nguests; i++)
        if (guests[i] == g)
            guests[i] = guests[--nguests];
    free(g);
}

void guest_real(struct guest *g, unsigned cpu, uint16_t at, const void *code, size_t n)
{
    memcpy(g->ram + at, code, n);
    struct kvm_sregs s;
    OK(g->vcpu[cpu], KVM_GET_SREGS, &s);
    s.cs.selector = 0;
    s.cs.base = 0;
    OK(g->vcpu[cpu], KVM_SET_SREGS, &s);
    struct kvm_regs r = {.rip = at, .rsp = 0x7000, .rflags = 2};
    OK(g->vcpu[cpu], KVM_SET_REGS, &r);
}

void guest_long(struct guest *g, unsigned cpu, uint64_t at, const void *code, size_t n)
{
    memcpy(g->ram + at, code, n);
    uint64_t *tables = (uint64_t *)(void *)(g->ram + 0x100000), *gdt = (uint64_t *)(void *)(g->ram + 0x103000);
    tables[0] = 0x101007;          /* PML4 */
    tables[512] = 0x102007;        /* PDPT at 0x101000 */
    tables[1024] = 0x87;           /* PD at 0x102000: 2 MiB, writable, user */
    gdt[1] = 0x00af9b000000ffffull;
    gdt[2] = 0x00cf93000000ffffull;
    struct kvm_sregs s;
    OK(g->vcpu[cpu], KVM_GET_SREGS, &s);
    s.cs = (struct kvm_segment){.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
    s.ds = (struct kvm_segment){.limit = ~0u, .selector = 16, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1};
    s.es = s.fs = s.gs = s.ss = s.ds;
    s.gdt.base = 0x103000;
    s.gdt.limit = 23;
    s.idt.base = 0x104000;
    s.idt.limit = 0xfff;
    s.cr0 = 0x80010031; /* PG WP NE ET PE */
    s.cr3 = 0x100000;
    s.cr4 = 0x620; /* PAE OSFXSR OSXMMEXCPT */
    s.efer = 0x500;
    OK(g->vcpu[cpu], KVM_SET_SREGS, &s);
    struct kvm_regs r = {.rip = at, .rsp = 0x80000, .rflags = 2};
    OK(g->vcpu[cpu], KVM_SET_REGS, &r);
}

struct kvm_run *run_check(const char *file, int line, struct guest *g, unsigned cpu, unsigned reason)
{
    struct kvm_run *run = g->run[cpu];
    if (be->ioctl(g->vcpu[cpu], KVM_RUN, NULL) < 0)
        test_fail(file, line, "KVM_RUN: %s", strerror(errno));
    if (run->exit_reason != reason)
        test_fail(file, line, "KVM_RUN exits with %u, not %u; suberror or port %#x, rip %#llx", run->exit_reason, reason,
                  run->exit_reason == KVM_EXIT_IO ? run->io.port : run->internal.suberror, guest_regs(g, cpu).rip);
    return run;
}

void guest_big_data(struct guest *g, unsigned cpu)
{
    struct kvm_sregs s;
    OK(g->vcpu[cpu], KVM_GET_SREGS, &s);
    s.ds.limit = 0xffffffff;
    s.ds.g = 1;
    OK(g->vcpu[cpu], KVM_SET_SREGS, &s);
}

void guest_set_lapic(struct guest *g, unsigned cpu, unsigned reg, uint32_t val)
{
    struct kvm_lapic_state s;
    OK(g->vcpu[cpu], KVM_GET_LAPIC, &s);
    memcpy(s.regs + reg, &val, 4);
    OK(g->vcpu[cpu], KVM_SET_LAPIC, &s);
}

void guest_enable_lapic(struct guest *g, unsigned cpu)
{
    guest_set_lapic(g, cpu, 0xf0, 0x1ff);
}

struct kvm_regs guest_regs(struct guest *g, unsigned cpu)
{
    struct kvm_regs r;
    OK(g->vcpu[cpu], KVM_GET_REGS, &r);
    return r;
}

/* ---- main ---- */

static bool run_test(const struct test *t)
{
    volatile bool ok = false;
    if (setjmp(failed) == 0) {
        t->fn();
        ok = true;
    }
    harness_clean_up();
    printf("%s %s: %s\n", ok ? "ok  " : "FAIL", be->name, t->name);
    return ok;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    const char *only = argc > 1 ? argv[1] : "", *side = argc > 2 ? argv[2] : "";
    unsigned bad = 0;
    setenv("SOFTKVM_WARM_UP", "0", 0); /* these guests run most of their code once */
    for (unsigned b = 0; b < ARRAY_SIZE(backends); b++) {
        be = &backends[b];
        if (!strstr(be->name, side))
            continue;
        int fd = be->open();
        if (fd < 0 && be->real) {
            printf("skip %s: %s\n", be->name, strerror(errno));
            continue;
        }
        be->close(fd);
        for (const struct test *t = tests; t->name; t++) {
            if (!strstr(t->name, only))
                continue;
            if (be->real && t->not_on_kvm)
                printf("skip %s: %s: %s\n", be->name, t->name, t->not_on_kvm);
            else
                bad += !run_test(t);
        }
    }
    return bad != 0;
}

int64_t figure(int fd, const char *name)
{
    struct kvm_stats_header h;
    union {
        struct kvm_stats_desc d;
        char room[256];
    } u;
    CHECK_EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
    CHECK(h.name_size <= sizeof(u) - sizeof(u.d));
    for (unsigned i = 0; i < h.num_desc; i++) {
        size_t size = sizeof(u.d) + h.name_size;
        int64_t value;
        CHECK_EQ(pread(fd, &u, size, (off_t)(h.desc_offset + i * size)), size);
        if (strcmp(u.d.name, name))
            continue;
        CHECK_EQ(pread(fd, &value, 8, h.data_offset + u.d.offset), 8);
        return value;
    }
    return -1;
}
