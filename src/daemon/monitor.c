// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/monitor.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/server.h"

#define ANSWER_MS      5000
#define SILENT_MS      100 /* for a process that has left a question without an answer */
#define END_S          3
#define LINE_MAX_BYTES (1u << 20)

struct monitor {
    struct watch watch; /* first */
    struct dom *dom;    /* referenced */
    unsigned refs;
    pthread_mutex_t turn; /* who asks: one at a time. Taken before `lock` */
    pthread_mutex_t lock;
    pthread_cond_t change;
    bool adopted, ready, dead;
    bool silent;       /* since the last question */
    int pidfd;         /* -1: not known */
    int64_t serial;    /* of the last command */
    json_t *answer;    /* to it, whole */
    char shutdown[32]; /* the reason that the SHUTDOWN event gave */
    char *in;          /* main thread */
    size_t in_len, in_cap;
};

static void free_monitor(void *arg)
{
    struct monitor *m = arg;
    dom_unref(m->dom);
    close(m->watch.fd);
    if (m->pidfd >= 0)
        close(m->pidfd);
    json_decref(m->answer);
    pthread_mutex_destroy(&m->turn);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->change);
    free(m->in);
    free(m);
}

void monitor_unref(struct monitor *m)
{
    if (__atomic_sub_fetch(&m->refs, 1, __ATOMIC_ACQ_REL) == 0)
        loop_defer(&m->dom->hv->daemon->loop, free_monitor, m);
}

struct monitor *monitor_of(struct dom *dom)
{
    struct daemon *d = dom->hv->daemon;
    pthread_mutex_lock(&d->lock);
    struct monitor *m = dom->monitor;
    if (m)
        __atomic_add_fetch(&m->refs, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&d->lock);
    return m;
}

/* ---- what the guest says ---- */

static const struct {
    const char *name;
    int state, reason, event, detail;
} state_events[] = {
    {"STOP", VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED, VIR_DOMAIN_EVENT_SUSPENDED_PAUSED},
    {"RESUME", VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_UNPAUSED, VIR_DOMAIN_EVENT_RESUMED, VIR_DOMAIN_EVENT_RESUMED_UNPAUSED},
};

static void take_event(struct monitor *m, const char *name, const json_t *data)
{
    for (unsigned i = 0; i < ARRAY_SIZE(state_events); i++)
        if (strcmp(name, state_events[i].name) == 0)
            dom_set_state(m->dom, state_events[i].state, state_events[i].reason, state_events[i].event, state_events[i].detail);
    if (strcmp(name, "RESET") == 0) {
        dom_set_state(m->dom, VIR_DOMAIN_RUNNING, VIR_DOMAIN_RUNNING_BOOTED, VIR_DOMAIN_EVENT_RESUMED,
                      VIR_DOMAIN_EVENT_RESUMED_UNPAUSED);
        event_reboot(m->dom);
    }
    const char *reason = json_get_string(data, "reason");
    if (strcmp(name, "SHUTDOWN") == 0 && reason) {
        snprintf(m->shutdown, sizeof m->shutdown, "%s", reason);
        if (strcmp(reason, "guest-shutdown") == 0)
            event_lifecycle(m->dom, VIR_DOMAIN_EVENT_SHUTDOWN, VIR_DOMAIN_EVENT_SHUTDOWN_GUEST);
    }
    const char *device = json_get_string(data, "device");
    if (strcmp(name, "DEVICE_DELETED") == 0 && device)
        dom_device_gone(m->dom, device);
    if (strcmp(name, "GUEST_PANICKED") == 0)
        event_lifecycle(m->dom, VIR_DOMAIN_EVENT_CRASHED, VIR_DOMAIN_EVENT_CRASHED_PANICKED);
}

