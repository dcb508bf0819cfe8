// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge's verbs that talk to a daemon: libvirt's protocol by rpc/calls.h, virsh's names. A row of `actions` is a verb for one
 * domain.
 */
#include "cli/manage.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include "base/util.h"
#include "model/domain.h"
#include "rpc/calls.h"

#define XML_MAX       (1u << 20)
#define CONSOLE_LEAVE 0x1d /* Ctrl-], as in virsh */

/* ---- the connection ---- */

/* The socket of a local URI: qemu:///system, qemu:///session, with ?socket=PATH before everything else. NULL with err. */
static char *socket_of(const char *uri, struct error *err)
{
    const char *socket = strstr(uri, "socket="), *runtime = getenv("XDG_RUNTIME_DIR"), *path = strstr(uri, "://"), *result = NULL;
    AUTO_FREE char *session = NULL;
    if (socket)
        return strndup(socket + 7, strcspn(socket + 7, "&"));
    if (path && strcmp(path, ":///system") == 0)
        result = "/run/libvirt/libvirt-sock";
    if (path && strcmp(path, ":///session") == 0 && geteuid() == 0)
        result = "/run/libvirt/libvirt-sock";
    else if (path && strcmp(path, ":///session") == 0 && runtime && asprintf(&session, "%s/libvirt/libvirt-sock", runtime) > 0)
        result = session;
    if (!result)
        error_set(err, 0, "URI '%s': not a local daemon; write qemu:///system, qemu:///session, or qemu+unix:///system?socket=PATH",
                  uri);
    return result ? strdup(result) : NULL;
}

static int connect_daemon(const char *uri, struct rpc_client **c, struct error *err)
{
    const char *given = uri ? uri : getenv("LIBVIRT_DEFAULT_URI");
    const char *used = given && *given ? given : geteuid() == 0 ? "qemu:///system" : "qemu:///session";
    AUTO_FREE char *path = socket_of(used, err);
    char name[64] = "";
    const char *tail = strstr(used, "://");
    struct remote_auth_list_ret auth;
    if (!path || rpc_client_connect(path, c, err) < 0)
        return -1;
    if (tail)
        snprintf(name, sizeof name, "qemu%.*s", (int)strcspn(tail, "?"), tail);
    const struct remote_connect_open_args open = {.name = name};
    if (client_auth_list(*c, &auth, err) < 0 || client_connect_open(*c, &open, err) < 0) {
        rpc_client_close(*c);
        return -1;
    }
    return 0;
}

static int find(struct rpc_client *c, const char *name, struct remote_nonnull_domain *dom, char **kept, struct error *err)
{
    const struct remote_domain_lookup_by_name_args args = {.name = (char *)name};
    struct remote_domain_lookup_by_name_ret ret;
    if (client_domain_lookup_by_name(c, &args, &ret, err) < 0)
        return -1;
    *dom = ret.dom;
    dom->name = *kept = strdup(ret.dom.name); /* what the answer points to stays until the next call only */
    return *kept ? 0 : error_set(err, ENOMEM, "out of memory");
}

/* ---- verbs for one domain ---- */

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
    {"undefine", REMOTE_PROC_DOMAIN_UNDEFINE, "undefined"},
    {"start", REMOTE_PROC_DOMAIN_CREATE, "started"},
    {"shutdown", REMOTE_PROC_DOMAIN_SHUTDOWN, "asked to switch off"},
    {"reboot", REMOTE_PROC_DOMAIN_REBOOT, "asked to reboot"},
    {"reset", REMOTE_PROC_DOMAIN_RESET, "reset"},
    {"destroy", REMOTE_PROC_DOMAIN_DESTROY, "ended"},
    {"suspend", REMOTE_PROC_DOMAIN_SUSPEND, "suspended"},
    {"resume", REMOTE_PROC_DOMAIN_RESUME, "resumed"},
};

static int act(struct rpc_client *c, const char *verb, struct remote_nonnull_domain *dom, struct error *err)
{
    const struct plain_args args = {.dom = *dom};
    struct remote_domain_shutdown_args unused;
    for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
        if (strcmp(actions[i].verb, verb) != 0)
            continue;
        if (rpc_client_call(c, actions[i].proc, &args, &unused, err) < 0)
            return -1;
        printf("domain '%s': %s\n", dom->name, actions[i].done);
        return 0;
    }
    return 1;
}

