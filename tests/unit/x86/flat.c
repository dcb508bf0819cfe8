// SPDX-License-Identifier: GPL-2.0-or-later
/* See flat.h. */
#include "flat.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/desc.h"

#define IDT    0x1000
#define GDT    0x2000
#define TABLES 0x3000 /* PML4, PDPT, PD, PT */

static void put64(struct flat *f, uint64_t gpa, uint64_t val)
{
    memcpy(f->ram + gpa, &val, 8);
}

static void make_tables(struct flat *f)
{
    put64(f, TABLES, (TABLES + 0x1000) | 7);
    put64(f, TABLES + 0x1000, (TABLES + 0x2000) | 7);
    put64(f, TABLES + 0x2000, (TABLES + 0x3000) | 7);
    for (uint64_t n = 1; n < FLAT_RAM / (2 * MIB); n++)
        put64(f, TABLES + 0x2000 + 8 * n, n * 2 * MIB | 0x87);
    for (uint64_t n = 0; n < 512; n++)
        put64(f, TABLES + 0x3000 + 8 * n, n << 12 | 7);
    put64(f, GDT + FLAT_CS64, 0x00af9b000000ffffull);
    put64(f, GDT + FLAT_DS, 0x00cf93000000ffffull);
    put64(f, GDT + FLAT_CS32, 0x00cf9b000000ffffull);
    put64(f, GDT + FLAT_CS16, 0x00009b000000ffffull);
    put64(f, GDT + FLAT_DS16, 0x000093000000ffffull);
}

static void make_idt(struct flat *f, enum code_mode mode)
{
    memset(f->ram + FLAT_HANDLER, 0xf4, 256 * 16);
    for (unsigned n = 0; n < 256; n++) {
        uint64_t h = FLAT_HANDLER + 16 * n;
        if (mode == CODE64) {
            put64(f, IDT + 16 * n, (h & 0xffff) | FLAT_CS64 << 16 | 0x8e00ull << 32 | (h >> 16 & 0xffff) << 48);
            put64(f, IDT + 16 * n + 8, 0);
        } else if (mode == CODE32) {
            put64(f, IDT + 8 * n, (h & 0xffff) | FLAT_CS32 << 16 | 0x8e00ull << 32 | (h >> 16 & 0xffff) << 48);
        } else {
            put64(f, IDT + 4 * n, h); /* segment 0; overlaps into the next entry, which is written next */
        }
    }
}

static struct segment make_seg(uint16_t sel, uint32_t limit, uint16_t attr)
{
    return (struct segment){.sel = sel, .limit = limit, .attr = attr};
}

static void set_mode(struct vcpu *v, enum code_mode mode)
{
    v->cr0 = CR0_ET | CR0_NE | (mode == CODE16 ? 0 : CR0_PE) | (mode == CODE64 ? CR0_PG | CR0_WP : 0);
    v->cr4 = mode == CODE64 ? CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT : 0;
    v->xcr0 = XCR0_X87;
    v->efer = mode == CODE64 ? EFER_LME | EFER_LMA | EFER_SCE | EFER_NX : 0;
    v->cr3 = TABLES;
    v->long_mode = mode == CODE64;
    uint16_t wide = mode == CODE16 ? 0 : SEG_DB | SEG_G;
    for (int s = SEG_ES; s <= SEG_GS; s++)
        v->seg[s] = make_seg(mode == CODE16 ? 0 : FLAT_DS, mode == CODE16 ? 0xffff : 0xffffffff, SEG_P | SEG_S | 3 | wide);
    v->seg[SEG_CS].attr = SEG_P | SEG_S | 11 | (mode == CODE64 ? SEG_L | SEG_G : wide);
    v->seg[SEG_CS].sel = mode == CODE16 ? 0 : mode == CODE64 ? FLAT_CS64 : FLAT_CS32;
    if (mode == CODE16) {
        v->seg[SEG_CS].base = FLAT_CODE;
        v->seg[SEG_CS].sel = FLAT_CODE >> 4;
    }
    v->seg[SEG_TR] = make_seg(FLAT_TR, 0x67, SEG_P | 11);
    v->seg[SEG_TR].base = FLAT_TSS;
    for (int s = SEG_ES; s < SEG_COUNT; s++)
        seg_fixup(v, s);
    v->gdt = (struct desc_table){GDT, 0x3f};
    v->idt = (struct desc_table){IDT, mode == CODE16 ? 0x3ff : 0xfff};
}

