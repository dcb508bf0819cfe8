// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The ACPI tables around the DSDT (ACPI 6.4, chapter 5; the MCFG is in the PCI firmware specification 3.2, 4.1.2).
 *
 * Tables are written one behind the other with the AML writer; each is finished by table_end(), which fills in its length. What
 * depends on where they come to lie is noted: pointers by put_pointer(), checksums by table_end(). Either acpi_build() settles
 * both, or a firmware does (firmware.c).
 */
#include "machine/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "devices/legacy/hpet.h"
#include "machine/aml.h"
#include "machine/dsdt.h"
#include "machine/memmap.h"
#include "machine/pm.h"

#define HEADER_SIZE  36
#define FADT_SIZE    276 /* ACPI 6.4: revision 6 */
#define TABLES_START 64u /* behind the RSDP: the FACS is aligned to 64 */

enum fadt_flags {
    FADT_WBINVD = 1 << 0,
    FADT_PROC_C1 = 1 << 2,
    FADT_SLP_BUTTON = 1 << 5, /* no fixed sleep button; PWR_BUTTON stays clear: there is a fixed power button */
    FADT_FIX_RTC = 1 << 6,    /* no wake by the RTC */
    FADT_TMR_VAL_EXT = 1 << 8,
    FADT_RESET_REG = 1 << 10,
};
enum { BOOT_ARCH_LEGACY = 1 << 0, BOOT_ARCH_8042 = 1 << 1, BOOT_ARCH_NO_VGA = 1 << 2 };
enum {
    MADT_PCAT = 1 << 0,
    MADT_LAPIC = 0,
    MADT_IOAPIC = 1,
    MADT_OVERRIDE = 2,
    MADT_LAPIC_NMI = 4,
    MADT_X2APIC = 9,
    MADT_X2APIC_NMI = 10
};
enum { MADT_ENABLED = 1, MADT_LEVEL_HIGH = 0x0d };
enum { GAS_MEMORY = 0, GAS_IO = 1 };

/* The tables as they grow; `a` is the writer, `t` gets the notes. */
struct build {
    struct aml a;
    struct acpi_tables *t;
};

static void align(struct aml *a, size_t to)
{
    while (a->len % to && !a->failed)
        aml_u8(a, 0);
}

static size_t table_begin(struct aml *a, const char signature[4], unsigned revision)
{
    align(a, 16);
    size_t start = a->len;
    aml_bytes(a, signature, 4);
    aml_u32(a, 0); /* length */
    aml_u8(a, revision);
    aml_u8(a, 0); /* checksum */
    aml_bytes(a, "LODGE ", 6);
    aml_bytes(a, "LODGEQ35", 8);
    aml_u32(a, 1);
    aml_bytes(a, "LDGE", 4);
    aml_u32(a, 1);
    return start;
}

static void checksum(uint8_t *table, size_t len, size_t at)
{
    uint8_t sum = 0;
    table[at] = 0;
    for (size_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + table[i]);
    table[at] = (uint8_t)-sum;
}

static void table_end(struct build *b, size_t start)
{
    struct aml *a = &b->a;
    if (a->failed || b->t->nsums == ACPI_SUMS)
        return;
    uint32_t len = (uint32_t)(a->len - start);
    memcpy(a->data + start + 4, &len, sizeof len);
    b->t->sums[b->t->nsums++] = (struct acpi_sum){(uint32_t)start + 9, (uint32_t)start, len};
}

/* The address of what lies at `offset`. */
static void put_pointer(struct build *b, unsigned size, size_t offset)
{
    if (b->t->npointers < ACPI_POINTERS)
        b->t->pointers[b->t->npointers++] = (struct acpi_pointer){(uint32_t)b->a.len, (uint8_t)size};
    if (size == 8)
        aml_u64(&b->a, offset);
    else
        aml_u32(&b->a, (uint32_t)offset);
}

