// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * lodge edit: a domain's configuration in the user's editor, then defined. What the daemon refuses is offered to the editor again,
 * and kept in its file when the user gives up: nobody's typing is lost.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/util.h"
#include "cli/manage.h"

static const char *editor(void)
{
    const char *const names[] = {getenv("VISUAL"), getenv("EDITOR")};
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (names[i] && *names[i])
            return names[i];
    return access("/usr/bin/sensible-editor", X_OK) == 0 ? "sensible-editor" : "vi";
}

/* $EDITOR may be a command with arguments, so the shell runs it; the file is an argument, not text of the command. */
static int run_editor(const char *path, struct error *err)
{
    const char *command = editor();
    AUTO_FREE char *script = NULL;
    int status = -1;
    if (asprintf(&script, "%s \"$1\"", command) < 0)
        return error_set(err, ENOMEM, "editor: out of memory; free some");
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", script, "sh", path, (char *)NULL);
        _exit(127);
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return error_set(err, 0, "editor '%s': ends with an error, and nothing was changed; name another one in $EDITOR", command);
    return 0;
}

static int write_text(int fd, const char *text, const char *path, struct error *err)
{
    size_t len = strlen(text);
    return write(fd, text, len) == (ssize_t)len
               ? 0
               : error_set(err, errno, "file '%s': cannot write: %s; free some space, or set TMPDIR", path, strerror(errno));
}

/* True: once more to the editor. Without a terminal, nobody can be asked. */
static bool ask_again(const struct error *refused)
{
    char line[16];
    if (!isatty(STDIN_FILENO))
        return false;
    fprintf(stderr, "lodge: %s\nEdit it again? [Y/n] ", error_text(refused));
    return fgets(line, sizeof line, stdin) && line[0] != 'n' && line[0] != 'N';
}

/* Until the daemon takes the text, or nothing was changed, or the user gives up: then the file stays. */
static int edit_file(struct session *s, const struct remote_nonnull_domain *dom, const char *xml, const char *path,
                     struct error *err)
{
    for (;;) {
        ERROR_SCOPED(refused);
        ARENA_SCOPED(kept);
        struct remote_nonnull_domain defined;
        AUTO_FREE char *text = run_editor(path, err) < 0 ? NULL : manage_read_xml(path, err);
        if (!text) {
            unlink(path);
            return -1;
        }
        bool changed = strcmp(text, xml) != 0;
        if (!changed || manage_define_text(s, text, &kept, &defined, &refused) == 0) {
            unlink(path);
            session_say(
                s, changed ? "domain '%s': changed; what runs keeps what it has until its next start" : "domain '%s': not changed",
                dom->name);
            return 0;
        }
        if (!ask_again(&refused))
            return error_set(err, refused.errnum, "domain '%s': %s; your text is in '%s': correct it, then 'lodge define %s'",
                             dom->name, error_text(&refused), path, path);
    }
}

int manage_edit(struct session *s, const struct remote_nonnull_domain *dom, const struct arguments *a, struct error *err)
{
    const char *tmp = getenv("TMPDIR");
    AUTO_FREE char *path = NULL;
    ARENA_SCOPED(kept);
    (void)a;
    const char *xml = manage_domain_xml(s, dom, VIR_DOMAIN_XML_INACTIVE, &kept, err);
    if (!xml)
        return -1;
    if (asprintf(&path, "%s/lodge-XXXXXX.xml", tmp && *tmp ? tmp : "/tmp") < 0)
        return error_set(err, ENOMEM, "editor: out of memory; free some");
    AUTO_CLOSE int fd = mkostemps(path, 4, O_CLOEXEC);
    if (fd < 0)
        return error_set(err, errno, "file '%s': cannot make it: %s; set TMPDIR to a folder that you may write", path,
                         strerror(errno));
    if (write_text(fd, xml, path, err) < 0) {
        unlink(path);
        return -1;
    }
    return edit_file(s, dom, xml, path, err);
}
