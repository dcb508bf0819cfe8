// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Storage pools of the type `dir`: a folder whose files are volumes. Nothing is remembered of a volume: it is what its file is, and
 * its format is what its name's suffix says (.qcow2, else raw), because the bytes of a disk are its guest's to write.
 *
 *     CONFIG/../storage/UUID.xml        the pool        CONFIG/../storage/UUID.autostart
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "block/image.h"
#include "daemon/storage.h"
#include "model/xml.h"

#define POOL_XML_MAX 65536u

static void free_pool(struct pool *p)
{
    if (!p)
        return;
    free(p->name);
    free(p->path);
    free(p);
}

/* ---- XML ---- */

static int pool_name(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct pool *)object)->name, err);
}

static int pool_path(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct pool *)object)->path, err);
}

static int pool_uuid(const struct xml_node *node, void *object, struct error *err)
{
    struct pool *p = object;
    AUTO_FREE char *text = xml_text(node);
    p->has_uuid = text && domain_parse_uuid(text, p->uuid) == 0;
    return p->has_uuid ? 0 : xml_error(node, err, "is not a UUID; write 32 hexadecimal digits");
}

static int pool_begin(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return xml_attr_only(node, "type", "dir", err);
}

static const struct xml_element target_children[] = {
    {"path", XML_TEXT | XML_REQUIRED, NULL, pool_path, NULL, NULL},
    {"permissions", XML_RAW, NULL, NULL, NULL, NULL},
    XML_END,
};
static const struct xml_element pool_children[] = {
    {"name", XML_TEXT | XML_REQUIRED, NULL, pool_name, NULL, NULL},
    {"uuid", XML_TEXT, NULL, pool_uuid, NULL, NULL},
    {"capacity", XML_TEXT, "unit", NULL, NULL, NULL}, /* what is there, not what is asked for */
    {"allocation", XML_TEXT, "unit", NULL, NULL, NULL},
    {"available", XML_TEXT, "unit", NULL, NULL, NULL},
    {"source", XML_RAW, NULL, NULL, NULL, NULL}, /* a folder has none; libvirt's output has an empty one */
    {"target", XML_REQUIRED, NULL, NULL, target_children, NULL},
    XML_END,
};
static const struct xml_element pool_element = {"pool", 0, "type!", pool_begin, pool_children, NULL};

struct pool *pool_parse(const char *xml, size_t len, struct error *err)
{
    struct pool *p = calloc(1, sizeof *p);
    if (!p || xml_parse(xml, len, "pool XML", "", &pool_element, p, err) < 0)
        goto fail;
    if (!p->name[0] || strpbrk(p->name, "/\n") || p->path[0] != '/' || strstr(p->path, "/../")) {
        error_set(err, VIR_ERR_XML_ERROR,
                  "pool '%s': the name or the path '%s' cannot be; give a name without slashes and an absolute path", p->name,
                  p->path);
        goto fail;
    }
    if (!p->has_uuid && getrandom(p->uuid, 16, 0) != 16)
        goto fail;
    return p;
fail:
    if (!error_is_set(err))
        error_set(err, VIR_ERR_NO_MEMORY, "pool: out of memory");
    error_code(err, VIR_ERR_XML_ERROR);
    free_pool(p);
    return NULL;
}

static void pool_space(const struct pool *p, uint64_t *capacity, uint64_t *available)
{
    struct statvfs fs;
    *capacity = *available = 0;
    if (statvfs(p->path, &fs) < 0)
        return;
    *capacity = (uint64_t)fs.f_blocks * fs.f_frsize;
    *available = (uint64_t)fs.f_bavail * fs.f_frsize;
}

