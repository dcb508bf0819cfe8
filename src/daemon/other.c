// SPDX-License-Identifier: GPL-2.0-or-later
/* Kinds of objects that there are none of: their lists are empty, and looking one up fails with the code that clients know for
 * that. */
#include "daemon/server.h"

/* An answer is zeroed before its handler runs: a list without elements, a number 0. */
static int none(struct call *c, const void *args, void *ret)
{
    (void)c;
    (void)args;
    (void)ret;
    return 0;
}

static int no_network(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return call_fail(c, VIR_ERR_NO_NETWORK, "Network not found: there are no networks; use <interface type='user'>");
}

static int no_secret(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return call_fail(c, VIR_ERR_NO_SECRET, "Secret not found: secrets are not supported");
}

static int no_device(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return call_fail(c, VIR_ERR_NO_NODE_DEVICE, "Node device not found: node devices are not listed");
}

static int no_interface(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return call_fail(c, VIR_ERR_NO_INTERFACE, "Interface not found: interfaces of the host are not listed");
}

static int no_filter(struct call *c, const void *args, void *ret)
{
    (void)args;
    (void)ret;
    return call_fail(c, VIR_ERR_NO_NWFILTER, "Network filter not found: network filters are not supported");
}

const struct handler other_handlers[] = {
    {REMOTE_PROC_CONNECT_LIST_ALL_NETWORKS, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_NETWORKS, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_DEFINED_NETWORKS, none, false},
    {REMOTE_PROC_CONNECT_LIST_NETWORKS, none, false},
    {REMOTE_PROC_CONNECT_LIST_DEFINED_NETWORKS, none, false},
    {REMOTE_PROC_CONNECT_LIST_ALL_INTERFACES, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_INTERFACES, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_DEFINED_INTERFACES, none, false},
    {REMOTE_PROC_CONNECT_LIST_INTERFACES, none, false},
    {REMOTE_PROC_CONNECT_LIST_DEFINED_INTERFACES, none, false},
    {REMOTE_PROC_CONNECT_LIST_ALL_NODE_DEVICES, none, false},
    {REMOTE_PROC_NODE_NUM_OF_DEVICES, none, false},
    {REMOTE_PROC_NODE_LIST_DEVICES, none, false},
    {REMOTE_PROC_CONNECT_LIST_ALL_SECRETS, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_SECRETS, none, false},
    {REMOTE_PROC_CONNECT_LIST_SECRETS, none, false},
    {REMOTE_PROC_CONNECT_LIST_ALL_NWFILTERS, none, false},
    {REMOTE_PROC_CONNECT_NUM_OF_NWFILTERS, none, false},
    {REMOTE_PROC_CONNECT_LIST_NWFILTERS, none, false},
    {REMOTE_PROC_NETWORK_LOOKUP_BY_NAME, no_network, false},
    {REMOTE_PROC_NETWORK_LOOKUP_BY_UUID, no_network, false},
    {REMOTE_PROC_SECRET_LOOKUP_BY_UUID, no_secret, false},
    {REMOTE_PROC_SECRET_LOOKUP_BY_USAGE, no_secret, false},
    {REMOTE_PROC_NODE_DEVICE_LOOKUP_BY_NAME, no_device, false},
    {REMOTE_PROC_INTERFACE_LOOKUP_BY_NAME, no_interface, false},
    {REMOTE_PROC_INTERFACE_LOOKUP_BY_MAC_STRING, no_interface, false},
    {REMOTE_PROC_NWFILTER_LOOKUP_BY_NAME, no_filter, false},
    {REMOTE_PROC_NWFILTER_LOOKUP_BY_UUID, no_filter, false},
    {0, NULL, false},
};
