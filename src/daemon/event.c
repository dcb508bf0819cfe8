// SPDX-License-Identifier: GPL-2.0-or-later
/* Events to the clients that have registered for them. Those of other kinds than lifecycle and reboot are accepted and never
 * happen. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "daemon/calls.h"

#define EVENT_IDS     27   /* VIR_DOMAIN_EVENT_ID_… that clients know */
#define MAX_CALLBACKS 1024 /* of a client */

static int next_client(struct daemon *d, struct client **list, unsigned max);

/* ---- sending ---- */

static void set_ref(struct remote_nonnull_domain *ref, const struct dom *dom)
{
    ref->name = dom->name;
    memcpy(ref->uuid, dom->uuid, 16);
    ref->id = dom->id;
}

struct message {
    int event; /* virDomainEventID */
    int proc, legacy_proc;
    const void *legacy;
    void *numbered; /* begins with the callback's number */
};

static void send_to(struct client *c, const struct dom *dom, const struct message *m)
{
    struct rpc_header h = {RPC_PROGRAM_REMOTE, RPC_VERSION, 0, VIR_NET_MESSAGE, 1, VIR_NET_OK};
    int ids[64];
    unsigned n = 0;
    bool legacy = false;
    pthread_mutex_lock(&c->lock);
    for (const struct event_callback *e = c->callbacks; e; e = e->next) {
        if (e->event != m->event || (!e->any && memcmp(e->uuid, dom->uuid, 16) != 0))
            continue;
        if (e->legacy)
            legacy = true;
        else if (n < ARRAY_SIZE(ids))
            ids[n++] = e->id;
    }
    pthread_mutex_unlock(&c->lock);
    for (unsigned i = 0; i < n; i++) {
        h.proc = m->proc;
        *(int32_t *)m->numbered = ids[i];
        client_send(c, &h, remote_procs[m->proc].args, m->numbered, NULL, 0);
    }
    h.proc = m->legacy_proc;
    if (legacy && m->legacy)
        client_send(c, &h, remote_procs[m->legacy_proc].args, m->legacy, NULL, 0);
}

static void send_all(struct dom *dom, const struct message *m)
{
    struct daemon *d = dom->hv->daemon;
    struct client *list[1024];
    int n = next_client(d, list, ARRAY_SIZE(list));
    for (int i = 0; i < n; i++) {
        if (list[i]->hv == dom->hv)
            send_to(list[i], dom, m);
        client_unref(list[i]);
    }
}

void event_lifecycle(struct dom *dom, int event, int detail)
{
    struct remote_domain_event_callback_lifecycle_msg msg = {.msg = {.event = event, .detail = detail}};
    set_ref(&msg.msg.dom, dom);
    send_all(dom, &(struct message){VIR_DOMAIN_EVENT_ID_LIFECYCLE, REMOTE_PROC_DOMAIN_EVENT_CALLBACK_LIFECYCLE,
                                    REMOTE_PROC_DOMAIN_EVENT_LIFECYCLE, &msg.msg, &msg});
}

void event_reboot(struct dom *dom)
{
    struct remote_domain_event_callback_reboot_msg msg = {0};
    set_ref(&msg.msg.dom, dom);
    send_all(dom, &(struct message){VIR_DOMAIN_EVENT_ID_REBOOT, REMOTE_PROC_DOMAIN_EVENT_CALLBACK_REBOOT,
                                    REMOTE_PROC_DOMAIN_EVENT_REBOOT, &msg.msg, &msg});
}

void event_device(struct dom *dom, const char *name, bool added)
{
    struct remote_domain_event_callback_device_added_msg in = {.devAlias = (char *)name};
    struct remote_domain_event_callback_device_removed_msg out = {.msg = {.devAlias = (char *)name}};
    set_ref(&in.dom, dom);
    set_ref(&out.msg.dom, dom);
    send_all(dom, added ? &(struct message){VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, REMOTE_PROC_DOMAIN_EVENT_CALLBACK_DEVICE_ADDED, 0, NULL, &in}
                        : &(struct message){VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, REMOTE_PROC_DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED,
                                            REMOTE_PROC_DOMAIN_EVENT_DEVICE_REMOVED, &out.msg, &out});
}

/* ---- registering ---- */

/* Clients with callbacks, for sending: so that an event does not look at all connections. */
struct listener {
    struct client *client;
    struct listener *next;
};

static int next_client(struct daemon *d, struct client **list, unsigned max)
{
    unsigned n = 0;
    pthread_mutex_lock(&d->listeners_lock);
    for (struct listener **p = &d->listeners; *p;) {
        struct listener *l = *p;
        if (l->client->closed) {
            *p = l->next;
            client_unref(l->client);
            free(l);
            continue;
        }
        if (n < max) {
            client_ref(l->client);
            list[n++] = l->client;
        }
        p = &l->next;
    }
    pthread_mutex_unlock(&d->listeners_lock);
    return (int)n;
}

