// SPDX-License-Identifier: GPL-2.0-or-later
/* <numatune>, and the cells of <cpu><numa>. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/backing.h"
#include "model/part.h"

const char *const numa_mode_names[] = {"strict", "interleave", "preferred", NULL};

/* ---- sets of numbers ---- */

static int parse_index(const char **p, unsigned limit, unsigned *n)
{
    char *end;
    if (!isdigit((unsigned char)**p))
        return -1;
    errno = 0;
    unsigned long v = strtoul(*p, &end, 10);
    if (errno || v >= limit)
        return -1;
    *p = end;
    *n = (unsigned)v;
    return 0;
}

int domain_parse_set(const char *text, unsigned limit, uint64_t *words)
{
    memset(words, 0, (limit + 63) / 64 * sizeof *words);
    for (const char *p = text;; p++) {
        bool without = *p == '^';
        unsigned first, last;
        p += without;
        if (parse_index(&p, limit, &first) < 0)
            return -1;
        last = first;
        if (*p == '-' && (p++, parse_index(&p, limit, &last) < 0 || last < first))
            return -1;
        for (unsigned i = first; i <= last; i++)
            words[i / 64] = without ? words[i / 64] & ~BIT64(i % 64) : words[i / 64] | BIT64(i % 64);
        if (!*p)
            return 0;
        if (*p != ',')
            return -1;
    }
}

static bool set_has(const uint64_t *words, unsigned limit, unsigned i)
{
    return i < limit && (words[i / 64] >> i % 64 & 1);
}

void domain_write_set(FILE *out, const uint64_t *words, unsigned limit)
{
    const char *comma = "";
    for (unsigned i = 0; i < limit; i++) {
        unsigned last = i;
        if (!set_has(words, limit, i))
            continue;
        while (set_has(words, limit, last + 1))
            last++;
        fprintf(out, last > i ? "%s%u-%u" : "%s%u", comma, i, last);
        comma = ",";
        i = last;
    }
}

/* ---- <numatune> ---- */

static int parse_nodes(const struct xml_node *node, struct domain_nodes *to, struct error *err)
{
    int mode = xml_attr_word(node, "mode", numa_mode_names, NUMA_STRICT, err);
    const char *nodes = xml_attr(node, "nodeset");
    if (mode < 0)
        return -1;
    if (domain_parse_set(nodes, DOMAIN_HOST_NODES, &to->nodes) < 0 || !to->nodes)
        return xml_error(node, err, "nodeset '%.64s' is no set of the host's nodes; write numbers below %u, such as '0-1'", nodes,
                         DOMAIN_HOST_NODES);
    to->mode = (enum numa_mode)mode;
    return 0;
}

static int begin_numa_memory(const struct xml_node *node, void *object, struct error *err)
{
    return parse_nodes(node, &((struct domain *)object)->host_nodes, err);
}

/* Cells stand behind this in the document, but a limit is all that is known of them here. */
static int begin_memnode(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t cell = 0;
    if (xml_attr_number(node, "cellid", DOMAIN_MAX_CELLS - 1, &cell, err) < 0)
        return -1;
    return parse_nodes(node, &((struct domain *)object)->cell_nodes[cell], err);
}

static void numatune_write(const struct domain *d, FILE *out)
{
    bool any = d->host_nodes.nodes != 0;
    for (unsigned i = 0; i < DOMAIN_MAX_CELLS; i++)
        any |= d->cell_nodes[i].nodes != 0;
    if (!any)
        return;
    fputs("  <numatune>\n", out);
    if (d->host_nodes.nodes) {
        fprintf(out, "    <memory mode='%s' nodeset='", numa_mode_names[d->host_nodes.mode]);
        domain_write_set(out, &d->host_nodes.nodes, DOMAIN_HOST_NODES);
        fputs("'/>\n", out);
    }
    for (unsigned i = 0; i < DOMAIN_MAX_CELLS; i++) {
        if (!d->cell_nodes[i].nodes)
            continue;
        fprintf(out, "    <memnode cellid='%u' mode='%s' nodeset='", i, numa_mode_names[d->cell_nodes[i].mode]);
        domain_write_set(out, &d->cell_nodes[i].nodes, DOMAIN_HOST_NODES);
        fputs("'/>\n", out);
    }
    fputs("  </numatune>\n", out);
}

/* ---- cells ---- */

struct domain_cell *domain_add_cell(struct domain *d, struct error *err)
{
    return domain_append(&d->cells, &d->ncells, sizeof *d->cells, DOMAIN_MAX_CELLS, "NUMA cells", err);
}

unsigned domain_cpu_cell(const struct domain *d, unsigned cpu)
{
    for (unsigned i = 0; i < d->ncells; i++)
        if (set_has(d->cells[i].cpus, DOMAIN_MAX_VCPUS, cpu))
            return i;
    return 0;
}

unsigned domain_distance(const struct domain *d, unsigned from, unsigned to)
{
    unsigned given = d->cells[from].distances[to];
    return given ? given : from == to ? 10 : 20;
}

