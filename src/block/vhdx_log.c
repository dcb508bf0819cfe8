// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The log ([MS-VHDX] 2.3): a ring of entries, each a list of 4 KiB sectors to write and ranges to zero. The entries that count are the sequence whose last
 * entry has the highest number; it begins where that entry's tail says. Each entry's numbers follow the one before.
 */
#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "block/vhdx.h"

#define SECTOR 4096u
#define DESCRIPTOR 32u
#define FIRST_DESCRIPTORS 126u /* in an entry's first sector, behind its header of 64 bytes */

enum { ENTRY_SUM = 4, ENTRY_LEN = 8, ENTRY_TAIL = 12, ENTRY_SEQUENCE = 16, ENTRY_COUNT = 24, ENTRY_GUID = 32, ENTRY_FILE_END = 56 };

struct log {
    struct image *im;
    const uint8_t *guid;
    uint8_t *ring, *entry; /* both `len` bytes; entry: the one that was looked at last, in one piece */
    uint64_t len, budget;  /* budget: bytes of checksums that hostile logs may still cost */
};

static uint32_t crc_table[256];

static void make_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (unsigned k = 0; k < 8; k++)
            c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
        crc_table[i] = c;
    }
}

uint32_t vhdx_sum(const uint8_t *p, uint64_t n, uint64_t at)
{
    uint32_t c = ~0u;
    if (!crc_table[1])
        make_table();
    for (uint64_t i = 0; i < n; i++)
        c = c >> 8 ^ crc_table[(c ^ (i >= at && i < at + 4 ? 0 : p[i])) & 0xff];
    return ~c;
}

/* Copies the entry at `at` out of the ring. True if it is one, and whole. */
static bool get_entry(struct log *g, uint64_t at)
{
    const uint8_t *p = g->ring + at;
    uint64_t len = le_get(p + ENTRY_LEN, 4);
    if (memcmp(p, "loge", 4) != 0 || len == 0 || len % SECTOR || len > g->len || memcmp(p + ENTRY_GUID, g->guid, 16) != 0 || len > g->budget)
        return false;
    g->budget -= len;
    uint64_t first = MIN(len, g->len - at);
    memcpy(g->entry, p, first);
    memcpy(g->entry + first, g->ring, len - first);
    uint64_t descriptors = le_get(g->entry + ENTRY_COUNT, 4), head = SECTOR + (descriptors > FIRST_DESCRIPTORS ? ALIGN_UP((descriptors - FIRST_DESCRIPTORS) * DESCRIPTOR, (uint64_t)SECTOR) : 0);
    return le_get(g->entry + ENTRY_TAIL, 4) % SECTOR == 0 && le_get(g->entry + ENTRY_TAIL, 4) < g->len && head <= len && vhdx_sum_is_right(g->entry, len, ENTRY_SUM);
}

struct sequence {
    uint64_t start, last, number, tail; /* place of the first and of the last entry, that one's number and tail */
    unsigned entries;
};

/* The entries that follow each other from `at` on. */
static bool follow(struct log *g, uint64_t at, struct sequence *s)
{
    uint64_t used = 0;
    if (!get_entry(g, at))
        return false;
    *s = (struct sequence){.start = at};
    for (uint64_t place = at; used < g->len && get_entry(g, place); place = (place + le_get(g->entry + ENTRY_LEN, 4)) % g->len) {
        uint64_t number = le_get(g->entry + ENTRY_SEQUENCE, 8);
        if (s->entries && number != s->number + 1)
            break;
        s->number = number;
        s->last = place;
        s->tail = le_get(g->entry + ENTRY_TAIL, 4);
        s->entries++;
        used += le_get(g->entry + ENTRY_LEN, 4);
    }
    return true;
}

static int apply_zero(struct log *g, const uint8_t *d)
{
    uint64_t n = le_get(d + 8, 8), at = le_get(d + 16, 8), length;
    int ret = file_length(g->im->file, &length);
    if (at % SECTOR || n % SECTOR || at > INT64_MAX - n)
        return -EINVAL;
    if (ret < 0 || at >= length)
        return ret; /* behind the end all is zero */
    return file_zero(g->im->file, at, MIN(n, length - at), true);
}

/* The sector's first eight and last four bytes are in its descriptor. */
static int apply_data(struct log *g, const uint8_t *d, const uint8_t *sector)
{
    uint8_t out[SECTOR];
    uint64_t at = le_get(d + 16, 8), number = le_get(d + 24, 8);
    if (memcmp(sector, "data", 4) != 0 || at % SECTOR || at > INT64_MAX - SECTOR || le_get(sector + 4, 4) != number >> 32 ||
        le_get(sector + SECTOR - 4, 4) != (uint32_t)number)
        return -EINVAL;
    memcpy(out, sector, SECTOR);
    memcpy(out, d + 8, 8);
    memcpy(out + SECTOR - 4, d + 4, 4);
    return file_write(g->im->file, at, out, SECTOR);
}

static int apply(struct log *g)
{
    uint64_t n = le_get(g->entry + ENTRY_COUNT, 4), len = le_get(g->entry + ENTRY_LEN, 4), number = le_get(g->entry + ENTRY_SEQUENCE, 8), end, length;
    uint64_t data = SECTOR + (n > FIRST_DESCRIPTORS ? ALIGN_UP((n - FIRST_DESCRIPTORS) * DESCRIPTOR, (uint64_t)SECTOR) : 0);
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *d = g->entry + 64 + i * DESCRIPTOR;
        bool zero = memcmp(d, "zero", 4) == 0;
        int ret = le_get(d + 24, 8) != number || (!zero && (memcmp(d, "desc", 4) != 0 || data + SECTOR > len)) ? -EINVAL : zero ? apply_zero(g, d) : apply_data(g, d, g->entry + data);
        if (ret < 0)
            return ret;
        data += zero ? 0 : SECTOR;
    }
    end = le_get(g->entry + ENTRY_FILE_END, 8); /* the file was that long when the entry was written */
    int ret = file_length(g->im->file, &length);
    return ret < 0 || end <= length || end > INT64_MAX ? ret : file_truncate(g->im->file, end);
}

static int replay(struct log *g)
{
    struct sequence best = {.entries = 0}, s;
    for (uint64_t at = 0; at < g->len; at += SECTOR) {
        if (!follow(g, at, &s) || s.tail != s.start || (best.entries && s.number <= best.number))
            continue;
        best = s;
    }
    if (!best.entries)
        return -EINVAL;
    uint64_t at = best.start;
    for (unsigned i = 0; i < best.entries; i++) {
        g->budget = g->len;
        int ret = get_entry(g, at) ? apply(g) : -EINVAL;
        if (ret < 0)
            return ret;
        at = (at + le_get(g->entry + ENTRY_LEN, 4)) % g->len;
    }
    return file_sync(g->im->file);
}

int vhdx_replay(struct image *im, const uint8_t *header)
{
    struct log g = {.im = im, .guid = header + HEADER_LOG_GUID, .len = le_get(header + HEADER_LOG_LEN, 4)};
    uint64_t at = le_get(header + HEADER_LOG_AT, 8);
    if (g.len == 0 || g.len > VHDX_LOG_MAX || g.len % MIB || at % MIB || at == 0 || at > INT64_MAX - g.len)
        return -EINVAL;
    AUTO_FREE uint8_t *ring = malloc(g.len), *entry = malloc(g.len);
    if (!ring || !entry)
        return -ENOMEM;
    g.ring = ring;
    g.entry = entry;
    g.budget = 16 * g.len;
    int ret = file_read(im->file, at, ring, g.len);
    return ret < 0 ? ret : replay(&g);
}
