// SPDX-License-Identifier: GPL-2.0-or-later
/* What a firmware works with: fw_cfg, the host bridge's and the ISA bridge's own registers, the SMBus controller. */
#include <endian.h>
#include <string.h>

#include "base/util.h"
#include "devices/legacy/fwcfg.h"
#include "rig.h"

#define MCH   PCI_DEVFN(0, 0)
#define LPC   PCI_DEVFN(31, 0)
#define SMBUS PCI_DEVFN(31, 3)

/* The ports of configuration space work before there is an ECAM. */
static uint32_t cfg_in(struct rig *r, unsigned devfn, unsigned off, unsigned size)
{
    rig_write(r, BUS_PORT, 0xcf8, 4, 0x80000000u | devfn << 8 | (off & 0xfc));
    return (uint32_t)rig_read(r, BUS_PORT, 0xcfc + (off & 3), size);
}

static void cfg_out(struct rig *r, unsigned devfn, unsigned off, unsigned size, uint32_t val)
{
    rig_write(r, BUS_PORT, 0xcf8, 4, 0x80000000u | devfn << 8 | (off & 0xfc));
    rig_write(r, BUS_PORT, 0xcfc + (off & 3), size, val);
}

/* ---- fw_cfg ---- */

static void read_item(struct rig *r, uint16_t key, void *buf, size_t len)
{
    uint8_t *p = buf;
    rig_write(r, BUS_PORT, FWCFG_PORT, 2, key);
    for (size_t i = 0; i < len; i++)
        p[i] = rig_in(r, FWCFG_PORT + 1);
}

/* One DMA transfer; the control word that the device leaves. */
static uint32_t dma(struct rig *r, uint32_t control, uint32_t len, uint64_t gpa)
{
    uint64_t block = 0x8000;
    const struct {
        uint32_t control, len;
        uint64_t gpa;
    } d = {htobe32(control), htobe32(len), htobe64(gpa)};
    memcpy(rig_at(r, block), &d, sizeof d);
    rig_write(r, BUS_PORT, FWCFG_PORT + 4, 4, htobe32((uint32_t)(block >> 32)));
    rig_write(r, BUS_PORT, FWCFG_PORT + 8, 4, htobe32((uint32_t)block));
    uint32_t left;
    memcpy(&left, rig_at(r, block), 4);
    return be32toh(left);
}

static void fwcfg_by_ports(struct rig *r)
{
    char text[16] = {0};
    uint8_t entry[64];
    read_item(r, 0, text, 6);
    CHECK(memcmp(text, "QEMU\0\0", 6) == 0); /* zeroes behind the end */
    CHECK_EQ(rig_read(r, BUS_PORT, FWCFG_PORT + 4, 4), 0x554d4551);
    read_item(r, 1, text, 4);
    CHECK_EQ(text[0], 3);
    read_item(r, 5, text, 2);
    CHECK_EQ(text[0], 7);
    read_item(r, 0x8000, text, 2); /* a key that nobody has is not another's */
    CHECK(text[0] == 0 && text[1] == 0);
    rig_write(r, BUS_PORT, FWCFG_PORT, 2, 0x19);
    for (unsigned i = 0; i < 4; i++)
        entry[i] = rig_in(r, FWCFG_PORT + 1);
    CHECK_EQ(entry[3], 2);
    for (unsigned i = 0; i < 64; i++)
        entry[i] = rig_in(r, FWCFG_PORT + 1);
    CHECK(entry[3] == 5 && strcmp((char *)entry + 8, "opt/a") == 0);
    read_item(r, (uint16_t)(entry[4] << 8 | entry[5]), text, 5);
    CHECK(memcmp(text, "hello", 5) == 0);
}

