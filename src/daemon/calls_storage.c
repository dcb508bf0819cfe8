// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls about storage pools and volumes. A call holds the pools' lock for its whole run. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/util.h"
#include "daemon/server.h"
#include "daemon/storage.h"
#include "daemon/transfer.h"
#include "model/xml.h"

#define MAX_VOLUMES 16384u

static struct pool *find_pool(struct call *c, const struct remote_nonnull_storage_pool *ref)
{
    for (struct pool *p = pools_first(c->daemon); p; p = p->next)
        if (memcmp(p->uuid, ref->uuid, 16) == 0)
            return p;
    call_fail(c, VIR_ERR_NO_STORAGE_POOL, "Storage pool not found: no storage pool with matching uuid (%s)", ref->name);
    return NULL;
}

static struct pool *find_named(struct call *c, const char *name)
{
    for (struct pool *p = pools_first(c->daemon); p; p = p->next)
        if (strcmp(p->name, name) == 0)
            return p;
    call_fail(c, VIR_ERR_NO_STORAGE_POOL, "Storage pool not found: no storage pool with matching name '%s'", name);
    return NULL;
}

static struct pool *need_active(struct call *c, struct pool *p)
{
    if (p && !p->active)
        call_fail(c, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is not active; start it", p->name);
    return p && p->active ? p : NULL;
}

static int set_pool(struct call *c, struct remote_nonnull_storage_pool *ref, const struct pool *p)
{
    if (!p)
        return -1;
    ref->name = call_string(c, p->name);
    memcpy(ref->uuid, p->uuid, 16);
    return ref->name ? 0 : -1;
}

static int set_vol(struct call *c, struct remote_nonnull_storage_vol *ref, const struct pool *p, const char *name)
{
    *ref = (struct remote_nonnull_storage_vol){call_string(c, p->name), call_string(c, name),
                                               arena_printf(&c->arena, "%s/%s", p->path, name)};
    return ref->pool && ref->name && ref->key ? 0 : -1;
}

/* ---- pools ---- */

static int list_all_pools(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_list_all_storage_pools_args *a = args;
    struct remote_connect_list_all_storage_pools_ret *r = ret;
    unsigned n = 0, f = a->flags;
    for (struct pool *p = pools_first(c->daemon); p; p = p->next)
        n++;
    r->pools.val = arena_alloc(&c->arena, (n + 1) * sizeof *r->pools.val);
    for (struct pool *p = pools_first(c->daemon); p && r->pools.val; p = p->next) {
        unsigned states = VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE | VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE;
        unsigned starts = VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART | VIR_CONNECT_LIST_STORAGE_POOLS_NO_AUTOSTART;
        unsigned kept = VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT | VIR_CONNECT_LIST_STORAGE_POOLS_TRANSIENT;
        unsigned types = ~(states | starts | kept);
        if (((f & states) &&
             !(f & (p->active ? VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE : VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE))) ||
            ((f & starts) &&
             !(f & (p->autostart ? VIR_CONNECT_LIST_STORAGE_POOLS_AUTOSTART : VIR_CONNECT_LIST_STORAGE_POOLS_NO_AUTOSTART))) ||
            ((f & kept) && !(f & VIR_CONNECT_LIST_STORAGE_POOLS_PERSISTENT)) ||
            ((f & types) && !(f & VIR_CONNECT_LIST_STORAGE_POOLS_DIR)))
            continue;
        r->ret++;
        if (a->need_results && set_pool(c, &r->pools.val[r->pools.len++], p) < 0)
            return -1;
    }
    return r->pools.val ? 0 : -1;
}

static int pool_by_name(struct call *c, const void *args, void *ret)
{
    return set_pool(c, &((struct remote_storage_pool_lookup_by_name_ret *)ret)->pool,
                    find_named(c, ((const struct remote_storage_pool_lookup_by_name_args *)args)->name));
}

static int pool_by_uuid(struct call *c, const void *args, void *ret)
{
    struct remote_nonnull_storage_pool ref = {.name = (char *)"?"};
    memcpy(ref.uuid, ((const struct remote_storage_pool_lookup_by_uuid_args *)args)->uuid, 16);
    return set_pool(c, &((struct remote_storage_pool_lookup_by_uuid_ret *)ret)->pool, find_pool(c, &ref));
}

static int pool_by_volume(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_lookup_by_volume_args *a = args;
    return set_pool(c, &((struct remote_storage_pool_lookup_by_volume_ret *)ret)->pool, find_named(c, a->vol.pool));
}

static int pool_by_path(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_lookup_by_target_path_args *a = args;
    for (struct pool *p = pools_first(c->daemon); p; p = p->next)
        if (p->active && strcmp(p->path, a->path) == 0)
            return set_pool(c, &((struct remote_storage_pool_lookup_by_target_path_ret *)ret)->pool, p);
    return call_fail(c, VIR_ERR_NO_STORAGE_POOL, "Storage pool not found: no storage pool with matching target path '%s'", a->path);
}

static int pool_define(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_define_xml_args *a = args;
    struct pool *p = pool_parse(a->xml, strlen(a->xml), &c->err);
    if (!p || pool_add(c->daemon, p, &p, &c->err) < 0 || pool_save(c->daemon, p, &c->err) < 0)
        return -1;
    return set_pool(c, &((struct remote_storage_pool_define_xml_ret *)ret)->pool, p);
}

/* libvirt's transient pools are defined and started here, and stay. */
static int pool_create_xml(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_create_xml_args *a = args;
    struct pool *p = pool_parse(a->xml, strlen(a->xml), &c->err);
    if (!p || pool_add(c->daemon, p, &p, &c->err) < 0 || pool_save(c->daemon, p, &c->err) < 0)
        return -1;
    p->active = true;
    return set_pool(c, &((struct remote_storage_pool_create_xml_ret *)ret)->pool, p);
}

/* Calls whose only argument of interest is the pool. */
struct one_pool {
    struct remote_nonnull_storage_pool pool;
};

static struct pool *arg_pool(struct call *c, const void *args)
{
    return find_pool(c, &((const struct one_pool *)args)->pool);
}

static int pool_start(struct call *c, const void *args, void *ret)
{
    struct pool *p = arg_pool(c, args);
    struct stat st;
    (void)ret;
    if (!p)
        return -1;
    if (p->active)
        return call_fail(c, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is already active", p->name);
    if (stat(p->path, &st) < 0 || !S_ISDIR(st.st_mode))
        return call_fail(c, VIR_ERR_SYSTEM_ERROR, "storage pool '%s': '%s' is no folder; build the pool", p->name, p->path);
    p->active = true;
    return 0;
}

static int pool_build(struct call *c, const void *args, void *ret)
{
    const struct pool *p = arg_pool(c, args);
    (void)ret;
    return p ? store_make_dir(p->path, 0711, &c->err) : -1;
}

static int pool_stop(struct call *c, const void *args, void *ret)
{
    struct pool *p = need_active(c, arg_pool(c, args));
    (void)ret;
    if (p)
        p->active = false;
    return p ? 0 : -1;
}

static int pool_undefine(struct call *c, const void *args, void *ret)
{
    struct pool *p = arg_pool(c, args);
    (void)ret;
    if (p && p->active)
        return call_fail(c, VIR_ERR_OPERATION_INVALID, "storage pool '%s' is still active; destroy it first", p->name);
    return p ? pool_remove(c->daemon, p, &c->err) : -1;
}

static int pool_refresh(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return need_active(c, arg_pool(c, args)) ? 0 : -1; /* a folder is read at each call */
}

static int pool_info(struct call *c, const void *args, void *ret)
{
    struct remote_storage_pool_get_info_ret *r = ret;
    const struct pool *p = arg_pool(c, args);
    struct statvfs fs;
    if (!p)
        return -1;
    r->state = p->active ? VIR_STORAGE_POOL_RUNNING : VIR_STORAGE_POOL_INACTIVE;
    if (statvfs(p->path, &fs) == 0) {
        r->capacity = (uint64_t)fs.f_blocks * fs.f_frsize;
        r->available = (uint64_t)fs.f_bavail * fs.f_frsize;
        r->allocation = r->capacity - r->available;
    }
    return 0;
}

static int pool_get_xml(struct call *c, const void *args, void *ret)
{
    const struct pool *p = arg_pool(c, args);
    AUTO_FREE char *xml = p ? pool_xml(p) : NULL;
    ((struct remote_storage_pool_get_xml_desc_ret *)ret)->xml = call_string(c, xml);
    return xml ? 0 : -1;
}

static int pool_get_autostart(struct call *c, const void *args, void *ret)
{
    const struct pool *p = arg_pool(c, args);
    ((struct remote_storage_pool_get_autostart_ret *)ret)->autostart = p && p->autostart;
    return p ? 0 : -1;
}

static int pool_set_autostart(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_set_autostart_args *a = args;
    struct pool *p = find_pool(c, &a->pool);
    (void)ret;
    return p ? pool_save_autostart(c->daemon, p, a->autostart, &c->err) : -1;
}

static int pool_is_active(struct call *c, const void *args, void *ret)
{
    const struct pool *p = arg_pool(c, args);
    ((struct remote_storage_pool_is_active_ret *)ret)->active = p && p->active;
    return p ? 0 : -1;
}

static int pool_is_persistent(struct call *c, const void *args, void *ret)
{
    const struct pool *p = arg_pool(c, args);
    ((struct remote_storage_pool_is_persistent_ret *)ret)->persistent = 1;
    return p ? 0 : -1;
}

/* ---- volumes ---- */

/* Calls fn for each volume until it fails. */
static int each_volume(struct call *c, const struct pool *p,
                       int (*fn)(struct call *c, const struct pool *p, const char *name, void *arg), void *arg)
{
    DIR *folder = opendir(p->path);
    unsigned n = 0;
    int result = 0;
    if (!folder)
        return call_fail(c, VIR_ERR_SYSTEM_ERROR, "storage pool '%s': cannot read '%s': %s", p->name, p->path, strerror(errno));
    for (struct dirent *e; result == 0 && (e = readdir(folder)) && n < MAX_VOLUMES;) {
        if ((e->d_type != DT_REG && e->d_type != DT_UNKNOWN) || !vol_name_ok(e->d_name))
            continue;
        n++;
        result = fn(c, p, e->d_name, arg);
    }
    closedir(folder);
    return result;
}

static int count_volume(struct call *c, const struct pool *p, const char *name, void *arg)
{
    (void)c;
    (void)p;
    (void)name;
    ++*(unsigned *)arg;
    return 0;
}

static int add_volume(struct call *c, const struct pool *p, const char *name, void *arg)
{
    struct remote_storage_pool_list_all_volumes_ret *r = arg;
    return r->vols.len < r->ret ? set_vol(c, &r->vols.val[r->vols.len++], p, name) : 0;
}

static int list_all_volumes(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_pool_list_all_volumes_args *a = args;
    struct remote_storage_pool_list_all_volumes_ret *r = ret;
    struct pool *p = need_active(c, find_pool(c, &a->pool));
    if (!p || each_volume(c, p, count_volume, &r->ret) < 0)
        return -1;
    if (!a->need_results)
        return 0;
    r->vols.val = arena_alloc(&c->arena, (r->ret + 1) * sizeof *r->vols.val);
    int result = r->vols.val ? each_volume(c, p, add_volume, r) : -1;
    r->ret = r->vols.len;
    return result;
}

static int num_of_volumes(struct call *c, const void *args, void *ret)
{
    struct pool *p = need_active(c, arg_pool(c, args));
    unsigned n = 0;
    int result = p ? each_volume(c, p, count_volume, &n) : -1;
    ((struct remote_storage_pool_num_of_volumes_ret *)ret)->num = (int)n;
    return result;
}

static int add_name(struct call *c, const struct pool *p, const char *name, void *arg)
{
    struct remote_storage_pool_list_volumes_ret *r = arg;
    (void)p;
    r->names.val[r->names.len] = call_string(c, name);
    return r->names.val[r->names.len++] ? 0 : -1;
}

static int list_volumes(struct call *c, const void *args, void *ret)
{
    struct remote_storage_pool_list_volumes_ret *r = ret;
    struct pool *p = need_active(c, arg_pool(c, args));
    r->names.val = arena_alloc(&c->arena, MAX_VOLUMES * sizeof *r->names.val);
    return p && r->names.val ? each_volume(c, p, add_name, r) : -1;
}

static int vol_by_name(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_lookup_by_name_args *a = args;
    struct pool *p = need_active(c, find_pool(c, &a->pool));
    struct vol v;
    if (!p || vol_stat(p, a->name, &v, &c->err) < 0)
        return -1;
    return set_vol(c, &((struct remote_storage_vol_lookup_by_name_ret *)ret)->vol, p, a->name);
}

static int by_path(struct call *c, const char *path, struct remote_nonnull_storage_vol *ref)
{
    const char *slash = strrchr(path, '/');
    struct vol v;
    for (struct pool *p = pools_first(c->daemon); p && slash; p = p->next) {
        AUTO_FREE char *folder = strndup(path, (size_t)(slash - path));
        if (p->active && folder && strcmp(folder, p->path) == 0 && vol_stat(p, slash + 1, &v, NULL) == 0)
            return set_vol(c, ref, p, slash + 1);
    }
    return call_fail(c, VIR_ERR_NO_STORAGE_VOL, "Storage volume not found: no storage vol with matching path '%s'", path);
}

static int vol_by_path(struct call *c, const void *args, void *ret)
{
    return by_path(c, ((const struct remote_storage_vol_lookup_by_path_args *)args)->path,
                   &((struct remote_storage_vol_lookup_by_path_ret *)ret)->vol);
}

static int vol_by_key(struct call *c, const void *args, void *ret)
{
    return by_path(c, ((const struct remote_storage_vol_lookup_by_key_args *)args)->key,
                   &((struct remote_storage_vol_lookup_by_key_ret *)ret)->vol);
}

struct one_vol {
    struct remote_nonnull_storage_vol vol;
};

/* The pool and what the file is. */
static struct pool *arg_vol(struct call *c, const void *args, struct vol *v)
{
    const struct one_vol *a = args;
    struct pool *p = need_active(c, find_named(c, a->vol.pool));
    return p && vol_stat(p, a->vol.name, v, &c->err) == 0 ? p : NULL;
}

static int vol_info(struct call *c, const void *args, void *ret)
{
    struct vol v;
    if (!arg_vol(c, args, &v))
        return -1;
    *(struct remote_storage_vol_get_info_ret *)ret =
        (struct remote_storage_vol_get_info_ret){VIR_STORAGE_VOL_FILE, v.capacity, v.allocation};
    return 0;
}

static int vol_get_path(struct call *c, const void *args, void *ret)
{
    struct vol v;
    const struct pool *p = arg_vol(c, args, &v);
    if (!p)
        return -1;
    ((struct remote_storage_vol_get_path_ret *)ret)->name =
        arena_printf(&c->arena, "%s/%s", p->path, ((const struct one_vol *)args)->vol.name);
    return 0;
}

static int vol_get_xml(struct call *c, const void *args, void *ret)
{
    const char *name = ((const struct one_vol *)args)->vol.name;
    struct vol v;
    const struct pool *p = arg_vol(c, args, &v);
    AUTO_FREE char *path = p ? vol_path(p, name) : NULL, *text = NULL;
    size_t len;
    FILE *f = path ? open_memstream(&text, &len) : NULL;
    if (!f)
        return -1;
    fputs("<volume type='file'>\n", f);
    xml_put_element(f, 2, "name", name);
    xml_put_element(f, 2, "key", path);
    fprintf(f, "  <capacity unit='bytes'>%llu</capacity>\n  <allocation unit='bytes'>%llu</allocation>\n  <target>\n",
            (unsigned long long)v.capacity, (unsigned long long)v.allocation);
    xml_put_element(f, 4, "path", path);
    fprintf(f, "    <format type='%s'/>\n  </target>\n</volume>\n", vol_format(name));
    fclose(f);
    ((struct remote_storage_vol_get_xml_desc_ret *)ret)->xml = call_string(c, text);
    return 0;
}

static int vol_create_xml(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_create_xml_args *a = args;
    struct vol_new v __attribute__((cleanup(vol_new_free))) = {0};
    struct pool *p = need_active(c, find_pool(c, &a->pool));
    if (!p || vol_parse(a->xml, &v, &c->err) < 0 || vol_create(p, &v, &c->err) < 0)
        return -1;
    return set_vol(c, &((struct remote_storage_vol_create_xml_ret *)ret)->vol, p, v.name);
}

static int vol_create_from(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_create_xml_from_args *a = args;
    struct vol_new v __attribute__((cleanup(vol_new_free))) = {0};
    struct pool *p = need_active(c, find_pool(c, &a->pool)), *source = p ? need_active(c, find_named(c, a->clonevol.pool)) : NULL;
    AUTO_FREE char *from = source ? vol_path(source, a->clonevol.name) : NULL;
    if (!from || vol_parse(a->xml, &v, &c->err) < 0)
        return -1;
    if (strcmp(vol_format(a->clonevol.name), vol_format(v.name)) != 0)
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "volume '%s': a copy has the format of '%s'; give it the same suffix",
                         v.name, a->clonevol.name);
    if (vol_copy(p, from, &v, &c->err) < 0)
        return -1;
    return set_vol(c, &((struct remote_storage_vol_create_xml_from_ret *)ret)->vol, p, v.name);
}

static int vol_delete(struct call *c, const void *args, void *ret)
{
    struct vol v;
    const struct pool *p = arg_vol(c, args, &v);
    AUTO_FREE char *path = p ? vol_path(p, ((const struct one_vol *)args)->vol.name) : NULL;
    (void)ret;
    if (!path)
        return -1;
    return unlink(path) == 0 ? 0 : call_fail(c, VIR_ERR_SYSTEM_ERROR, "volume '%s': cannot remove it: %s", path, strerror(errno));
}

static int vol_resize_call(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_resize_args *a = args;
    const unsigned known = VIR_STORAGE_VOL_RESIZE_ALLOCATE | VIR_STORAGE_VOL_RESIZE_DELTA | VIR_STORAGE_VOL_RESIZE_SHRINK;
    bool shrink = a->flags & VIR_STORAGE_VOL_RESIZE_SHRINK;
    struct vol v;
    const struct pool *p = arg_vol(c, args, &v);
    uint64_t size = a->capacity;
    (void)ret;
    if (!p)
        return -1;
    if (a->flags & ~known)
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "volume '%s': flags 0x%x of a resize are not supported", a->vol.name,
                         a->flags);
    if (a->flags & VIR_STORAGE_VOL_RESIZE_DELTA) {
        if (shrink ? size > v.capacity : size > INT64_MAX - v.capacity)
            return call_fail(c, VIR_ERR_INVALID_ARG, "volume '%s': cannot be changed by %llu bytes; it has %llu", a->vol.name,
                             (unsigned long long)size, (unsigned long long)v.capacity);
        size = shrink ? v.capacity - size : v.capacity + size;
    }
    if (size < v.capacity && !shrink)
        return call_fail(c, VIR_ERR_INVALID_ARG, "volume '%s': would lose its end; say --shrink if that is wanted", a->vol.name);
    return vol_resize(p, a->vol.name, size, shrink, a->flags & VIR_STORAGE_VOL_RESIZE_ALLOCATE, &c->err);
}

