// SPDX-License-Identifier: GPL-2.0-or-later
/* Descriptors of VMDK images, and new images. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/vmdk.h"

#define GRAIN   128u /* sectors */
#define TEXT_AT 1u   /* sector of the descriptor */
#define TEXT_SECTORS 20u

/* ---- reading ---- */

/* A flat file lies beside its descriptor: a name that leads elsewhere is not followed. */
static int open_flat(struct image *im, struct vmdk_flat *f, const char *name, struct error *err)
{
    if (!*name || strchr(name, '/') || name[0] == '.')
        return error_set(err, 0, "image '%s': names '%s' as a part of it, which does not lie beside it; move it there and change the descriptor", im->file->path, name);
    AUTO_FREE char *path = image_backing_path(im->file->path, name);
    return path ? file_open(im->loop, "part of an image", path, im->readonly, &f->file, err) : error_set(err, ENOMEM, "out of memory; close other programs");
}

/* RW 20480 FLAT "disk-flat.vmdk" 0 */
static int parse_extent(struct image *im, struct vmdk *v, const char *line, struct error *err)
{
    char access[16], kind[16], name[512] = "";
    uint64_t sectors, offset = 0;
    int n = sscanf(line, "%15s %" SCNu64 " %15s \"%511[^\n\"]\" %" SCNu64, access, &sectors, kind, name, &offset);
    if (n < 3 || sectors == 0 || sectors > INT64_MAX / BLOCK_SECTOR / VMDK_FLATS || offset > INT64_MAX / BLOCK_SECTOR)
        return format_bad(im, "its descriptor has a line about a part that cannot be read", err);
    bool flat = strcmp(kind, "FLAT") == 0, zero = strcmp(kind, "ZERO") == 0;
    if ((!flat || n < 4) && !zero)
        return error_set(err, 0, "image '%s': has a part of kind %s, which is not supported; convert it to monolithicSparse", im->file->path, kind);
    if (v->nflats == VMDK_FLATS)
        return format_bad(im, "its descriptor has too many parts", err);
    struct vmdk_flat *f = &v->flats[v->nflats++];
    *f = (struct vmdk_flat){.start = im->size, .len = sectors * BLOCK_SECTOR, .host = offset * BLOCK_SECTOR};
    im->size += f->len;
    return zero ? 0 : open_flat(im, f, name, err);
}

static bool begins(const char *line, const char *word)
{
    return strncasecmp(line, word, strlen(word)) == 0;
}

int vmdk_parse_text(struct image *im, struct vmdk *v, char *text, bool embedded, struct error *err)
{
    for (char *save = NULL, *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        while (isspace((unsigned char)*line))
            line++;
        if (begins(line, "parentCID=") && strtoul(line + 10, NULL, 16) != 0xffffffff)
            return error_set(err, 0, "image '%s': is the difference to another VMDK image, which is not supported; merge the two first", im->file->path);
        if (!embedded && (begins(line, "RW ") || begins(line, "RDONLY ")) && parse_extent(im, v, line, err) < 0)
            return -1;
    }
    return embedded || v->nflats ? 0 : format_bad(im, "its descriptor names no parts", err);
}

/* ---- writing ---- */

size_t vmdk_write_text(char *out, size_t n, const char *kind, const char *extent_kind, const char *extent_name, uint64_t sectors)
{
    uint8_t cid[16];
    format_uuid(cid);
    int len = snprintf(out, n,
                       "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\ncreateType=\"%s\"\n\n# Extent description\nRW %" PRIu64
                       " %s \"%s\"%s\n\n# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%" PRIu64
                       "\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n",
                       (unsigned)le_get(cid, 4) & 0xfffffffe, kind, sectors, extent_kind, extent_name, strcmp(extent_kind, "FLAT") == 0 ? " 0" : "",
                       sectors / 63 / 16);
    return len < 0 || (size_t)len >= n ? 0 : (size_t)len;
}

struct layout {
    uint64_t tables, directory_sectors, backup, directory, data; /* number, and sectors */
};

/* Header, descriptor, the second directory with its tables, the first with its tables, grains. */
static struct layout lay_out(uint64_t sectors)
{
    uint64_t grains = (sectors + GRAIN - 1) / GRAIN;
    struct layout l = {.tables = (grains + BLOCKMAP_LEAF - 1) / BLOCKMAP_LEAF};
    l.directory_sectors = (l.tables * 4 + BLOCK_SECTOR - 1) / BLOCK_SECTOR;
    uint64_t each = l.directory_sectors + l.tables * (BLOCKMAP_LEAF * 4 / BLOCK_SECTOR);
    l.backup = TEXT_AT + TEXT_SECTORS;
    l.directory = l.backup + each;
    l.data = ALIGN_UP(l.directory + each, (uint64_t)GRAIN);
    return l;
}

