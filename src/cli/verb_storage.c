// SPDX-License-Identifier: GPL-2.0-or-later
/* Verbs for storage pools and their volumes. Where no pool is named, it is `default`. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/util.h"
#include "cli/manage.h"
#include "model/domain.h"
#include "model/xml.h"

/* ---- pools ---- */

static const char *pool_state(int state)
{
    static const char *const names[] = {"inactive", "building", "running", "degraded", "inaccessible"};
    return state >= 0 && state < (int)ARRAY_SIZE(names) ? names[state] : "unknown";
}

const char *manage_xml_text(const char *xml, const char *const names[], const char *attr, struct arena *kept)
{
    struct xml_doc *doc = xml_doc_parse(xml, strlen(xml), NULL);
    const struct xml_node *node = doc ? xml_doc_root(doc) : NULL;
    for (; node && *names; names++)
        node = manage_xml_child(node, *names);
    AUTO_FREE char *text = node && !attr ? xml_text(node) : NULL;
    const char *value = attr ? node ? xml_attr(node, attr) : NULL : text;
    char *copy = value ? arena_strdup(kept, value) : NULL;
    if (doc)
        xml_doc_free(doc);
    return copy;
}

static json_t *pool_row(struct session *s, const struct remote_nonnull_storage_pool *pool)
{
    const struct remote_storage_pool_get_info_args args = {.pool = *pool};
    const struct remote_storage_pool_get_xml_desc_args xml_args = {.pool = *pool};
    const struct remote_storage_pool_get_autostart_args autostart = {.pool = *pool};
    struct remote_storage_pool_get_info_ret info;
    struct remote_storage_pool_get_xml_desc_ret xml;
    struct remote_storage_pool_get_autostart_ret starts;
    ARENA_SCOPED(kept);
    char uuid[37];
    if (client_storage_pool_get_info(s->c, &args, &info, NULL) < 0)
        return NULL; /* gone since */
    bool has_start = client_storage_pool_get_autostart(s->c, &autostart, &starts, NULL) == 0;
    const char *path = client_storage_pool_get_xml_desc(s->c, &xml_args, &xml, NULL) == 0
                           ? manage_xml_text(xml.xml, (const char *const[]){"target", "path", NULL}, NULL, &kept)
                           : NULL;
    domain_format_uuid(pool->uuid, uuid);
    return json_pack("{so ss ss so sI sI sI so}", "name", sheet_text(pool->name), "uuid", uuid, "state", pool_state(info.state),
                     "autostart", has_start ? json_boolean(starts.autostart) : json_null(), "capacity", (json_int_t)info.capacity,
                     "allocation", (json_int_t)info.allocation, "available", (json_int_t)info.available, "path", sheet_text(path));
}

int manage_pool_list(struct session *s, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"name", "name", COLUMN_TEXT},
                                            {"state", "state", COLUMN_TEXT},
                                            {"autostart", "autostart", COLUMN_FLAG},
                                            {"capacity", "capacity", COLUMN_SIZE},
                                            {"available", "available", COLUMN_SIZE},
                                            {"path", "path", COLUMN_TEXT},
                                            COLUMN_END};
    const struct remote_connect_list_all_storage_pools_args args = {
        .need_results = 1, .flags = manage_option(a, "all") ? 0 : VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE};
    struct remote_connect_list_all_storage_pools_ret ret;
    ARENA_SCOPED(kept);
    if (client_connect_list_all_storage_pools(s->c, &args, &ret, err) < 0)
        return -1;
    rpc_client_keep(s->c, &kept);
    json_t *rows = json_array();
    for (unsigned i = 0; rows && i < ret.pools.len; i++)
        json_array_append_new(rows, pool_row(s, &ret.pools.val[i])); /* NULL is not appended */
    return session_show(s, rows, columns, err);
}

/* The pool that the first word names. */
static int named_pool(struct session *s, const struct arguments *a, struct remote_nonnull_storage_pool *pool, struct arena *kept,
                      struct error *err)
{
    return session_pool(s, a->nwords ? a->words[0] : MANAGE_POOL, pool, kept, err);
}

int manage_pool_info(struct session *s, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {
        {"name", "name", COLUMN_TEXT},           {"uuid", "uuid", COLUMN_TEXT},         {"state", "state", COLUMN_TEXT},
        {"autostart", "autostart", COLUMN_FLAG}, {"capacity", "capacity", COLUMN_SIZE}, {"allocation", "allocated", COLUMN_SIZE},
        {"available", "available", COLUMN_SIZE}, {"path", "path", COLUMN_TEXT},         COLUMN_END};
    struct remote_nonnull_storage_pool pool;
    ARENA_SCOPED(kept);
    if (named_pool(s, a, &pool, &kept, err) < 0)
        return -1;
    json_t *row = pool_row(s, &pool);
    return row ? session_show(s, row, columns, err)
               : error_set(err, 0, "pool '%s': was just undefined; see 'lodge pool-list --all'", pool.name);
}

