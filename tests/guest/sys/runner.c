// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs the small guests of this folder (env.h tells what they are) on softkvm and, where /dev/kvm opens, the same binaries there,
 * through the KVM API alone.
 *
 *     runner GUEST.bin...
 *
 * On softkvm every check of every guest must hold. On /dev/kvm the outcome is compared with softkvm's, check by check, and a
 * difference fails the test. A /dev/kvm without hardware behind it (no vmx or svm among the CPU's flags) is itself an emulation:
 * there the run ends where the guest announces a known gap (KVM_GAP_BEGIN in env.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "softkvm.h"

#define RAM_SIZE       (16 * MIB)
#define LOAD_AT        0x8000
#define CHECKS_MAX     4096
#define SECONDS        200
#define FAILURES_SHOWN 20

enum {
    PORT_ACTUAL = 0xf1,
    PORT_EXPECTED = 0xf3,
    PORT_END = 0xf4,
    PORT_LINE = 0xf5,
    PORT_SHUTDOWN = 0xf6,
    PORT_NOTE = 0xf7,
    PORT_GAP = 0xf8
};

/* The API by two ways. */
struct accel {
    const char *name;
    int (*open)(void);
    int (*ioctl)(int fd, unsigned long request, void *arg);
    int (*close)(int fd);
};

static int kvm_open(void)
{
    return open("/dev/kvm", O_RDWR | O_CLOEXEC);
}

static int kvm_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg);
}

static const struct accel accel_softkvm = {"softkvm", softkvm_open, softkvm_ioctl, softkvm_close};
static const struct accel accel_kvm = {"/dev/kvm", kvm_open, kvm_ioctl, close};

struct check {
    uint32_t line; /* 0: a note */
    uint32_t actual, expected;
};

struct outcome {
    struct check checks[CHECKS_MAX];
    unsigned count, failed;
    bool gaps;       /* this KVM has the known gaps of a software-only one: the run is over at the first */
    bool gap;        /* there it ended */
    bool ended;      /* reached its end, or the shutdown that it announced */
    char cause[200]; /* why not */
};

struct machine {
    const struct accel *a;
    int sys, vm, vcpu;
    uint8_t *ram;
    struct kvm_run *run;
    size_t run_size;
};

/* ---- the machine ---- */

static struct kvm_run *running;

static void on_alarm(int sig)
{
    (void)sig;
    if (running)
        running->immediate_exit = 1;
    alarm(1); /* in case it came just before KVM_RUN */
}

static void machine_close(struct machine *m)
{
    running = NULL;
    if (m->run && m->run != MAP_FAILED)
        munmap(m->run, m->run_size);
    if (m->vcpu >= 0)
        m->a->close(m->vcpu);
    if (m->vm >= 0)
        m->a->close(m->vm);
    if (m->sys >= 0)
        m->a->close(m->sys);
    if (m->ram && m->ram != MAP_FAILED)
        munmap(m->ram, RAM_SIZE);
}

static int set_cpuid(struct machine *m)
{
    struct {
        struct kvm_cpuid2 head;
        struct kvm_cpuid_entry2 entries[256];
    } id = {.head.nent = ARRAY_SIZE(id.entries)};
    if (m->a->ioctl(m->sys, KVM_GET_SUPPORTED_CPUID, &id))
        return -1;
    return m->a->ioctl(m->vcpu, KVM_SET_CPUID2, &id);
}

static int set_start(struct machine *m)
{
    struct kvm_sregs sregs;
    struct kvm_regs regs = {.rip = LOAD_AT, .rflags = 2};
    if (m->a->ioctl(m->vcpu, KVM_GET_SREGS, &sregs))
        return -1;
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    return m->a->ioctl(m->vcpu, KVM_SET_SREGS, &sregs) || m->a->ioctl(m->vcpu, KVM_SET_REGS, &regs);
}

