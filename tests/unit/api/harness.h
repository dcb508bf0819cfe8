/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tests of the KVM API, each run twice: on softkvm, and with the same expectations on /dev/kvm where that opens. What a test
 * expects is thereby what KVM does, except where the test says why not.
 *
 * A test program defines tests[]; harness.c has main(). A failed CHECK prints itself and ends the test, not the program.
 */
#ifndef LODGE_TESTS_API_HARNESS_H
#define LODGE_TESTS_API_HARNESS_H

#include <errno.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"

struct backend {
    const char *name;
    bool real; /* the kernel's KVM */
    int (*open)(void);
    int (*ioctl)(int fd, unsigned long request, void *arg);
    int (*close)(int fd);
};
extern const struct backend *be; /* the one under test */

struct test {
    const char *name;
    void (*fn)(void);
    const char *not_on_kvm; /* why this test does not run on /dev/kvm; NULL: it does */
};
extern const struct test tests[]; /* ends with a NULL name */

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
#define CHECK(cond)                                     \
    do {                                                \
        if (!(cond))                                    \
            test_fail(__FILE__, __LINE__, "%s", #cond); \
    } while (0)
#define CHECK_EQ(a, b)                                                                                                            \
    do {                                                                                                                          \
        uint64_t a_ = (uint64_t)(a), b_ = (uint64_t)(b);                                                                          \
        if (a_ != b_)                                                                                                             \
            test_fail(__FILE__, __LINE__, "%s is %#llx, not %s (%#llx)", #a, (unsigned long long)a_, #b, (unsigned long long)b_); \
    } while (0)
/* An ioctl's value, or its errno when it fails. */
#define OK(fd, req, arg)       check_ok(__FILE__, __LINE__, #req, fd, req, (void *)(uintptr_t)(arg))
#define FAILS(fd, req, arg, e) check_fails(__FILE__, __LINE__, #req, fd, req, (void *)(uintptr_t)(arg), e)
int check_ok(const char *file, int line, const char *what, int fd, unsigned long req, void *arg);
void check_fails(const char *file, int line, const char *what, int fd, unsigned long req, void *arg, int err);

/* ---- a VM with one slot of RAM and up to some vCPUs; ended by guest_free, also after a failed CHECK ---- */
#define GUEST_RAM   (2 * MIB)
#define GUEST_VCPUS 4
enum guest_flags {
    GUEST_IRQCHIP = 1, /* KVM_CREATE_IRQCHIP */
    GUEST_SPLIT = 2,   /* KVM_CAP_SPLIT_IRQCHIP with 24 pins */
    GUEST_PIT = 4,
    GUEST_NO_RAM = 8,
    GUEST_LOG = 16, /* the RAM logs dirty pages */
    GUEST_CPUID = 32, /* what is supported */
};
struct guest {
    int sys, vm, vcpu[GUEST_VCPUS];
    struct kvm_run *run[GUEST_VCPUS];
    unsigned nvcpus;
    size_t run_size;
    uint8_t *ram; /* at GPA 0 */
};
void harness_clean_up(void); /* at the end of every test */
struct guest *guest_new(unsigned vcpus, unsigned flags);
void guest_free(struct guest *g);
/* Puts code at `at` (below 64 KiB) and points the vCPU at it in 16-bit real mode: all segments 0, rsp 0x7000, IF clear. */
void guest_real(struct guest *g, unsigned cpu, uint16_t at, const void *code, size_t n);
/* The same in 64-bit mode, ring 0: first GiB mapped 1:1 by a 2 MiB page at 0 (tables at 0x100000), rsp 0x80000, GDT at 0x101000,
 * IDT empty. */
void guest_long(struct guest *g, unsigned cpu, uint64_t at, const void *code, size_t n);
void guest_big_data(struct guest *g, unsigned cpu); /* DS reaches 4 GiB, and so the LAPIC, in real mode too */
void guest_set_lapic(struct guest *g, unsigned cpu, unsigned reg, uint32_t val); /* reg: the offset in its page */
void guest_enable_lapic(struct guest *g, unsigned cpu);
/* KVM_RUN; checks that it returns 0 with this exit. */
#define RUN(g, cpu, reason) run_check(__FILE__, __LINE__, g, cpu, reason)
struct kvm_run *run_check(const char *file, int line, struct guest *g, unsigned cpu, unsigned reason);
struct kvm_regs guest_regs(struct guest *g, unsigned cpu);
#define CODE(...) ((const uint8_t[]){__VA_ARGS__}), sizeof((const uint8_t[]){__VA_ARGS__})

void set_region(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva);
int try_region(struct guest *g, uint32_t slot, uint32_t flags, uint64_t gpa, uint64_t size, void *hva); /* 0 or errno */
void guest_cut_ram(struct guest *g, uint64_t size); /* what lies above is MMIO from now on */
void *pages_new(uint64_t bytes); /* unmapped at the test's end */
extern uint8_t *guest_ram_at;    /* where the next guest gets its RAM, in a reservation of the test's own; NULL: anywhere */
int eventfd_new(void);           /* likewise */
uint64_t eventfd_count(int fd);  /* and resets it */
bool eventfd_wait(int fd, int ms); /* readable within ms? */
int64_t figure(int fd, const char *name); /* of a file of KVM_GET_STATS_FD, or -1 */

#endif
