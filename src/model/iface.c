// SPDX-License-Identifier: GPL-2.0-or-later
/* <interface>. */
#include <stdlib.h>
#include <string.h>

#include "base/util.h"
#include "model/part.h"
#include "model/reconnect.h"

const char *const iface_type_names[] = {"user", "ethernet", "bridge", "server", "client", "vhostuser", NULL};

static const char *const drivers[] = {"vhost", "qemu", NULL}; /* of enum iface_vhost, behind its first */
static const char *const models[] = {"virtio", "e1000e", NULL}; /* enum iface_model */

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
    int type = xml_attr_word(node, "type", iface_type_names, 0, err);
    struct domain_iface *f = type < 0 ? NULL : domain_add_iface(object, err);
    if (!f)
        return -1;
    f->type = (enum iface_type)type;
    return 0;
}

/* <source bridge='br0'/>, <source address='127.0.0.1' port='5558'/>, <source path='/run/wire'/>, or <source type='unix' path='/run/back' mode='client'/>. */
static int begin_source(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_iface *f = last(object);
    const char *bridge = xml_attr(node, "bridge"), *address = xml_attr(node, "address"), *path = xml_attr(node, "path");
    uint64_t port = 0;
    if (xml_attr_number(node, "port", 65535, &port, err) < 0)
        return -1;
    if (f->type == IFACE_VHOSTUSER && path)
        return xml_attr_only(node, "type", "unix", err) < 0 || xml_attr_only(node, "mode", "client", err) < 0 ? -1 : xml_take_attr(node, "path", &f->source, err);
    if (xml_attr(node, "type") || xml_attr(node, "mode"))
        return xml_error(node, err, "type and mode are for an interface of type 'vhostuser' with a path; remove them");
    if (f->type == IFACE_BRIDGE && bridge)
        return xml_take_attr(node, "bridge", &f->source, err);
    if ((f->type == IFACE_SERVER || f->type == IFACE_CLIENT) && path)
        return xml_take_attr(node, "path", &f->source, err);
    if ((f->type != IFACE_SERVER && f->type != IFACE_CLIENT) || !port)
        return xml_error(node, err, "does not fit the interface's type; a bridge has a 'bridge', a server or client an 'address' and a 'port'");
    free(f->source);
    if (asprintf(&f->source, "%s:%u", address ? address : "127.0.0.1", (unsigned)port) < 0)
        f->source = NULL;
    return f->source ? 0 : error_set(err, 0, "domain XML: out of memory");
}

static int begin_reconnect(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_iface *f = last(object);
    return f->type == IFACE_VHOSTUSER ? reconnect_take(node, &f->reconnect, err)
                                      : xml_error(node, err, "is for an interface of type 'vhostuser'; remove it");
}

static int begin_target(const struct xml_node *node, void *object, struct error *err)
{
    return xml_attr_switch(node, "managed", 0, err) < 0 ? -1 : xml_take_attr(node, "dev", &last(object)->target, err);
}

static int begin_driver(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t queues = 0;
    int name = xml_attr_word(node, "name", drivers, -2, err);
    if (name == -1 || xml_attr_number(node, "queues", IFACE_MAX_QUEUES, &queues, err) < 0)
        return -1;
    last(object)->vhost = name < 0 ? IFACE_VHOST_AUTO : (enum iface_vhost)(name + 1);
    last(object)->queues = (unsigned)queues;
    return 0;
}

static int begin_mtu(const struct xml_node *node, void *object, struct error *err)
{
    uint64_t size = 0;
    if (xml_attr_number(node, "size", 65535, &size, err) < 0)
        return -1;
    last(object)->mtu = (unsigned)size;
    return 0;
}

static int begin_link(const struct xml_node *node, void *object, struct error *err)
{
    int state = xml_attr_word(node, "state", (const char *const[]){"up", "down", NULL}, 0, err);
    last(object)->link_down = state == 1;
    return state < 0 ? -1 : 0;
}

/* libvirt counts in KiB. */
static int parse_rate(const struct xml_node *node, struct iface_rate *r, struct error *err)
{
    uint64_t peak = 0;
    if (xml_attr_number(node, "average", UINT32_MAX, &r->average, err) < 0 || xml_attr_number(node, "burst", UINT32_MAX, &r->burst, err) < 0 ||
        xml_attr_number(node, "peak", UINT32_MAX, &peak, err) < 0)
        return -1;
    r->average *= KIB;
    r->burst *= KIB;
    return 0;
}

