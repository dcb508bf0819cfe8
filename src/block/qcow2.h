/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2, versions 2 and 3 (qemu/docs/interop/qcow2.txt is its specification; "spec." below).
 *
 * Invariants: what stands in the file after any cut
 *  1. A reference (an L2 entry to a data cluster, an L1 entry to an L2 table, a refcount table entry to a refcount block) is written only when what it
 *     refers to, and that cluster's refcount, are on stable storage. qcow2_write_back() is the one place that writes references, in this order:
 *         data and refcount blocks | sync | refcount table | sync | L2 tables | sync | L1 table | sync
 *     Where the disk reads as zeroes, new clusters that do so too are there before anything is written to them, once the file reaches behind them.
 *  2. A refcount falls only when the reference that went away is gone from stable storage: qcow2_free() puts clusters on a list, which is worked off at
 *     the end of a write-back. Only then can a cluster be given out again.
 *  3. What changes more than references of the active disk (snapshots, shrinking, repairs, growing tables) builds new tables in free clusters, syncs, and
 *     switches to them by rewriting the header's first sector (qcow2_commit.c). There is no state between before and after.
 * So a cut leaves the disk as of some moment after the last flush, and at worst clusters that are counted and not used: leaks.
 *
 * Concurrency: requests are fibers. The lock `meta` is held while L1, L2, refcounts and the lists change and while these are written back; lookups take no
 * lock, since cached tables only change under them between two waits. A write that allocates is on the list `writers` from before it chooses its clusters
 * until they are linked; another one for the same guest clusters waits for it. Zeroes over zeroes are linked at once, so that their writers do not wait.
 */
#ifndef LODGE_BLOCK_QCOW2_H
#define LODGE_BLOCK_QCOW2_H

#include "block/image.h"
#include "block/luks.h"

#define QCOW2_MAGIC         0x514649fbu
#define QCOW2_MIN_CLUSTER   9
#define QCOW2_MAX_CLUSTER   21
#define QCOW2_MAX_L1        (32u << 20) /* bytes, as QEMU has it */
#define QCOW2_MAX_RCT       (8u << 20)  /* bytes */
#define QCOW2_MAX_SNAPSHOTS 65536u
#define QCOW2_MAX_SNAPSHOT_TABLE (64u << 20) /* bytes */
#define QCOW2_MAX_BACKING   1023u       /* bytes of a backing file's name */
#define QCOW2_V2_HEADER     72u         /* bytes */
#define QCOW2_V3_HEADER     112u        /* with the compression type */
#define QCOW2_SLICE         4096u       /* bytes of a table that are cached as one, unless clusters are smaller */

/* L1, L2 and refcount table entries, spec. "Cluster mapping" */
#define QCOW2_COPIED     (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO       1ull
#define QCOW2_OFFSET     0x00fffffffffffe00ull

#define QCOW2_CRYPT_LUKS 2u /* spec. "crypt_method" */

enum { QCOW2_INCOMPAT_DIRTY = 1, QCOW2_INCOMPAT_CORRUPT = 2, QCOW2_INCOMPAT_DATA_FILE = 4, QCOW2_INCOMPAT_COMPRESSION = 8, QCOW2_INCOMPAT_EXT_L2 = 16 };
enum { QCOW2_COMPAT_LAZY = 1 };
enum { QCOW2_AUTOCLEAR_BITMAPS = 1, QCOW2_AUTOCLEAR_RAW_DATA = 2 };
enum { QCOW2_EXT_END = 0, QCOW2_EXT_BACKING_FORMAT = (int)0xe2792aca, QCOW2_EXT_FEATURES = 0x6803f857, QCOW2_EXT_BITMAPS = 0x23852875,
       QCOW2_EXT_CRYPTO = 0x0537be77, QCOW2_EXT_DATA_FILE = 0x44415441 };

/* The header in host byte order, spec. "Header". */
struct qcow2_header {
    uint32_t version;
    uint64_t backing_offset; /* of the name in the file; 0: none */
    uint32_t backing_len;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t crypt;
    uint32_t l1_size; /* entries */
    uint64_t l1_offset, rct_offset;
    uint32_t rct_clusters, nsnapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t refcount_order, length;
    uint8_t compression; /* 0 zlib, 1 zstd */
};

