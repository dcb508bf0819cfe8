// SPDX-License-Identifier: GPL-2.0-or-later
/* Saved state: what is set is what is got, and what is refused. */
#include "harness.h"

static void regs(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_regs r, q;
    for (unsigned i = 0; i < sizeof(r) / 8; i++)
        ((uint64_t *)(void *)&r)[i] = 0x0101010101010101ull * (i + 1);
    r.rflags = 0x246;
    OK(g->vcpu[0], KVM_SET_REGS, &r);
    OK(g->vcpu[0], KVM_GET_REGS, &q);
    CHECK(!memcmp(&r, &q, sizeof(r)));
    r.rflags = 0x44; /* bit 1 is always set */
    OK(g->vcpu[0], KVM_SET_REGS, &r);
    OK(g->vcpu[0], KVM_GET_REGS, &q);
    CHECK_EQ(q.rflags, 0x46);
}

/* SDM vol. 3, table 9-1. */
static void power_up(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_regs r;
    struct kvm_sregs s;
    OK(g->vcpu[0], KVM_GET_REGS, &r);
    CHECK_EQ(r.rip, 0xfff0);
    CHECK_EQ(r.rflags, 2);
    CHECK_EQ(r.rsp, 0);
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    CHECK_EQ(s.cs.selector, 0xf000);
    CHECK_EQ(s.cs.base, 0xffff0000);
    CHECK_EQ(s.cs.limit, 0xffff);
    CHECK_EQ(s.cs.type, 11);
    CHECK_EQ(s.ds.type, 3);
    CHECK_EQ(s.ds.present, 1);
    CHECK_EQ(s.ds.unusable, 0);
    CHECK_EQ(s.tr.type, 11);
    CHECK_EQ(s.ldt.type, 2);
    CHECK_EQ(s.cr0, 0x60000010);
    CHECK_EQ(s.cr3 | s.cr4 | s.efer | s.cr8, 0);
    CHECK_EQ(s.idt.limit, 0xffff);
    CHECK_EQ(s.gdt.limit, 0xffff);
    CHECK_EQ(s.apic_base, 0xfee00900);
    struct kvm_debugregs d;
    OK(g->vcpu[0], KVM_GET_DEBUGREGS, &d);
    CHECK_EQ(d.dr6, 0xffff0ff0);
    CHECK_EQ(d.dr7, 0x400);
    struct kvm_xcrs x;
    OK(g->vcpu[0], KVM_GET_XCRS, &x);
    CHECK_EQ(x.nr_xcrs, 1);
    CHECK_EQ(x.xcrs[0].value, 1);
    struct kvm_fpu f;
    OK(g->vcpu[0], KVM_GET_FPU, &f);
    CHECK_EQ(f.fcw, 0x37f);
    CHECK_EQ(f.fsw | f.ftwx, 0);
}

static void sregs_round_trip(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_sregs s, t;
    guest_long(g, 0, 0x1000, CODE(0xf4));
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    s.fs.base = 0x123456789000;
    s.gs.base = 0xffff888000000000;
    s.tr = (struct kvm_segment){.base = 0x5000, .limit = 0x67, .selector = 0x40, .type = 11, .present = 1};
    s.ldt = (struct kvm_segment){.unusable = 1};
    s.gdt = (struct kvm_dtable){.base = 0xffffffff82000000, .limit = 0x7f};
    s.cr2 = 0xdeadbeef000;
    s.cr8 = 7;
    s.interrupt_bitmap[1] = BIT64(5);
    OK(g->vcpu[0], KVM_SET_SREGS, &s);
    OK(g->vcpu[0], KVM_GET_SREGS, &t);
    CHECK_EQ(t.fs.base, s.fs.base);
    CHECK_EQ(t.gs.base, s.gs.base);
    CHECK(!memcmp(&t.tr, &s.tr, sizeof(s.tr)));
    CHECK_EQ(t.ldt.unusable, 1);
    CHECK(!memcmp(&t.cs, &s.cs, sizeof(s.cs)));
    CHECK_EQ(t.gdt.base, s.gdt.base);
    CHECK_EQ(t.cr2, s.cr2);
    CHECK_EQ(t.cr3, s.cr3);
    CHECK_EQ(t.cr4, s.cr4);
    CHECK_EQ(t.cr8, 7);
    CHECK_EQ(t.efer, s.efer);
    CHECK_EQ(t.interrupt_bitmap[1], BIT64(5));
    struct kvm_vcpu_events e;
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &e);
    CHECK_EQ(e.interrupt.injected, 1);
    CHECK_EQ(e.interrupt.nr, 69);
}

