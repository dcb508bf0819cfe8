// SPDX-License-Identifier: GPL-2.0-or-later
/* ioeventfd, coalesced zones, irqfd. */
#include "harness.h"

#include <fcntl.h>
#include <unistd.h>

static int ioeventfd(struct guest *g, int fd, uint64_t addr, uint32_t len, uint32_t flags, uint64_t match)
{
    struct kvm_ioeventfd e = {.fd = fd, .addr = addr, .len = len, .flags = flags, .datamatch = match};
    return be->ioctl(g->vm, KVM_IOEVENTFD, &e) < 0 ? errno : 0;
}

#define PIO   KVM_IOEVENTFD_FLAG_PIO
#define MATCH KVM_IOEVENTFD_FLAG_DATAMATCH
#define OFF   KVM_IOEVENTFD_FLAG_DEASSIGN

static void ioeventfd_arguments(void)
{
    struct guest *g = guest_new(1, 0);
    int a = eventfd_new(), b = eventfd_new(), file = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_EQ(ioeventfd(g, a, 0x10, 3, PIO, 0), EINVAL);
    CHECK_EQ(ioeventfd(g, a, 0x10, 16, PIO, 0), EINVAL);
    CHECK_EQ(ioeventfd(g, a, ~0ull, 4, 0, 0), EINVAL);
    CHECK_EQ(ioeventfd(g, a, 0x10, 4, 1 << 8, 0), EINVAL);
    CHECK_EQ(ioeventfd(g, a, 0x10, 0, MATCH, 0), EINVAL);
    CHECK_EQ(ioeventfd(g, 1000, 0x10, 4, 0, 0), EBADF);
    CHECK_EQ(ioeventfd(g, file, 0x10, 4, 0, 0), EINVAL);
    close(file);
    CHECK_EQ(ioeventfd(g, a, 0x10, 4, PIO | OFF, 0), ENOENT);
    CHECK_EQ(ioeventfd(g, a, 0x10, 2, PIO | MATCH, 1), 0);
    CHECK_EQ(ioeventfd(g, b, 0x10, 2, PIO | MATCH, 1), EEXIST);
    CHECK_EQ(ioeventfd(g, b, 0x10, 2, PIO, 0), EEXIST);
    CHECK_EQ(ioeventfd(g, b, 0x10, 0, PIO, 0), EEXIST);
    CHECK_EQ(ioeventfd(g, b, 0x10, 2, PIO | MATCH, 2), 0);
    CHECK_EQ(ioeventfd(g, b, 0x10, 1, PIO | MATCH, 1), 0);
    CHECK_EQ(ioeventfd(g, b, 0x10, 2, MATCH, 1), 0); /* the other address space */
    CHECK_EQ(ioeventfd(g, b, 0x10, 2, PIO | MATCH | OFF, 1), ENOENT); /* that one is a's */
    CHECK_EQ(ioeventfd(g, a, 0x10, 2, PIO | MATCH | OFF, 1), 0);
    CHECK_EQ(ioeventfd(g, a, 0x10, 2, PIO | MATCH | OFF, 1), ENOENT);
}

static void ioeventfd_ports(void)
{
    struct guest *g = guest_new(1, 0);
    int any = eventfd_new(), five = eventfd_new(), all = eventfd_new();
    CHECK_EQ(ioeventfd(g, five, 0x10, 1, PIO | MATCH, 5), 0);
    CHECK_EQ(ioeventfd(g, any, 0x20, 2, PIO, 0), 0);
    CHECK_EQ(ioeventfd(g, all, 0x30, 0, PIO, 0), 0);
    close(dup(any));
    /* mov al,5; out 0x10,al; out 0x20,ax; out 0x20,ax; out 0x30,al; out 0x30,eax; mov al,6; out 0x10,al; out 0x20,al; in al,0x20;
     * hlt */
    guest_real(g, 0, 0x1000,
               CODE(0xb0, 5, 0xe6, 0x10, 0xe7, 0x20, 0xe7, 0x20, 0xe6, 0x30, 0x66, 0xe7, 0x30, 0xb0, 6, 0xe6, 0x10, 0xe6, 0x20,
                    0xe4, 0x20, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_IO); /* 6 matches nothing */
    CHECK_EQ(run->io.port, 0x10);
    CHECK_EQ(eventfd_count(five), 1);
    CHECK_EQ(eventfd_count(any), 2);
    CHECK_EQ(eventfd_count(all), 2);
    run = RUN(g, 0, KVM_EXIT_IO); /* another size */
    CHECK_EQ(run->io.port, 0x20);
    CHECK_EQ(run->io.direction, KVM_EXIT_IO_OUT);
    run = RUN(g, 0, KVM_EXIT_IO); /* reads are never taken */
    CHECK_EQ(run->io.direction, KVM_EXIT_IO_IN);
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(eventfd_count(any), 0);
}

/* The eventfd stays known by what it is: user space may close its descriptor and take it out by another. */
static void ioeventfd_identity(void)
{
    struct guest *g = guest_new(1, 0);
    int a = eventfd_new(), copy = fcntl(a, F_DUPFD_CLOEXEC, 100), other = eventfd_new();
    CHECK_EQ(ioeventfd(g, copy, 0x10, 1, PIO, 0), 0);
    CHECK_EQ(ioeventfd(g, other, 0x10, 1, PIO | OFF, 0), ENOENT);
    close(copy);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x10, 0xf4));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK_EQ(eventfd_count(a), 1);
    CHECK_EQ(ioeventfd(g, a, 0x10, 1, PIO | OFF, 0), 0);
    guest_real(g, 0, 0x1000, CODE(0xe6, 0x10, 0xf4));
    RUN(g, 0, KVM_EXIT_IO);
}