struct qcow2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_size; /* entries */
    char *id, *name;
    uint32_t date_sec, date_ns;
    uint64_t vm_clock_ns;
    uint64_t vm_state_size, disk_size, icount;
    uint8_t *extra; /* what is unknown behind these */
    uint32_t extra_len;
    uint32_t stored_extra; /* bytes that all this takes in the file */
};

/* A cached piece of a table. */
struct qcow2_slice {
    uint64_t offset; /* in the file */
    uint8_t *data;   /* big endian, as in the file */
    bool dirty;
    unsigned pins;   /* > 0: stays */
    struct qcow2_slice *hash_next, *newer, *older;
};
struct qcow2_cache {
    unsigned slice_bytes, max, n;
    struct qcow2_slice **hash;
    unsigned hash_size;
    struct qcow2_slice *newest, *oldest;
    unsigned ndirty;
    struct fiber_lock loading;
};

struct qcow2_writer { /* an allocating write under way, in guest clusters */
    uint64_t first, n;
    struct fiber_queue waiters;
    struct qcow2_writer *next;
};

struct qcow2_range {
    uint64_t offset, len; /* bytes, whole clusters */
};

enum { QCOW2_BITMAP_IN_USE = 1, QCOW2_BITMAP_AUTO = 2 /* it records */ };
#define QCOW2_BITMAP_NAME_MAX 1023u
struct qcow2_bitmap {
    char *name;
    uint32_t flags;
    uint8_t type, granularity; /* log2 of the bytes that a bit is about */
    uint64_t table_offset;
    uint64_t *table; /* host byte order */
    uint32_t table_size; /* entries */
    uint64_t flags_at; /* place of the flags in the file's directory; 0: not stored yet */
    uint8_t *bits;   /* bit n is byte n / 8, bit n % 8; NULL: not loaded */
    bool foreign;    /* not valid, or with parts that are not known: kept as it is */
};

struct qcow2 {
    struct image *im;
    struct file *file, *data; /* data: the external data file, or `file` */
    struct qcow2_header h;
    struct luks *luks;    /* of an encrypted image that was opened with a passphrase; the number of a sector is its place in the file */
    char *data_name;      /* of the external data file, as the header has it */
    uint8_t *extensions;  /* header extensions that are only kept */
    uint32_t extensions_len;
    unsigned cluster_size, entry_bytes /* of an L2 entry: 8 or 16 */, granules /* that a cluster has: 1 or 32 */;
    unsigned l2_bits; /* log2 of entries in an L2 table */
    uint64_t *l1;     /* host byte order */
    bool l1_dirty;
    uint64_t *rct;    /* refcount table, host byte order */
    uint32_t rct_size; /* entries */
    bool rct_dirty;
    struct qcow2_snapshot *snapshots;
    struct qcow2_cache l2, refs;
    struct fiber_lock meta;
    struct qcow2_writer *writers;
    unsigned generation, active[2]; /* transfers under way, by the parity of the generation in which they looked up their cluster */
    struct fiber_queue quiet;       /* waits for active[] of the last generation to fall to 0 */
    struct qcow2_range *freed; /* refcounts that are to fall */
    unsigned nfreed, freed_cap;
    uint64_t search;    /* cluster number below which nothing is free, as far as known */
    struct qcow2_range ahead; /* clusters that count as used already, and that qcow2_alloc() gives out next */
    unsigned batch;     /* clusters that it counts at a time */
    uint64_t fresh;     /* from this file offset on, nothing was ever given out: it reads as zeroes */
    uint64_t reach;     /* where the file ends at least, whatever is written */
    uint64_t packed_at; /* where the next compressed cluster goes within its host cluster; 0: nowhere */
    struct qcow2_bitmap *bitmaps;
    unsigned nbitmaps;
    bool bitmaps_in_use;  /* those that record are marked so in the file */
    bool bitmaps_changed; /* other than by recording */
    struct fiber_lock bitmaps_lock;
    bool broken;        /* a metadata write failed, or tables contradict themselves: no more writes */
    struct { /* the cluster that was decompressed last */
        uint64_t entry;
        uint8_t *data;
        struct fiber_lock lock;
    } unpacked;
};

