// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Compressed clusters: raw deflate with a window of 4 KiB, or zstd (spec. "Standard Cluster Descriptor, compressed"). Their bytes lie packed, several in a
 * host cluster, each of which has as many references as compressed clusters have bytes in it.
 */
#include <errno.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/util.h"
#include "block/qcow2.h"

#define WINDOW_BITS (-12)

/* ---- reading ---- */

#ifdef HAVE_LIBDEFLATE
/* More than twice as fast as zlib, for streams that end with their cluster, as those of all writers do. True if this was one. */
static bool inflate_at_once(const struct qcow2 *q, const uint8_t *in, size_t len, uint8_t *out)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    size_t used, got = 0;
    bool ok = d && libdeflate_deflate_decompress_ex(d, in, len, out, q->cluster_size, &used, &got) == LIBDEFLATE_SUCCESS && got == q->cluster_size;
    if (d)
        libdeflate_free_decompressor(d);
    return ok;
}
#else
static bool inflate_at_once(const struct qcow2 *q, const uint8_t *in, size_t len, uint8_t *out)
{
    (void)q;
    (void)in;
    (void)len;
    (void)out;
    return false;
}
#endif

static int inflate_cluster(const struct qcow2 *q, const uint8_t *in, size_t len, uint8_t *out)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)in, .avail_in = (uInt)len, .next_out = out, .avail_out = q->cluster_size};
    if (inflate_at_once(q, in, len, out))
        return 0;
    if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
        return -ENOMEM;
    int ret = inflate(&z, Z_FINISH);
    inflateEnd(&z);
    /* The length is known in sectors only: what follows the stream is not ours. */
    return (ret == Z_STREAM_END || ret == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

static int zstd_cluster(const struct qcow2 *q, const uint8_t *in, size_t len, uint8_t *out)
{
    ZSTD_DStream *z = ZSTD_createDStream();
    ZSTD_inBuffer i = {in, len, 0};
    ZSTD_outBuffer o = {out, q->cluster_size, 0};
    int ret = z ? 0 : -ENOMEM;
    while (ret == 0 && o.pos < o.size) {
        size_t before = o.pos, left = ZSTD_decompressStream(z, &o, &i);
        if (ZSTD_isError(left) || (o.pos == before && i.pos == i.size) || (left == 0 && o.pos < o.size && i.pos == i.size))
            ret = -EIO;
    }
    ZSTD_freeDStream(z);
    return ret;
}

struct unpacking {
    const struct qcow2 *q;
    const uint8_t *in;
    size_t len;
    uint8_t *out;
};

static ssize_t run_unpacking(void *arg)
{
    const struct unpacking *u = arg;
    return u->q->h.compression ? zstd_cluster(u->q, u->in, u->len, u->out) : inflate_cluster(u->q, u->in, u->len, u->out);
}

/* Reads a compressed cluster and puts its contents into `out`. */
static int unpack(struct qcow2 *q, uint64_t entry, uint8_t *out)
{
    unsigned x = 62 - (q->h.cluster_bits - 8);
    uint64_t host = entry & ((1ull << x) - 1), sectors = ((entry & (QCOW2_COMPRESSED - 1)) >> x) + 1;
    uint64_t len = sectors * BLOCK_SECTOR - (host & (BLOCK_SECTOR - 1));
    AUTO_FREE uint8_t *in = malloc(len);
    struct unpacking u = {q, in, len, out};
    int ret = in ? file_read(q->file, host, in, len) : -ENOMEM;
    return ret < 0 ? ret : (int)io_call(q->im->loop, run_unpacking, &u);
}

/* Whole clusters, as tools read them, several at a time. */
static int read_whole(struct qcow2 *q, uint64_t entry, const struct iovec *iov, int niov)
{
    if (niov == 1)
        return unpack(q, entry, iov->iov_base);
    AUTO_FREE uint8_t *buf = malloc(q->cluster_size);
    int ret = buf ? unpack(q, entry, buf) : -ENOMEM;
    if (ret == 0)
        iov_from(iov, niov, 0, buf, q->cluster_size);
    return ret;
}

/* Parts of clusters come out of the one that was unpacked last: guests read on. */
int qcow2_read_packed(struct qcow2 *q, uint64_t entry, unsigned at, uint64_t len, const struct iovec *iov, int niov)
{
    int ret = 0;
    if (len == q->cluster_size)
        return read_whole(q, entry, iov, niov);
    fiber_lock(&q->unpacked.lock);
    if (!q->unpacked.data && !(q->unpacked.data = malloc(q->cluster_size)))
        ret = -ENOMEM;
    if (ret == 0 && q->unpacked.entry != entry) {
        q->unpacked.entry = 0;
        ret = unpack(q, entry, q->unpacked.data);
        q->unpacked.entry = ret == 0 ? entry : 0;
    }
    if (ret == 0)
        iov_from(iov, niov, 0, q->unpacked.data + at, len);
    fiber_unlock(q->im->loop, &q->unpacked.lock);
    return ret;
}

/* ---- writing ---- */

/*
 * Is it noise: bytes of all values, equally often? Then deflate would look for long and find nothing. What it costs is that repeats of noise within 4 KiB,
 * which hardly occur, are stored as they are.
 */
static bool is_noise(const uint8_t *p, size_t n)
{
    uint32_t count[4][256] = {{0}};
    double squares = 0;
    if (n < 4096)
        return false;
    for (size_t i = 0; i + 4 <= n; i += 4) {
        count[0][p[i]]++;
        count[1][p[i + 1]]++;
        count[2][p[i + 2]]++;
        count[3][p[i + 3]]++;
    }
    for (unsigned v = 0; v < 256; v++) {
        double c = count[0][v] + count[1][v] + count[2][v] + count[3][v];
        squares += c * c;
    }
    /* Two bytes that are taken from noise are the same once in 256 times. */
    double same = squares / ((double)n * (double)n) - 1.0 / (double)n;
    return same < 1.02 / 256;
}

/* The bytes that it takes, or 0 when that is not less than a cluster. */
static size_t deflate_cluster(const struct qcow2 *q, const void *in, uint8_t *out)
{
    z_stream z = {.next_in = (uint8_t *)(uintptr_t)in, .avail_in = q->cluster_size, .next_out = out, .avail_out = q->cluster_size - 1};
    if (is_noise(in, q->cluster_size) || deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
        return 0;
    int ret = deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return ret == Z_STREAM_END ? z.total_out : 0;
}

size_t qcow2_pack(const struct qcow2 *q, const void *in, uint8_t *out)
{
    if (!q->h.compression)
        return deflate_cluster(q, in, out);
    size_t n = ZSTD_compress(out, q->cluster_size - 1, in, q->cluster_size, ZSTD_CLEVEL_DEFAULT);
    return ZSTD_isError(n) ? 0 : n;
}

/* Finds `len` bytes in host clusters and takes a reference to each of them. `meta` is held. */
static int reserve(struct qcow2 *q, size_t len, uint64_t *at)
{
    uint64_t size = q->cluster_size, room = q->packed_at ? size - (q->packed_at & (size - 1)) : 0, cluster, got;
    int ret;
    *at = q->packed_at;
    if (len <= room) {
        ret = qcow2_refcount_add(q, *at >> q->h.cluster_bits, 1, 1);
        if (ret != -EMLINK) {
            q->packed_at = len < room ? *at + len : 0;
            return ret;
        }
        room = 0; /* as many references as its refcount can say: the next cluster */
    }
    if ((ret = qcow2_alloc(q, 1, &cluster, &got)) < 0)
        return ret;
    q->fresh = MAX(q->fresh, cluster + size);
    if (!room || cluster != ALIGN_UP(*at, size) || qcow2_refcount_add(q, *at >> q->h.cluster_bits, 1, 1) < 0)
        *at = cluster;
    q->packed_at = (*at + len) & (size - 1) ? *at + len : 0;
    return 0;
}

int qcow2_write_packed(struct image *im, uint64_t offset, const void *data, const void *packed, size_t len)
{
    struct qcow2 *q = im->state;
    uint64_t at;
    int ret = qcow2_bitmaps_touch(q, offset, MIN(q->cluster_size, im->size - offset));
    if (ret < 0)
        return ret;
    if (!len || q->data != q->file || q->h.crypt) {
        struct iovec iov = {(void *)(uintptr_t)data, MIN(q->cluster_size, im->size - offset)};
        return image_write(im, offset, iov.iov_len, &iov, 1);
    }
    fiber_lock(&q->meta);
    ret = q->broken ? -EIO : reserve(q, len, &at);
    fiber_unlock(im->loop, &q->meta);
    if (ret < 0 || (ret = file_write(q->file, at, packed, len)) < 0)
        return ret;
    unsigned x = 62 - (q->h.cluster_bits - 8);
    uint64_t sectors = (at + len - 1) / BLOCK_SECTOR - at / BLOCK_SECTOR;
    fiber_lock(&q->meta);
    ret = qcow2_link_packed(q, offset, QCOW2_COMPRESSED | sectors << x | at);
    if (ret == 0 && q->l2.ndirty > q->l2.max / 4)
        ret = qcow2_write_back(q);
    fiber_unlock(im->loop, &q->meta);
    return ret;
}
