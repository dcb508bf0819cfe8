// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What user space does to the memory of a guest whose 64-bit code is hot: the dirty log, slots that change under cached
 * translations, read-only slots, coalesced MMIO, registers through kvm_run.
 *
 * Each guest runs its loop many times before user space acts, so that a translator has the code, its links and its table entries.
 */
#include "harness.h"
#include "threads.h"

#define HOT   200        /* rounds before user space acts */
#define PORT  0x10       /* each round of a guest's loop ends with an OUT to it */
#define ABOVE 0x200000ul /* GPA and linear address of the second 2 MiB, where the tests put their own slots */

/* Code of a guest, as the assembler makes it. */
#define GUEST_CODE(name, text)                                                          \
    __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection"); \
    extern const uint8_t name[] __attribute__((visibility("hidden"))), name##_end[] __attribute__((visibility("hidden")))
#define CODE_OF(name) name, (size_t)(name##_end - name)

static void set_regs(struct guest *g, uint64_t rax, uint64_t rbx)
{
    struct kvm_regs r = guest_regs(g, 0);
    r.rax = rax;
    r.rbx = rbx;
    OK(g->vcpu[0], KVM_SET_REGS, &r);
}

/* A guest in 64-bit mode, whose second 2 MiB are mapped too. */
static struct guest *long_guest(unsigned flags, const uint8_t *code, size_t n)
{
    struct guest *g = guest_new(1, flags | GUEST_CPUID);
    guest_long(g, 0, 0x10000, code, n);
    ((uint64_t *)(void *)(g->ram + 0x102000))[1] = ABOVE | 0x87;
    return g;
}

static void warm_up(struct guest *g)
{
    for (unsigned i = 0; i < HOT; i++) {
        struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(run->io.port, PORT);
    }
}

/* ---- the dirty log ---- */

/* A store of each kind to a page of its own: 0x50 to 0x57, 0x54 and 0x55 by one that crosses; the stack is in page 0x7f. */
GUEST_CODE(stores, "1: mov %al, (%rbx)\n"
                   "lock incl 0x1000(%rbx)\n"
                   "movups %xmm0, 0x2000(%rbx)\n"
                   "lea 0x3000(%rbx), %rdi\n"
                   "mov $16, %ecx\n"
                   "rep stosb\n"
                   "mov %rax, 0x4ffc(%rbx)\n"
                   "fxsave 0x6000(%rbx)\n"
                   "lock xadd %rdx, 0x7000(%rbx)\n"
                   "call 2f\n"
                   "2: pop %rdx\n"
                   "out %al, $0x10\n"
                   "jmp 1b");
#define STORED (0xffull << 16) /* of the bitmap's second word */
#define STACK  BIT64(63)

static void get_log(struct guest *g, uint64_t bits[GUEST_RAM / 4096 / 64])
{
    OK(g->vm, KVM_GET_DIRTY_LOG, &((struct kvm_dirty_log){.slot = 0, .dirty_bitmap = bits}));
}

/* After each reading, the next store of whatever kind is seen, although the page has been written a moment ago. */
static void stores_are_logged(void)
{
    struct guest *g = long_guest(GUEST_LOG, CODE_OF(stores));
    uint64_t bits[GUEST_RAM / 4096 / 64];
    set_regs(g, 7, 0x50000);
    warm_up(g);
    get_log(g, bits);
    for (unsigned round = 0; round < 3; round++) {
        get_log(g, bits);
        CHECK_EQ(bits[1], 0);
        RUN(g, 0, KVM_EXIT_IO);
        get_log(g, bits);
        for (unsigned i = 0; i < ARRAY_SIZE(bits); i++)
            CHECK_EQ(bits[i], i == 1 ? STORED | STACK : 0);
    }
}

/* The same where reading and clearing are two steps. */
static void stores_after_clearing(void)
{
    struct guest *g = long_guest(0, CODE_OF(stores));
    struct kvm_enable_cap cap = {.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE}};
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    set_region(g, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, GUEST_RAM, g->ram);
    uint64_t bits[GUEST_RAM / 4096 / 64], some = STORED & ~BIT64(16);
    set_regs(g, 7, 0x50000);
    warm_up(g);
    get_log(g, bits);
    CHECK_EQ(bits[1], STORED | STACK);
    struct kvm_clear_dirty_log clear = {.first_page = 64, .num_pages = 64, .dirty_bitmap = &some};
    OK(g->vm, KVM_CLEAR_DIRTY_LOG, &clear);
    get_log(g, bits);
    CHECK_EQ(bits[1], BIT64(16) | STACK);
    RUN(g, 0, KVM_EXIT_IO);
    get_log(g, bits);
    CHECK_EQ(bits[1], STORED | STACK);
}