static int dumpxml(struct rpc_client *c, struct remote_nonnull_domain *dom, struct error *err)
{
    const struct remote_domain_get_xml_desc_args args = {.dom = *dom};
    struct remote_domain_get_xml_desc_ret ret;
    if (client_domain_get_xml_desc(c, &args, &ret, err) < 0)
        return -1;
    fputs(ret.xml, stdout);
    return 0;
}

static const char *const states[] = {"no state", "running", "blocked", "paused", "in shutdown", "shut off", "crashed", "suspended"};

static const char *state_name(int state)
{
    return state >= 0 && state < (int)ARRAY_SIZE(states) ? states[state] : "unknown";
}

static int dominfo(struct rpc_client *c, struct remote_nonnull_domain *dom, struct error *err)
{
    const struct remote_domain_get_info_args args = {.dom = *dom};
    const struct remote_domain_get_autostart_args autostart = {.dom = *dom};
    struct remote_domain_get_info_ret info;
    struct remote_domain_get_autostart_ret starts;
    char uuid[37];
    if (client_domain_get_info(c, &args, &info, err) < 0 || client_domain_get_autostart(c, &autostart, &starts, err) < 0)
        return -1;
    domain_format_uuid(dom->uuid, uuid);
    printf("name       %s\nuuid       %s\nstate      %s\nCPUs       %u\nCPU time   %.1f s\nmaximum    %llu KiB\nmemory     %llu "
           "KiB\nautostart  %s\n",
           dom->name, uuid, state_name(info.state), info.nrVirtCpu, (double)info.cpuTime / 1e9, (unsigned long long)info.maxMem,
           (unsigned long long)info.memory, starts.autostart ? "yes" : "no");
    return 0;
}

static int autostart(struct rpc_client *c, struct remote_nonnull_domain *dom, const char *value, struct error *err)
{
    if (value && strcmp(value, "on") != 0 && strcmp(value, "off") != 0)
        return error_set(err, 0, "lodge autostart: '%s' is neither on nor off", value);
    const struct remote_domain_set_autostart_args args = {.dom = *dom, .autostart = !value || value[1] == 'n'};
    return client_domain_set_autostart(c, &args, err);
}

static int setmem(struct rpc_client *c, struct remote_nonnull_domain *dom, const char *size, struct error *err)
{
    uint64_t bytes;
    if (!size || domain_parse_size(size, MIB, &bytes) < 0)
        return error_set(err, 0, "lodge setmem: '%s' is not an amount of memory; give one such as 512M", size ? size : "");
    const struct remote_domain_set_memory_flags_args args = {.dom = *dom, .memory = bytes / KIB};
    return client_domain_set_memory_flags(c, &args, err);
}

/* ---- the console ---- */

static int console_loop(struct rpc_client *c, struct error *err)
{
    struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = rpc_client_fd(c), .events = POLLIN}};
    char buf[1024];
    const void *data;
    while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
        if (fds[1].revents) {
            ssize_t n = rpc_client_stream_receive(c, &data, err);
            if (n <= 0)
                return n < 0 ? -1 : rpc_client_stream_finish(c, err);
            if (write(STDOUT_FILENO, data, (size_t)n) < 0)
                return 0;
        }
        if (fds[0].revents) {
            ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
            const char *leave = n > 0 ? memchr(buf, CONSOLE_LEAVE, (size_t)n) : buf;
            if (n <= 0 || leave)
                return rpc_client_stream_abort(c, err);
            if (rpc_client_stream_send(c, buf, (size_t)n, err) < 0)
                return -1;
        }
    }
    return 0;
}