static void ioeventfd_mmio(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x180000);
    int a = eventfd_new(), b = eventfd_new();
    CHECK_EQ(ioeventfd(g, a, 0x180000, 4, MATCH, 0x11223344), 0);
    CHECK_EQ(ioeventfd(g, b, 0x180010, 0, 0, 0), 0);
    /* mov rbx,0x180000; mov dword [rbx],0x11223344; mov [rbx+16],rax; mov [rbx+16],al; mov dword [rbx],0; hlt */
    guest_long(g, 0, 0x1000,
               CODE(0x48, 0xc7, 0xc3, 0x00, 0x00, 0x18, 0x00, 0xc7, 0x03, 0x44, 0x33, 0x22, 0x11, 0x48, 0x89, 0x43, 0x10, 0x88,
                    0x43, 0x10, 0xc7, 0x03, 0, 0, 0, 0, 0xf4));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x180000);
    CHECK_EQ(eventfd_count(a), 1);
    CHECK_EQ(eventfd_count(b), 2);
    RUN(g, 0, KVM_EXIT_HLT);
}

static struct kvm_coalesced_mmio_ring *ring(struct guest *g)
{
    return (void *)((uint8_t *)g->run[0] + 4096 * OK(g->sys, KVM_CHECK_EXTENSION, KVM_CAP_COALESCED_MMIO));
}

static void coalesced(void)
{
    struct guest *g = guest_new(1, 0);
    guest_cut_ram(g, 0x10000);
    struct kvm_coalesced_mmio_zone z = {.addr = 0x20000, .size = 0x100, .pio = 2};
    FAILS(g->vm, KVM_REGISTER_COALESCED_MMIO, &z, EINVAL);
    FAILS(g->vm, KVM_UNREGISTER_COALESCED_MMIO, &z, EINVAL);
    z.pio = 0;
    OK(g->vm, KVM_REGISTER_COALESCED_MMIO, &z);
    struct kvm_coalesced_mmio_zone p = {.addr = 0x60, .size = 2, .pio = 1};
    OK(g->vm, KVM_REGISTER_COALESCED_MMIO, &p);
    /* mov ax,0x2000; mov ds,ax; mov [0x10],ax; out 0x61,al; mov [0xff],ax (half outside); mov al,[0x10]; hlt */
    static const uint8_t code[] = {0xb8, 0x00, 0x20, 0x8e, 0xd8, 0xa3, 0x10, 0x00, 0xe6,
                                   0x61, 0xa3, 0xff, 0x00, 0xa0, 0x10, 0x00, 0xf4};
    guest_real(g, 0, 0x1000, code, sizeof(code));
    struct kvm_run *run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x200ff);
    struct kvm_coalesced_mmio_ring *r = ring(g);
    CHECK_EQ(r->first, 0);
    CHECK_EQ(r->last, 2);
    CHECK_EQ(r->coalesced_mmio[0].phys_addr, 0x20010);
    CHECK_EQ(r->coalesced_mmio[0].len, 2);
    CHECK_EQ(r->coalesced_mmio[0].pio, 0);
    CHECK(!memcmp(r->coalesced_mmio[0].data, "\x00\x20", 2));
    CHECK_EQ(r->coalesced_mmio[1].phys_addr, 0x61);
    CHECK_EQ(r->coalesced_mmio[1].pio, 1);
    run = RUN(g, 0, KVM_EXIT_MMIO); /* reads exit */
    CHECK_EQ(run->mmio.is_write, 0);
    RUN(g, 0, KVM_EXIT_HLT);
    OK(g->vm, KVM_UNREGISTER_COALESCED_MMIO, &z);
    guest_real(g, 0, 0x1000, code, sizeof(code));
    run = RUN(g, 0, KVM_EXIT_MMIO);
    CHECK_EQ(run->mmio.phys_addr, 0x20010);
}

