// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * System instructions in random programs: the interrupt flag and its shadow, SWAPGS, control registers, MSRs, page tables, and the
 * ways from one ring or mode to another. Where an instruction is not allowed in the ring that the program is in, its fault is one
 * of the program's stops.
 */
#include "progen.h"
#include "softkvm/x86/cpu.h"

#define BYTES4(x) (uint8_t)(x), (uint8_t)((x) >> 8), (uint8_t)((x) >> 16), (uint8_t)((x) >> 24)

/* A read and a write back of a control register count as one instruction: no jump leads between them, since a random value would
 * wreck everything. */
struct pattern {
    uint8_t len[6], code[26];
};

static void add_pattern(struct progen *g, const struct pattern *p)
{
    for (unsigned k = 0, at = 0; k < 6 && p->len[k]; at += p->len[k++])
        progen_insn(g, p->code + at, p->len[k]);
}

static void add_simple(struct progen *g)
{
    /* clang-format off */
    static const struct pattern patterns[] = {
        {{1}, {0xfa}},                                                                                /* cli */
        {{1}, {0xfb}},                                                                                /* sti */
        {{1, 1, 1}, {0xfb, 0x90, 0xfa}},                                                              /* sti; nop; cli */
        {{1, 1}, {0xfb, 0xfa}},                                                                       /* sti; cli */
        {{1, 1, 1}, {0xfa, 0xfb, 0xfb}},                                                              /* cli; sti; sti */
        {{1, 1, 1}, {0x9c, 0xfa, 0x9d}},                                                              /* pushf; cli; popf */
        {{1, 1, 1, 1}, {0x9c, 0xfa, 0x9d, 0x90}},                                                     /* pushf; cli; popf; nop */
        {{1, 1}, {0xfb, 0xf4}},                                                                       /* sti; hlt */
        {{1, 1, 1}, {0xfa, 0xfb, 0x6e}},                                                              /* cli; sti; outsb */
        {{1, 1, 2}, {0xfa, 0xfb, 0xe6, 0x80}},                                                        /* cli; sti; out 0x80, al */
        {{1, 1}, {0xfa, 0xf4}},                                                                       /* cli; hlt */
        {{1, 7, 1}, {0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 2, 0, 0, 0x9d}}, /* pushf; or qword [rsp], IF; popf */
        {{1, 7, 1}, {0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 4, 0, 0, 0x9d}},                                /* the same with DF */
        {{1, 7, 1, 1}, {0x9c, 0x48, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0x90}},                       /* the same with TF */
        {{3}, {0x0f, 0x01, 0xf8}},                                                                    /* swapgs */
        {{3, 8, 3}, {0x0f, 0x01, 0xf8, 0x65, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x0f, 0x01, 0xf8}}, /* swapgs; mov eax, gs:[0]; swapgs */
        {{3}, {0x0f, 0x01, 0xcb}},                                                                    /* stac */
        {{3}, {0x0f, 0x01, 0xca}},                                                                    /* clac */
        {{2}, {0x0f, 0x06}},                                                                          /* clts */
        {{6}, {0x0f, 0x20, 0xc0, 0x0f, 0x22, 0xc0}}, /* mov rax, cr0; mov cr0, rax */
        /* set TS; pxor; clts */
        {{10, 4, 2}, {0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xe8, 3, 0x0f, 0x22, 0xc0, 0x66, 0x0f, 0xef, 0xc0, 0x0f, 0x06}},
        {{10}, {0x0f, 0x20, 0xc0, 0x0f, 0xba, 0xf8, 16, 0x0f, 0x22, 0xc0}},                      /* turn WP over */
        {{6}, {0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8}},                                               /* mov rax, cr3; mov cr3, rax */
        {{6}, {0x0f, 0x20, 0xe0, 0x0f, 0x22, 0xe0}},                                               /* mov rax, cr4; mov cr4, rax */
        {{10}, {0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xf8, 7, 0x0f, 0x22, 0xe0}},                       /* turn PGE over */
        {{10}, {0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xf8, 21, 0x0f, 0x22, 0xe0}},                      /* turn SMAP over */
        {{10}, {0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xf8, 20, 0x0f, 0x22, 0xe0}},                      /* turn SMEP over */
        {{10}, {0x0f, 0x20, 0xe0, 0x0f, 0xba, 0xf8, 9, 0x0f, 0x22, 0xe0}},                       /* turn OSFXSR over */
        {{3, 3}, {0x0f, 0x22, 0xd1, 0x0f, 0x20, 0xd2}}, /* mov cr2, rcx; mov rdx, cr2 */
        {{4, 5, 4}, {0x44, 0x0f, 0x20, 0xc0, 0xb8, 5, 0, 0, 0, 0x44, 0x0f, 0x22, 0xc0}}, /* read cr8; set it to 5 */
        {{6}, {0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8}},                                               /* mov rax, dr7; mov dr7, rax */
        {{3, 3}, {0x0f, 0x00, 0xc8, 0x0f, 0x00, 0xc1}},                                               /* str eax; sldt ecx */
        {{3}, {0x0f, 0x01, 0xe0}},                                                                    /* smsw eax */
        {{2, 2, 2}, {0x8c, 0xd0, 0x8e, 0xd0, 0x31, 0xc9}}, /* mov eax, ss; mov ss, eax; xor ecx, ecx */
        {{1, 2, 2, 1}, {0xfb, 0x8c, 0xd8, 0x8e, 0xd8, 0x90}}, /* sti; mov eax, ds; mov ds, eax; nop */
        {{2}, {0x0f, 0x09}},                                                                          /* wbinvd */
        {{2, 4, 4}, {0x31, 0xc0, 0xf3, 0x0f, 0xae, 0xc0, 0xf3, 0x0f, 0xae, 0xc9}}, /* xor eax, eax; rdfsbase eax; rdgsbase ecx */
        {{4, 2}, {0xf3, 0x0f, 0xc7, 0xf8, 0x90, 0x90}},                                               /* rdpid rax */
        {{3}, {0x0f, 0x01, 0xee}},                                                                    /* rdpkru */
    };
    /* clang-format on */
    add_pattern(g, &patterns[rng_below(ARRAY_SIZE(patterns))]);
}

