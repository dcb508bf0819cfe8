// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The virtqueue library under libFuzzer: the input is the queue's configuration and what lies in 64 KiB of guest memory; the device
 * takes requests, reads and writes their buffers, returns some, takes some back, holds the rest.
 *
 * With -DSTANDALONE it has a main that feeds it pseudo-random inputs instead, with a fixed seed, for compilers without libFuzzer.
 */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "devices/virtio/queue.h"

#define MEMORY   (64 * KIB)
#define HELD     64
#define REQUESTS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    struct vq_config cfg;
    uint8_t features, actions[16];
};

static struct guestmem *memory(void)
{
    static struct guestmem m;
    ERROR_SCOPED(err);
    if (!m.total && guestmem_init(&m, MEMORY, MEMORY, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    return &m;
}

static uint32_t use(const struct vq_elem *e)
{
    static uint8_t buf[512];
    size_t n = iov_read(e->out, e->nout, 3, buf, sizeof buf);
    return (uint32_t)(n + iov_write(e->in, e->nin, 1, buf, sizeof buf));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guestmem *m = memory();
    struct input in;
    struct vq q;
    struct vq_elem *held[HELD], *e;
    unsigned nheld = 0;
    if (size < sizeof in)
        return 0;
    memcpy(&in, data, sizeof in);
    memset(m->regions[0].host, 0, MEMORY);
    memcpy(m->regions[0].host, data + sizeof in, MIN(size - sizeof in, MEMORY));
    /* Most inputs should get past the configuration. */
    in.cfg.size = in.features & 8 ? in.cfg.size : 1u << (in.cfg.size % 8);
    in.cfg.desc &= in.features & 16 ? ~0ull : 0x3ff0;
    in.cfg.driver &= in.features & 16 ? ~0ull : 0x3ffc;
    in.cfg.device &= in.features & 16 ? ~0ull : 0x3ffc;
    vq_start(&q, m, &in.cfg, in.features & 1, in.features & 2, in.features & 4);
    for (unsigned i = 0; i < REQUESTS && vq_pop(&q, &e) > 0; i++) {
        uint8_t action = in.actions[i % sizeof in.actions];
        if (action % 8 == 0 && nheld < HELD) {
            held[nheld++] = e;
        } else if (action % 8 == 1) {
            vq_unpop(&q, e);
        } else {
            vq_push(&q, e, use(e));
        }
        if (action & 16)
            vq_should_notify(&q);
        if (action & 32)
            vq_set_kicks(&q, action & 64);
    }
    while (nheld > 0)
        vq_push(&q, held[--nheld], 0);
    vq_stop(&q);
    return 0;
}

#ifdef STANDALONE
/* Words that mean something in a ring, mixed with noise. */
static uint64_t word(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    uint64_t r = *state >> 24;
    switch (r % 8) {
    case 0:
        return r >> 3;
    case 1:
        return *state;
    case 2: /* a split descriptor's second half */
        return (r >> 3 & 0xfff) | (r >> 20 & 7) << 32 | (r >> 24 & 15) << 48;
    case 3: /* a packed one's */
        return (r >> 3 & 0xfff) | (r >> 20 & 15) << 32 | (r >> 24 & 7) << 48 | 0x0080ull << 48;
    default:
        return r >> 3 & 0x3ff0;
    }
}

int main(int argc, char **argv)
{
    static uint64_t input[1024];
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 100000;
    uint64_t state = 1;
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned k = 0; k < ARRAY_SIZE(input); k++)
            input[k] = word(&state);
        LLVMFuzzerTestOneInput((const uint8_t *)input, sizeof input);
    }
    return 0;
}
#endif