char *pool_xml(const struct pool *p)
{
    char uuid[37], *text = NULL;
    size_t len;
    uint64_t capacity, available;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    pool_space(p, &capacity, &available);
    domain_format_uuid(p->uuid, uuid);
    fputs("<pool type='dir'>\n", f);
    xml_put_element(f, 2, "name", p->name);
    fprintf(f, "  <uuid>%s</uuid>\n  <capacity unit='bytes'>%llu</capacity>\n  <allocation unit='bytes'>%llu</allocation>\n", uuid,
            (unsigned long long)capacity, (unsigned long long)(capacity - available));
    fprintf(f, "  <available unit='bytes'>%llu</available>\n  <source>\n  </source>\n  <target>\n", (unsigned long long)available);
    xml_put_element(f, 4, "path", p->path);
    fputs("  </target>\n</pool>\n", f);
    fclose(f);
    return text;
}

/* ---- the list ---- */

struct pool_list {
    pthread_mutex_t lock; /* held for whole calls: they only look at folders */
    struct pool *first;
    char *dir;
};

void pools_lock(struct daemon *d)
{
    pthread_mutex_lock(&d->pools->lock);
}

void pools_unlock(struct daemon *d)
{
    pthread_mutex_unlock(&d->pools->lock);
}

struct pool *pools_first(struct daemon *d)
{
    return d->pools->first;
}

static char *pool_file(struct daemon *d, const struct pool *p, const char *suffix)
{
    char uuid[37], *path;
    domain_format_uuid(p->uuid, uuid);
    return asprintf(&path, "%s/%s%s", d->pools->dir, uuid, suffix) < 0 ? NULL : path;
}

int pool_save(struct daemon *d, const struct pool *p, struct error *err)
{
    AUTO_FREE char *path = pool_file(d, p, ".xml"), *xml = pool_xml(p);
    return path && xml ? store_write(path, xml, strlen(xml), err) : error_set(err, VIR_ERR_NO_MEMORY, "pool: out of memory");
}

int pool_save_autostart(struct daemon *d, struct pool *p, bool on, struct error *err)
{
    AUTO_FREE char *path = pool_file(d, p, ".autostart");
    if (!path)
        return error_set(err, VIR_ERR_NO_MEMORY, "pool: out of memory");
    if ((on ? store_write(path, "", 0, err) : store_remove(path, err)) < 0)
        return -1;
    p->autostart = on;
    return 0;
}

int pool_add(struct daemon *d, struct pool *p, struct pool **out, struct error *err)
{
    for (struct pool *o = d->pools->first; o; o = o->next) {
        bool same = memcmp(o->uuid, p->uuid, 16) == 0;
        if (same != (strcmp(o->name, p->name) == 0)) {
            error_set(err, VIR_ERR_OPERATION_FAILED, "pool '%s' already exists; give the new one another name and uuid", o->name);
            free_pool(p);
            return -1;
        }
        if (same) {
            free(o->path);
            o->path = steal_ptr(&p->path);
            free_pool(p);
            *out = o;
            return 0;
        }
    }
    p->next = d->pools->first;
    d->pools->first = p;
    *out = p;
    return 0;
}

int pool_remove(struct daemon *d, struct pool *p, struct error *err)
{
    AUTO_FREE char *path = pool_file(d, p, ".xml");
    if (!path || store_remove(path, err) < 0 || pool_save_autostart(d, p, false, err) < 0)
        return -1;
    for (struct pool **q = &d->pools->first; *q; q = &(*q)->next) {
        if (*q == p) {
            *q = p->next;
            break;
        }
    }
    free_pool(p);
    return 0;
}

static void load_pool(struct daemon *d, const char *name)
{
    ERROR_SCOPED(err);
    AUTO_FREE char *path = NULL, *xml = NULL;
    size_t len;
    if (asprintf(&path, "%s/%s", d->pools->dir, name) < 0)
        return;
    xml = store_read(path, POOL_XML_MAX, &len, &err);
    struct pool *p = xml ? pool_parse(xml, len, &err) : NULL;
    if (!p || pool_add(d, p, &p, &err) < 0) {
        log_error("pool file '%s': %s; the pool is left out until it is corrected", path, error_text(&err));
        return;
    }
    AUTO_FREE char *mark = pool_file(d, p, ".autostart");
    p->autostart = mark && access(mark, F_OK) == 0;
    p->active = p->autostart && access(p->path, F_OK) == 0;
}

