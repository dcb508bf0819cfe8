// SPDX-License-Identifier: GPL-2.0-or-later
/* The DSDT: the devices that cannot be discovered, and the root of those that can. */
#include "machine/dsdt.h"

#include <stdio.h>

#include "base/util.h"
#include "devices/legacy/hpet.h"
#include "devices/pci/pci.h"
#include "machine/memmap.h"
#include "machine/pm.h"

#define STA_WORKS 0x0f /* present, enabled, shown, functioning (ACPI 6.4, 6.3.7) */

/* One processor device (ACPI 6.4, 8.4); _UID is the link to its entry in the MADT. */
static void put_cpu(struct aml *a, unsigned index)
{
    char name[12];
    snprintf(name, sizeof name, "C%03X", index & 0xfff);
    aml_device(a, name);
    aml_name(a, "_HID"), aml_string(a, "ACPI0007");
    aml_name(a, "_UID"), aml_integer(a, index);
    aml_end(a);
}

static void gsi_link_name(unsigned gsi, char name[5])
{
    snprintf(name, 5, "GS%02u", gsi % 100);
}

/*
 * One interrupt link for each GSI that PCI pins use. Linux takes a pin that names a GSI directly for active low; the board's lines
 * are active high, which only a link can say.
 */
static void put_gsi_link(struct aml *a, unsigned gsi)
{
    char name[5];
    gsi_link_name(gsi, name);
    aml_device(a, name);
    aml_name(a, "_HID"), aml_eisaid(a, "PNP0C0F");
    aml_name(a, "_UID"), aml_integer(a, gsi);
    for (unsigned i = 0; i < 2; i++) {
        aml_name(a, i ? "_CRS" : "_PRS"), aml_resources(a);
        aml_interrupt(a, gsi);
        aml_end(a);
    }
    aml_method(a, "_SRS", 1), aml_end(a); /* wired: there is nothing to choose */
    aml_method(a, "_DIS", 0), aml_end(a);
    aml_end(a);
}

/* The routing table (ACPI 6.4, 6.2.13): every pin of every slot. */
static void put_prt(struct aml *a)
{
    aml_name(a, "_PRT"), aml_package(a, PCI_SLOTS * 4);
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        for (unsigned pin = 1; pin <= 4; pin++) {
            char name[5];
            gsi_link_name(pci_intx_gsi(slot, pin), name);
            aml_package(a, 4);
            aml_integer(a, slot << 16 | 0xffff);
            aml_integer(a, pin - 1);
            aml_ref(a, name);
            aml_integer(a, 0);
            aml_end(a);
        }
    }
    aml_end(a);
}

/*
 * Who drives what of PCI Express (PCI firmware specification 3.2, 4.5.1): the operating system gets hot plug and the capability
 * structures; there are no PMEs and no error reports to get. Argument 0 is the interface, 3 a buffer of dwords: status, what the
 * system supports, what it wants.
 */
static void put_osc(struct aml *a)
{
    static const uint8_t pci_host_bridge[16] = {0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c, 0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66};
    enum { UNKNOWN_INTERFACE = 0x04, MASKED = 0x10, NATIVE_HOTPLUG = 0x01, CAPABILITY_STRUCTURE = 0x10 };
    aml_method(a, "_OSC", 4);
    aml_op(a, AML_DWORD_FIELD), aml_op(a, AML_ARG3), aml_integer(a, 0), aml_ref(a, "CDW1");
    aml_if(a), aml_op(a, AML_EQUAL), aml_op(a, AML_ARG0), aml_buffer(a, pci_host_bridge, sizeof pci_host_bridge);
    aml_op(a, AML_DWORD_FIELD), aml_op(a, AML_ARG3), aml_integer(a, 8), aml_ref(a, "CDW3");
    aml_op(a, AML_STORE), aml_ref(a, "CDW3"), aml_op(a, AML_LOCAL0);
    aml_op(a, AML_AND), aml_op(a, AML_LOCAL0), aml_integer(a, NATIVE_HOTPLUG | CAPABILITY_STRUCTURE), aml_ref(a, "CDW3");
    aml_if(a), aml_op(a, AML_NOT), aml_op(a, AML_EQUAL), aml_ref(a, "CDW3"), aml_op(a, AML_LOCAL0);
    aml_op(a, AML_OR), aml_ref(a, "CDW1"), aml_integer(a, MASKED), aml_ref(a, "CDW1");
    aml_end(a);
    aml_end(a);
    aml_else(a);
    aml_op(a, AML_OR), aml_ref(a, "CDW1"), aml_integer(a, UNKNOWN_INTERFACE), aml_ref(a, "CDW1");
    aml_end(a);
    aml_op(a, AML_RETURN), aml_op(a, AML_ARG3);
    aml_end(a);
}

