// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest agent (qemu-guest-agent), over the channel org.qemu.guest_agent.0. Whatever comes from the guest is hostile: an answer
 * has AGENT_MAX bytes at most and a deadline, and a guest that does not answer fails the calls that are for its agent.
 *
 * An answer that somebody gave up waiting for may still lie in the channel. So each conversation begins with a number that the
 * agent repeats after a byte 0xff: everything before that is thrown away.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/unix.h"
#include "base/util.h"
#include "daemon/agent.h"
#include "rpc/remote.h"

#define AGENT_CHANNEL "org.qemu.guest_agent.0"
#define AGENT_S       (AGENT_WAIT_MS / 1000)
#define AGENT_MAX     (1u << 20)
#define REFUSAL_MS    500 /* within which an agent says that it will not switch off; one that does says nothing */

struct agent {
    const struct dom *dom;
    int fd;
    int64_t end; /* ms of the monotonic clock */
    char *in;
    size_t len, cap;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int silent(const struct dom *dom, struct error *err)
{
    return error_set(err, VIR_ERR_AGENT_UNRESPONSIVE,
                     "domain '%s': its guest agent does not answer; see whether qemu-guest-agent runs in the guest", dom->name);
}

static void agent_close(struct agent *a)
{
    if (a->fd >= 0)
        close(a->fd);
    free(a->in);
}

/* The next line that ends before the deadline, without its end; NULL. It stays until the next call. */
static char *read_line(struct agent *a, size_t *taken)
{
    memmove(a->in, a->in + *taken, a->len - *taken);
    a->len -= *taken;
    for (;;) {
        char *end = a->len ? memchr(a->in, '\n', a->len) : NULL;
        if (end) {
            *end = 0;
            *taken = (size_t)(end - a->in) + 1;
            return a->in;
        }
        *taken = 0;
        int64_t left = a->end - now_ms();
        struct pollfd p = {.fd = a->fd, .events = POLLIN};
        if (a->len == a->cap || left <= 0 || poll(&p, 1, (int)left) <= 0)
            return NULL;
        ssize_t n = recv(a->fd, a->in + a->len, a->cap - a->len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            return NULL;
        a->len += (size_t)MAX(n, 0);
    }
}

static bool send_text(const struct agent *a, const char *text)
{
    size_t len = strlen(text);
    return send(a->fd, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* Until the agent has repeated the number. */
static int synchronise(struct agent *a, size_t *taken, struct error *err)
{
    char hello[128];
    int64_t id = now_ms() & 0x7fffffff;
    snprintf(hello, sizeof hello, "\xff{\"execute\": \"guest-sync-delimited\", \"arguments\": {\"id\": %lld}}\n", (long long)id);
    if (!send_text(a, hello))
        return silent(a->dom, err);
    for (char *line; (line = read_line(a, taken));) {
        size_t len = *taken - 1;
        char *mark = memrchr(line, '\xff', len);
        char *from = mark ? mark + 1 : line;
        json_t *j = json_parse(from, len - (size_t)(from - line), NULL);
        bool ours = json_get_int(j, "return", -1) == id;
        json_decref(j);
        if (ours)
            return 0;
    }
    return silent(a->dom, err);
}

static int agent_open(struct agent *a, struct dom *dom, struct error *err)
{
    struct daemon *d = dom->hv->daemon;
    int index = -1;
    *a = (struct agent){.dom = dom, .fd = -1, .end = now_ms() + AGENT_WAIT_MS, .cap = AGENT_MAX};
    pthread_mutex_lock(&d->lock);
    bool active = dom_active(dom) && dom->live;
    for (unsigned i = 0; active && i < dom->live->nchannels; i++)
        if (strcmp(dom->live->channels[i].name, AGENT_CHANNEL) == 0 && !dom->live->channels[i].path)
            index = (int)i;
    pthread_mutex_unlock(&d->lock);
    if (!active)
        return error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' is not running", dom->name);
    AUTO_FREE char *path = index < 0 || dom->hv->driver != &lodge_driver ? NULL : process_channel_path(dom, (unsigned)index);
    if (!path)
        return error_set(err, VIR_ERR_ARGUMENT_UNSUPPORTED,
                         "domain '%s' has no channel for a guest agent; add <channel> with the name %s", dom->name, AGENT_CHANNEL);
    a->in = malloc(a->cap);
    if (!a->in)
        return error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", dom->name);
    a->fd = unix_connect(path, 0, AGENT_S);
    return a->fd < 0 ? silent(dom, err) : 0;
}

json_t *agent_ask(struct dom *dom, const char *command, int wait_ms, struct error *err)
{
    struct agent a __attribute__((cleanup(agent_close)));
    size_t taken = 0;
    bool may_end = wait_ms == AGENT_REFUSAL;
    if (agent_open(&a, dom, err) < 0 || synchronise(&a, &taken, err) < 0)
        return NULL;
    if (!send_text(&a, command) || !send_text(&a, "\n")) {
        silent(dom, err);
        return NULL;
    }
    if (wait_ms == 0)
        return NULL;
    a.end = now_ms() + (may_end ? REFUSAL_MS : wait_ms);
    const char *line = read_line(&a, &taken);
    json_t *answer = line ? json_parse(line, taken - 1, NULL) : NULL;
    const json_t *e = json_object_get(answer, "error");
    if (!answer && !may_end)
        silent(dom, err);
    if (!e)
        return answer;
    error_set(err, VIR_ERR_OPERATION_FAILED, "domain '%s': its guest agent says: %.200s", dom->name,
              json_get_string(e, "desc") ? json_get_string(e, "desc") : "error");
    json_decref(answer);
    return NULL;
}
