// SPDX-License-Identifier: GPL-2.0-or-later
/* The registry of domains, and what happens to one whatever drives it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/server.h"

#define JOB_WAIT_S 30

void dom_drop(struct domain *d)
{
    if (d)
        domain_free(d);
    free(d);
}

/* ---- references ---- */

static struct dom *find(struct hypervisor *hv, enum dom_key key, const void *value)
{
    struct dom *found = NULL;
    pthread_mutex_lock(&hv->daemon->lock);
    for (struct dom *dom = hv->doms; dom && !found; dom = dom->next) {
        bool match = key == DOM_BY_UUID   ? memcmp(dom->uuid, value, 16) == 0
                     : key == DOM_BY_NAME ? strcmp(dom->name, value) == 0
                                          : dom->id == *(const int *)value && dom->id >= 0;
        found = match ? dom : NULL;
    }
    if (found)
        found->refs++;
    pthread_mutex_unlock(&hv->daemon->lock);
    return found;
}

struct dom *dom_find_uuid(struct hypervisor *hv, const uint8_t uuid[16])
{
    return find(hv, DOM_BY_UUID, uuid);
}

struct dom *dom_find_name(struct hypervisor *hv, const char *name)
{
    return find(hv, DOM_BY_NAME, name);
}

struct dom *dom_find_id(struct hypervisor *hv, int id)
{
    return find(hv, DOM_BY_ID, &id);
}

void dom_unref(struct dom *dom)
{
    if (!dom)
        return;
    pthread_mutex_lock(&dom->hv->daemon->lock);
    bool last = --dom->refs == 0;
    pthread_mutex_unlock(&dom->hv->daemon->lock);
    if (!last)
        return;
    dom_drop(dom->config);
    dom_drop(dom->live);
    pthread_mutex_destroy(&dom->job);
    free(dom->name);
    free(dom);
}

struct dom **dom_all(struct hypervisor *hv, unsigned *count)
{
    pthread_mutex_lock(&hv->daemon->lock);
    struct dom **all = malloc((hv->count + 1) * sizeof *all);
    *count = 0;
    for (struct dom *dom = hv->doms; dom && all; dom = dom->next) {
        dom->refs++;
        all[(*count)++] = dom;
    }
    pthread_mutex_unlock(&hv->daemon->lock);
    return all;
}

int dom_lock(struct dom *dom, struct error *err)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += JOB_WAIT_S;
    if (pthread_mutex_timedlock(&dom->job, &until) != 0)
        return error_set(err, VIR_ERR_OPERATION_TIMEOUT, "domain '%s': another operation on it does not end; try again later",
                         dom->name);
    return 0;
}

void dom_unlock(struct dom *dom)
{
    pthread_mutex_unlock(&dom->job);
}

bool dom_active(const struct dom *dom)
{
    return dom->id >= 0;
}

/* ---- the registry ---- */

/* daemon.lock is held. */
static struct dom *insert_locked(struct hypervisor *hv, const uint8_t uuid[16], const char *name)
{
    struct dom *dom = calloc(1, sizeof *dom);
    if (dom)
        *dom = (struct dom){.hv = hv, .refs = 2, .name = strdup(name), .id = -1, .state = VIR_DOMAIN_SHUTOFF};
    if (!dom || !dom->name) {
        free(dom);
        return NULL;
    }
    memcpy(dom->uuid, uuid, 16);
    pthread_mutex_init(&dom->job, NULL);
    struct dom **end = &hv->doms;
    while (*end)
        end = &(*end)->next;
    *end = dom;
    hv->count++;
    return dom;
}

struct dom *dom_insert(struct hypervisor *hv, const uint8_t uuid[16], const char *name)
{
    pthread_mutex_lock(&hv->daemon->lock);
    struct dom *dom = insert_locked(hv, uuid, name);
    pthread_mutex_unlock(&hv->daemon->lock);
    return dom;
}

void dom_remove(struct dom *dom)
{
    struct hypervisor *hv = dom->hv;
    bool removed = false;
    pthread_mutex_lock(&hv->daemon->lock);
    for (struct dom **p = &hv->doms; *p; p = &(*p)->next) {
        if (*p != dom)
            continue;
        *p = dom->next;
        hv->count--;
        removed = dom->removed = true;
        break;
    }
    pthread_mutex_unlock(&hv->daemon->lock);
    if (removed)
        dom_unref(dom); /* the registry's */
}