static void put_pci(struct aml *a, const struct acpi_config *cfg)
{
    aml_device(a, "PCI0");
    aml_name(a, "_HID"), aml_eisaid(a, "PNP0A08");
    aml_name(a, "_CID"), aml_eisaid(a, "PNP0A03");
    aml_name(a, "_UID"), aml_integer(a, 0);
    aml_name(a, "_SEG"), aml_integer(a, 0);
    aml_name(a, "_BBN"), aml_integer(a, 0);
    aml_name(a, "_CRS"), aml_resources(a);
    aml_bus_window(a, 0, MEM_ECAM_BUSES - 1);
    aml_io(a, 0xcf8, 8);
    aml_io_window(a, 0, 0xcf7); /* legacy devices and the power management block, behind the ISA bridge; BARs go above PORT_PCI */
    aml_io_window(a, PORT_PCI, PORT_PCI_END - 1);
    aml_memory_window32(a, MEM_PCI32, MEM_PCI32_END - 1);
    if (cfg->pci64_end > cfg->pci64_base)
        aml_memory_window64(a, cfg->pci64_base, cfg->pci64_end - 1);
    aml_end(a);
    put_prt(a);
    put_osc(a);
    aml_end(a);
}

/* Linux uses the ECAM only when a motherboard resource reserves it (PCI firmware specification 3.2, 4.1.2). */
static void put_motherboard(struct aml *a)
{
    aml_device(a, "MBRD");
    aml_name(a, "_HID"), aml_eisaid(a, "PNP0C02");
    aml_name(a, "_UID"), aml_integer(a, 0);
    aml_name(a, "_CRS"), aml_resources(a);
    aml_memory32(a, MEM_ECAM, MEM_ECAM_SIZE);
    aml_io(a, PORT_PM, PM_SIZE);
    aml_end(a);
    aml_end(a);
}

static void put_legacy(struct aml *a, const char *name, const char *id, unsigned uid, unsigned port, unsigned len, unsigned port2,
                       unsigned irq)
{
    aml_device(a, name);
    aml_name(a, "_HID"), aml_eisaid(a, id);
    aml_name(a, "_UID"), aml_integer(a, uid);
    aml_name(a, "_STA"), aml_integer(a, STA_WORKS);
    aml_name(a, "_CRS"), aml_resources(a);
    aml_io(a, port, len);
    if (port2)
        aml_io(a, port2, len);
    aml_irq(a, irq);
    aml_end(a);
    aml_end(a);
}

static void put_hpet(struct aml *a)
{
    aml_device(a, "HPET");
    aml_name(a, "_HID"), aml_eisaid(a, "PNP0103");
    aml_name(a, "_UID"), aml_integer(a, 0);
    aml_name(a, "_CRS"), aml_resources(a);
    aml_memory32(a, HPET_BASE, HPET_BYTES);
    aml_end(a);
    aml_end(a);
}

/* The panic device, by the name under which Linux looks for it. */
static void put_pvpanic(struct aml *a)
{
    aml_device(a, "PEVT");
    aml_name(a, "_HID"), aml_string(a, "QEMU0001");
    aml_name(a, "_STA"), aml_integer(a, STA_WORKS);
    aml_name(a, "_CRS"), aml_resources(a);
    aml_io(a, PORT_PVPANIC, 1);
    aml_end(a);
    aml_end(a);
}

/* The VM generation ID, by the names under which Linux and Windows look for it: where it is, as two halves of an address. */
static void put_genid(struct aml *a)
{
    aml_device(a, "VGEN");
    aml_name(a, "_HID"), aml_string(a, "LODG0001");
    aml_name(a, "_CID"), aml_package(a, 2);
    aml_string(a, "VM_Gen_Counter");
    aml_string(a, "VMGENCTR");
    aml_end(a);
    aml_name(a, "_DDN"), aml_string(a, "VM_Gen_Counter");
    aml_name(a, "_STA"), aml_integer(a, STA_WORKS);
    aml_name(a, "ADDR"), aml_package(a, 2);
    aml_integer(a, MEM_GENID);
    aml_integer(a, 0);
    aml_end(a);
    aml_end(a);
}

void dsdt_build(struct aml *a, const struct acpi_config *cfg)
{
    aml_name(a, "\\_S5"), aml_package(a, 4); /* ACPI 6.4, 7.4.2 */
    aml_integer(a, PM_SLP_TYP_S5);
    aml_integer(a, 0);
    aml_integer(a, 0);
    aml_integer(a, 0);
    aml_end(a);
    aml_scope(a, "\\_SB");
    for (unsigned i = 0; i < cfg->cpus; i++)
        put_cpu(a, i);
    put_motherboard(a);
    for (unsigned i = 0; i < PCI_INTX_GSIS; i++)
        put_gsi_link(a, PCI_INTX_GSI_BASE + i);
    put_pci(a, cfg);
    if (cfg->serial[0])
        put_legacy(a, "COM1", "PNP0501", 0, 0x3f8, 8, 0, GSI_COM1);
    if (cfg->serial[1])
        put_legacy(a, "COM2", "PNP0501", 1, 0x2f8, 8, 0, GSI_COM2);
    if (cfg->parallel)
        put_legacy(a, "LPT1", "PNP0400", 0, 0x378, 3, 0, GSI_LPT1);
    put_legacy(a, "RTC", "PNP0B00", 0, 0x70, 2, 0, GSI_RTC);
    put_legacy(a, "KBD", "PNP0303", 0, 0x60, 1, 0x64, GSI_KEYBOARD);
    if (cfg->hpet)
        put_hpet(a);
    if (cfg->pvpanic)
        put_pvpanic(a);
    if (cfg->genid)
        put_genid(a);
    aml_end(a);
}