static int vol_transfer(struct call *c, const struct remote_nonnull_storage_vol *vol, struct transfer_config cfg, unsigned flags)
{
    struct transfer *t;
    AUTO_CLOSE int fd = -1;
    struct vol v;
    const struct pool *p = arg_vol(c, vol, &v);
    AUTO_FREE char *path = p ? vol_path(p, vol->name) : NULL;
    if (!path)
        return -1;
    if (flags) /* of both calls, sparse streams are the only one */
        return call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "volume '%s': sparse streams are not supported; leave --sparse out",
                         vol->name);
    cfg.path = path;
    cfg.running = &c->daemon->transfers;
    if (transfer_start(&cfg, &fd, &t, &c->err) < 0)
        return -1;
    if (stream_open_transfer(c, &fd, t) == 0)
        return 0;
    transfer_unref(t);
    return -1;
}

static int vol_upload(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_upload_args *a = args;
    (void)ret;
    return vol_transfer(c, &a->vol, (struct transfer_config){.upload = true, .offset = a->offset, .length = a->length}, a->flags);
}

static int vol_download(struct call *c, const void *args, void *ret)
{
    const struct remote_storage_vol_download_args *a = args;
    (void)ret;
    return vol_transfer(c, &a->vol, (struct transfer_config){.offset = a->offset, .length = a->length}, a->flags);
}