static void sregs_refused(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_sregs good, s;
    guest_long(g, 0, 0x1000, CODE(0xf4));
    OK(g->vcpu[0], KVM_GET_SREGS, &good);
    s = good, s.cr4 &= ~0x20ull; /* long mode without PAE */
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.efer &= ~0x400ull; /* LME and PG without LMA */
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr0 &= ~0x80000000ull; /* LMA without PG */
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr0 &= ~0x80000000ull, s.efer = 0; /* a 64-bit code segment outside long mode */
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr3 |= BIT64(60);
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr4 |= BIT64(31);
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr0 |= BIT64(32);
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.cr0 |= BIT64(29); /* NW without CD */
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    s = good, s.apic_base |= 1;
    FAILS(g->vcpu[0], KVM_SET_SREGS, &s, EINVAL);
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    CHECK(!memcmp(&s, &good, sizeof(s))); /* nothing of it was taken */
}

static void sregs2(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_sregs2 s;
    guest_long(g, 0, 0x1000, CODE(0xf4));
    OK(g->vcpu[0], KVM_GET_SREGS2, &s);
    CHECK_EQ(s.flags, 0);
    s.flags = 2;
    FAILS(g->vcpu[0], KVM_SET_SREGS2, &s, EINVAL);
    s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID; /* not in long mode */
    FAILS(g->vcpu[0], KVM_SET_SREGS2, &s, EINVAL);
    s.flags = 0;
    OK(g->vcpu[0], KVM_SET_SREGS2, &s);
    /* PAE paging: the four entries are state of their own. */
    s.efer = 0;
    s.cs.l = 0;
    s.cs.db = 1;
    s.flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    for (unsigned i = 0; i < 4; i++)
        s.pdptrs[i] = 0x5001 + 0x1000 * i;
    OK(g->vcpu[0], KVM_SET_SREGS2, &s);
    memset(&s, 0, sizeof(s));
    OK(g->vcpu[0], KVM_GET_SREGS2, &s);
    CHECK_EQ(s.flags, KVM_SREGS2_FLAGS_PDPTRS_VALID);
    CHECK_EQ(s.pdptrs[3], 0x8001);
}

static void debugregs(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_debugregs d = {.db = {1, 2, 3, 0xffff800000000000}, .dr6 = 0xffff0ff1, .dr7 = 0x401}, e;
    OK(g->vcpu[0], KVM_SET_DEBUGREGS, &d);
    OK(g->vcpu[0], KVM_GET_DEBUGREGS, &e);
    CHECK(!memcmp(&d, &e, sizeof(d)));
    d.flags = 1;
    FAILS(g->vcpu[0], KVM_SET_DEBUGREGS, &d, EINVAL);
    d.flags = 0;
    d.dr6 = BIT64(32);
    FAILS(g->vcpu[0], KVM_SET_DEBUGREGS, &d, EINVAL);
    d.dr6 = 0;
    d.dr7 = BIT64(32);
    FAILS(g->vcpu[0], KVM_SET_DEBUGREGS, &d, EINVAL);
}