/* The consoles' terminals, by their numbers. What comes from a process goes into XML, so that only paths of terminals do. */
static void take_consoles(struct monitor *m, const json_t *list)
{
    struct daemon *d = m->dom->hv->daemon;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; m->dom->live && i < json_array_size(list); i++) {
        const char *label = json_get_string(json_array_get(list, i), "label");
        const char *file = json_get_string(json_array_get(list, i), "filename");
        unsigned index, pts;
        if (!label || !file || sscanf(label, "console%u", &index) != 1 || index >= m->dom->live->nchars ||
            sscanf(file, "pty:/dev/pts/%u", &pts) != 1 || m->dom->live->chars[index].backend != DOMAIN_CHAR_PTY)
            continue;
        free(m->dom->live->chars[index].tty);
        if (asprintf(&m->dom->live->chars[index].tty, "/dev/pts/%u", pts) < 0)
            m->dom->live->chars[index].tty = NULL;
    }
    pthread_mutex_unlock(&d->lock);
}

/* Answers to what monitor_attach() asked. */
static void take_greeting(struct monitor *m, const char *id, const json_t *value)
{
    const char *status = json_get_string(value, "status");
    if (strcmp(id, "consoles") == 0)
        take_consoles(m, value);
    if (strcmp(id, "process") == 0) {
        pthread_mutex_lock(&m->lock);
        m->dom->pid = (int)json_get_int(value, "pid", 0);
        m->pidfd = pidfd_open(m->dom->pid, 0);
        m->ready = true;
        pthread_cond_broadcast(&m->change);
        pthread_mutex_unlock(&m->lock);
    }
    if (strcmp(id, "status") == 0 && status && strcmp(status, "paused") == 0 && m->ready)
        dom_set_state(m->dom, VIR_DOMAIN_PAUSED, VIR_DOMAIN_PAUSED_USER, VIR_DOMAIN_EVENT_SUSPENDED,
                      VIR_DOMAIN_EVENT_SUSPENDED_PAUSED);
}

static void take_line(struct monitor *m, const char *line, size_t len)
{
    json_t *j = json_parse(line, len, NULL);
    const char *event = json_get_string(j, "event"), *id = json_get_string(j, "id");
    if (event) {
        take_event(m, event, json_object_get(j, "data"));
    } else if (id) {
        take_greeting(m, id, json_object_get(j, "return"));
    } else if (json_object_get(j, "id")) {
        pthread_mutex_lock(&m->lock);
        m->silent = false; /* a late answer is a sign of life */
        if (json_get_int(j, "id", -1) == m->serial && !m->answer) {
            m->answer = j;
            j = NULL;
        }
        pthread_cond_broadcast(&m->change);
        pthread_mutex_unlock(&m->lock);
    }
    json_decref(j);
}

/* ---- its end ---- */

static void tell_gone(struct monitor *m)
{
    static const struct {
        const char *reason;
        int shutoff, detail;
    } rows[] = {{"guest-shutdown", VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN},
                {"guest-reset", VIR_DOMAIN_SHUTOFF_SHUTDOWN, VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN},
                {"guest-panic", VIR_DOMAIN_SHUTOFF_CRASHED, VIR_DOMAIN_EVENT_STOPPED_CRASHED},
                {"host-qmp-quit", VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED},
                {"host-signal", VIR_DOMAIN_SHUTOFF_DESTROYED, VIR_DOMAIN_EVENT_STOPPED_DESTROYED}};
    int shutoff = m->dom->expect_end ? VIR_DOMAIN_SHUTOFF_DESTROYED : VIR_DOMAIN_SHUTOFF_CRASHED;
    int detail = m->dom->expect_end ? VIR_DOMAIN_EVENT_STOPPED_DESTROYED : VIR_DOMAIN_EVENT_STOPPED_CRASHED;
    for (unsigned i = 0; i < ARRAY_SIZE(rows) && !m->dom->expect_end; i++) {
        if (strcmp(rows[i].reason, m->shutdown) == 0) {
            shutoff = rows[i].shutoff;
            detail = rows[i].detail;
        }
    }
    dom_set_gone(m->dom, shutoff, detail);
}

