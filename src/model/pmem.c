// SPDX-License-Identifier: GPL-2.0-or-later
/* <memory model='virtio-pmem'> among the devices. */
#include "model/pmem.h"

#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

struct domain_pmem *domain_add_pmem(struct domain *d, struct error *err)
{
    return domain_append(&d->pmems, &d->npmems, sizeof *d->pmems, DOMAIN_MAX_PMEMS, "persistent memories", err);
}

static struct domain_pmem *last(void *object)
{
    struct domain *d = object;
    return &d->pmems[d->npmems - 1];
}

static int begin_pmem(const struct xml_node *node, void *object, struct error *err)
{
    if (xml_attr_only(node, "model", "virtio-pmem", err) < 0 || xml_attr_only(node, "access", "shared", err) < 0)
        return -1;
    return domain_add_pmem(object, err) ? 0 : -1;
}

static int begin_path(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &last(object)->path, err);
}

static int begin_size(const struct xml_node *node, void *object, struct error *err)
{
    AUTO_FREE char *text = xml_text(node);
    AUTO_FREE char *whole = memory_amount(node, text);
    if (!whole)
        return -1;
    return domain_parse_size(whole, 0, &last(object)->size) < 0
               ? xml_error(node, err, "'%s' is not an amount of memory; write such as <size unit='MiB'>512</size>", whole)
               : 0;
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &last(object)->address, err);
}

static void pmem_free(struct domain *d)
{
    for (unsigned i = 0; i < d->npmems; i++)
        free(d->pmems[i].path);
    free(d->pmems);
}

static int pmem_check(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->npmems; i++) {
        const struct domain_pmem *m = &d->pmems[i];
        if (!m->path || !m->path[0])
            return error_set(err, 0, "persistent memory %u: no file; name it in <source><path>", i + 1);
        if (!m->size || m->size % PMEM_UNIT || m->size > DOMAIN_MAX_MEMORY)
            return error_set(err, 0, "persistent memory '%s': %llu bytes; make its size a multiple of 2 MiB", m->path,
                             (unsigned long long)m->size);
        for (unsigned j = 0; j < i; j++)
            if (strcmp(m->path, d->pmems[j].path) == 0)
                return error_set(err, 0, "persistent memory '%s': is there twice; give each its own file", m->path);
    }
    return 0;
}

static void pmem_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->npmems; i++) {
        const struct domain_pmem *m = &d->pmems[i];
        fputs("    <memory model='virtio-pmem' access='shared'>\n      <source>\n", out);
        xml_put_element(out, 8, "path", m->path);
        fprintf(out, "      </source>\n      <target>\n        <size unit='KiB'>%llu</size>\n      </target>\n",
                (unsigned long long)(m->size / KIB));
        pci_put_address(out, 6, &m->address);
        fputs("    </memory>\n", out);
    }
}

static const struct xml_element source_children[] = {
    {"path", XML_TEXT | XML_REQUIRED, NULL, begin_path, NULL, NULL},
    XML_END,
};
static const struct xml_element target_children[] = {
    {"size", XML_TEXT | XML_REQUIRED, "unit", begin_size, NULL, NULL},
    XML_END,
};
static const struct xml_element pmem_children[] = {
    {"source", XML_REQUIRED, NULL, NULL, source_children, NULL},
    {"target", XML_REQUIRED, NULL, NULL, target_children, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    XML_END,
};
static const struct xml_element pmem_devices[] = {
    {"memory", XML_MANY, "model! access", begin_pmem, pmem_children, NULL},
    XML_END,
};
const struct domain_part pmem_part = {.devices = pmem_devices, .free = pmem_free, .check = pmem_check, .write_devices = pmem_write};