/* The pool `default`, which clients look for: the images' folder. It is there without a file; a daemon starts without waiting for
 * the disk. */
static int add_default(struct daemon *d, struct error *err)
{
    struct pool *p = calloc(1, sizeof *p);
    for (const struct pool *o = d->pools->first; o; o = o->next) {
        if (strcmp(o->name, "default") == 0) {
            free(p);
            return 0;
        }
    }
    if (!p)
        return error_set(err, ENOMEM, "pool: out of memory");
    *p = (struct pool){.name = strdup("default"), .path = strdup(d->images_dir), .active = true};
    if (!p->name || !p->path) {
        free_pool(p);
        return error_set(err, ENOMEM, "pool: out of memory");
    }
    memcpy(p->uuid, d->host_uuid, 16);
    p->uuid[0] ^= 0xd0;
    p->autostart = true;
    return pool_add(d, p, &p, err);
}

int storage_open(struct daemon *d, struct error *err)
{
    d->pools = calloc(1, sizeof *d->pools);
    if (!d->pools || asprintf(&d->pools->dir, "%s/../storage", d->config_dir) < 0)
        return error_set(err, ENOMEM, "pools: out of memory");
    pthread_mutex_init(&d->pools->lock, NULL);
    if (store_make_dir(d->pools->dir, 0700, err) < 0)
        return -1;
    DIR *folder = opendir(d->pools->dir);
    if (!folder)
        return error_set(err, errno, "folder '%s': cannot read it: %s", d->pools->dir, strerror(errno));
    for (struct dirent *e; (e = readdir(folder));)
        if (strlen(e->d_name) == 40 && strcmp(e->d_name + 36, ".xml") == 0)
            load_pool(d, e->d_name);
    closedir(folder);
    return add_default(d, err);
}

/* ---- volumes ---- */

bool vol_name_ok(const char *name)
{
    return name[0] && name[0] != '.' && !strpbrk(name, "/\n") && strlen(name) < NAME_MAX;
}

const char *vol_format(const char *name)
{
    size_t n = strlen(name);
    return n > 6 && strcmp(name + n - 6, ".qcow2") == 0 ? "qcow2" : "raw";
}

char *vol_path(const struct pool *p, const char *name)
{
    char *path;
    return vol_name_ok(name) && asprintf(&path, "%s/%s", p->path, name) > 0 ? path : NULL;
}

int vol_stat(const struct pool *p, const char *name, struct vol *v, struct error *err)
{
    AUTO_FREE char *path = vol_path(p, name);
    struct stat st;
    if (!path || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
        return error_set(err, VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching name '%s'", name);
    *v = (struct vol){.capacity = (uint64_t)st.st_size, .allocation = (uint64_t)st.st_blocks * 512};
    if (strcmp(vol_format(name), "qcow2") == 0) {
        struct io_loop *loop = NULL;
        struct image *im = NULL;
        const struct image_options o = {.path = path, .format = "qcow2", .readonly = true, .no_backing = true, .what = "volume"};
        if (io_loop_create(BLOCK_ENGINE_THREADS, &loop, NULL) == 0 && image_open(loop, &o, &im, NULL) == 0)
            v->capacity = im->size;
        if (im)
            image_close(im);
        if (loop)
            io_loop_free(loop);
    }
    return 0;
}

static int vol_take_name(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct vol_new *)object)->name, err);
}

static int take_size(const struct xml_node *node, uint64_t *bytes, struct error *err)
{
    const char *unit = xml_attr(node, "unit");
    AUTO_FREE char *text = xml_text(node), *whole = NULL;
    if (!text || asprintf(&whole, "%s%s", text, unit ? unit : "b") < 0 || domain_parse_size(whole, 1, bytes) < 0)
        return xml_error(node, err, "is not an amount; write a number, and a unit such as 'GiB'");
    return 0;
}

static int vol_capacity(const struct xml_node *node, void *object, struct error *err)
{
    return take_size(node, &((struct vol_new *)object)->capacity, err);
}

static int vol_allocation(const struct xml_node *node, void *object, struct error *err)
{
    return take_size(node, &((struct vol_new *)object)->allocation, err);
}

