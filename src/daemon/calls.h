/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the files of calls about domains share. */
#ifndef LODGE_DAEMON_CALLS_H
#define LODGE_DAEMON_CALLS_H

#include "daemon/server.h"

/* The domain that a client means, by its UUID: references it; NULL with c->err. */
struct dom *call_dom(struct call *c, const struct remote_nonnull_domain *ref);
/* The same with its job taken. call_dom_done() gives both back, and takes NULL. */
struct dom *call_dom_locked(struct call *c, const struct remote_nonnull_domain *ref);
void call_dom_done(struct dom *dom);
/* As it goes over the wire. -1 without memory. */
int call_set_ref(struct call *c, struct remote_nonnull_domain *ref, const struct dom *dom);
/* What runs, else what would; daemon.lock is held. */
const struct domain *dom_now(const struct dom *dom);
/* Does a call with VIR_DOMAIN_AFFECT_… flags mean what runs, the configuration, or both? -1 with c->err. */
int call_affects(struct call *c, const struct dom *dom, unsigned flags, bool *live, bool *config);
/* A client's XML as a domain whose devices all have addresses; dom_drop() frees it. NULL with c->err. */
struct domain *call_parse(struct call *c, const char *xml);
/* Makes `d` the configuration, durably; it is the callee's in any case. The job is held. */
int call_replace_config(struct call *c, struct dom *dom, struct domain *d);

/* ---- the guest agent's calls (calls_agent.c); the job is held ---- */
int agent_shutdown(struct dom *dom, bool reboot, struct error *err);
int agent_interfaces(struct call *c, struct dom *dom, struct remote_domain_interface_addresses_ret *r);

/* ---- network cards (calls_interface.c) ---- */
struct params;
/* The rows of domstats. */
void interface_stats(struct params *p, struct dom *dom);

struct xml_doc;
struct xml_node;
/* <devices> of a domain's XML; NULL: it has none. */
const struct xml_node *call_devices(const struct xml_doc *doc);
/* A domain's XML with one device more, less or changed, to be freed; `key` gets what tells the device from others of its kind, or NULL.
 * NULL with c->err. */
enum call_change { CALL_ATTACH, CALL_DETACH, CALL_UPDATE };
char *call_edited_xml(struct call *c, const struct dom *dom, const struct domain *d, enum call_change change, const char *device_xml,
                      char **key);
/* The same with the guest that runs (calls_hotplug.c). */
int call_attach_live(struct call *c, struct dom *dom, const char *device_xml);
int call_detach_live(struct call *c, struct dom *dom, const char *device_xml);

/* ---- what a domain is and does (stats.c) ---- */

/* What calls that look at a domain need. */
struct facts {
    int state, reason, pid;
    bool active;
    uint64_t memory, current; /* bytes */
    unsigned vcpus;
};
/* The domain that a call's arguments begin with, referenced, and its facts; NULL with c->err. */
struct dom *call_facts(struct call *c, const void *args, struct facts *f);

/* ---- CPUs (calls_cpu.c) ---- */
/* The rows of domstats. */
void cpu_stats(struct params *p, struct dom *dom, const struct facts *f);

#endif
