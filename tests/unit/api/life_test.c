// SPDX-License-Identifier: GPL-2.0-or-later
/* Descriptors and objects: who keeps whom alive, and that nothing stays behind. */
#include "threads.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "softkvm.h"

static unsigned entries(const char *dir)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    CHECK(d != NULL);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static unsigned maps(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    unsigned n = 0;
    CHECK(f != NULL);
    for (int c; (c = fgetc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    return n;
}

/* A VM with everything that has a thread, a descriptor or memory of its own; run once; ended in one of several orders. */
static void cycle(unsigned n)
{
    struct guest *g = guest_new(2, GUEST_IRQCHIP | GUEST_PIT | GUEST_LOG | GUEST_CPUID);
    int fds[3];
    for (unsigned i = 0; i < 3; i++)
        fds[i] = eventfd_new();
    struct kvm_irqfd irq = {.fd = (uint32_t)fds[0], .gsi = 5};
    OK(g->vm, KVM_IRQFD, &irq);
    irq = (struct kvm_irqfd){.fd = (uint32_t)fds[1], .gsi = 6, .flags = KVM_IRQFD_FLAG_RESAMPLE, .resamplefd = (uint32_t)fds[2]};
    OK(g->vm, KVM_IRQFD, &irq);
    struct kvm_ioeventfd io = {.fd = fds[2], .addr = 0x80, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO};
    OK(g->vm, KVM_IOEVENTFD, &io);
    struct kvm_coalesced_mmio_zone z = {.addr = 0x90, .size = 1, .pio = 1};
    OK(g->vm, KVM_REGISTER_COALESCED_MMIO, &z);
    struct {
        struct kvm_signal_mask head;
        uint8_t set[8];
    } mask = {.head.len = 8};
    OK(g->vcpu[0], KVM_SET_SIGNAL_MASK, &mask);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x80, 0xe6, 0x90, 0xe6, 0x70));
    RUN(g, 0, KVM_EXIT_IO);
    write(fds[0], &(uint64_t){1}, 8);
    if (n % 3 == 1) { /* the VM's descriptor goes first */
        be->close(g->vm);
        g->vm = -1;
    } else if (n % 3 == 2) { /* a vCPU's goes before it is unmapped */
        be->close(g->vcpu[1]);
        munmap(g->run[1], g->run_size);
        g->nvcpus = 1;
    }
    for (unsigned i = 0; i < 3; i++)
        close(fds[i]);
}

static void clean_cycle(unsigned n)
{
    cycle(n);
    harness_clean_up();
}

static void no_leaks(void)
{
    for (unsigned i = 0; i < 6; i++) /* first uses: thread stacks that the C library keeps, arenas */
        clean_cycle(i);
    unsigned fds = entries("/proc/self/fd"), threads = entries("/proc/self/task"), nmaps = maps();
    size_t heap = mallinfo2().uordblks;
    for (unsigned i = 0; i < 60; i++)
        clean_cycle(i);
    CHECK_EQ(entries("/proc/self/fd"), fds);
    CHECK_EQ(entries("/proc/self/task"), threads);
    CHECK(maps() <= nmaps + 30); /* sanitizers have some of their own, but not one a cycle */
    CHECK(mallinfo2().uordblks <= heap + 4096);
}

/* A vCPU's descriptor keeps its VM alive. */
static void vm_outlives_its_descriptor(void)
{
    struct guest *g = guest_new(1, 0);
    be->close(g->vm);
    be->close(g->sys);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x10, 0xf4));
    RUN(g, 0, KVM_EXIT_IO);
    FAILS(g->vm, KVM_CHECK_EXTENSION, 0, EBADF);
    g->vm = g->sys = -1;
    RUN(g, 0, KVM_EXIT_HLT);
}

