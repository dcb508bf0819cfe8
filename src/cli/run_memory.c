// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge run: --memory and --numa. */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "cli/run.h"

static int parse_amount(const char *option, const char *value, uint64_t *bytes, struct error *err)
{
    if (domain_parse_size(value, MIB, bytes) < 0 || *bytes < DOMAIN_MIN_MEMORY || *bytes > DOMAIN_MAX_MEMORY)
        return error_set(err, 0, "option '--%s': '%s' is not an amount of memory; give 4M to 4T, such as 512M or 2G", option,
                         value);
    return 0;
}

/* Index of the value in a list that ends with NULL, -1 with err. */
static int word(const char *option, const char *name, const char *value, const char *const words[], struct error *err)
{
    char list[128] = "";
    for (int i = 0; words[i]; i++) {
        if (strcmp(value, words[i]) == 0)
            return i;
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
    }
    return error_set(err, 0, "option '--%s': '%s=%s' is not known; give %s", option, name, value, list);
}

static int parse_nodes(const char *option, const char *value, struct domain_nodes *to, struct error *err)
{
    if (domain_parse_set(value, DOMAIN_HOST_NODES, &to->nodes) < 0 || !to->nodes)
        return error_set(err, 0, "option '--%s': 'host-nodes=%s' is no set of the host's nodes; give numbers below %u, such as 0-1",
                         option, value, DOMAIN_HOST_NODES);
    return 0;
}

/* ---- --memory ---- */

static struct domain_backing *backing(void *object)
{
    return &((struct run *)object)->d.backing;
}

static int memory_current(void *object, const char *value, struct error *err)
{
    return parse_amount("memory", value, &((struct run *)object)->d.current_memory, err);
}

static int memory_hugepages(void *object, const char *value, struct error *err)
{
    struct domain_backing *b = backing(object);
    b->hugepages = true;
    if (value &&
        (domain_parse_size(value, MIB, &b->page_size) < 0 || b->page_size < PAGE_SIZE || b->page_size & (b->page_size - 1)))
        return error_set(err, 0, "option '--memory': 'hugepages=%s' is no size of a page; give 2M or 1G", value);
    return 0;
}

static int memory_thp(void *object, const char *value, struct error *err)
{
    int i = word("memory", "thp", value, memory_thp_names, err);
    backing(object)->thp = (enum memory_thp)(i + 1);
    return i < 0 ? -1 : 0;
}

OPTION_SETS(memory_locked, struct run, d.backing.locked, true)

static int memory_prealloc(void *object, const char *value, struct error *err)
{
    struct domain_backing *b = backing(object);
    uint64_t threads = 0;
    if (value && (domain_parse_size(value, 1, &threads) < 0 || threads < 1 || threads > DOMAIN_MAX_THREADS))
        return error_set(err, 0, "option '--memory': 'prealloc=%s' is no number of threads; give 1 to %u", value,
                         DOMAIN_MAX_THREADS);
    b->allocation = MEMORY_IMMEDIATE;
    b->threads = (unsigned)threads;
    return 0;
}

static int memory_source(void *object, const char *value, struct error *err)
{
    int i = word("memory", "source", value, memory_source_names, err);
    backing(object)->source = (enum memory_source)(i + 1);
    return i < 0 ? -1 : 0;
}

static int memory_access(void *object, const char *value, struct error *err)
{
    int i = word("memory", "access", value, memory_access_names, err);
    backing(object)->access = (enum memory_access)(i + 1);
    return i < 0 ? -1 : 0;
}

static int memory_merge(void *object, const char *value, struct error *err)
{
    int i = word("memory", "merge", value, memory_thp_names, err);
    backing(object)->nosharepages = i == 1;
    ((struct run *)object)->merge = i == 0;
    return i < 0 ? -1 : 0;
}

static int memory_nodes(void *object, const char *value, struct error *err)
{
    return parse_nodes("memory", value, &((struct run *)object)->d.host_nodes, err);
}

static int memory_policy(void *object, const char *value, struct error *err)
{
    int i = word("memory", "policy", value, numa_mode_names, err);
    ((struct run *)object)->d.host_nodes.mode = (enum numa_mode)MAX(i, 0);
    return i < 0 ? -1 : 0;
}

