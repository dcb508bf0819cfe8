// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Runs a case on a vCPU of softkvm.
 *
 * The vCPU is in 64-bit mode with paging, its descriptor tables as a Linux process finds them, and an IDT whose gates lead nowhere: once an exception has
 * been delivered, CPL is 0, rip says which vector it was, and the frame on the kernel stack has the state of the interrupted code.
 */
#include <string.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "diff.h"
#include "guest.h"
#include "softkvm/api/api.h"
#include "softkvm/vm.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/debug.h"
#include "softkvm/x86/mem.h"

#define CODE_STEPS 100000 /* a REP that an interpreter may execute in pieces ends before that */

struct softkvm_vm guest_vm;
struct vcpu *guest_vcpu;
uint8_t *guest_ram;
static struct segment pristine_seg[SEG_COUNT];

static void put64(unsigned gpa, uint64_t v)
{
    memcpy(guest_ram + gpa, &v, 8);
}

static uint64_t get64(uint64_t kernel_address)
{
    uint64_t v;
    memcpy(&v, guest_ram + (kernel_address - KERNEL_BASE), 8);
    return v;
}

/* `attr` as in struct segment: access byte and flags. */
static uint64_t descriptor(uint64_t base, uint32_t limit, unsigned attr)
{
    return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)(attr & 0xf0ff) << 40 | (uint64_t)(limit >> 16 & 15) << 48 | (base >> 24 & 0xff) << 56;
}

static unsigned ldt_attr(const struct ldt_desc *d)
{
    unsigned type = d->code ? 0xb : d->down ? 7 : d->writable ? 3 : 1;
    return type | SEG_S | 3 << 5 | SEG_P | (d->db ? SEG_DB : 0) | (d->pages ? SEG_G : 0);
}

static void build_tables(void)
{
    put64(GPA_GDT + SEL_KERNEL_CS32, descriptor(0, 0xfffff, 0xc09b));
    put64(GPA_GDT + SEL_KERNEL_CS, descriptor(0, 0xfffff, 0xa09b));
    put64(GPA_GDT + SEL_KERNEL_DS, descriptor(0, 0xfffff, 0xc093));
    put64(GPA_GDT + (SEL_USER_CS32 & ~7), descriptor(0, 0xfffff, 0xc0fb));
    put64(GPA_GDT + (SEL_USER_DS & ~7), descriptor(0, 0xfffff, 0xc0f3));
    put64(GPA_GDT + (SEL_USER_CS64 & ~7), descriptor(0, 0xfffff, 0xa0fb));
    put64(GPA_GDT + SEL_TSS, descriptor(KERNEL_BASE + GPA_TSS, 0x67, 0x8b));
    put64(GPA_GDT + SEL_TSS + 8, (KERNEL_BASE + GPA_TSS) >> 32);
    put64(GPA_GDT + SEL_LDTR, descriptor(KERNEL_BASE + GPA_LDT, LDT_COUNT * 8 - 1, 0x82));
    put64(GPA_GDT + SEL_LDTR + 8, (KERNEL_BASE + GPA_LDT) >> 32);
    put64(GPA_GDT + SEL_CPU, descriptor(0, 1, 0x40f5));
    for (unsigned n = 0; n < LDT_COUNT; n++)
        put64(GPA_LDT + 8 * n, descriptor(ldt[n].base, ldt[n].limit, ldt_attr(&ldt[n])));
    put64(GPA_TSS + 4, KERNEL_BASE + GPA_STACK);
    put64(GPA_TSS + 0x60, 0xffffull << 48); /* no I/O permission bitmap */
    for (unsigned vector = 0; vector < 256; vector++) {
        uint64_t handler = HANDLER_BASE + 16 * vector;
        bool user = vector == EXC_BP || vector == EXC_OF;
        put64(GPA_IDT + 16 * vector, (handler & 0xffff) | SEL_KERNEL_CS << 16 | (uint64_t)(user ? 0xee : 0x8e) << 40 | (handler >> 16 & 0xffff) << 48);
        put64(GPA_IDT + 16 * vector + 8, handler >> 32);
    }
}

