// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * checktest: does the lock-step (SOFTKVM_CHECK) find a wrong translation? Random programs run under it first, in which it must find
 * nothing. Then small ones are translated, a byte of the host's code is changed, and each of these faults must be found and
 * reported, with what it is in.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest.h"
#include "program.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/mem.h"

uint64_t rng_state;
uint8_t *mem_template, *mem_host, *mem_guest;

#define CELL "\x00\x40\x00\x20" /* a word in a page that may be written */

/* Code that is right, and a change of its translation: the bytes `from`, which the translator copies or makes, become `to`. */
static const struct plant {
    const char *name, *code, *from, *to;
    unsigned len, n;
    const char *what; /* of the report */
} plants[] = {
    {"inc becomes dec", "\x48\xff\xc0\x48\x31\xdb\xcc", "\x48\xff\xc0", "\x48\xff\xc8", 7, 3, "general registers"},
    {"add becomes sub", "\x01\xd8\x89\xc1\xcc", "\x01\xd8", "\x29\xd8", 5, 2, "general registers"},
    {"cmp becomes test", "\x48\x39\xc8\x90\xcc", "\x48\x39\xc8", "\x48\x85\xc8", 5, 3, "flags"},
    {"another immediate is stored", "\xc7\x04\x25" CELL "\x78\x56\x34\x12\x89\xc1\xcc", "\x78\x56\x34\x12", "\x78\x56\x35\x12", 14,
     4, "memory"},
    {"paddd becomes psubd", "\x66\x0f\xfe\xc1\x89\xc1\xcc", "\x66\x0f\xfe\xc1", "\x66\x0f\xfa\xc1", 7, 4, "vector or x87 state"},
    {"fld1 becomes fldz", "\xd9\xe8\x89\xc1\xcc", "\xd9\xe8", "\xd9\xee", 5, 2, "vector or x87 state"},
    {"jz becomes jnz", "\x31\xc0\x74\x02\xff\xc1\xff\xc2\xcc", "\x0f\x84", "\x0f\x85", 9, 2, "rip"},
};

static bool failed(void)
{
    return guest_vcpu->bt.check->failed;
}

/* Each has a place of its own, and all of them come before the random programs: code that keeps changing is not translated. */
static unsigned offset_of(const struct plant *t)
{
    return (unsigned)(CODE_PAGE * PAGE_SIZE + 0x100 + 64 * (t - plants));
}

static void make(struct program *p, const struct plant *t)
{
    progen(p); /* for its registers */
    while (p->mode != CODE64 || p->ring != 3)
        progen(p);
    memcpy(p->code, t->code, t->len);
    p->len = t->len;
    p->starts[0] = 0;
    p->nstarts = 1;
    p->off = offset_of(t);
    p->base = BASE_USER;
    p->cr4_off = p->interrupts = 0;
    p->in.rip = SCRATCH_BASE + p->off;
    for (unsigned r = 0; r < 16; r++)
        p->in.gpr[r] = 1000 + 77 * r;
    p->in.gpr[RSP] = SCRATCH_BASE + 5 * PAGE_SIZE;
    memcpy(p->in.xarea, (const uint16_t[]){0x37f, 0, 0}, 6); /* an empty x87 stack, exceptions masked */
    memcpy(p->in.xarea + 24, (const uint32_t[]){0x1f80}, 4);
    p->in.xarea[512] = 7;
    for (unsigned n = 160; n < 160 + 256; n++)
        p->in.xarea[n] = (uint8_t)n;
}

/* Changes the last place in the block's code where `from` stands. */
static bool corrupt(const struct plant *t)
{
    struct bt *bt = guest_vm.bt;
    const struct bt_block *b = NULL;
    for (uint32_t n = 0; n < bt->nblocks; n++)
        if (!bt->blocks[n]->dead && bt->blocks[n]->gpa == GPA_SCRATCH + offset_of(t))
            b = bt->blocks[n];
    for (uint32_t at = b ? b->code : 0; b && at + t->n <= b->code + b->code_len; at++)
        if (!memcmp(bt->rw + at, t->from, t->n)) {
            memcpy(bt->rw + at, t->to, t->n);
            return true;
        }
    return false;
}

/* Runs with standard error going to a file, which `report` gets the contents of. */
static void run_reported(const struct program *p, char *report, size_t size)
{
    static struct outcome o;
    FILE *f = tmpfile();
    int err = dup(2);
    fflush(stderr);
    dup2(fileno(f), 2);
    progrun(p, true, &o);
    check_report(guest_vcpu);
    fflush(stderr);
    dup2(err, 2);
    close(err);
    rewind(f);
    report[fread(report, 1, size - 1, f)] = 0;
    fclose(f);
}

static unsigned test_plant(const struct plant *t)
{
    static struct program p;
    static char report[8192];
    char want[128];
    make(&p, t);
    run_reported(&p, report, sizeof report);
    if (*report) {
        printf("checktest: %s: a report before the fault was planted:\n%s", t->name, report);
        return 1;
    }
    if (!corrupt(t)) {
        printf("checktest: %s: the translation does not have the bytes to change\n", t->name);
        return 1;
    }
    run_reported(&p, report, sizeof report);
    snprintf(want, sizeof want, "differs from the interpreter in: %s\n", t->what);
    if (strstr(report, want) && strstr(report, "block at rip 0x20001"))
        return 0;
    printf("checktest: %s: not reported as a difference in %s:\n%s\n", t->name, t->what, report);
    return 1;
}

/* Programs that are right. The state that they leave must be the interpreter's, and all of them together must have been compared.
 */
static unsigned test_right(uint64_t count)
{
    static struct program p;
    static struct outcome a, b;
    uint64_t insns = 0;
    for (uint64_t n = 0; insns < count; n++) {
        if (n % 256 == 0)
            state_random_memory();
        progen(&p);
        if (!progrun(&p, false, &a))
            continue;
        insns += a.steps;
        progrun(&p, true, &b);
        if (failed()) {
            check_report(guest_vcpu);
            return 1;
        }
    }
    printf("checktest: %" PRIu64 " instructions, %" PRIu64 " compared in %" PRIu64 " blocks\n", insns,
           guest_vcpu->bt.check->stats.insns, guest_vcpu->bt.check->stats.blocks);
    return guest_vcpu->bt.check->stats.insns < insns / 4;
}

int main(int argc, char **argv)
{
    uint64_t count = 400000;
    unsigned bad = 0;
    rng_state = now_ns();
    if (argc > 1)
        rng_state = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        count = strtoull(argv[2], NULL, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    setenv("SOFTKVM_CHECK", "1", 1);
    int status = progrun_start("checktest");
    if (status)
        return status;
    printf("checktest: seed %#" PRIx64 "\n", rng_state);
    state_random_memory();
    for (unsigned n = 0; n < ARRAY_SIZE(plants); n++)
        bad += test_plant(&plants[n]);
    bad += test_right(count);
    printf("checktest: %u failed\n", bad);
    return bad != 0;
}