static int console(struct rpc_client *c, struct remote_nonnull_domain *dom, struct error *err)
{
    const struct remote_domain_open_console_args args = {.dom = *dom};
    struct termios saved, raw;
    bool tty = tcgetattr(STDIN_FILENO, &saved) == 0;
    if (client_domain_open_console(c, &args, err) < 0)
        return -1;
    fprintf(stderr, "lodge: console of '%s'; Ctrl-] leaves it\n", dom->name);
    if (tty) {
        raw = saved;
        cfmakeraw(&raw);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    int result = console_loop(c, err);
    if (tty)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
    fputc('\n', stderr);
    return result;
}

/* ---- verbs without a domain ---- */

static int list(struct rpc_client *c, bool all, struct error *err)
{
    const struct remote_connect_list_all_domains_args args = {.need_results = 1,
                                                              .flags = all ? 0 : VIR_CONNECT_LIST_DOMAINS_ACTIVE};
    struct remote_connect_list_all_domains_ret ret;
    struct remote_domain_get_state_ret state;
    if (client_connect_list_all_domains(c, &args, &ret, err) < 0)
        return -1;
    /* The next call frees what the list points to: names are copied first. */
    struct remote_nonnull_domain *doms = calloc(ret.domains.len + 1, sizeof *doms);
    unsigned n = doms ? ret.domains.len : 0;
    for (unsigned i = 0; i < n; i++) {
        doms[i] = ret.domains.val[i];
        doms[i].name = strdup(doms[i].name);
    }
    printf("%-5s %-30s %s\n", "id", "name", "state");
    for (unsigned i = 0; i < n; i++) {
        const struct remote_domain_get_state_args one = {.dom = doms[i]};
        char id[16] = "-";
        if (doms[i].id >= 0)
            snprintf(id, sizeof id, "%d", doms[i].id);
        if (client_domain_get_state(c, &one, &state, NULL) == 0) /* one that is gone since is left out */
            printf("%-5s %-30s %s\n", id, doms[i].name, state_name(state.state));
        free(doms[i].name);
    }
    free(doms);
    return 0;
}

static int define(struct rpc_client *c, const char *file, struct error *err)
{
    AUTO_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    AUTO_FREE char *xml = malloc(XML_MAX + 1);
    ssize_t n = fd >= 0 && xml ? read(fd, xml, XML_MAX) : -1;
    if (n < 0)
        return error_set(err, errno, "domain XML '%s': cannot read: %s; give the path of a file that you may read", file,
                         strerror(errno));
    xml[n] = 0;
    const struct remote_domain_define_xml_args args = {.xml = xml};
    struct remote_domain_define_xml_ret ret;
    if (client_domain_define_xml(c, &args, &ret, err) < 0)
        return -1;
    printf("domain '%s': defined\n", ret.dom.name);
    return 0;
}

static int run_for_domain(struct rpc_client *c, int argc, char **argv, struct error *err)
{
    struct remote_nonnull_domain dom;
    AUTO_FREE char *name = NULL;
    const char *verb = argv[0], *value = argc > 2 ? argv[2] : NULL;
    if (find(c, argv[1], &dom, &name, err) < 0)
        return -1;
    if (strcmp(verb, "dumpxml") == 0)
        return dumpxml(c, &dom, err);
    if (strcmp(verb, "dominfo") == 0)
        return dominfo(c, &dom, err);
    if (strcmp(verb, "autostart") == 0)
        return autostart(c, &dom, value, err);
    if (strcmp(verb, "setmem") == 0)
        return setmem(c, &dom, value, err);
    if (strcmp(verb, "console") == 0)
        return console(c, &dom, err);
    return act(c, verb, &dom, err);
}

int verb_manage(int argc, char **argv, struct error *err)
{
    const char *uri = NULL;
    struct rpc_client *c;
    int i = 1, result;
    argv--; /* the verb stands before its arguments */
    argc++;
    bool all = false;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (strcmp(argv[i], "-c") == 0 && i + 1 < argc)
            uri = argv[++i];
        else if (strcmp(argv[i], "--all") == 0)
            all = true;
        else {
            error_set(err, 0, "lodge %s: option '%s' is unknown; write -c URI%s", argv[0], argv[i],
                      strcmp(argv[0], "list") ? "" : " or --all");
            return 1;
        }
    }
    bool lists = strcmp(argv[0], "list") == 0;
    if (!lists && i >= argc) {
        error_set(err, 0, "lodge %s: names no %s; add one", argv[0], strcmp(argv[0], "define") ? "domain" : "file");
        return 1;
    }
    if (connect_daemon(uri, &c, err) < 0)
        return 1;
    argv[i - 1] = argv[0];
    argv += i - 1;
    argc -= i - 1;
    if (lists)
        result = list(c, all, err);
    else if (strcmp(argv[0], "define") == 0)
        result = define(c, argv[1], err);
    else
        result = run_for_domain(c, argc, argv, err);
    rpc_client_close(c);
    return result ? 1 : 0;
}
