// SPDX-License-Identifier: GPL-2.0-or-later
/* The QMP server: sockets, messages, dispatch. See qmp.h. */
#include "control/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "base/unix.h"
#include "base/util.h"
#include "block/block.h"

#define MAX_CLIENTS 8
#define MAX_IN      65536u     /* bytes of one message */
#define MAX_OUT     (1u << 20) /* bytes that a client has not read */

struct client {
    int fd; /* -1: free */
    int index;
    bool negotiated;
    char *in, *out;
    size_t in_len, out_len, out_cap;
};

struct qmp {
    const struct domain *domain;
    struct machine *machine;
    char *path;
    int listen_fd, listen_index, error_index;
    bool reboot;
    uint64_t disk_errors[DOMAIN_MAX_DISKS];
    struct client clients[MAX_CLIENTS];
};

/* ---- output ---- */

static void drop(struct client *c)
{
    if (c->fd < 0)
        return;
    close(c->fd);
    free(c->in);
    free(c->out);
    *c = (struct client){.fd = -1, .index = -1};
}

static void flush_out(struct client *c)
{
    while (c->fd >= 0 && c->out_len) {
        ssize_t n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            drop(c);
            return;
        }
        c->out_len -= (size_t)n;
        memmove(c->out, c->out + n, c->out_len);
    }
}

static void put(struct client *c, const char *text, size_t len)
{
    if (c->fd < 0)
        return;
    if (c->out_len + len > c->out_cap) {
        size_t cap = MAX(c->out_len + len, (size_t)4096);
        char *grown = cap <= MAX_OUT ? realloc(c->out, cap) : NULL;
        if (!grown) {
            log_warn("QMP: a client does not read its answers; it is disconnected");
            drop(c);
            return;
        }
        c->out = grown;
        c->out_cap = cap;
    }
    memcpy(c->out + c->out_len, text, len);
    c->out_len += len;
    flush_out(c);
}

void qmp_event(struct qmp *q, const char *name, const char *data_format, ...)
{
    AUTO_FREE char *data = NULL, *line = NULL;
    struct timespec now;
    va_list ap;
    if (!q)
        return;
    va_start(ap, data_format);
    if (vasprintf(&data, data_format, ap) < 0)
        data = NULL;
    va_end(ap);
    clock_gettime(CLOCK_REALTIME, &now);
    int len =
        data ? asprintf(&line, "{\"timestamp\": {\"seconds\": %lld, \"microseconds\": %ld}, \"event\": \"%s\", \"data\": %s}\r\n",
                        (long long)now.tv_sec, now.tv_nsec / 1000, name, data)
             : -1;
    for (unsigned i = 0; i < MAX_CLIENTS && len > 0; i++)
        if (q->clients[i].negotiated)
            put(&q->clients[i], line, (size_t)len);
}

/* ---- one message ---- */

static bool list_has(const char *list, const char *name)
{
    size_t len = strlen(name);
    for (const char *p = list; p && *p; p += strcspn(p, " "), p += strspn(p, " "))
        if (strcspn(p, " !") == len && strncmp(p, name, len) == 0)
            return true;
    return false;
}

static int check_args(const struct qmp_command *cmd, json_t *args, struct error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach (args, key, value) {
        if (!list_has(cmd->args, key))
            return error_set(err, 0, "Parameter '%.64s' is unexpected", key);
    }
    for (const char *p = cmd->args; p && *p; p += strcspn(p, " "), p += strspn(p, " ")) {
        char name[64];
        size_t word = strcspn(p, " !");
        snprintf(name, sizeof name, "%.*s", (int)word, p);
        if (p[word] == '!' && !json_object_get(args, name))
            return error_set(err, 0, "Parameter '%s' is missing", name);
    }
    return 0;
}

/* Runs a command, whose answer goes to `answer`. The class of the error, or NULL when it went well. */
static const char *execute(struct qmp *q, struct client *c, const json_t *message, FILE *answer, struct error *err)
{
    const char *name = json_get_string(message, "execute");
    json_t *args = json_object_get(message, "arguments");
    const struct qmp_command *cmd = qmp_commands;
    if (!name) {
        error_set(err, 0, "QMP input must be an object with the string member 'execute'");
        return "GenericError";
    }
    if (args && !json_is_object(args)) {
        error_set(err, 0, "QMP input member 'arguments' must be an object");
        return "GenericError";
    }
    bool negotiate = strcmp(name, "qmp_capabilities") == 0;
    if (negotiate == c->negotiated) {
        error_set(err, 0,
                  negotiate ? "Capabilities negotiation is already complete, command ignored"
                            : "Expecting capabilities negotiation with 'qmp_capabilities'");
        return "CommandNotFound";
    }
    while (cmd->name && strcmp(cmd->name, name) != 0)
        cmd++;
    if (!cmd->name) {
        error_set(err, 0, "The command %.64s has not been found", name);
        return "CommandNotFound";
    }
    if (check_args(cmd, args, err) < 0 || (cmd->run && cmd->run(q, args, answer, err) < 0))
        return "GenericError";
    c->negotiated |= negotiate;
    return NULL;
}

