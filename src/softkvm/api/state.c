// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Registers: KVM_GET/SET_REGS, SREGS, SREGS2, DEBUGREGS, LAPIC, TSC_KHZ, and KVM_TRANSLATE.
 *
 * Between KVM_EXIT_IO or KVM_EXIT_MMIO and the next KVM_RUN, rip points at the instruction that waits for the answer. If user space
 * changes rip or the code segment's base then, that instruction is forgotten, answer included. If it changes other registers, the
 * instruction is executed with the new ones; the answer counts if the same access comes out of that. (KVM completes the old access
 * in either case.)
 */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/mem.h"

#define RFLAGS_VALID 0x3f7fd5ull /* bits that are not reserved (SDM vol. 3, 2.3) */
#define EFER_VALID   (EFER_SCE | EFER_LME | EFER_LMA | EFER_NX)
#define CR4_KNOWN                                                                                                           \
    (CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT | \
     CR4_UMIP | CR4_FSGSBASE | CR4_PCIDE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE)

/* ---- general registers ---- */

int state_get_regs(struct vcpu *v, void *arg)
{
    struct kvm_regs *r = arg;
    *r = (struct kvm_regs){
        .rax = v->gpr[RAX], .rbx = v->gpr[RBX], .rcx = v->gpr[RCX], .rdx = v->gpr[RDX],
        .rsi = v->gpr[RSI], .rdi = v->gpr[RDI], .rsp = v->gpr[RSP], .rbp = v->gpr[RBP],
        .r8 = v->gpr[R8],   .r9 = v->gpr[R9],   .r10 = v->gpr[R10], .r11 = v->gpr[R11],
        .r12 = v->gpr[R12], .r13 = v->gpr[R13], .r14 = v->gpr[R14], .r15 = v->gpr[R15],
        .rip = v->rip,      .rflags = v->rflags,
    };
    return 0;
}

/* CPL is SS's DPL (SDM vol. 3, 25.4.1 note); real mode has none and virtual-8086 mode is 3, which cpu_update_mode() sees to. */
static void derive_mode(struct vcpu *v)
{
    v->cpl = SEG_DPL(&v->seg[SEG_SS]);
    cpu_update_mode(v);
    debug_update(v);
}

int state_set_regs(struct vcpu *v, void *arg)
{
    const struct kvm_regs *r = arg;
    const uint64_t gpr[16] = {[RAX] = r->rax, [RBX] = r->rbx, [RCX] = r->rcx, [RDX] = r->rdx, [RSI] = r->rsi, [RDI] = r->rdi,
                              [RSP] = r->rsp, [RBP] = r->rbp, [R8] = r->r8,   [R9] = r->r9,   [R10] = r->r10, [R11] = r->r11,
                              [R12] = r->r12, [R13] = r->r13, [R14] = r->r14, [R15] = r->r15};
    if (r->rip != v->rip)
        exits_drop(v);
    memcpy(v->gpr, gpr, sizeof(gpr));
    v->rip = r->rip;
    v->rflags = (r->rflags & RFLAGS_VALID) | FL_ONE;
    if (!v->api->exc_injected) /* as KVM: new registers are those of a vCPU without a pending exception */
        v->ev.exc_pending = false;
    derive_mode(v);
    cpu_request(v, REQ_EVENT);
    return 0;
}

/* ---- segments and control registers ---- */

static void get_segment(const struct segment *s, struct kvm_segment *k)
{
    *k = (struct kvm_segment){.base = s->base, .limit = s->limit, .selector = s->sel, .type = SEG_TYPE(s), .unusable = s->unusable};
    k->s = (s->attr & SEG_S) != 0;
    k->dpl = SEG_DPL(s);
    k->present = (s->attr & SEG_P) && !s->unusable;
    k->avl = (s->attr & SEG_AVL) != 0;
    k->l = (s->attr & SEG_L) != 0;
    k->db = (s->attr & SEG_DB) != 0;
    k->g = (s->attr & SEG_G) != 0;
}