static int write_directory(struct file *f, const struct layout *l, uint64_t at)
{
    AUTO_FREE uint8_t *d = calloc(l->directory_sectors, BLOCK_SECTOR);
    if (!d)
        return -ENOMEM;
    for (uint64_t i = 0; i < l->tables; i++)
        le_put(d + 4 * i, at + l->directory_sectors + i * (BLOCKMAP_LEAF * 4 / BLOCK_SECTOR), 4);
    return file_write(f, at * BLOCK_SECTOR, d, l->directory_sectors * BLOCK_SECTOR);
}

static int write_sparse(struct file *f, const char *name, uint64_t sectors, bool stream)
{
    struct layout l = lay_out(sectors);
    uint8_t h[VMDK_HEADER] = {0};
    AUTO_FREE char *text = calloc(1, TEXT_SECTORS * BLOCK_SECTOR);
    if (!text || !vmdk_write_text(text, TEXT_SECTORS * BLOCK_SECTOR, stream ? "streamOptimized" : "monolithicSparse", "SPARSE", name, sectors))
        return text ? -ENAMETOOLONG : -ENOMEM;
    memcpy(h, "KDMV", 4);
    le_put(h + VMDK_VERSION, stream ? 3 : 1, 4);
    le_put(h + VMDK_FLAGS, VMDK_HAS_NEWLINES | VMDK_HAS_BACKUP | (stream ? VMDK_COMPRESSED | VMDK_MARKERS : 0), 4);
    le_put(h + VMDK_CAPACITY, sectors, 8);
    le_put(h + VMDK_GRAIN, GRAIN, 8);
    le_put(h + VMDK_TEXT_AT, TEXT_AT, 8);
    le_put(h + VMDK_TEXT_SIZE, TEXT_SECTORS, 8);
    le_put(h + VMDK_ENTRIES, BLOCKMAP_LEAF, 4);
    le_put(h + VMDK_BACKUP, l.backup, 8);
    le_put(h + VMDK_DIRECTORY, l.directory, 8);
    le_put(h + VMDK_OVERHEAD, l.data, 8);
    memcpy(h + VMDK_NEWLINES, "\n \r\n", 4);
    le_put(h + VMDK_COMPRESSION, stream, 2);
    int ret = file_write(f, 0, h, sizeof h);
    if (ret == 0)
        ret = file_write(f, TEXT_AT * BLOCK_SECTOR, text, TEXT_SECTORS * BLOCK_SECTOR);
    if (ret == 0)
        ret = write_directory(f, &l, l.backup);
    if (ret == 0)
        ret = write_directory(f, &l, l.directory);
    return ret < 0 ? ret : file_truncate(f, l.data * BLOCK_SECTOR);
}

static int create_flat(struct io_loop *l, const struct image_new *n, struct file *f, const char *name, struct error *err)
{
    char text[2048];
    size_t stem = strlen(name);
    stem -= stem > 5 && strcmp(name + stem - 5, ".vmdk") == 0 ? 5 : 0;
    AUTO_FREE char *flat = NULL;
    struct file *data;
    if (asprintf(&flat, "%.*s-flat.vmdk", (int)stem, name) < 0)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", n->path);
    AUTO_FREE char *path = image_backing_path(n->path, flat);
    size_t len = vmdk_write_text(text, sizeof text, "monolithicFlat", "FLAT", flat, n->size / BLOCK_SECTOR);
    if (!path || !len)
        return error_set(err, 0, "image '%s': its name is too long; use a shorter one", n->path);
    if (file_create(l, "part of an image", path, n->replace, &data, err) < 0)
        return -1;
    int ret = file_truncate(data, n->size);
    file_close(data);
    return ret < 0 ? ret : file_write(f, 0, text, len);
}

int vmdk_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    const char *kind = "monolithicSparse", *slash = strrchr(n->path, '/'), *name = slash ? slash + 1 : n->path;
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        if (strcmp(n->options[i].name, "subformat") != 0)
            return image_bad_option(&n->options[i], "subformat", err);
        kind = n->options[i].value;
    }
    bool sparse = strcmp(kind, "monolithicSparse") == 0, stream = strcmp(kind, "streamOptimized") == 0, flat = strcmp(kind, "monolithicFlat") == 0;
    if (!sparse && !stream && !flat)
        return error_set(err, 0, "option 'subformat': '%s' is none; give monolithicSparse, monolithicFlat or streamOptimized", kind);
    if (n->backing || !n->size || n->size > 2048 * GIB * (flat ? 1024 : 1) || strchr(name, '"'))
        return error_set(err, 0, "image '%s': a VMDK image has no backing file here, 2048G at most, and no quotes in its name; use qcow2", n->path);
    if (file_create(l, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = flat ? create_flat(l, n, f, name, err) : write_sparse(f, name, n->size / BLOCK_SECTOR, stream);
    file_close(f);
    if (ret < 0 && !error_is_set(err))
        return error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret));
    return ret < 0 ? -1 : 0;
}
