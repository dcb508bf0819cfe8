// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * State on disk: a file is written under another name, made durable, and renamed; then its folder is made durable. At any point a
 * reader finds the old file or the new one, and what was reported as done is there after a power cut.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "daemon/daemon.h"

static int fail(struct error *err, const char *path, const char *what)
{
    return error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': cannot %s: %s; see to the folder's rights and its free space", path, what,
                     strerror(errno));
}

static int sync_folder(const char *path, struct error *err)
{
    AUTO_FREE char *folder = strdup(path);
    char *slash = folder ? strrchr(folder, '/') : NULL;
    if (!slash)
        return error_set(err, VIR_ERR_NO_MEMORY, "'%s': out of memory", path);
    *slash = 0;
    AUTO_CLOSE int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? fail(err, folder, "make it durable") : 0;
}

/* Writes PATH.new; a descriptor of it. */
static int write_new(const char *path, const char *text, size_t len, struct error *err)
{
    AUTO_FREE char *temporary = NULL;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return error_set(err, VIR_ERR_NO_MEMORY, "'%s': out of memory", path);
    AUTO_CLOSE int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail(err, temporary, "create it");
    for (size_t done = 0; done < len;) {
        ssize_t n = write(fd, text + done, len - done);
        if (n < 0 && errno != EINTR)
            return fail(err, temporary, "write it");
        done += (size_t)MAX(n, 0);
    }
    return steal_fd(&fd);
}

int store_prepare(const char *path, const char *text, size_t len, struct error *err)
{
    AUTO_CLOSE int fd = write_new(path, text, len, err);
    return fd < 0 ? -1 : 0;
}

int store_replace(const char *path, struct error *err)
{
    AUTO_FREE char *temporary = NULL;
    if (asprintf(&temporary, "%s.new", path) < 0)
        return error_set(err, VIR_ERR_NO_MEMORY, "'%s': out of memory", path);
    return rename(temporary, path) < 0 ? fail(err, path, "replace it") : 0;
}

int store_write(const char *path, const char *text, size_t len, struct error *err)
{
    AUTO_CLOSE int fd = write_new(path, text, len, err);
    if (fd < 0)
        return -1;
    if (fdatasync(fd) < 0)
        return fail(err, path, "make it durable");
    return store_replace(path, err) < 0 ? -1 : sync_folder(path, err);
}

int store_remove(const char *path, struct error *err)
{
    if (unlink(path) < 0)
        return errno == ENOENT ? 0 : fail(err, path, "remove it");
    return sync_folder(path, err);
}

char *store_read(const char *path, size_t max, size_t *len, struct error *err)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        fail(err, path, "read it");
        return NULL;
    }
    AUTO_FREE char *text = (size_t)st.st_size <= max ? malloc((size_t)st.st_size + 1) : NULL;
    if (!text) {
        error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': longer than %zu bytes; remove it", path, max);
        return NULL;
    }
    *len = 0;
    for (ssize_t n; *len < (size_t)st.st_size; *len += (size_t)n) {
        n = read(fd, text + *len, (size_t)st.st_size - *len);
        if (n <= 0) {
            fail(err, path, "read it");
            return NULL;
        }
    }
    text[*len] = 0;
    return steal_ptr(&text);
}

int store_make_dir(const char *path, unsigned mode, struct error *err)
{
    AUTO_FREE char *copy = strdup(path);
    if (!copy)
        return error_set(err, VIR_ERR_NO_MEMORY, "'%s': out of memory", path);
    for (char *p = copy + 1;; p++) {
        char end = *p;
        if (end && end != '/')
            continue;
        *p = 0;
        if (mkdir(copy, end ? 0755 : mode) < 0 && errno != EEXIST)
            return fail(err, copy, "create the folder");
        if (!end)
            return 0;
        *p = end;
    }
}
