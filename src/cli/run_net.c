// SPDX-License-Identifier: GPL-2.0-or-later
/* --net. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "cli/run.h"

static int user_forward(void *object, const char *value, struct error *err)
{
    struct iface_forward *w = iface_add_forward(object, err);
    char protocol[4], host[46] = "";
    int used = 0, n;
    if (!w)
        return -1;
    n = sscanf(value, "%3[a-z]:%45[0-9.]:%hu-:%hu%n", protocol, host, &w->host_port, &w->guest_port, &used);
    if (n < 4)
        n = sscanf(value, "%3[a-z]::%hu-:%hu%n", protocol, &w->host_port, &w->guest_port, &used) + 1;
    w->udp = n == 4 && strcmp(protocol, "udp") == 0;
    if (n < 4 || value[used] || (!w->udp && strcmp(protocol, "tcp") != 0) || !w->host_port || !w->guest_port)
        return error_set(err, 0, "option '--net': hostfwd '%s' is not understood; write tcp:127.0.0.1:2222-:22, or udp", value);
    memcpy(w->host, host, sizeof host);
    return 0;
}

static int net_tftp(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_iface *)object)->tftp, value, err);
}

static int net_bootfile(void *object, const char *value, struct error *err)
{
    return run_set_text(&((struct domain_iface *)object)->bootfile, value, err);
}

OPTION_SETS(net_restrict, struct domain_iface, restricted, true)

static int tap_ifname(void *object, const char *value, struct error *err)
{
    return run_set_text(&((struct domain_iface *)object)->target, value, err);
}

static int tap_bridge(void *object, const char *value, struct error *err)
{
    struct domain_iface *f = object;
    f->type = IFACE_BRIDGE;
    return run_set_text(&f->source, value, err);
}

static int socket_end(struct domain_iface *f, enum iface_type type, const char *value, struct error *err)
{
    f->type = type;
    return strchr(value, '/') ? run_set_path(&f->source, value, err) : run_set_text(&f->source, value, err);
}

static int socket_listen(void *object, const char *value, struct error *err)
{
    return socket_end(object, IFACE_SERVER, value, err);
}

static int socket_connect(void *object, const char *value, struct error *err)
{
    return socket_end(object, IFACE_CLIENT, value, err);
}

static int vhost_path(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_iface *)object)->source, value, err);
}

static int vhost_reconnect(void *object, const char *value, struct error *err)
{
    return run_set_reconnect("net", value, &((struct domain_iface *)object)->reconnect, err);
}

static int tap_vhost(void *object, const char *value, struct error *err)
{
    static const char *const words[] = {"auto", "on", "off"}; /* enum iface_vhost */
    struct domain_iface *f = object;
    for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
        if (strcmp(value, words[i]) == 0) {
            f->vhost = (enum iface_vhost)i;
            return 0;
        }
    return error_set(err, 0, "option '--net': vhost '%s'; give on, off or auto", value);
}

static int net_mac(void *object, const char *value, struct error *err)
{
    uint8_t *m = ((struct domain_iface *)object)->mac;
    int used = 0;
    if (sscanf(value, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5], &used) != 6 || value[used] || (m[0] & 1))
        return error_set(err, 0, "option '--net': '%s' is not a card's MAC address; write six pairs of hexadecimal digits, the first even", value);
    return 0;
}

static int parse_number(const char *what, const char *value, unsigned long max, unsigned *out, struct error *err)
{
    char *end;
    unsigned long n = strtoul(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end || n < 1 || n > max)
        return error_set(err, 0, "option '--net': %s '%s'; give 1 to %lu", what, value, max);
    *out = (unsigned)n;
    return 0;
}

static int net_model(void *object, const char *value, struct error *err)
{
    bool intel = strcmp(value, "e1000e") == 0;
    if (!intel && strcmp(value, "virtio") != 0)
        return error_set(err, 0, "option '--net': there is no model '%s'; give virtio or e1000e", value);
    ((struct domain_iface *)object)->model = intel ? IFACE_E1000E : IFACE_VIRTIO;
    return 0;
}

