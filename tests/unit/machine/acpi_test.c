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

static void test_tables(unsigned cpus, const char *folder)
{
    struct acpi_config cfg = {.cpus = cpus, .pci64_base = 64 * GIB, .pci64_end = 128 * GIB, .serial = {true, true}, .pvpanic = true, .genid = true, .parallel = true};
    ERROR_SCOPED(err);
    memset(tables, 0xaa, sizeof tables);
    size_t size = acpi_build(&cfg, MEM_TABLES, tables, &err);
    CHECK(size > 0 && size <= ACPI_MAX);
    CHECK(memcmp(tables, "RSD PTR ", 8) == 0);
    CHECK_EQ(sum(MEM_TABLES, 20), 0);
    CHECK_EQ(sum(MEM_TABLES, 36), 0);
    uint64_t xsdt = get(MEM_TABLES + 24, 8), entries = (check_table(xsdt, "XSDT", folder) - 36) / 8;
    CHECK_EQ(entries, 3);
    uint64_t fadt = get(xsdt + 36, 8), madt = get(xsdt + 44, 8), mcfg = get(xsdt + 52, 8);
    CHECK_EQ(check_table(fadt, "FACP", folder), 276);
    check_madt(madt, check_table(madt, "APIC", folder), cpus);
    check_table(mcfg, "MCFG", folder);
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
        test_tables(counts[i], NULL);
    if (folder)
        test_tables(2, folder);
    return 0;
}
