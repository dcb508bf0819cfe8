// SPDX-License-Identifier: GPL-2.0-or-later
/* Finds what host and guest disagree about, and says it so that a person can see what happened. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <Zydis/Zydis.h>

#include "diff.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/isa.h"

#define USER_END    0x7ffffffff000ull /* Linux: TASK_SIZE_MAX */
#define OPERAND_MAX 1024 /* bytes of the largest operand, an XSAVE area */

static const char *const gpr_names[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
static const char *const seg_names[S_COUNT] = {"es", "cs", "ss", "ds", "fs", "gs"};
static const char *const vector_names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "#CSO",
                                           "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};

struct report {
    const struct test_case *test;
    unsigned count;
    bool quiet;
};

static const char *vector_name(unsigned vector)
{
    return vector < ARRAY_SIZE(vector_names) ? vector_names[vector] : "none";
}

static void print_case(const struct test_case *t)
{
    static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_MACHINE_MODE_LONG_64};
    ZydisDisassembledInstruction d;
    bool known = ZYAN_SUCCESS(ZydisDisassembleIntel(modes[t->mode], t->in.rip, t->code, 15, &d));
    printf("\n%u-bit%s at %#" PRIx64 ":", 16u << t->mode, t->step ? ", single step" : "", t->in.rip);
    for (unsigned n = 0; n < t->len; n++)
        printf(" %02x", t->code[n]);
    printf("  %s\n", known ? d.text : "(no instruction)");
    if (t->row >= 0)
        printf("row: %s %s [%s]\n", isa_rows[t->row].name, isa_rows[t->row].operands, isa_rows[t->row].encoding);
    for (unsigned n = 0; n < (t->mode == CODE64 ? 16 : 8); n++)
        printf("  %-3s %016" PRIx64 "%s", gpr_names[n], t->in.gpr[n], n % 4 == 3 ? "\n" : "");
    uint16_t fcw, fsw;
    uint32_t mxcsr;
    memcpy(&fcw, t->in.xarea, 2);
    memcpy(&fsw, t->in.xarea + 2, 2);
    memcpy(&mxcsr, t->in.xarea + 24, 4);
    printf("  rflags %06" PRIx64 "  fs %" PRIx64 " gs %" PRIx64 "  mxcsr %x fcw %x fsw %x ftw %x bv %x\n  selectors", t->in.rflags, t->in.fs_base, t->in.gs_base, mxcsr,
           fcw, fsw, t->in.xarea[4], t->in.xarea[512]);
    for (unsigned n = 0; n < S_COUNT; n++)
        printf(" %s %x", seg_names[n], t->in.sel[n]);
    printf("\n  %-8s %-34s %-34s %s\n", "", "before", "host", "guest");
}

static bool begin_line(struct report *r)
{
    if (r->count++ == 0 && !r->quiet)
        print_case(r->test);
    return !r->quiet;
}

static void check64(struct report *r, const char *name, uint64_t before, uint64_t host, uint64_t guest)
{
    if (host != guest && begin_line(r))
        printf("  %-8s %-34" PRIx64 " %-34" PRIx64 " %" PRIx64 "\n", name, before, host, guest);
}

static void hex(char *to, const uint8_t *from, unsigned n)
{
    for (unsigned k = n; k-- > 0; to += 2)
        sprintf(to, "%02x", from[k]);
}

static void check_bytes(struct report *r, const char *name, const uint8_t *before, const uint8_t *host, const uint8_t *guest, unsigned n)
{
    char a[40], b[40], c[40];
    if (!memcmp(host, guest, n) || !begin_line(r))
        return;
    hex(a, before, n);
    hex(b, host, n);
    hex(c, guest, n);
    printf("  %-8s %-34s %-34s %s\n", name, a, b, c);
}

/*
 * What Intel's processors leave behind in an instruction that has not ended yet. No manual promises it, no program can rely on it, and the restarted
 * instruction replaces it; so it is not asked of the interpreter.
 */
