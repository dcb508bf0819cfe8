// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/util.h"

#define OUT_SIZE    (1u << 20) /* far more than is written between two waits; untouched pages cost nothing */
#define OUT_HIGH    65536u     /* from here on those who may wait do */
#define IN_SIZE     16384u
#define WRITE_CHUNK 1024u /* what a terminal takes at once without making the loop wait for long */
#define ESCAPE      0x01  /* Ctrl-A */
#define FLUSH_NS    (2 * NS_PER_S)

struct terminal {
    struct terminal_ops ops;
    int wake_fd; /* an eventfd: there is output to write, or the device has room for input */
    bool tty;
    struct termios saved;
    pid_t watcher;
    int watcher_pipe;
    int in_index, out_index, wake_index; /* in the pollset */

    pthread_mutex_t lock; /* of the output */
    pthread_cond_t room;
    bool closed;  /* nobody reads it any more: output is dropped */
    bool release; /* nobody waits for room */
    unsigned out_start, out_len;
    char out[OUT_SIZE]; /* a ring */

    bool in_end, escape;
    unsigned in_len;
    uint8_t in[IN_SIZE]; /* what the guest has not taken yet */
};

static const char help[] = "\nlodge: Ctrl-A x  ends the guest at once\n"
                           "       Ctrl-A p  presses its power button\n"
                           "       Ctrl-A b  sends a break\n"
                           "       Ctrl-A h  shows this\n"
                           "       Ctrl-A Ctrl-A  sends a Ctrl-A\n";
static const char no_monitor[] = "\nlodge: Ctrl-A c is kept for a monitor; see Ctrl-A h\n";

/* ---- the mode and its watcher ---- */

/* The child: holds the terminal and a pipe, nothing else. One byte says that the mode is restored, the pipe's end that nobody did
 * it. */
static _Noreturn void watch(int pipe_fd, const struct termios *saved)
{
    sigset_t all;
    char byte;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "lodge-tty");
    setsid(); /* signals to the guest's process group are not for it, and it may set the mode from the background */
    if (dup2(pipe_fd, 1) < 0 || close_range(2, ~0u, 0) < 0)
        _exit(1);
    ssize_t n;
    do
        n = read(1, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        tcsetattr(0, TCSADRAIN, saved);
    _exit(0);
}

static int start_watcher(struct terminal *t, struct error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return error_set(err, errno, "terminal: cannot create a pipe: %s; raise the limit of open files (ulimit -n)",
                         strerror(errno));
    t->watcher = fork();
    if (t->watcher == 0) {
        close(ends[1]);
        watch(ends[0], &t->saved);
    }
    close(ends[0]);
    t->watcher_pipe = ends[1];
    return t->watcher < 0
               ? error_set(err, errno, "terminal: cannot start its watcher: %s; raise the limit of processes (ulimit -u)",
                           strerror(errno))
               : 0;
}

/*
 * Input byte by byte, without echo, and Ctrl-C goes to the guest. Output processing stays on: the log's lines come out straight,
 * and a guest's "\r\n" looks the same.
 */
static int enter_raw(struct terminal *t, struct error *err)
{
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &t->saved) < 0)
        return error_set(err, errno, "terminal: cannot read its mode: %s", strerror(errno));
    if (start_watcher(t, err) < 0)
        return -1;
    raw = t->saved;
    raw.c_iflag &= ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
    raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0)
        return error_set(err, errno, "terminal: cannot set raw mode: %s", strerror(errno));
    return 0;
}

static void leave_raw(struct terminal *t)
{
    if (!t->tty || t->watcher_pipe < 0)
        return;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &t->saved);
    if (write(t->watcher_pipe, "", 1) != 1) {
        /* The watcher is gone, and so is the need for it. */
    }
    close(t->watcher_pipe);
    if (t->watcher > 0)
        waitpid(t->watcher, NULL, 0);
    t->watcher_pipe = -1;
}

int terminal_open(struct terminal **out, struct error *err)
{
    struct terminal *t = calloc(1, sizeof *t);
    if (!t)
        return error_set(err, ENOMEM, "terminal: out of memory");
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->room, NULL);
    t->watcher_pipe = -1;
    t->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->wake_fd < 0) {
        error_set(err, errno, "terminal: cannot create an eventfd: %s; raise the limit of open files (ulimit -n)", strerror(errno));
        terminal_close(t);
        return -1;
    }
    t->tty = isatty(STDIN_FILENO);
    if (t->tty && enter_raw(t, err) < 0) {
        terminal_close(t);
        return -1;
    }
    *out = t;
    return 0;
}

/* ---- output ---- */

static void terminal_write(void *opaque, const void *buf, size_t len)
{
    struct terminal *t = opaque;
    const char *p = buf;
    pthread_mutex_lock(&t->lock);
    if (t->out_len == 0 && len)
        eventfd_write(t->wake_fd, 1);
    while (len && !t->closed && t->out_len < OUT_SIZE) {
        unsigned at = (t->out_start + t->out_len) % OUT_SIZE;
        unsigned n = (unsigned)MIN(len, (size_t)MIN(OUT_SIZE - t->out_len, OUT_SIZE - at));
        memcpy(t->out + at, p, n);
        t->out_len += n;
        p += n;
        len -= n;
    }
    pthread_mutex_unlock(&t->lock);
}

static void terminal_throttle(void *opaque)
{
    struct terminal *t = opaque;
    pthread_mutex_lock(&t->lock);
    while (t->out_len > OUT_HIGH && !t->closed && !t->release)
        pthread_cond_wait(&t->room, &t->lock);
    pthread_mutex_unlock(&t->lock);
}