static void handle(struct qmp *q, struct client *c, const char *text, size_t len)
{
    ERROR_SCOPED(err);
    AUTO_FREE char *value = NULL, *line = NULL;
    size_t value_len = 0, line_len = 0;
    json_auto_t *message = json_parse(text, len, &err);
    FILE *answer = open_memstream(&value, &value_len), *out = open_memstream(&line, &line_len);
    if (!answer || !out) {
        if (answer)
            fclose(answer);
        if (out)
            fclose(out);
        drop(c);
        return;
    }
    const char *class = message ? execute(q, c, message, answer, &err) : "GenericError";
    fclose(answer);
    if (class) {
        fprintf(out, "{\"error\": {\"class\": \"%s\", \"desc\": ", class);
        json_put_string(out, error_text(&err));
        fputc('}', out);
    } else {
        fprintf(out, "{\"return\": %s", value_len ? value : "{}");
    }
    if (json_object_get(message, "id")) {
        fputs(", \"id\": ", out);
        json_put(out, json_object_get(message, "id"));
    }
    fputs("}\r\n", out);
    fclose(out);
    put(c, line, line_len);
}

/* ---- input ---- */

/* Bytes of the first whole message: up to the brace that closes it, or a line that begins otherwise. 0: more is needed. */
static size_t message_len(const char *text, size_t len)
{
    unsigned depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (quoted)
            quoted = text[i] != '"';
        else if (text[i] == '"')
            quoted = true;
        else if (text[i] == '{' || text[i] == '[')
            depth++;
        else if (depth && (text[i] == '}' || text[i] == ']') && --depth == 0)
            return i + 1;
        else if (depth == 0 && text[i] == '\n')
            return i + 1;
    }
    return 0;
}

static bool is_blank(const char *text, size_t len)
{
    while (len && strchr(" \t\r\n", *text) && *text)
        text++, len--;
    return len == 0;
}

static void take_messages(struct qmp *q, struct client *c)
{
    size_t n;
    while (c->fd >= 0 && q->machine && (n = message_len(c->in, c->in_len))) {
        if (!is_blank(c->in, n))
            handle(q, c, c->in, n);
        if (c->fd < 0)
            return;
        c->in_len -= n;
        memmove(c->in, c->in + n, c->in_len);
    }
    if (c->fd >= 0 && c->in_len == MAX_IN) {
        log_warn("QMP: a client sends a message longer than %u bytes; it is disconnected", MAX_IN);
        drop(c);
    }
}

static void read_client(struct qmp *q, struct client *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, MAX_IN - c->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        drop(c);
        return;
    }
    c->in_len += (size_t)n;
    take_messages(q, c);
}

static void greet(struct client *c)
{
    static const char greeting[] =
        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, \"package\": \"Lodge " LODGE_VERSION
        "\"}, \"capabilities\": []}}\r\n";
    put(c, greeting, sizeof greeting - 1);
}

static void accept_client(struct qmp *q)
{
    int fd = accept4(q->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        struct client *c = &q->clients[i];
        if (c->fd >= 0)
            continue;
        *c = (struct client){.fd = fd, .index = -1, .in = malloc(MAX_IN)};
        if (c->in)
            greet(c);
        else
            drop(c);
        return;
    }
    log_warn("QMP: more than %u clients; one is refused", MAX_CLIENTS);
    close(fd);
}

/* ---- the machine's loop ---- */

static void prepare(void *opaque, struct pollset *p)
{
    struct qmp *q = opaque;
    q->listen_index = pollset_add(p, q->listen_fd, POLLIN);
    q->error_index = pollset_add(p, machine_disk_error_fd(q->machine), POLLIN);
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        struct client *c = &q->clients[i];
        c->index = c->fd < 0 ? -1 : pollset_add(p, c->fd, (short)(POLLIN | (c->out_len ? POLLOUT : 0)));
    }
}

static void tell_disk_errors(struct qmp *q)
{
    eventfd_t count;
    eventfd_read(machine_disk_error_fd(q->machine), &count);
    for (unsigned i = 0; i < q->domain->ndisks; i++) {
        const struct block_stats *s = machine_disk_stats(q->machine, i);
        if (!s || s->errors == q->disk_errors[i])
            continue;
        q->disk_errors[i] = s->errors;
        bool stopped = machine_disk_stopped(q->machine, i);
        qmp_event(q, "BLOCK_IO_ERROR", "{\"device\": \"%s\", \"action\": \"%s\", \"reason\": \"%s\"}",
                  q->domain->disks[i].target, stopped ? "stop" : "report", strerror(s->last_error));
        if (stopped)
            qmp_event(q, "STOP", "{}");
    }
}