/* Generic address of a port (ACPI 6.4, 5.2.3.2). */
static void gas(struct aml *a, unsigned port, unsigned bits)
{
    aml_u8(a, port ? GAS_IO : 0);
    aml_u8(a, bits);
    aml_u8(a, 0);                                                   /* bit offset */
    aml_u8(a, bits == 8 ? 1 : bits == 16 ? 2 : bits == 32 ? 3 : 0); /* access size */
    aml_u64(a, port);
}

/* ACPI 6.4, 5.2.10. */
static size_t put_facs(struct aml *a)
{
    align(a, 64);
    size_t start = a->len;
    uint8_t facs[64] = {'F', 'A', 'C', 'S', 64};
    facs[32] = 2; /* version */
    aml_bytes(a, facs, sizeof facs);
    return start;
}

/* ACPI 6.4, 5.2.9. SMI_CMD is zero: the machine is in ACPI mode from the start. */
static size_t put_fadt(struct build *b, size_t facs, size_t dsdt)
{
    struct aml *a = &b->a;
    size_t start = table_begin(a, "FACP", 6);
    put_pointer(b, 4, facs);
    put_pointer(b, 4, dsdt);
    aml_u8(a, 0); /* reserved */
    aml_u8(a, 1); /* preferred profile: desktop */
    aml_u16(a, GSI_SCI);
    aml_u32(a, 0); /* SMI_CMD, then the values for it */
    aml_u32(a, 0);
    aml_u32(a, PORT_PM + PM1_EVT);
    aml_u32(a, 0); /* PM1b */
    aml_u32(a, PORT_PM + PM1_CNT);
    aml_u32(a, 0);
    aml_u32(a, 0); /* PM2 */
    aml_u32(a, PORT_PM + PM_TMR);
    aml_u32(a, PORT_PM + PM_GPE0);
    aml_u32(a, 0); /* GPE1 */
    aml_u8(a, 4);  /* PM1_EVT_LEN */
    aml_u8(a, 2);  /* PM1_CNT_LEN */
    aml_u8(a, 0);
    aml_u8(a, 4); /* PM_TMR_LEN */
    aml_u8(a, PM_GPE0_LEN);
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0);      /* CST_CNT */
    aml_u16(a, 0xfff); /* P_LVL2_LAT: no C2 */
    aml_u16(a, 0xfff); /* P_LVL3_LAT: no C3 */
    aml_u16(a, 0);     /* FLUSH_SIZE */
    aml_u16(a, 0);
    aml_u8(a, 0); /* DUTY_OFFSET, DUTY_WIDTH, DAY_ALRM, MON_ALRM */
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u8(a, 0x32); /* CENTURY: index in the CMOS RAM */
    aml_u16(a, BOOT_ARCH_LEGACY | BOOT_ARCH_8042 | BOOT_ARCH_NO_VGA);
    aml_u8(a, 0);
    aml_u32(a, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_FIX_RTC | FADT_TMR_VAL_EXT | FADT_RESET_REG);
    gas(a, PORT_RESET, 8);
    aml_u8(a, 0x06); /* RESET_VALUE: reset the CPU and the system */
    aml_u16(a, 0);   /* ARM boot flags */
    aml_u8(a, 4);    /* FADT minor version */
    put_pointer(b, 8, facs);
    put_pointer(b, 8, dsdt);
    gas(a, PORT_PM + PM1_EVT, 32);
    gas(a, 0, 0);
    gas(a, PORT_PM + PM1_CNT, 16);
    gas(a, 0, 0);
    gas(a, 0, 0);
    gas(a, PORT_PM + PM_TMR, 32);
    gas(a, PORT_PM + PM_GPE0, PM_GPE0_LEN * 8);
    gas(a, 0, 0);
    gas(a, 0, 0); /* sleep control and status: of hardware-reduced machines */
    gas(a, 0, 0);
    aml_bytes(a, "LODGE\0\0", 8); /* hypervisor vendor */
    table_end(b, start);
    return start;
}