/* A full ring lets the write through as an exit; nothing is lost. */
static void coalesced_full(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_coalesced_mmio_zone p = {.addr = 0x60, .size = 1, .pio = 1};
    OK(g->vm, KVM_REGISTER_COALESCED_MMIO, &p);
    /* mov cx,400; again: mov al,cl; out 0x60,al; loop again; hlt */
    guest_real(g, 0, 0x1000, CODE(0xb9, 0x90, 0x01, 0x88, 0xc8, 0xe6, 0x60, 0xe2, 0xfa, 0xf4));
    struct kvm_coalesced_mmio_ring *r = ring(g);
    unsigned max = (4096 - sizeof(*r)) / sizeof(r->coalesced_mmio[0]), seen = 0;
    for (;;) {
        OK(g->vcpu[0], KVM_RUN, 0);
        for (; r->first != r->last; r->first = (r->first + 1) % max, seen++)
            CHECK_EQ(r->coalesced_mmio[r->first].data[0], (uint8_t)(400 - seen));
        if (g->run[0]->exit_reason != KVM_EXIT_IO)
            break;
        CHECK_EQ(*((uint8_t *)g->run[0] + g->run[0]->io.data_offset), (uint8_t)(400 - seen));
        seen++;
    }
    CHECK_EQ(g->run[0]->exit_reason, KVM_EXIT_HLT);
    CHECK_EQ(seen, 400);
}

/* ---- irqfd; seen in the IRR of a LAPIC that nobody runs ---- */

static int irqfd(struct guest *g, int fd, uint32_t gsi, uint32_t flags, int resample)
{
    struct kvm_irqfd i = {.fd = (uint32_t)fd, .gsi = gsi, .flags = flags, .resamplefd = (uint32_t)resample};
    return be->ioctl(g->vm, KVM_IRQFD, &i) < 0 ? errno : 0;
}

static bool in_irr(struct guest *g, unsigned cpu, unsigned vector)
{
    struct kvm_lapic_state s;
    OK(g->vcpu[cpu], KVM_GET_LAPIC, &s);
    uint32_t word;
    memcpy(&word, s.regs + 0x200 + vector / 32 * 16, 4);
    return word >> (vector % 32) & 1;
}

static void route_msi(struct guest *g, uint32_t gsi, uint8_t vector)
{
    struct {
        struct kvm_irq_routing head;
        struct kvm_irq_routing_entry e[1];
    } r = {.head.nr = 1, .e = {{.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {.address_lo = 0xfee00000, .data = vector}}}};
    OK(g->vm, KVM_SET_GSI_ROUTING, &r);
}

static bool irr_within(struct guest *g, unsigned cpu, unsigned vector, int ms)
{
    for (int t = 0; t < ms; t++, usleep(1000))
        if (in_irr(g, cpu, vector))
            return true;
    return false;
}