static void dispatch(void *opaque, struct pollset *p)
{
    struct qmp *q = opaque;
    if (pollset_revents(p, q->error_index))
        tell_disk_errors(q);
    for (unsigned i = 0; i < MAX_CLIENTS; i++) {
        struct client *c = &q->clients[i];
        short events = c->fd >= 0 && c->index >= 0 ? pollset_revents(p, c->index) : 0;
        if (events & POLLOUT)
            flush_out(c);
        if (c->fd >= 0 && (events & (POLLIN | POLLHUP | POLLERR)))
            read_client(q, c);
    }
    if (pollset_revents(p, q->listen_index))
        accept_client(q);
}

static void detached(void *opaque, const char *name, int disk)
{
    struct qmp *q = opaque;
    if (disk >= 0) {
        memmove(&q->disk_errors[disk], &q->disk_errors[disk + 1], (DOMAIN_MAX_DISKS - 1 - (unsigned)disk) * sizeof q->disk_errors[0]);
        q->disk_errors[DOMAIN_MAX_DISKS - 1] = 0;
    }
    qmp_event(q, "DEVICE_DELETED", "{\"device\": \"%s\"}", name);
}

void qmp_set_machine(struct qmp *q, struct machine *m)
{
    const struct machine_watch watch = {.prepare = prepare, .dispatch = dispatch, .detached = detached, .opaque = q};
    if (!q)
        return;
    q->machine = m;
    memset(q->disk_errors, 0, sizeof q->disk_errors);
    if (m)
        machine_set_watch(m, &watch);
    for (unsigned i = 0; m && i < MAX_CLIENTS; i++)
        take_messages(q, &q->clients[i]);
}

/* ---- life ---- */

/* Removes what a process that was killed left behind: a socket that nobody listens on, and nothing else. */
static int remove_stale(const char *path, struct error *err)
{
    struct stat st;
    if (lstat(path, &st) < 0)
        return 0;
    if (!S_ISSOCK(st.st_mode))
        return error_set(err, EEXIST, "QMP socket '%s': a file of that name exists; remove it or give another path", path);
    AUTO_CLOSE int fd = unix_connect(path, SOCK_NONBLOCK, 0);
    if (fd >= 0 || errno != ECONNREFUSED)
        return error_set(err, EADDRINUSE, "QMP socket '%s': another process listens there; end it or give another path", path);
    unlink(path);
    return 0;
}

static int listen_on(struct qmp *q, const char *path, struct error *err)
{
    if (!path[0])
        return error_set(err, 0, "option '--qmp': there is no path; write unix:PATH");
    if (remove_stale(path, err) < 0)
        return -1;
    q->listen_fd = unix_listen(path, SOCK_NONBLOCK, 0600, MAX_CLIENTS);
    if (q->listen_fd < 0)
        return error_set(err, errno,
                         "QMP socket '%s': cannot listen: %s; give a path in a folder that exists and that you may write to", path,
                         unix_strerror(errno));
    q->path = strdup(path);
    return q->path ? 0 : error_set(err, ENOMEM, "QMP: out of memory");
}

/* A socket that listens already: whoever started this process can connect before it is up. */
static int take_listener(struct qmp *q, const char *text, struct error *err)
{
    char *end;
    int listens = 0;
    socklen_t len = sizeof listens;
    long fd = strtol(text, &end, 10);
    if (end == text || *end || fd < 0 || fd > 1 << 20 || getsockopt((int)fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 ||
        !listens)
        return error_set(err, 0, "option '--qmp': 'fd:%s' is no socket that listens; give the number of one", text);
    q->listen_fd = (int)fd;
    fcntl(q->listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(q->listen_fd, F_SETFL, O_NONBLOCK);
    return 0;
}

int qmp_open(const char *address, const struct domain *d, struct qmp **out, struct error *err)
{
    struct qmp *q = calloc(1, sizeof *q);
    int result = -1;
    if (!q)
        return error_set(err, ENOMEM, "QMP: out of memory");
    *q = (struct qmp){.domain = d, .listen_fd = -1};
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        q->clients[i].fd = -1;
    if (strncmp(address, "unix:", 5) == 0)
        result = listen_on(q, address + 5, err);
    else if (strncmp(address, "fd:", 3) == 0)
        result = take_listener(q, address + 3, err);
    else
        error_set(err, 0, "option '--qmp': '%s' is no address; write unix:PATH or fd:NUMBER", address);
    if (result < 0)
        qmp_close(q);
    else
        *out = q;
    return result;
}

void qmp_close(struct qmp *q)
{
    if (!q)
        return;
    for (unsigned i = 0; i < MAX_CLIENTS; i++)
        drop(&q->clients[i]);
    if (q->listen_fd >= 0) {
        close(q->listen_fd);
        if (q->path)
            unlink(q->path);
    }
    free(q->path);
    free(q);
}

struct machine *qmp_machine(struct qmp *q)
{
    return q->machine;
}

const struct domain *qmp_domain(const struct qmp *q)
{
    return q->domain;
}

void qmp_ask_reboot(struct qmp *q)
{
    q->reboot = true;
}

bool qmp_take_reboot(struct qmp *q)
{
    bool asked = q && q->reboot;
    if (asked)
        q->reboot = false;
    return asked;
}
