// SPDX-License-Identifier: GPL-2.0-or-later
/* `lodge image bitmap`: dirty bitmaps of qcow2 images. Actions are made in the order in which they are given. */
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/image.h"

static int log2_of(uint64_t n)
{
    return n && !(n & (n - 1)) ? __builtin_ctzll(n) : 0;
}

static int merge(const struct image_args *a, struct image *im, const char *name, const char *from, struct error *err)
{
    struct image *other = im;
    if (a->backing && image_args_open(a, a->backing, a->backing_format ? a->backing_format : "qcow2", true, &other, err) < 0)
        return -1;
    int ret = image_need_qcow2(other, "bitmaps", err);
    if (ret == 0)
        ret = qcow2_bitmap_merge(im, name, other, from, err);
    if (other != im)
        image_close(other);
    return ret;
}

static int act(const struct image_args *a, struct image *im, const struct image_action *k, struct error *err)
{
    const char *name = a->argv[1];
    switch (k->what) {
    case 'a': return qcow2_bitmap_add(im, name, (unsigned)log2_of(a->granularity ? a->granularity : 64 * KIB), true, err);
    case 'r': return qcow2_bitmap_remove(im, name, err);
    case 'c': return qcow2_bitmap_clear(im, name, err);
    case 'e': return qcow2_bitmap_enable(im, name, true, err);
    case 'd': return qcow2_bitmap_enable(im, name, false, err);
    default: return merge(a, im, name, k->value, err);
    }
}

int image_bitmap(struct image_args *a, struct error *err)
{
    struct image *im;
    if (!a->nactions)
        return error_set(err, 0, "image verb 'bitmap': nothing to do; give --add, --remove, --clear, --enable, --disable or --merge SOURCE");
    if (image_args_open(a, a->argv[0], a->format, false, &im, err) < 0)
        return -1;
    int ret = image_need_qcow2(im, "bitmaps", err);
    for (unsigned i = 0; ret == 0 && i < a->nactions; i++)
        ret = act(a, im, &a->actions[i], err);
    return image_end(im, ret, err);
}