static void irqfd_arguments(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP);
    int a = eventfd_new(), b = eventfd_new(), file = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_EQ(irqfd(g, a, 5, 4, 0), EINVAL);
    CHECK_EQ(irqfd(g, 1000, 5, 0, 0), EBADF);
    CHECK_EQ(irqfd(g, file, 5, 0, 0), EINVAL);
    CHECK_EQ(irqfd(g, a, 5, KVM_IRQFD_FLAG_RESAMPLE, file), EINVAL);
    close(file);
    CHECK_EQ(irqfd(g, a, 5, 0, 0), 0);
    CHECK_EQ(irqfd(g, a, 5, 0, 0), EBUSY);
    CHECK_EQ(irqfd(g, a, 6, 0, 0), EBUSY);
    CHECK_EQ(irqfd(g, b, 5, 0, 0), 0);
    CHECK_EQ(irqfd(g, b, 6, KVM_IRQFD_FLAG_DEASSIGN, 0), 0); /* not there: fine */
    CHECK_EQ(irqfd(g, a, 5, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
    CHECK_EQ(irqfd(g, a, 6, 0, 0), 0);
}

static void irqfd_needs_chip(void)
{
    struct guest *g = guest_new(1, 0);
    CHECK_EQ(irqfd(g, eventfd_new(), 5, 0, 0), EINVAL);
}

static void irqfd_msi(void)
{
    struct guest *g = guest_new(1, GUEST_SPLIT | GUEST_CPUID);
    int fd = eventfd_new(), copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);
    guest_enable_lapic(g, 0);
    route_msi(g, 30, 0x41);
    CHECK_EQ(irqfd(g, copy, 30, 0, 0), 0);
    close(copy);
    CHECK(!in_irr(g, 0, 0x41));
    write(fd, &(uint64_t){1}, 8);
    CHECK(irr_within(g, 0, 0x41, 120000));
    CHECK_EQ(eventfd_count(fd), 0); /* consumed */
    route_msi(g, 30, 0x52); /* a change of routes holds from the next event on */
    write(fd, &(uint64_t){1}, 8);
    CHECK(irr_within(g, 0, 0x52, 120000));
    CHECK_EQ(irqfd(g, fd, 30, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
    route_msi(g, 30, 0x63);
    write(fd, &(uint64_t){1}, 8);
    CHECK(!irr_within(g, 0, 0x63, 20));
    CHECK_EQ(eventfd_count(fd), 1); /* ours again */
    write(fd, &(uint64_t){1}, 8);
    CHECK_EQ(irqfd(g, fd, 30, 0, 0), 0); /* an event that waits already */
    CHECK(irr_within(g, 0, 0x63, 120000));
}

static void signal_msi(void)
{
    struct guest *g = guest_new(2, GUEST_SPLIT | GUEST_CPUID);
    guest_enable_lapic(g, 0);
    guest_enable_lapic(g, 1);
    struct kvm_msi m = {.address_lo = 0xfee01000, .data = 0x77};
    CHECK_EQ(OK(g->vm, KVM_SIGNAL_MSI, &m), 1);
    CHECK(in_irr(g, 1, 0x77));
    CHECK(!in_irr(g, 0, 0x77));
}

/* A level interrupt by irqfd: the guest's EOI tells user space, and the line stays down until it is raised again. */
static void irqfd_resample(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP | GUEST_CPUID);
    int fd = eventfd_new(), resample = eventfd_new();
    CHECK_EQ(irqfd(g, fd, 20, KVM_IRQFD_FLAG_RESAMPLE, resample), 0);
    guest_enable_lapic(g, 0);
    struct kvm_irqchip c = {.chip_id = KVM_IRQCHIP_IOAPIC};
    OK(g->vm, KVM_GET_IRQCHIP, &c);
    c.chip.ioapic.redirtbl[20].bits = 0x31 | 1 << 15; /* level, to APIC 0 */
    OK(g->vm, KVM_SET_IRQCHIP, &c);
    memcpy(g->ram + 4 * 0x31, &(uint32_t){0x2000}, 4);
    /* inc bx; mov dword [0xfee000b0],0 (EOI; by a 4 GiB limit of DS); iret */
    memcpy(g->ram + 0x2000, (uint8_t[]){0x43, 0x67, 0x66, 0xc7, 0x05, 0xb0, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0xcf}, 14);
    guest_real(g, 0, 0x1000, CODE(0xfb, 0xf4, 0xe6, 0x10, 0xeb, 0xfc)); /* sti; hlt; again: out 0x10,al; jmp again */
    struct kvm_sregs sregs;
    OK(g->vcpu[0], KVM_GET_SREGS, &sregs);
    sregs.ds.limit = 0xffffffff;
    sregs.ds.g = 1;
    OK(g->vcpu[0], KVM_SET_SREGS, &sregs);
    for (unsigned i = 1; i <= 3; i++) {
        write(fd, &(uint64_t){1}, 8);
        CHECK(irr_within(g, 0, 0x31, 120000));
        OK(g->vm, KVM_GET_IRQCHIP, &c);
        CHECK_EQ(c.chip.ioapic.redirtbl[20].fields.remote_irr, 1);
        CHECK(!eventfd_wait(resample, 10));
        RUN(g, 0, KVM_EXIT_IO);
        CHECK_EQ(guest_regs(g, 0).rbx, i); /* once: the line went down with the EOI */
        CHECK(eventfd_wait(resample, 120000));
        CHECK_EQ(eventfd_count(resample), 1);
        OK(g->vm, KVM_GET_IRQCHIP, &c);
        CHECK_EQ(c.chip.ioapic.redirtbl[20].fields.remote_irr, 0);
    }
    CHECK_EQ(irqfd(g, fd, 20, KVM_IRQFD_FLAG_DEASSIGN, 0), 0);
}

const struct test tests[] = {
    {"ioeventfd arguments", ioeventfd_arguments, NULL},
    {"ioeventfd ports", ioeventfd_ports, NULL},
    {"ioeventfd identity", ioeventfd_identity, NULL},
    {"ioeventfd mmio", ioeventfd_mmio, NULL},
    {"coalesced", coalesced, NULL},
    {"coalesced ring full", coalesced_full, NULL},
    {"irqfd arguments", irqfd_arguments, NULL},
    {"irqfd needs a chip", irqfd_needs_chip, NULL},
    {"irqfd to msi", irqfd_msi, NULL},
    {"signal msi", signal_msi, NULL},
    {"irqfd resample", irqfd_resample, NULL},
    {NULL, NULL, NULL},
};