/* Logging begins, ends and begins again while the pages are in use. */
static void logging_comes_and_goes(void)
{
    struct guest *g = long_guest(0, CODE_OF(stores));
    uint64_t bits[GUEST_RAM / 4096 / 64];
    set_regs(g, 7, 0x50000);
    for (unsigned round = 0; round < 3; round++) {
        warm_up(g);
        set_region(g, 0, KVM_MEM_LOG_DIRTY_PAGES, 0, GUEST_RAM, g->ram);
        RUN(g, 0, KVM_EXIT_IO);
        get_log(g, bits);
        CHECK_EQ(bits[1], STORED | STACK);
        set_region(g, 0, 0, 0, GUEST_RAM, g->ram);
    }
}

/* A guest that rewrites the code that it runs next: the page is logged, and its new code is run. */
GUEST_CODE(rewriting, "1: inc %eax\n"
                      "mov %eax, 2f+1-1b(%rbx)\n"
                      "nop\n"
                      "2: mov $0, %edx\n"
                      "out %al, $0x10\n"
                      "jmp 1b");

static void rewritten_code_is_logged(void)
{
    struct guest *g = long_guest(GUEST_LOG, CODE_OF(rewriting));
    uint64_t bits[GUEST_RAM / 4096 / 64];
    set_regs(g, 100, 0x10000);
    for (unsigned n = 1; n < 50; n++) {
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(guest_regs(g, 0).rdx, 100 + n);
        get_log(g, bits);
        CHECK_EQ(bits[0], BIT64(16));
    }
}

/* ---- slots ---- */

GUEST_CODE(caller, "1: call *%rbx\n"
                   "out %al, $0x10\n"
                   "jmp 1b");

/* mov eax,`value`; ret */
static void put_function(uint8_t *at, uint8_t value)
{
    memcpy(at, (uint8_t[]){0xb8, value, 0, 0, 0, 0xc3}, 6);
}

static void run_expecting(struct guest *g, uint64_t rax)
{
    RUN(g, 0, KVM_EXIT_IO);
    CHECK_EQ(guest_regs(g, 0).rax, rax);
}

GUEST_CODE(flusher, "1: mov %cr3, %rcx\n"
                    "mov %rcx, %cr3\n"
                    "call *%rbx\n"
                    "out %al, $0x10\n"
                    "jmp 1b");

/* A store that no CPU made, as a device's: seen behind the next flush, however often the code was found unchanged before, and whatever changes beside it. */
static void code_written_by_device(void)
{
    struct guest *g = long_guest(0, CODE_OF(flusher));
    uint8_t *p = pages_new(4096);
    set_region(g, 1, 0, ABOVE, 4096, p);
    set_regs(g, 0, ABOVE + 60);
    for (unsigned round = 0; round < 100; round++) {
        put_function(p + 60, (uint8_t)round);
        for (unsigned again = 0; again < 6; again++) {
            p[4] = (uint8_t)(again / 3);
            run_expecting(g, round);
        }
    }
}

/* Other memory at the same guest address: the code that is run is what is there now. */
static void slot_with_code_replaced(void)
{
    struct guest *g = long_guest(0, CODE_OF(caller));
    uint8_t *p = pages_new(8192), *q = pages_new(8192);
    put_function(p, 1);
    put_function(p + 4096, 3);
    put_function(q, 2);
    set_regs(g, 0, ABOVE);
    for (unsigned round = 0; round < 3; round++) {
        set_region(g, 1, 0, ABOVE, 8192, p);
        run_expecting(g, 1);
        warm_up(g);
        set_region(g, 1, 0, 0, 0, NULL);
        set_region(g, 1, 0, ABOVE, 8192, q);
        run_expecting(g, 2);
        warm_up(g);
        set_region(g, 1, 0, 0, 0, NULL);
        set_region(g, 1, 0, ABOVE, 4096, p + 4096);
        run_expecting(g, 3);
        set_region(g, 1, 0, 0, 0, NULL);
    }
}

/* A slot that moves takes its code along. */
static void slot_with_code_moved(void)
{
    struct guest *g = long_guest(0, CODE_OF(caller));
    uint8_t *p = pages_new(4096), *q = pages_new(4096);
    put_function(p, 1);
    put_function(q, 2);
    set_region(g, 1, 0, ABOVE, 4096, p);
    set_regs(g, 0, ABOVE);
    warm_up(g);
    set_region(g, 1, 0, ABOVE + 0x1000, 4096, p);
    set_region(g, 2, 0, ABOVE, 4096, q);
    run_expecting(g, 2);
    set_regs(g, 0, ABOVE + 0x1000);
    run_expecting(g, 1);
    set_region(g, 1, 0, 0, 0, NULL);
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_INTERNAL_ERROR); /* nothing to run there */
    CHECK_EQ(run->internal.suberror, KVM_INTERNAL_ERROR_EMULATION);
}

