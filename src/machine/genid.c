// SPDX-License-Identifier: GPL-2.0-or-later
/* A page of its own in a slot of its own, so that a guest finds it at one address whoever boots it, and cannot write to it. */
#include "machine/genid.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/util.h"
#include "machine/memmap.h"

struct genid {
    struct board *board;
    uint8_t *page;
};

/* A GUID in memory: the first three fields of the UUID are little-endian. */
static void put_guid(uint8_t *to, const uint8_t uuid[16])
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    for (unsigned i = 0; i < 16; i++)
        to[i] = uuid[order[i]];
}

int genid_create(struct board *b, const uint8_t uuid[16], struct genid **out, struct error *err)
{
    struct genid *g = calloc(1, sizeof *g);
    uint8_t *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!g || page == MAP_FAILED) {
        free(g);
        return error_set(err, ENOMEM, "VM generation ID: out of memory; close other programs");
    }
    put_guid(page, uuid);
    int r = board_slot(b, SLOT_GENID, MEM_GENID, PAGE_SIZE, page, true);
    if (r < 0) {
        munmap(page, PAGE_SIZE);
        free(g);
        return error_set(err, -r, "VM generation ID: %s cannot give the guest its page: %s; leave out <genid>", b->vm.accel->name,
                         strerror(-r));
    }
    *g = (struct genid){b, page};
    *out = g;
    return 0;
}

void genid_destroy(struct genid *g)
{
    if (!g)
        return;
    board_slot(g->board, SLOT_GENID, MEM_GENID, 0, NULL, false);
    munmap(g->page, PAGE_SIZE);
    free(g);
}
