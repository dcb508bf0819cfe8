// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/util.h"
#include "rpc/remote.h"

static void place(char path[PATH_MAX], const char *folder, const uint8_t uuid[16], const char *file)
{
    char text[37];
    domain_format_uuid(uuid, text);
    snprintf(path, PATH_MAX, "%s/%s%s%s", folder, text, file ? "/" : "", file ? file : "");
}

static int write_text(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1;
}

static bool has_memory(const char *folder)
{
    char path[PATH_MAX], text[1024];
    snprintf(path, sizeof path, "%s/cgroup.controllers", folder);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    text[MAX(n, 0)] = 0;
    char *rest = text;
    for (const char *word; (word = strsep(&rest, " \n"));)
        if (strcmp(word, "memory") == 0)
            return true;
    return false;
}

int cgroup_open(const char *folder, struct error *err)
{
    char path[PATH_MAX];
    if (!has_memory(folder))
        return error_set(err, 0,
                         "--cgroup '%s': not a cgroup of version 2 with the memory controller; make one, with +memory in the "
                         "cgroup.subtree_control above it, or leave out --cgroup",
                         folder);
    snprintf(path, sizeof path, "%s/cgroup.subtree_control", folder);
    if (write_text(path, "+memory") < 0)
        return error_set(
            err, errno,
            "--cgroup '%s': cannot turn on the memory controller for guests: %s; no process may be in the folder itself", folder,
            strerror(errno));
    return 0;
}

static int set(const char *folder, const uint8_t uuid[16], const char *file, uint64_t bytes, bool limited, struct error *err)
{
    char path[PATH_MAX], text[32] = "max";
    if (limited)
        snprintf(text, sizeof text, "%llu", (unsigned long long)bytes);
    place(path, folder, uuid, file);
    if (write_text(path, text) == 0 || (!limited && errno == ENOENT)) /* a kernel without swap has no limit of it */
        return 0;
    return error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': cannot set the limit to %s: %s; see whether the host can limit this", path,
                     text, strerror(errno));
}

int cgroup_limit(const char *folder, const uint8_t uuid[16], const struct domain_limits *l, struct error *err)
{
    return set(folder, uuid, "memory.max", l->hard, l->hard, err) < 0 || set(folder, uuid, "memory.high", l->soft, l->soft, err) < 0
               ? -1
               : set(folder, uuid, "memory.swap.max", l->swap_hard - l->hard, l->swap_hard, err);
}

int cgroup_make(const char *folder, const uint8_t uuid[16], const struct domain_limits *l, struct error *err)
{
    char path[PATH_MAX];
    place(path, folder, uuid, NULL);
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return error_set(err, VIR_ERR_SYSTEM_ERROR,
                         "'%s': cannot make the guest's cgroup: %s; see to the rights of lodged's --cgroup folder", path,
                         strerror(errno));
    return cgroup_limit(folder, uuid, l, err);
}

int cgroup_door(const char *folder, const uint8_t uuid[16], struct error *err)
{
    char path[PATH_MAX];
    place(path, folder, uuid, "cgroup.procs");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 ? fd
                   : error_set(err, VIR_ERR_SYSTEM_ERROR, "'%s': cannot open: %s; see to the rights of lodged's --cgroup folder",
                               path, strerror(errno));
}

void cgroup_remove(const char *folder, const uint8_t uuid[16])
{
    char path[PATH_MAX];
    place(path, folder, uuid, NULL);
    rmdir(path); /* in vain while the process is not quite gone: the next start uses it again */
}