static void build_page_tables(void)
{
    static const uint64_t bits[] = {[PAGE_CODE] = PTE_P | PTE_U, [PAGE_RW] = PTE_P | PTE_W | PTE_U | PTE_NX, [PAGE_RO] = PTE_P | PTE_U | PTE_NX};
    const unsigned upper = PTE_P | PTE_W | PTE_U;
    put64(GPA_PML4, GPA_PDPT_LOW | upper);
    put64(GPA_PML4 + 8 * 511, GPA_PDPT_HIGH | upper);
    put64(GPA_PDPT_LOW, GPA_PD_LOW | upper);
    put64(GPA_PDPT_HIGH + 8 * 510, GPA_PD_HIGH | upper);
    put64(GPA_PD_LOW + 8 * (SCRATCH_BASE >> 21), GPA_PT_LOW | upper);
    put64(GPA_PD_HIGH, GPA_PT_HIGH | upper);
    for (unsigned page = 0; page < SCRATCH_PAGES; page++)
        if (scratch_kind[page] != PAGE_HOLE)
            put64(GPA_PT_LOW + 8 * page, (GPA_SCRATCH + page * PAGE_SIZE) | bits[scratch_kind[page]]);
    for (unsigned gpa = 0; gpa < GPA_KERNEL_END; gpa += PAGE_SIZE)
        put64(GPA_PT_HIGH + gpa / PAGE_SIZE * 8, gpa | PTE_P | PTE_W);
}

static void set_segment(struct vcpu *v, enum seg_reg n, uint16_t sel, uint64_t base, uint32_t limit, unsigned attr)
{
    v->seg[n] = (struct segment){.base = base, .limit = attr & SEG_G ? limit << 12 | 0xfff : limit, .sel = sel, .attr = (uint16_t)attr};
    seg_fixup(v, n);
}

void guest_load_segment(struct vcpu *v, enum seg_reg n, uint16_t sel)
{
    if (!(sel & ~3)) {
        v->seg[n] = (struct segment){.sel = sel, .unusable = true};
        seg_fixup(v, n);
    } else if (sel & 4) {
        const struct ldt_desc *d = &ldt[sel >> 3];
        set_segment(v, n, sel, d->base, d->limit, ldt_attr(d));
    } else {
        unsigned attr = sel == SEL_KERNEL_CS ? 0xa09b : sel == SEL_KERNEL_DS ? 0xc093 : sel == SEL_USER_CS64 ? 0xa0fb : sel == SEL_USER_CS32 ? 0xc0fb : 0xc0f3;
        set_segment(v, n, sel, 0, 0xfffff, attr);
    }
}

static int build_vm(void)
{
    struct slot_table *slots = calloc(1, sizeof(*slots) + sizeof(struct memslot));
    guest_ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!slots || guest_ram == MAP_FAILED)
        return -1;
    slots->count = 1;
    slots->slots[0] = (struct memslot){.gpa = 0, .size = RAM_SIZE, .hva = guest_ram};
    pthread_mutex_init(&guest_vm.lock, NULL);
    pthread_mutex_init(&guest_vm.exclusive, NULL);
    atomic_store(&guest_vm.slots, slots);
    mem_guest = guest_ram + GPA_SCRATCH;
    return 0;
}

void guest_interpret_only(void)
{
    munmap((uint8_t *)guest_vcpu - BT_TABLE_BYTES, BT_TABLE_BYTES);
    munmap((uint8_t *)guest_vcpu + BT_USER_TABLE, BT_TABLE_BYTES);
    guest_vcpu->bt.has_tables = false;
}

