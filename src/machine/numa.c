// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/numa.h"

#include "base/util.h"

_Static_assert(DOMAIN_MAX_CELLS <= ACPI_CELLS, "the tables have room for every cell");

static struct guestmem_binding binding(uint64_t start, uint64_t size, const struct domain_nodes *nodes)
{
    static const enum guestmem_policy policies[] = {
        [NUMA_STRICT] = GUESTMEM_STRICT, [NUMA_INTERLEAVE] = GUESTMEM_INTERLEAVE, [NUMA_PREFERRED] = GUESTMEM_PREFERRED};
    return (struct guestmem_binding){start, size, nodes->nodes, policies[nodes->mode]};
}

/* What is said of a cell goes before what is said of all memory. */
static void bind_cells(const struct domain *d, struct numa_memory *memory)
{
    uint64_t start = 0;
    unsigned n = 0;
    if (!d->ncells && d->host_nodes.nodes)
        memory->bindings[n++] = binding(0, d->memory, &d->host_nodes);
    for (unsigned i = 0; i < d->ncells; i++) {
        const struct domain_nodes *nodes = d->cell_nodes[i].nodes ? &d->cell_nodes[i] : &d->host_nodes;
        if (nodes->nodes)
            memory->bindings[n++] = binding(start, d->cells[i].memory, nodes);
        start += d->cells[i].memory;
    }
    memory->config.bindings = memory->bindings;
    memory->config.nbindings = n;
}

void numa_memory_config(const struct domain *d, struct numa_memory *memory)
{
    static const enum guestmem_source sources[] = {[MEMORY_SOURCE_UNSET] = GUESTMEM_MEMFD,
                                                   [MEMORY_MEMFD] = GUESTMEM_MEMFD,
                                                   [MEMORY_ANONYMOUS] = GUESTMEM_ANONYMOUS,
                                                   [MEMORY_FILE] = GUESTMEM_FILE};
    static const enum guestmem_thp thps[] = {
        [MEMORY_THP_UNSET] = GUESTMEM_THP_HOST, [MEMORY_THP_ON] = GUESTMEM_THP_ON, [MEMORY_THP_OFF] = GUESTMEM_THP_OFF};
    const struct domain_backing *b = &d->backing;
    memory->config = (struct guestmem_config){.bytes = d->memory,
                                              .source = sources[b->source],
                                              .private_copy = b->access == MEMORY_PRIVATE,
                                              .hugetlb = b->hugepages,
                                              .huge_page = b->page_size,
                                              .thp = thps[b->thp],
                                              .merge = !b->nosharepages && !b->hugepages && !domain_memory_shared(d),
                                              .locked = b->locked,
                                              .alloc_threads = b->allocation == MEMORY_IMMEDIATE ? MAX(b->threads, 1u) : 0};
    bind_cells(d, memory);
}

void numa_describe(const struct domain *d, const struct guestmem *mem, struct acpi_numa *numa)
{
    uint64_t start = 0;
    *numa = (struct acpi_numa){.ncells = d->ncells};
    for (unsigned i = 0; i < d->vcpus && d->ncells; i++)
        numa->cpu_cell[i] = (uint8_t)domain_cpu_cell(d, i);
    for (unsigned i = 0; i < d->ncells; start += d->cells[i++].memory) {
        for (unsigned j = 0; j < d->ncells; j++)
            numa->distances[i][j] = (uint8_t)domain_distance(d, i, j);
        for (unsigned k = 0; k < mem->count && numa->nranges < ARRAY_SIZE(numa->ranges); k++) {
            const struct guestmem_region *r = &mem->regions[k];
            uint64_t from = MAX(start, r->fd_offset), to = MIN(start + d->cells[i].memory, r->fd_offset + r->size);
            if (from < to)
                numa->ranges[numa->nranges++] = (struct acpi_numa_range){r->gpa + (from - r->fd_offset), to - from, i};
        }
    }
}

/* APIC IDs have no gaps, and a socket has a power of two of them. */
unsigned numa_socket_cpus(const struct domain *d)
{
    unsigned each = d->ncells ? d->vcpus / d->ncells : d->vcpus;
    if (!each || each & (each - 1) || each * d->ncells != d->vcpus)
        return d->vcpus;
    for (unsigned i = 0; i < d->vcpus; i++)
        if (domain_cpu_cell(d, i) != i / each)
            return d->vcpus;
    return each;
}
