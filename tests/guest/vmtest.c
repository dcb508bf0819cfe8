// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmtest SCRIPT: plays a test script against a guest. A script is a sentence and a few lines:
 *
 *     # A guest with two CPUs comes to its shell and switches itself off.
 *     vm --kernel $KERNEL --initrd $INITRD --cpus 2 --memory 256M
 *     expect 120 "~ # "
 *     send "nproc\n"
 *     expect 20 "2"
 *     send "poweroff -f\n"
 *     wait 60 0
 *
 * Commands (words are split as a shell does with double quotes, \n \r \t \xNN \" \\ in quotes, $NAME from the environment):
 *     sh COMMAND            runs on the host with sh -c; must succeed
 *     bg COMMAND            the same in the background; ended with the test
 *     vm ARGS...            starts `lodge run ARGS` on a terminal of its own
 *     prog COMMAND          starts `sh -c COMMAND` on a terminal of its own instead
 *     expect SECONDS TEXT   waits for TEXT behind what was last expected; SECONDS is a cap, not a measurement
 *     reject TEXT           TEXT has not appeared anywhere so far
 *     send TEXT             types TEXT
 *     kill SIGNAL           by number
 *     wait SECONDS STATUS   the program ends with this exit status (or 128 + signal)
 *     lodge STATUS ARGS...  runs `lodge ARGS` to its end, checks its status, keeps its output for `output`
 *     output TEXT           the last lodge command printed TEXT
 *     lines N               the last lodge command printed exactly N lines
 *     skip-unless COMMAND   ends the test as skipped (status 77) unless the command succeeds
 *
 * Environment: LODGE is the binary. Exit status 0 passed, 1 failed (the transcript's end is shown), 77 skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/util.h"

#define MAX_WORDS 64
#define MAX_BG    16

struct text {
    char *data;
    size_t len, cap;
};

static struct {
    const char *script;
    unsigned line;
    int pty;
    pid_t child;
    struct text out;  /* everything the program has printed */
    size_t expected;  /* what lies before has been consumed by expect */
    struct text last; /* output of the last `lodge` command */
    pid_t bg[MAX_BG];
    unsigned nbg;
} t = {.pty = -1};

static void text_add(struct text *x, const char *p, size_t n)
{
    if (x->len + n + 1 > x->cap) {
        x->cap = (x->len + n + 1) * 2;
        x->data = realloc(x->data, x->cap);
        if (!x->data)
            abort();
    }
    memcpy(x->data + x->len, p, n);
    x->len += n;
    x->data[x->len] = 0;
}

static void end_all(void)
{
    if (t.child > 0)
        kill(t.child, SIGKILL);
    for (unsigned i = 0; i < t.nbg; i++)
        kill(-t.bg[i], SIGKILL);
}

static _Noreturn void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static _Noreturn void fail(const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "%s:%u: ", t.script, t.line);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    size_t from = t.out.len > 4000 ? t.out.len - 4000 : 0;
    fprintf(stderr, "\n---- end of the transcript ----\n%s\n----\n", t.out.data ? t.out.data + from : "");
    if (t.last.len)
        fprintf(stderr, "---- last command's output ----\n%s----\n", t.last.data);
    end_all();
    exit(1);
}

static void find_nuls(struct text *x, size_t from)
{
    for (size_t i = from; i < x->len; i++)
        if (!x->data[i])
            x->data[i] = ' ';
}

/* Reads what is there within `ms`; false at the end of the program's output. */
static bool pump(int ms)
{
    char buf[8192];
    struct pollfd p = {.fd = t.pty, .events = POLLIN};
    if (poll(&p, 1, ms) <= 0)
        return true;
    ssize_t n = read(t.pty, buf, sizeof buf);
    if (n <= 0)
        return n < 0 && (errno == EINTR || errno == EAGAIN);
    size_t from = t.out.len;
    text_add(&t.out, buf, (size_t)n);
    find_nuls(&t.out, from);
    if (getenv("VMTEST_VERBOSE"))
        fwrite(buf, 1, (size_t)n, stderr);
    return true;
}

static void cmd_expect(char **w)
{
    uint64_t end = now_ns() + strtoull(w[1], NULL, 10) * NS_PER_S;
    for (bool open = true;;) {
        char *hit = t.out.data ? strstr(t.out.data + t.expected, w[2]) : NULL;
        if (hit) {
            t.expected = (size_t)(hit - t.out.data) + strlen(w[2]);
            return;
        }
        if (!open)
            fail("the program ended before it printed \"%s\"", w[2]);
        if (now_ns() > end)
            fail("\"%s\" did not appear within %s s", w[2], w[1]);
        open = pump(200);
    }
}

static void cmd_send(char **w)
{
    for (const char *p = w[1]; *p;) {
        ssize_t n = write(t.pty, p, MIN(strlen(p), (size_t)64));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            fail("cannot type: %s", strerror(errno));
        if (n > 0)
            p += n;
        pump(5);
    }
}

static int exit_status(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void cmd_wait(char **w)
{
    uint64_t end = now_ns() + strtoull(w[1], NULL, 10) * NS_PER_S;
    int status;
    while (waitpid(t.child, &status, WNOHANG) == 0) {
        if (now_ns() > end)
            fail("the program did not end within %s s", w[1]);
        if (!pump(100))
            usleep(10000);
    }
    t.child = 0;
    for (unsigned i = 0; i < 50 && pump(0); i++)
        ;
    if (exit_status(status) != atoi(w[2]))
        fail("the program ended with status %d, not %s", exit_status(status), w[2]);
    close(t.pty);
    t.pty = -1;
}

static void start(char **argv)
{
    if (t.child > 0)
        fail("a program is running already");
    t.out.len = t.expected = 0;
    text_add(&t.out, "", 0); /* the last program's output is none of this one's */
    struct winsize ws = {.ws_row = 50, .ws_col = 200};
    t.child = forkpty(&t.pty, NULL, NULL, &ws);
    if (t.child < 0)
        fail("forkpty: %s", strerror(errno));
    if (t.child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    fcntl(t.pty, F_SETFD, FD_CLOEXEC);
}

static char *lodge_path(void)
{
    char *path = getenv("LODGE");
    return path ? path : "lodge";
}

static void cmd_vm(char **w)
{
    char *argv[MAX_WORDS + 2] = {lodge_path(), "run"};
    for (unsigned i = 1; w[i]; i++)
        argv[i + 1] = w[i];
    start(argv);
}

static void cmd_prog(char **w)
{
    start((char *[]){"sh", "-c", w[1], NULL});
}

static void cmd_lodge(char **w)
{
    char *argv[MAX_WORDS + 2] = {lodge_path()};
    for (unsigned i = 2; w[i]; i++)
        argv[i - 1] = w[i];
    int fds[2], status;
    if (pipe(fds) < 0)
        fail("pipe: %s", strerror(errno));
    t.last.len = 0;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(open("/dev/null", O_RDONLY), 0);
        dup2(fds[1], 1);
        dup2(fds[1], 2);
        close(fds[0]);
        close(fds[1]);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(fds[1]);
    char buf[4096];
    for (ssize_t n; (n = read(fds[0], buf, sizeof buf)) > 0;)
        text_add(&t.last, buf, (size_t)n);
    close(fds[0]);
    waitpid(pid, &status, 0);
    if (exit_status(status) != atoi(w[1]))
        fail("lodge ended with status %d, not %s", exit_status(status), w[1]);
}

static void cmd_output(char **w)
{
    if (!t.last.data || !strstr(t.last.data, w[1]))
        fail("the output does not have \"%s\"", w[1]);
}

static void cmd_lines(char **w)
{
    int n = 0;
    for (size_t i = 0; i < t.last.len; i++)
        n += t.last.data[i] == '\n';
    if (n != atoi(w[1]))
        fail("the output has %d lines, not %s", n, w[1]);
}

static void cmd_reject(char **w)
{
    if (t.out.data && strstr(t.out.data, w[1]))
        fail("\"%s\" appeared", w[1]);
}

static void cmd_sh(char **w)
{
    int status = system(w[1]);
    if (status != 0)
        fail("the command ended with status %d: %s", exit_status(status), w[1]);
}

static void cmd_bg(char **w)
{
    if (t.nbg == MAX_BG)
        fail("more than %d background commands", MAX_BG);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execl("/bin/sh", "sh", "-c", w[1], (char *)NULL);
        _exit(127);
    }
    setpgid(pid, pid);
    t.bg[t.nbg++] = pid;
}

static void cmd_kill(char **w)
{
    if (t.child <= 0 || kill(t.child, atoi(w[1])) < 0)
        fail("no program to signal");
}

static void cmd_skip_unless(char **w)
{
    if (system(w[1]) != 0) {
        fprintf(stderr, "%s: skipped: `%s` fails here\n", t.script, w[1]);
        end_all();
        exit(77);
    }
}

static const struct command {
    const char *name;
    unsigned min_words, max_words; /* without the name */
    void (*run)(char **words);
} commands[] = {
    {"sh", 1, 1, cmd_sh},         {"bg", 1, 1, cmd_bg},         {"vm", 0, MAX_WORDS - 1, cmd_vm},
    {"prog", 1, 1, cmd_prog},     {"expect", 2, 2, cmd_expect}, {"reject", 1, 1, cmd_reject},
    {"send", 1, 1, cmd_send},     {"kill", 1, 1, cmd_kill},     {"wait", 2, 2, cmd_wait},
    {"output", 1, 1, cmd_output}, {"lines", 1, 1, cmd_lines},   {"lodge", 1, MAX_WORDS - 1, cmd_lodge},
    {"skip-unless", 1, 1, cmd_skip_unless},
};

/* One character of a quoted string's escape. */
static char unescape(const char **p)
{
    char c = *(*p)++;
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'x': {
        char hex[3] = {(*p)[0], (*p)[0] ? (*p)[1] : 0, 0};
        *p += strlen(hex);
        return (char)strtoul(hex, NULL, 16);
    }
    default: return c;
    }
}

static void add_variable(struct text *word, const char **p)
{
    char name[64];
    size_t n = strspn(*p, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    snprintf(name, sizeof name, "%.*s", (int)n, *p);
    *p += n;
    const char *value = getenv(name);
    if (!value)
        fail("$%s is not set", name);
    text_add(word, value, strlen(value));
}

/* Splits a line into words; each is allocated. */
static unsigned split(const char *p, char **words)
{
    unsigned n = 0;
    for (;;) {
        p += strspn(p, " \t\r\n");
        if (!*p || *p == '#')
            break;
        if (n == MAX_WORDS - 1)
            fail("more than %d words", MAX_WORDS - 1);
        struct text word = {0};
        text_add(&word, "", 0);
        for (bool quoted = false; *p && (quoted || !strchr(" \t\r\n", *p));) {
            char c = *p++;
            if (c == '"')
                quoted = !quoted;
            else if (c == '$' && *p >= 'A' && *p <= 'Z')
                add_variable(&word, &p);
            else if (c == '\\' && quoted)
                text_add(&word, &(char){unescape(&p)}, 1);
            else
                text_add(&word, &c, 1);
        }
        words[n++] = word.data;
    }
    words[n] = NULL;
    return n;
}

static void run_line(const char *line)
{
    char *words[MAX_WORDS + 1];
    unsigned n = split(line, words);
    if (n == 0)
        return;
    for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
        const struct command *c = &commands[i];
        if (strcmp(c->name, words[0]))
            continue;
        if (n - 1 < c->min_words || n - 1 > c->max_words)
            fail("%s takes %u words, not %u", c->name, c->min_words, n - 1);
        c->run(words);
        for (unsigned k = 0; k < n; k++)
            free(words[k]);
        return;
    }
    fail("no such command: %s", words[0]);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: vmtest SCRIPT\n");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    t.script = argv[1];
    FILE *f = fopen(argv[1], "re");
    if (!f)
        fail("cannot open: %s", strerror(errno));
    char line[8192];
    while (fgets(line, sizeof line, f)) {
        t.line++;
        run_line(line);
    }
    fclose(f);
    if (t.child > 0)
        fail("the script ended while its program still runs; use `wait`");
    end_all();
    return 0;
}