/* 0, or -1 with the failing step in *what. */
static int machine_open(struct machine *m, const struct accel *a, const char **what)
{
    *m = (struct machine){.a = a, .sys = -1, .vm = -1, .vcpu = -1};
    *what = "open";
    if ((m->sys = a->open()) < 0)
        return -1;
    *what = "KVM_CREATE_VM";
    if ((m->vm = a->ioctl(m->sys, KVM_CREATE_VM, NULL)) < 0)
        return -1;
    *what = "KVM_SET_TSS_ADDR";
    if (a->ioctl(m->vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000ul))
        return -1;
    *what = "KVM_CREATE_IRQCHIP";
    struct kvm_pit_config pit = {0};
    if (a->ioctl(m->vm, KVM_CREATE_IRQCHIP, NULL) || a->ioctl(m->vm, KVM_CREATE_PIT2, &pit))
        return -1;
    *what = "KVM_SET_USER_MEMORY_REGION";
    m->ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {.memory_size = RAM_SIZE, .userspace_addr = (uintptr_t)m->ram};
    if (m->ram == MAP_FAILED || a->ioctl(m->vm, KVM_SET_USER_MEMORY_REGION, &region))
        return -1;
    *what = "KVM_CREATE_VCPU";
    int size = a->ioctl(m->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
    if (size < 0 || (m->vcpu = a->ioctl(m->vm, KVM_CREATE_VCPU, NULL)) < 0)
        return -1;
    *what = "mmap of the vCPU";
    m->run_size = (size_t)size;
    m->run = mmap(NULL, m->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, m->vcpu, 0);
    if (m->run == MAP_FAILED)
        return -1;
    *what = "KVM_SET_CPUID2";
    if (set_cpuid(m))
        return -1;
    *what = "KVM_SET_REGS";
    return set_start(m);
}

/* ---- one guest ---- */

static void record(struct outcome *o, uint32_t line, uint32_t actual, uint32_t expected)
{
    if (o->count == CHECKS_MAX)
        return;
    o->checks[o->count++] = (struct check){line, actual, expected};
    o->failed += line && actual != expected;
}

/* An OUT of the guest. True: the run is over. */
static bool handle_out(struct outcome *o, uint16_t port, uint32_t val, struct check *open_check, bool *shutdown)
{
    switch (port) {
    case PORT_ACTUAL:
        open_check->actual = val;
        break;
    case PORT_EXPECTED:
        open_check->expected = val;
        break;
    case PORT_LINE:
        record(o, val, open_check->actual, open_check->expected);
        break;
    case PORT_NOTE:
        record(o, 0, val, val);
        break;
    case PORT_SHUTDOWN:
        *shutdown = true;
        break;
    case PORT_GAP:
        o->gap = o->gaps;
        return o->gap;
    case PORT_END:
        o->ended = true;
        return true;
    default:
        break; /* a guest may touch other ports */
    }
    return false;
}

static void describe(struct machine *m, struct outcome *o, const char *what)
{
    struct kvm_regs r = {0};
    struct kvm_sregs s = {0};
    m->a->ioctl(m->vcpu, KVM_GET_REGS, &r);
    m->a->ioctl(m->vcpu, KVM_GET_SREGS, &s);
    snprintf(o->cause, sizeof(o->cause), "%s at %x:%llx (cr0 %llx, cr2 %llx, rsp %llx, rflags %llx)", what, s.cs.selector, r.rip,
             s.cr0, s.cr2, r.rsp, r.rflags);
}

static bool handle_io(struct machine *m, struct outcome *o, struct check *open_check, bool *shutdown)
{
    uint8_t *data = (uint8_t *)m->run + m->run->io.data_offset;
    for (unsigned n = 0; n < m->run->io.count; n++, data += m->run->io.size) {
        uint32_t val = 0;
        if (m->run->io.direction == KVM_EXIT_IO_IN) {
            memset(data, 0xff, m->run->io.size);
            continue;
        }
        memcpy(&val, data, m->run->io.size);
        if (handle_out(o, m->run->io.port, val, open_check, shutdown))
            return true;
    }
    return false;
}

static void run_guest(struct machine *m, struct outcome *o)
{
    struct check open_check = {0};
    bool shutdown = false;
    char what[64];
    running = m->run;
    alarm(SECONDS);
    for (;;) {
        if (m->a->ioctl(m->vcpu, KVM_RUN, NULL) && errno != EAGAIN) {
            describe(m, o, errno == EINTR ? "no end in time" : strerror(errno));
            break;
        }
        unsigned reason = m->run->exit_reason;
        if (reason == KVM_EXIT_IO) {
            if (handle_io(m, o, &open_check, &shutdown))
                break;
        } else if (reason == KVM_EXIT_MMIO) {
            memset(m->run->mmio.data, 0xff, sizeof(m->run->mmio.data));
        } else if (reason == KVM_EXIT_SHUTDOWN && shutdown) {
            o->ended = true;
            break;
        } else {
            snprintf(what, sizeof(what), "exit %u (%u)", reason, reason == KVM_EXIT_INTERNAL_ERROR ? m->run->internal.suberror : 0);
            describe(m, o, what);
            break;
        }
    }
    alarm(0);
    running = NULL;
}

static int load(const char *path, uint8_t *ram)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, ram + LOAD_AT, 0x10000 - LOAD_AT) > 0 ? 0 : -1;
}