/* Big endian fields. */
static inline uint64_t be64_get(const void *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline uint32_t be32_get(const void *p)
{
    uint32_t v;
    __builtin_memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint16_t be16_get(const void *p)
{
    uint16_t v;
    __builtin_memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}
static inline void be64_put(void *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    __builtin_memcpy(p, &v, 8);
}
static inline void be32_put(void *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    __builtin_memcpy(p, &v, 4);
}
static inline void be16_put(void *p, uint16_t v)
{
    v = __builtin_bswap16(v);
    __builtin_memcpy(p, &v, 2);
}

static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
    return (bytes + q->cluster_size - 1) >> q->h.cluster_bits;
}
static inline uint64_t qcow2_l1_entries(const struct qcow2 *q, uint64_t disk_size)
{
    return (qcow2_clusters(q, disk_size) + (1ull << q->l2_bits) - 1) >> q->l2_bits;
}
static inline unsigned qcow2_granule(const struct qcow2 *q) /* bytes */
{
    return q->cluster_size / q->granules;
}

/* ---- qcow2_header.c: 0, or -1 with err ---- */
int qcow2_read_header(struct qcow2 *q, struct error *err);
int qcow2_read_snapshots(struct qcow2 *q, struct error *err);
void qcow2_free_snapshots(struct qcow2_snapshot *s, unsigned n);

/* The place of an encrypted image's LUKS header; 0 bytes: it has none. */
struct qcow2_range qcow2_luks_range(const struct qcow2 *q);

/* ---- qcow2_header_write.c ---- */
/* Rewrites the header, at once. 0 or -errno; -ENOSPC: there is no room for it, or none beside the one that stands, which is as it was. */
int qcow2_write_header(struct qcow2 *q);
int qcow2_header_has_room(struct qcow2 *q, uint32_t more); /* for an extension of `more` bytes: 0, or what qcow2_write_header() would say */

/* ---- qcow2_cache.c: 0 or -errno ---- */
int qcow2_cache_init(struct qcow2_cache *c, unsigned slice_bytes, uint64_t bytes);
void qcow2_cache_free(struct qcow2_cache *c);
/* The slice that holds file offset `offset`, pinned. `zero`: nothing is read, it begins as zeroes. */
int qcow2_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, bool zero, struct qcow2_slice **out);
void qcow2_put(struct qcow2_slice *s);
void qcow2_dirty(struct qcow2_cache *c, struct qcow2_slice *s);
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c); /* the dirty ones, in the order of their offsets */
void qcow2_cache_drop(struct qcow2_cache *c); /* forgets all, dirty ones too */

/* ---- qcow2_refcount.c; `meta` is held. 0 or -errno ---- */
/* The n-th refcount of a block. */
uint64_t qcow2_get_refcount(const uint8_t *block, uint64_t n, unsigned order);
void qcow2_put_refcount(uint8_t *block, uint64_t n, unsigned order, uint64_t count);
int qcow2_refcount(struct qcow2 *q, uint64_t cluster, uint64_t *count);
/* Do the header and the tables that are always there count as used? What counts as free gets overwritten. 0, or -1 with err. */
int qcow2_check_counted(struct qcow2 *q, struct error *err);
int qcow2_refcount_add(struct qcow2 *q, uint64_t cluster, uint64_t n, int64_t by);
/* Up to `want` free clusters in a row, with refcount 1; *got of them from *offset on. More are counted at the same time, for who comes next. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got);
/* From `fresh` on, do clusters count as used other than those that were counted ahead? The file may have lost them; who writes there makes it longer. */
int qcow2_is_cut_off(struct qcow2 *q, bool *cut);
int qcow2_free(struct qcow2 *q, uint64_t offset, uint64_t len); /* see invariant 2 */
int qcow2_write_back(struct qcow2 *q);                          /* invariant 1, and then what was freed */

/* Gives back what was counted ahead, and writes back until nothing is left, the refcounts of what was freed included. */
int qcow2_settle(struct qcow2 *q);
/* Around a lookup and the transfer that follows: the host clusters that were found stay what they are. */
static inline unsigned qcow2_transfer_begin(struct qcow2 *q)
{
    unsigned parity = q->generation & 1;
    q->active[parity]++;
    return parity;
}
void qcow2_transfer_end(struct qcow2 *q, unsigned parity);

