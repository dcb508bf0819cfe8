// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls that a guest's agent answers. What it says is the guest's: types are checked, counts are bounded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/agent.h"
#include "daemon/calls.h"
#include "daemon/params.h"

#define IFACES_MAX 256u /* of domifaddr */
#define ADDRS_MAX  256u

/* Of guestinfo, and the rows that each of them takes. */
#define INFO_USERS_MAX  64u
#define INFO_FSES_MAX   128u
#define INFO_IFACES_MAX 64u
#define INFO_ADDRS_MAX  5u /* of one interface */
#define USER_ROWS       3u
#define FS_ROWS         5u
#define ADDR_ROWS       3u
#define IFACE_ROWS      (3u + INFO_ADDRS_MAX * ADDR_ROWS)
#define OTHER_ROWS      32u /* system, time zone, host name, and the three counts */
_Static_assert(INFO_USERS_MAX *USER_ROWS + INFO_FSES_MAX * FS_ROWS + INFO_IFACES_MAX * IFACE_ROWS + OTHER_ROWS <=
                   REMOTE_DOMAIN_GUEST_INFO_PARAMS_MAX,
               "all that a guest may say goes into one answer");

#define GET_INTERFACES "{\"execute\": \"guest-network-get-interfaces\"}"

/* ---- life and addresses ---- */

int agent_shutdown(struct dom *dom, bool reboot, struct error *err)
{
    char command[96];
    snprintf(command, sizeof command, "{\"execute\": \"guest-shutdown\", \"arguments\": {\"mode\": \"%s\"}}",
             reboot ? "reboot" : "powerdown");
    json_decref(agent_ask(dom, command, AGENT_REFUSAL, err));
    return error_is_set(err) ? -1 : 0;
}

static int fill_interface(struct call *c, const json_t *from, struct remote_domain_interface *to)
{
    const char *name = json_get_string(from, "name"), *mac = json_get_string(from, "hardware-address");
    const json_t *list = json_object_get(from, "ip-addresses");
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)ADDRS_MAX);
    to->name = call_string(c, name ? name : "");
    to->hwaddr = call_string(c, mac);
    to->addrs.val = arena_alloc(&c->arena, (n + 1) * sizeof *to->addrs.val);
    if (!to->name || !to->addrs.val)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        const json_t *a = json_array_get(list, i);
        const char *address = json_get_string(a, "ip-address"), *type = json_get_string(a, "ip-address-type");
        if (!address || !type)
            continue;
        to->addrs.val[to->addrs.len++] = (struct remote_domain_ip_addr){strcmp(type, "ipv6") == 0, call_string(c, address),
                                                                        (uint32_t)json_get_int(a, "prefix", 0)};
    }
    return 0;
}

int agent_interfaces(struct call *c, struct dom *dom, struct remote_domain_interface_addresses_ret *r)
{
    json_t *answer = agent_ask(dom, GET_INTERFACES, AGENT_WAIT_MS, &c->err);
    const json_t *list = json_object_get(answer, "return");
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)IFACES_MAX);
    int result = answer ? 0 : -1;
    r->ifaces.val = arena_alloc(&c->arena, (n + 1) * sizeof *r->ifaces.val);
    for (unsigned i = 0; i < n && result == 0; i++)
        result = r->ifaces.val ? fill_interface(c, json_array_get(list, i), &r->ifaces.val[r->ifaces.len++]) : -1;
    json_decref(answer);
    return result;
}

/* ---- any command ---- */

/* A client's command as one line, to be freed: whatever it is, it begins and ends no other. */
static char *one_line(struct call *c, const struct dom *dom, const char *text)
{
    json_t *j = json_parse(text, strlen(text), NULL);
    char *line = json_get_string(j, "execute") ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    if (!line)
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': not a command; write it as {\"execute\": \"guest-ping\"}", dom->name);
    return line;
}

static int wait_of(int seconds)
{
    if (seconds == VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)
        return AGENT_WAIT_MAX_MS;
    if (seconds == VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_DEFAULT)
        return AGENT_WAIT_MS;
    return MIN(seconds, AGENT_WAIT_MAX_MS / 1000) * 1000;
}

static int agent_command(struct call *c, const void *args, void *ret)
{
    const struct qemu_domain_agent_command_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    AUTO_FREE char *line = dom ? one_line(c, dom, a->cmd) : NULL;
    if (line && a->timeout < VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK)
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': a timeout of %d is none; give seconds", dom->name, a->timeout);
    json_t *answer = line && !error_is_set(&c->err) ? agent_ask(dom, line, wait_of(a->timeout), &c->err) : NULL;
    AUTO_FREE char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
    /* virsh takes no answer at all for a failure. */
    ((struct qemu_domain_agent_command_ret *)ret)->result = call_string(c, text ? text : "");
    json_decref(answer);
    call_dom_done(dom);
    return line && !error_is_set(&c->err) ? 0 : -1;
}

