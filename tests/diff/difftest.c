// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * difftest [--seed N] [--count N | --forever] [--only MNEMONIC] [--mode 16|32|64] [--reports N]
 *
 * Goes round all rows that take part (covered.c) in every mode that the host can run, with some byte strings that are no instructions in between.
 * Fails on any difference, and when a row has never been executed.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "diff.h"
#include "softkvm/x86/cpu.h"
#include "softkvm/x86/isa.h"

enum { MEMORY_LIFE = 512, INVALID_EVERY = 50, DEFAULT_COUNT = 1000000 };

uint64_t rng_state;
uint8_t *mem_template, *mem_host, *mem_guest;

static struct {
    uint64_t seed, count;
    bool forever;
    const char *only;
    int mode; /* -1: all */
    unsigned reports;
} options = {.count = DEFAULT_COUNT, .mode = -1, .reports = 20};

struct row_stats {
    unsigned runs, retired, differences;
};
static struct row_stats *stats; /* by row; the last is for invalid strings */
static uint64_t cases, different;

static void put_code(const struct test_case *t, bool present)
{
    uint64_t base = t->in.sel[S_CS] & 4 ? ldt[t->in.sel[S_CS] >> 3].base : 0;
    for (unsigned n = 0; n < t->len; n++) {
        uint64_t at = base + t->in.rip + n - SCRATCH_BASE;
        if (at < (CODE_PAGE + CODE_PAGES) * PAGE_SIZE)
            mem_host[at] = mem_guest[at] = mem_template[at] = present ? t->code[n] : 0xcc;
    }
}

static void restore_memory(void)
{
    for (unsigned page = 0; page < SCRATCH_PAGES; page++) {
        unsigned at = (unsigned)(page * PAGE_SIZE);
        if (scratch_kind[page] == PAGE_HOLE)
            continue;
        if (memcmp(mem_host + at, mem_template + at, PAGE_SIZE))
            memcpy(mem_host + at, mem_template + at, PAGE_SIZE);
        if (memcmp(mem_guest + at, mem_template + at, PAGE_SIZE))
            memcpy(mem_guest + at, mem_template + at, PAGE_SIZE);
    }
}

static void run_case(const struct test_case *t)
{
    static struct cpu_image host, guest;
    struct row_stats *s = &stats[t->row < 0 ? (int)isa_row_count : t->row];
    put_code(t, true);
    memset(&host, 0, sizeof(host));
    host_run(t, &host);
    guest_run(t, &guest);
    unsigned n = compare(t, &host, &guest, different >= options.reports || s->differences >= 2);
    put_code(t, false);
    restore_memory();
    s->runs++;
    s->retired += host.vector == EXC_DB || host.vector == EXC_BP;
    s->differences += n != 0;
    different += n != 0;
    cases++;
}

/* The rows that take part, in each mode. */
static unsigned list_rows(unsigned mode, uint16_t *rows)
{
    unsigned n = 0;
    for (unsigned r = 0; r < isa_row_count; r++) {
        const struct isa_row *row = &isa_rows[r];
        if (not_covered(row) || !host_has_feature(row->feature) || (row->flags & (mode == CODE64 ? ISA_NO64 : ISA_ONLY64)))
            continue;
        if (!options.only || !strcmp(options.only, row->name))
            rows[n++] = (uint16_t)r;
    }
    return n;
}

static void run_all(const bool modes[3])
{
    static const uint8_t share[] = {CODE64, CODE64, CODE32, CODE64, CODE16};
    uint16_t *rows[3];
    unsigned count[3], next[3] = {0};
    static struct test_case t;
    for (unsigned m = 0; m < 3; m++) {
        rows[m] = calloc(isa_row_count, sizeof(*rows[m]));
        count[m] = modes[m] ? list_rows(m, rows[m]) : 0;
    }
    if (count[0] + count[1] + count[2] == 0)
        return;
    for (uint64_t n = 0; options.forever || (cases < options.count && n < 4 * options.count); n++) { /* not each try makes a case */
        unsigned mode = share[n % ARRAY_SIZE(share)];
        if (n % MEMORY_LIFE == 0)
            state_random_memory();
        if (!count[mode])
            continue;
        if (n % INVALID_EVERY == 0 && !options.only)
            gen_invalid(&t, mode);
        else if (!gen_case(&t, rows[mode][next[mode]++ % count[mode]], mode))
            continue;
        run_case(&t);
        if (options.forever && cases % 1000000 == 0)
            printf("difftest: %" PRIu64 " million, %" PRIu64 " different\n", cases / 1000000, different);
    }
    for (unsigned m = 0; m < 3; m++)
        free(rows[m]);
}

