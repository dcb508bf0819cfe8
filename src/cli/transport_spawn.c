// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Connections through a program. ssh(1) asks for what it needs on the terminal itself; on the other host it runs lodge's relay or,
 * where there is no lodge, what libvirt's clients run there: virt-ssh-helper or nc.
 */
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/transport.h"

#define SESSION_SOCKET "\"${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/libvirt/libvirt-sock\""
#define ARGS_MAX       20u

struct program {
    int fd;
    pid_t pid;
};

static ssize_t program_read(void *self, void *data, size_t len)
{
    return recv(((struct program *)self)->fd, data, len, 0);
}

static ssize_t program_write(void *self, const void *data, size_t len)
{
    return send(((struct program *)self)->fd, data, len, MSG_NOSIGNAL);
}

/* It ends by itself when its input does. */
static void program_close(void *self)
{
    struct program *p = self;
    close(p->fd);
    while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(p);
}

static int start(struct program *p, char *const argv[], const char *text, struct error *err)
{
    extern char **environ;
    posix_spawn_file_actions_t actions;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, errno, "URI '%s': cannot make a socket: %s; close other programs", text, strerror(errno));
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pair[1], STDOUT_FILENO);
    int r = posix_spawnp(&p->pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(pair[1]);
    p->fd = pair[0];
    if (r == 0)
        return 0;
    close(pair[0]);
    return error_set(err, r, "URI '%s': cannot run '%s': %s; install it, or name another by ?command=PROGRAM", text, argv[0],
                     strerror(r));
}

static int connect_by(char *const argv[], const char *text, struct rpc_client **c, struct error *err)
{
    struct program *p = calloc(1, sizeof *p);
    if (!p)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    if (start(p, argv, text, err) < 0) {
        free(p);
        return -1;
    }
    const struct rpc_transport t = {.read = program_read, .write = program_write, .close = program_close, .self = p, .fd = p->fd};
    return rpc_client_new(&t, text, c, err);
}

int transport_ext(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err)
{
    const char *command = uri_param(uri, "command");
    if (!command || !*command)
        return error_set(err, 0, "URI '%s': names no program; add ?command=PROGRAM", text);
    char *const argv[] = {(char *)command, NULL};
    return connect_by(argv, text, c, err);
}

/* ---- ssh ---- */

/* As one word of a POSIX shell. */
static void put_quoted(FILE *f, const char *word)
{
    fputc('\'', f);
    for (; *word; word++)
        fputs(*word == '\'' ? "'\\''" : (const char[]){*word, 0}, f);
    fputc('\'', f);
}

/* What the other host's shell runs. To be freed; NULL without memory. */
static char *remote_script(const struct uri *uri)
{
    const char *socket = uri_param(uri, "socket"), *netcat = uri_param(uri, "netcat"), *proxy = uri_param(uri, "proxy");
    bool session = uri->path && strcmp(uri->path, "/session") == 0;
    bool helper = !proxy || strcmp(proxy, "netcat") != 0, only_helper = proxy && strcmp(proxy, "native") == 0;
    char *text = NULL;
    size_t len;
    FILE *f = open_memstream(&text, &len);
    if (!f)
        return NULL;
    fputs("s=", f);
    if (socket || !session)
        put_quoted(f, socket ? socket : SYSTEM_SOCKET);
    else
        fputs(SESSION_SOCKET, f);
    fputs("; ", f);
    if (!netcat && !only_helper)
        fputs("if command -v lodge >/dev/null 2>&1; then exec lodge relay \"$s\"; fi; ", f);
    if (!netcat && !socket && helper) {
        if (!only_helper)
            fputs("if command -v virt-ssh-helper >/dev/null 2>&1; then ", f);
        fputs("exec virt-ssh-helper ", f);
        put_quoted(f, uri->name);
        fputs(only_helper ? "; " : "; fi; ", f);
    }
    fputs("exec ", f);
    put_quoted(f, netcat ? netcat : "nc");
    fputs(" -U \"$s\"", f);
    return fclose(f) == 0 ? text : NULL;
}

/* The script as an argument of sh, because the login shell there may be another one. */
static char *remote_command(const struct uri *uri)
{
    AUTO_FREE char *script = remote_script(uri);
    char *text = NULL;
    size_t len;
    FILE *f = script ? open_memstream(&text, &len) : NULL;
    if (!f)
        return NULL;
    fputs("sh -c ", f);
    put_quoted(f, script);
    return fclose(f) == 0 ? text : NULL;
}

static bool is_set(const struct uri *uri, const char *name)
{
    const char *value = uri_param(uri, name);
    return value && strcmp(value, "1") == 0;
}

int transport_ssh(const struct uri *uri, const char *text, struct rpc_client **c, struct error *err)
{
    const char *program = uri_param(uri, "command"), *keyfile = uri_param(uri, "keyfile");
    AUTO_FREE char *command = remote_command(uri), *port = NULL;
    char *argv[ARGS_MAX + 1];
    unsigned n = 0;
    if (!uri->host)
        return error_set(err, 0, "URI '%s': names no host; write qemu+ssh://HOST/system", text);
    if (!command || asprintf(&port, "%d", uri->port) < 0)
        return error_set(err, ENOMEM, "URI '%s': out of memory", text);
    const char *const args[] = {program ? program : "ssh", "-T", "-e", "none"};
    const struct {
        bool on;
        const char *flag, *value;
    } rows[] = {{uri->port, "-p", port},
                {uri->user, "-l", uri->user},
                {keyfile, "-i", keyfile},
                {is_set(uri, "no_tty"), "-o", "BatchMode=yes"},
                {is_set(uri, "no_verify"), "-o", "StrictHostKeyChecking=no"}};
    for (unsigned i = 0; i < ARRAY_SIZE(args); i++)
        argv[n++] = (char *)args[i];
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        if (!rows[i].on)
            continue;
        argv[n++] = (char *)rows[i].flag;
        argv[n++] = (char *)rows[i].value;
    }
    argv[n++] = (char *)"--";
    argv[n++] = uri->host;
    argv[n++] = command;
    argv[n] = NULL;
    _Static_assert(ARRAY_SIZE(args) + 2 * ARRAY_SIZE(rows) + 3 <= ARGS_MAX, "room for all arguments");
    return connect_by(argv, text, c, err);
}