static void set_segment(struct vcpu *v, enum seg_reg reg, const struct kvm_segment *k)
{
    unsigned attr = (k->type & 15u) | (k->s & 1u) << 4 | (k->dpl & 3u) << 5 | (k->present & 1u) << 7 | (k->avl & 1u) << 12 |
                    (k->l & 1u) << 13 | (k->db & 1u) << 14 | (k->g & 1u) << 15;
    v->seg[reg] = (struct segment){.base = k->base,
                                   .limit = k->limit,
                                   .sel = k->selector,
                                   .attr = (uint16_t)attr,
                                   .unusable = k->unusable || !k->present};
    seg_fixup(v, reg);
}

/* struct kvm_sregs and kvm_sregs2 begin alike, up to apic_base. */
#define SREGS_COMMON offsetof(struct kvm_sregs, interrupt_bitmap)
_Static_assert(SREGS_COMMON == offsetof(struct kvm_sregs2, flags), "the two differ in their tails only");

static void get_common(struct vcpu *v, struct kvm_sregs *s)
{
    get_segment(&v->seg[SEG_CS], &s->cs);
    get_segment(&v->seg[SEG_DS], &s->ds);
    get_segment(&v->seg[SEG_ES], &s->es);
    get_segment(&v->seg[SEG_FS], &s->fs);
    get_segment(&v->seg[SEG_GS], &s->gs);
    get_segment(&v->seg[SEG_SS], &s->ss);
    get_segment(&v->seg[SEG_TR], &s->tr);
    get_segment(&v->seg[SEG_LDTR], &s->ldt);
    s->gdt = (struct kvm_dtable){.base = v->gdt.base, .limit = v->gdt.limit};
    s->idt = (struct kvm_dtable){.base = v->idt.base, .limit = v->idt.limit};
    s->cr0 = v->cr0;
    s->cr2 = v->cr2;
    s->cr3 = v->cr3;
    s->cr4 = v->cr4;
    s->cr8 = v->lapic ? lapic_tpr_get(v) : v->cr8;
    s->efer = v->efer;
    s->apic_base = v->apic_base;
}

int state_get_sregs(struct vcpu *v, void *arg)
{
    struct kvm_sregs *s = arg;
    memset(s, 0, sizeof(*s));
    get_common(v, s);
    if (v->ev.irq_pending && !v->ev.irq_soft)
        s->interrupt_bitmap[v->ev.irq_vector / 64] |= BIT64(v->ev.irq_vector % 64);
    return 0;
}

static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

int state_get_sregs2(struct vcpu *v, void *arg)
{
    struct kvm_sregs2 *s2 = arg;
    struct kvm_sregs s;
    memset(s2, 0, sizeof(*s2));
    memset(&s, 0, sizeof(s));
    get_common(v, &s);
    memcpy(s2, &s, SREGS_COMMON);
    if (pae_paging(v->cr0, v->cr4, v->efer)) {
        memcpy(s2->pdptrs, v->pdptr, sizeof(v->pdptr));
        s2->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
    }
    return 0;
}

/* CR4 bits that the guest's CPUID admits; before KVM_SET_CPUID2 all that is offered. */
static uint64_t cr4_admitted(const struct vcpu *v)
{
    uint64_t mask = cpuid_offered_xcr0() & XCR0_PKRU ? CR4_KNOWN : CR4_KNOWN & ~CR4_PKE;
    if (!v->cpuid_count)
        return mask;
    mask &= v->has.umip ? ~0ull : ~CR4_UMIP;
    mask &= v->has.fsgsbase ? ~0ull : ~CR4_FSGSBASE;
    mask &= v->has.pcid ? ~0ull : ~CR4_PCIDE;
    mask &= v->has.xsave ? ~0ull : ~CR4_OSXSAVE;
    mask &= v->has.smep ? ~0ull : ~CR4_SMEP;
    mask &= v->has.smap ? ~0ull : ~CR4_SMAP;
    mask &= v->has.pku ? ~0ull : ~CR4_PKE;
    return mask;
}

