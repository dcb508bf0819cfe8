// SPDX-License-Identifier: GPL-2.0-or-later
/* <memballoon>. Without the element there is none, unless <currentMemory> asks for less than <memory>. */
#include "base/util.h"
#include "model/part.h"

static int begin_memballoon(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_balloon *b = &((struct domain *)object)->balloon;
    int model = xml_attr_word(node, "model", (const char *const[]){"none", "virtio", NULL}, 1, err);
    int deflate = xml_attr_switch(node, "autodeflate", 1, err), reporting = xml_attr_switch(node, "freePageReporting", 1, err);
    if (model < 0 || deflate < 0 || reporting < 0)
        return -1;
    *b = (struct domain_balloon){.present = model, .no_deflate = !deflate, .no_reporting = !reporting};
    return 0;
}

static int begin_stats(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t period = 0;
    if (xml_attr_number(node, "period", 86400, &period, err) < 0)
        return -1;
    ((struct domain *)object)->balloon.stats_period = (unsigned)period;
    return 0;
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &((struct domain *)object)->balloon.address, err);
}

static int memballoon_check(struct domain *d, struct error *err)
{
    (void)err;
    if (d->current_memory < d->memory)
        d->balloon.present = true;
    return 0;
}

static void memballoon_write(const struct domain *d, FILE *out)
{
    const struct domain_balloon *b = &d->balloon;
    if (!b->present) {
        fputs("    <memballoon model='none'/>\n", out);
        return;
    }
    fprintf(out, "    <memballoon model='virtio' autodeflate='%s' freePageReporting='%s'", b->no_deflate ? "off" : "on", b->no_reporting ? "off" : "on");
    fputs(b->stats_period || b->address.set ? ">\n" : "/>\n", out);
    if (b->stats_period)
        fprintf(out, "      <stats period='%u'/>\n", b->stats_period);
    pci_put_address(out, 6, &b->address);
    if (b->stats_period || b->address.set)
        fputs("    </memballoon>\n", out);
}

static const struct xml_element memballoon_children[] = {
    {"stats", 0, "period!", begin_stats, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element memballoon_devices[] = {
    {"memballoon", 0, "model! autodeflate freePageReporting", begin_memballoon, memballoon_children, NULL},
    XML_END,
};
const struct domain_part memballoon_part = {.devices = memballoon_devices, .check = memballoon_check, .write_devices = memballoon_write};