static int net_queues(void *object, const char *value, struct error *err)
{
    return parse_number("queues", value, IFACE_MAX_QUEUES, &((struct domain_iface *)object)->queues, err);
}

static int net_mtu(void *object, const char *value, struct error *err)
{
    return parse_number("mtu", value, 65535, &((struct domain_iface *)object)->mtu, err);
}

static int net_pcap(void *object, const char *value, struct error *err)
{
    return run_set_path(&((struct domain_iface *)object)->pcap, value, err);
}

static int parse_rate(const char *what, const char *value, uint64_t *out, struct error *err)
{
    if (domain_parse_size(value, 1, out) < 0 || *out < KIB)
        return error_set(err, 0, "option '--net': %s '%s' is not an amount of bytes; give 1K or more, such as 10M", what, value);
    return 0;
}

static int net_rate_in(void *object, const char *value, struct error *err)
{
    return parse_rate("rate-in", value, &((struct domain_iface *)object)->inbound.average, err);
}

static int net_rate_out(void *object, const char *value, struct error *err)
{
    return parse_rate("rate-out", value, &((struct domain_iface *)object)->outbound.average, err);
}

static int net_burst(void *object, const char *value, struct error *err)
{
    struct domain_iface *f = object;
    if (parse_rate("burst", value, &f->inbound.burst, err) < 0)
        return -1;
    f->outbound.burst = f->inbound.burst;
    return 0;
}

static int net_pci(void *object, const char *value, struct error *err)
{
    return run_set_pci("net", &((struct domain_iface *)object)->address, value, err);
}

static const struct field_row fields[] = {
    {"hostfwd", true, user_forward},   {"tftp", true, net_tftp},           {"bootfile", true, net_bootfile}, {"restrict", false, net_restrict},
    {"ifname", true, tap_ifname},      {"bridge", true, tap_bridge},       {"listen", true, socket_listen},  {"connect", true, socket_connect},
    {"path", true, vhost_path},        {"reconnect", true, vhost_reconnect}, {"vhost", true, tap_vhost},
    {"mac", true, net_mac},            {"queues", true, net_queues},       {"mtu", true, net_mtu},           {"pcap", true, net_pcap},
    {"model", true, net_model},        {"pci", true, net_pci},
    {"rate-in", true, net_rate_in},    {"rate-out", true, net_rate_out},   {"burst", true, net_burst},       {NULL, false, NULL},
};

int run_set_net(void *o, const char *value, struct error *err)
{
    static const char usage[] = "user[,hostfwd=tcp:HOST:PORT-:PORT][,tftp=DIR], tap,ifname=NAME, tap,bridge=NAME[,vhost=on|off|auto], socket,listen=ADDRESS, socket,connect=ADDRESS, vhost-user,path=PATH[,reconnect=SECONDS], or none";
    static const struct {
        const char *name;
        enum iface_type type;
    } kinds[] = {{"user", IFACE_USER}, {"tap", IFACE_ETHERNET}, {"socket", IFACE_TYPES}, {"vhost-user", IFACE_VHOSTUSER}};
    struct run *r = o;
    size_t len = strcspn(value, ",");
    unsigned k = 0;
    r->no_net = true; /* no network but those that are named */
    if (strcmp(value, "none") == 0)
        return 0;
    while (k < ARRAY_SIZE(kinds) && (strlen(kinds[k].name) != len || strncmp(value, kinds[k].name, len) != 0))
        k++;
    if (k == ARRAY_SIZE(kinds))
        return error_set(err, 0, "option '--net': '%.*s' is no network; write %s", (int)len, value, usage);
    struct domain_iface *f = domain_add_iface(&r->d, err);
    if (!f)
        return -1;
    f->type = kinds[k].type;
    if (run_set_fields("net", value + len + (value[len] == ','), fields, usage, f, err) < 0)
        return -1;
    if (f->reconnect && f->type != IFACE_VHOSTUSER)
        return error_set(err, 0, "option '--net': reconnect is a vhost-user back end's; leave it out");
    if (f->type == IFACE_TYPES)
        return error_set(err, 0, "option '--net': a socket neither listens nor connects; write socket,listen=HOST:PORT or socket,connect=HOST:PORT");
    return 0;
}