static int begin_inbound(const struct xml_node *node, void *object, struct error *err)
{
    return parse_rate(node, &last(object)->inbound, err);
}

static int begin_outbound(const struct xml_node *node, void *object, struct error *err)
{
    return parse_rate(node, &last(object)->outbound, err);
}

struct iface_forward *iface_add_forward(struct domain_iface *f, struct error *err)
{
    return domain_append(&f->forwards, &f->nforwards, sizeof *f->forwards, IFACE_MAX_FORWARDS, "forwarded ports", err);
}

static int begin_forward(const struct xml_node *node, void *object, struct error *err)
{
    int udp = xml_attr_word(node, "proto", (const char *const[]){"tcp", "udp", NULL}, 0, err);
    struct iface_forward *w = udp < 0 ? NULL : iface_add_forward(last(object), err);
    const char *host = xml_attr(node, "address");
    if (!w)
        return -1;
    w->udp = udp;
    snprintf(w->host, sizeof w->host, "%s", host ? host : "");
    return 0;
}

static int begin_range(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_iface *f = last(object);
    struct iface_forward *w = &f->forwards[f->nforwards - 1];
    uint64_t start = 0, to = 0;
    if (xml_attr_number(node, "start", 65535, &start, err) < 0 || xml_attr_number(node, "to", 65535, &to, err) < 0)
        return -1;
    w->host_port = (uint16_t)start;
    w->guest_port = (uint16_t)(to ? to : start);
    return 0;
}

static int begin_pcap(const struct xml_node *node, void *object, struct error *err)
{
    return xml_take_attr(node, "file", &last(object)->pcap, err);
}

static int begin_tftp(const struct xml_node *node, void *object, struct error *err)
{
    struct domain_iface *f = last(object);
    return xml_take_attr(node, "root", &f->tftp, err) < 0 ? -1 : xml_take_attr(node, "bootfile", &f->bootfile, err);
}

BEGIN_FLAG(begin_restrict, last(object)->restricted)

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
    int model = xml_attr_word(node, "type", models, 0, err);
    last(object)->model = model == 1 ? IFACE_E1000E : IFACE_VIRTIO;
    return model < 0 ? -1 : 0;
}

static int begin_address(const struct xml_node *node, void *object, struct error *err)
{
    return pci_take_address(node, &last(object)->address, err);
}

static int begin_alias(const struct xml_node *node, void *object, struct error *err)
{
    return alias_take(node, &last(object)->alias, err);
}

static void free_iface(struct domain_iface *f)
{
    char *const owned[] = {f->source, f->target, f->tftp, f->bootfile, f->pcap};
    for (unsigned k = 0; k < ARRAY_SIZE(owned); k++)
        free(owned[k]);
    free(f->forwards);
    free(f->alias);
}

void domain_remove_iface(struct domain *d, unsigned i)
{
    free_iface(&d->ifaces[i]);
    memmove(&d->ifaces[i], &d->ifaces[i + 1], (--d->nifaces - i) * sizeof *d->ifaces);
}

static void iface_free(struct domain *d)
{
    for (unsigned i = 0; i < d->nifaces; i++)
        free_iface(&d->ifaces[i]);
    free(d->ifaces);
}

/* What needs to see each frame keeps the kernel out. */
static bool looks_in(const struct domain_iface *f)
{
    return f->model == IFACE_E1000E || f->pcap || f->inbound.average || f->outbound.average;
}

bool iface_may_vhost(const struct domain_iface *f)
{
    return (f->type == IFACE_ETHERNET || f->type == IFACE_BRIDGE) && f->vhost != IFACE_VHOST_OFF && !looks_in(f);
}

