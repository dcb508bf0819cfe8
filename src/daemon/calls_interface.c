// SPDX-License-Identifier: GPL-2.0-or-later
/* Calls about network cards: what they have carried, and their addresses. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "base/util.h"
#include "daemon/calls.h"
#include "daemon/params.h"

/* The statistics of a card in its process's answer; NULL when it does not know the card. */
static const json_t *find_mac(const json_t *list, const char *mac)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *its = json_get_string(json_array_get(list, i), "mac");
        if (its && strcasecmp(its, mac) == 0)
            return json_array_get(list, i);
    }
    return NULL;
}

/* A card is known by its device on the host or, as most have none, by its MAC address. False: the domain has no such card. */
static bool mac_of(struct call *c, struct dom *dom, const char *name, char mac[IFACE_MAC_TEXT])
{
    bool found = false;
    pthread_mutex_lock(&c->daemon->lock);
    for (unsigned i = 0; dom->live && i < dom->live->nifaces && !found; i++) {
        const struct domain_iface *f = &dom->live->ifaces[i];
        iface_mac_text(f, mac);
        found = strcasecmp(mac, name) == 0 || (f->target && strcmp(f->target, name) == 0);
    }
    pthread_mutex_unlock(&c->daemon->lock);
    return found;
}

static int interface_stats_call(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_interface_stats_args *a = args;
    char mac[IFACE_MAC_TEXT];
    struct dom *dom = call_dom(c, &a->dom);
    json_t *answer = dom ? process_ask(dom, "x-query-interfaces", NULL, &c->err) : NULL;
    bool known = answer && mac_of(c, dom, a->device, mac);
    const json_t *s = known ? find_mac(json_object_get(answer, "return"), mac) : NULL;
    if (known && !s)
        call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                  "domain '%s': what interface '%s' has carried is not known here; ask the vhost-user back end that serves it", dom->name,
                  a->device);
    else if (answer && !s)
        call_fail(c, VIR_ERR_INVALID_ARG, "domain '%s' has no interface '%s'; name its MAC address, see domiflist", dom->name,
                  a->device);
    if (s)
        *(struct remote_domain_interface_stats_ret *)ret = (struct remote_domain_interface_stats_ret){
            json_get_int(s, "rx_bytes", 0), json_get_int(s, "rx_packets", 0), 0, json_get_int(s, "rx_drop", 0),
            json_get_int(s, "tx_bytes", 0), json_get_int(s, "tx_packets", 0), 0, json_get_int(s, "tx_drop", 0)};
    json_decref(answer);
    dom_unref(dom);
    return s ? 0 : -1;
}

void interface_stats(struct params *p, struct dom *dom)
{
    static const char *const rows[][2] = {{"rx_bytes", "rx.bytes"}, {"rx_packets", "rx.pkts"}, {"rx_drop", "rx.drop"},
                                          {"tx_bytes", "tx.bytes"}, {"tx_packets", "tx.pkts"}, {"tx_drop", "tx.drop"}};
    json_t *answer = process_ask(dom, "x-query-interfaces", NULL, NULL);
    pthread_mutex_lock(&p->c->daemon->lock);
    unsigned n = dom->live ? dom->live->nifaces : 0;
    params_uint(p, n, "net.count");
    for (unsigned i = 0; i < n; i++) {
        const struct domain_iface *f = &dom->live->ifaces[i];
        char mac[IFACE_MAC_TEXT];
        iface_mac_text(f, mac);
        params_string(p, f->target ? f->target : mac, "net.%u.name", i);
        const json_t *s = find_mac(json_object_get(answer, "return"), mac);
        for (unsigned r = 0; s && r < ARRAY_SIZE(rows); r++)
            params_u64(p, (uint64_t)json_get_int(s, rows[r][0], 0), "net.%u.%s", i, rows[r][1]);
    }
    pthread_mutex_unlock(&p->c->daemon->lock);
    json_decref(answer);
}

static int interface_addresses(struct call *c, const void *args, void *ret)
{
    const struct remote_domain_interface_addresses_args *a = args;
    struct dom *dom = call_dom_locked(c, &a->dom);
    if (!dom)
        return -1;
    int result =
        a->source == VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT
            ? agent_interfaces(c, dom, ret)
            : call_fail(c, VIR_ERR_ARGUMENT_UNSUPPORTED,
                        "domain '%s': addresses of the user network are not known to the host; use --source agent", dom->name);
    call_dom_done(dom);
    return result;
}

const struct handler interface_handlers[] = {
    {REMOTE_PROC_DOMAIN_INTERFACE_STATS, interface_stats_call, false},
    {REMOTE_PROC_DOMAIN_INTERFACE_ADDRESSES, interface_addresses, false},
    {0, NULL, false},
};