static void two_vms(void)
{
    struct guest *g = guest_new(1, 0), *h = guest_new(1, 0);
    guest_real(g, 0, 0x1000, CODE(0xb0, 1, 0xe6, 0x10, 0xf4));
    guest_real(h, 0, 0x1000, CODE(0xb0, 2, 0xe6, 0x10, 0xf4));
    struct kvm_run *a = RUN(g, 0, KVM_EXIT_IO), *b = RUN(h, 0, KVM_EXIT_IO);
    CHECK_EQ(*((uint8_t *)a + a->io.data_offset), 1);
    CHECK_EQ(*((uint8_t *)b + b->io.data_offset), 2);
    RUN(g, 0, KVM_EXIT_HLT);
    RUN(h, 0, KVM_EXIT_HLT);
}

static void descriptors(void)
{
    struct guest *g = guest_new(1, 0);
    CHECK(softkvm_owns(g->sys) && softkvm_owns(g->vm) && softkvm_owns(g->vcpu[0]));
    CHECK(!softkvm_owns(0) && !softkvm_owns(-1) && !softkvm_owns(100000));
    CHECK(softkvm_close(0) < 0 && errno == EBADF);
    CHECK(softkvm_ioctl(0, KVM_GET_API_VERSION, NULL) < 0 && errno == EBADF);
    struct stat st;
    CHECK(!fstat(g->vcpu[0], &st) && st.st_size == (off_t)g->run_size);
    CHECK(ftruncate(g->vcpu[0], 0) < 0); /* sealed */
    CHECK(fcntl(g->vcpu[0], F_GETFD) & FD_CLOEXEC);
    int vm = g->vm;
    softkvm_close(vm);
    g->vm = -1;
    CHECK(!softkvm_owns(vm));
    CHECK(fcntl(vm, F_GETFD) < 0);
}

/* A number that was closed behind our back and is given out again. */
static void stale_number(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    int old = softkvm_open();
    close(old);
    int now = softkvm_open();
    CHECK_EQ(now, old);
    CHECK_EQ(OK(now, KVM_GET_API_VERSION, 0), 12);
    softkvm_close(now);
    (void)g;
}

/* In a child, VMs and vCPUs answer EIO, as KVM's do, and closing them leaves the parent's alone. */
static void fork_child(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_PIT);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x10, 0xf4));
    pid_t pid = fork();
    if (pid == 0) {
        struct kvm_regs r;
        int bad = 0;
        bad |= !(be->ioctl(g->vcpu[0], KVM_GET_REGS, &r) < 0 && errno == EIO) << 0;
        bad |= !(be->ioctl(g->vm, KVM_CREATE_VCPU, (void *)5) < 0 && errno == EIO) << 1;
        bad |= !(be->ioctl(g->sys, KVM_GET_API_VERSION, NULL) == 12) << 2;
        bad |= (be->close(g->vcpu[0]) < 0) << 3;
        bad |= (be->close(g->vm) < 0) << 4;
        int vm = be->ioctl(g->sys, KVM_CREATE_VM, NULL); /* of its own */
        bad |= (vm < 0 || be->ioctl(vm, KVM_CREATE_VCPU, NULL) < 0) << 5;
        _exit(bad);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ(status, 0);
    RUN(g, 0, KVM_EXIT_IO);
}

/* Start-up is part of every guest's start. */
static void creation_is_fast(void)
{
    uint64_t start = now_ns();
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_CPUID);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x70, 0xf4));
    RUN(g, 0, KVM_EXIT_IO);
    uint64_t took = now_ns() - start;
    if (took > 200000000)
        test_fail(__FILE__, __LINE__, "%llu us", (unsigned long long)took / 1000);
}

const struct test tests[] = {
    {"no leaks", no_leaks, "counts softkvm's own threads and memory"},
    {"vm outlives its descriptor", vm_outlives_its_descriptor, NULL},
    {"two vms", two_vms, NULL},
    {"descriptors", descriptors, "softkvm's own calls"},
    {"stale number", stale_number, "softkvm's own calls"},
    {"fork", fork_child, NULL},
    {"creation is fast", creation_is_fast, NULL},
    {NULL, NULL, NULL},
};