/* Past the daemon to the guest's process: what is done there, the daemon learns as it learns everything, by events. */
static int monitor_command(struct call *c, const void *args, void *ret)
{
    const struct qemu_domain_monitor_command_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    json_t *j = dom ? json_parse(a->cmd, strlen(a->cmd), NULL) : NULL;
    const char *name = json_get_string(j, "execute");
    AUTO_FREE char *arguments = json_dumps(json_object_get(j, "arguments"), JSON_COMPACT), *text = NULL;
    json_t *answer = NULL;
    if (dom && (a->flags || !name || strspn(name, "abcdefghijklmnopqrstuvwxyz_-") != strlen(name)))
        call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "domain '%s': not a QMP command; write it as {\"execute\": \"query-status\"}",
                  dom->name);
    else if (dom && dom->hv->driver == &lodge_driver)
        answer = process_ask(dom, name, arguments, &c->err);
    else if (dom)
        call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' has no process", dom->name);
    if (answer)
        text = json_dumps(answer, JSON_COMPACT);
    ((struct qemu_domain_monitor_command_ret *)ret)->result = call_string(c, text);
    json_decref(answer);
    json_decref(j);
    call_dom_done(dom);
    return text ? 0 : -1;
}

/* ---- what the guest says of itself ---- */

static void add_users(struct params *p, const json_t *list)
{
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)INFO_USERS_MAX);
    params_uint(p, n, "user.count");
    for (unsigned i = 0; i < n; i++) {
        const json_t *u = json_array_get(list, i);
        double seconds = json_number_value(json_object_get(u, "login-time"));
        params_string(p, json_get_string(u, "user"), "user.%u.name", i);
        params_string(p, json_get_string(u, "domain"), "user.%u.domain", i);
        if (seconds > 0 && seconds < 1e12)
            params_u64(p, (uint64_t)(seconds * 1000), "user.%u.login-time", i);
    }
}

static void add_os(struct params *p, const json_t *os)
{
    static const char *const keys[] = {"id",      "name",    "pretty-name", "version",        "version-id",
                                       "machine", "variant", "variant-id",  "kernel-release", "kernel-version"};
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++)
        params_string(p, json_get_string(os, keys[i]), "os.%s", keys[i]);
}

static void add_timezone(struct params *p, const json_t *zone)
{
    params_string(p, json_get_string(zone, "zone"), "timezone.name");
    params_int(p, (int)json_get_int(zone, "offset", 0), "timezone.offset");
}

static void add_hostname(struct params *p, const json_t *name)
{
    params_string(p, json_get_string(name, "host-name"), "hostname");
}

static void add_filesystems(struct params *p, const json_t *list)
{
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)INFO_FSES_MAX);
    params_uint(p, n, "fs.count");
    for (unsigned i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i);
        int64_t total = json_get_int(f, "total-bytes", -1), used = json_get_int(f, "used-bytes", -1);
        params_string(p, json_get_string(f, "mountpoint"), "fs.%u.mountpoint", i);
        params_string(p, json_get_string(f, "name"), "fs.%u.name", i);
        params_string(p, json_get_string(f, "type"), "fs.%u.fstype", i);
        if (total >= 0 && used >= 0) {
            params_u64(p, (uint64_t)total, "fs.%u.total-bytes", i);
            params_u64(p, (uint64_t)used, "fs.%u.used-bytes", i);
        }
    }
}

static void add_interfaces(struct params *p, const json_t *list)
{
    unsigned n = (unsigned)MIN(json_array_size(list), (size_t)INFO_IFACES_MAX);
    params_uint(p, n, "if.count");
    for (unsigned i = 0; i < n; i++) {
        const json_t *f = json_array_get(list, i), *addrs = json_object_get(f, "ip-addresses");
        unsigned k = (unsigned)MIN(json_array_size(addrs), (size_t)INFO_ADDRS_MAX);
        params_string(p, json_get_string(f, "name"), "if.%u.name", i);
        params_string(p, json_get_string(f, "hardware-address"), "if.%u.hwaddr", i);
        params_uint(p, k, "if.%u.addr.count", i);
        for (unsigned j = 0; j < k; j++) {
            const json_t *a = json_array_get(addrs, j);
            params_string(p, json_get_string(a, "ip-address-type"), "if.%u.addr.%u.type", i, j);
            params_string(p, json_get_string(a, "ip-address"), "if.%u.addr.%u.addr", i, j);
            params_uint(p, (unsigned)json_get_int(a, "prefix", 0), "if.%u.addr.%u.prefix", i, j);
        }
    }
}

static const struct {
    unsigned type;
    const char *command;
    void (*add)(struct params *p, const json_t *value);
} guest_facts[] = {
    {VIR_DOMAIN_GUEST_INFO_USERS, "{\"execute\": \"guest-get-users\"}", add_users},
    {VIR_DOMAIN_GUEST_INFO_OS, "{\"execute\": \"guest-get-osinfo\"}", add_os},
    {VIR_DOMAIN_GUEST_INFO_TIMEZONE, "{\"execute\": \"guest-get-timezone\"}", add_timezone},
    {VIR_DOMAIN_GUEST_INFO_HOSTNAME, "{\"execute\": \"guest-get-host-name\"}", add_hostname},
    {VIR_DOMAIN_GUEST_INFO_FILESYSTEM, "{\"execute\": \"guest-get-fsinfo\"}", add_filesystems},
    {VIR_DOMAIN_GUEST_INFO_INTERFACES, GET_INTERFACES, add_interfaces},
};