static void fpu(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_fpu f, q;
    memset(&f, 0, sizeof(f));
    f.fcw = 0x27f;
    f.fsw = 0x3800;
    f.ftwx = 0x80;
    memcpy(f.fpr[0], "\0\0\0\0\0\0\0\x80\xff\x3f", 10);
    f.last_opcode = 0x123;
    f.last_ip = 0x1000;
    f.last_dp = 0x2000;
    for (unsigned i = 0; i < 16; i++)
        memset(f.xmm[i], (int)i + 1, 16);
    OK(g->vcpu[0], KVM_SET_FPU, &f);
    OK(g->vcpu[0], KVM_GET_FPU, &q);
    q.mxcsr = 0;
    CHECK(!memcmp(&f, &q, sizeof(f)));
    if (be->real) /* its KVM_SET_FPU leaves XSTATE_BV alone, so nobody else sees these registers */
        return;
    struct kvm_xsave x;
    OK(g->vcpu[0], KVM_GET_XSAVE, &x);
    CHECK_EQ((uint16_t)x.region[0], 0x27f);
    CHECK(!memcmp((uint8_t *)x.region + 160 + 16 * 5, f.xmm[5], 16));
    CHECK_EQ(x.region[6], 0x1f80); /* MXCSR is KVM_SET_FPU's no affair */
    /* The guest sees it. movups [0x3000],xmm5; hlt (CR4.OSFXSR is set) */
    guest_long(g, 0, 0x1000, CODE(0x0f, 0x11, 0x2c, 0x25, 0x00, 0x30, 0x00, 0x00, 0xf4));
    RUN(g, 0, KVM_EXIT_HLT);
    CHECK(!memcmp(g->ram + 0x3000, f.xmm[5], 16));
}

static void xsave(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_xsave x, y;
    OK(g->vcpu[0], KVM_GET_XSAVE, &x);
    uint64_t *bv = (uint64_t *)(void *)((uint8_t *)x.region + 512);
    bv[0] = 3;
    memset((uint8_t *)x.region + 160, 0x5a, 256);
    x.region[6] = 0x1fa0;
    OK(g->vcpu[0], KVM_SET_XSAVE, &x);
    OK(g->vcpu[0], KVM_GET_XSAVE, &y);
    CHECK(!memcmp((uint8_t *)y.region + 160, (uint8_t *)x.region + 160, 256));
    CHECK_EQ(y.region[6], 0x1fa0);
    OK(g->vcpu[0], KVM_GET_XSAVE2, &y);
    CHECK(!memcmp((uint8_t *)y.region + 160, (uint8_t *)x.region + 160, 256));
    x.region[6] = 0xffff0000; /* reserved */
    FAILS(g->vcpu[0], KVM_SET_XSAVE, &x, EINVAL);
    x.region[6] = 0x1f80;
    bv[0] = BIT64(62);
    FAILS(g->vcpu[0], KVM_SET_XSAVE, &x, EINVAL);
    bv[0] = 3;
    bv[1] = BIT64(63) | 3; /* compacted */
    FAILS(g->vcpu[0], KVM_SET_XSAVE, &x, EINVAL);
}

static struct kvm_cpuid2 *supported_cpuid(const struct guest *g)
{
    static uint64_t room[(sizeof(struct kvm_cpuid2) + 256 * sizeof(struct kvm_cpuid_entry2)) / 8];
    struct kvm_cpuid2 *c = (void *)room;
    c->nent = 256;
    OK(g->sys, KVM_GET_SUPPORTED_CPUID, c);
    return c;
}

static struct kvm_cpuid_entry2 *leaf_xstate(struct kvm_cpuid2 *c)
{
    for (unsigned i = 0; i < c->nent; i++)
        if (c->entries[i].function == 0xd && c->entries[i].index == 0)
            return &c->entries[i];
    return NULL;
}