static bool sregs_valid(const struct vcpu *v, const struct kvm_sregs *s)
{
    bool paging = s->cr0 & CR0_PG, lma = s->efer & EFER_LMA;
    if (s->cr0 >> 32 || ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)) || (paging && !(s->cr0 & CR0_PE)))
        return false;
    if ((s->efer & ~EFER_VALID) || (s->cr4 & ~cr4_admitted(v)))
        return false;
    if ((s->efer & EFER_LME) && paging) /* IA-32e mode; the code segment may be a 32-bit one */
        return (s->cr4 & CR4_PAE) && lma && !(s->cr3 >> v->phys_bits);
    return !lma && !s->cs.l;
}

static void set_tables(struct vcpu *v, const struct kvm_sregs *s)
{
    set_segment(v, SEG_CS, &s->cs);
    set_segment(v, SEG_DS, &s->ds);
    set_segment(v, SEG_ES, &s->es);
    set_segment(v, SEG_FS, &s->fs);
    set_segment(v, SEG_GS, &s->gs);
    set_segment(v, SEG_SS, &s->ss);
    set_segment(v, SEG_TR, &s->tr);
    set_segment(v, SEG_LDTR, &s->ldt);
    v->gdt = (struct desc_table){.base = s->gdt.base, .limit = s->gdt.limit};
    v->idt = (struct desc_table){.base = s->idt.base, .limit = s->idt.limit};
}

static int set_common(struct vcpu *v, const struct kvm_sregs *s)
{
    if (!sregs_valid(v, s))
        return -EINVAL;
    if (lapic_set_base(v, s->apic_base, true))
        return -EINVAL;
    if (s->cs.base != v->seg[SEG_CS].base)
        exits_drop(v);
    set_tables(v, s);
    v->cr0 = s->cr0 | CR0_ET;
    v->cr2 = s->cr2;
    v->cr3 = s->cr3;
    v->cr4 = s->cr4;
    v->efer = s->efer;
    if (v->lapic)
        lapic_tpr_set(v, s->cr8 & 15);
    else
        v->cr8 = v->run->cr8 = s->cr8 & 15;
    mmu_flush_all(v);
    derive_mode(v);
    /* User space that resets a vCPU without knowing of KVM_SET_MP_STATE means that it runs again. */
    if (vcpu_is_bsp(v) && v->rip == 0xfff0 && s->cs.selector == 0xf000 && s->cs.base == 0xffff0000 && !(v->cr0 & CR0_PE))
        atomic_store(&v->mp_state, KVM_MP_STATE_RUNNABLE);
    cpu_request(v, REQ_EVENT);
    return 0;
}

int state_set_sregs(struct vcpu *v, void *arg)
{
    const struct kvm_sregs s = *(const struct kvm_sregs *)arg;
    int err = set_common(v, &s);
    if (err)
        return err;
    if (pae_paging(v->cr0, v->cr4, v->efer) && !mmu_load_pdptrs(v, v->cr3))
        memset(v->pdptr, 0, sizeof(v->pdptr)); /* nothing is present; KVM's guest would fail to enter */
    for (unsigned vec = 0; vec < KVM_NR_INTERRUPTS; vec++) {
        if (!(s.interrupt_bitmap[vec / 64] & BIT64(vec % 64)))
            continue;
        v->ev.irq_pending = true;
        v->ev.irq_soft = false;
        v->ev.irq_vector = (uint8_t)vec;
        break;
    }
    return 0;
}