/* ---- qcow2_map.c ---- */
enum qcow2_kind { QCOW2_NONE, QCOW2_IS_ZERO, QCOW2_NORMAL, QCOW2_PACKED };
struct qcow2_run {
    enum qcow2_kind kind;
    bool copied;   /* QCOW2_NORMAL, QCOW2_IS_ZERO with a host cluster: writable in place */
    uint64_t host; /* byte in the data file that the offset maps to; 0 none (QCOW2_NORMAL always has one) */
    bool has_host;
    uint64_t len;  /* bytes that go on like this */
    uint64_t entry; /* QCOW2_PACKED: the L2 entry */
};
/* What [offset, offset + len) begins with. 0 or -errno. */
int qcow2_lookup(struct qcow2 *q, uint64_t offset, uint64_t len, struct qcow2_run *run);
/* The L2 slice of a guest offset, to be changed: pinned; its table is made or copied if need be. `meta` is held. */
int qcow2_l2_for_write(struct qcow2 *q, uint64_t offset, struct qcow2_slice **slice, unsigned *at);
/* Host clusters [host, ...) become the content of the guest clusters that [offset, offset + len) touches, of these the granules in the range (a whole
 * cluster where it has one granule). What was there is freed. */
int qcow2_link(struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t host);
enum qcow2_unlink { QCOW2_TO_NONE, QCOW2_TO_ZERO, QCOW2_TO_ZERO_KEEP /* the host cluster stays */ };
int qcow2_unlink(struct qcow2 *q, uint64_t offset, uint64_t len, enum qcow2_unlink how); /* whole clusters */
int qcow2_link_packed(struct qcow2 *q, uint64_t offset, uint64_t entry);
/* The host clusters that a compressed entry's bytes lie in. */
struct qcow2_range qcow2_packed_range(const struct qcow2 *q, uint64_t entry);

/* ---- qcow2_compress.c: 0 or -errno ---- */
int qcow2_read_packed(struct qcow2 *q, uint64_t entry, unsigned at, uint64_t len, const struct iovec *iov, int niov);
/* Compresses a cluster into `out`, which has room for one; the bytes it takes, or 0 when nothing is saved. Any thread. */
size_t qcow2_pack(const struct qcow2 *q, const void *in, uint8_t *out);
/* Gives a guest cluster that has none yet the compressed content `packed`, or, with len 0, the plain content `data`. */
int qcow2_write_packed(struct image *im, uint64_t offset, const void *data, const void *packed, size_t len);

/* ---- qcow2_bitmap.c: persistent dirty bitmaps; 0 or -errno, or -1 with err ---- */
void qcow2_bitmaps_open(struct qcow2 *q); /* what cannot be used is logged, and not used */
void qcow2_bitmaps_free(struct qcow2 *q);
int qcow2_bitmaps_touch(struct qcow2 *q, uint64_t offset, uint64_t len); /* before the range changes */
int qcow2_bitmaps_before_resize(struct qcow2 *q);
int qcow2_bitmaps_after_resize(struct qcow2 *q, uint64_t old_size);
int qcow2_bitmaps_store(struct qcow2 *q); /* those that recorded or changed */
/* Changes are stored when the image is closed. `granularity` is log2 of bytes. */
int qcow2_bitmap_add(struct image *im, const char *name, unsigned granularity, bool enabled, struct error *err);
int qcow2_bitmap_remove(struct image *im, const char *name, struct error *err);
int qcow2_bitmap_clear(struct image *im, const char *name, struct error *err);
int qcow2_bitmap_enable(struct image *im, const char *name, bool enabled, struct error *err);
int qcow2_bitmap_merge(struct image *im, const char *name, struct image *from_image, const char *from, struct error *err);
/* Is the range dirty at its begin? *len is cut to what is alike. */
int qcow2_bitmap_at(struct image *im, const char *name, uint64_t offset, uint64_t *len, bool *dirty);
int qcow2_bitmap_check(struct image *im, const char *name, struct error *err); /* is it there, and valid? */

