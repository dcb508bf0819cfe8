/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <interface>: a network card, and the network it is on. */
#ifndef LODGE_MODEL_IFACE_H
#define LODGE_MODEL_IFACE_H

#include <stdbool.h>
#include <stdint.h>

#include "model/pci.h"

#define IFACE_MAX_FORWARDS 32u
#define IFACE_MAX_QUEUES   8u

enum iface_type {
    IFACE_USER,     /* NAT, without privileges */
    IFACE_ETHERNET, /* a tap device of the host: `target` */
    IFACE_BRIDGE,   /* a tap device on `source`, a bridge of the host */
    IFACE_SERVER,   /* a wire to another guest: listens at `source` */
    IFACE_CLIENT,   /* the other end of it */
    IFACE_VHOSTUSER, /* another process is the data path: it listens at `source` */
    IFACE_TYPES
};
extern const char *const iface_type_names[]; /* libvirt's; ends with NULL */

/* A port of the host that leads to one of the guest's; an empty address: the host's loopback. */
struct iface_forward {
    bool udp;
    char host[46];
    uint16_t host_port, guest_port;
};

/* The data path of a tap device: the kernel's, where there is one, is the default. */
enum iface_vhost { IFACE_VHOST_AUTO, IFACE_VHOST_ON, IFACE_VHOST_OFF };

enum iface_model { IFACE_VIRTIO, IFACE_E1000E };

struct iface_rate {
    uint64_t average, burst; /* bytes in a second, bytes at once; 0: no limit, the default */
};

struct domain_iface {
    enum iface_type type;
    enum iface_model model;
    enum iface_vhost vhost;
    uint8_t mac[6];
    char *source, *target;
    struct iface_forward *forwards;
    unsigned nforwards;
    char *tftp, *bootfile, *pcap; /* a folder that TFTP serves, the file that DHCP names; where packets are captured */
    bool restricted, link_down;
    unsigned queues, mtu; /* 0: the default */
    unsigned reconnect;   /* of a vhost-user back end: seconds until it is tried again after it went away; 0: it is not */
    struct iface_rate inbound, outbound; /* to the guest, from it */
    struct domain_pci_address address;
    char *alias; /* the user's name of it; NULL: none */
};

/* May the kernel serve its rings? */
bool iface_may_vhost(const struct domain_iface *f);

#define IFACE_MAC_TEXT 18u /* bytes of "52:54:00:00:00:01", with its end */
void iface_mac_text(const struct domain_iface *f, char text[IFACE_MAC_TEXT]);

#endif
