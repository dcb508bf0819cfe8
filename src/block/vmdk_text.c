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
#define VMDK_LINE 1024u

/* ---- reading ---- */

/* A part lies beside its descriptor: a name that leads elsewhere is not followed. */
static int open_part(struct image *im, struct vmdk_part *p, bool sparse, const char *name, struct error *err)
{
    if (!*name || strchr(name, '/') || name[0] == '.')
        return error_set(err, 0, "image '%s': names '%s' as a part of it, which does not lie beside it; move it there and change the descriptor", im->file->path, name);
    AUTO_FREE char *path = image_backing_path(im->file->path, name);
    if (!path)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    if (!sparse)
        return file_open(im->loop, "part of an image", path, im->readonly, &p->file, err);
    if (vmdk_open_part(im, path, &p->sparse, err) < 0)
        return -1;
    im->cluster = p->sparse->cluster;
    return p->sparse->size >= p->len ? 0 : format_bad(im, "a part of it is shorter than its descriptor says", err);
}

/* RW 20480 FLAT "disk-flat.vmdk" 0 */
static int parse_part(struct image *im, struct vmdk *v, const char *line, struct error *err)
{
    char access[16], kind[16], name[512] = "";
    uint64_t sectors, offset = 0;
    int n = sscanf(line, "%15s %" SCNu64 " %15s \"%511[^\n\"]\" %" SCNu64, access, &sectors, kind, name, &offset);
    if (n < 3 || sectors == 0 || sectors > INT64_MAX / BLOCK_SECTOR / VMDK_PARTS || offset > INT64_MAX / BLOCK_SECTOR)
        return format_bad(im, "its descriptor has a line about a part that cannot be read", err);
    bool flat = strcmp(kind, "FLAT") == 0, sparse = strcmp(kind, "SPARSE") == 0, zero = strcmp(kind, "ZERO") == 0;
    if (((!flat && !sparse) || n < 4) && !zero)
        return error_set(err, 0, "image '%s': has a part of kind %s, which is not supported; convert it to monolithicSparse", im->file->path, kind);
    if (v->nparts == VMDK_PARTS)
        return format_bad(im, "its descriptor has too many parts", err);
    if (!v->parts && !(v->parts = calloc(VMDK_PARTS, sizeof *v->parts)))
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    struct vmdk_part *p = &v->parts[v->nparts++];
    *p = (struct vmdk_part){.kind = flat ? "FLAT" : sparse ? "SPARSE" : "ZERO", .start = im->size, .len = sectors * BLOCK_SECTOR, .host = offset * BLOCK_SECTOR};
    im->size += p->len;
    return zero ? 0 : open_part(im, p, sparse, name, err);
}

/* parentFileNameHint="base.vmdk" */
static int set_parent(struct image *im, const char *hint, struct error *err)
{
    if (!*hint)
        return format_bad(im, "its descriptor says that it has a parent, and does not name it", err);
    if (!im->readonly)
        return error_set(err, EROFS, "image '%s': is the difference to another VMDK image, which is only read; convert it", im->file->path);
    im->backing_name = strdup(hint);
    im->backing_format = strdup("vmdk");
    return im->backing_name && im->backing_format ? 0 : error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
}

static bool begins(const char *line, const char *word)
{
    return strncasecmp(line, word, strlen(word)) == 0;
}

