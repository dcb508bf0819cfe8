// SPDX-License-Identifier: GPL-2.0-or-later
/* <interface>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"

struct domain_iface *domain_add_iface(struct domain *d, struct error *err)
{
    return domain_append(&d->ifaces, &d->nifaces, sizeof *d->ifaces, DOMAIN_MAX_IFACES, "network interfaces", err);
}

static struct domain_iface *last(void *object)
{
    struct domain *d = object;
    return &d->ifaces[d->nifaces - 1];
}

static int begin_iface(const struct xml_node *node, void *object, struct error *err)
{
    const char *type = xml_attr(node, "type");
    if (strcmp(type, "user") != 0)
        return xml_error(node, err, "type '%.64s' is not supported; write 'user'", type);
    return domain_add_iface(object, err) ? 0 : -1;
}

static int begin_mac(const struct xml_node *node, void *object, struct error *err)
{
    uint8_t *mac = last(object)->mac;
    const char *text = xml_attr(node, "address");
    int used = 0;
    if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5], &used) != 6 ||
        used != 17 || text[used])
        return xml_error(node, err, "'%.64s' is not a MAC address; write six pairs of hexadecimal digits", text);
    if (mac[0] & 1)
        return xml_error(node, err, "'%s' is a multicast address; make the first byte even", text);
    return 0;
}

static int begin_model(const struct xml_node *node, void *object, struct error *err)
{
    (void)object;
    return xml_attr_only(node, "type", "virtio", err);
}

static void iface_free(struct domain *d)
{
    free(d->ifaces);
}

/* MAC addresses in the locally administered range that KVM guests use, distinct within the guest and stable for its UUID. */
static int iface_check(struct domain *d, struct error *err)
{
    static const uint8_t none[6];
    (void)err;
    for (unsigned i = 0; i < d->nifaces; i++) {
        uint8_t *mac = d->ifaces[i].mac;
        if (memcmp(mac, none, 6) != 0)
            continue;
        const uint8_t made[6] = {0x52, 0x54, 0x00, d->uuid[13], d->uuid[14], (uint8_t)(d->uuid[15] + i)};
        memcpy(mac, made, 6);
    }
    return 0;
}

static void iface_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->nifaces; i++) {
        const uint8_t *m = d->ifaces[i].mac;
        fprintf(out,
                "    <interface type='user'>\n      <mac address='%02x:%02x:%02x:%02x:%02x:%02x'/>\n      <model type='virtio'/>\n"
                "    </interface>\n",
                m[0], m[1], m[2], m[3], m[4], m[5]);
    }
}

static const struct xml_element iface_children[] = {
    {"mac", 0, "address!", begin_mac, NULL, NULL},
    {"model", 0, "type!", begin_model, NULL, NULL},
    XML_END,
};
static const struct xml_element iface_devices[] = {
    {"interface", XML_MANY, "type!", begin_iface, iface_children, NULL},
    XML_END,
};
const struct domain_part iface_part = {
    .devices = iface_devices, .free = iface_free, .check = iface_check, .write_devices = iface_write};