/* CPUs with IDs from 255 on exist only as x2APICs (ACPI 6.4, 5.2.12.12). */
static void put_lapic(struct aml *a, unsigned id)
{
    if (id < 255) {
        aml_u8(a, MADT_LAPIC);
        aml_u8(a, 8);
        aml_u8(a, id); /* processor UID */
        aml_u8(a, id);
        aml_u32(a, MADT_ENABLED);
    } else {
        aml_u8(a, MADT_X2APIC);
        aml_u8(a, 16);
        aml_u16(a, 0);
        aml_u32(a, id);
        aml_u32(a, MADT_ENABLED);
        aml_u32(a, id); /* processor UID */
    }
}

static void put_override(struct aml *a, unsigned irq, unsigned gsi, unsigned flags)
{
    aml_u8(a, MADT_OVERRIDE);
    aml_u8(a, 10);
    aml_u8(a, 0); /* ISA */
    aml_u8(a, irq);
    aml_u32(a, gsi);
    aml_u16(a, flags);
}

/* ACPI 6.4, 5.2.12. */
static size_t put_madt(struct build *b, const struct acpi_config *cfg)
{
    struct aml *a = &b->a;
    size_t start = table_begin(a, "APIC", 5);
    aml_u32(a, MEM_LAPIC);
    aml_u32(a, MADT_PCAT);
    for (unsigned i = 0; i < cfg->cpus; i++)
        put_lapic(a, i);
    aml_u8(a, MADT_IOAPIC);
    aml_u8(a, 12);
    aml_u8(a, 0); /* ID */
    aml_u8(a, 0);
    aml_u32(a, MEM_IOAPIC);
    aml_u32(a, 0); /* first GSI */
    put_override(a, 0, GSI_TIMER, 0);
    put_override(a, GSI_SCI, GSI_SCI, MADT_LEVEL_HIGH);
    aml_u8(a, MADT_LAPIC_NMI);
    aml_u8(a, 6);
    aml_u8(a, 0xff); /* all processors */
    aml_u16(a, 0);
    aml_u8(a, 1); /* LINT1 */
    if (cfg->cpus > 255) {
        aml_u8(a, MADT_X2APIC_NMI);
        aml_u8(a, 12);
        aml_u16(a, 0);
        aml_u32(a, 0xffffffff);
        aml_u8(a, 1);
        aml_bytes(a, "\0\0", 3);
    }
    table_end(b, start);
    return start;
}

static size_t put_mcfg(struct build *b)
{
    struct aml *a = &b->a;
    size_t start = table_begin(a, "MCFG", 1);
    aml_u64(a, 0);
    aml_u64(a, MEM_ECAM);
    aml_u16(a, 0); /* segment */
    aml_u8(a, 0);
    aml_u8(a, MEM_ECAM_BUSES - 1);
    aml_u32(a, 0);
    table_end(b, start);
    return start;
}

static size_t put_srat(struct build *b, const struct acpi_config *cfg)
{
    size_t start = table_begin(&b->a, "SRAT", 3);
    acpi_put_srat(&b->a, cfg->numa, cfg->cpus);
    table_end(b, start);
    return start;
}

static size_t put_slit(struct build *b, const struct acpi_config *cfg)
{
    size_t start = table_begin(&b->a, "SLIT", 1);
    acpi_put_slit(&b->a, cfg->numa);
    table_end(b, start);
    return start;
}

/* IA-PC HPET 1.0a, 3.2.4. */
static size_t put_hpet(struct build *b)
{
    struct aml *a = &b->a;
    size_t start = table_begin(a, "HPET", 1);
    aml_u32(a, HPET_BLOCK_ID);
    aml_u8(a, GAS_MEMORY);
    aml_u8(a, 64); /* bits */
    aml_u8(a, 0);
    aml_u8(a, 0);
    aml_u64(a, HPET_BASE);
    aml_u8(a, 0);    /* its number */
    aml_u16(a, 100); /* ticks: a periodic timer should not be faster */
    aml_u8(a, 0);
    table_end(b, start);
    return start;
}

static size_t put_dsdt(struct build *b, const struct acpi_config *cfg)
{
    struct aml *a = &b->a;
    size_t start = table_begin(a, "DSDT", 2);
    dsdt_build(a, cfg);
    table_end(b, start);
    return start;
}

