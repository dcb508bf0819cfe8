// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The prompt. Lines are edited by GNU readline, which is loaded when there is a terminal; without it, they are read as the terminal
 * gives them. readline knows no objects, so that what its callbacks need is the one static variable here.
 */
#include "cli/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <readline/history.h>
#include <readline/readline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "block/library.h"
#include "cli/complete.h"
#include "cli/words.h"

#define PROMPT      "lodge> "
#define HISTORY_MAX 1000

#define CALLS(X)                          \
    X(readline)                           \
    X(add_history)                        \
    X(using_history)                      \
    X(stifle_history)                     \
    X(read_history)                       \
    X(write_history)                      \
    X(rl_completion_matches)              \
    X(rl_attempted_completion_function)   \
    X(rl_attempted_completion_over)       \
    X(rl_completer_quote_characters)      \
    X(rl_completer_word_break_characters) \
    X(rl_line_buffer)                     \
    X(rl_readline_name)
#define CALL(name) LIBRARY_CALL(lib, name),

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

static struct {
    struct session *session;
    struct candidates found;
    size_t next;
} completing;

/* ---- completion ---- */

static char *next_candidate(const char *text, int state)
{
    (void)text;
    if (state == 0)
        completing.next = 0;
    return completing.next < completing.found.n ? strdup(completing.found.words[completing.next++]) : NULL;
}

/* The line up to the word, as words; the word itself is the last. */
static char **complete_line(const char *text, int start, int end)
{
    AUTO_FREE char *line = strndup(*lib.rl_line_buffer, (size_t)start);
    const char *rest = line;
    (void)end;
    *lib.rl_attempted_completion_over = 1;
    candidates_free(&completing.found);
    while (rest) {
        WORDS_SCOPED(w);
        if (words_take(&rest, true, &w, NULL) < 0 || w.argc == WORDS_MAX)
            return NULL;
        if (rest)
            continue;
        w.argv[w.argc++] = (char *)text;
        complete(completing.session, w.argc, w.argv, &completing.found);
    }
    if (completing.found.files && completing.found.n == 0) {
        *lib.rl_attempted_completion_over = 0;
        return NULL;
    }
    return lib.rl_completion_matches(text, next_candidate);
}

/* ---- history ---- */

/* $XDG_STATE_HOME/lodge/history, to be freed; its folder is there. NULL where there is no place for it. */
static char *history_file(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    AUTO_FREE char *folder = NULL;
    char *path;
    if (state && *state == '/' ? asprintf(&folder, "%s/lodge", state) < 0
                               : !home || *home != '/' || asprintf(&folder, "%s/.local/state/lodge", home) < 0)
        return NULL;
    for (char *slash = folder; (slash = strchr(slash + 1, '/'));) {
        *slash = 0;
        mkdir(folder, 0700);
        *slash = '/';
    }
    mkdir(folder, 0700);
    return asprintf(&path, "%s/history", folder) < 0 ? NULL : path;
}

static void save_history(const char *path)
{
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    close(fd);
    lib.write_history(path);
}

/* ---- running ---- */

/* All commands of a line. False at `quit`; *status is that of the last one, with err when it is not 0. */
static bool run_line(struct session *s, const char *line, int *status, struct error *err)
{
    for (const char *rest = line; rest;) {
        WORDS_SCOPED(w);
        if (words_take(&rest, false, &w, err) < 0) {
            *status = 1;
            return true;
        }
        if (w.argc == 0)
            continue;
        if (strcmp(w.argv[0], "quit") == 0 || strcmp(w.argv[0], "exit") == 0)
            return false;
        if (strcmp(w.argv[0], "run") == 0 || strcmp(w.argv[0], "relay") == 0) {
            *status = 1;
            error_set(err, 0, "verb '%s': takes the terminal for itself; write 'lodge %s' in a shell", w.argv[0], w.argv[0]);
            return true;
        }
        *status = run_verb(s, w.argc, w.argv, err);
        if (s->c && rpc_client_broken(s->c)) /* the next command connects again */
            session_close(s);
        if (*status)
            return true;
    }
    return true;
}

static int run_script(struct session *s, struct error *err)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    int status = 0;
    for (unsigned number = 1; status == 0 && getline(&line, &size, stdin) >= 0; number++) {
        if (!run_line(s, line, &status, err))
            break;
        if (status)
            error_prefix(err, "line %u: ", number);
        fflush(stdout);
    }
    return status;
}

static void run_typed(struct session *s, const char *line, bool *on)
{
    ERROR_SCOPED(err);
    int status = 0;
    *on = run_line(s, line, &status, &err);
    if (error_is_set(&err))
        fprintf(stderr, "lodge: %s\n", error_text(&err));
}

static int run_plain(struct session *s)
{
    AUTO_FREE char *line = NULL;
    size_t size = 0;
    bool on = true;
    while (on && (fputs(PROMPT, stdout), fflush(stdout), getline(&line, &size, stdin) >= 0))
        run_typed(s, line, &on);
    return 0;
}

static int run_edited(struct session *s)
{
    AUTO_FREE char *path = history_file();
    bool on = true;
    completing.session = s;
    *lib.rl_readline_name = "lodge";
    *lib.rl_attempted_completion_function = complete_line;
    *lib.rl_completer_quote_characters = "\"'";
    *lib.rl_completer_word_break_characters = (char *)" \t\n;";
    lib.using_history();
    lib.stifle_history(HISTORY_MAX);
    if (path)
        lib.read_history(path);
    while (on) {
        AUTO_FREE char *line = lib.readline(PROMPT);
        if (!line) {
            putchar('\n');
            break;
        }
        if (line[strspn(line, " \t")])
            lib.add_history(line);
        run_typed(s, line, &on);
    }
    save_history(path);
    candidates_free(&completing.found);
    return 0;
}

int prompt_run(struct session *s, struct error *err)
{
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return run_script(s, err);
    puts("'help' shows the verbs, 'quit' leaves.");
    bool edited = library_load("libreadline.so.8", "libreadline8", calls, ARRAY_SIZE(calls), "prompt", "readline", NULL) == 0;
    return edited ? run_edited(s) : run_plain(s);
}
