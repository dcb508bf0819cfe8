// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls that change a domain's devices, memory and number of CPUs, or look at its disks. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/util.h"
#include "daemon/calls.h"

/* Changes a copy of the configuration and makes that the configuration. */
static int change_config(struct call *c, struct dom *dom, void (*change)(struct domain *d, uint64_t value), uint64_t value)
{
    struct domain *d = dom_copy(dom->config, &c->err);
    if (!d)
        return -1;
    change(d, value);
    if (domain_check(d, &c->err) < 0) {
        dom_drop(d);
        return error_code(&c->err, VIR_ERR_INVALID_ARG);
    }
    return call_replace_config(c, dom, d);
}

static void set_current(struct domain *d, uint64_t bytes)
{
    d->current_memory = bytes;
}

static void set_maximum(struct domain *d, uint64_t bytes)
{
    d->memory = bytes;
    d->current_memory = MIN(d->current_memory ? d->current_memory : bytes, bytes);
}

static void set_count(struct domain *d, uint64_t n)
{
    d->vcpus = (unsigned)n;
}

static int set_memory_of(struct call *c, const struct remote_nonnull_domain *ref, uint64_t kib, unsigned flags)
{
    struct dom *dom = call_dom_locked(c, ref);
    bool live, config;
    uint64_t bytes = kib <= DOMAIN_MAX_MEMORY / KIB ? kib * KIB : 0;
    int result = dom ? call_affects(c, dom, flags, &live, &config) : -1;
    bool maximum = flags & VIR_DOMAIN_MEM_MAXIMUM;
    if (result == 0 && bytes == 0)
        result =
            call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': %llu KiB is no amount of memory", dom->name, (unsigned long long)kib);
    if (result == 0 && live && maximum)
        result =
            call_fail(c, VIR_ERR_OPERATION_INVALID, "domain '%s' is running: its maximum cannot change; use --config", dom->name);
    if (result == 0 && live && dom->live && bytes > dom->live->memory)
        result = call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': cannot set memory higher than max memory", dom->name);
    if (result == 0 && live)
        result = dom->hv->driver->set_memory(dom, bytes, &c->err);
    if (result == 0 && config && !maximum && bytes > dom->config->memory)
        result = call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s': cannot set memory higher than max memory", dom->name);
    if (result == 0 && config)
        result = change_config(c, dom, maximum ? set_maximum : set_current, bytes);
    call_dom_done(dom);
    return result;
}

static int set_memory(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_memory_args *a = args;
    (void)ret;
    return set_memory_of(c, &a->dom, a->memory, VIR_DOMAIN_AFFECT_LIVE);
}

static int set_max_memory(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_max_memory_args *a = args;
    (void)ret;
    return set_memory_of(c, &a->dom, a->memory, VIR_DOMAIN_AFFECT_CONFIG | VIR_DOMAIN_MEM_MAXIMUM);
}

static int set_memory_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_memory_flags_args *a = args;
    (void)ret;
    return set_memory_of(c, &a->dom, a->memory, a->flags);
}

static int set_vcpus_of(struct call *c, const struct remote_nonnull_domain *ref, unsigned n, unsigned flags)
{
    struct dom *dom = call_dom_locked(c, ref);
    bool live, config;
    int result = dom ? call_affects(c, dom, flags, &live, &config) : -1;
    if (result == 0 && live)
        result = call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED, "domain '%s' is running: CPUs cannot be added to it; use --config",
                           dom->name);
    if (result == 0)
        result = change_config(c, dom, set_count, n);
    call_dom_done(dom);
    return result;
}

static int set_vcpus(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_vcpus_args *a = args;
    (void)ret;
    return set_vcpus_of(c, &a->dom, a->nvcpus, VIR_DOMAIN_AFFECT_LIVE);
}

static int set_vcpus_flags(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_set_vcpus_flags_args *a = args;
    (void)ret;
    return set_vcpus_of(c, &a->dom, a->nvcpus, a->flags);
}

/* ---- disks ---- */

/* Bytes that the host has for a disk, and up to where. Of a server's nothing is known but what its guest sees. */
static int host_bytes(const char *path, enum disk_type type, uint64_t *allocated, uint64_t *length)
{
    struct stat st;
    AUTO_CLOSE int fd = -1;
    *allocated = *length = 0;
    if (type == DISK_NETWORK)
        return 0;
    if (stat(path, &st) < 0)
        return -1;
    *allocated = (uint64_t)st.st_blocks * 512;
    *length = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode)) {
        off_t end = (fd = open(path, O_RDONLY | O_CLOEXEC)) < 0 ? -1 : lseek(fd, 0, SEEK_END);
        if (end < 0)
            return -1;
        *allocated = *length = (uint64_t)end;
    }
    return 0;
}

/* Of the running guest; 0: not known. */
static uint64_t guest_bytes(struct dom *dom, unsigned index)
{
    json_t *answer = dom->hv->driver == &lodge_driver ? process_ask(dom, "query-block", NULL, NULL) : NULL;
    const json_t *list = json_object_get(answer, "return");
    int64_t size = json_get_int(json_object_get(json_object_get(json_array_get(list, index), "inserted"), "image"), "virtual-size", 0);
    json_decref(answer);
    return size > 0 ? (uint64_t)size : 0;
}

static int get_block_info(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_get_block_info_args *a = args;
    struct remote_domain_get_block_info_ret *r = ret;
    struct dom *dom = call_dom(c, &a->dom);
    AUTO_FREE char *path = NULL;
    enum disk_type type = DISK_FILE;
    unsigned index = 0;
    if (!dom)
        return -1;
    pthread_mutex_lock(&c->daemon->lock);
    const struct domain *d = dom_now(dom);
    for (unsigned i = 0; d && i < d->ndisks && !path; i++) {
        const struct domain_disk *disk = &d->disks[i];
        if (disk->file && (strcmp(disk->target, a->path) == 0 || strcmp(disk->file, a->path) == 0)) {
            path = strdup(disk->file);
            type = disk->type;
            index = i;
        }
    }
    bool active = dom_active(dom);
    pthread_mutex_unlock(&c->daemon->lock);
    uint64_t allocated = 0, length = 0;
    int result = 0;
    if (!path)
        result = call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s' has no disk '%s'; see domblklist", dom->name, a->path);
    else if (type == DISK_NETWORK && !active)
        result = call_fail(c, VIR_ERR_OPERATION_INVALID, "disk '%s': is a server's, whose size is known while the guest runs; start it", path);
    else if (host_bytes(path, type, &allocated, &length) < 0)
        result = call_fail(c, VIR_ERR_SYSTEM_ERROR, "disk '%s': cannot look at it: %s", path, strerror(errno));
    if (result == 0) {
        uint64_t seen = active ? guest_bytes(dom, index) : 0;
        *r = (struct remote_domain_get_block_info_ret){allocated, seen ? seen : length, length};
    }
    dom_unref(dom);
    return result;
}

const struct handler device_handlers[] = {
    {REMOTE_PROC_DOMAIN_SET_MEMORY, set_memory, false},
    {REMOTE_PROC_DOMAIN_SET_MAX_MEMORY, set_max_memory, false},
    {REMOTE_PROC_DOMAIN_SET_MEMORY_FLAGS, set_memory_flags, false},
    {REMOTE_PROC_DOMAIN_SET_VCPUS, set_vcpus, false},
    {REMOTE_PROC_DOMAIN_SET_VCPUS_FLAGS, set_vcpus_flags, false},
    {REMOTE_PROC_DOMAIN_GET_BLOCK_INFO, get_block_info, false},
    {0, NULL, false},
};