int vmdk_parse_text(struct image *im, struct vmdk *v, char *text, uint64_t at, bool embedded, struct error *err)
{
    char hint[1024] = "";
    for (char *save = NULL, *line = strtok_r(text, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        while (isspace((unsigned char)*line))
            line++;
        if (begins(line, "CID=")) {
            v->cid = (uint32_t)strtoul(line + 4, NULL, 16);
            v->cid_at = at + (uint64_t)(line - text) + 4;
            v->cid_digits = (unsigned)MIN(strspn(line + 4, "0123456789abcdefABCDEF"), 8u);
        } else if (begins(line, "createType="))
            sscanf(line + 11, "\"%31[^\"]\"", v->create_type);
        else if (begins(line, "parentCID="))
            v->parent_cid = (uint32_t)strtoul(line + 10, NULL, 16);
        else if (begins(line, "parentFileNameHint="))
            sscanf(line + 19, "\"%1023[^\"]\"", hint);
        else if (!embedded && (begins(line, "RW ") || begins(line, "RDONLY ")) && parse_part(im, v, line, err) < 0)
            return -1;
    }
    if (!embedded && !v->nparts)
        return format_bad(im, "its descriptor names no parts", err);
    if (v->parent_cid == VMDK_NO_PARENT)
        return 0;
    for (unsigned i = 0; i < v->nparts; i++) { /* so that it tells what it has not from what is zero */
        struct image *part = v->parts[i].sparse;
        if (part && !part->backing_name && !(part->backing_name = strdup(hint)))
            return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", im->file->path);
    }
    return set_parent(im, hint, err);
}

/* ---- writing ---- */

/* A descriptor in `out`; `parts` are its lines about them. Its length; 0: there is no room. */
static size_t write_text(char *out, size_t n, const char *kind, const char *parts, uint64_t sectors)
{
    uint8_t cid[16];
    format_uuid(cid);
    int len = snprintf(out, n,
                       "# Disk DescriptorFile\nversion=1\nCID=%08x\nparentCID=ffffffff\ncreateType=\"%s\"\n\n# Extent description\n%s\n"
                       "# The Disk Data Base\n#DDB\n\nddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"%" PRIu64
                       "\"\nddb.geometry.heads = \"16\"\nddb.geometry.sectors = \"63\"\nddb.adapterType = \"ide\"\n",
                       (unsigned)le_get(cid, 4) & 0xfffffffe, kind, parts, sectors / 63 / 16);
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

/* `kind` NULL: a part, which has no descriptor of its own. */
static int write_sparse(struct file *f, const char *name, uint64_t sectors, const char *kind)
{
    struct layout l = lay_out(sectors);
    uint8_t h[VMDK_HEADER] = {0};
    char line[VMDK_LINE];
    bool stream = kind && strcmp(kind, "streamOptimized") == 0;
    AUTO_FREE char *text = calloc(1, TEXT_SECTORS * BLOCK_SECTOR);
    if (!text)
        return -ENOMEM;
    int len = snprintf(line, sizeof line, "RW %" PRIu64 " SPARSE \"%s\"\n", sectors, name);
    if (kind && (len >= (int)sizeof line || !write_text(text, TEXT_SECTORS * BLOCK_SECTOR, kind, line, sectors)))
        return -ENAMETOOLONG;
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

/* The part `name` of a disk: beside its descriptor. */
static int create_part(struct io_loop *l, const struct image_new *n, const char *name, bool flat, uint64_t bytes, struct error *err)
{
    AUTO_FREE char *path = image_backing_path(n->path, name);
    struct file *f;
    if (!path)
        return error_set(err, ENOMEM, "image '%s': out of memory; close other programs", n->path);
    if (file_create(l, "part of an image", path, n->replace, &f, err) < 0)
        return -1;
    int ret = flat ? file_truncate(f, bytes) : write_sparse(f, name, bytes / BLOCK_SECTOR, NULL);
    file_close(f);
    return ret;
}

/* A descriptor and parts of `most` bytes: disk-flat.vmdk, or disk-f001.vmdk, disk-s001.vmdk and so on. */
static int create_parts(struct io_loop *l, const struct image_new *n, struct file *f, const char *name, const char *kind, uint64_t most, struct error *err)
{
    size_t stem = strlen(name), at = 0;
    bool flat = strstr(kind, "Flat");
    AUTO_FREE char *lines = calloc(1, VMDK_DESCRIPTOR), *text = calloc(1, VMDK_DESCRIPTOR);
    if (!lines || !text)
        return -ENOMEM;
    stem -= stem > 5 && strcmp(name + stem - 5, ".vmdk") == 0 ? 5 : 0;
    for (uint64_t done = 0, bytes, i = 1; done < n->size; done += bytes, i++) {
        char number[8] = "flat";
        AUTO_FREE char *part = NULL;
        bytes = MIN(n->size - done, most);
        if (most < UINT64_MAX)
            snprintf(number, sizeof number, "%c%03u", flat ? 'f' : 's', (unsigned)i);
        if (asprintf(&part, "%.*s-%s.vmdk", (int)stem, name, number) < 0)
            return -ENOMEM;
        int ret = create_part(l, n, part, flat, bytes, err);
        if (ret < 0)
            return ret;
        at += (size_t)snprintf(lines + at, VMDK_DESCRIPTOR - at, "RW %" PRIu64 " %s \"%s\"%s\n", bytes / BLOCK_SECTOR, flat ? "FLAT" : "SPARSE", part, flat ? " 0" : "");
        if (at >= VMDK_DESCRIPTOR)
            return -ENAMETOOLONG;
    }
    size_t len = write_text(text, VMDK_DESCRIPTOR, kind, lines, n->size / BLOCK_SECTOR);
    return len ? file_write(f, 0, text, len) : -ENAMETOOLONG;
}

static const struct kind {
    const char *name;
    uint64_t part, size_max; /* bytes; part: of a part at most; 0: the disk is in the image's own file */
} kinds[] = {
    {"monolithicSparse", 0, 2048 * GIB},
    {"streamOptimized", 0, 2048 * GIB},
    {"monolithicFlat", UINT64_MAX, 2048 * 1024 * GIB},
    {"twoGbMaxExtentSparse", 2 * GIB, VMDK_PARTS * 2 * GIB},
    {"twoGbMaxExtentFlat", 2 * GIB, VMDK_PARTS * 2 * GIB},
};

int vmdk_create(struct io_loop *l, const struct image_new *n, struct error *err)
{
    const char *kind = "monolithicSparse", *slash = strrchr(n->path, '/'), *name = slash ? slash + 1 : n->path;
    struct file *f;
    for (unsigned i = 0; i < n->noptions; i++) {
        if (strcmp(n->options[i].name, "subformat") != 0)
            return image_bad_option(&n->options[i], "subformat", err);
        kind = n->options[i].value;
    }
    const struct kind *k = kinds;
    while (k < kinds + ARRAY_SIZE(kinds) && strcmp(k->name, kind) != 0)
        k++;
    if (k == kinds + ARRAY_SIZE(kinds))
        return error_set(err, 0, "option 'subformat': '%s' is none; give monolithicSparse, monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat or streamOptimized", kind);
    if (n->backing || !n->size || n->size > k->size_max || strchr(name, '"'))
        return error_set(err, 0, "image '%s': a VMDK image has no backing file here, %lluG at most, and no quotes in its name; use qcow2", n->path,
                         (unsigned long long)(k->size_max / GIB));
    if (file_create(l, "image", n->path, n->replace, &f, err) < 0)
        return -1;
    int ret = k->part ? create_parts(l, n, f, name, kind, k->part, err) : write_sparse(f, name, n->size / BLOCK_SECTOR, kind);
    file_close(f);
    if (ret < 0 && !error_is_set(err))
        return error_set(err, -ret, "image '%s': cannot be made: %s; check the disk that is to hold it", n->path, strerror(-ret));
    return ret < 0 ? -1 : 0;
}
