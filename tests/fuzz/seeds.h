/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The short form of fuzzers that begin with seeds: a folder of them, each of which must be accepted, and mutants, which may be. */
#ifndef LODGE_FUZZ_SEEDS_H
#define LODGE_FUZZ_SEEDS_H

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "random.h"

#define SEED_MAX 65536u

typedef bool seed_check(const uint8_t *data, size_t size);
typedef int seed_try(const uint8_t *data, size_t size);

/* One of the changes that lead decoders astray: a byte, a word of ones or zeroes, a part twice, a part less, an early end. */
static size_t mutate(uint8_t *data, size_t size)
{
    size_t at = size ? next((uint32_t)size) : 0, len = size ? 1 + next((uint32_t)(size - at > 16 ? 16 : size - at)) : 0;
    switch (size ? next(6) : 6) {
    case 0:
        data[at] = (uint8_t)next(256);
        return size;
    case 1:
        memset(data + (at & ~3u), next(2) ? 0xff : 0, size - (at & ~3u) < 4 ? size - (at & ~3u) : 4);
        return size;
    case 2:
        data[at] = (uint8_t)(data[at] ^ 1u << next(8));
        return size;
    case 3:
        memmove(data + at + len, data + at, size - at);
        return size + len;
    case 4:
        memmove(data + at, data + at + len, size - at - len);
        return size - len;
    default:
        return at;
    }
}

static int run_seed(const char *path, unsigned mutants, seed_check *check, seed_try *fn)
{
    static uint8_t seed[SEED_MAX], mutant[2 * SEED_MAX];
    FILE *f = fopen(path, "re");
    size_t size = f ? fread(seed, 1, sizeof seed, f) : 0;
    if (f)
        fclose(f);
    if (!f || !check(seed, size)) {
        fprintf(stderr, "seed '%s': is not accepted\n", path);
        return 1;
    }
    for (unsigned i = 0; i < mutants; i++) {
        size_t len = size;
        memcpy(mutant, seed, size);
        for (unsigned k = 1 + next(4); k; k--)
            len = mutate(mutant, len);
        fn(mutant, len);
    }
    return 0;
}

/* argv[1] is the folder. Exit status. */
static int seeds_run(int argc, char **argv, unsigned mutants, seed_check *check, seed_try *fn)
{
    struct dirent **list;
    int n = argc == 2 ? scandir(argv[1], &list, NULL, alphasort) : -1, failed = 0, seen = 0;
    for (int i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], list[i]->d_name);
        if (list[i]->d_name[0] != '.') {
            failed += run_seed(path, mutants, check, fn);
            seen++;
        }
        free(list[i]);
    }
    if (n >= 0)
        free(list);
    if (!seen)
        fprintf(stderr, "no seeds; name their folder\n");
    return failed || !seen;
}

#endif
