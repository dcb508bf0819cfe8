// SPDX-License-Identifier: GPL-2.0-or-later
/* See kept.h. Each element is still checked: a value that asks for something else is refused. */
#include "model/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

#define MAX_KEPT_XML 65536u /* bytes of one element */

static int keep(const struct xml_node *node, struct domain *d, enum domain_kept_place place, bool unserved, struct error *err)
{
    AUTO_FREE char *xml = xml_node_text(node);
    if (!xml)
        return -1;
    if (strlen(xml) > MAX_KEPT_XML)
        return xml_error(node, err, "is longer than %u bytes; shorten it", MAX_KEPT_XML);
    struct domain_kept *k = domain_append(&d->kept, &d->nkept, sizeof *k, DOMAIN_MAX_KEPT, "elements that are only kept", err);
    if (!k)
        return -1;
    *k = (struct domain_kept){place, steal_ptr(&xml), unserved};
    return 0;
}

static void write_place(const struct domain *d, enum domain_kept_place place, int indent, FILE *out)
{
    for (unsigned i = 0; i < d->nkept; i++)
        if (d->kept[i].place == place)
            fprintf(out, "%*s%s\n", indent, "", d->kept[i].xml);
}

static void kept_free(struct domain *d)
{
    for (unsigned i = 0; i < d->nkept; i++)
        free(d->kept[i].xml);
    free(d->kept);
}

void domain_name_unserved(const struct domain *d, FILE *out, const char *prefix)
{
    for (unsigned i = 0; i < d->nkept; i++)
        if (d->kept[i].unserved)
            fprintf(out, "%s%.*s: there is no such device yet; the guest does not see it\n", prefix,
                    (int)strcspn(d->kept[i].xml, "\n"), d->kept[i].xml);
    controller_name_unserved(d, out, prefix);
}

/* ---- <metadata> ---- */

static int begin_metadata(const struct xml_node *node, void *object, struct error *err)
{
    return keep(node, object, KEPT_METADATA, false, err);
}

static void metadata_write(const struct domain *d, FILE *out)
{
    write_place(d, KEPT_METADATA, 2, out);
}

static const struct xml_element metadata_elements[] = {
    {"metadata", XML_RAW, NULL, begin_metadata, NULL, NULL},
    XML_END,
};
const struct domain_part metadata_part = {.elements = metadata_elements, .free = kept_free, .write = metadata_write};

/* ---- <cpu>: the guest's CPU is what the accelerator makes of the host's, and what the guest asks for beyond that ---- */

static int begin_feature(const struct xml_node *node, void *object, struct error *err)
{
    if (xml_attr_only(node, "policy", "require", err) < 0 || xml_attr_only(node, "name", "avx512f", err) < 0)
        return -1;
    ((struct domain *)object)->avx512 = true;
    return 0;
}

static int begin_cpu(const struct xml_node *node, void *object, struct error *err)
{
    if (xml_attr_word(node, "mode", (const char *const[]){"host-passthrough", "maximum", NULL}, 0, err) < 0 ||
        xml_attr_only(node, "check", "none", err) < 0 || xml_attr_switch(node, "migratable", 0, err) < 0)
        return -1;
    return keep(node, object, KEPT_CPU, false, err);
}

static void cpu_write(const struct domain *d, FILE *out)
{
    bool kept = false;
    for (unsigned i = 0; i < d->nkept; i++)
        kept |= d->kept[i].place == KEPT_CPU;
    write_place(d, KEPT_CPU, 2, out);
    if (kept || (!d->avx512 && !d->ncells))
        return;
    fputs("  <cpu mode=\"host-passthrough\">\n", out); /* as libxml2 will write it */
    if (d->avx512)
        fputs("    <feature policy=\"require\" name=\"avx512f\"/>\n", out);
    if (d->ncells)
        domain_write_cells(d, out);
    fputs("  </cpu>\n", out);
}

