// SPDX-License-Identifier: GPL-2.0-or-later
/* <memory>, <currentMemory>, <vcpu>. */
#include <stdlib.h>

#include "base/util.h"
#include "model/part.h"

char *memory_amount(const struct xml_node *node, const char *number)
{
    const char *unit = xml_attr(node, "unit");
    char *whole;
    return number && asprintf(&whole, "%s%s", number, unit ? unit : "KiB") >= 0 ? whole : NULL;
}

static int parse_memory(const struct xml_node *node, uint64_t *bytes, struct error *err)
{
    AUTO_FREE char *text = xml_text(node);
    AUTO_FREE char *whole = memory_amount(node, text);
    if (!whole)
        return -1;
    if (domain_parse_size(whole, 0, bytes) < 0)
        return xml_error(node, err, "'%.64s' is not an amount of memory; write a number, and a unit such as 'MiB'", whole);
    return 0;
}

static int begin_memory(const struct xml_node *node, void *object, struct error *err)
{
    return parse_memory(node, &((struct domain *)object)->memory, err);
}

static int begin_current_memory(const struct xml_node *node, void *object, struct error *err)
{
    return parse_memory(node, &((struct domain *)object)->current_memory, err);
}

static void memory_init(struct domain *d)
{
    d->memory = 512 * MIB;
}

static int memory_check(struct domain *d, struct error *err)
{
    if (d->memory < DOMAIN_MIN_MEMORY || d->memory > DOMAIN_MAX_MEMORY)
        return error_set(err, 0, "domain '%s': %llu KiB of memory; give it 4 MiB to 4 TiB", d->name,
                         (unsigned long long)(d->memory / KIB));
    d->memory = ALIGN_UP(d->memory, PAGE_SIZE);
    d->current_memory = ALIGN_UP(d->current_memory ? d->current_memory : d->memory, PAGE_SIZE);
    if (d->current_memory > d->memory)
        return error_set(err, 0, "domain '%s': <currentMemory> is more than <memory>; a guest begins with at most its whole memory", d->name);
    return 0;
}

static void memory_write(const struct domain *d, FILE *out)
{
    fprintf(out, "  <memory unit='KiB'>%llu</memory>\n", (unsigned long long)(d->memory / KIB));
    if (d->current_memory && d->current_memory != d->memory)
        fprintf(out, "  <currentMemory unit='KiB'>%llu</currentMemory>\n", (unsigned long long)(d->current_memory / KIB));
}

static const struct xml_element memory_elements[] = {
    {"memory", XML_TEXT | XML_REQUIRED, "unit", begin_memory, NULL, NULL},
    {"currentMemory", XML_TEXT, "unit", begin_current_memory, NULL, NULL},
    XML_END,
};
const struct domain_part memory_part = {
    .elements = memory_elements, .init = memory_init, .check = memory_check, .write = memory_write};

/* ---- <vcpu> ---- */

static int begin_vcpu(const struct xml_node *node, void *object, struct error *err)
{
    AUTO_FREE char *text = xml_text(node);
    uint64_t n = 0;
    if (!text || xml_attr_only(node, "placement", "static", err) < 0 || xml_number(node, text, DOMAIN_MAX_VCPUS, &n, err) < 0)
        return -1;
    ((struct domain *)object)->vcpus = (unsigned)n;
    return 0;
}

static void vcpu_init(struct domain *d)
{
    d->vcpus = 1;
}

static int vcpu_check(struct domain *d, struct error *err)
{
    if (d->vcpus < 1 || d->vcpus > DOMAIN_MAX_VCPUS)
        return error_set(err, 0, "domain '%s': %u CPUs; give it 1 to %u", d->name, d->vcpus, DOMAIN_MAX_VCPUS);
    return 0;
}

static void vcpu_write(const struct domain *d, FILE *out)
{
    fprintf(out, "  <vcpu placement='static'>%u</vcpu>\n", d->vcpus);
}

static const struct xml_element vcpu_elements[] = {
    {"vcpu", XML_TEXT, "placement", begin_vcpu, NULL, NULL},
    XML_END,
};
const struct domain_part vcpu_part = {.elements = vcpu_elements, .init = vcpu_init, .check = vcpu_check, .write = vcpu_write};