static int check_one(const struct domain_iface *f, unsigned number, struct error *err)
{
    static const char *const needed[IFACE_TYPES] = {
        [IFACE_BRIDGE] = "bridge", [IFACE_SERVER] = "address to listen at", [IFACE_CLIENT] = "address to connect to", [IFACE_VHOSTUSER] = "path of a socket"};
    if (needed[f->type] && !f->source)
        return error_set(err, 0, "network interface %u: no %s; name it in <source>", number, needed[f->type]);
    if (f->type != IFACE_USER && (f->nforwards || f->tftp || f->bootfile || f->restricted))
        return error_set(err, 0, "network interface %u: forwards, TFTP and restriction are the user network's; make its type 'user'", number);
    for (unsigned i = 0; i < f->nforwards; i++)
        if (!f->forwards[i].host_port || !f->forwards[i].guest_port)
            return error_set(err, 0, "network interface %u: a forward without a port; name the host's and the guest's", number);
    if (f->model == IFACE_E1000E && (f->queues || f->mtu || f->link_down || f->inbound.average || f->outbound.average))
        return error_set(err, 0, "network interface %u: queues, MTU, link state and limits of rate need the model 'virtio'; use that, or leave them out",
                         number);
    if (f->vhost == IFACE_VHOST_ON && f->type != IFACE_VHOSTUSER && !iface_may_vhost(f))
        return error_set(err, 0, "network interface %u: the kernel serves the virtio queues of a tap device only; leave out vhost, or what is not for it "
                                 "(another network, e1000e, captures, limits of rate)", number);
    if (f->type == IFACE_VHOSTUSER && looks_in(f))
        return error_set(err, 0, "network interface %u: a vhost-user back end has virtio queues to itself; leave out e1000e, captures and limits of rate",
                         number);
    if (f->mtu && (f->mtu < 68 || f->mtu > 65535))
        return error_set(err, 0, "network interface %u: an MTU of %u bytes; give it 68 to 65535", number, f->mtu);
    return 0;
}

/* MAC addresses in the locally administered range that KVM guests use, distinct within the guest and stable for its UUID. */
static int iface_check(struct domain *d, struct error *err)
{
    static const uint8_t none[6];
    for (unsigned i = 0; i < d->nifaces; i++) {
        if (check_one(&d->ifaces[i], i + 1, err) < 0)
            return -1;
        uint8_t *mac = d->ifaces[i].mac;
        if (memcmp(mac, none, 6) != 0)
            continue;
        const uint8_t made[6] = {0x52, 0x54, 0x00, d->uuid[13], d->uuid[14], (uint8_t)(d->uuid[15] + i)};
        memcpy(mac, made, 6);
    }
    return 0;
}

static void write_source(const struct domain_iface *f, FILE *out)
{
    const char *colon = f->source ? strrchr(f->source, ':') : NULL;
    if (f->type == IFACE_BRIDGE) {
        xml_put_attr(out, "      <source bridge='", f->source, "'/>\n");
    } else if (f->type == IFACE_VHOSTUSER) {
        reconnect_put_source(out, " type='unix' path='", f->source, "' mode='client'", f->reconnect);
    } else if (f->source && (strchr(f->source, '/') || !colon)) {
        xml_put_attr(out, "      <source path='", f->source, "'/>\n");
    } else if (colon) {
        char host[256];
        snprintf(host, sizeof host, "%.*s", (int)(colon - f->source), f->source);
        xml_put_attr(out, "      <source address='", host, "'");
        xml_put_attr(out, " port='", colon + 1, "'/>\n");
    }
    if (f->target)
        xml_put_attr(out, "      <target dev='", f->target, "' managed='no'/>\n");
}

static void write_rate(const char *name, const struct iface_rate *r, FILE *out)
{
    if (!r->average)
        return;
    fprintf(out, "        <%s average='%llu'", name, (unsigned long long)((r->average + KIB - 1) / KIB));
    if (r->burst)
        fprintf(out, " burst='%llu'", (unsigned long long)((r->burst + KIB - 1) / KIB));
    fputs("/>\n", out);
}

static void write_user(const struct domain_iface *f, FILE *out)
{
    for (unsigned i = 0; i < f->nforwards; i++) {
        const struct iface_forward *w = &f->forwards[i];
        fprintf(out, "      <portForward proto='%s'", w->udp ? "udp" : "tcp");
        if (w->host[0])
            xml_put_attr(out, " address='", w->host, "'");
        fprintf(out, ">\n        <range start='%u' to='%u'/>\n      </portForward>\n", w->host_port, w->guest_port);
    }
    if (f->tftp || f->bootfile) {
        fputs("      <lodge:tftp", out);
        if (f->tftp)
            xml_put_attr(out, " root='", f->tftp, "'");
        if (f->bootfile)
            xml_put_attr(out, " bootfile='", f->bootfile, "'");
        fputs("/>\n", out);
    }
    if (f->restricted)
        fputs("      <lodge:restrict/>\n", out);
}

