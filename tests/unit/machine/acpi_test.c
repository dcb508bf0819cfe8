// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ACPI tables: found the way a guest finds them, with right checksums and lengths, for few and for many CPUs.
 *
 *     acpi_test [FOLDER]    also writes each table there, for acpi_iasl.sh
 */
#include <stdio.h>
#include <string.h>

#include "../devices/check.h"
#include "base/util.h"
#include "machine/acpi.h"
#include "machine/memmap.h"
#include "machine/numa.h"

static uint8_t tables[ACPI_MAX];

static uint64_t get(uint64_t addr, unsigned size)
{
    uint64_t v = 0;
    CHECK(addr >= MEM_TABLES && addr + size <= MEM_TABLES + ACPI_MAX);
    memcpy(&v, tables + (addr - MEM_TABLES), size);
    return v;
}

static uint8_t sum(uint64_t addr, uint64_t len)
{
    uint8_t s = 0;
    for (uint64_t i = 0; i < len; i++)
        s = (uint8_t)(s + get(addr + i, 1));
    return s;
}

static void dump(const char *folder, const char *name, uint64_t addr, uint64_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s.dat", folder, name);
    FILE *f = fopen(path, "w");
    CHECK(f && fwrite(tables + (addr - MEM_TABLES), 1, len, f) == len && fclose(f) == 0);
}

static uint64_t check_table(uint64_t addr, const char *signature, const char *folder)
{
    uint64_t len = get(addr + 4, 4);
    CHECK(memcmp(tables + (addr - MEM_TABLES), signature, 4) == 0);
    CHECK_EQ(addr % 16, 0);
    CHECK_EQ(sum(addr, len), 0);
    if (folder)
        dump(folder, signature, addr, len);
    return len;
}

/* The MADT's entries: every CPU once, with an ID that its kind of entry can hold. */
static void check_madt(uint64_t madt, uint64_t len, unsigned cpus)
{
    unsigned lapics = 0, x2apics = 0, ioapics = 0, overrides = 0;
    for (uint64_t at = 44; at < len; at += get(madt + at + 1, 1)) {
        CHECK(get(madt + at + 1, 1) >= 6);
        switch (get(madt + at, 1)) {
        case 0:
            CHECK_EQ(get(madt + at + 3, 1), lapics);
            lapics++;
            break;
        case 9:
            CHECK_EQ(get(madt + at + 4, 4), lapics + x2apics);
            x2apics++;
            break;
        case 1:
            CHECK_EQ(get(madt + at + 4, 4), MEM_IOAPIC);
            ioapics++;
            break;
        case 2:
            overrides++;
            break;
        default:
            break;
        }
    }
    CHECK_EQ(lapics, MIN(cpus, 255u));
    CHECK_EQ(lapics + x2apics, cpus);
    CHECK_EQ(ioapics, 1);
    CHECK_EQ(overrides, 2);
}

/* Each CPU's cell, and each range of memory, as the configuration has them. */
static void check_srat(uint64_t srat, uint64_t len, const struct acpi_config *cfg)
{
    unsigned cpus = 0, ranges = 0;
    CHECK_EQ(get(srat + 36, 4), 1);
    for (uint64_t at = srat + 48; at < srat + len; at += get(at + 1, 1)) {
        unsigned type = (unsigned)get(at, 1);
        CHECK(get(at + 1, 1) == (type == 0 ? 16 : type == 1 ? 40 : 24));
        if (type == 1) {
            const struct acpi_numa_range *r = &cfg->numa->ranges[ranges++];
            CHECK(get(at + 2, 4) == r->cell && get(at + 8, 8) == r->gpa && get(at + 16, 8) == r->size && get(at + 28, 4) == 1);
            continue;
        }
        CHECK_EQ(type, cpus < 255 ? 0 : 2);
        CHECK_EQ(get(type ? at + 8 : at + 3, type ? 4 : 1), cpus);
        CHECK_EQ(get(type ? at + 4 : at + 2, type ? 4 : 1), cfg->numa->cpu_cell[cpus]);
        CHECK_EQ(get(type ? at + 12 : at + 4, 4), 1);
        cpus++;
    }
    CHECK_EQ(cpus, cfg->cpus);
    CHECK_EQ(ranges, cfg->numa->nranges);
}

static void check_slit(uint64_t slit, uint64_t len, const struct acpi_numa *numa)
{
    CHECK_EQ(len, 44 + numa->ncells * numa->ncells);
    CHECK_EQ(get(slit + 36, 8), numa->ncells);
    for (unsigned i = 0; i < numa->ncells * numa->ncells; i++)
        CHECK_EQ(get(slit + 44 + i, 1), numa->distances[i / numa->ncells][i % numa->ncells]);
}

