// SPDX-License-Identifier: GPL-2.0-or-later
/* Devices of a line or two: <rng>, <panic>, <lodge:debug-exit>. */
#include "base/util.h"
#include "model/part.h"

static int begin_rng(const struct xml_node *node, void *object, struct error *err)
{
    ((struct domain *)object)->rng = true;
    return xml_attr_only(node, "model", "virtio", err);
}

static int begin_rng_backend(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    if (xml_attr_only(node, "model", "random", err) < 0)
        return -1;
    return xml_text_word(node, (const char *const[]){"/dev/urandom", "/dev/random", NULL}, err) < 0 ? -1 : 0;
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &((struct domain *)object)->rng_address, err);
}

static void rng_write(const struct domain *d, FILE *out)
{
    if (!d->rng)
        return;
    fputs("    <rng model='virtio'>\n      <backend model='random'>/dev/urandom</backend>\n", out);
    pci_put_address(out, 6, &d->rng_address);
    fputs("    </rng>\n", out);
}

static const struct xml_element rng_children[] = {
    {"backend", XML_TEXT | XML_REQUIRED, "model!", begin_rng_backend, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element rng_devices[] = {
    {"rng", 0, "model!", begin_rng, rng_children, NULL},
    XML_END,
};
const struct domain_part rng_part = {.devices = rng_devices, .write_devices = rng_write};

/* ---- <panic> ---- */

static int begin_panic(const struct xml_node *node, void *object, struct error *err)
{
    ((struct domain *)object)->pvpanic = true;
    return xml_attr_only(node, "model", "isa", err);
}

static void panic_write(const struct domain *d, FILE *out)
{
    if (d->pvpanic)
        fputs("    <panic model='isa'/>\n", out);
}

static const struct xml_element panic_devices[] = {
    {"panic", 0, "model!", begin_panic, NULL, NULL},
    XML_END,
};
const struct domain_part panic_part = {.devices = panic_devices, .write_devices = panic_write};

/* ---- <lodge:debug-exit> ---- */

static int begin_debug_exit(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t port = DOMAIN_DEBUG_EXIT;
    if (xml_attr_number(node, "iobase", 0xfffc, &port, err) < 0)
        return -1;
    if (port == 0)
        return xml_error(node, err, "iobase 0 is not a port for it; write '0xf4'");
    ((struct domain *)object)->debug_exit = (uint16_t)port;
    return 0;
}

static void debug_exit_write(const struct domain *d, FILE *out)
{
    if (d->debug_exit)
        fprintf(out, "    <lodge:debug-exit iobase='0x%x'/>\n", d->debug_exit);
}

static const struct xml_element debug_exit_devices[] = {
    {"debug-exit", XML_FOREIGN, "iobase", begin_debug_exit, NULL, NULL},
    XML_END,
};
const struct domain_part debug_exit_part = {.devices = debug_exit_devices, .write_devices = debug_exit_write};
