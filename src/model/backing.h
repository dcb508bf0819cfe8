/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <memoryBacking>, <numatune> and <cpu><numa>: where the guest's memory comes from, and the nodes of host and guest. */
#ifndef LODGE_MODEL_BACKING_H
#define LODGE_MODEL_BACKING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

#define DOMAIN_MAX_CELLS   32u
#define DOMAIN_HOST_NODES  64u
#define DOMAIN_CPU_WORDS   16u /* of 64 CPUs: DOMAIN_MAX_VCPUS */
#define DOMAIN_MAX_THREADS 64u

/* Zero is what the document does not say. */
enum memory_source { MEMORY_SOURCE_UNSET, MEMORY_MEMFD, MEMORY_ANONYMOUS, MEMORY_FILE };
enum memory_access { MEMORY_ACCESS_UNSET, MEMORY_SHARED, MEMORY_PRIVATE };
enum memory_allocation { MEMORY_ALLOCATION_UNSET, MEMORY_ONDEMAND, MEMORY_IMMEDIATE };
enum memory_thp { MEMORY_THP_UNSET, MEMORY_THP_ON, MEMORY_THP_OFF };
enum numa_mode { NUMA_STRICT, NUMA_INTERLEAVE, NUMA_PREFERRED };

struct domain_backing {
    bool hugepages, locked, nosharepages, discard;
    uint64_t page_size; /* of huge pages, bytes; 0: the host's default */
    enum memory_source source;
    enum memory_access access;
    enum memory_allocation allocation;
    unsigned threads; /* that allocate, 0: one */
    enum memory_thp thp;
};

/* Nodes of the host, a bit for each; 0: anywhere. */
struct domain_nodes {
    uint64_t nodes;
    enum numa_mode mode;
};

/* A node of the guest. */
struct domain_cell {
    uint64_t memory; /* bytes */
    uint64_t cpus[DOMAIN_CPU_WORDS];
    uint8_t distances[DOMAIN_MAX_CELLS]; /* to each cell; 0: 10 to itself, 20 to others */
};

struct domain;

extern const char *const numa_mode_names[];     /* NULL at the end, as all of these */
extern const char *const memory_source_names[]; /* from the value 1 on */
extern const char *const memory_access_names[]; /* likewise */
extern const char *const memory_thp_names[];    /* likewise */

/* "0-3,^2,8" as bits below `limit`. 0, or -1: not a set, or a number beyond it. */
int domain_parse_set(const char *text, unsigned limit, uint64_t *words);
void domain_write_set(FILE *out, const uint64_t *words, unsigned limit);

/* Is the memory something that another process can map? */
bool domain_memory_shared(const struct domain *d);
struct domain_cell *domain_add_cell(struct domain *d, struct error *err);
/* The cell of a CPU; one that no cell names belongs to the first. */
unsigned domain_cpu_cell(const struct domain *d, unsigned cpu);
unsigned domain_distance(const struct domain *d, unsigned from, unsigned to);

#endif