static void add_msr(struct progen *g)
{
    static const uint32_t msrs[] = {0xc0000100, 0xc0000101, 0xc0000102, 0xc0000100, 0xc0000101, 0xc0000102, 0xc0000103,
                                    0xc0000081, 0xc0000084, 0x175,      0x277,      0x6e0,      0x830,      0x80b};
    uint32_t msr = msrs[rng_below(ARRAY_SIZE(msrs))];
    INSN(g, 0xb9, BYTES4(msr)); /* mov ecx, msr */
    INSN(g, 0x0f, 0x32);        /* rdmsr */
    if (msr >> 4 == 0xc000010 && chance(60)) {
        uint32_t val = progen_cell();
        INSN(g, 0xb8, BYTES4(val));
        INSN(g, 0x31, 0xd2);
    }
    INSN(g, 0x0f, 0x30); /* wrmsr */
}

/* A page's entry is changed through the kernel's mapping, and the page is used with and without INVLPG. */
static void add_page_change(struct progen *g)
{
    uint32_t cell = progen_cell(), entry = (uint32_t)(KERNEL_TABLES + PROG_PT_LOW + (cell - SCRATCH_BASE) / PAGE_SIZE * 8);
    uint8_t bit = chance(50) ? 1 : chance(50) ? 0 : 2; /* writable, present, user */
    if (g->p->ring)
        return;
    INSN(g, 0x48, 0x89, 0x04, 0x25, BYTES4(cell));             /* mov [cell], rax */
    INSN(g, 0x48, 0x0f, 0xba, 0x3c, 0x25, BYTES4(entry), bit); /* btc qword [entry], bit */
    if (chance(80))
        INSN(g, 0x0f, 0x01, 0x3c, 0x25, BYTES4(cell)); /* invlpg [cell] */
    else
        INSN(g, 0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8); /* or mov rax, cr3; mov cr3, rax */
    INSN(g, 0x48, 0x8b, 0x0c, 0x25, BYTES4(cell));   /* mov rcx, [cell] */
    INSN(g, 0x48, 0xff, 0x04, 0x25, BYTES4(cell));   /* inc qword [cell] */
    INSN(g, 0x48, 0x0f, 0xba, 0x3c, 0x25, BYTES4(entry), bit);
    INSN(g, 0x0f, 0x01, 0x3c, 0x25, BYTES4(cell));
}

