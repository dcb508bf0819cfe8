// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * DMG, Apple's disk images, read-only. The last 512 bytes ("koly") say where a property list is; in its <data> elements are, in base64, tables ("mish") of
 * chunks. Chunks by zlib and bzip2 are read, and those that are stored or zeroes; ADC, LZFSE and LZMA are not.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/util.h"
#include "block/chunks.h"

#define TRAILER   512u
#define LIST_MAX  (16 * MIB) /* bytes of the property list */
#define CHUNKS_MAX (1u << 22)
enum { KOLY_DATA = 24, KOLY_LIST = 216, KOLY_LIST_LEN = 224, KOLY_SECTORS = 492 };
enum { MISH_SECTOR = 8, MISH_DATA = 24, MISH_COUNT = 200, MISH_CHUNKS = 204, MISH_CHUNK = 40 };
enum { TYPE_ZERO = 0, TYPE_RAW = 1, TYPE_IGNORE = 2, TYPE_ADC = 0x80000004, TYPE_ZLIB = 0x80000005, TYPE_BZIP2 = 0x80000006, TYPE_LZFSE = 0x80000007, TYPE_LZMA = 0x80000008,
       TYPE_COMMENT = 0x7ffffffe, TYPE_END = 0xffffffff };

struct dmg {
    struct image *im;
    struct chunks *c;
    uint64_t data, length; /* where chunks' places count from; bytes of the file */
    uint64_t end;          /* of the disk, as far as seen */
    uint32_t unknown;      /* a type that is not read */
};

static int add_chunk(struct dmg *d, const uint8_t *p, uint64_t sector, uint64_t data)
{
    uint32_t type = (uint32_t)be_get(p, 4);
    uint64_t first = be_get(p + 8, 8), n = be_get(p + 16, 8), at = be_get(p + 24, 8), stored = be_get(p + 32, 8);
    const uint64_t limit = INT64_MAX / BLOCK_SECTOR / 4;
    if (type == TYPE_COMMENT || type == TYPE_END || n == 0)
        return 0;
    if (sector > limit || first > limit || n > limit)
        return -EINVAL;
    struct chunk k = {.start = (sector + first) * BLOCK_SECTOR, .len = n * BLOCK_SECTOR, .host = d->data + data + at, .stored = stored};
    switch (type) {
    case TYPE_ZERO:
    case TYPE_IGNORE: k.kind = CHUNK_ZERO; break;
    case TYPE_RAW: k.kind = CHUNK_RAW; break;
    case TYPE_ZLIB: k.kind = CHUNK_ZLIB; break;
    case TYPE_BZIP2: k.kind = CHUNK_BZIP2; break;
    default: d->unknown = type; return -EOPNOTSUPP;
    }
    bool packed = k.kind == CHUNK_ZLIB || k.kind == CHUNK_BZIP2;
    if (k.kind != CHUNK_ZERO && (data > d->length || at > d->length || k.host > d->length || stored > d->length - k.host))
        return -EINVAL;
    if ((packed && (k.len > CHUNK_MAX || stored > CHUNK_MAX)) || (k.kind == CHUNK_RAW && stored < k.len) || d->c->n >= CHUNKS_MAX)
        return -EINVAL;
    d->end = MAX(d->end, k.start + k.len);
    return chunks_add(d->c, &k);
}

static int parse_mish(struct dmg *d, const uint8_t *p, uint64_t n)
{
    if (n < MISH_CHUNKS || memcmp(p, "mish", 4) != 0)
        return 0; /* another kind of data */
    uint64_t count = be_get(p + MISH_COUNT, 4);
    if (count > (n - MISH_CHUNKS) / MISH_CHUNK)
        return -EINVAL;
    int ret = 0;
    for (uint64_t i = 0; ret == 0 && i < count; i++)
        ret = add_chunk(d, p + MISH_CHUNKS + i * MISH_CHUNK, be_get(p + MISH_SECTOR, 8), be_get(p + MISH_DATA, 8));
    return ret;
}

/* Decodes base64 in place, leaving out what is none; returns the bytes. */
static uint64_t decode(char *text, uint64_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint64_t out = 0;
    uint32_t bits = 0, have = 0;
    for (uint64_t i = 0; i < n; i++) {
        const char *digit = text[i] ? strchr(digits, text[i]) : NULL;
        if (!digit)
            continue;
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            text[out++] = (char)(bits >> have);
        }
    }
    return out;
}

static int parse_list(struct dmg *d, char *list)
{
    static const char open[] = "<data>", close[] = "</data>";
    int ret = 0;
    for (char *at = list; ret == 0 && (at = strstr(at, open));) {
        char *start = at + strlen(open), *end = strstr(start, close);
        if (!end)
            return -EINVAL;
        at = end + strlen(close);
        uint64_t n = decode(start, (uint64_t)(end - start));
        ret = parse_mish(d, (const uint8_t *)start, n);
    }
    return ret;
}

static int read_list(struct dmg *d)
{
    uint8_t koly[TRAILER];
    int ret = d->length >= TRAILER ? file_read(d->im->file, d->length - TRAILER, koly, sizeof koly) : -EINVAL;
    if (ret < 0 || memcmp(koly, "koly", 4) != 0)
        return ret < 0 ? ret : -EINVAL;
    uint64_t at = be_get(koly + KOLY_LIST, 8), n = be_get(koly + KOLY_LIST_LEN, 8);
    d->data = be_get(koly + KOLY_DATA, 8);
    d->end = MIN(be_get(koly + KOLY_SECTORS, 8), INT64_MAX / BLOCK_SECTOR / 4) * BLOCK_SECTOR;
    if (n == 0 || n > LIST_MAX || at > d->length || n > d->length - at || d->data > d->length)
        return -EINVAL;
    AUTO_FREE char *list = calloc(1, n + 1);
    ret = list ? file_read(d->im->file, at, list, n) : -ENOMEM;
    return ret < 0 ? ret : parse_list(d, list);
}

static int dmg_open(struct image *im, struct error *err)
{
    struct dmg d = {.im = im};
    if (!im->readonly)
        return error_set(err, EROFS, "image '%s': DMG images are only read; convert it to qcow2", im->file->path);
    im->state = d.c = calloc(1, sizeof *d.c);
    int ret = d.c ? file_length(im->file, &d.length) : -ENOMEM;
    if (ret == 0)
        ret = read_list(&d);
    if (ret == 0 && d.end == 0)
        ret = -EINVAL;
    if (ret == 0)
        ret = chunks_finish(d.c, d.end);
    im->size = d.end;
    if (ret == 0)
        return 0;
    chunks_close(im);
    if (ret == -EOPNOTSUPP)
        return error_set(err, 0, "image '%s': has chunks of a compression that is not read here (0x%" PRIx32 "); convert it with hdiutil, to UDZO", im->file->path, d.unknown);
    return ret == -EINVAL ? format_bad(im, "its trailer or its tables of chunks are not sound", err) : format_io(im, ret, err);
}

const struct image_driver dmg_driver = {.name = "dmg", .open = dmg_open, .close = chunks_close, .read = chunks_read, .extent = chunks_extent};