static const struct field_row memory_fields[] = {
    {"current", true, memory_current},
    {"hugepages", false, memory_hugepages},
    {"hugepages", true, memory_hugepages},
    {"thp", true, memory_thp},
    {"locked", false, memory_locked},
    {"prealloc", false, memory_prealloc},
    {"prealloc", true, memory_prealloc},
    {"source", true, memory_source},
    {"access", true, memory_access},
    {"merge", true, memory_merge},
    {"host-nodes", true, memory_nodes},
    {"policy", true, memory_policy},
    {NULL, false, NULL},
};

int run_set_memory(void *o, const char *value, struct error *err)
{
    static const char usage[] =
        "SIZE[,current=SIZE][,hugepages[=SIZE]][,thp=on|off][,locked][,prealloc[=THREADS]][,source=memfd|anonymous|file][,access="
        "shared|private][,merge=on|off][,host-nodes=SET][,policy=strict|interleave|preferred]";
    struct run *r = o;
    struct domain *d = &r->d;
    AUTO_FREE char *amount = malloc(strlen(value) + 1);
    if (!amount)
        return error_set(err, ENOMEM, "option '--memory': out of memory");
    amount[0] = 0;
    run_next_field(&value, amount);
    if (parse_amount("memory", amount, &d->memory, err) < 0 || run_set_fields("memory", value, memory_fields, usage, r, err) < 0)
        return -1;
    if (r->merge && !d->backing.source && !d->backing.access)
        d->backing.source = MEMORY_ANONYMOUS;
    if (r->merge && domain_memory_shared(d))
        return error_set(err, 0,
                         "option '--memory': merge=on: KSM takes no memory that others can map; leave out source and access, or "
                         "give access=private");
    return 0;
}

/* ---- --numa ---- */

static struct domain_cell *cell(struct domain *d)
{
    return &d->cells[d->ncells - 1];
}

static int numa_cpus(void *object, const char *value, struct error *err)
{
    if (domain_parse_set(value, DOMAIN_MAX_VCPUS, cell(object)->cpus) < 0)
        return error_set(err, 0, "option '--numa': 'cpus=%s' is no set of CPUs; give numbers below %u, such as 0-1", value,
                         DOMAIN_MAX_VCPUS);
    return 0;
}

static int numa_memory(void *object, const char *value, struct error *err)
{
    return parse_amount("numa", value, &cell(object)->memory, err);
}

/* A distance to each cell, in their order: 10:20. */
static int numa_distances(void *object, const char *value, struct error *err)
{
    struct domain_cell *c = cell(object);
    const char *p = value;
    for (unsigned i = 0; i < DOMAIN_MAX_CELLS; i++) {
        char *end;
        unsigned long n = strtoul(p, &end, 10);
        if (end == p || n < 10 || n > 255 || (*end && *end != ':'))
            break;
        c->distances[i] = (uint8_t)n;
        if (!*end)
            return 0;
        p = end + 1;
    }
    return error_set(err, 0,
                     "option '--numa': 'distances=%s' is not understood; give a number from 10 to 255 for each cell, such as 10:20",
                     value);
}

static int numa_nodes(void *object, const char *value, struct error *err)
{
    struct domain *d = object;
    return parse_nodes("numa", value, &d->cell_nodes[d->ncells - 1], err);
}

static int numa_policy(void *object, const char *value, struct error *err)
{
    struct domain *d = object;
    int i = word("numa", "policy", value, numa_mode_names, err);
    d->cell_nodes[d->ncells - 1].mode = (enum numa_mode)MAX(i, 0);
    return i < 0 ? -1 : 0;
}

static const struct field_row numa_fields[] = {
    {"cpus", true, numa_cpus},        {"memory", true, numa_memory}, {"distances", true, numa_distances},
    {"host-nodes", true, numa_nodes}, {"policy", true, numa_policy}, {NULL, false, NULL},
};

int run_set_numa(void *o, const char *value, struct error *err)
{
    struct domain *d = &((struct run *)o)->d;
    if (!domain_add_cell(d, err) ||
        run_set_fields("numa", value, numa_fields,
                       "cpus=SET,memory=SIZE[,distances=N:N…][,host-nodes=SET][,policy=strict|interleave|preferred]", d, err) < 0)
        return -1;
    return cell(d)->memory ? 0 : error_set(err, 0, "option '--numa': no memory; add memory=SIZE");
}