/* Each vCPU has AVX-512 if its own table admits that, and then its own registers. */
static void avx512(void)
{
    struct guest *g = guest_new(2, GUEST_CPUID);
    struct kvm_cpuid2 *c = supported_cpuid(g);
    struct kvm_cpuid_entry2 *state = leaf_xstate(c);
    if (!state || (state->eax & 0xe7) != 0xe7)
        return; /* this host has none */
    state->eax &= ~0xe0u;
    OK(g->vcpu[1], KVM_SET_CPUID2, c);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 0xe7}}};
    OK(g->vcpu[0], KVM_SET_XCRS, &x);
    FAILS(g->vcpu[1], KVM_SET_XCRS, &x, EINVAL);
    x.xcrs[0].value = 7;
    OK(g->vcpu[1], KVM_SET_XCRS, &x);
    /* vpbroadcastd zmm17, eax; hlt; vmovdqu32 [0x3000], zmm17; hlt */
    guest_long(g, 0, 0x1000, CODE(0x62, 0xe2, 0x7d, 0x48, 0x7c, 0xc8, 0xf4, 0x62, 0xe1, 0x7e, 0x48, 0x7f, 0x0c, 0x25, 0x00, 0x30, 0x00, 0x00, 0xf4));
    guest_long(g, 1, 0x2000, CODE(0xf4, 0x62, 0xe2, 0x7d, 0x48, 0x7c, 0xc8, 0xf4)); /* hlt; vpbroadcastd */
    for (unsigned n = 0; n < 2; n++) {
        struct kvm_sregs s;
        OK(g->vcpu[n], KVM_GET_SREGS, &s);
        s.cr4 |= BIT(9) | BIT(18); /* OSFXSR, OSXSAVE */
        OK(g->vcpu[n], KVM_SET_SREGS, &s);
    }
    struct kvm_regs r = guest_regs(g, 0);
    r.rax = 0x12345678;
    OK(g->vcpu[0], KVM_SET_REGS, &r);
    RUN(g, 0, KVM_EXIT_HLT);
    RUN(g, 1, KVM_EXIT_HLT);
    RUN(g, 1, KVM_EXIT_SHUTDOWN); /* #UD, and no IDT */
    RUN(g, 0, KVM_EXIT_HLT);
    for (unsigned n = 0; n < 64; n += 4)
        CHECK(!memcmp(g->ram + 0x3000 + n, "\x78\x56\x34\x12", 4));
}

static void xcrs(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = 3}}};
    OK(g->vcpu[0], KVM_SET_XCRS, &x);
    OK(g->vcpu[0], KVM_GET_XCRS, &x);
    CHECK_EQ(x.xcrs[0].value, 3);
    static const uint64_t bad[] = {0, 2, 5, 1ull << 62 | 1};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        x.xcrs[0].value = bad[i];
        FAILS(g->vcpu[0], KVM_SET_XCRS, &x, EINVAL);
    }
    x.xcrs[0].value = 1;
    x.flags = 1;
    FAILS(g->vcpu[0], KVM_SET_XCRS, &x, EINVAL);
    x.flags = 0;
    x.nr_xcrs = 17;
    FAILS(g->vcpu[0], KVM_SET_XCRS, &x, EINVAL);
}

static void events(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_vcpu_events e, q;
    memset(&e, 0, sizeof(e));
    e.exception.injected = 1;
    e.exception.nr = 13;
    e.exception.has_error_code = 1;
    e.exception.error_code = 0x18;
    e.nmi.pending = 1;
    e.nmi.masked = 1;
    e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
    e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    OK(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e);
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &q);
    CHECK_EQ(q.exception.injected, 1);
    CHECK_EQ(q.exception.pending, 0);
    CHECK_EQ(q.exception.nr, 13);
    CHECK_EQ(q.exception.has_error_code, 1);
    CHECK_EQ(q.exception.error_code, 0x18);
    CHECK_EQ(q.nmi.pending, 1);
    CHECK_EQ(q.nmi.masked, 1);
    CHECK(q.interrupt.shadow & KVM_X86_SHADOW_INT_STI); /* AMD's cannot tell the two shadows apart */
    CHECK_EQ(q.flags & ~(uint32_t)KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
             KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM);
    e.exception.nr = 32;
    FAILS(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e, EINVAL);
    e.exception.nr = 2;
    FAILS(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e, EINVAL);
    e.exception.nr = 13;
    e.flags = 1 << 10;
    FAILS(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e, EINVAL);
    e.flags = KVM_VCPUEVENT_VALID_PAYLOAD;
    FAILS(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e, EINVAL);
}