static void fwcfg_by_dma(struct rig *r, struct fwcfg *f)
{
    uint8_t *buf = rig_at(r, 0x9000);
    uint32_t stored;
    memset(buf, 0xee, 16);
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 2, 3, 0x9000), 0);
    CHECK(memcmp(buf, "hel\xee", 4) == 0);
    CHECK_EQ(dma(r, 2, 8, 0x9000), 0); /* goes on, and zeroes behind the end */
    CHECK(memcmp(buf, "lo\0\0\0\0\0\0\xee", 9) == 0);
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 4, 4, 0), 0);
    CHECK_EQ(dma(r, 2, 1, 0x9000), 0);
    CHECK_EQ(buf[0], 'o');
    /* Only what may be written is, and only within it. */
    memcpy(buf, "\1\2\3\4", 4);
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 16, 4, 0x9000), 1);
    CHECK_EQ(dma(r, 0x21 << 16 | 8 | 16, 5, 0x9000), 1);
    CHECK_EQ(dma(r, 0x21 << 16 | 8 | 16, 4, 0x9000), 0);
    CHECK(fwcfg_contents(f, "opt/b", &stored, 4) && stored == htole32(0x04030201));
    CHECK(!fwcfg_contents(f, "opt/b", &stored, 3) && !fwcfg_contents(f, "opt/c", &stored, 4));
    /* Memory that is none. */
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 2, 5, RIG_LOW - 2), 1);
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 2, 5, ~0ull - 1), 1);
    CHECK_EQ(dma(r, 0x20 << 16 | 8 | 2, ~0u, 0), 1);
    rig_write(r, BUS_PORT, FWCFG_PORT + 4, 8, htobe64(~0ull - 3));
    rig_write(r, BUS_PORT, FWCFG_PORT + 4, 8, htobe64(1ull << 50));
}

static void fwcfg(struct rig *r)
{
    struct fwcfg *f;
    const uint16_t cpus = htole16(7);
    char name[80];
    CHECK(fwcfg_create(&r->bus, &f, NULL) == 0);
    CHECK(fwcfg_add(f, FWCFG_NB_CPUS, &cpus, 2, NULL) == 0);
    CHECK(fwcfg_add_file(f, "opt/a", "hello", 5, NULL) == 0 && fwcfg_add_writable(f, "opt/b", 4, NULL) == 0);
    fwcfg_by_ports(r);
    fwcfg_by_dma(r, f);
    memset(name, 'n', sizeof name);
    name[56] = 0;
    CHECK(fwcfg_add_file(f, name, "", 0, NULL) < 0);
    unsigned n = 2;
    while (fwcfg_add_number(f, "opt/n", n, NULL) == 0)
        n++;
    CHECK_EQ(n, 64);
    fwcfg_destroy(f);
}

/* ---- bridges ---- */

static uint8_t pam[PCI_PAM_REGS];
static unsigned pam_calls;
static uint16_t pm_port = 0xffff;

static void take_pam(void *opaque, const uint8_t *regs)
{
    (void)opaque;
    memcpy(pam, regs, sizeof pam);
    pam_calls++;
}

static void take_pm(void *opaque, uint16_t port)
{
    (void)opaque;
    pm_port = port;
}