/* The same memory at two guest addresses: a store through one is seen by the code that runs at the other. */
static void code_under_two_addresses(void)
{
    struct guest *g = long_guest(0, CODE_OF(caller));
    uint8_t *p = pages_new(4096);
    put_function(p + 0x100, 1);
    memcpy(p + 0x200, (uint8_t[]){0x88, 0x04, 0x25, 0x01, 0x11, 0x20, 0x00, 0xc3}, 8); /* mov [0x201101],al; ret */
    set_region(g, 1, 0, ABOVE, 4096, p);
    set_regs(g, 0, ABOVE + 0x100);
    warm_up(g);
    set_region(g, 2, 0, ABOVE + 0x1000, 4096, p);
    for (uint8_t n = 2; n < 20; n++) {
        set_regs(g, n, ABOVE + 0x200);
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(p[0x101], n);
        set_regs(g, 0, ABOVE + 0x100);
        run_expecting(g, n);
    }
    set_region(g, 2, 0, 0, 0, NULL);
    run_expecting(g, 19);
}

/* A debugger writes a breakpoint into hot code and tells KVM that it uses such. */
static void breakpoint_in_hot_code(void)
{
    struct guest *g = long_guest(0, CODE_OF(caller));
    uint8_t *p = pages_new(4096);
    put_function(p, 1);
    set_region(g, 1, 0, ABOVE, 4096, p);
    set_regs(g, 0, ABOVE);
    for (unsigned round = 0; round < 3; round++) {
        warm_up(g);
        uint8_t was = p[5];
        p[5] = 0xcc;
        struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_SW_BP};
        OK(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d);
        struct kvm_run *run = RUN(g, 0, KVM_EXIT_DEBUG);
        CHECK_EQ(run->debug.arch.pc, ABOVE + 5);
        p[5] = was;
        d.control = 0;
        OK(g->vcpu[0], KVM_SET_GUEST_DEBUG, &d);
    }
}

/* ---- read-only slots ---- */

/* The same store, now to RAM, now to ROM; `rdx` says where it is. */
GUEST_CODE(to_rom, "1: mov %al, (%rbx)\n"
                   "addl $3, 0x10(%rbx)\n"
                   "movups %xmm0, 0x20(%rbx)\n"
                   "mov (%rbx), %cl\n"
                   "out %al, $0x10\n"
                   "jmp 1b");

static void expect_rom_store(struct guest *g, uint64_t gpa, unsigned len, uint64_t data)
{
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, gpa);
    CHECK_EQ(run->mmio.is_write, 1);
    CHECK_EQ(run->mmio.len, len);
    CHECK(!memcmp(run->mmio.data, &data, len));
}

static void rom(void)
{
    struct guest *g = long_guest(0, CODE_OF(to_rom));
    uint8_t *p = pages_new(4096), before[4096];
    memset(p, 0x11, 4096);
    memcpy(before, p, 4096);
    set_region(g, 1, KVM_MEM_READONLY, ABOVE, 4096, p);
    for (unsigned round = 0; round < 3; round++) {
        set_regs(g, 7, 0x50000);
        warm_up(g);
        CHECK_EQ(g->ram[0x50000], 7);
        set_regs(g, 7, ABOVE);
        expect_rom_store(g, ABOVE, 1, 7);
        expect_rom_store(g, ABOVE + 0x10, 4, 0x11111114);
        expect_rom_store(g, ABOVE + 0x20, 8, 0);
        expect_rom_store(g, ABOVE + 0x28, 8, 0);
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(guest_regs(g, 0).rcx & 0xff, 0x11);
        CHECK(!memcmp(p, before, 4096));
    }
}

/* Code runs from ROM; its own stores into it do nothing to it. */
static void code_in_rom(void)
{
    struct guest *g = long_guest(0, CODE_OF(caller));
    uint8_t *p = pages_new(4096);
    memcpy(p, (uint8_t[]){0xb8, 9, 0, 0, 0, 0xc6, 0x05, 0xf5, 0xff, 0xff, 0xff, 5, 0xc3},
           13); /* mov eax,9; mov byte [itself+1],5; ret */
    set_region(g, 1, KVM_MEM_READONLY, ABOVE, 4096, p);
    set_regs(g, 0, ABOVE);
    for (unsigned round = 0; round < HOT; round++) {
        expect_rom_store(g, ABOVE + 1, 1, 5);
        run_expecting(g, 9);
    }
    CHECK_EQ(p[1], 9);
}

