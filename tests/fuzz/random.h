/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Numbers for the short forms of the fuzzers: the same ones for the same `state`. */
#ifndef LODGE_FUZZ_RANDOM_H
#define LODGE_FUZZ_RANDOM_H

#include <stdint.h>

static uint64_t state;

static uint32_t next(uint32_t below)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(state >> 33) % below;
}

#endif