static const struct xml_element distances_children[] = {
    {"sibling", XML_MANY, "id! value!", domain_begin_sibling, NULL, NULL},
    XML_END,
};
static const struct xml_element cell_children[] = {
    {"distances", 0, NULL, NULL, distances_children, NULL},
    XML_END,
};
static const struct xml_element numa_children[] = {
    {"cell", XML_MANY, "id cpus memory! unit memAccess discard", domain_begin_cell, cell_children, NULL},
    XML_END,
};

static const struct xml_element cpu_children[] = {
    {"feature", 0, "policy! name!", begin_feature, NULL, NULL},
    {"numa", 0, NULL, NULL, numa_children, NULL},
    XML_END,
};

static const struct xml_element cpu_elements[] = {
    {"cpu", 0, "mode! check migratable", begin_cpu, cpu_children, NULL},
    XML_END,
};
const struct domain_part cpu_part = {.elements = cpu_elements, .write = cpu_write};

/* ---- <timer>, below <clock> (features.c): what the board's timers do anyway, and the HPET, which is there if it is wanted ---- */

int domain_begin_timer(const struct xml_node *node, void *object, struct error *err)
{
    static const struct {
        const char *name, *policy;
        int present; /* what it must say, when it says something */
    } rows[] = {{"rtc", "catchup", 1}, {"pit", "delay", 1}, {"hpet", NULL, 0}, {"kvmclock", NULL, 1}, {"tsc", NULL, 1}};
    const char *name = xml_attr(node, "name"), *policy = xml_attr(node, "tickpolicy");
    if (strcmp(name, "hpet") == 0 && !policy && xml_attr_switch(node, "present", 0, NULL) == 1) {
        ((struct domain *)object)->hpet = true;
        return 0;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        int present = xml_attr_switch(node, "present", rows[i].present, err);
        if (present < 0)
            return -1;
        if (present != rows[i].present || (!xml_attr(node, "present") && !rows[i].present))
            return xml_error(node, err, "timer '%s' is always %s; write present='%s'", name, rows[i].present ? "there" : "absent",
                             rows[i].present ? "yes" : "no");
        if (policy && (!rows[i].policy || strcmp(policy, rows[i].policy) != 0))
            return xml_error(node, err, "tickpolicy '%.64s' of timer '%s' is not supported; remove it", policy, name);
        return keep(node, object, KEPT_TIMER, false, err);
    }
    return xml_error(node, err, "timer '%.64s' is not supported; remove it", name);
}

void domain_write_timers(const struct domain *d, FILE *out)
{
    write_place(d, KEPT_TIMER, 4, out);
    if (d->hpet)
        fputs("    <timer name='hpet' present='yes'/>\n", out);
}

/* ---- <pm>: there is no S3 and no S4 ---- */

static int begin_suspend(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    int enabled = xml_attr_switch(node, "enabled", 0, err);
    return enabled == 1 ? xml_error(node, err, "suspending is not supported; write enabled='no'") : enabled;
}

static int begin_pm(const struct xml_node *node, void *object, struct error *err)
{
    return keep(node, object, KEPT_PM, false, err);
}

static void pm_write(const struct domain *d, FILE *out)
{
    write_place(d, KEPT_PM, 2, out);
}

static const struct xml_element pm_children[] = {
    {"suspend-to-mem", 0, "enabled", begin_suspend, NULL, NULL},
    {"suspend-to-disk", 0, "enabled", begin_suspend, NULL, NULL},
    XML_END,
};
static const struct xml_element pm_elements[] = {
    {"pm", 0, NULL, begin_pm, pm_children, NULL},
    XML_END,
};
const struct domain_part pm_part = {.elements = pm_elements, .write = pm_write};

/* ---- <emulator>: it is always lodge-vm ---- */

static int begin_emulator(const struct xml_node *node, void *object, struct error *err)
{
    return keep(node, object, KEPT_EMULATOR, false, err);
}

static void emulator_write(const struct domain *d, FILE *out)
{
    write_place(d, KEPT_EMULATOR, 4, out);
}

static const struct xml_element emulator_devices[] = {
    {"emulator", XML_TEXT, NULL, begin_emulator, NULL, NULL},
    XML_END,
};
const struct domain_part emulator_part = {.devices = emulator_devices, .write_devices = emulator_write};