enum exemption {
    EXEMPT_FLAGS = 1, /* REP CMPS and SCAS: between iterations the flags are those from before the first */
    EXEMPT_X87 = 2,   /* an MMX instruction whose memory operand faults has already set TOP to 0 */
    EXEMPT_GPRS = 4,  /* POPA has loaded some registers when a later one faults */
    EXEMPT_MXCSR = 8, /* VCVTPS2PH sets its flags before it stores */
    EXEMPT_OPERAND = 16, /* REP CMPS: which operand faults, when both do */
    EXEMPT_FAULT = 32,   /* masked operands and whole states: which part of the operand faults, when several do, and so how */
    EXEMPT_VECTORS = 64, /* XRSTOR and FXRSTOR have loaded some registers when they find what makes them fault */
    EXEMPT_MEMORY = 128, /* a far CALL has pushed CS when the push of rIP faults */
};

static bool memory_fault(const struct cpu_image *s)
{
    return s->vector == EXC_PF || s->vector == EXC_GP || s->vector == EXC_SS || s->vector == EXC_AC;
}

/* The mask of an EVEX instruction; prefixes stand in front of it. */
static unsigned evex_mask(const uint8_t *code)
{
    while (*code != 0x62)
        code++;
    return code[3] & 7;
}

static unsigned exemptions(const struct test_case *t, const struct cpu_image *host)
{
    const struct isa_row *row = &isa_rows[t->row];
    if (t->row < 0)
        return 0;
    if (row->flags & ISA_UNDEF)
        return EXEMPT_FLAGS;
    if (host->rip != t->in.rip || host->vector == EXC_MF || host->vector == EXC_XM)
        return 0;
    if ((row->flags & EV_FS) && evex_mask(t->code))
        return EXEMPT_FAULT;
    unsigned mmx = strpbrk(row->operands, "PNQ") ? EXEMPT_X87 : 0;
    switch (row->op) {
    case OP_cmps:
        return memory_fault(host) ? EXEMPT_FLAGS | EXEMPT_OPERAND : EXEMPT_FLAGS;
    case OP_scas:
        return EXEMPT_FLAGS;
    case OP_vmaskmovps:
    case OP_vmaskmovpd:
    case OP_vpmaskmovd:
    case OP_vpmaskmovq:
    case OP_maskmovq:
    case OP_maskmovdqu:
    case OP_vmaskmovdqu:
    case OP_fxsave:
    case OP_xsave:
    case OP_xsavec:
    case OP_xsaveopt:
    case OP_fldenv:
    case OP_fnstenv:
    case OP_frstor:
    case OP_fnsave:
        return EXEMPT_FAULT | mmx;
    case OP_fxrstor:
    case OP_xrstor:
        return memory_fault(host) ? EXEMPT_FAULT | EXEMPT_X87 | EXEMPT_VECTORS : EXEMPT_FAULT;
    case OP_callf:
        return memory_fault(host) ? EXEMPT_MEMORY : 0;
    case OP_popa:
        return EXEMPT_GPRS;
    case OP_vcvtps2ph:
        return EXEMPT_MXCSR;
    default:
        return mmx;
    }
}

static void check_xarea(struct report *r, const uint8_t *before, const uint8_t *host, const uint8_t *guest, unsigned exempt)
{
    static const struct {
        const char *name;
        uint8_t at, size;
    } fields[] = {{"fcw", 0, 2}, {"fsw", 2, 2}, {"ftw", 4, 1}, {"fop", 6, 2}, {"fip", 8, 8}, {"fdp", 16, 8}, {"mxcsr", 24, 4}};
    char name[8];
    for (unsigned n = 0; n < ARRAY_SIZE(fields); n++)
        if (!(exempt & (n == 6 ? EXEMPT_MXCSR | EXEMPT_VECTORS : EXEMPT_X87)))
            check_bytes(r, fields[n].name, before + fields[n].at, host + fields[n].at, guest + fields[n].at, fields[n].size);
    for (unsigned n = 0; n < 8 && !(exempt & EXEMPT_X87); n++) {
        snprintf(name, sizeof(name), "st%u", n);
        check_bytes(r, name, before + 32 + 16 * n, host + 32 + 16 * n, guest + 32 + 16 * n, 10);
    }
    for (unsigned n = 0; n < 32 && !(exempt & EXEMPT_VECTORS); n++) {
        unsigned at = n < 16 ? 160 + 16 * n : 576 + 16 * (n - 16);
        snprintf(name, sizeof(name), "%s%u", n < 16 ? "xmm" : "ymmh", n & 15);
        check_bytes(r, name, before + at, host + at, guest + at, 16);
    }
}