struct vcpu *flat_add(struct flat *f, enum code_mode mode)
{
    struct vcpu *v = aligned_alloc(_Alignof(struct vcpu), sizeof(*v));
    struct kvm_run *run = calloc(1, API_RUN_SIZE);
    struct vcpu_api *api = calloc(1, sizeof(*api));
    if (!v || !run || !api || (memset(v, 0, sizeof(*v)), interp_init(v))) {
        fprintf(stderr, "cannot make a vCPU: out of memory\n");
        exit(2);
    }
    v->vm = &f->vm;
    v->run = run;
    v->api = api;
    v->id = f->vm.nvcpus++;
    f->vm.vcpus[v->id] = v;
    v->delivering = -1;
    v->phys_bits = 40;
    pthread_mutex_init(&v->lock, NULL);
    mmu_init(v);
    v->rflags = FL_ONE;
    v->dr[6] = 0xffff0ff0;
    v->dr[7] = 0x400;
    set_mode(v, mode);
    fpu_reset(v, false);
    cpu_update_mode(v);
    v->gpr[RSP] = mode == CODE16 ? 0xfff0 : FLAT_STACK;
    v->rip = FLAT_CODE - v->seg[SEG_CS].base;
    return v;
}

void flat_init(struct flat *f, enum code_mode mode)
{
    memset(f, 0, sizeof(*f));
    f->ram = mmap(NULL, FLAT_RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct slot_table *t = calloc(1, sizeof(*t) + sizeof(struct memslot));
    f->vm.api = calloc(1, sizeof(*f->vm.api));
    if (f->ram == MAP_FAILED || !t || !f->vm.api) {
        fprintf(stderr, "cannot make a guest: out of memory\n");
        exit(2);
    }
    t->count = 1;
    t->slots[0] = (struct memslot){.size = FLAT_RAM, .hva = f->ram};
    f->vm.slots = t;
    pthread_mutex_init(&f->vm.lock, NULL);
    pause_init(&f->vm);
    zones_init(&f->vm.api->zones);
    make_tables(f);
    make_idt(f, mode);
    f->v = flat_add(f, mode);
}

void flat_free(struct flat *f)
{
    for (unsigned n = 0; n < f->vm.nvcpus; n++) {
        interp_free(f->vm.vcpus[n]);
        free(f->vm.vcpus[n]->run);
        free(f->vm.vcpus[n]->api);
        free(f->vm.vcpus[n]);
    }
    free(f->vm.slots);
    zones_free(&f->vm.api->zones);
    pause_free(&f->vm);
    free(f->vm.api);
    munmap(f->ram, FLAT_RAM);
}

void flat_code(struct flat *f, const void *code, size_t len)
{
    memcpy(f->ram + FLAT_CODE, code, len);
    f->v->rip = FLAT_CODE - f->v->seg[SEG_CS].base;
}

uint64_t *flat_pte(struct flat *f, uint64_t la)
{
    return (uint64_t *)(void *)(f->ram + TABLES + 0x3000 + 8 * (la >> 12));
}

void flat_unmap(struct flat *f, uint64_t la)
{
    *flat_pte(f, la) &= ~1ull;
    mmu_flush_all(f->v);
}

void flat_map(struct flat *f, uint64_t la, uint64_t gpa)
{
    *flat_pte(f, la) = gpa | 7;
    mmu_flush_all(f->v);
}

uint64_t flat_read(const struct flat *f, uint64_t gpa, unsigned size)
{
    uint64_t val = 0;
    memcpy(&val, f->ram + gpa, size);
    return val;
}

void flat_write(struct flat *f, uint64_t gpa, uint64_t val, unsigned size)
{
    memcpy(f->ram + gpa, &val, size);
}

int flat_exception(const struct vcpu *v)
{
    uint64_t n = v->rip - FLAT_HANDLER;
    return n < 256 * 16 && n % 16 == 0 ? (int)(n / 16) : -1;
}