int manage_pool_act(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_nonnull_storage_pool pool;
    ARENA_SCOPED(kept);
    if (named_pool(s, a, &pool, &kept, err) < 0)
        return -1;
    bool starts = strcmp(a->verb->name, "pool-start") == 0;
    const struct remote_storage_pool_create_args start = {.pool = pool};
    const struct remote_storage_pool_refresh_args refresh = {.pool = pool};
    if ((starts ? client_storage_pool_create(s->c, &start, err) : client_storage_pool_refresh(s->c, &refresh, err)) < 0)
        return -1;
    session_say(s, "pool '%s': %s", pool.name, starts ? "started" : "read again");
    return 0;
}

/* ---- volumes ---- */

/* The pool that --pool names. */
static const char *pool_of(const struct arguments *a)
{
    const char *pool = manage_option(a, "pool");
    return pool ? pool : MANAGE_POOL;
}

static json_t *vol_row(struct session *s, const struct remote_nonnull_storage_vol *vol)
{
    const struct remote_storage_vol_get_info_args args = {.vol = *vol};
    const struct remote_storage_vol_get_xml_desc_args xml_args = {.vol = *vol};
    const struct remote_storage_vol_get_path_args path_args = {.vol = *vol};
    struct remote_storage_vol_get_info_ret info;
    struct remote_storage_vol_get_xml_desc_ret xml;
    struct remote_storage_vol_get_path_ret path;
    ARENA_SCOPED(kept);
    const char *format = NULL, *backing = NULL;
    if (client_storage_vol_get_info(s->c, &args, &info, NULL) < 0)
        return NULL; /* gone since */
    if (client_storage_vol_get_xml_desc(s->c, &xml_args, &xml, NULL) == 0) {
        format = manage_xml_text(xml.xml, (const char *const[]){"target", "format", NULL}, "type", &kept);
        backing = manage_xml_text(xml.xml, (const char *const[]){"backingStore", "path", NULL}, NULL, &kept);
    }
    bool has_path = client_storage_vol_get_path(s->c, &path_args, &path, NULL) == 0;
    return json_pack("{so so so sI sI so so}", "name", sheet_text(vol->name), "pool", sheet_text(vol->pool), "format",
                     sheet_text(format), "capacity", (json_int_t)info.capacity, "allocation", (json_int_t)info.allocation, "path",
                     has_path ? sheet_text(path.name) : json_null(), "backing", sheet_text(backing));
}

int manage_vol_list(struct session *s, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"name", "name", COLUMN_TEXT},         {"format", "format", COLUMN_TEXT},
                                            {"capacity", "capacity", COLUMN_SIZE}, {"allocation", "allocated", COLUMN_SIZE},
                                            {"path", "path", COLUMN_TEXT},         COLUMN_END};
    struct remote_storage_pool_list_all_volumes_args args = {.need_results = 1};
    struct remote_storage_pool_list_all_volumes_ret ret;
    ARENA_SCOPED(pool_kept);
    ARENA_SCOPED(kept);
    if (named_pool(s, a, &args.pool, &pool_kept, err) < 0 || client_storage_pool_list_all_volumes(s->c, &args, &ret, err) < 0)
        return -1;
    rpc_client_keep(s->c, &kept);
    json_t *rows = json_array();
    for (unsigned i = 0; rows && i < ret.vols.len; i++)
        json_array_append_new(rows, vol_row(s, &ret.vols.val[i]));
    return session_show(s, rows, columns, err);
}

int manage_vol_info(struct session *s, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"name", "name", COLUMN_TEXT},
                                            {"pool", "pool", COLUMN_TEXT},
                                            {"format", "format", COLUMN_TEXT},
                                            {"capacity", "capacity", COLUMN_SIZE},
                                            {"allocation", "allocated", COLUMN_SIZE},
                                            {"path", "path", COLUMN_TEXT},
                                            {"backing", "backing file", COLUMN_TEXT},
                                            COLUMN_END};
    struct remote_nonnull_storage_vol vol;
    ARENA_SCOPED(kept);
    if (session_volume(s, pool_of(a), a->words[0], &vol, &kept, err) < 0)
        return -1;
    json_t *row = vol_row(s, &vol);
    return row ? session_show(s, row, columns, err)
               : error_set(err, 0, "volume '%s': was just deleted; see 'lodge vol-list'", vol.name);
}

/* The XML of a new volume, to be freed. NULL with err. */
static char *new_volume_xml(const struct arguments *a, uint64_t bytes, struct error *err)
{
    const char *name = a->words[0], *format = manage_option(a, "format"), *backing = manage_option(a, "backing");
    const char *backing_format = manage_option(a, "backing-format");
    size_t len, n = strlen(name);
    char *xml = NULL;
    if (!format)
        format = n > 6 && strcmp(name + n - 6, ".qcow2") == 0 ? "qcow2" : "raw";
    if (backing && !backing_format) {
        error_set(
            err, 0,
            "volume '%s': the format of its backing file is not named, and it is never guessed; add --backing-format raw or qcow2",
            name);
        return NULL;
    }
    FILE *f = open_memstream(&xml, &len);
    if (!f) {
        error_set(err, ENOMEM, "volume '%s': out of memory; free some", name);
        return NULL;
    }
    fputs("<volume>", f);
    xml_put_element(f, 2, "name", name);
    fprintf(f, "<capacity unit='bytes'>%llu</capacity>", (unsigned long long)bytes);
    fprintf(f, "<allocation>%llu</allocation><target>", manage_option(a, "allocate") ? (unsigned long long)bytes : 0);
    xml_put_attr(f, "<format type='", format, "'/>");
    fputs("</target>", f);
    if (backing) {
        fputs("<backingStore>", f);
        xml_put_element(f, 4, "path", backing);
        xml_put_attr(f, "<format type='", backing_format, "'/></backingStore>");
    }
    fputs("</volume>", f);
    fclose(f);
    return xml;
}

