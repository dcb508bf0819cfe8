// SPDX-License-Identifier: GPL-2.0-or-later
/* Memory slots and the dirty log. */
#include "harness.h"

#define LOG KVM_MEM_LOG_DIRTY_PAGES
#define RO  KVM_MEM_READONLY

static void arguments(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    uint8_t *p = pages_new(64 * KIB);
    CHECK_EQ(try_region(g, 0, 0x80, 0, 4096, p), EINVAL); /* unknown flag */
    CHECK_EQ(try_region(g, 0, 0, 0, 4095, p), EINVAL);
    CHECK_EQ(try_region(g, 0, 0, 1, 4096, p), EINVAL);
    CHECK_EQ(try_region(g, 0, 0, 0, 4096, p + 1), EINVAL);
    CHECK_EQ(try_region(g, 0, 0, ~0ull & ~4095, 8192, p), EINVAL); /* wraps */
    CHECK_EQ(try_region(g, 40000, 0, 0, 4096, p), EINVAL);
    CHECK_EQ(try_region(g, 2 << 16, 0, 0, 4096, p), EINVAL); /* no such address space */
    CHECK_EQ(try_region(g, 0, 0, 0, 4096, (void *)0xffff800000000000), EINVAL);
    CHECK_EQ(try_region(g, 3, 0, 0, 0, p), EINVAL); /* nothing to delete */
    FAILS(g->vm, KVM_SET_USER_MEMORY_REGION, 0, EFAULT);
    int n = OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS);
    CHECK(n >= 32);
    CHECK_EQ(try_region(g, (uint32_t)n - 1, 0, 0, 4096, p), 0);
}

static void overlap_and_change(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    uint8_t *p = pages_new(64 * KIB), *q = pages_new(64 * KIB);
    set_region(g, 0, 0, 0x10000, 0x4000, p);
    CHECK_EQ(try_region(g, 1, 0, 0x13000, 0x1000, q), EEXIST);
    CHECK_EQ(try_region(g, 1, 0, 0xf000, 0x2000, q), EEXIST);
    CHECK_EQ(try_region(g, 1, 0, 0xf000, 0x10000, q), EEXIST);
    set_region(g, 1, 0, 0xf000, 0x1000, q);   /* touches from below */
    set_region(g, 2, 0, 0x14000, 0x1000, q);  /* and from above */
    set_region(g, 0, 0, 0x10000, 0x4000, p);  /* nothing changes */
    CHECK_EQ(try_region(g, 0, 0, 0x10000, 0x5000, p), EINVAL);
    CHECK_EQ(try_region(g, 0, 0, 0x10000, 0x4000, q), EINVAL);
    CHECK_EQ(try_region(g, 0, RO, 0x10000, 0x4000, p), EINVAL);
    CHECK_EQ(try_region(g, 0, 0, 0x12000, 0x4000, p), EEXIST); /* a move onto slot 2 */
    set_region(g, 0, 0, 0x20000, 0x4000, p);
    set_region(g, 3, 0, 0x10000, 0x4000, p); /* where it was, and the same memory twice */
    set_region(g, 0, 0, 0, 0, NULL);
    set_region(g, 0, RO, 0x20000, 0x4000, p);
    CHECK_EQ(try_region(g, 0, 0, 0x20000, 0x4000, p), EINVAL);
}

/* A guest that reads and writes through what the slots are. */
static void read_only_slot(void)
{
    struct guest *g = guest_new(1, 0);
    uint8_t *rom = pages_new(4096);
    rom[5] = 0x77;
    set_region(g, 1, RO, 0x80000 + GUEST_RAM, 4096, rom);
    /* ds := 0xffff would not reach; use a slot below 1 MiB: shrink RAM */
    set_region(g, 0, 0, 0, 0, NULL);
    set_region(g, 1, 0, 0, 0, NULL);
    set_region(g, 0, 0, 0, 0x10000, g->ram);
    set_region(g, 1, RO, 0x20000, 4096, rom);
    /* mov ax,0x2000; mov ds,ax; mov al,[5]; mov [6],al; mov bl,[6]; hlt */
    guest_real(g, 0, 0x1000, CODE(0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa0, 0x05, 0x00, 0xa2, 0x06, 0x00, 0x8a, 0x1e, 0x06, 0x00, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x20006);
    CHECK_EQ(run->mmio.len, 1);
    CHECK_EQ(run->mmio.is_write, 1);
    CHECK_EQ(run->mmio.data[0], 0x77);
    CHECK_EQ(rom[6], 0);
    rom[6] = 0x55;
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rbx & 0xff, 0x55);
}

static void move_and_delete(void)
{
    struct guest *g = guest_new(1, 0);
    uint8_t *p = pages_new(4096);
    p[0] = 0x42;
    guest_cut_ram(g, 0x10000);
    set_region(g, 1, 0, 0x20000, 4096, p);
    /* mov ax,0x2000; mov ds,ax; again: mov al,[0]; hlt; jmp again */
    guest_real(g, 0, 0x1000, CODE(0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa0, 0x00, 0x00, 0xf4, 0xeb, 0xfa));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x42);
    p[0] = 0x43; /* user space's writes are seen */
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x43);
    set_region(g, 1, 0, 0x30000, 4096, p); /* moved away: MMIO there now */
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x20000);
    run->mmio.data[0] = 0x99;
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x99);
    set_region(g, 1, 0, 0x20000, 4096, p); /* and back */
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(guest_regs(g, 0).rax & 0xff, 0x43);
    set_region(g, 1, 0, 0, 0, NULL);
    RUN(g, 0, KVM_EXIT_MMIO);
}