/* Three cells of 2 GiB: the second lies on both sides of the hole. */
static void describe_cells(unsigned cpus, struct acpi_numa *numa)
{
    static struct domain_cell cells[3] = {{.memory = 2 * GIB}, {.memory = 2 * GIB, .distances = {33}}, {.memory = 2 * GIB}};
    struct domain d = {.vcpus = cpus, .memory = 6 * GIB, .cells = cells, .ncells = 3};
    struct guestmem mem = {.regions = {{.gpa = 0, .size = MEM_LOW_LIMIT}, {.gpa = 4 * GIB, .size = 6 * GIB - MEM_LOW_LIMIT, .fd_offset = MEM_LOW_LIMIT}},
                           .count = 2};
    memset(cells[1].cpus, 0, sizeof cells[1].cpus);
    cells[1].cpus[(cpus - 1) / 64] = BIT64((cpus - 1) % 64);
    numa_describe(&d, &mem, numa);
    CHECK_EQ(numa->nranges, 4);
    CHECK(numa->ranges[1].gpa == 2 * GIB && numa->ranges[1].size == MEM_LOW_LIMIT - 2 * GIB && numa->ranges[1].cell == 1);
    CHECK(numa->ranges[2].gpa == 4 * GIB && numa->ranges[2].size == 4 * GIB - MEM_LOW_LIMIT && numa->ranges[2].cell == 1);
    CHECK(numa->ranges[3].gpa == 8 * GIB - MEM_LOW_LIMIT && numa->ranges[3].cell == 2);
    CHECK(numa->cpu_cell[cpus - 1] == 1 && numa->distances[1][0] == 33 && numa->distances[0][1] == 20);
}

static void test_tables(unsigned cpus, bool numa, const char *folder)
{
    struct acpi_numa cells;
    struct acpi_config cfg = {.cpus = cpus, .pci64_base = 64 * GIB, .pci64_end = 128 * GIB, .serial = {true, true}, .pvpanic = true, .genid = true, .parallel = true, .hpet = true};
    ERROR_SCOPED(err);
    if (numa) {
        describe_cells(cpus, &cells);
        cfg.numa = &cells;
    }
    memset(tables, 0xaa, sizeof tables);
    size_t size = acpi_build(&cfg, MEM_TABLES, tables, &err);
    CHECK(size > 0 && size <= ACPI_MAX);
    CHECK(memcmp(tables, "RSD PTR ", 8) == 0);
    CHECK_EQ(sum(MEM_TABLES, 20), 0);
    CHECK_EQ(sum(MEM_TABLES, 36), 0);
    uint64_t xsdt = get(MEM_TABLES + 24, 8), entries = (check_table(xsdt, "XSDT", folder) - 36) / 8;
    CHECK_EQ(entries, numa ? 6 : 4);
    uint64_t fadt = get(xsdt + 36, 8), madt = get(xsdt + 44, 8), mcfg = get(xsdt + 52, 8);
    CHECK_EQ(check_table(fadt, "FACP", folder), 276);
    check_madt(madt, check_table(madt, "APIC", folder), cpus);
    check_table(mcfg, "MCFG", folder);
    uint64_t hpet = get(xsdt + 60, 8);
    CHECK_EQ(check_table(hpet, "HPET", folder), 56);
    CHECK_EQ(get(hpet + 36, 4), 0x8086a201);
    CHECK_EQ(get(hpet + 44, 8), 0xfed00000);
    if (numa) {
        uint64_t srat = get(xsdt + 68, 8), slit = get(xsdt + 76, 8);
        check_srat(srat, check_table(srat, "SRAT", folder), &cfg);
        check_slit(slit, check_table(slit, "SLIT", folder), &cells);
    }
    CHECK_EQ(get(mcfg + 44, 8), MEM_ECAM);
    CHECK_EQ(get(fadt + 40, 4), get(fadt + 140, 8)); /* DSDT and X_DSDT */
    CHECK_EQ(get(fadt + 132, 8) % 64, 0);            /* FACS */
    check_table(get(fadt + 140, 8), "DSDT", folder);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : NULL;
    static const unsigned counts[] = {1, 2, 16, 255, 256, 1024};
    for (unsigned i = 0; i < ARRAY_SIZE(counts); i++)
        for (int numa = 0; numa < 2; numa++)
            test_tables(counts[i], numa, NULL);
    if (folder)
        test_tables(2, true, folder);
    return 0;
}
