// SPDX-License-Identifier: GPL-2.0-or-later
/* Verbs for domains: their list, their life, what they are. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "base/util.h"
#include "cli/manage.h"
#include "model/domain.h"

/* ---- states ---- */

static const char *const states[] = {"no state", "running", "blocked", "paused", "in shutdown", "shut off", "crashed", "suspended"};

/* By state and libvirt's number of the reason (virDomainRunningReason and its like). */
static const char *const reasons[ARRAY_SIZE(states)][14] = {
    [VIR_DOMAIN_RUNNING] = {"unknown", "booted", "migrated", "restored", "from snapshot", "unpaused", "migration canceled",
                            "save canceled", "event wakeup", "crashed", "post-copy", "post-copy failed"},
    [VIR_DOMAIN_PAUSED] = {"unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot",
                           "shutting down", "creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed"},
    [VIR_DOMAIN_SHUTDOWN] = {"unknown", "user"},
    [VIR_DOMAIN_SHUTOFF] = {"unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot",
                            "daemon"},
    [VIR_DOMAIN_CRASHED] = {"unknown", "panicked"},
};

static const char *state_name(int state)
{
    return state >= 0 && state < (int)ARRAY_SIZE(states) ? states[state] : "unknown";
}

static const char *reason_name(int state, int reason)
{
    bool known = state >= 0 && state < (int)ARRAY_SIZE(states) && reason >= 0 && reason < (int)ARRAY_SIZE(reasons[0]);
    return known && reasons[state][reason] ? reasons[state][reason] : "unknown";
}

int manage_domstate(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const struct remote_domain_get_state_args args = {.dom = *dom};
    struct remote_domain_get_state_ret ret;
    if (client_domain_get_state(s->c, &args, &ret, err) < 0)
        return -1;
    const char *state = state_name(ret.state), *reason = reason_name(ret.state, ret.reason);
    if (s->json)
        return session_show(s, json_pack("{ss ss ss}", "name", dom->name, "state", state, "reason", reason), NULL, err);
    if (manage_option(a, "reason"))
        printf("%s (%s)\n", state, reason);
    else
        puts(state);
    return 0;
}

/* ---- the list ---- */

static json_t *list_row(struct session *s, const struct remote_nonnull_domain *dom, bool title)
{
    const struct remote_domain_get_state_args args = {.dom = *dom};
    const struct remote_domain_get_metadata_args metadata = {.dom = *dom, .type = VIR_DOMAIN_METADATA_TITLE};
    struct remote_domain_get_state_ret state;
    struct remote_domain_get_metadata_ret text;
    char uuid[37];
    if (client_domain_get_state(s->c, &args, &state, NULL) < 0)
        return NULL; /* one that is gone since is left out */
    domain_format_uuid(dom->uuid, uuid);
    json_t *row = json_pack("{so so ss ss}", "id", dom->id >= 0 ? json_integer(dom->id) : json_null(), "name",
                            sheet_text(dom->name), "uuid", uuid, "state", state_name(state.state));
    if (title && row)
        json_object_set_new(
            row, "title", client_domain_get_metadata(s->c, &metadata, &text, NULL) == 0 ? sheet_text(text.metadata) : json_null());
    return row;
}

int manage_list(struct session *s, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"id", "id", COLUMN_NUMBER},
                                            {"name", "name", COLUMN_TEXT},
                                            {"state", "state", COLUMN_TEXT},
                                            {"title", "title", COLUMN_TEXT},
                                            COLUMN_END};
    static const struct column short_columns[] = {
        {"id", "id", COLUMN_NUMBER}, {"name", "name", COLUMN_TEXT}, {"state", "state", COLUMN_TEXT}, COLUMN_END};
    bool title = manage_option(a, "title"), all = manage_option(a, "all"), inactive = manage_option(a, "inactive");
    const struct remote_connect_list_all_domains_args args = {.need_results = 1,
                                                              .flags = all        ? 0
                                                                       : inactive ? VIR_CONNECT_LIST_DOMAINS_INACTIVE
                                                                                  : VIR_CONNECT_LIST_DOMAINS_ACTIVE};
    struct remote_connect_list_all_domains_ret ret;
    ARENA_SCOPED(kept);
    if (client_connect_list_all_domains(s->c, &args, &ret, err) < 0)
        return -1;
    rpc_client_keep(s->c, &kept);
    json_t *rows = json_array();
    for (unsigned i = 0; rows && i < ret.domains.len; i++) {
        json_t *row = list_row(s, &ret.domains.val[i], title);
        if (row && manage_option(a, "name"))
            puts(ret.domains.val[i].name);
        if (row)
            json_array_append_new(rows, row);
    }
    if (manage_option(a, "name") && !s->json) {
        json_decref(rows);
        return 0;
    }
    return session_show(s, rows, title ? columns : short_columns, err);
}

/* ---- life ---- */

