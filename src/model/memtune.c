// SPDX-License-Identifier: GPL-2.0-or-later
/* <memtune>: how much of the host's memory the guest's process may take. */
#include "base/util.h"
#include "model/part.h"

static int take_limit(const struct xml_node *node, uint64_t *bytes, struct error *err)
{
    AUTO_FREE char *text = xml_text(node);
    AUTO_FREE char *whole = memory_amount(node, text);
    if (!whole)
        return error_set(err, 0, "domain XML: out of memory");
    if (domain_parse_size(whole, 0, bytes) < 0 || *bytes < KIB)
        return xml_error(node, err, "'%.64s' is not a limit of memory; write 1 or more, and a unit such as 'MiB'", whole);
    if (*bytes / KIB >= LIMITS_NONE_KIB)
        *bytes = 0;
    return 0;
}

static int begin_hard(const struct xml_node *node, void *object, struct error *err)
{
    return take_limit(node, &((struct domain *)object)->limits.hard, err);
}

static int begin_soft(const struct xml_node *node, void *object, struct error *err)
{
    return take_limit(node, &((struct domain *)object)->limits.soft, err);
}

static int begin_swap_hard(const struct xml_node *node, void *object, struct error *err)
{
    return take_limit(node, &((struct domain *)object)->limits.swap_hard, err);
}

int domain_check_limits(const struct domain_limits *l, struct error *err)
{
    if (l->swap_hard && (!l->hard || l->swap_hard < l->hard))
        return error_set(
            err, 0, "<memtune>: swap_hard_limit is of memory and swap together; give it at least the hard_limit, and that as well");
    return 0;
}

static int memtune_check(struct domain *d, struct error *err)
{
    return domain_check_limits(&d->limits, err);
}

bool domain_is_limited(const struct domain *d)
{
    return d->limits.hard || d->limits.soft || d->limits.swap_hard;
}

static void write_limit(FILE *out, const char *name, uint64_t bytes)
{
    if (bytes)
        fprintf(out, "    <%s unit='KiB'>%llu</%s>\n", name, (unsigned long long)(bytes / KIB), name);
}

static void memtune_write(const struct domain *d, FILE *out)
{
    if (!domain_is_limited(d))
        return;
    fputs("  <memtune>\n", out);
    write_limit(out, "hard_limit", d->limits.hard);
    write_limit(out, "soft_limit", d->limits.soft);
    write_limit(out, "swap_hard_limit", d->limits.swap_hard);
    fputs("  </memtune>\n", out);
}

static const struct xml_element memtune_children[] = {
    {"hard_limit", XML_TEXT, "unit", begin_hard, NULL, NULL},
    {"soft_limit", XML_TEXT, "unit", begin_soft, NULL, NULL},
    {"swap_hard_limit", XML_TEXT, "unit", begin_swap_hard, NULL, NULL},
    XML_END,
};
static const struct xml_element memtune_elements[] = {
    {"memtune", 0, NULL, NULL, memtune_children, NULL},
    XML_END,
};
const struct domain_part memtune_part = {.elements = memtune_elements, .check = memtune_check, .write = memtune_write};
