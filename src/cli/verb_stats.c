// SPDX-License-Identifier: GPL-2.0-or-later
/* lodge domstats: libvirt's statistics by libvirt's names, of some guests or of all that run. */
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "cli/manage.h"

static json_t *param_value(const struct remote_typed_param_value *v)
{
    switch (v->type) {
    case VIR_TYPED_PARAM_INT:
        return json_integer(v->i);
    case VIR_TYPED_PARAM_UINT:
        return json_integer(v->ui);
    case VIR_TYPED_PARAM_LLONG:
        return json_integer(v->l);
    case VIR_TYPED_PARAM_ULLONG:
        return json_integer((json_int_t)v->ul);
    case VIR_TYPED_PARAM_DOUBLE:
        return json_real(v->d);
    case VIR_TYPED_PARAM_BOOLEAN:
        return json_boolean(v->b);
    case VIR_TYPED_PARAM_STRING:
        return sheet_text(v->s);
    default:
        return json_null();
    }
}

/* What a value is, by its name. The balloon's are in KiB, times in ns. */
static enum column_kind kind_of(const char *name, uint64_t *factor)
{
    static const struct {
        const char *pattern;
        enum column_kind kind;
        uint64_t factor;
    } kinds[] = {
        {"balloon.*fault*", COLUMN_NUMBER, 1},
        {"balloon.last-update", COLUMN_NUMBER, 1},
        {"balloon.hugetlb*", COLUMN_NUMBER, 1},
        {"balloon.*", COLUMN_SIZE, KIB},
        {"*.bytes", COLUMN_SIZE, 1},
        {"*.capacity", COLUMN_SIZE, 1},
        {"*.allocation", COLUMN_SIZE, 1},
        {"*.physical", COLUMN_SIZE, 1},
        {"*.time", COLUMN_SECONDS, 1},
        {"*.times", COLUMN_SECONDS, 1},
        {"cpu.user", COLUMN_SECONDS, 1},
        {"cpu.system", COLUMN_SECONDS, 1},
    };
    *factor = 1;
    for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++) {
        if (fnmatch(kinds[i].pattern, name, 0) == 0) {
            *factor = kinds[i].factor;
            return kinds[i].kind;
        }
    }
    return COLUMN_NUMBER;
}

static void print_record(const struct remote_domain_stats_record *r)
{
    size_t width = 0;
    for (unsigned i = 0; i < r->params.len; i++)
        width = MAX(width, strlen(r->params.val[i].field));
    printf("%s\n", r->dom.name);
    for (unsigned i = 0; i < r->params.len; i++) {
        uint64_t factor;
        const char *name = r->params.val[i].field;
        enum column_kind kind = kind_of(name, &factor);
        json_auto_t *value = param_value(&r->params.val[i].value);
        if (json_is_integer(value) && factor > 1)
            json_integer_set(value, json_integer_value(value) * (json_int_t)factor);
        AUTO_FREE char *text = sheet_value(value, kind);
        printf("  %-*s  %s\n", (int)width, name, text ? text : "?");
    }
}

static json_t *record_json(const struct remote_domain_stats_record *r)
{
    json_t *stats = json_object();
    for (unsigned i = 0; stats && i < r->params.len; i++)
        json_object_set_new(stats, r->params.val[i].field, param_value(&r->params.val[i].value));
    return json_pack("{so so}", "name", sheet_text(r->dom.name), "stats", stats);
}

static unsigned groups(const struct arguments *a)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"state", VIR_DOMAIN_STATS_STATE},         {"cpu", VIR_DOMAIN_STATS_CPU_TOTAL},
                 {"balloon", VIR_DOMAIN_STATS_BALLOON},     {"vcpu", VIR_DOMAIN_STATS_VCPU},
                 {"interface", VIR_DOMAIN_STATS_INTERFACE}, {"block", VIR_DOMAIN_STATS_BLOCK}};
    unsigned bits = 0;
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        bits |= manage_option(a, names[i].name) ? names[i].bit : 0;
    return bits;
}

int manage_domstats(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_nonnull_domain doms[MANAGE_WORDS];
    struct arena kept[MANAGE_WORDS] = {0};
    struct remote_connect_get_all_domain_stats_args args = {.doms = {a->nwords, doms}, .stats = groups(a)};
    struct remote_connect_get_all_domain_stats_ret ret;
    int result = 0;
    if (!a->nwords)
        args.flags = manage_option(a, "all") ? 0 : VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE;
    for (unsigned i = 0; i < a->nwords && result == 0; i++)
        result = session_domain(s, a->words[i], &doms[i], &kept[i], err);
    if (result == 0)
        result = client_connect_get_all_domain_stats(s->c, &args, &ret, err);
    for (unsigned i = 0; i < MANAGE_WORDS; i++)
        arena_free(&kept[i]);
    if (result < 0)
        return -1;
    json_t *rows = s->json ? json_array() : NULL;
    for (unsigned i = 0; i < ret.retStats.len; i++) {
        if (rows)
            json_array_append_new(rows, record_json(&ret.retStats.val[i]));
        else
            print_record(&ret.retStats.val[i]);
    }
    return s->json ? session_show(s, rows, NULL, err) : 0;
}