/* ACPI 6.4, 5.2.5.3. */
static void fill_rsdp(uint8_t *rsdp, uint64_t xsdt)
{
    const uint32_t len = ACPI_RSDP_SIZE;
    memset(rsdp, 0, len);
    memcpy(rsdp, "RSD PTR ", 8);
    memcpy(rsdp + 9, "LODGE ", 6);
    rsdp[15] = 2;
    memcpy(rsdp + 20, &len, sizeof len);
    memcpy(rsdp + ACPI_RSDP_XSDT, &xsdt, sizeof xsdt);
}

int acpi_tables_make(const struct acpi_config *cfg, struct acpi_tables *t, struct error *err)
{
    struct build b = {.t = t};
    *t = (struct acpi_tables){0};
    size_t dsdt = put_dsdt(&b, cfg);
    size_t facs = put_facs(&b.a);
    size_t tables[6] = {put_fadt(&b, facs, dsdt), put_madt(&b, cfg), put_mcfg(&b)};
    unsigned ntables = 3;
    if (cfg->hpet)
        tables[ntables++] = put_hpet(&b);
    if (cfg->numa) {
        tables[ntables++] = put_srat(&b, cfg);
        tables[ntables++] = put_slit(&b, cfg);
    }
    size_t xsdt = table_begin(&b.a, "XSDT", 1);
    for (unsigned i = 0; i < ntables; i++)
        put_pointer(&b, 8, tables[i]);
    table_end(&b, xsdt);
    t->data = b.a.data;
    t->len = b.a.len;
    fill_rsdp(t->rsdp, xsdt);
    if (b.a.failed)
        error_set(err, ENOMEM, "ACPI tables: out of memory");
    else if (t->len > ACPI_MAX - TABLES_START)
        error_set(err, 0, "ACPI tables: %zu bytes for %u CPUs, more than the %u there is room for; give the guest fewer CPUs",
                  t->len, cfg->cpus, ACPI_MAX - TABLES_START);
    else
        return 0;
    acpi_tables_free(t);
    return -1;
}

void acpi_tables_free(struct acpi_tables *t)
{
    free(t->data);
    *t = (struct acpi_tables){0};
}

static void add_to_pointer(uint8_t *at, unsigned size, uint64_t base)
{
    uint64_t v = 0;
    memcpy(&v, at, size);
    v += base;
    memcpy(at, &v, size);
}

size_t acpi_build(const struct acpi_config *cfg, uint64_t base, uint8_t *buf, struct error *err)
{
    struct acpi_tables t;
    uint8_t *data = buf + TABLES_START;
    if (acpi_tables_make(cfg, &t, err) < 0)
        return 0;
    memset(buf, 0, TABLES_START);
    memcpy(buf, t.rsdp, ACPI_RSDP_SIZE);
    memcpy(data, t.data, t.len);
    for (unsigned i = 0; i < t.npointers; i++)
        add_to_pointer(data + t.pointers[i].at, t.pointers[i].size, base + TABLES_START);
    for (unsigned i = 0; i < t.nsums; i++)
        checksum(data + t.sums[i].start, t.sums[i].len, t.sums[i].at - t.sums[i].start);
    add_to_pointer(buf + ACPI_RSDP_XSDT, 8, base + TABLES_START);
    checksum(buf, ACPI_RSDP_SUM_LEN, ACPI_RSDP_SUM);
    checksum(buf, ACPI_RSDP_SIZE, ACPI_RSDP_SUM2);
    size_t len = TABLES_START + t.len;
    acpi_tables_free(&t);
    return len;
}

int acpi_install(const struct acpi_config *cfg, struct guestmem *mem, uint64_t *rsdp, struct error *err)
{
    AUTO_FREE uint8_t *buf = malloc(ACPI_MAX);
    if (!buf)
        return error_set(err, ENOMEM, "ACPI tables: out of memory");
    size_t len = acpi_build(cfg, MEM_TABLES, buf, err);
    if (!len)
        return -1;
    *rsdp = MEM_TABLES;
    return guestmem_write(mem, MEM_TABLES, buf, len);
}