int guest_init(void)
{
    guest_vcpu = bt_cpu_map();
    if (!guest_vcpu || build_vm() || native_init())
        return -1;
    guest_vcpu->vm = &guest_vm;
    guest_vcpu->run = calloc(1, PAGE_SIZE);
    guest_vcpu->api = calloc(1, sizeof(*guest_vcpu->api));
    guest_vm.api = calloc(1, sizeof(*guest_vm.api)); /* ports and MMIO lead to nothing */
    atomic_store(&guest_vm.vcpus[0], guest_vcpu);
    atomic_store(&guest_vm.nvcpus, 1);
    if (!guest_vcpu->run || !guest_vcpu->api || !guest_vm.api || interp_init(guest_vcpu))
        return -1;
    build_tables();
    build_page_tables();

    struct vcpu *v = guest_vcpu;
    memset(&v->has, 1, sizeof(v->has));
    v->phys_bits = 46;
    v->guest_xcr0_mask = xarea_mask();
    cpu_reset(v, false);
    v->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    v->cr3 = GPA_PML4;
    v->cr4 = CR4_PAE | CR4_PGE | CR4_DE | CR4_MCE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_SMEP | CR4_SMAP | CR4_UMIP | CR4_PKE;
    v->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NX;
    v->xcr0 = xarea_mask();
    v->gdt = (struct desc_table){KERNEL_BASE + GPA_GDT, 127};
    v->idt = (struct desc_table){KERNEL_BASE + GPA_IDT, 4095};
    mmu_init(v);
    set_segment(v, SEG_LDTR, SEL_LDTR, KERNEL_BASE + GPA_LDT, LDT_COUNT * 8 - 1, 0x82);
    set_segment(v, SEG_TR, SEL_TSS, KERNEL_BASE + GPA_TSS, 0x67, 0x8b);
    memcpy(pristine_seg, v->seg, sizeof(pristine_seg));
    return 0;
}

void guest_set_state(struct vcpu *v, const struct cpu_image *in)
{
    memcpy(v->gpr, in->gpr, sizeof(v->gpr));
    v->rip = in->rip;
    v->rflags = in->rflags;
    v->cpl = 3;
    v->cr2 = 0;
    v->int_shadow = 0;
    v->dr[6] = DR6_FIXED;
    atomic_store(&v->requests, 0);
    memcpy(v->seg, pristine_seg, sizeof(v->seg));
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        guest_load_segment(v, (enum seg_reg)n, in->sel[n]);
    if (!(in->sel[S_FS] & ~3))
        v->seg[SEG_FS].base = in->fs_base;
    if (!(in->sel[S_GS] & ~3))
        v->seg[SEG_GS].base = in->gs_base;
    memcpy(v->fpu.area, in->xarea, xarea_size());
    v->fpu.ptrs = 0;
    cpu_update_mode(v);
    debug_update(v);
}

void guest_get_state(struct vcpu *v, struct cpu_image *out)
{
    uint64_t frame = v->gpr[RSP];
    unsigned vector = (unsigned)(v->rip - HANDLER_BASE) / 16;
    memcpy(out->gpr, v->gpr, sizeof(out->gpr));
    out->vector = (uint8_t)vector;
    out->error = 0;
    if (vector == EXC_DF || (vector >= EXC_TS && vector <= EXC_PF) || vector == EXC_AC) {
        out->error = (uint32_t)get64(frame);
        frame += 8;
    }
    out->rip = get64(frame);
    out->sel[S_CS] = (uint16_t)get64(frame + 8);
    out->rflags = get64(frame + 16);
    out->gpr[RSP] = get64(frame + 24);
    out->sel[S_SS] = (uint16_t)get64(frame + 32);
    out->sel[S_ES] = v->seg[SEG_ES].sel;
    out->sel[S_DS] = v->seg[SEG_DS].sel;
    out->sel[S_FS] = v->seg[SEG_FS].sel;
    out->sel[S_GS] = v->seg[SEG_GS].sel;
    out->fs_base = v->seg[SEG_FS].base;
    out->gs_base = v->seg[SEG_GS].base;
    out->cr2 = vector == EXC_PF ? v->cr2 : 0;
    memcpy(out->xarea, v->fpu.area, xarea_size());
}

void guest_run(const struct test_case *t, struct cpu_image *out)
{
    struct vcpu *v = guest_vcpu;
    memset(out, 0, sizeof(*out));
    guest_set_state(v, &t->in);
    enum cpu_stop stop = STOP_NONE;
    for (unsigned n = 0; n < CODE_STEPS && v->cpl == 3 && stop == STOP_NONE; n++)
        stop = cpu_step(v);
    if (v->cpl == 3 || stop != STOP_NONE || v->rip < HANDLER_BASE || v->rip >= HANDLER_BASE + 16 * 256) {
        memcpy(out->gpr, v->gpr, sizeof(out->gpr));
        out->rip = v->rip;
        out->vector = 0xff; /* no exception: compares unequal to everything */
        out->error = (uint32_t)stop;
        v->cpl = 3;
        return;
    }
    guest_get_state(v, out);
}