static void check_avx512(struct report *r, const uint8_t *before, const uint8_t *host, const uint8_t *guest)
{
    char name[8];
    for (unsigned n = 5; n <= 7; n++) {
        unsigned size, from = xarea_component(n, &size), step = n == 5 ? 8 : 16;
        for (unsigned at = 0; at < size; at += step) {
            snprintf(name, sizeof(name), n == 5 ? "k%u" : n == 6 ? "zmmh%u" : "zmm%u", n == 5 ? at / 8 : n == 6 ? at / 32 : 16 + at / 64);
            check_bytes(r, name, before + from + at, host + from + at, guest + from + at, step);
        }
    }
}

static void check_memory(struct report *r)
{
    for (unsigned page = 0; page < SCRATCH_PAGES; page++) {
        unsigned base = (unsigned)(page * PAGE_SIZE);
        if (scratch_kind[page] == PAGE_HOLE || !memcmp(mem_host + base, mem_guest + base, PAGE_SIZE))
            continue;
        for (unsigned at = base, shown = 0; at < base + PAGE_SIZE && shown < 6; at += 8) {
            char name[12];
            uint64_t before, host, guest;
            memcpy(&before, mem_template + at, 8);
            memcpy(&host, mem_host + at, 8);
            memcpy(&guest, mem_guest + at, 8);
            if (host == guest)
                continue;
            snprintf(name, sizeof(name), "%llx", SCRATCH_BASE + at);
            check64(r, name, before, host, guest);
            shown++;
        }
    }
}

/* Linux reports every user access to the kernel's half as a protection fault, mapped or not. */
static uint32_t visible_error(const struct cpu_image *s)
{
    return s->vector == EXC_PF && s->cr2 >= USER_END ? s->error | 1 : s->error;
}

/* The kernel's IRET into the signal handler clears the RPL of null selectors. */
static uint16_t visible_selector(uint16_t sel)
{
    return sel & ~3 ? sel : 0;
}

static void check_exception(struct report *r, const struct cpu_image *host, const struct cpu_image *guest, unsigned exempt)
{
    bool both = memory_fault(host) && memory_fault(guest), near = host->cr2 - guest->cr2 + OPERAND_MAX < 2 * OPERAND_MAX;
    if (both && (exempt & EXEMPT_OPERAND || (exempt & EXEMPT_FAULT && (host->vector != guest->vector || near))))
        return;
    if (host->vector != guest->vector && begin_line(r))
        printf("  %-8s %-34s %-34s %s\n", "ends by", "", vector_name(host->vector), vector_name(guest->vector));
    check64(r, "error", 0, visible_error(host), visible_error(guest));
    check64(r, "cr2", 0, host->cr2, guest->cr2);
}

unsigned compare(const struct test_case *t, const struct cpu_image *host, const struct cpu_image *guest, bool quiet)
{
    struct report r = {.test = t, .quiet = quiet};
    bool long_mode = t->mode == CODE64 && host->sel[S_CS] == SEL_USER_CS64; /* upper halves do not survive 32-bit code: SDM vol. 1, 3.4.1.1 */
    uint64_t width = long_mode ? ~0ull : 0xffffffff;
    unsigned exempt = exemptions(t, host);
    uint64_t flags = exempt & EXEMPT_FLAGS ? ~FL_ARITH : ~0ull;
    check_exception(&r, host, guest, exempt);
    check64(&r, "rip", t->in.rip, host->rip, guest->rip);
    check64(&r, "rflags", t->in.rflags, host->rflags & flags, guest->rflags & flags);
    for (unsigned n = 0; n < (long_mode ? 16 : 8); n++)
        if (n == RSP || !(exempt & EXEMPT_GPRS))
            check64(&r, gpr_names[n], t->in.gpr[n], host->gpr[n] & width, guest->gpr[n] & width);
    for (unsigned n = 0; n < S_COUNT; n++)
        check64(&r, seg_names[n], t->in.sel[n], visible_selector(host->sel[n]), visible_selector(guest->sel[n]));
    if (long_mode) {
        check64(&r, "fs base", t->in.fs_base, host->fs_base, guest->fs_base);
        check64(&r, "gs base", t->in.gs_base, host->gs_base, guest->gs_base);
    }
    check_xarea(&r, t->in.xarea, host->xarea, guest->xarea, exempt);
    if (!(exempt & EXEMPT_VECTORS))
        check_avx512(&r, t->in.xarea, host->xarea, guest->xarea);
    if (!(exempt & EXEMPT_MEMORY))
        check_memory(&r);
    return r.count;
}