/* All of these calls begin with the domain; those that have more have zeroes there. */
struct plain_args {
    struct remote_nonnull_domain dom;
    uint64_t zero;
};

static const struct {
    const char *verb;
    int proc;
    const char *done;
} actions[] = {
    {"shutdown", REMOTE_PROC_DOMAIN_SHUTDOWN, "asked to switch off"},
    {"reboot", REMOTE_PROC_DOMAIN_REBOOT, "asked to reboot"}, {"reset", REMOTE_PROC_DOMAIN_RESET, "reset"},
    {"destroy", REMOTE_PROC_DOMAIN_DESTROY, "ended"},         {"suspend", REMOTE_PROC_DOMAIN_SUSPEND, "suspended"},
    {"resume", REMOTE_PROC_DOMAIN_RESUME, "resumed"},
};

int manage_act(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const struct plain_args args = {.dom = *dom};
    struct remote_domain_shutdown_args unused;
    unsigned i = 0;
    while (i + 1 < ARRAY_SIZE(actions) && strcmp(actions[i].verb, a->verb->name) != 0)
        i++;
    if (rpc_client_call(s->c, actions[i].proc, &args, &unused, err) < 0)
        return -1;
    session_say(s, "domain '%s': %s", dom->name, actions[i].done);
    return 0;
}

int manage_undefine(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const struct remote_domain_undefine_flags_args args = {.dom = *dom,
                                                           .flags = (manage_option(a, "nvram") ? VIR_DOMAIN_UNDEFINE_NVRAM : 0u) |
                                                                    (manage_option(a, "keep-nvram") ? VIR_DOMAIN_UNDEFINE_KEEP_NVRAM : 0u)};
    if (client_domain_undefine_flags(s->c, &args, err) < 0)
        return -1;
    session_say(s, "domain '%s': undefined", dom->name);
    return 0;
}

int manage_start(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const struct remote_domain_create_with_flags_args args = {.dom = *dom,
                                                              .flags = manage_option(a, "paused") ? VIR_DOMAIN_START_PAUSED : 0};
    const struct remote_domain_create_args plain = {.dom = *dom};
    struct remote_domain_create_with_flags_ret ret;
    int result = args.flags ? client_domain_create_with_flags(s->c, &args, &ret, err) : client_domain_create(s->c, &plain, err);
    if (result < 0)
        return -1;
    session_say(s, "domain '%s': started%s", dom->name, args.flags ? ", paused" : "");
    return manage_option(a, "console") ? manage_console_of(s, dom, err) : 0;
}

int manage_autostart(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const char *value = a->nwords > 1 ? a->words[1] : "on";
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return error_set(err, 0, "autostart: '%s' is neither on nor off; write lodge autostart %s on", value, dom->name);
    const struct remote_domain_set_autostart_args args = {.dom = *dom, .autostart = value[1] == 'n'};
    if (client_domain_set_autostart(s->c, &args, err) < 0)
        return -1;
    session_say(s, "domain '%s': %s with the daemon", dom->name, args.autostart ? "starts" : "does not start");
    return 0;
}

/* ---- what it is ---- */

static json_t *flag(bool known, int value)
{
    return known ? json_boolean(value) : json_null();
}

int manage_dominfo(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    static const struct column columns[] = {{"id", "id", COLUMN_NUMBER},
                                            {"name", "name", COLUMN_TEXT},
                                            {"uuid", "uuid", COLUMN_TEXT},
                                            {"state", "state", COLUMN_TEXT},
                                            {"vcpus", "CPUs", COLUMN_NUMBER},
                                            {"cpu_time_ns", "CPU time", COLUMN_SECONDS},
                                            {"max_memory", "maximum", COLUMN_SIZE},
                                            {"memory", "memory", COLUMN_SIZE},
                                            {"persistent", "persistent", COLUMN_FLAG},
                                            {"autostart", "autostart", COLUMN_FLAG},
                                            COLUMN_END};
    const struct remote_domain_get_info_args args = {.dom = *dom};
    const struct remote_domain_get_autostart_args autostart = {.dom = *dom};
    const struct remote_domain_is_persistent_args persistent = {.dom = *dom};
    struct remote_domain_get_info_ret info;
    struct remote_domain_get_autostart_ret starts = {0};
    struct remote_domain_is_persistent_ret stays = {0};
    char uuid[37];
    (void)a;
    if (client_domain_get_info(s->c, &args, &info, err) < 0)
        return -1;
    bool has_starts = client_domain_get_autostart(s->c, &autostart, &starts, NULL) == 0;
    bool has_stays = client_domain_is_persistent(s->c, &persistent, &stays, NULL) == 0;
    domain_format_uuid(dom->uuid, uuid);
    json_t *row = json_pack("{so so ss ss si sI sI sI so so}", "id", dom->id >= 0 ? json_integer(dom->id) : json_null(), "name",
                            sheet_text(dom->name), "uuid", uuid, "state", state_name(info.state), "vcpus", (int)info.nrVirtCpu,
                            "cpu_time_ns", (json_int_t)info.cpuTime, "max_memory", (json_int_t)(info.maxMem * KIB), "memory",
                            (json_int_t)(info.memory * KIB), "persistent", flag(has_stays, stays.persistent), "autostart",
                            flag(has_starts, starts.autostart));
    return session_show(s, row, columns, err);
}

