// SPDX-License-Identifier: GPL-2.0-or-later
/* What a failed check (bt_check.h) tells a person, on standard error: the block, what was expected, and what the translated code
 * made of it. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/isa.h"

enum { MEMORY_SHOWN = 32 };

static const char *const gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                        "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_names[] = {"es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"};

static void show_code(const struct bt_check *c)
{
    const struct bt_block *b = c->block;
    struct insn i;
    for (unsigned k = 0; k < b->ninsns; k++) {
        unsigned at = bt_insns(b)[k].at;
        bool known = insn_decode(bt_bytes(b) + at, b->nbytes - at, CODE64, &i) == DECODE_OK;
        fprintf(stderr, "  %s%016" PRIx64 "  ", k < c->count ? "=" : " ", c->start + at);
        for (unsigned n = 0; n < 11; n++)
            if (known && n < i.len)
                fprintf(stderr, "%02x ", i.bytes[n]);
            else
                fprintf(stderr, "   ");
        fprintf(stderr, " %s %s\n", known ? insn_op_name(i.op) : "(in the next page, too)", known ? i.desc->operands : "");
    }
}

static void show64(const char *name, uint64_t before, uint64_t expected, uint64_t got)
{
    fprintf(stderr, "  %c %-8s %016" PRIx64 "  %016" PRIx64 "  %016" PRIx64 "\n", expected == got ? ' ' : '*', name, before,
            expected, got);
}

static void show_state(const struct bt_check *c)
{
    const struct check_state *before = &c->before, *a = &c->interp, *b = &c->bt;
    fprintf(stderr, "    %-8s %-16s  %-16s  %s\n", "", "before", "interpreted", "translated");
    for (unsigned r = 0; r < 16; r++)
        show64(gpr_names[r], before->gpr[r], a->gpr[r], b->gpr[r]);
    show64("rip", before->rip, a->rip, b->rip);
    show64("rflags", before->rflags, a->rflags, b->rflags);
    if (a->cr2 != b->cr2)
        show64("cr2", before->cr2, a->cr2, b->cr2);
    if (a->kernel_gs_base != b->kernel_gs_base)
        show64("kernelgs", before->kernel_gs_base, a->kernel_gs_base, b->kernel_gs_base);
    for (unsigned n = 0; n < ARRAY_SIZE(seg_names); n++)
        if (memcmp(&a->seg[n], &b->seg[n], offsetof(struct segment, unusable)))
            show64(seg_names[n], before->seg[n].base, a->seg[n].base, b->seg[n].base);
}

static void show_fpu(const struct bt_check *c)
{
    const uint8_t *before = c->fpu_before.fpu.area, *a = c->fpu_interp.fpu.area, *b = c->fpu_bt.fpu.area;
    for (unsigned n = 0; c->native && n < CHECK_AREA; n += 8) {
        uint64_t x, y, z;
        memcpy(&x, before + n, 8);
        memcpy(&y, a + n, 8);
        memcpy(&z, b + n, 8);
        char name[16];
        snprintf(name, sizeof name, "xsave%u", n);
        if (y != z && n != 512)
            show64(name, x, y, z);
    }
}

static void show_memory(const struct bt_check *c)
{
    unsigned shown = 0;
    for (unsigned n = 0; n < c->npages; n++) {
        const struct check_page *p = &c->pages[n];
        for (unsigned at = 0; at < PAGE_SIZE; at++) {
            uint8_t a = p->copy[0][at], b = p->copy[1][at];
            if ((a != p->before[at] || b != p->before[at]) && shown++ < MEMORY_SHOWN)
                fprintf(stderr, "  %c [%016" PRIx64 "] %02x  %02x  %02x\n", a == b ? ' ' : '*', p->la + at, p->before[at], a, b);
        }
    }
}

void check_report(struct vcpu *v)
{
    struct bt_check *c = v->bt.check;
    if (!c->failed)
        return;
    c->failed = false;
    fprintf(stderr, "softkvm: check: vCPU %u: translated code differs from the interpreter in: %s\n", v->id, c->what);
    fprintf(stderr, "  block at rip %#" PRIx64 ", guest-physical %#" PRIx64 ", mode %#x; executed instructions are marked =\n",
            c->start, c->block->gpa, c->block->key);
    show_code(c);
    if (c->step != ~0u)
        fprintf(stderr, "  translated code left for the interpreter in front of instruction %u\n", c->step + 1);
    show_state(c);
    show_fpu(c);
    show_memory(c);
    fprintf(stderr, "  before that %" PRIu64 " blocks with %" PRIu64 " instructions were the same\n", c->stats.blocks,
            c->stats.insns);
}

void check_summary(struct vcpu *v)
{
    const struct bt_check *c = v->bt.check;
    fprintf(stderr, "softkvm: check: vCPU %u: %" PRIu64 " blocks with %" PRIu64 " instructions compared, %" PRIu64 " again\n",
            v->id, c->stats.blocks, c->stats.insns, c->stats.races);
}