static void exception_payload(void)
{
    struct guest *g = guest_new(1, 0);
    struct kvm_enable_cap cap = {.cap = KVM_CAP_EXCEPTION_PAYLOAD, .args = {1}};
    OK(g->vm, KVM_ENABLE_CAP, &cap);
    struct kvm_vcpu_events e = {.flags = KVM_VCPUEVENT_VALID_PAYLOAD,
                                .exception = {.pending = 1, .nr = 14, .has_error_code = 1},
                                .exception_has_payload = 1,
                                .exception_payload = 0x12345},
                           q;
    OK(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e);
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &q);
    CHECK_EQ(q.exception.pending, 1);
    CHECK_EQ(q.exception.injected, 0);
    CHECK_EQ(q.exception_has_payload, 1);
    CHECK_EQ(q.exception_payload, 0x12345);
    CHECK(q.flags & KVM_VCPUEVENT_VALID_PAYLOAD);
    struct kvm_sregs s;
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    CHECK_EQ(s.cr2, 0); /* not before delivery */
    memcpy(g->ram + 4 * 14, &(uint32_t){0x2000}, 4);
    g->ram[0x2000] = 0xf4;
    guest_long(g, 0, 0x1000, CODE(0xf4)); /* KVM_SET_REGS drops a pending exception */
    OK(g->vcpu[0], KVM_GET_VCPU_EVENTS, &q);
    CHECK_EQ(q.exception.pending, 0);
    OK(g->vcpu[0], KVM_SET_VCPU_EVENTS, &e);
    RUN(g, 0, KVM_EXIT_SHUTDOWN); /* no IDT */
    OK(g->vcpu[0], KVM_GET_SREGS, &s);
    CHECK_EQ(s.cr2, 0x12345);
}

static void mp_state(void)
{
    struct guest *g = guest_new(2, GUEST_IRQCHIP);
    struct kvm_mp_state s = {9999};
    OK(g->vcpu[0], KVM_GET_MP_STATE, &s);
    CHECK_EQ(s.mp_state, KVM_MP_STATE_RUNNABLE);
    OK(g->vcpu[1], KVM_GET_MP_STATE, &s);
    CHECK_EQ(s.mp_state, KVM_MP_STATE_UNINITIALIZED);
    static const uint32_t good[] = {KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_HALTED, KVM_MP_STATE_INIT_RECEIVED,
                                    KVM_MP_STATE_UNINITIALIZED};
    for (unsigned i = 0; i < ARRAY_SIZE(good); i++) {
        s.mp_state = good[i];
        OK(g->vcpu[1], KVM_SET_MP_STATE, &s);
        OK(g->vcpu[1], KVM_GET_MP_STATE, &s);
        CHECK_EQ(s.mp_state, good[i]);
    }
    s.mp_state = 77;
    FAILS(g->vcpu[1], KVM_SET_MP_STATE, &s, EINVAL);
}

static void mp_state_without_lapic(void)
{
    struct guest *g = guest_new(2, 0);
    struct kvm_mp_state s;
    struct kvm_lapic_state l;
    OK(g->vcpu[1], KVM_GET_MP_STATE, &s);
    CHECK_EQ(s.mp_state, KVM_MP_STATE_RUNNABLE);
    s.mp_state = KVM_MP_STATE_HALTED;
    FAILS(g->vcpu[1], KVM_SET_MP_STATE, &s, EINVAL);
    FAILS(g->vcpu[1], KVM_GET_LAPIC, &l, EINVAL);
    memset(&l, 0, sizeof(l));
    FAILS(g->vcpu[1], KVM_SET_LAPIC, &l, EINVAL);
}