static int get_log(struct guest *g, uint32_t slot, uint64_t *bits)
{
    struct kvm_dirty_log l = {.slot = slot, .dirty_bitmap = bits};
    return be->ioctl(g->vm, KVM_GET_DIRTY_LOG, &l) < 0 ? errno : 0;
}

static int clear_log(struct guest *g, uint32_t slot, uint64_t first, uint32_t n, uint64_t *bits)
{
    struct kvm_clear_dirty_log l = {.slot = slot, .first_page = first, .num_pages = n, .dirty_bitmap = bits};
    return be->ioctl(g->vm, KVM_CLEAR_DIRTY_LOG, &l) < 0 ? errno : 0;
}

/* mov [0x4000],al; push ax (0x6ffe); hlt; jmp back */
static const uint8_t writer[] = {0xa2, 0x00, 0x40, 0x50, 0x58, 0xf4, 0xeb, 0xf8};

static void dirty_log(void)
{
    struct guest *g = guest_new(1, GUEST_LOG);
    uint64_t bits[GUEST_RAM / 4096 / 64];
    guest_real(g, 0, 0x1000, writer, sizeof(writer));
    CHECK_EQ(get_log(g, 0, bits), 0);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(4) | BIT(6));
    for (unsigned i = 1; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(bits[i], 0);
    CHECK_EQ(get_log(g, 0, bits), 0); /* reading has cleared it */
    CHECK_EQ(bits[0], 0);
    RUN(g, 0, KVM_EXIT_HLT); /* a page that was dirty, and written again */
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(4) | BIT(6));
    set_region(g, 0, 0, 0, GUEST_RAM, g->ram); /* logging ends */
    CHECK_EQ(get_log(g, 0, bits), ENOENT);
    CHECK_EQ(get_log(g, 1, bits), ENOENT);
    CHECK_EQ(get_log(g, 50000, bits), EINVAL);
    RUN(g, 0, KVM_EXIT_HLT);
    set_region(g, 0, LOG, 0, GUEST_RAM, g->ram); /* begins while the vCPU has written the page before */
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(4) | BIT(6));
}

static void dirty_log_manual(void)
{
    struct guest *g = guest_new(1, 0);
    int flags = OK(g->vm, KVM_CHECK_EXTENSION, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
    CHECK_EQ(flags, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_INITIALLY_SET}};
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.args[0] = 4;
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
    cap.flags = 1;
    FAILS(g->vm, KVM_ENABLE_CAP, &cap, EINVAL);
    cap.flags = 0;
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    uint64_t bits[GUEST_RAM / 4096 / 64];
    set_region(g, 0, LOG, 0, GUEST_RAM, g->ram);
    guest_real(g, 0, 0x1000, writer, sizeof(writer));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(4) | BIT(6)); /* stays until it is cleared */
    CHECK_EQ(clear_log(g, 0, 1, 64, bits), EINVAL);
    CHECK_EQ(clear_log(g, 0, 0, 63, bits), EINVAL);
    CHECK_EQ(clear_log(g, 0, 0, 1024, bits), EINVAL);
    CHECK_EQ(clear_log(g, 0, 1024, 64, bits), EINVAL);
    CHECK_EQ(clear_log(g, 7, 0, 64, bits), ENOENT);
    CHECK_EQ(clear_log(g, 50000, 0, 64, bits), EINVAL);
    uint64_t one[8] = {BIT(4)};
    CHECK_EQ(clear_log(g, 0, 0, 64, one), 0);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(6));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], BIT(4) | BIT(6));
    cap.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET;
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    set_region(g, 0, 0, 0, GUEST_RAM, g->ram);
    set_region(g, 0, LOG, 0, GUEST_RAM, g->ram);
    CHECK_EQ(get_log(g, 0, bits), 0);
    for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
        CHECK_EQ(bits[i], ~0ull);
}

/* A slot whose pages are no multiple of 64. */
static void dirty_log_tail(void)
{
    struct guest *g = guest_new(0, GUEST_NO_RAM);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
                                 .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET}};
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    set_region(g, 0, LOG, 0, 70 * 4096, pages_new(70 * 4096));
    uint64_t bits[3] = {0, 0, 0x1234};
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], ~0ull);
    CHECK_EQ(bits[1] & 0x3f, 0x3f);
    CHECK_EQ(bits[2], 0x1234);
    CHECK_EQ(clear_log(g, 0, 64, 6, bits), 0);
    CHECK_EQ(clear_log(g, 0, 64, 5, bits), EINVAL);
    CHECK_EQ(get_log(g, 0, bits), 0);
    CHECK_EQ(bits[0], ~0ull);
    CHECK_EQ(bits[1] & 0x3f, 0);
}

const struct test tests[] = {
    {"arguments", arguments, NULL},
    {"overlap and change", overlap_and_change, NULL},
    {"read-only slot", read_only_slot, NULL},
    {"move and delete under a guest", move_and_delete, NULL},
    {"dirty log", dirty_log, NULL},
    {"dirty log, manual clear", dirty_log_manual, NULL},
    {"dirty log, odd number of pages", dirty_log_tail, NULL},
    {NULL, NULL, NULL},
};