/* At CPL 3 with IOPL 0, these (nearly) always fault. */
static bool always_faults(const struct isa_row *row)
{
    static const uint16_t ops[] = {OP_ud0, OP_ud1, OP_ud2, OP_in, OP_out, OP_ins, OP_outs, OP_cli, OP_sti, OP_rsm, OP_int};
    for (unsigned n = 0; n < ARRAY_SIZE(ops); n++)
        if (row->op == ops[n])
            return true;
    return row->flags & ISA_PRIV;
}

static unsigned check_coverage(const bool modes[3])
{
    unsigned missing = 0, left_out = 0, absent = 0;
    for (unsigned r = 0; r < isa_row_count; r++) {
        const struct isa_row *row = &isa_rows[r];
        bool runnable = modes[CODE64] && !(row->flags & ISA_NO64);
        runnable |= (modes[CODE32] || modes[CODE16]) && !(row->flags & ISA_ONLY64);
        if (stats[r].differences)
            printf("  %6u of %6u different: %s %s [%s]\n", stats[r].differences, stats[r].runs, row->name, row->operands, row->encoding);
        if (not_covered(row)) {
            left_out++;
        } else if (!host_has_feature(row->feature)) {
            absent++;
        } else if (runnable && !options.only && !(always_faults(row) ? stats[r].runs : stats[r].retired)) {
            printf("never executed: %s %s [%s]\n", row->name, row->operands, row->encoding);
            missing++;
        }
    }
    if (stats[isa_row_count].differences)
        printf("  %6u of %6u different: strings that are no instruction\n", stats[isa_row_count].differences, stats[isa_row_count].runs);
    printf("difftest: %u rows, %u not for the host, %u that this host lacks\n", isa_row_count, left_out, absent);
    return missing;
}

static bool parse_options(int argc, char **argv)
{
    static const struct option longs[] = {{"seed", 1, NULL, 's'}, {"count", 1, NULL, 'c'},   {"forever", 0, NULL, 'f'}, {"only", 1, NULL, 'o'},
                                          {"mode", 1, NULL, 'm'}, {"reports", 1, NULL, 'r'}, {NULL, 0, NULL, 0}};
    int c;
    options.seed = now_ns();
    while ((c = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
        switch (c) {
        case 's':
            options.seed = strtoull(optarg, NULL, 0);
            break;
        case 'c':
            options.count = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            options.forever = true;
            break;
        case 'o':
            options.only = optarg;
            break;
        case 'm':
            options.mode = !strcmp(optarg, "16") ? CODE16 : !strcmp(optarg, "32") ? CODE32 : CODE64;
            break;
        case 'r':
            options.reports = (unsigned)strtoul(optarg, NULL, 0);
            break;
        default:
            return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    bool modes[3];
    if (!parse_options(argc, argv)) {
        fprintf(stderr, "usage: difftest [--seed N] [--count N | --forever] [--only MNEMONIC] [--mode 16|32|64] [--reports N]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    rng_state = options.seed;
    mem_template = mmap(NULL, SCRATCH_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stats = calloc(isa_row_count + 1, sizeof(*stats));
    if (mem_template == MAP_FAILED || !stats || guest_init() || host_init()) {
        perror("difftest: cannot set up");
        return 1;
    }
    guest_interpret_only();
    for (unsigned m = 0; m < 3; m++) {
        modes[m] = host_has_mode(m) && (options.mode < 0 || options.mode == (int)m);
        if (!host_has_mode(m))
            printf("difftest: this kernel runs no %u-bit code (no IA32 emulation or no modify_ldt): left out\n", 16u << m);
    }
    printf("difftest: seed %#" PRIx64 "\n", options.seed);
    run_all(modes);
    unsigned missing = check_coverage(modes);
    printf("difftest: %" PRIu64 " instructions, %" PRIu64 " different\n", cases, different);
    puts(missing || different || !cases ? "difftest: FAILED" : "difftest: ok");
    return missing || different || !cases;
}
