// SPDX-License-Identifier: GPL-2.0-or-later
/* What `lodge image info` tells of encryption and of VMDK's parts, with qemu-img's names of fields in JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/vmdk.h"
#include "cli/image.h"

int image_encryption(struct image *im, struct luks_info *out, struct error *err)
{
    struct qcow2_range r = {0, 0};
    struct luks *l;
    if (im->driver == &qcow2_driver && qcow2_of(im)->h.crypt)
        r = qcow2_luks_range(qcow2_of(im));
    else if (im->driver == &luks_driver)
        r.len = im->file->size;
    if (!r.len)
        return 1;
    if (luks_open_locked(im->file, r.offset, r.len, &l, err) < 0)
        return -1;
    luks_describe(l, out);
    luks_close(l);
    return 0;
}

static void json_luks(const struct luks_info *l, bool format)
{
    const struct {
        const char *name, *value;
    } rows[] = {{"format", format ? "luks" : ""}, {"cipher-alg", l->cipher}, {"cipher-mode", l->mode}, {"ivgen-alg", l->ivgen}, {"ivgen-hash-alg", l->ivgen_hash},
                {"hash-alg", l->hash}, {"uuid", l->uuid}};
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (!*rows[i].value)
            continue;
        printf("\"%s\": ", rows[i].name);
        print_json_string(rows[i].value);
        fputs(", ", stdout);
    }
    printf("\"payload-offset\": %" PRIu64 ", \"master-key-iters\": %u, \"slots\": [", l->payload, l->iterations);
    for (unsigned i = 0; i < LUKS_SLOTS; i++) {
        printf("%s{\"active\": %s, ", i ? ", " : "", l->slots[i].active ? "true" : "false");
        if (l->slots[i].active)
            printf("\"iters\": %u, \"stripes\": %u, ", l->slots[i].iterations, l->slots[i].stripes);
        printf("\"key-offset\": %" PRIu64 "}", l->slots[i].place);
    }
    fputs("]", stdout);
}

static void json_extent(const char *path, const char *kind, uint64_t size, uint64_t grain, bool packed)
{
    fputs("{\"filename\": ", stdout);
    print_json_string(path);
    printf(", \"format\": \"%s\", \"virtual-size\": %" PRIu64, kind, size);
    if (grain)
        printf(", \"cluster-size\": %" PRIu64, grain);
    fputs(packed ? ", \"compressed\": true}" : "}", stdout);
}

static void json_vmdk(const struct image *im)
{
    const struct vmdk *v = im->state;
    printf("    \"format-specific\": {\"type\": \"vmdk\", \"data\": {\"cid\": %u, \"parent-cid\": %u, \"create-type\": ", v->cid, v->parent_cid);
    print_json_string(v->create_type);
    fputs(", \"extents\": [", stdout);
    if (!v->nparts)
        json_extent(im->file->path, "", im->size, im->cluster, v->packed);
    for (unsigned i = 0; i < v->nparts; i++) {
        const struct vmdk_part *p = &v->parts[i];
        fputs(i ? ", " : "", stdout);
        json_extent(p->file ? p->file->path : p->sparse ? p->sparse->file->path : "", p->kind, p->len, p->sparse ? p->sparse->cluster : 0, false);
    }
    puts("]}},");
}

void image_describe_json(const struct image *im, const struct luks_info *l)
{
    if (im->driver == &qcow2_driver && l) {
        fputs("\"encrypt\": {", stdout);
        json_luks(l, true);
        fputs("}, ", stdout);
    } else if (l) {
        fputs("    \"encrypted\": true,\n    \"format-specific\": {\"type\": \"luks\", \"data\": {", stdout);
        json_luks(l, false);
        puts("}},");
    } else if (im->driver == &vmdk_driver) {
        json_vmdk(im);
    }
}

void image_describe(const struct image *im, const struct luks_info *l)
{
    if (l) {
        unsigned active = 0;
        for (unsigned i = 0; i < LUKS_SLOTS; i++)
            active += l->slots[i].active;
        printf("    encryption: %s, %s, %s%s%s, %s\n    passphrases: %u of %u\n    uuid: %s\n", l->cipher, l->mode, l->ivgen, *l->ivgen_hash ? ":" : "", l->ivgen_hash, l->hash,
               active, LUKS_SLOTS, l->uuid);
    } else if (im->driver == &vmdk_driver) {
        const struct vmdk *v = im->state;
        printf("    cid: %u\n    parent cid: %u\n    create type: %s\n", v->cid, v->parent_cid, v->create_type);
    }
}
