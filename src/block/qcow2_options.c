// SPDX-License-Identifier: GPL-2.0-or-later
/* The options of a new qcow2 image, as a user writes them. */
#include <string.h>

#include "base/size.h"
#include "base/util.h"
#include "block/qcow2.h"

int qcow2_set_option(struct qcow2_create *c, const char *name, const char *value, struct error *err)
{
    static const char *const preallocs[] = {"off", "metadata", "falloc", "full"};
    bool on = strcmp(value, "on") == 0 || strcmp(value, "true") == 0;
    uint64_t n = 0;
    if (strncmp(name, "encrypt.", 8) == 0) {
        int ret = luks_set_option(&c->luks, name + 8, value, err);
        if (ret != 0)
            return ret < 0 ? -1 : 0;
        if (strcmp(name, "encrypt.format") != 0 || strcmp(value, "luks") != 0)
            return error_set(err, 0, "option '%s=%s': is not known; there are encrypt.format=luks, encrypt.cipher-alg, -mode, encrypt.ivgen-alg, encrypt.hash-alg, encrypt.iter-time", name, value);
        c->encrypt = true;
    } else if (strcmp(name, "cluster_size") == 0) {
        if (parse_size(value, &n, err) < 0)
            return -1;
        if (!n || (n & (n - 1)) || n > 1u << QCOW2_MAX_CLUSTER)
            return error_set(err, 0, "option 'cluster_size': '%s' is none; give a power of two from 512 to 2M", value);
        c->cluster_bits = (unsigned)__builtin_ctzll(n);
    } else if (strcmp(name, "compat") == 0) {
        if (strcmp(value, "0.10") != 0 && strcmp(value, "1.1") != 0 && strcmp(value, "v2") != 0 && strcmp(value, "v3") != 0)
            return error_set(err, 0, "option 'compat': '%s' is none; give 0.10 or 1.1", value);
        c->version = strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0 ? 2 : 3;
    } else if (strcmp(name, "refcount_bits") == 0) {
        n = strtoull(value, NULL, 10);
        if (!n || n > 64 || (n & (n - 1)))
            return error_set(err, 0, "option 'refcount_bits': '%s' is none; give 1, 2, 4, 8, 16, 32 or 64", value);
        c->refcount_order = (unsigned)__builtin_ctzll(n);
    } else if (strcmp(name, "preallocation") == 0) {
        unsigned k = 0;
        while (k < ARRAY_SIZE(preallocs) && strcmp(preallocs[k], value) != 0)
            k++;
        if (k == ARRAY_SIZE(preallocs))
            return error_set(err, 0, "option 'preallocation': '%s' is none; give off, metadata, falloc or full", value);
        c->prealloc = k;
    } else if (strcmp(name, "lazy_refcounts") == 0) {
        c->lazy = on;
    } else if (strcmp(name, "extended_l2") == 0) {
        c->ext_l2 = on;
    } else if (strcmp(name, "nocow") == 0) {
        c->nocow = on;
    } else if (strcmp(name, "data_file_raw") == 0) {
        c->data_file_raw = on;
    } else if (strcmp(name, "compression_type") == 0 && (strcmp(value, "zlib") == 0 || strcmp(value, "zstd") == 0)) {
        c->zstd = value[1] == 's';
    } else if (strcmp(name, "data_file") == 0) {
        c->data_file = value;
    } else {
        return error_set(err, 0,
                         "option '%s=%s': is not known; there are cluster_size, compat, refcount_bits, preallocation, lazy_refcounts, extended_l2, "
                         "compression_type, data_file, data_file_raw, nocow, backing_file, backing_fmt",
                         name, value);
    }
    return 0;
}


int qcow2_describe(struct qcow2_create *c, const struct image_new *n, struct error *err)
{
    *c = (struct qcow2_create){.path = n->path, .size = n->size, .version = 3, .cluster_bits = 16, .refcount_order = 4, .replace = n->replace, .no_sync = n->no_sync,
                             .backing = n->backing, .backing_format = n->backing_format, .secret_file = n->secret_file};
    for (unsigned i = 0; i < n->noptions; i++)
        if (qcow2_set_option(c, n->options[i].name, n->options[i].value, err) < 0)
            return -1;
    return 0;
}

int qcow2_new(struct io_loop *l, const struct image_new *n, struct error *err)
{
    struct qcow2_create c;
    return qcow2_describe(&c, n, err) < 0 ? -1 : qcow2_create(l, &c, err);
}