/* ---- from ring to ring, from mode to mode ---- */

static void to_user(struct progen *g)
{
    g->p->ring = 3;
    g->p->base = BASE_RWX;
}

static void add_iret_to_user(struct progen *g)
{
    uint32_t flags = (uint32_t)(2 | (rng() & (FL_ARITH | FL_IF | FL_DF)));
    INSN(g, 0x6a, SEL_USER_DS);
    INSN(g, 0x68, BYTES4(progen_cell()));
    INSN(g, 0x68, BYTES4(flags));
    INSN(g, 0x6a, SEL_USER_CS64);
    uint32_t target = (uint32_t)(RWX_BASE + g->p->off + g->p->len + 5 + 2);
    INSN(g, 0x68, BYTES4(target));
    INSN(g, 0x48, 0xcf);
    to_user(g);
}

static void add_sysret(struct progen *g)
{
    uint32_t flags = (uint32_t)(2 | (rng() & (FL_ARITH | FL_IF | FL_DF | FL_TF * chance(5))));
    if (chance(50))
        INSN(g, 0x0f, 0x01, 0xf8); /* swapgs */
    INSN(g, 0xbc, BYTES4(progen_cell()));
    INSN(g, 0x41, 0xbb, BYTES4(flags));
    uint32_t target = (uint32_t)(RWX_BASE + g->p->off + g->p->len + 5 + 3);
    INSN(g, 0xb9, BYTES4(target));
    INSN(g, 0x48, 0x0f, 0x07);
    to_user(g);
}

static void add_syscall(struct progen *g)
{
    uint64_t delta = KERNEL_CODE - prog_base_address(g->p->base);
    progen_mov(g, R10, delta);
    INSN(g, 0x0f, 0x05);
    g->p->ring = 0;
    g->p->base = BASE_KERNEL;
    if (chance(30))
        INSN(g, 0x0f, 0x01, 0xf8);
}

/* IRET to the same ring. */
static void add_iret_here(struct progen *g)
{
    INSN(g, 0x8c, 0xd0);
    INSN(g, 0x50);
    INSN(g, 0x54);
    INSN(g, 0x9c);
    INSN(g, 0x8c, 0xc8);
    INSN(g, 0x50);
    INSN(g, 0x48, 0x8d, 0x05, BYTES4(3));
    INSN(g, 0x50);
    INSN(g, 0x48, 0xcf);
}

/* Far RET into 32-bit code, a few instructions there, and back by a far JMP. */
static void add_compat(struct progen *g)
{
    uint32_t base = (uint32_t)prog_base_address(g->p->base) + g->p->off;
    if (g->p->base == BASE_KERNEL)
        return;
    INSN(g, 0x6a, SEL_USER_CS32);
    INSN(g, 0x68, BYTES4(base + g->p->len + 5 + 2));
    INSN(g, 0x48, 0xcb);
    INSN(g, 0x40);       /* inc eax */
    INSN(g, 0x50);       /* push eax */
    INSN(g, 0x5b);       /* pop ebx */
    INSN(g, 0x01, 0xd8); /* add eax, ebx */
    INSN(g, 0xea, BYTES4(base + g->p->len + 7), SEL_USER_CS64, 0);
}

void progsys_add(struct progen *g)
{
    unsigned dice = (unsigned)rng_below(100);
    if (dice < 45)
        add_simple(g);
    else if (dice < 57)
        add_msr(g);
    else if (dice < 67)
        add_page_change(g);
    else if (dice < 75)
        add_iret_here(g);
    else if (dice < 80)
        add_compat(g);
    else if (g->p->ring == 3)
        add_syscall(g);
    else if (dice < 90)
        add_iret_to_user(g);
    else
        add_sysret(g);
}