/* ---- XML ---- */

char *dom_xml(const struct domain *d, int id, struct error *err)
{
    char *text = NULL;
    size_t len = 0;
    struct domain shown = *d;
    FILE *f = open_memstream(&text, &len);
    shown.id = id;
    bool written = f && domain_write(&shown, f) == 0;
    if (f)
        fclose(f);
    if (!written) {
        free(text);
        text = NULL;
        error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", d->name);
    }
    return text;
}

struct domain *dom_copy(const struct domain *d, struct error *err)
{
    AUTO_FREE char *xml = dom_xml(d, -1, err);
    struct domain *copy = xml ? calloc(1, sizeof *copy) : NULL;
    if (copy && domain_parse(copy, xml, strlen(xml), err) < 0) {
        free(copy);
        copy = NULL;
    }
    return copy;
}

/* ---- defining ---- */

/* A domain with this UUID must have this name, and no other may. daemon.lock is held. */
static int find_slot(struct hypervisor *hv, const struct domain *d, struct dom **found, struct error *err)
{
    char uuid[37];
    *found = NULL;
    for (struct dom *dom = hv->doms; dom; dom = dom->next) {
        bool same_uuid = memcmp(dom->uuid, d->uuid, 16) == 0, same_name = strcmp(dom->name, d->name) == 0;
        if (same_uuid != same_name) {
            domain_format_uuid(dom->uuid, uuid);
            return error_set(err, VIR_ERR_OPERATION_FAILED, "domain '%s' already exists with uuid %s; give the new one another %s",
                             dom->name, uuid, same_uuid ? "uuid, or the same name" : "name, or the same uuid");
        }
        if (same_uuid)
            *found = dom;
    }
    return 0;
}

static struct dom *find_or_insert(struct hypervisor *hv, const struct domain *d, bool *created, struct error *err)
{
    struct dom *dom = NULL;
    pthread_mutex_lock(&hv->daemon->lock);
    if (find_slot(hv, d, &dom, err) == 0) {
        *created = !dom;
        if (dom)
            dom->refs++;
        else if (!(dom = insert_locked(hv, d->uuid, d->name)))
            error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", d->name);
        else
            pthread_mutex_lock(&dom->job); /* nobody else can hold it yet */
    }
    pthread_mutex_unlock(&hv->daemon->lock);
    return dom;
}

static int set_config(struct dom *dom, struct domain *d, bool created, struct error *err)
{
    pthread_mutex_lock(&dom->hv->daemon->lock);
    struct domain *old = dom->config;
    dom->config = d;
    pthread_mutex_unlock(&dom->hv->daemon->lock);
    if (dom->hv->driver->save(dom, err) < 0) {
        pthread_mutex_lock(&dom->hv->daemon->lock);
        dom->config = old;
        pthread_mutex_unlock(&dom->hv->daemon->lock);
        dom_drop(d);
        return -1;
    }
    dom_drop(old);
    event_lifecycle(dom, VIR_DOMAIN_EVENT_DEFINED, created ? VIR_DOMAIN_EVENT_DEFINED_ADDED : VIR_DOMAIN_EVENT_DEFINED_UPDATED);
    return 0;
}

/* A UEFI firmware keeps its variables, in a file by the domain's name where none is named. */
static int give_nvram(struct hypervisor *hv, struct domain *d, struct error *err)
{
    const char *folder = hv->daemon->nvram_dir;
    if (!d->os.loader || !d->os.loader_flash || d->os.nvram)
        return 0;
    if (asprintf(&d->os.nvram, "%s/%s_VARS.fd", folder, d->name) < 0) {
        d->os.nvram = NULL;
        return error_set(err, VIR_ERR_NO_MEMORY, "domain '%s': out of memory", d->name);
    }
    return store_make_dir(folder, 0700, err);
}