/* A RAM slot becomes ROM under a guest that writes to it, and RAM again. */
static void ram_becomes_rom(void)
{
    struct guest *g = long_guest(0, CODE_OF(to_rom));
    uint8_t *p = pages_new(4096);
    set_regs(g, 7, ABOVE);
    for (unsigned round = 0; round < 3; round++) {
        set_region(g, 1, 0, ABOVE, 4096, p);
        warm_up(g);
        CHECK_EQ(p[0], 7);
        set_region(g, 1, 0, 0, 0, NULL);
        set_region(g, 1, KVM_MEM_READONLY, ABOVE, 4096, p);
        expect_rom_store(g, ABOVE, 1, 7);
        RUN(g, 0, KVM_EXIT_MMIO);
        RUN(g, 0, KVM_EXIT_MMIO);
        RUN(g, 0, KVM_EXIT_MMIO);
        RUN(g, 0, KVM_EXIT_IO);
        set_region(g, 1, 0, 0, 0, NULL);
    }
}

/* ---- coalesced MMIO, registers ---- */

GUEST_CODE(ten_stores, "1: mov $10, %ecx\n"
                       "2: mov %ecx, (%rbx)\n"
                       "dec %ecx\n"
                       "jnz 2b\n"
                       "out %al, $0x10\n"
                       "jmp 1b");

static void coalesced_stores(void)
{
    struct guest *g = long_guest(0, CODE_OF(ten_stores));
    struct kvm_coalesced_mmio_ring *ring = (void *)((uint8_t *)g->run[0] + KVM_COALESCED_MMIO_PAGE_OFFSET * 4096);
    struct kvm_coalesced_mmio_zone z = {.addr = ABOVE, .size = 0x100};
    unsigned max = (4096 - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
    set_regs(g, 0, 0x50000);
    warm_up(g);
    OK(g->vm, KVM_REGISTER_COALESCED_MMIO, &z);
    set_regs(g, 0, ABOVE + 0x10);
    for (unsigned round = 0; round < 50; round++) {
        RUN(g, 0, KVM_EXIT_IO);
        for (unsigned n = 10; n; n--) {
            const struct kvm_coalesced_mmio *m = &ring->coalesced_mmio[ring->first];
            CHECK(ring->first != ring->last);
            CHECK_EQ(m->phys_addr, ABOVE + 0x10);
            CHECK_EQ(m->len, 4);
            CHECK(!memcmp(m->data, &n, 4));
            ring->first = (ring->first + 1) % max;
        }
        CHECK_EQ(ring->first, ring->last);
    }
    OK(g->vm, KVM_UNREGISTER_COALESCED_MMIO, &z);
    RUN(g, 0, KVM_EXIT_MMIO);
}

/* Registers that user space changes through kvm_run at an exit in the middle of hot code. */
GUEST_CODE(adder, "1: add %rcx, %rax\n"
                  "lea 1(%rax, %r15, 2), %rsp\n"
                  "out %al, $0x10\n"
                  "jmp 1b");

static void registers_through_run(void)
{
    struct guest *g = long_guest(0, CODE_OF(adder));
    struct kvm_run *run = g->run[0];
    set_regs(g, 0, 0);
    warm_up(g);
    run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    RUN(g, 0, KVM_EXIT_IO);
    for (uint64_t n = 1; n < 50; n++) {
        struct kvm_regs *r = &run->s.regs.regs;
        r->rax = n << 40;
        r->rcx = n;
        r->r15 = 3 * n;
        run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(r->rax, (n << 40) + n);
        CHECK_EQ(r->rsp, (n << 40) + n + 1 + 6 * n);
        CHECK_EQ(run->s.regs.sregs.cr3, 0x100000);
    }
    run->s.regs.sregs.cr4 |= BIT64(40);
    run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
    run->kvm_dirty_regs = BIT64(20);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
    run->kvm_dirty_regs = 0;
    run->kvm_valid_regs = BIT64(20);
    FAILS(g->vcpu[0], KVM_RUN, 0, EINVAL);
}

#define EMULATED "a software-only /dev/kvm emulates this code"
const struct test tests[] = {
    {"stores are logged", stores_are_logged, NULL},
    {"stores after clearing", stores_after_clearing, NULL},
    {"logging comes and goes", logging_comes_and_goes, NULL},
    {"rewritten code is logged", rewritten_code_is_logged, NULL},
    {"code written by a device", code_written_by_device, NULL},
    {"slot with code replaced", slot_with_code_replaced, NULL},
    {"slot with code moved", slot_with_code_moved, NULL},
    {"code under two addresses", code_under_two_addresses, NULL},
    {"breakpoint in hot code", breakpoint_in_hot_code, EMULATED ", without breakpoints"},
    {"rom", rom, NULL},
    {"code in rom", code_in_rom, NULL},
    {"ram becomes rom", ram_becomes_rom, NULL},
    {"coalesced stores", coalesced_stores, NULL},
    {"registers through kvm_run", registers_through_run, NULL},
    {NULL, NULL, NULL},
};
