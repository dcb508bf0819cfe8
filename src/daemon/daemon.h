/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lodged: libvirt's protocol in front of lodge-vm processes.
 *
 * The main thread runs the loop: it reads clients and monitors and never waits. Worker threads run calls. Locks, in the order in
 * which they are taken: a domain's `job` (held while one call changes the domain, also across talks with its process, which all
 * have a deadline), then daemon.lock (the registry and each domain's state; never held across I/O), then a client's.
 */
#ifndef LODGE_DAEMON_DAEMON_H
#define LODGE_DAEMON_DAEMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "daemon/loop.h"
#include "model/domain.h"
#include "rpc/remote.h"

struct journal;
struct monitor;
struct hypervisor;

struct dom {
    struct dom *next;
    struct hypervisor *hv;
    unsigned refs;
    pthread_mutex_t job;
    uint8_t uuid[16];
    /* Under daemon.lock: */
    char *name;
    struct domain *config; /* what the next start uses; NULL: transient */
    struct domain *live;   /* what runs; NULL: nothing */
    int id;                /* -1: does not run */
    int state, reason;     /* virDomainState, and the state's own reasons */
    bool autostart;
    bool removed;            /* no longer in the registry */
    bool expect_end;         /* its end was asked for: destroy */
    int pid;                 /* of its process; 0: none */
    struct monitor *monitor; /* NULL: none */
};

/* What a kind of hypervisor does; the call holds the domain's job. Each returns 0, or -1 with err, whose errnum is a VIR_ERR_…. */
struct domain_driver {
    const char *type; /* virConnectGetType */
    int (*start)(struct dom *dom, bool paused, struct error *err);
    int (*destroy)(struct dom *dom, bool graceful, struct error *err);
    int (*command)(struct dom *dom, const char *qmp, struct error *err); /* a QMP command without arguments and answer */
    int (*set_memory)(struct dom *dom, uint64_t bytes, struct error *err);
    /* Makes config and autostart durable, or forgets them. */
    int (*save)(struct dom *dom, struct error *err);
    int (*save_autostart)(struct dom *dom, bool on, struct error *err);
    int (*forget)(struct dom *dom, struct error *err);
    /* Hot plug, or all NULL: a device by its XML, and by its name. What runs is saved with daemon.lock held. */
    int (*attach)(struct dom *dom, const char *device_xml, struct error *err);
    int (*detach)(struct dom *dom, const char *name, struct error *err);
    int (*save_live)(struct dom *dom, struct error *err);
};
extern const struct domain_driver lodge_driver, test_driver;

struct hypervisor {
    struct daemon *daemon;
    const struct domain_driver *driver;
    struct dom *doms; /* under daemon.lock */
    unsigned count;
    int next_id;
};

struct daemon {
    struct loop loop;
    pthread_mutex_t lock;
    bool session;
    char *config_dir, *run_dir, *log_dir, *images_dir;
    char *nvram_dir; /* files of UEFI firmwares' variables; made with the first one */
    char *vm_path;           /* lodge-vm */
    const char *cgroup_dir;  /* where guests get a cgroup each (cgroup.h); NULL: nowhere */
    struct journal *journal; /* of config_dir */
    struct hypervisor lodge, test;
    struct server *server;
    pthread_mutex_t listeners_lock;
    struct listener *listeners; /* clients with event callbacks */
    struct pool_list *pools;
    unsigned transfers; /* volumes that are copied from or to clients; atomic */
    uint8_t host_uuid[16];
};

/* ---- the registry (domain.c) ---- */

enum dom_key { DOM_BY_UUID, DOM_BY_NAME, DOM_BY_ID };
/* A reference, or NULL. */
struct dom *dom_find_uuid(struct hypervisor *hv, const uint8_t uuid[16]);
struct dom *dom_find_name(struct hypervisor *hv, const char *name);
struct dom *dom_find_id(struct hypervisor *hv, int id);
void dom_unref(struct dom *dom);
/* References to all, which the caller gives back one by one; the array is to be freed. */
struct dom **dom_all(struct hypervisor *hv, unsigned *count);
/* Takes the job, for at most 30 s. -1 with err when another call holds it. */
int dom_lock(struct dom *dom, struct error *err);
void dom_unlock(struct dom *dom);
bool dom_active(const struct dom *dom);

/* Takes over `d` (owned by the callee in any case). The domain that is new or has a new configuration, referenced and locked; NULL
 * with err. */
struct dom *dom_define(struct hypervisor *hv, struct domain *d, bool transient, struct error *err);
/* A file of its firmware's variables: whoever undefines the domain says what becomes of it. */
enum dom_nvram { DOM_NVRAM_UNSAID, DOM_NVRAM_KEEP, DOM_NVRAM_REMOVE };
int dom_undefine(struct dom *dom, enum dom_nvram nvram, struct error *err);
int dom_start(struct dom *dom, bool paused, struct error *err);
/* Called by the driver when the domain's process is there or gone, on any thread. Sends the event. */
void dom_set_running(struct dom *dom, bool paused, int detail);
void dom_set_state(struct dom *dom, int state, int reason, int event, int detail);
void dom_set_gone(struct dom *dom, int reason, int detail);
/* The guest has given a device back (calls_hotplug.c). */
void dom_device_gone(struct dom *dom, const char *name);
/* For drivers, when they load what is on disk. */
struct dom *dom_insert(struct hypervisor *hv, const uint8_t uuid[16], const char *name);
void dom_remove(struct dom *dom);
char *dom_xml(const struct domain *d, int id, struct error *err);
struct domain *dom_copy(const struct domain *d, struct error *err);
void dom_drop(struct domain *d); /* frees it; NULL is allowed */

/* ---- lodge-vm processes (process.c) ---- */

/* Reads what is on disk and finds the guests that run. */
int process_load(struct daemon *d, struct error *err);
void process_autostart(struct daemon *d);
/* Sends a QMP command and waits for the answer, with a deadline. Any thread: those who ask at the same time take turns. The answer
 * is to be freed. NULL with err. */
json_t *process_ask(struct dom *dom, const char *command, const char *arguments, struct error *err);
/* The path of a console's socket. */
char *process_console_path(const struct dom *dom, unsigned index);
/* The same of a channel that names no path. */
char *process_channel_path(const struct dom *dom, unsigned index);

/* ---- pools (storage.c) ---- */
int storage_open(struct daemon *d, struct error *err);

/* ---- files that survive a power cut (store.c) ---- */

int store_write(const char *path, const char *text, size_t len, struct error *err);
/* The two halves of it without the syncs: the file under another name, and its renaming. */
int store_prepare(const char *path, const char *text, size_t len, struct error *err);
int store_replace(const char *path, struct error *err);
int store_remove(const char *path, struct error *err);
char *store_read(const char *path, size_t max, size_t *len, struct error *err);
int store_make_dir(const char *path, unsigned mode, struct error *err);

/* Makes err's code a VIR_ERR_…, for errors of lower floors. Returns -1. */
static inline int error_code(struct error *err, int code)
{
    err->errnum = code;
    return -1;
}

#endif