static int vol_take_format(const struct xml_node *node, void *object, struct error *err)
{
    int i = xml_attr_word(node, "type", (const char *const[]){"raw", "qcow2", NULL}, 0, err);
    ((struct vol_new *)object)->qcow2 = i == 1;
    return i < 0 ? -1 : 0;
}

static int vol_backing_path(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_text(node, &((struct vol_new *)object)->backing, err);
}

static int vol_backing_format(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "type", &((struct vol_new *)object)->backing_format, err);
}

static const struct xml_element vol_target[] = {
    {"path", XML_TEXT, NULL, NULL, NULL, NULL}, /* follows from the name */
    {"format", 0, "type!", vol_take_format, NULL, NULL}, {"permissions", XML_RAW, NULL, NULL, NULL, NULL},
    {"timestamps", XML_RAW, NULL, NULL, NULL, NULL},     {"compat", XML_TEXT, NULL, NULL, NULL, NULL},
    {"features", XML_RAW, NULL, NULL, NULL, NULL},       XML_END,
};
static const struct xml_element vol_backing[] = {
    {"path", XML_TEXT, NULL, vol_backing_path, NULL, NULL},
    {"format", 0, "type!", vol_backing_format, NULL, NULL},
    {"permissions", XML_RAW, NULL, NULL, NULL, NULL},
    {"timestamps", XML_RAW, NULL, NULL, NULL, NULL},
    XML_END,
};
static const struct xml_element vol_children[] = {
    {"name", XML_TEXT | XML_REQUIRED, NULL, vol_take_name, NULL, NULL},
    {"key", XML_TEXT, NULL, NULL, NULL, NULL},
    {"source", XML_RAW, NULL, NULL, NULL, NULL},
    {"capacity", XML_TEXT, "unit", vol_capacity, NULL, NULL},
    {"allocation", XML_TEXT, "unit", vol_allocation, NULL, NULL},
    {"physical", XML_TEXT, "unit", NULL, NULL, NULL},
    {"target", 0, NULL, NULL, vol_target, NULL},
    {"backingStore", 0, NULL, NULL, vol_backing, NULL},
    XML_END,
};
static const struct xml_element vol_element = {"volume", 0, "type", NULL, vol_children, NULL};

void vol_new_free(struct vol_new *v)
{
    free(v->name);
    free(v->backing);
    free(v->backing_format);
    *v = (struct vol_new){0};
}

int vol_parse(const char *xml, struct vol_new *v, struct error *err)
{
    if (xml_parse(xml, strlen(xml), "volume XML", "", &vol_element, v, err) < 0)
        return error_code(err, VIR_ERR_XML_ERROR);
    if (!vol_name_ok(v->name))
        return error_set(err, VIR_ERR_INVALID_ARG,
                         "volume '%s': cannot be a file's name; give one without slashes and without a dot at the front", v->name);
    if (v->qcow2 != (strcmp(vol_format(v->name), "qcow2") == 0))
        return error_set(err, VIR_ERR_INVALID_ARG,
                         "volume '%s': a volume's format is known by its name; end it in .qcow2 for qcow2, and only then", v->name);
    return 0;
}

static int create_raw(const char *path, const struct vol_new *v, struct error *err)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return error_set(err, errno == EEXIST ? VIR_ERR_STORAGE_VOL_EXIST : VIR_ERR_SYSTEM_ERROR,
                         "volume '%s': cannot create it: %s", path, strerror(errno));
    int r = ftruncate(fd, (off_t)v->capacity) < 0 ? errno : 0;
    if (r == 0 && v->allocation)
        r = posix_fallocate(fd, 0, (off_t)MIN(v->allocation, v->capacity));
    if (r == 0)
        return 0;
    unlink(path);
    return error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot give it its size: %s; free some space", path, strerror(r));
}