static void host_bridge(struct rig *r)
{
    CHECK_EQ(rig_read(r, BUS_MMIO, RIG_ECAM, 4), 0xffffffff); /* no ECAM before the firmware wants one */
    CHECK_EQ(cfg_in(r, MCH, 0, 4), 0x29c08086);
    CHECK_EQ(cfg_in(r, MCH, 0x2c, 4), 0x11001af4);
    cfg_out(r, MCH, 0x60, 4, (uint32_t)RIG_ECAM | 1);
    CHECK_EQ(rig_read(r, BUS_MMIO, RIG_ECAM, 4), 0x29c08086);
    cfg_out(r, MCH, 0x60, 4, 0x80000000u | 5); /* 64 buses, elsewhere */
    CHECK_EQ(rig_read(r, BUS_MMIO, RIG_ECAM, 4), 0xffffffff);
    CHECK_EQ(rig_read(r, BUS_MMIO, 0x80000000, 4), 0x29c08086);
    CHECK_EQ(rig_read(r, BUS_MMIO, 0x84000000, 4), 0xffffffff);
    cfg_out(r, MCH, 0x60, 4, 0x80000000u | 7); /* a size that does not exist */
    CHECK_EQ(rig_read(r, BUS_MMIO, 0x80000000, 4), 0xffffffff);
    cfg_out(r, MCH, 0x60, 4, (uint32_t)RIG_ECAM | 1);
    /* PAM: seven bytes, of which the defined bits can be written. */
    unsigned calls = pam_calls;
    cfg_out(r, MCH, 0x90, 4, 0xffffffff);
    CHECK_EQ(pam_calls, calls + 1);
    CHECK(pam[0] == 0x30 && pam[1] == 0x33 && pam[3] == 0x33 && pam[4] == 0);
    CHECK_EQ(cfg_in(r, MCH, 0x9d, 1), 0x12); /* SMRAM is locked */
    cfg_out(r, MCH, 0x9d, 1, 0x48);
    CHECK_EQ(cfg_in(r, MCH, 0x9d, 1), 0x12);
    pci_host_reset(r->pci);
    CHECK(pam[0] == 0 && pam[1] == 0);
    CHECK_EQ(rig_read(r, BUS_MMIO, RIG_ECAM, 4), 0xffffffff);
}

static void isa_bridge(struct rig *r, struct pci_dev *toy)
{
    CHECK_EQ(cfg_in(r, LPC, 0x0e, 1), 0x80);
    cfg_out(r, LPC, 0x40, 4, 0x601);
    CHECK_EQ(pm_port, 0xffff); /* not enabled yet */
    cfg_out(r, LPC, 0x44, 1, 0x80);
    CHECK_EQ(pm_port, 0x600);
    cfg_out(r, LPC, 0x40, 4, 0xb07f);
    CHECK_EQ(pm_port, 0xb000);
    CHECK_EQ(cfg_in(r, LPC, 0x40, 4), 0xb001);
    cfg_out(r, LPC, 0x44, 1, 0);
    CHECK_EQ(pm_port, 0);
    cfg_out(r, LPC, 0xf0, 4, 0xfed1c001);
    CHECK_EQ(rig_read(r, BUS_MMIO, 0xfed1c000 + 0x3140, 4), 0x32103210);
    CHECK_EQ(rig_read(r, BUS_MMIO, 0xfed1c000 + 0x3400, 8), 0);
    cfg_out(r, LPC, 0xf0, 4, 0);
    CHECK_EQ(rig_read(r, BUS_MMIO, 0xfed1c000 + 0x3140, 4), 0xffffffff);
    /* Slot 3, INTA# is PIRQD: to the IOAPIC always, to a line of the PICs when that is routed. */
    CHECK_EQ(pci_intx_gsi(3, 1), 19);
    pci_intx_set(toy, true);
    CHECK(rig_gsi(r, 19) && !rig_gsi(r, 11));
    cfg_out(r, LPC, 0x63, 1, 11);
    CHECK(rig_gsi(r, 11));
    cfg_out(r, LPC, 0x63, 1, 10);
    CHECK(!rig_gsi(r, 11) && rig_gsi(r, 10));
    pci_intx_set(toy, false);
    CHECK(!rig_gsi(r, 19) && !rig_gsi(r, 10));
    pci_intx_set(toy, true);
    cfg_out(r, LPC, 0x63, 1, 0x80);
    CHECK(rig_gsi(r, 19) && !rig_gsi(r, 10));
    pci_intx_set(toy, false);
    cfg_out(r, LPC, 4, 2, 0xffff); /* ports, memory and mastering are always on, parity and SERR# the guest's */
    CHECK_EQ(cfg_in(r, LPC, 4, 2), 0x147);
    cfg_out(r, LPC, 4, 2, 0);
    CHECK_EQ(cfg_in(r, LPC, 4, 2), 7);
    CHECK_EQ(pci_intx_gsi(31, 2), 17); /* the ICH9's own devices do not rotate */
}