static void attributes(void)
{
    struct guest *g = guest_new(1, 0);
    int64_t offset = -1;
    struct kvm_device_attr a = {.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};
    OK(g->vcpu[0], KVM_HAS_DEVICE_ATTR, &a);
    offset = 123456789;
    OK(g->vcpu[0], KVM_SET_DEVICE_ATTR, &a);
    offset = 0;
    OK(g->vcpu[0], KVM_GET_DEVICE_ATTR, &a);
    CHECK_EQ(offset, 123456789);
    guest_long(g, 0, 0x10000, CODE(0x0f, 0x31, 0xf4)); /* rdtsc; hlt */
    uint64_t before = __builtin_ia32_rdtsc() + 123456789;
    RUN(g, 0, KVM_EXIT_HLT);
    struct kvm_regs r = guest_regs(g, 0);
    uint64_t now = r.rdx << 32 | r.rax;
    CHECK(now - before < __builtin_ia32_rdtsc() + 123456789 - before);
    a.addr = 8;
    FAILS(g->vcpu[0], KVM_GET_DEVICE_ATTR, &a, EFAULT);
    a.attr = 7;
    FAILS(g->vcpu[0], KVM_HAS_DEVICE_ATTR, &a, ENXIO);
    FAILS(g->vcpu[0], KVM_SET_DEVICE_ATTR, &a, ENXIO);
}

static void boot_cpu(void)
{
    struct guest *g = guest_new(0, GUEST_IRQCHIP);
    OK(g->vm, KVM_SET_BOOT_CPU_ID, 1);
    struct kvm_mp_state s;
    struct kvm_sregs r;
    for (unsigned i = 0; i < 2; i++) {
        int v = OK(g->vm, KVM_CREATE_VCPU, i);
        OK(v, KVM_GET_MP_STATE, &s);
        CHECK_EQ(s.mp_state, i == 1 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
        OK(v, KVM_GET_SREGS, &r);
        CHECK_EQ(r.apic_base, i == 1 ? 0xfee00900 : 0xfee00800);
        be->close(v);
    }
}

static void translate(void)
{
    struct guest *g = guest_new(1, GUEST_CPUID);
    guest_long(g, 0, 0x1000, CODE(0xf4));
    struct kvm_translation t = {.linear_address = 0x12345};
    OK(g->vcpu[0], KVM_TRANSLATE, &t);
    CHECK_EQ(t.valid, 1);
    CHECK_EQ(t.physical_address, 0x12345);
    t.linear_address = 0x40000000;
    OK(g->vcpu[0], KVM_TRANSLATE, &t);
    CHECK_EQ(t.valid, 0);
    CHECK_EQ(t.physical_address, ~0ull);
}

static void interrupt_with_chip(void)
{
    struct guest *g = guest_new(1, GUEST_IRQCHIP), *h = guest_new(1, GUEST_SPLIT);
    struct kvm_interrupt irq = {0x20};
    FAILS(g->vcpu[0], KVM_INTERRUPT, &irq, ENXIO);
    OK(h->vcpu[0], KVM_INTERRUPT, &irq);
    FAILS(h->vcpu[0], KVM_INTERRUPT, &irq, EEXIST);
}

const struct test tests[] = {
    {"regs", regs, NULL},
    {"power-up", power_up, NULL},
    {"sregs", sregs_round_trip, NULL},
    {"sregs refused", sregs_refused, NULL},
    {"sregs2", sregs2, "a software-only /dev/kvm never leaves long mode, so it tells no PDPTRs"},
    {"debugregs", debugregs, NULL},
    {"fpu", fpu, NULL},
    {"xsave", xsave, NULL},
    {"xcrs", xcrs, NULL},
    {"avx512", avx512, "a software-only /dev/kvm takes AVX-512 into XCR0 whatever the table says"},
    {"events", events, NULL},
    {"exception payload", exception_payload, NULL},
    {"mp_state", mp_state, NULL},
    {"mp_state without lapic", mp_state_without_lapic, NULL},
    {"boot cpu", boot_cpu, NULL},
    {"attributes", attributes, "a software-only /dev/kvm has no offset of the TSC"},
    {"translate", translate, NULL},
    {"interrupt with a chip", interrupt_with_chip, NULL},
    {NULL, NULL, NULL},
};