int manage_vol_create(struct session *s, const struct arguments *a, struct error *err)
{
    uint64_t bytes;
    struct remote_storage_vol_create_xml_args args = {0};
    struct remote_storage_vol_create_xml_ret ret;
    ARENA_SCOPED(kept);
    if (parse_size(a->words[1], &bytes, err) < 0)
        return error_prefix(err, "volume '%s': ", a->words[0]);
    if (session_pool(s, pool_of(a), &args.pool, &kept, err) < 0)
        return -1;
    AUTO_FREE char *xml = new_volume_xml(a, bytes, err);
    if (!xml)
        return -1;
    args.xml = xml;
    if (client_storage_vol_create_xml(s->c, &args, &ret, err) < 0)
        return -1;
    session_say(s, "volume '%s': created in the pool '%s': %s", ret.vol.name, ret.vol.pool, ret.vol.key);
    return 0;
}

int manage_vol_delete(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_storage_vol_delete_args args = {0};
    ARENA_SCOPED(kept);
    if (session_volume(s, pool_of(a), a->words[0], &args.vol, &kept, err) < 0 || client_storage_vol_delete(s->c, &args, err) < 0)
        return -1;
    session_say(s, "volume '%s': deleted", args.vol.name);
    return 0;
}

int manage_vol_resize(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_storage_vol_resize_args args = {.flags = manage_option(a, "shrink") ? VIR_STORAGE_VOL_RESIZE_SHRINK : 0};
    ARENA_SCOPED(kept);
    if (parse_size(a->words[1], &args.capacity, err) < 0)
        return error_prefix(err, "volume '%s': ", a->words[0]);
    if (session_volume(s, pool_of(a), a->words[0], &args.vol, &kept, err) < 0 || client_storage_vol_resize(s->c, &args, err) < 0)
        return -1;
    session_say(s, "volume '%s': is %s now", args.vol.name, a->words[1]);
    return 0;
}

/* ---- bytes ---- */

#define COPY_BYTES 262144u

static int cannot(const char *file, const char *what, struct error *err)
{
    return error_set(err, errno, "file '%s': cannot %s it: %s; see to its rights, and to the space there", file, what,
                     strerror(errno));
}

static int send_file(struct session *s, int fd, const char *file, struct error *err)
{
    AUTO_FREE char *buf = malloc(COPY_BYTES);
    if (!buf)
        return error_set(err, ENOMEM, "file '%s': out of memory", file);
    for (;;) {
        ssize_t n = read(fd, buf, COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            cannot(file, "read", err);
            rpc_client_stream_abort(s->c, NULL);
            return -1;
        }
        if (n == 0)
            return rpc_client_stream_finish(s->c, err);
        if (rpc_client_stream_send(s->c, buf, (size_t)n, err) < 0)
            return -1;
    }
}

static int receive_file(struct session *s, int fd, const char *file, struct error *err)
{
    for (;;) {
        const void *data;
        ssize_t n = rpc_client_stream_receive(s->c, &data, err);
        if (n < 0)
            return -1;
        if (n == 0)
            return rpc_client_stream_finish(s->c, err);
        for (const char *p = data; n;) {
            ssize_t done = write(fd, p, (size_t)n);
            if (done < 0 && errno == EINTR)
                continue;
            if (done < 0) {
                cannot(file, "write", err);
                rpc_client_stream_abort(s->c, NULL);
                return -1;
            }
            p += done;
            n -= done;
        }
    }
}

int manage_vol_upload(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_storage_vol_upload_args args = {0};
    ARENA_SCOPED(kept);
    const char *file = a->words[1];
    AUTO_CLOSE int fd = strcmp(file, "-") == 0 ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cannot(file, "read", err);
    if (session_volume(s, pool_of(a), a->words[0], &args.vol, &kept, err) < 0 || client_storage_vol_upload(s->c, &args, err) < 0 ||
        send_file(s, fd, file, err) < 0)
        return -1;
    session_say(s, "volume '%s': written", args.vol.name);
    return 0;
}

int manage_vol_download(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_storage_vol_download_args args = {0};
    ARENA_SCOPED(kept);
    const char *file = a->words[1];
    if (session_volume(s, pool_of(a), a->words[0], &args.vol, &kept, err) < 0)
        return -1;
    AUTO_CLOSE int fd = strcmp(file, "-") == 0 ? dup(STDOUT_FILENO) : open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return cannot(file, "write", err);
    return client_storage_vol_download(s->c, &args, err) < 0 ? -1 : receive_file(s, fd, file, err);
}