/* ---- qcow2_commit.c: new tables, and the switch to them (invariant 3) ---- */
struct qcow2_commit {
    uint64_t *refs; /* refcount of each cluster of the file, as it is to be, without those of the tables that a switch replaces; owned */
    uint8_t *busy;  /* is it in use as things stand? owned */
    uint64_t nrefs; /* clusters that both have room for */
    uint64_t *l1;   /* the active L1 table as it is to be; owned */
    struct qcow2_header h; /* as it is to be, but for the tables' places */
    struct qcow2_snapshot *snapshots; /* h.nsnapshots of them; borrowed */
    uint64_t min_rct_entries;
};
int qcow2_commit_load(struct qcow2 *q, struct qcow2_commit *c); /* the refcounts that stand, and nothing else of what follows */
/* Takes `meta`, writes back, and loads the state that stands. 0 or -errno; in both cases qcow2_commit_end() follows. */
int qcow2_commit_begin(struct qcow2 *q, struct qcow2_commit *c);
/* What a table leads to, its L2 tables included: one reference more or less for each cluster. Entries that lead nowhere are counted in *bad; where
 * that is NULL they are -EIO. */
int qcow2_commit_count(struct qcow2 *q, struct qcow2_commit *c, const uint64_t *l1, uint32_t l1_size, int by, uint64_t *bad);
int qcow2_commit_ref(const struct qcow2 *q, struct qcow2_commit *c, uint64_t offset, uint64_t bytes, int by);
/* `n` clusters in a row that are free before and after get one reference. */
int qcow2_commit_alloc(struct qcow2 *q, struct qcow2_commit *c, uint64_t n, uint64_t *offset);
/* Builds the tables, writes them, and makes them the image's. */
int qcow2_commit_switch(struct qcow2 *q, struct qcow2_commit *c);
void qcow2_commit_end(struct qcow2 *q, struct qcow2_commit *c);
/* A refcount table that reaches twice as far. `meta` is held. */
int qcow2_grow_refcounts(struct qcow2 *q);
int qcow2_read_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, uint64_t **out); /* malloced */
int qcow2_write_l1(struct qcow2 *q, uint64_t offset, uint32_t entries, const uint64_t *table); /* whole sectors */

/* ---- qcow2_snapshot.c, qcow2_check.c, qcow2_create.c: for `lodge image` ---- */
int qcow2_snapshot_create(struct image *im, const char *name, struct error *err);
int qcow2_snapshot_apply(struct image *im, const char *name, struct error *err);
int qcow2_snapshot_delete(struct image *im, const char *name, struct error *err);
int qcow2_resize(struct image *im, uint64_t size, bool shrink, struct error *err);
/* The range is the backing image's again; whole clusters, but at the disk's end. 0 or -errno. */
int qcow2_forget(struct image *im, uint64_t offset, uint64_t len);
int qcow2_set_backing(struct image *im, const char *name, const char *format, struct error *err); /* NULL, NULL: none */

enum image_repair { REPAIR_NONE, REPAIR_LEAKS, REPAIR_ALL };
int qcow2_check(struct image *im, enum image_repair repair, struct image_check *out, struct error *err);

struct qcow2_create {
    const char *path;
    uint64_t size; /* bytes */
    unsigned version, cluster_bits, refcount_order;
    bool lazy, ext_l2, zstd;
    bool replace, no_sync; /* as image_new's */
    const char *backing, *backing_format; /* NULL: none */
    const char *data_file;
    bool data_file_raw;
    bool nocow; /* a file system that copies on write (Btrfs) is to write this file in place; others do not know that */
    bool encrypt; /* by LUKS, of this kind, with the passphrase in secret_file */
    struct luks_kind luks;
    const char *secret_file;
    enum { PREALLOC_OFF, PREALLOC_METADATA, PREALLOC_FALLOC, PREALLOC_FULL } prealloc;
};
/* Can there be such an image? 0, or -1 with err. */
int qcow2_check_create(const struct qcow2_create *o, struct error *err);
int qcow2_create(struct io_loop *l, const struct qcow2_create *o, struct error *err);

/* ---- qcow2_options.c: what users write ---- */
int qcow2_set_option(struct qcow2_create *c, const char *name, const char *value, struct error *err);
int qcow2_describe(struct qcow2_create *c, const struct image_new *n, struct error *err);
int qcow2_new(struct io_loop *l, const struct image_new *n, struct error *err);

/* ---- qcow2_amend.c ---- */
int qcow2_amend(struct image *im, const struct image_new *options, struct error *err);
uint64_t qcow2_full_size(const struct qcow2_create *o); /* bytes of a file with every cluster allocated */
uint64_t qcow2_bitmaps_size(struct image *im, unsigned cluster_bits); /* bytes that the image's bitmaps take in another one */

static inline struct qcow2 *qcow2_of(struct image *im)
{
    return im->state;
}

#endif