void iface_mac_text(const struct domain_iface *f, char text[IFACE_MAC_TEXT])
{
    const uint8_t *m = f->mac;
    snprintf(text, IFACE_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
}

static void write_driver(const struct domain_iface *f, FILE *out)
{
    if (!f->queues && f->vhost == IFACE_VHOST_AUTO)
        return;
    fputs("      <driver", out);
    if (f->vhost != IFACE_VHOST_AUTO)
        fprintf(out, " name='%s'", drivers[f->vhost - 1]);
    if (f->queues)
        fprintf(out, " queues='%u'", f->queues);
    fputs("/>\n", out);
}

static void write_one(const struct domain_iface *f, FILE *out)
{
    char mac[IFACE_MAC_TEXT];
    iface_mac_text(f, mac);
    fprintf(out, "    <interface type='%s'>\n      <mac address='%s'/>\n", iface_type_names[f->type], mac);
    write_source(f, out);
    fprintf(out, "      <model type='%s'/>\n", models[f->model]);
    write_driver(f, out);
    if (f->inbound.average || f->outbound.average) {
        fputs("      <bandwidth>\n", out);
        write_rate("inbound", &f->inbound, out);
        write_rate("outbound", &f->outbound, out);
        fputs("      </bandwidth>\n", out);
    }
    if (f->link_down)
        fputs("      <link state='down'/>\n", out);
    if (f->mtu)
        fprintf(out, "      <mtu size='%u'/>\n", f->mtu);
    write_user(f, out);
    if (f->pcap)
        xml_put_attr(out, "      <lodge:pcap file='", f->pcap, "'/>\n");
    alias_put(out, f->alias);
    pci_put_address(out, 6, &f->address);
    fputs("    </interface>\n", out);
}

static void iface_write(const struct domain *d, FILE *out)
{
    for (unsigned i = 0; i < d->nifaces; i++)
        write_one(&d->ifaces[i], out);
}

/* Does an interface need the namespace? */
bool iface_extended(const struct domain *d)
{
    for (unsigned i = 0; i < d->nifaces; i++) {
        const struct domain_iface *f = &d->ifaces[i];
        if (f->tftp || f->bootfile || f->restricted || f->pcap)
            return true;
    }
    return false;
}

static const struct xml_element forward_children[] = {
    {"range", XML_REQUIRED, "start! to", begin_range, NULL, NULL},
    XML_END,
};
static const struct xml_element bandwidth_children[] = {
    {"inbound", 0, "average! peak burst", begin_inbound, NULL, NULL},
    {"outbound", 0, "average! peak burst", begin_outbound, NULL, NULL},
    XML_END,
};
static const struct xml_element source_children[] = {
    {"reconnect", 0, RECONNECT_ATTRS, begin_reconnect, NULL, NULL},
    XML_END,
};
static const struct xml_element iface_children[] = {
    {"mac", 0, "address!", begin_mac, NULL, NULL},
    {"source", 0, "bridge address port path type mode", begin_source, source_children, NULL},
    {"target", 0, "dev! managed", begin_target, NULL, NULL},
    {"model", 0, "type!", begin_model, NULL, NULL},
    {"driver", 0, "name queues", begin_driver, NULL, NULL},
    {"bandwidth", 0, NULL, NULL, bandwidth_children, NULL},
    {"link", 0, "state!", begin_link, NULL, NULL},
    {"mtu", 0, "size!", begin_mtu, NULL, NULL},
    {"address", 0, PCI_ADDRESS_ATTRS, begin_address, NULL, NULL},
    ALIAS_ELEMENT(begin_alias),
    {"portForward", XML_MANY, "proto! address", begin_forward, forward_children, NULL},
    {"tftp", XML_FOREIGN, "root bootfile", begin_tftp, NULL, NULL},
    {"restrict", XML_FOREIGN, NULL, begin_restrict, NULL, NULL},
    {"pcap", XML_FOREIGN, "file!", begin_pcap, NULL, NULL},
    XML_END,
};
static const struct xml_element iface_devices[] = {
    {"interface", XML_MANY, "type!", begin_iface, iface_children, NULL},
    XML_END,
};
const struct domain_part iface_part = {
    .devices = iface_devices, .free = iface_free, .check = iface_check, .write_devices = iface_write};
