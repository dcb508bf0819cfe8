// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/unpack.h"

#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/util.h"

#define XZ_MEMORY (128u * MIB)

/* Each writes at most *out_len bytes and says in it how many; false when the input is damaged or longer. */
static bool gzip(const uint8_t *in, size_t len, uint8_t *out, size_t *out_len)
{
    z_stream z = {.next_in = (Bytef *)in, .avail_in = (uInt)len, .next_out = out, .avail_out = (uInt)*out_len};
    if (inflateInit2(&z, MAX_WBITS + 16) != Z_OK) /* + 16: with gzip's header */
        return false;
    bool done = inflate(&z, Z_FINISH) == Z_STREAM_END;
    *out_len = z.total_out;
    inflateEnd(&z);
    return done;
}

static bool xz(const uint8_t *in, size_t len, uint8_t *out, size_t *out_len)
{
    uint64_t memory = XZ_MEMORY;
    size_t in_pos = 0, out_pos = 0;
    lzma_ret r = lzma_stream_buffer_decode(&memory, 0, NULL, in, &in_pos, len, out, &out_pos, *out_len);
    *out_len = out_pos;
    return r == LZMA_OK;
}

static bool zstd(const uint8_t *in, size_t len, uint8_t *out, size_t *out_len)
{
    size_t n = ZSTD_decompress(out, *out_len, in, len);
    if (ZSTD_isError(n))
        return false;
    *out_len = n;
    return true;
}

static const struct {
    const char *suffix;
    bool (*unpack)(const uint8_t *in, size_t len, uint8_t *out, size_t *out_len);
} kinds[] = {{".gz", gzip}, {".xz", xz}, {".zst", zstd}};

static int kind_of(const char *name)
{
    size_t len = strlen(name);
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        size_t n = strlen(kinds[i].suffix);
        if (len > n && strcmp(name + len - n, kinds[i].suffix) == 0)
            return (int)i;
    }
    return -1;
}

bool unpack_needed(const char *name)
{
    return kind_of(name) >= 0;
}

uint8_t *unpack(const char *name, const uint8_t *data, size_t *len, size_t max)
{
    int kind = kind_of(name);
    AUTO_FREE uint8_t *out = kind >= 0 ? malloc(max) : NULL; /* pages that are not written take no room */
    size_t n = max;
    if (!out || !kinds[kind].unpack(data, *len, out, &n))
        return NULL;
    *len = n;
    return realloc(steal_ptr(&out), n ? n : 1);
}