int domain_begin_cell(const struct xml_node *node, void *object, struct error *err)
{
    struct domain *d = object;
    const char *cpus = xml_attr(node, "cpus");
    AUTO_FREE char *amount = memory_amount(node, xml_attr(node, "memory"));
    uint64_t id = d->ncells;
    if (xml_attr_number(node, "id", DOMAIN_MAX_CELLS - 1, &id, err) < 0 || xml_attr_only(node, "memAccess", "shared", err) < 0 ||
        xml_attr_switch(node, "discard", 0, err) < 0)
        return -1;
    if (id != d->ncells)
        return xml_error(node, err, "cells are numbered from 0 without gaps; write id='%u'", d->ncells);
    struct domain_cell *c = domain_add_cell(d, err);
    if (!c || !amount)
        return -1;
    if (domain_parse_size(amount, 0, &c->memory) < 0 || !c->memory)
        return xml_error(node, err, "'%.64s' is not an amount of memory; write a number, and a unit such as 'MiB'", amount);
    if (cpus && domain_parse_set(cpus, DOMAIN_MAX_VCPUS, c->cpus) < 0)
        return xml_error(node, err, "'%.64s' is no set of CPUs; write numbers below %u, such as '0-1'", cpus, DOMAIN_MAX_VCPUS);
    return 0;
}

int domain_begin_sibling(const struct xml_node *node, void *object, struct error *err)
{
    struct domain *d = object;
    uint64_t id = 0, value = 0;
    if (xml_attr_number(node, "id", DOMAIN_MAX_CELLS - 1, &id, err) < 0 || xml_attr_number(node, "value", 255, &value, err) < 0)
        return -1;
    if (value < 10)
        return xml_error(node, err, "a distance is 10 to a cell itself and more to others; write 11 to 255");
    d->cells[d->ncells - 1].distances[id] = (uint8_t)value;
    return 0;
}

static bool has_cpus(const struct domain_cell *c)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < DOMAIN_CPU_WORDS; i++)
        any |= c->cpus[i];
    return any != 0;
}

void domain_write_cells(const struct domain *d, FILE *out)
{
    fputs("    <numa>\n", out);
    for (unsigned i = 0; i < d->ncells; i++) {
        const struct domain_cell *c = &d->cells[i];
        fprintf(out, "      <cell id=\"%u\"", i);
        if (has_cpus(c)) {
            fputs(" cpus=\"", out);
            domain_write_set(out, c->cpus, DOMAIN_MAX_VCPUS);
            fputs("\"", out);
        }
        fprintf(out, " memory=\"%llu\" unit=\"KiB\">\n        <distances>\n", (unsigned long long)(c->memory / KIB));
        for (unsigned j = 0; j < d->ncells; j++)
            fprintf(out, "          <sibling id=\"%u\" value=\"%u\"/>\n", j, domain_distance(d, i, j));
        fputs("        </distances>\n      </cell>\n", out);
    }
    fputs("    </numa>\n", out);
}

static int check_cpus(const struct domain *d, struct error *err)
{
    uint64_t seen[DOMAIN_CPU_WORDS] = {0};
    for (unsigned i = 0; i < d->ncells; i++)
        for (unsigned cpu = 0; cpu < DOMAIN_MAX_VCPUS; cpu++) {
            if (!set_has(d->cells[i].cpus, DOMAIN_MAX_VCPUS, cpu))
                continue;
            if (cpu >= d->vcpus)
                return error_set(err, 0, "domain '%s': NUMA cell %u has CPU %u of %u; name CPUs that exist", d->name, i, cpu,
                                 d->vcpus);
            if (set_has(seen, DOMAIN_MAX_VCPUS, cpu))
                return error_set(err, 0, "domain '%s': CPU %u is in two NUMA cells; leave it in one", d->name, cpu);
            seen[cpu / 64] |= BIT64(cpu % 64);
        }
    return 0;
}

static int check_distances(const struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ncells; i++)
        for (unsigned j = 0; j < DOMAIN_MAX_CELLS; j++) {
            unsigned given = d->cells[i].distances[j];
            if (given && j >= d->ncells)
                return error_set(err, 0, "domain '%s': NUMA cell %u has a distance to cell %u, which does not exist; remove it",
                                 d->name, i, j);
            if (given && (given == 10) != (i == j))
                return error_set(err, 0, "domain '%s': distance %u from NUMA cell %u to %u; write 10 to itself, and more to others",
                                 d->name, given, i, j);
        }
    return 0;
}

static int numa_check(struct domain *d, struct error *err)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < d->ncells; i++) {
        d->cells[i].memory = ALIGN_UP(d->cells[i].memory, PAGE_SIZE);
        sum += MIN(d->cells[i].memory, DOMAIN_MAX_MEMORY);
    }
    if (d->ncells && sum != d->memory)
        return error_set(err, 0, "domain '%s': its NUMA cells have %llu KiB, the guest has %llu KiB; make them equal", d->name,
                         (unsigned long long)(sum / KIB), (unsigned long long)(d->memory / KIB));
    for (unsigned i = d->ncells; i < DOMAIN_MAX_CELLS; i++)
        if (d->cell_nodes[i].nodes)
            return error_set(err, 0, "domain '%s': <memnode> of cell %u, which does not exist; add the cell to <cpu><numa>",
                             d->name, i);
    return check_cpus(d, err) < 0 ? -1 : check_distances(d, err);
}

static void numa_free(struct domain *d)
{
    free(d->cells);
}

static const struct xml_element numatune_children[] = {
    {"memory", 0, "mode nodeset!", begin_numa_memory, NULL, NULL},
    {"memnode", XML_MANY, "cellid! mode nodeset!", begin_memnode, NULL, NULL},
    XML_END,
};
static const struct xml_element numatune_elements[] = {
    {"numatune", 0, NULL, NULL, numatune_children, NULL},
    XML_END,
};
const struct domain_part numatune_part = {
    .elements = numatune_elements, .free = numa_free, .check = numa_check, .write = numatune_write};