static int listen_client(struct client *c)
{
    struct daemon *d = c->daemon;
    struct listener *l = calloc(1, sizeof *l);
    if (!l)
        return -1;
    pthread_mutex_lock(&d->listeners_lock);
    for (const struct listener *o = d->listeners; o; o = o->next) {
        if (o->client == c) {
            free(l);
            l = NULL;
            break;
        }
    }
    if (l) {
        client_ref(c);
        l->client = c;
        l->next = d->listeners;
        d->listeners = l;
    }
    pthread_mutex_unlock(&d->listeners_lock);
    return 0;
}

static int add_callback(struct call *c, int event, const struct remote_nonnull_domain *dom, bool legacy, int *id)
{
    struct client *client = c->client;
    unsigned n = 0;
    if (event < 0 || event >= EVENT_IDS)
        return call_fail(c, VIR_ERR_INVALID_ARG, "event %d is unknown; give 0 to %d", event, EVENT_IDS - 1);
    struct event_callback *e = calloc(1, sizeof *e);
    if (!e || listen_client(client) < 0) {
        free(e);
        return -1;
    }
    *e = (struct event_callback){.event = event, .any = !dom, .legacy = legacy};
    if (dom)
        memcpy(e->uuid, dom->uuid, 16);
    pthread_mutex_lock(&client->lock);
    for (const struct event_callback *o = client->callbacks; o; o = o->next)
        n++;
    bool room = n < MAX_CALLBACKS;
    if (room) {
        e->id = *id = client->next_callback++;
        e->next = client->callbacks;
        client->callbacks = e;
    }
    pthread_mutex_unlock(&client->lock);
    if (room)
        return 0;
    free(e);
    return call_fail(c, VIR_ERR_OPERATION_DENIED, "more than %d event callbacks of one connection; deregister some", MAX_CALLBACKS);
}

static int remove_callback(struct call *c, int id, int event, bool legacy)
{
    struct event_callback *removed = NULL;
    pthread_mutex_lock(&c->client->lock);
    for (struct event_callback **p = &c->client->callbacks; *p && !removed; p = &(*p)->next) {
        if (legacy ? (*p)->legacy && (*p)->event == event : (*p)->id == id) {
            removed = *p;
            *p = removed->next;
            break;
        }
    }
    pthread_mutex_unlock(&c->client->lock);
    free(removed);
    return removed ? 0 : call_fail(c, VIR_ERR_INVALID_ARG, "event callback %d is not registered", legacy ? event : id);
}

static int register_callback(struct call *c, const void *args, void *ret)
{
    const struct remote_connect_domain_event_callback_register_any_args *a = args;
    return add_callback(c, a->eventID, a->dom, false,
                        &((struct remote_connect_domain_event_callback_register_any_ret *)ret)->callbackID);
}

static int deregister_callback(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return remove_callback(c, ((const struct remote_connect_domain_event_callback_deregister_any_args *)args)->callbackID, 0,
                           false);
}

static int register_any(struct call *c, const void *args, void *ret)
{
    int id;
    (void)ret;
    return add_callback(c, ((const struct remote_connect_domain_event_register_any_args *)args)->eventID, NULL, true, &id);
}

static int deregister_any(struct call *c, const void *args, void *ret)
{
    (void)ret;
    return remove_callback(c, 0, ((const struct remote_connect_domain_event_deregister_any_args *)args)->eventID, true);
}

static int register_lifecycle(struct call *c, const void *args, void *ret)
{
    int id;
    (void)args;
    ((struct remote_connect_domain_event_register_ret *)ret)->cb_registered = 1;
    return add_callback(c, VIR_DOMAIN_EVENT_ID_LIFECYCLE, NULL, true, &id);
}

static int deregister_lifecycle(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return remove_callback(c, 0, VIR_DOMAIN_EVENT_ID_LIFECYCLE, true);
}

/* Objects of other kinds do not change, so their callbacks only have a number. */
static int register_quiet(struct call *c, const void *args, void *ret)
{
    (void)args;
    pthread_mutex_lock(&c->client->lock);
    *(int32_t *)ret = c->client->next_callback++; /* callbackID is the only member of each of these answers */
    pthread_mutex_unlock(&c->client->lock);
    return 0;
}

static int deregister_quiet(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    (void)ret;
    return 0;
}

const struct handler event_handlers[] = {
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, register_callback, false},
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, deregister_callback, false},
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_REGISTER_ANY, register_any, false},
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_DEREGISTER_ANY, deregister_any, false},
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_REGISTER, register_lifecycle, false},
    {REMOTE_PROC_CONNECT_DOMAIN_EVENT_DEREGISTER, deregister_lifecycle, false},
    {REMOTE_PROC_CONNECT_NETWORK_EVENT_REGISTER_ANY, register_quiet, false},
    {REMOTE_PROC_CONNECT_NETWORK_EVENT_DEREGISTER_ANY, deregister_quiet, false},
    {REMOTE_PROC_CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, register_quiet, false},
    {REMOTE_PROC_CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY, deregister_quiet, false},
    {REMOTE_PROC_CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY, register_quiet, false},
    {REMOTE_PROC_CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY, deregister_quiet, false},
    {REMOTE_PROC_CONNECT_SECRET_EVENT_REGISTER_ANY, register_quiet, false},
    {REMOTE_PROC_CONNECT_SECRET_EVENT_DEREGISTER_ANY, deregister_quiet, false},
    {0, NULL, false},
};