int manage_desc(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    int type = manage_option(a, "title") ? VIR_DOMAIN_METADATA_TITLE : VIR_DOMAIN_METADATA_DESCRIPTION;
    const struct remote_domain_get_metadata_args get = {.dom = *dom, .type = type};
    struct remote_domain_get_metadata_ret ret;
    ERROR_SCOPED(own);
    if (a->nwords > 1) {
        char *text = (char *)a->words[1];
        const struct remote_domain_set_metadata_args set = {.dom = *dom, .type = type, .metadata = *text ? text : NULL};
        if (client_domain_set_metadata(s->c, &set, err) < 0)
            return -1;
        session_say(s, "domain '%s': %s %s", dom->name, type == VIR_DOMAIN_METADATA_TITLE ? "title" : "description",
                    *text ? "set" : "removed");
        return 0;
    }
    int result = client_domain_get_metadata(s->c, &get, &ret, &own);
    if (result < 0 && own.errnum != VIR_ERR_NO_DOMAIN_METADATA)
        return error_copy(err, &own);
    if (s->json)
        return session_show(s,
                            json_pack("{so so}", "name", sheet_text(dom->name),
                                      type == VIR_DOMAIN_METADATA_TITLE ? "title" : "description",
                                      result == 0 ? sheet_text(ret.metadata) : json_null()),
                            NULL, err);
    if (result == 0)
        puts(ret.metadata);
    return 0;
}

/* ---- XML ---- */

const char *manage_domain_xml(struct session *s, const struct remote_nonnull_domain *dom, unsigned flags, struct arena *kept,
                              struct error *err)
{
    const struct remote_domain_get_xml_desc_args args = {.dom = *dom, .flags = flags};
    struct remote_domain_get_xml_desc_ret ret;
    if (client_domain_get_xml_desc(s->c, &args, &ret, err) < 0)
        return NULL;
    rpc_client_keep(s->c, kept);
    return ret.xml;
}

int manage_dumpxml(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    ARENA_SCOPED(kept);
    const char *xml = manage_domain_xml(s, dom, manage_option(a, "inactive") ? VIR_DOMAIN_XML_INACTIVE : 0, &kept, err);
    if (!xml)
        return -1;
    if (s->json)
        return session_show(s, json_pack("{so so}", "name", sheet_text(dom->name), "xml", sheet_text(xml)), NULL, err);
    fputs(xml, stdout);
    return 0;
}

char *manage_read_xml(const char *file, struct error *err)
{
    bool is_input = strcmp(file, "-") == 0;
    AUTO_CLOSE int own = is_input ? -1 : open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    AUTO_FREE char *xml = malloc(DOMAIN_XML_MAX + 2);
    int fd = is_input ? STDIN_FILENO : own;
    size_t len = 0;
    ssize_t n = fd >= 0 && xml ? 1 : -1;
    while (n > 0 && len <= DOMAIN_XML_MAX) {
        n = read(fd, xml + len, DOMAIN_XML_MAX + 1 - len);
        len += n > 0 ? (size_t)n : 0;
    }
    if (n < 0)
        error_set(err, errno, "domain XML '%s': cannot read: %s; give the path of a file that you may read", file, strerror(errno));
    else if (len > DOMAIN_XML_MAX)
        error_set(err, EFBIG, "domain XML '%s': longer than 1 MiB; give the path of a domain's XML", file);
    else if (memchr(xml, 0, len))
        error_set(err, EINVAL, "domain XML '%s': a binary file; give the path of a domain's XML", file);
    else {
        xml[len] = 0;
        return steal_ptr(&xml);
    }
    return NULL;
}

int manage_define_text(struct session *s, const char *xml, struct arena *kept, struct remote_nonnull_domain *dom, struct error *err)
{
    const struct remote_domain_define_xml_args args = {.xml = (char *)xml};
    struct remote_domain_define_xml_ret ret;
    if (client_domain_define_xml(s->c, &args, &ret, err) < 0)
        return -1;
    *dom = ret.dom;
    rpc_client_keep(s->c, kept);
    return 0;
}

int manage_define(struct session *s, const struct arguments *a, struct error *err)
{
    struct remote_nonnull_domain dom;
    ARENA_SCOPED(kept);
    AUTO_FREE char *xml = manage_read_xml(a->words[0], err);
    if (!xml)
        return -1;
    if (manage_define_text(s, xml, &kept, &dom, err) < 0)
        return error_prefix(err, "'%s': ", a->words[0]);
    session_say(s, "domain '%s': defined", dom.name);
    return 0;
}