int state_set_sregs2(struct vcpu *v, void *arg)
{
    const struct kvm_sregs2 s2 = *(const struct kvm_sregs2 *)arg;
    struct kvm_sregs s = {0};
    memcpy(&s, &s2, SREGS_COMMON);
    bool given = s2.flags & KVM_SREGS2_FLAGS_PDPTRS_VALID, pae = pae_paging(s.cr0, s.cr4, s.efer);
    if ((s2.flags & ~(uint64_t)KVM_SREGS2_FLAGS_PDPTRS_VALID) || (given && !pae))
        return -EINVAL;
    int err = set_common(v, &s);
    if (err)
        return err;
    if (given)
        memcpy(v->pdptr, s2.pdptrs, sizeof(v->pdptr));
    else if (pae && !mmu_load_pdptrs(v, v->cr3))
        memset(v->pdptr, 0, sizeof(v->pdptr));
    return 0;
}

/* ---- debug registers ---- */

int state_get_debugregs(struct vcpu *v, void *arg)
{
    struct kvm_debugregs *d = arg;
    memset(d, 0, sizeof(*d));
    memcpy(d->db, v->dr, sizeof(d->db));
    d->dr6 = v->dr[6];
    d->dr7 = v->dr[7];
    return 0;
}

int state_set_debugregs(struct vcpu *v, void *arg)
{
    const struct kvm_debugregs d = *(const struct kvm_debugregs *)arg;
    if (d.flags || d.dr6 >> 32 || d.dr7 >> 32)
        return -EINVAL;
    memcpy(v->dr, d.db, sizeof(d.db));
    dr_write(v, 6, d.dr6);
    dr_write(v, 7, d.dr7);
    return 0;
}

/* ---- the rest ---- */

int state_translate(struct vcpu *v, void *arg)
{
    struct kvm_translation *t = arg;
    uint64_t gpa = ~0ull;
    bool writable = false, user = false;
    t->valid = mmu_translate_debug(v, t->linear_address, &gpa, &writable, &user);
    t->physical_address = t->valid ? gpa : ~0ull;
    t->writeable = writable;
    t->usermode = user;
    return 0;
}

int state_get_lapic(struct vcpu *v, void *arg)
{
    return v->lapic ? lapic_get(v, arg) : -EINVAL;
}

int state_set_lapic(struct vcpu *v, void *arg)
{
    return v->lapic ? lapic_set(v, arg) : -EINVAL;
}

/* ---- attributes: the TSC's offset is the only one ---- */

int state_has_attr(struct vcpu *v, void *arg)
{
    (void)v;
    const struct kvm_device_attr *a = arg;
    return a->group == KVM_VCPU_TSC_CTRL && a->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

static int attr_value(struct vcpu *v, const struct kvm_device_attr *a, int64_t **value)
{
    *value = (int64_t *)(uintptr_t)a->addr;
    int err = state_has_attr(v, (void *)(uintptr_t)a);
    return err ? err : api_check_arg(ARG_PTR, *value);
}

int state_get_attr(struct vcpu *v, void *arg)
{
    int64_t *value;
    int err = attr_value(v, arg, &value);
    if (!err)
        *value = v->tsc_offset;
    return err;
}

int state_set_attr(struct vcpu *v, void *arg)
{
    int64_t *value;
    int err = attr_value(v, arg, &value);
    if (!err)
        msr_set_tsc_offset(v, *value);
    return err;
}

int state_get_tsc_khz(struct vcpu *v, void *arg)
{
    (void)arg;
    return (int)v->tsc_khz;
}

int state_pick_tsc_khz(const void *arg, uint32_t *khz)
{
    uint32_t wanted = (uint32_t)(uintptr_t)arg;
    uint64_t host = host_tsc_khz(), tolerance = host * 250 / 1000000; /* KVM's, within which it does not scale either */
    if (wanted && (wanted < host - tolerance || wanted > host + tolerance))
        return -EINVAL;
    *khz = wanted ? wanted : (uint32_t)host;
    return 0;
}

int state_set_tsc_khz(struct vcpu *v, void *arg)
{
    return state_pick_tsc_khz(arg, &v->tsc_khz);
}