/* Main thread: the process is gone, or says what cannot be understood. */
static void die(struct monitor *m)
{
    struct daemon *d = m->dom->hv->daemon;
    if (m->dead)
        return;
    loop_remove(&d->loop, &m->watch);
    pthread_mutex_lock(&d->lock);
    m->dom->monitor = NULL;
    int id = m->dom->id;
    pthread_mutex_unlock(&d->lock);
    if (m->ready || m->adopted) { /* else its start fails, which its starter sees to */
        process_forget_run(m->dom, id);
        tell_gone(m);
    }
    pthread_mutex_lock(&m->lock);
    m->dead = true;
    pthread_cond_broadcast(&m->change);
    pthread_mutex_unlock(&m->lock);
    monitor_unref(m); /* the loop's */
}

static void monitor_ready(struct watch *w, uint32_t events)
{
    struct monitor *m = container_of(w, struct monitor, watch);
    (void)events;
    if (m->in_len == m->in_cap) {
        size_t cap = MAX(m->in_cap * 2, (size_t)1024);
        char *grown = cap <= LINE_MAX_BYTES ? realloc(m->in, cap) : NULL;
        if (!grown) {
            log_error("domain '%s': its process sends a line that does not end; it is given up", m->dom->name);
            die(m);
            return;
        }
        m->in = grown;
        m->in_cap = cap;
    }
    ssize_t n = recv(w->fd, m->in + m->in_len, m->in_cap - m->in_len, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        die(m);
        return;
    }
    m->in_len += (size_t)n;
    for (char *end; (end = memchr(m->in, '\n', m->in_len));) {
        size_t len = (size_t)(end - m->in);
        take_line(m, m->in, len);
        m->in_len -= len + 1;
        memmove(m->in, end + 1, m->in_len);
    }
}

/* ---- asking ---- */

struct monitor *monitor_attach(struct dom *dom, int fd, bool adopted, struct error *err)
{
    static const char hello[] = "{\"execute\": \"qmp_capabilities\", \"id\": \"hello\"}\n"
                                "{\"execute\": \"query-chardev\", \"id\": \"consoles\"}\n"
                                "{\"execute\": \"x-query-process\", \"id\": \"process\"}\n"
                                "{\"execute\": \"query-status\", \"id\": \"status\"}\n";
    struct daemon *d = dom->hv->daemon;
    struct monitor *m = calloc(1, sizeof *m);
    if (!m) {
        close(fd);
        error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", dom->name);
        return NULL;
    }
    *m = (struct monitor){.watch = {fd, monitor_ready}, .dom = dom, .refs = 2, .adopted = adopted, .pidfd = -1};
    pthread_mutex_init(&m->turn, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->change, NULL);
    pthread_mutex_lock(&d->lock);
    dom->refs++;
    dom->monitor = m;
    pthread_mutex_unlock(&d->lock);
    /* Where nobody listens any more, the loop finds that out. */
    ssize_t sent = send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL);
    if (loop_add(&d->loop, &m->watch, EPOLLIN, err) < 0 || sent != (ssize_t)sizeof hello - 1)
        log_error("domain '%s': cannot talk to its process", dom->name);
    return m;
}

/* The lock is held. False at the deadline. */
static bool wait_change(struct monitor *m, const struct timespec *until)
{
    return pthread_cond_timedwait(&m->change, &m->lock, until) != ETIMEDOUT;
}

static struct timespec deadline(unsigned ms)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + (uint64_t)ms * 1000000;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    return until;
}

int monitor_wait_ready(struct monitor *m, unsigned seconds, struct error *err)
{
    struct timespec until = deadline(seconds * 1000);
    pthread_mutex_lock(&m->lock);
    while (!m->ready && !m->dead && wait_change(m, &until))
        ;
    bool ready = m->ready;
    pthread_mutex_unlock(&m->lock);
    return ready ? 0 : error_set(err, VIR_ERR_INTERNAL_ERROR, "its process does not answer");
}

