// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Devices that come to a running guest and leave it. lodge-vm makes them and takes them apart (x-device-add, device_del); the
 * daemon chooses the PCI address, keeps the XML of what runs in step, and tells clients.
 *
 * dom->live changes under daemon.lock only: a guest gives a device back when it likes, which the monitor hears on the main thread.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/calls.h"
#include "model/xml.h"

#define RELEASE_S 20 /* that a call waits for the guest; Linux takes five seconds and a bit */
#define POLL_NS   50000000

/* The copy of what runs that a call works on. */
static struct domain *live_copy(struct call *c, struct dom *dom)
{
    pthread_mutex_lock(&c->daemon->lock);
    struct domain *d = dom->live ? dom_copy(dom->live, &c->err) : NULL;
    pthread_mutex_unlock(&c->daemon->lock);
    return d;
}

/* A device by what it is called over QMP and in events: a disk by its target, a card by its MAC address. */
static int find_named(const struct domain *d, const char *name, bool *disk)
{
    char own[IFACE_MAC_TEXT];
    *disk = true;
    for (unsigned i = 0; i < d->ndisks; i++)
        if (strcmp(d->disks[i].target, name) == 0)
            return (int)i;
    *disk = false;
    for (unsigned i = 0; i < d->nifaces; i++) {
        iface_mac_text(&d->ifaces[i], own);
        if (strcasecmp(own, name) == 0)
            return (int)i;
    }
    return -1;
}

/* ---- coming ---- */

/* The last element of that name in the domain's devices, as XML. */
static char *last_device(const struct domain *d, const char *name, struct error *err)
{
    AUTO_FREE char *xml = dom_xml(d, -1, err);
    struct xml_doc *doc = xml ? xml_doc_parse(xml, strlen(xml), err) : NULL;
    const struct xml_node *devices = doc ? call_devices(doc) : NULL, *found = NULL;
    for (const struct xml_node *n = devices ? devices->children : NULL; n; n = n->next)
        if (strcmp(n->name, name) == 0)
            found = n;
    char *text = found ? xml_node_text(found) : NULL;
    xml_doc_free(doc);
    return text;
}

/* The device goes from the copy to what runs. */
static int keep_device(struct call *c, struct dom *dom, struct domain *with, bool disk)
{
    int result = -1;
    pthread_mutex_lock(&c->daemon->lock);
    struct domain_disk *d = dom->live && disk ? domain_add_disk(dom->live, &c->err) : NULL;
    struct domain_iface *f = dom->live && !disk ? domain_add_iface(dom->live, &c->err) : NULL;
    if (d)
        *d = with->disks[--with->ndisks];
    if (f)
        *f = with->ifaces[--with->nifaces];
    if (d || f)
        result = dom->hv->driver->save_live(dom, &c->err);
    pthread_mutex_unlock(&c->daemon->lock);
    return result;
}

/* `with` is what runs with one device more, addresses assigned. */
static int add_device(struct call *c, struct dom *dom, const struct domain *before, struct domain *with)
{
    bool disk = with->ndisks == before->ndisks + 1;
    char name[IFACE_MAC_TEXT];
    if (!disk && with->nifaces != before->nifaces + 1)
        return call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                         "domain '%s' is running: only disks and network interfaces can be added to it; use --config", dom->name);
    if (with->ncontrollers != before->ncontrollers)
        return call_fail(c, VIR_ERR_OPERATION_FAILED,
                         "domain '%s': no root port is free; add a controller of type 'pci' and model 'pcie-root-port' with "
                         "--config, and start the guest anew",
                         dom->name);
    AUTO_FREE char *device = last_device(with, disk ? "disk" : "interface", &c->err);
    if (disk)
        snprintf(name, sizeof name, "%s", with->disks[with->ndisks - 1].target);
    else
        iface_mac_text(&with->ifaces[with->nifaces - 1], name);
    if (!device || dom->hv->driver->attach(dom, device, &c->err) < 0 || keep_device(c, dom, with, disk) < 0)
        return -1;
    event_device(dom, name, true);
    return 0;
}

int call_attach_live(struct call *c, struct dom *dom, const char *device_xml)
{
    struct domain *before = live_copy(c, dom);
    AUTO_FREE char *whole = before ? call_edited_xml(c, dom, before, CALL_ATTACH, device_xml, NULL) : NULL;
    struct domain *with = whole ? call_parse(c, whole) : NULL;
    int result = with ? add_device(c, dom, before, with) : -1;
    dom_drop(with);
    dom_drop(before);
    return result;
}

/* ---- going ---- */

static bool has_device(struct call *c, struct dom *dom, const char *name)
{
    bool disk;
    pthread_mutex_lock(&c->daemon->lock);
    bool has = dom->live && find_named(dom->live, name, &disk) >= 0;
    pthread_mutex_unlock(&c->daemon->lock);
    return has;
}

static int wait_gone(struct call *c, struct dom *dom, const char *name)
{
    const uint64_t end = now_ns() + RELEASE_S * NS_PER_S;
    while (has_device(c, dom, name)) {
        if (now_ns() > end)
            return call_fail(
                c, VIR_ERR_OPERATION_TIMEOUT,
                "domain '%s': the guest has not given '%s' back; it may still do so, if its system knows PCI Express hot plug",
                dom->name, name);
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
    return 0;
}

int call_detach_live(struct call *c, struct dom *dom, const char *device_xml)
{
    struct domain *now = live_copy(c, dom);
    AUTO_FREE char *key = NULL;
    AUTO_FREE char *rest = now ? call_edited_xml(c, dom, now, CALL_DETACH, device_xml, &key) : NULL;
    bool disk, known = rest && key && find_named(now, key, &disk) >= 0;
    dom_drop(now);
    if (rest && !known)
        return call_fail(c, VIR_ERR_OPERATION_UNSUPPORTED,
                         "domain '%s' is running: only disks and network interfaces can be taken from it; use --config", dom->name);
    return known && dom->hv->driver->detach(dom, key, &c->err) == 0 ? wait_gone(c, dom, key) : -1;
}

void dom_device_gone(struct dom *dom, const char *name)
{
    ERROR_SCOPED(err);
    bool disk;
    pthread_mutex_lock(&dom->hv->daemon->lock);
    int i = dom->live ? find_named(dom->live, name, &disk) : -1;
    if (i >= 0 && disk)
        domain_remove_disk(dom->live, (unsigned)i);
    else if (i >= 0)
        domain_remove_iface(dom->live, (unsigned)i);
    if (i >= 0 && dom->hv->driver->save_live(dom, &err) < 0)
        log_error("domain '%s': %s", dom->name, error_text(&err));
    pthread_mutex_unlock(&dom->hv->daemon->lock);
    if (i >= 0)
        event_device(dom, name, false);
}