/* ---- the table: each under the lock ---- */

#define STORAGE_CALLS(X)                                \
    X(CONNECT_LIST_ALL_STORAGE_POOLS, list_all_pools)   \
    X(STORAGE_POOL_LOOKUP_BY_NAME, pool_by_name)        \
    X(STORAGE_POOL_LOOKUP_BY_UUID, pool_by_uuid)        \
    X(STORAGE_POOL_LOOKUP_BY_VOLUME, pool_by_volume)    \
    X(STORAGE_POOL_LOOKUP_BY_TARGET_PATH, pool_by_path) \
    X(STORAGE_POOL_DEFINE_XML, pool_define)             \
    X(STORAGE_POOL_CREATE_XML, pool_create_xml)         \
    X(STORAGE_POOL_CREATE, pool_start)                  \
    X(STORAGE_POOL_BUILD, pool_build)                   \
    X(STORAGE_POOL_DESTROY, pool_stop)                  \
    X(STORAGE_POOL_UNDEFINE, pool_undefine)             \
    X(STORAGE_POOL_REFRESH, pool_refresh)               \
    X(STORAGE_POOL_GET_INFO, pool_info)                 \
    X(STORAGE_POOL_GET_XML_DESC, pool_get_xml)          \
    X(STORAGE_POOL_GET_AUTOSTART, pool_get_autostart)   \
    X(STORAGE_POOL_SET_AUTOSTART, pool_set_autostart)   \
    X(STORAGE_POOL_IS_ACTIVE, pool_is_active)           \
    X(STORAGE_POOL_IS_PERSISTENT, pool_is_persistent)   \
    X(STORAGE_POOL_NUM_OF_VOLUMES, num_of_volumes)      \
    X(STORAGE_POOL_LIST_VOLUMES, list_volumes)          \
    X(STORAGE_POOL_LIST_ALL_VOLUMES, list_all_volumes)  \
    X(STORAGE_VOL_LOOKUP_BY_NAME, vol_by_name)          \
    X(STORAGE_VOL_LOOKUP_BY_PATH, vol_by_path)          \
    X(STORAGE_VOL_LOOKUP_BY_KEY, vol_by_key)            \
    X(STORAGE_VOL_GET_INFO, vol_info)                   \
    X(STORAGE_VOL_GET_INFO_FLAGS, vol_info)             \
    X(STORAGE_VOL_GET_PATH, vol_get_path)               \
    X(STORAGE_VOL_GET_XML_DESC, vol_get_xml)            \
    X(STORAGE_VOL_CREATE_XML, vol_create_xml)           \
    X(STORAGE_VOL_CREATE_XML_FROM, vol_create_from)     \
    X(STORAGE_VOL_DELETE, vol_delete)                   \
    X(STORAGE_VOL_RESIZE, vol_resize_call)              \
    X(STORAGE_VOL_UPLOAD, vol_upload)                   \
    X(STORAGE_VOL_DOWNLOAD, vol_download)

#define LOCKED(proc, fn)                                                         \
    static int locked_##fn##_##proc(struct call *c, const void *args, void *ret) \
    {                                                                            \
        pools_lock(c->daemon);                                                   \
        int result = fn(c, args, ret);                                           \
        pools_unlock(c->daemon);                                                 \
        return result;                                                           \
    }
STORAGE_CALLS(LOCKED)

#define ROW(proc, fn) {REMOTE_PROC_##proc, locked_##fn##_##proc, false},
const struct handler storage_handlers[] = {STORAGE_CALLS(ROW){0, NULL, false}};