struct dom *dom_define(struct hypervisor *hv, struct domain *d, bool transient, struct error *err)
{
    bool created = false;
    struct dom *dom = give_nvram(hv, d, err) == 0 ? find_or_insert(hv, d, &created, err) : NULL;
    if (!dom || (!created && dom_lock(dom, err) < 0)) {
        dom_drop(d);
        dom_unref(dom);
        return NULL;
    }
    int result;
    if (transient) {
        result = dom_active(dom) || dom->config
                     ? error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' already exists; undefine it, or start it", d->name)
                     : 0;
        if (result == 0)
            dom->live = d;
        else
            dom_drop(d);
    } else if (dom->removed) {
        result = error_set(err, VIR_ERR_OPERATION_FAILED, "domain '%s': was just undefined; try again", d->name);
        dom_drop(d);
    } else {
        result = set_config(dom, d, created, err);
    }
    if (result == 0)
        return dom;
    if (created)
        dom_remove(dom);
    dom_unlock(dom);
    dom_unref(dom);
    return NULL;
}

int dom_undefine(struct dom *dom, enum dom_nvram nvram, struct error *err)
{
    if (!dom->config)
        return error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' is transient; destroy it instead", dom->name);
    const char *file = dom->config->os.nvram;
    if (file && access(file, F_OK) == 0 && nvram == DOM_NVRAM_UNSAID)
        return error_set(err, VIR_ERR_OPERATION_INVALID,
                         "domain '%s': its firmware's variables are in '%s'; add --nvram to remove that file, or --keep-nvram", dom->name, file);
    if (dom->hv->driver->forget(dom, err) < 0)
        return -1;
    if (file && nvram == DOM_NVRAM_REMOVE && unlink(file) < 0 && errno != ENOENT)
        log_error("domain '%s': cannot remove its firmware's variables '%s': %s; remove that file", dom->name, file, strerror(errno));
    pthread_mutex_lock(&dom->hv->daemon->lock);
    struct domain *old = dom->config;
    dom->config = NULL;
    dom->autostart = false;
    bool active = dom_active(dom);
    pthread_mutex_unlock(&dom->hv->daemon->lock);
    dom_drop(old);
    event_lifecycle(dom, VIR_DOMAIN_EVENT_UNDEFINED, VIR_DOMAIN_EVENT_UNDEFINED_REMOVED);
    if (!active)
        dom_remove(dom);
    return 0;
}

/* ---- running ---- */

int dom_start(struct dom *dom, bool paused, struct error *err)
{
    if (dom_active(dom))
        return error_set(err, VIR_ERR_OPERATION_INVALID, "domain '%s' is already active", dom->name);
    if (!dom->live)
        dom->live = dom->config ? dom_copy(dom->config, err) : NULL;
    if (!dom->live)
        return error_set(err, VIR_ERR_NO_DOMAIN, "domain '%s' is not defined", dom->name);
    if (dom->hv->driver->start(dom, paused, err) == 0)
        return 0;
    dom_drop(dom->live);
    dom->live = NULL;
    return -1;
}

void dom_set_running(struct dom *dom, bool paused, int detail)
{
    struct daemon *d = dom->hv->daemon;
    pthread_mutex_lock(&d->lock);
    if (dom->id < 0)
        dom->id = ++dom->hv->next_id;
    dom->state = paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
    dom->reason = paused ? VIR_DOMAIN_PAUSED_USER : VIR_DOMAIN_RUNNING_BOOTED;
    dom->expect_end = false;
    pthread_mutex_unlock(&d->lock);
    event_lifecycle(dom, VIR_DOMAIN_EVENT_STARTED, detail);
}

void dom_set_state(struct dom *dom, int state, int reason, int event, int detail)
{
    struct daemon *d = dom->hv->daemon;
    pthread_mutex_lock(&d->lock);
    bool changed = dom->id >= 0 && dom->state != state;
    if (changed) {
        dom->state = state;
        dom->reason = reason;
    }
    pthread_mutex_unlock(&d->lock);
    if (changed)
        event_lifecycle(dom, event, detail);
}

void dom_set_gone(struct dom *dom, int reason, int detail)
{
    struct daemon *d = dom->hv->daemon;
    pthread_mutex_lock(&d->lock);
    bool was = dom->id >= 0;
    bool transient = !dom->config;
    struct domain *old = dom->live;
    dom->id = -1;
    dom->pid = 0;
    dom->live = NULL;
    dom->state = VIR_DOMAIN_SHUTOFF;
    dom->reason = reason;
    pthread_mutex_unlock(&d->lock);
    dom_drop(old);
    if (!was)
        return;
    event_lifecycle(dom, VIR_DOMAIN_EVENT_STOPPED, detail);
    if (transient)
        dom_remove(dom);
}
