/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A NOR flash chip, eight bits wide, with Intel's command set (CFI's set 1; JEDEC JESD68, JEP137): where a firmware keeps its
 * variables.
 *
 * While the chip reads as memory, the board may map that memory for the guest to read without an exit; writes are commands and come
 * here. After a command reads give something else, so the board takes the mapping away until the guest asks for memory again.
 */
#ifndef LODGE_DEVICES_PFLASH_H
#define LODGE_DEVICES_PFLASH_H

#include "devices/bus.h"

#define PFLASH_BLOCK 4096u /* bytes that are erased together */
#define PFLASH_MAX   (65536ull * PFLASH_BLOCK)

struct pflash_config {
    uint64_t base, size; /* guest-physical; bytes, whole blocks */
    uint8_t *data;       /* the contents, the caller's */
    /* Both under the lock. Reads come to the device from now on, or are the memory's again (and are so at first). */
    void (*mapped)(void *opaque, bool mapped);
    /* These bytes of the contents have changed and are to last: 0, or -errno; then they are as before, and the guest is told. */
    int (*store)(void *opaque, uint64_t off, size_t len);
    void *opaque;
};

struct pflash;
extern const struct device_desc pflash_desc;

int pflash_create(struct bus *b, const struct pflash_config *cfg, struct pflash **out, struct error *err);
void pflash_destroy(struct pflash *f);

#endif