int vol_create(const struct pool *p, const struct vol_new *v, struct error *err)
{
    AUTO_FREE char *path = vol_path(p, v->name);
    struct io_loop *loop = NULL;
    if (!path)
        return error_set(err, VIR_ERR_NO_MEMORY, "volume: out of memory");
    if (!v->qcow2)
        return v->backing ? error_set(err, VIR_ERR_INVALID_ARG, "volume '%s': a raw volume has no backing; use qcow2", v->name)
                          : create_raw(path, v, err);
    if (access(path, F_OK) == 0)
        return error_set(err, VIR_ERR_STORAGE_VOL_EXIST, "volume '%s': it exists already", path);
    const struct image_new n = {
        .path = path, .size = v->capacity, .backing = v->backing, .backing_format = v->backing ? v->backing_format : NULL};
    if (io_loop_create(BLOCK_ENGINE_THREADS, &loop, err) < 0)
        return error_code(err, VIR_ERR_SYSTEM_ERROR);
    int result = image_create_new(loop, "qcow2", &n, err);
    io_loop_free(loop);
    return result < 0 ? error_code(err, VIR_ERR_OPERATION_FAILED) : 0;
}

/* A whole copy of the file; where the file system can, its blocks are shared or its holes stay. */
int vol_copy(const struct pool *p, const char *from, const struct vol_new *v, struct error *err)
{
    AUTO_FREE char *to = vol_path(p, v->name);
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int out = to ? open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    struct stat st;
    if (in < 0 || out < 0 || fstat(in, &st) < 0)
        return error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot copy '%s' to it: %s", v->name, from, strerror(errno));
    off_t at = 0;
    int failed = ftruncate(out, st.st_size);
    while (!failed && at < st.st_size) {
        off_t data = lseek(in, at, SEEK_DATA), hole = data < 0 ? -1 : lseek(in, data, SEEK_HOLE);
        if (data < 0) /* ENXIO: a hole up to the end */
            break;
        loff_t source = data, target = data;
        while (!failed && source < hole)
            failed = copy_file_range(in, &source, out, &target, (size_t)(hole - source), 0) <= 0;
        at = hole;
    }
    if (!failed && fsync(out) == 0)
        return 0;
    error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': copying fails: %s; free some space", v->name, strerror(errno));
    unlink(to);
    return -1;
}

static int resize_image(const char *path, const char *name, uint64_t size, bool shrink, struct error *err)
{
    const struct image_options o = {.path = path, .format = vol_format(name), .no_backing = true, .what = "volume"};
    struct io_loop *loop = NULL;
    struct image *im = NULL;
    if (io_loop_create(BLOCK_ENGINE_THREADS, &loop, err) < 0)
        return error_code(err, VIR_ERR_SYSTEM_ERROR);
    int result = image_open(loop, &o, &im, err);
    if (result == 0)
        result = image_resize_to(im, size, shrink, err);
    int closed = im ? image_close(im) : 0;
    if (result == 0 && closed < 0)
        result = error_set(err, -closed, "volume '%s': cannot be written: %s; see to the disk", name, strerror(-closed));
    io_loop_free(loop);
    return result < 0 ? error_code(err, VIR_ERR_OPERATION_FAILED) : 0;
}

int vol_resize(const struct pool *p, const char *name, uint64_t size, bool shrink, bool allocate, struct error *err)
{
    AUTO_FREE char *path = vol_path(p, name);
    struct stat st;
    if (!path)
        return error_set(err, VIR_ERR_NO_MEMORY, "volume '%s': out of memory", name);
    bool raw = strcmp(vol_format(name), "raw") == 0;
    if (allocate && !raw)
        return error_set(err, VIR_ERR_ARGUMENT_UNSUPPORTED,
                         "volume '%s': the clusters of a qcow2 image are allocated when they are written; leave --allocate out",
                         name);
    if (resize_image(path, name, size, shrink, err) < 0)
        return -1;
    AUTO_CLOSE int fd = allocate ? open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW) : -1;
    if (!allocate)
        return 0;
    int r = fd < 0 || fstat(fd, &st) < 0 ? errno : posix_fallocate(fd, 0, st.st_size);
    return r ? error_set(err, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot take its space: %s; free some", name, strerror(r)) : 0;
}