void terminal_release(struct terminal *t, bool release)
{
    pthread_mutex_lock(&t->lock);
    t->release = release;
    pthread_cond_broadcast(&t->room);
    pthread_mutex_unlock(&t->lock);
}

/* Writes a part of the buffer; standard output is ready for it. A reader that is gone takes everything. */
static void write_some(struct terminal *t)
{
    pthread_mutex_lock(&t->lock);
    unsigned n = MIN(MIN(t->out_len, OUT_SIZE - t->out_start), WRITE_CHUNK), start = t->out_start;
    pthread_mutex_unlock(&t->lock);
    if (!n)
        return;
    /* Only this thread moves out_start, so the bytes stay where they are. */
    ssize_t done = write(STDOUT_FILENO, t->out + start, n);
    if (done < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    pthread_mutex_lock(&t->lock);
    if (done < 0) {
        t->closed = true;
        t->out_len = 0;
    } else {
        t->out_start = (t->out_start + (unsigned)done) % OUT_SIZE;
        t->out_len -= (unsigned)done;
        if (!t->out_len)
            t->out_start = 0; /* stay on the same few pages */
    }
    pthread_cond_broadcast(&t->room);
    pthread_mutex_unlock(&t->lock);
}

static bool has_output(struct terminal *t)
{
    pthread_mutex_lock(&t->lock);
    bool has = t->out_len > 0;
    pthread_mutex_unlock(&t->lock);
    return has;
}

void terminal_flush(struct terminal *t)
{
    for (uint64_t end = now_ns() + FLUSH_NS; has_output(t) && now_ns() < end;) {
        struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
        if (poll(&out, 1, 100) > 0)
            write_some(t);
    }
}

void terminal_close(struct terminal *t)
{
    if (!t)
        return;
    terminal_flush(t);
    leave_raw(t);
    if (t->wake_fd >= 0)
        close(t->wake_fd);
    pthread_cond_destroy(&t->room);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* ---- input ---- */

static void input_ready(void *opaque)
{
    eventfd_write(((struct terminal *)opaque)->wake_fd, 1);
}

struct chardev terminal_chardev(struct terminal *t)
{
    return (struct chardev){.write = terminal_write, .input_ready = input_ready, .wait = terminal_throttle, .opaque = t};
}

void terminal_attach(struct terminal *t, const struct terminal_ops *ops)
{
    t->ops = ops ? *ops : (struct terminal_ops){0};
}

int terminal_size(const struct terminal *t, uint16_t *cols, uint16_t *rows)
{
    struct winsize size;
    if (!t->tty || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col)
        return -1;
    *cols = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

static void deliver(struct terminal *t)
{
    if (!t->in_len || !t->ops.input)
        return;
    size_t taken = t->ops.input(t->ops.opaque, t->in, t->in_len);
    t->in_len -= (unsigned)taken;
    memmove(t->in, t->in + taken, t->in_len);
}

static void say(const char *text)
{
    if (write(STDERR_FILENO, text, strlen(text)) < 0) {
        /* Nobody reads it. */
    }
}

static void put_input(struct terminal *t, uint8_t byte)
{
    if (t->in_len < IN_SIZE)
        t->in[t->in_len++] = byte;
}

static void command(struct terminal *t, uint8_t key)
{
    static const struct {
        uint8_t key;
        enum terminal_command command;
    } keys[] = {{'x', TERMINAL_QUIT}, {'p', TERMINAL_POWER}, {'b', TERMINAL_BREAK}};
    if (key == ESCAPE)
        put_input(t, ESCAPE);
    if (key == 'h' || key == '?')
        say(help);
    if (key == 'c')
        say(no_monitor);
    for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
        if (keys[i].key == key && t->ops.command)
            t->ops.command(t->ops.opaque, keys[i].command);
    }
}

/* A terminal is read always, so that Ctrl-A works with a guest that does not read; a pipe waits until there is room. */
static void read_input(struct terminal *t)
{
    uint8_t buf[256];
    ssize_t n = read(STDIN_FILENO, buf, MIN(sizeof buf, t->tty ? sizeof buf : IN_SIZE - t->in_len));
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n <= 0) {
        t->in_end = true;
        if (t->tty && t->ops.command)
            t->ops.command(t->ops.opaque, TERMINAL_HANGUP);
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (t->escape) {
            t->escape = false;
            command(t, buf[i]);
        } else if (buf[i] == ESCAPE) {
            t->escape = true;
        } else {
            put_input(t, buf[i]);
        }
    }
    deliver(t);
}

void terminal_prepare(struct terminal *t, struct pollset *p)
{
    t->wake_index = pollset_add(p, t->wake_fd, POLLIN);
    t->in_index = t->in_end || (!t->tty && t->in_len == IN_SIZE) ? -1 : pollset_add(p, STDIN_FILENO, POLLIN);
    t->out_index = has_output(t) ? pollset_add(p, STDOUT_FILENO, POLLOUT) : -1;
}

void terminal_dispatch(struct terminal *t, struct pollset *p)
{
    eventfd_t count;
    if (pollset_revents(p, t->wake_index)) {
        eventfd_read(t->wake_fd, &count);
        deliver(t);
    }
    if (pollset_revents(p, t->out_index))
        write_some(t);
    if (pollset_revents(p, t->in_index))
        read_input(t);
}