/* What was asked for by name must be there; of everything, what the agent does not know is left out. */
static int get_guest_info(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_guest_info_args *a = args;
    struct remote_domain_get_guest_info_ret *r = ret;
    struct params p = {.c = c};
    unsigned known = 0;
    struct dom *dom = call_dom_locked(c, &a->dom);
    for (unsigned i = 0; i < ARRAY_SIZE(guest_facts); i++)
        known |= guest_facts[i].type;
    if (dom && (a->types & ~known))
        call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "domain '%s': information of the types 0x%x is not supported; ask for others",
                  dom->name, a->types & ~known);
    for (unsigned i = 0; dom && i < ARRAY_SIZE(guest_facts) && !error_is_set(&c->err); i++) {
        if (a->types && !(a->types & guest_facts[i].type))
            continue;
        json_t *answer = agent_ask(dom, guest_facts[i].command, AGENT_WAIT_MS, &c->err);
        if (answer)
            guest_facts[i].add(&p, json_object_get(answer, "return"));
        else if (!a->types && c->err.errnum == VIR_ERR_OPERATION_FAILED) /* its word, not its silence */
            error_clear(&c->err);
        json_decref(answer);
    }
    call_dom_done(dom);
    r->params.len = p.len;
    r->params.val = p.val;
    return dom && !error_is_set(&c->err) ? 0 : -1;
}

static int get_hostname(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_hostname_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    json_t *answer = NULL;
    if (dom && (a->flags & VIR_DOMAIN_GET_HOSTNAME_LEASE))
        call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED, "domain '%s': leases are not known to the host; use --source agent", dom->name);
    else if (dom)
        answer = agent_ask(dom, "{\"execute\": \"guest-get-host-name\"}", AGENT_WAIT_MS, &c->err);
    const char *name = json_get_string(json_object_get(answer, "return"), "host-name");
    ((struct remote_domain_get_hostname_ret *)ret)->hostname = call_string(c, name);
    if (answer && !name)
        call_fail(c, VIR_ERR_OPERATION_FAILED, "domain '%s': its guest agent does not know its name", dom->name);
    json_decref(answer);
    call_dom_done(dom);
    return name ? 0 : -1;
}

static int get_time(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_time_args *a = args;
    struct remote_domain_get_time_ret *r = ret;
    struct dom *dom = call_dom_locked(c, &a->dom);
    json_t *answer = dom ? agent_ask(dom, "{\"execute\": \"guest-get-time\"}", AGENT_WAIT_MS, &c->err) : NULL;
    int64_t ns = json_get_int(answer, "return", -1);
    r->seconds = ns / (int64_t)NS_PER_S;
    r->nseconds = (uint32_t)(ns % (int64_t)NS_PER_S);
    if (answer && ns < 0)
        call_fail(c, VIR_ERR_OPERATION_FAILED, "domain '%s': its guest agent does not know the time", dom->name);
    json_decref(answer);
    call_dom_done(dom);
    return ns < 0 ? -1 : 0;
}

static int set_time(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_time_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    char command[128] = "{\"execute\": \"guest-set-time\"}"; /* from the RTC */
    json_t *answer = NULL;
    (void)ret;
    if (!(a->flags & VIR_DOMAIN_TIME_SYNC))
        snprintf(command, sizeof command, "{\"execute\": \"guest-set-time\", \"arguments\": {\"time\": %lld}}",
                 (long long)((uint64_t)a->seconds * NS_PER_S + a->nseconds));
    if (dom && (a->seconds < 0 || a->seconds > INT64_MAX / (int64_t)NS_PER_S - 1 || a->nseconds >= NS_PER_S))
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': %lld s cannot be set; give a time after 1970", dom->name,
                  (long long)a->seconds);
    else if (dom)
        answer = agent_ask(dom, command, AGENT_WAIT_MS, &c->err);
    json_decref(answer);
    call_dom_done(dom);
    return answer ? 0 : -1;
}

const struct handler agent_handlers[] = {
    {REMOTE_PROC_DOMAIN_GET_GUEST_INFO, get_guest_info, false},
    {REMOTE_PROC_DOMAIN_GET_HOSTNAME, get_hostname, false},
    {REMOTE_PROC_DOMAIN_GET_TIME, get_time, false},
    {REMOTE_PROC_DOMAIN_SET_TIME, set_time, false},
    {0, NULL, false},
};

const struct handler qemu_handlers[] = {
    {QEMU_PROC_DOMAIN_MONITOR_COMMAND, monitor_command, false},
    {QEMU_PROC_DOMAIN_AGENT_COMMAND, agent_command, false},
    {0, NULL, false},
};