static void play(const struct accel *a, const char *path, bool gaps, struct outcome *o)
{
    struct machine m;
    const char *what;
    memset(o, 0, sizeof(*o));
    o->gaps = gaps;
    if (machine_open(&m, a, &what))
        snprintf(o->cause, sizeof(o->cause), "%s: %s", what, strerror(errno));
    else if (load(path, m.ram))
        snprintf(o->cause, sizeof(o->cause), "cannot read the guest: %s", strerror(errno));
    else
        run_guest(&m, o);
    machine_close(&m);
}

/* ---- verdicts ---- */

static void print_failures(const char *guest, const struct accel *a, const struct outcome *o)
{
    unsigned shown = 0;
    for (unsigned n = 0; n < o->count && shown < FAILURES_SHOWN; n++)
        if (o->checks[n].actual != o->checks[n].expected && ++shown)
            printf("  %s.S:%u on %s: %#x, expected %#x\n", guest, o->checks[n].line, a->name, o->checks[n].actual,
                   o->checks[n].expected);
    if (!o->ended)
        printf("  %s on %s: %s, after check %u (line %u)\n", guest, a->name, o->cause, o->count,
               o->count ? o->checks[o->count - 1].line : 0);
}

static bool passed(const struct outcome *o)
{
    return o->ended && !o->failed && o->count;
}

/*
 * Do both agree, as far as `b` came? What only one of them has is passed over, for a guest leaves out what CPUID does not offer.
 * Sets *compared to the number of checks compared.
 */
static bool same(const struct outcome *a, const struct outcome *b, unsigned *compared)
{
    bool equal = true;
    unsigned next = 0;
    *compared = 0;
    for (unsigned n = 0; n < b->count; n++) {
        unsigned k = next;
        while (k < a->count && a->checks[k].line != b->checks[n].line)
            k++;
        if (k == a->count)
            continue;
        next = k + 1;
        equal &= a->checks[k].actual == b->checks[n].actual;
        ++*compared;
    }
    return equal && (b->gap || a->ended == b->ended);
}

/* Is there hardware behind /dev/kvm? */
static bool cpu_virtualizes(void)
{
    char line[8192];
    FILE *f = fopen("/proc/cpuinfo", "re");
    bool found = false;
    while (f && !found && fgets(line, sizeof(line), f))
        found = !strncmp(line, "flags", 5) && (strstr(line, " vmx") || strstr(line, " svm"));
    if (f)
        fclose(f);
    return found;
}

static void guest_name(const char *path, char *name, size_t size)
{
    const char *slash = strrchr(path, '/');
    snprintf(name, size, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(name, '.');
    if (dot)
        *dot = 0;
}

static struct outcome soft, hard;

/* Returns true when the guest is as it should be. */
static bool test_soft(const char *path, const char *name)
{
    play(&accel_softkvm, path, false, &soft);
    bool ok = passed(&soft);
    printf("%s %s on softkvm: %u checks\n", ok ? "ok  " : "FAIL", name, soft.count);
    print_failures(name, &accel_softkvm, &soft);
    return ok;
}

/* After test_soft(). */
static bool test_kvm(const char *path, const char *name, bool gaps)
{
    unsigned compared;
    play(&accel_kvm, path, gaps, &hard);
    bool ok = same(&soft, &hard, &compared);
    printf("%s %s on /dev/kvm: %u checks compared%s\n", ok ? "ok  " : "FAIL", name, compared,
           compared < soft.count ? ", then a known gap" : "");
    if (!ok)
        print_failures(name, &accel_kvm, &hard);
    return ok;
}

int main(int argc, char **argv)
{
    struct sigaction sa = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &sa, NULL);
    AUTO_CLOSE int probe = kvm_open();
    bool gaps = !cpu_virtualizes();
    int fails = 0;
    for (int n = 1; n < argc; n++) {
        char name[64];
        guest_name(argv[n], name, sizeof(name));
        bool ok = test_soft(argv[n], name);
        if (probe >= 0)
            ok &= test_kvm(argv[n], name, gaps);
        fails += !ok;
    }
    printf("%d guests, %d failed\n", argc - 1, fails);
    return fails != 0 || argc == 1;
}