/* The answer, whole; NULL without one. The asker's turn. */
static json_t *ask(struct monitor *m, const char *command, const char *arguments, const struct timespec *until)
{
    AUTO_FREE char *line = NULL;
    pthread_mutex_lock(&m->lock);
    int len = asprintf(&line, "{\"execute\": \"%s\", \"arguments\": %s, \"id\": %lld}\n", command, arguments ? arguments : "{}",
                       (long long)++m->serial);
    json_decref(m->answer);
    m->answer = NULL;
    bool sent = len > 0 && !m->dead && send(m->watch.fd, line, (size_t)len, MSG_NOSIGNAL | MSG_DONTWAIT) == len;
    while (sent && !m->answer && !m->dead && wait_change(m, until))
        ;
    json_t *answer = m->answer;
    m->answer = NULL;
    m->silent = !answer;
    pthread_mutex_unlock(&m->lock);
    return answer;
}

/* Who asks one thing after the other, of one guest after the other, waits once for a process that is stopped. */
static unsigned patience(struct monitor *m)
{
    pthread_mutex_lock(&m->lock);
    unsigned ms = m->silent ? SILENT_MS : ANSWER_MS;
    pthread_mutex_unlock(&m->lock);
    return ms;
}

json_t *monitor_ask(struct monitor *m, const char *command, const char *arguments, struct error *err)
{
    struct timespec until = deadline(patience(m));
    json_t *answer = NULL;
    if (pthread_mutex_timedlock(&m->turn, &until) == 0) {
        answer = ask(m, command, arguments, &until);
        pthread_mutex_unlock(&m->turn);
    }
    bool dead = !answer && monitor_is_dead(m);
    const json_t *e = json_object_get(answer, "error");
    if (!answer)
        error_set(err, dead ? VIR_ERR_OPERATION_INVALID : VIR_ERR_OPERATION_TIMEOUT, "domain '%s': %s", m->dom->name,
                  dead ? "is not running" : "its process does not answer; destroy it if it stays like that");
    if (!answer || !e)
        return answer;
    error_set(err, VIR_ERR_OPERATION_FAILED, "%s", json_get_string(e, "desc") ? json_get_string(e, "desc") : "QMP error");
    json_decref(answer);
    return NULL;
}

bool monitor_is_dead(struct monitor *m)
{
    pthread_mutex_lock(&m->lock);
    bool dead = m->dead;
    pthread_mutex_unlock(&m->lock);
    return dead;
}

/* Until the domain knows that the process is gone. */
static bool wait_dead(struct monitor *m, unsigned seconds)
{
    struct timespec until = deadline(seconds * 1000);
    pthread_mutex_lock(&m->lock);
    while (!m->dead && wait_change(m, &until))
        ;
    bool dead = m->dead;
    pthread_mutex_unlock(&m->lock);
    return dead;
}

int monitor_end(struct monitor *m, bool graceful, struct error *err)
{
    static const char quit[] = "{\"execute\": \"quit\"}\n";
    if (send(m->watch.fd, quit, sizeof quit - 1, MSG_NOSIGNAL | MSG_DONTWAIT) > 0 && wait_dead(m, END_S))
        return 0;
    if (graceful)
        return error_set(err, VIR_ERR_OPERATION_FAILED,
                         "domain '%s': its process does not end by itself; destroy it without --graceful", m->dom->name);
    if (m->pidfd >= 0)
        pidfd_send_signal(m->pidfd, SIGKILL, NULL, 0);
    if (wait_dead(m, END_S))
        return 0;
    return error_set(err, VIR_ERR_OPERATION_FAILED, "domain '%s': its process %d does not end, although it was killed",
                     m->dom->name, m->dom->pid);
}
