// SPDX-License-Identifier: GPL-2.0-or-later
/* <vsock>. The path of its socket on the host is Lodge's own word. */
#include <stdlib.h>

#include "base/util.h"
#include "model/part.h"

static int begin_vsock(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return xml_attr_only(node, "model", "virtio", err);
}

static int begin_cid(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t cid = 3;
    if (xml_attr_only(node, "auto", "no", err) < 0 || xml_attr_number(node, "address", UINT32_MAX - 1, &cid, err) < 0)
        return -1;
    if (cid < 3)
        return xml_error(node, err, "address %u is reserved; the first of a guest is 3", (unsigned)cid);
    ((struct domain *)object)->vsock.cid = (uint32_t)cid;
    return 0;
}

static int begin_socket(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "path", &((struct domain *)object)->vsock.path, err);
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &((struct domain *)object)->vsock.address, err);
}

static void vsock_free(struct domain *d)
{
    free(d->vsock.path);
}

static int vsock_check(struct domain *d, struct error *err)
{
    if (d->vsock.path && !d->vsock.cid)
        d->vsock.cid = 3;
    if (d->vsock.cid && !d->vsock.path)
        return error_set(err, 0, "domain '%s': <vsock> names no socket of the host; add <lodge:socket path='…'/>", d->name);
    return 0;
}

static void vsock_write(const struct domain *d, FILE *out)
{
    if (!d->vsock.path)
        return;
    fprintf(out, "    <vsock model='virtio'>\n      <cid auto='no' address='%u'/>\n", d->vsock.cid);
    xml_put_attr(out, "      <lodge:socket path='", d->vsock.path, "'/>\n");
    pci_put_address(out, 6, &d->vsock.address);
    fputs("    </vsock>\n", out);
}

static const struct xml_element vsock_children[] = {
    {"cid", XML_REQUIRED, "auto address!", begin_cid, NULL, NULL},
    {"socket", XML_FOREIGN, "path!", begin_socket, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(alias_refuse),
    XML_END,
};
static const struct xml_element vsock_devices[] = {
    {"vsock", 0, "model", begin_vsock, vsock_children, NULL},
    XML_END,
};
const struct domain_part vsock_part = {.devices = vsock_devices, .free = vsock_free, .check = vsock_check, .write_devices = vsock_write};
