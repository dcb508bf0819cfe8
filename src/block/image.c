// SPDX-License-Identifier: GPL-2.0-or-later
#include "block/image.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/util.h"

#define CHAIN_MAX 200 /* images behind one another */

static const struct image_driver *const drivers[] = {&raw_driver, &qcow2_driver, &luks_driver, &vmdk_driver, &vdi_driver, &vpc_driver, &vhdx_driver, &parallels_driver,
                                                    &dmg_driver, &cloop_driver};

const struct image_driver *image_driver(const char *format)
{
    for (unsigned i = 0; i < ARRAY_SIZE(drivers); i++)
        if (strcmp(drivers[i]->name, format) == 0)
            return drivers[i];
    return NULL;
}

/* "raw, qcow2, …" */
static const char *formats(char *out, size_t n)
{
    size_t at = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(drivers) && at < n; i++)
        at += (size_t)snprintf(out + at, n - at, "%s%s", i ? ", " : "", drivers[i]->name);
    return out;
}

static int unknown_format(const char *what, const char *path, const char *format, struct error *err)
{
    char list[200];
    return error_set(err, 0, "%s '%s': format '%s' is not known; there are %s", what, path, format, formats(list, sizeof list));
}

/* ---- what a check tells ---- */

void image_report(struct image_check *k, const char *fmt, ...)
{
    char line[200];
    va_list ap;
    if (!k->report || k->reported++ >= IMAGE_REPORTS_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    k->report(k->opaque, line);
}

/* ---- making, and another size ---- */

int image_bad_option(const struct image_option *o, const char *known, struct error *err)
{
    return error_set(err, 0, "option '%s=%s': is not known for this format; is %s", o->name, o->value, known);
}

/* These keep their length in the file's, or several files. */
static bool fits_device(const struct image_driver *d)
{
    return d == &raw_driver || d == &qcow2_driver || d == &luks_driver;
}

int image_create_new(struct io_loop *l, const char *format, const struct image_new *n, struct error *err)
{
    struct stat st;
    const struct image_driver *driver = image_driver(format);
    if (!driver)
        return unknown_format("image", n->path, format, err);
    if (!driver->create)
        return error_set(err, 0, "image '%s': format %s can only be read; use qcow2", n->path, format);
    if (!fits_device(driver) && stat(n->path, &st) == 0 && S_ISBLK(st.st_mode))
        return error_set(err, 0, "image '%s': is a block device, which holds no image of format %s; use raw or qcow2, or give a file", n->path, format);
    if (driver != &raw_driver && file_is_remote(n->path))
        return error_set(err, 0, "image '%s': is a server's disk, which keeps its size and so holds no new image of format %s; use raw, or give a file", n->path, format);
    if (n->backing && image_check_backing(n->path, n->backing, n->backing_format, err) < 0)
        return -1;
    return driver->create(l, n, err);
}

int image_resize_to(struct image *im, uint64_t size, bool shrink, struct error *err)
{
    if (!im->driver->resize)
        return error_set(err, 0, "image '%s': an image of format %s keeps its size; convert it to qcow2", im->file->path, im->driver->name);
    if (size < im->size && !shrink)
        return error_set(err, 0, "image '%s': is larger than that, and what lies behind the new end would be lost; say --shrink to want that", im->file->path);
    return im->driver->resize(im, size, shrink, err);
}

/* ---- opening ---- */

char *image_backing_path(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *out = NULL;
    if (name[0] == '/' || !slash)
        return strdup(name);
    if (asprintf(&out, "%.*s%s", (int)(slash + 1 - path), path, name) < 0)
        return NULL;
    return out;
}

static bool is_local(const char *name)
{
    return !strstr(name, "://") && strncmp(name, "json:", 5) != 0 && strncmp(name, "nbd:", 4) != 0;
}

int image_check_backing(const char *path, const char *name, const char *format, struct error *err)
{
    if (!is_local(name))
        return error_set(err, 0, "backing file '%s': is not a file of this host; copy it here, or leave out what is in front of its path", name);
    if (format && !image_driver(format))
        return unknown_format("backing file", name, format, err);
    AUTO_FREE char *full = image_backing_path(path, name);
    if (!full)
        return error_set(err, 0, "image '%s': out of memory; close other programs", path);
    if (file_is_same(full, path))
        return error_set(err, 0, "image '%s': cannot be its own backing file; give another file", path);
    return 0;
}

static int open_chain(struct io_loop *l, const struct image_options *o, struct image *overlay, unsigned depth, struct image **out, struct error *err);

/* A chain that leads back to one of its images has no end. */
static int check_loop(const struct image *im, const char *what, struct error *err)
{
    for (const struct image *up = im->overlay; up; up = up->overlay)
        if (file_is_same(im->file->path, up->file->path))
            return error_set(err, 0, "%s '%s': is an overlay of itself, so nothing says what is in it; let the last one of the chain name its right backing file",
                             what, im->file->path);
    return 0;
}

static int open_backing(struct image *im, unsigned depth, struct error *err)
{
    const char *path = im->file->path;
    if (!is_local(im->backing_name))
        return error_set(err, 0, "image '%s': its backing file '%s' is not a local file; copy that one here and use 'lodge image rebase -u'", path,
                         im->backing_name);
    if (!im->backing_format)
        return error_set(err, 0, "image '%s': does not say the format of its backing file '%s'; set it with 'lodge image rebase -u -F FORMAT -b FILE'",
                         path, im->backing_name);
    if (depth >= CHAIN_MAX)
        return error_set(err, 0, "image '%s': has more than %u images behind it; shorten the chain with 'lodge image commit'", path, CHAIN_MAX);
    AUTO_FREE char *name = image_backing_path(path, im->backing_name);
    if (!name)
        return error_set(err, 0, "image '%s': out of memory; close other programs", path);
    struct image_options o = {.path = name, .format = im->backing_format, .readonly = true, .what = "backing file", .secret_file = im->secret_file};
    if (open_chain(im->loop, &o, im, depth + 1, &im->backing, err) == 0)
        return im->driver->check_backing ? im->driver->check_backing(im, err) : 0;
    return error_prefix(err, "image '%s': ", path);
}

static int open_chain(struct io_loop *l, const struct image_options *o, struct image *overlay, unsigned depth, struct image **out, struct error *err)
{
    const struct image_driver *driver = image_driver(o->format);
    if (!driver)
        return unknown_format(o->what, o->path, o->format, err);
    struct image *im = calloc(1, sizeof *im);
    if (!im)
        return error_set(err, 0, "%s '%s': out of memory; close other programs", o->what, o->path);
    im->loop = l;
    im->overlay = overlay;
    im->readonly = o->readonly;
    im->for_repair = o->for_repair;
    im->no_backing = o->no_backing;
    im->secret_file = o->secret_file;
    if ((depth ? file_open : file_open_named)(l, o->what, o->path, o->readonly, &im->file, err) == 0 && check_loop(im, o->what, err) == 0 && driver->open(im, err) == 0) {
        im->driver = driver;
        if (!im->backing_name || o->no_backing || open_backing(im, depth, err) == 0) {
            *out = im;
            return 0;
        }
    }
    image_close(im);
    return -1;
}

int image_open(struct io_loop *l, const struct image_options *o, struct image **out, struct error *err)
{
    return open_chain(l, o, NULL, 0, out, err);
}

int image_close(struct image *im)
{
    if (!im)
        return 0;
    int ret = im->driver ? im->driver->close(im) : 0;
    if (ret < 0 && !im->given_up)
        log_error("image '%s': cannot be written back: %s; what was not flushed is lost", im->file->path, strerror(-ret));
    image_close(im->backing);
    file_close(im->file);
    free(im->backing_name);
    free(im->backing_format);
    free(im);
    return ret;
}

/* ---- transfers ---- */

static bool inside(const struct image *im, uint64_t offset, uint64_t len)
{
    return offset <= im->size && len <= im->size - offset;
}

int image_read(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    return inside(im, offset, len) ? im->driver->read(im, offset, len, iov, niov) : -EINVAL;
}

static int writable(const struct image *im, uint64_t offset, uint64_t len)
{
    if (im->readonly)
        return -EROFS;
    return inside(im, offset, len) ? 0 : -EINVAL;
}

int image_write(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    int ret = writable(im, offset, len);
    return ret < 0 ? ret : im->driver->write(im, offset, len, iov, niov);
}

int image_zero(struct image *im, uint64_t offset, uint64_t len, bool may_unmap)
{
    int ret = writable(im, offset, len);
    return ret < 0 ? ret : im->driver->zero(im, offset, len, may_unmap);
}

int image_discard(struct image *im, uint64_t offset, uint64_t len)
{
    int ret = writable(im, offset, len);
    return ret < 0 ? ret : im->driver->discard(im, offset, len);
}

int image_flush(struct image *im)
{
    return im->readonly ? 0 : im->driver->flush(im);
}

int image_extent(struct image *im, uint64_t offset, uint64_t len, struct extent *out)
{
    return inside(im, offset, len) && len ? im->driver->extent(im, offset, len, out) : -EINVAL;
}

int image_read_backing(struct image *im, uint64_t offset, uint64_t len, const struct iovec *iov, int niov)
{
    const struct image *back = im->backing;
    if (im->backing_name && !back)
        return -ENXIO; /* opened without it */
    uint64_t have = !back || offset >= back->size ? 0 : MIN(len, back->size - offset);
    iov_zero(iov, niov, have, len - have);
    if (!have)
        return 0;
    struct iovec *part = malloc((size_t)niov * sizeof *part);
    if (!part)
        return -ENOMEM;
    int n = iov_slice(part, iov, niov, 0, have);
    int ret = image_read(im->backing, offset, have, part, n);
    free(part);
    return ret;
}

int image_copy(struct image *to, uint64_t offset, struct image *from, uint64_t at, uint64_t *len, bool *copied)
{
    struct extent e = {.kind = EXTENT_NONE};
    int ret = writable(to, offset, *len);
    *copied = false;
    for (; ret == 0 && from && at < from->size && e.kind == EXTENT_NONE; from = from->backing) {
        *len = MIN(*len, from->size - at);
        if ((ret = image_extent(from, at, *len, &e)) == 0)
            *len = MIN(*len, e.len);
    }
    if (ret < 0 || e.kind != EXTENT_DATA || !e.file || !to->driver->copy)
        return ret;
    ret = to->driver->copy(to, offset, len, e.file, e.host);
    *copied = ret == 0;
    return ret == -EOPNOTSUPP ? 0 : ret;
}

bool image_is_blank(const struct image *im)
{
    return !im->backing_name && !im->driver->noise && !im->file->device && !im->file->protocol;
}

int image_is_zero(struct image *im, uint64_t offset, uint64_t *len, bool *zero)
{
    *zero = true;
    for (; im && offset < im->size; im = im->backing) {
        struct extent e;
        *len = MIN(*len, im->size - offset);
        int ret = image_extent(im, offset, *len, &e);
        if (ret < 0)
            return ret;
        *len = MIN(*len, e.len);
        *zero = e.kind == EXTENT_ZERO || e.kind == EXTENT_NONE || e.zero;
        if (e.kind != EXTENT_NONE)
            break;
    }
    return 0;
}
