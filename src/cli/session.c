// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/connect.h"
#include "cli/options.h"
#include "cli/uri.h"
#include "model/domain.h"

#define NAMES_MAX 4096u /* of those that a wrong name is compared with */

const char *session_uri(const struct session *s)
{
    const char *const places[] = {s->uri, getenv("LODGE_URI"), getenv("LIBVIRT_DEFAULT_URI")};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++)
        if (places[i] && *places[i])
            return places[i];
    return geteuid() == 0 ? "qemu:///system" : "qemu:///session";
}

bool session_is_local(const struct session *s)
{
    URI_SCOPED(uri);
    return uri_parse(session_uri(s), &uri, NULL) == 0 && (strcmp(uri.transport, "unix") == 0 || (!*uri.transport && !uri.host));
}

int session_open(struct session *s, struct error *err)
{
    return s->c ? 0 : connect_uri(session_uri(s), &s->c, err);
}

void session_close(struct session *s)
{
    rpc_client_close(s->c);
    s->c = NULL;
}

/* ---- objects ---- */

/* The domain whose name is nearest to what was typed, for the error's remedy; to be freed. */
static char *nearest_domain(struct session *s, const char *typed)
{
    const struct remote_connect_list_all_domains_args args = {.need_results = 1};
    struct remote_connect_list_all_domains_ret ret;
    if (client_connect_list_all_domains(s->c, &args, &ret, NULL) < 0)
        return NULL;
    unsigned n = MIN(ret.domains.len, NAMES_MAX);
    AUTO_FREE const char **names = calloc(n + 1, sizeof *names);
    for (unsigned i = 0; names && i < n; i++)
        names[i] = ret.domains.val[i].name;
    const char *nearest = names ? nearest_word(typed, names, sizeof *names) : NULL;
    return nearest ? strdup(nearest) : NULL;
}

static int no_domain(struct session *s, const char *name, struct error *err)
{
    AUTO_FREE char *nearest = nearest_domain(s, name);
    error_clear(err);
    return nearest ? error_set(err, VIR_ERR_NO_DOMAIN, "domain '%s': there is none at %s; did you mean '%s'?", name, session_uri(s),
                               nearest)
                   : error_set(err, VIR_ERR_NO_DOMAIN, "domain '%s': there is none at %s; see 'lodge list --all'", name,
                               session_uri(s));
}

/* By name, as virsh does by number of a running guest, or by UUID. */
int session_domain(struct session *s, const char *name, struct remote_nonnull_domain *dom, struct arena *kept, struct error *err)
{
    ERROR_SCOPED(own);
    const struct remote_domain_lookup_by_name_args by_name = {.name = (char *)name};
    struct remote_domain_lookup_by_uuid_args by_uuid;
    struct remote_domain_lookup_by_id_args by_id;
    union {
        struct remote_domain_lookup_by_name_ret name;
        struct remote_domain_lookup_by_uuid_ret uuid;
        struct remote_domain_lookup_by_id_ret id;
    } ret; /* each is a domain and no more */
    char *end;
    int result = client_domain_lookup_by_name(s->c, &by_name, &ret.name, &own);
    if (result < 0 && own.errnum == VIR_ERR_NO_DOMAIN && domain_parse_uuid(name, by_uuid.uuid) == 0)
        result = client_domain_lookup_by_uuid(s->c, &by_uuid, &ret.uuid, NULL);
    else if (result < 0 && own.errnum == VIR_ERR_NO_DOMAIN && *name >= '0' && *name <= '9') {
        unsigned long id = strtoul(name, &end, 10);
        by_id.id = (int)MIN(id, (unsigned long)INT32_MAX);
        result = *end ? -1 : client_domain_lookup_by_id(s->c, &by_id, &ret.id, NULL);
    }
    if (result < 0 && own.errnum == VIR_ERR_NO_DOMAIN)
        return no_domain(s, name, err);
    if (result < 0)
        return error_copy(err, &own);
    *dom = ret.name.dom;
    rpc_client_keep(s->c, kept);
    return 0;
}

int session_pool(struct session *s, const char *name, struct remote_nonnull_storage_pool *pool, struct arena *kept,
                 struct error *err)
{
    const struct remote_storage_pool_lookup_by_name_args args = {.name = (char *)name};
    struct remote_storage_pool_lookup_by_name_ret ret;
    ERROR_SCOPED(own);
    if (client_storage_pool_lookup_by_name(s->c, &args, &ret, &own) < 0)
        return own.errnum == VIR_ERR_NO_STORAGE_POOL
                   ? error_set(err, own.errnum, "pool '%s': there is none at %s; see 'lodge pool-list --all'", name, session_uri(s))
                   : error_copy(err, &own);
    *pool = ret.pool;
    rpc_client_keep(s->c, kept);
    return 0;
}

int session_volume(struct session *s, const char *pool, const char *name, struct remote_nonnull_storage_vol *vol,
                   struct arena *kept, struct error *err)
{
    ERROR_SCOPED(own);
    ARENA_SCOPED(pool_kept);
    struct remote_storage_vol_lookup_by_name_args in_pool = {.name = (char *)name};
    const struct remote_storage_vol_lookup_by_path_args by_path = {.path = (char *)name};
    struct remote_storage_vol_lookup_by_name_ret named = {0};
    struct remote_storage_vol_lookup_by_path_ret at = {0};
    int result;
    if (name[0] == '/') {
        result = client_storage_vol_lookup_by_path(s->c, &by_path, &at, &own);
        *vol = at.vol;
    } else {
        if (session_pool(s, pool, &in_pool.pool, &pool_kept, err) < 0)
            return -1;
        result = client_storage_vol_lookup_by_name(s->c, &in_pool, &named, &own);
        *vol = named.vol;
    }
    if (result < 0 && own.errnum != VIR_ERR_NO_STORAGE_VOL)
        return error_copy(err, &own);
    if (result < 0)
        return name[0] == '/'
                   ? error_set(err, own.errnum, "volume '%s': in no pool of %s; see 'lodge pool-list'", name, session_uri(s))
                   : error_set(err, own.errnum, "volume '%s': not in the pool '%s'; see 'lodge vol-list %s', or add --pool POOL",
                               name, pool, pool);
    rpc_client_keep(s->c, kept);
    return 0;
}

/* ---- showing ---- */

int session_show(const struct session *s, json_t *data, const struct column *columns, struct error *err)
{
    if (!data)
        return error_set(err, ENOMEM, "answer: out of memory; free some");
    if (s->json) {
        json_dumpf(data, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
    } else if (json_is_array(data))
        sheet_rows(stdout, data, columns);
    else
        sheet_object(stdout, data, columns);
    json_decref(data);
    return 0;
}

void session_say(const struct session *s, const char *fmt, ...)
{
    va_list ap;
    if (s->json)
        return;
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}