static void smbus(struct rig *r)
{
    CHECK_EQ(cfg_in(r, SMBUS, 0, 4), 0x29308086);
    cfg_out(r, SMBUS, 0x20, 4, RIG_IO);
    cfg_out(r, SMBUS, 4, 2, 1);
    rig_out(r, RIG_IO + 4, 0xa1);
    CHECK_EQ(rig_in(r, RIG_IO + 4), 0xa1);
    rig_out(r, RIG_IO + 2, 0x48); /* start, without interrupt */
    CHECK_EQ(rig_in(r, RIG_IO), 4);
    CHECK(!rig_gsi(r, pci_intx_gsi(31, 1)));
    rig_out(r, RIG_IO, 0xff);
    CHECK_EQ(rig_in(r, RIG_IO), 0);
    rig_out(r, RIG_IO + 2, 0x49);
    CHECK(rig_gsi(r, pci_intx_gsi(31, 1)));
    rig_out(r, RIG_IO, 4);
    CHECK(!rig_gsi(r, pci_intx_gsi(31, 1)));
}

/* ---- any register, any value ---- */

static void any_register(struct rig *r, unsigned rounds)
{
    static const unsigned devices[] = {MCH, LPC, SMBUS};
    struct rnd rnd = {now_ns() | 1};
    struct fwcfg *f;
    printf("seed %llu\n", (unsigned long long)rnd.state);
    CHECK(fwcfg_create(&r->bus, &f, NULL) == 0 && fwcfg_add_writable(f, "opt/w", 64, NULL) == 0);
    for (unsigned i = 0; i < rounds; i++) {
        unsigned size = 1u << rnd_below(&rnd, 3), devfn = devices[rnd_below(&rnd, ARRAY_SIZE(devices))];
        uint32_t val = rnd_below(&rnd, 4) ? (uint32_t)rnd64(&rnd) : 0x80000000u >> rnd_below(&rnd, 32);
        switch (rnd_below(&rnd, 4)) {
        case 0:
            cfg_out(r, devfn, rnd_below(&rnd, 256), size, val);
            break;
        case 1:
            cfg_in(r, devfn, rnd_below(&rnd, 256), size);
            break;
        case 2:
            rig_write(r, BUS_PORT, FWCFG_PORT + rnd_below(&rnd, FWCFG_PORTS), size, val);
            rig_read(r, BUS_PORT, FWCFG_PORT + rnd_below(&rnd, FWCFG_PORTS), size);
            break;
        case 3:
            rig_write(r, BUS_PORT, RIG_IO + rnd_below(&rnd, 32), size, val);
            rig_read(r, BUS_PORT, RIG_IO + rnd_below(&rnd, 32), size);
            break;
        }
    }
    fwcfg_destroy(f);
    pci_host_reset(r->pci);
    CHECK_EQ(cfg_in(r, LPC, 0, 4), 0x29188086);
}

int main(void)
{
    static const struct device_desc desc = {.name = "toy"};
    static const struct pci_ops ops = {.desc = &desc};
    struct rig r;
    struct lpc *lpc;
    struct smbus *s;
    struct pci_dev toy;
    rig_init_firmware(&r, take_pam, NULL);
    CHECK(lpc_create(r.pci, &(struct lpc_config){.pmbase = 0x600, .pm_moved = take_pm}, &lpc, NULL) == 0);
    CHECK(smbus_create(r.pci, &s, NULL) == 0);
    pci_dev_init(&toy, "toy", &ops, &(struct pci_id){.vendor = 0x1234});
    pci_dev_pin(&toy);
    CHECK(pci_dev_add(r.pci, &toy, 3, NULL) == 0);
    fwcfg(&r);
    host_bridge(&r);
    isa_bridge(&r, &toy);
    smbus(&r);
    any_register(&r, 200000);
    pci_dev_remove(&toy);
    smbus_destroy(s);
    lpc_destroy(lpc);
    rig_free(&r);
    return 0;
}
