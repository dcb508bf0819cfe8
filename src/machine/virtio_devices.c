// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/virtio_devices.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/util.h"
#include "block/block.h"
#include "devices/ether/e1000e.h"
#include "devices/virtio/v9p.h"
#include "devices/virtio/vballoon.h"
#include "devices/virtio/vblk.h"
#include "devices/virtio/vhost_blk.h"
#include "devices/virtio/vhost_fs.h"
#include "devices/virtio/vhost_net.h"
#include "devices/virtio/vnet.h"
#include "devices/virtio/vrng.h"
#include "devices/virtio/vscsi.h"
#include "devices/virtio/vserial.h"
#include "devices/virtio/vsock.h"
#include "machine/disk.h"
#include "machine/pci_places.h"
#include "net/net.h"
#include "net/vhost_kernel.h"
#include "net/vhost_user.h"
#include "share/share.h"

struct virtio_devices {
    struct vrng *rng;
    struct vballoon *balloon;
    struct vsock *vsock;
    struct vserial *serial;
    struct block *blocks[DOMAIN_MAX_DISKS];
    struct vblk *vblks[DOMAIN_MAX_DISKS];
    struct vhost_blk *vhost_blks[DOMAIN_MAX_DISKS];
    struct vscsi *scsi;
    unsigned scsi_units; /* of it that are taken */
    struct netdev *nets[DOMAIN_MAX_IFACES];
    struct vnet *vnets[DOMAIN_MAX_IFACES];
    struct vhost_net *vhost_nets[DOMAIN_MAX_IFACES];
    struct e1000e *e1000es[DOMAIN_MAX_IFACES];
    struct pcap *pcaps[DOMAIN_MAX_IFACES];
    struct share *shares[DOMAIN_MAX_SHARES];
    struct v9p *v9ps[DOMAIN_MAX_SHARES];
    struct vhost_fs *vhost_fss[DOMAIN_MAX_SHARES];
};

/* All of them are units of one adapter, with as many queues as the first one wants. */
static int make_scsi_disk(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, struct boot_order *order, unsigned i,
                          struct error *err)
{
    const struct domain_disk *disk = &d->disks[i];
    char path[PCI_PATH_MAX];
    if (!v->scsi && vscsi_create(pci, &(struct vscsi_config){pci_controller_place(d, CONTROLLER_SCSI), disk->queues}, &v->scsi, err) < 0)
        return -1;
    if (disk->file && disk_open(disk, &v->blocks[i], err) < 0)
        return -1;
    struct vscsi_unit_config cfg = {.cdrom = disk->cdrom, .block = v->blocks[i], .serial = disk->serial};
    if (vscsi_attach(v->scsi, v->scsi_units, &cfg, err) < 0)
        return -1;
    enum domain_boot kind = disk->cdrom ? DOMAIN_BOOT_CDROM : DOMAIN_BOOT_HD;
    pci_dev_path(vscsi_pci(v->scsi), "scsi", path);
    boot_order_add(order, domain_boot_place(d, disk->boot_order, kind, i), "%s/channel@0/disk@0,%x", path, v->scsi_units);
    v->scsi_units++;
    return 0;
}

static int make_vblk(struct virtio_devices *v, const struct domain_disk *disk, struct pci_host *pci, unsigned i, struct error *err)
{
    if (disk_open(disk, &v->blocks[i], err) < 0)
        return -1;
    struct vblk_config cfg = {.slot = pci_place(&disk->address), .block = v->blocks[i], .queues = disk->queues, .serial = disk->serial};
    return vblk_create(pci, &cfg, &v->vblks[i], err);
}

static int make_vhost_blk(struct virtio_devices *v, const struct domain_disk *disk, struct pci_host *pci, unsigned i, struct error *err)
{
    struct vhost_blk_config cfg = {.slot = pci_place(&disk->address), .back = {vhost_user_create(disk->socket), disk->reconnect}, .queues = disk->queues};
    return vhost_blk_create(pci, &cfg, &v->vhost_blks[i], err);
}

static int make_disk(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, struct boot_order *order, unsigned i,
                     struct error *err)
{
    const struct domain_disk *disk = &d->disks[i];
    char path[PCI_PATH_MAX];
    if (disk->bus == DISK_SCSI)
        return make_scsi_disk(v, d, pci, order, i, err);
    if (disk->bus != DISK_VIRTIO)
        return 0;
    if ((disk->type == DISK_VHOSTUSER ? make_vhost_blk : make_vblk)(v, disk, pci, i, err) < 0)
        return -1;
    pci_dev_path(disk->type == DISK_VHOSTUSER ? vhost_blk_pci(v->vhost_blks[i]) : vblk_pci(v->vblks[i]), "scsi", path);
    boot_order_add(order, domain_boot_place(d, disk->boot_order, DOMAIN_BOOT_HD, i), "%s/disk@0,0", path);
    return 0;
}

static int make_user_net(const struct domain_iface *f, const char *hostname, struct netdev **out, struct error *err)
{
    AUTO_FREE struct net_forward *forwards = calloc(f->nforwards + 1, sizeof *forwards);
    if (!forwards)
        return error_set(err, ENOMEM, "machine: out of memory");
    for (unsigned i = 0; i < f->nforwards; i++) {
        const struct iface_forward *w = &f->forwards[i];
        forwards[i] = (struct net_forward){.udp = w->udp, .host_port = w->host_port, .guest_port = w->guest_port};
        memcpy(forwards[i].host, w->host, sizeof w->host);
    }
    struct net_user_config cfg = {.restricted = f->restricted,
                                  .hostname = hostname,
                                  .tftp = f->tftp,
                                  .bootfile = f->bootfile,
                                  .forwards = forwards,
                                  .nforwards = f->nforwards};
    return net_user_create(&cfg, out, err);
}

static struct net_tap_config tap_of(const struct domain_iface *f)
{
    return (struct net_tap_config){.ifname = f->target, .bridge = f->type == IFACE_BRIDGE ? f->source : NULL};
}

static int make_netdev(const struct domain_iface *f, const char *hostname, struct netdev **out, struct error *err)
{
    const struct net_tap_config tap = tap_of(f);
    switch (f->type) {
    case IFACE_USER:
        return make_user_net(f, hostname, out, err);
    case IFACE_ETHERNET:
    case IFACE_BRIDGE:
        return net_tap_create(&tap, out, err);
    case IFACE_SERVER:
        return net_socket_create(&(struct net_socket_config){.address = f->source, .listen = true}, out, err);
    case IFACE_CLIENT:
        return net_socket_create(&(struct net_socket_config){.address = f->source}, out, err);
    case IFACE_VHOSTUSER:
    case IFACE_TYPES:
        break;
    }
    return -1;
}

static int make_vhost_net(struct virtio_devices *v, const struct domain_iface *f, struct vhost_back *back, struct pci_host *pci, unsigned i,
                          struct error *err)
{
    struct vhost_net_config cfg = {.slot = pci_place(&f->address), .back = {back, f->reconnect}, .pairs = f->queues, .mtu = (uint16_t)f->mtu, .link_down = f->link_down};
    memcpy(cfg.mac, f->mac, sizeof cfg.mac);
    return vhost_net_create(pci, &cfg, &v->vhost_nets[i], err);
}

/* The kernel as the data path of a tap device. Where that is not insisted on, *out stays NULL without it, and this process does the work. */
static int open_vhost_kernel(const struct domain_iface *f, const struct guestmem *mem, unsigned i, struct vhost_back **out, struct error *err)
{
    ERROR_SCOPED(why);
    const struct net_tap_config tap = tap_of(f);
    bool must = f->vhost == IFACE_VHOST_ON;
    if (vhost_kernel_create(&tap, f->queues, mem, &vhost_kernel_host, out, must ? err : &why) == 0)
        return 0;
    if (!must)
        log_debug("network interface %u: its frames pass through this process: %s", i + 1, error_text(&why));
    return must ? -1 : 0;
}

static int make_e1000e(struct virtio_devices *v, const struct domain_iface *f, struct pci_host *pci, unsigned i, struct error *err)
{
    struct e1000e_config cfg = {.slot = pci_place(&f->address), .net = v->nets[i], .pcap = v->pcaps[i]};
    memcpy(cfg.mac, f->mac, sizeof cfg.mac);
    return e1000e_create(pci, &cfg, &v->e1000es[i], err);
}

static int make_vnet(struct virtio_devices *v, const struct domain_iface *f, struct pci_host *pci, unsigned i, struct error *err)
{
    struct vnet_config cfg = {.slot = pci_place(&f->address),
                              .net = v->nets[i],
                              .pcap = v->pcaps[i],
                              .pairs = f->queues,
                              .mtu = (uint16_t)f->mtu,
                              .link_down = f->link_down,
                              .to_guest = {f->inbound.average, f->inbound.burst},
                              .from_guest = {f->outbound.average, f->outbound.burst}};
    memcpy(cfg.mac, f->mac, sizeof cfg.mac);
    return vnet_create(pci, &cfg, &v->vnets[i], err);
}

static int make_net(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err)
{
    const struct domain_iface *f = &d->ifaces[i];
    struct vhost_back *kernel = NULL;
    if (f->type == IFACE_VHOSTUSER)
        return make_vhost_net(v, f, vhost_user_create(f->source), pci, i, err);
    if (iface_may_vhost(f) && open_vhost_kernel(f, pci_host_bus(pci)->mem, i, &kernel, err) < 0)
        return -1;
    if (kernel)
        return make_vhost_net(v, f, kernel, pci, i, err);
    if ((f->pcap && pcap_create(f->pcap, &v->pcaps[i], err) < 0) || make_netdev(f, d->name, &v->nets[i], err) < 0)
        return -1;
    return f->model == IFACE_E1000E ? make_e1000e(v, f, pci, i, err) : make_vnet(v, f, pci, i, err);
}

static int make_share(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err)
{
    const struct domain_share *s = &d->shares[i];
    if (s->virtiofs)
        return vhost_fs_create(pci, &(struct vhost_fs_config){pci_place(&s->address), vhost_user_create(s->socket), s->tag}, &v->vhost_fss[i], err);
    struct share_config cfg = {.path = s->path, .access = (enum share_access)s->access, .readonly = s->readonly};
    if (share_open(&cfg, &v->shares[i], err) < 0)
        return -1;
    return v9p_create(pci, &(struct v9p_config){.slot = pci_place(&s->address), .share = v->shares[i], .tag = s->tag}, &v->v9ps[i], err);
}

static int make_channels(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, struct error *err)
{
    struct vserial_port_config ports[DOMAIN_MAX_CHANNELS];
    unsigned n = 0;
    for (unsigned i = 0; i < d->nchannels; i++)
        if (d->channels[i].path)
            ports[n++] = (struct vserial_port_config){d->channels[i].name, d->channels[i].path};
    return n ? vserial_create(pci, &(struct vserial_config){pci_controller_place(d, CONTROLLER_SERIAL), ports, n}, &v->serial, err) : 0;
}

static int make_balloon(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, struct error *err)
{
    struct vballoon_config cfg = {.slot = pci_place(&d->balloon.address),
                                  .deflate_on_oom = !d->balloon.no_deflate,
                                  .reporting = !d->balloon.no_reporting,
                                  .inflated = d->memory - d->current_memory};
    return vballoon_create(pci, &cfg, &v->balloon, err);
}

struct vballoon *virtio_devices_balloon(const struct virtio_devices *v)
{
    return v->balloon;
}

int virtio_devices_create(const struct domain *d, struct pci_host *pci, struct boot_order *order, struct virtio_devices **out,
                          struct error *err)
{
    struct virtio_devices *v = *out = calloc(1, sizeof *v);
    if (!v)
        return error_set(err, ENOMEM, "machine: out of memory");
    for (unsigned i = 0; i < d->ndisks; i++)
        if (make_disk(v, d, pci, order, i, err) < 0)
            return -1;
    for (unsigned i = 0; i < d->nifaces; i++)
        if (make_net(v, d, pci, i, err) < 0)
            return -1;
    for (unsigned i = 0; i < d->nshares; i++)
        if (make_share(v, d, pci, i, err) < 0)
            return -1;
    if (d->nchannels && make_channels(v, d, pci, err) < 0)
        return -1;
    if (d->vsock.path &&
        vsock_create(pci, &(struct vsock_config){.slot = pci_place(&d->vsock.address), .cid = d->vsock.cid, .path = d->vsock.path}, &v->vsock, err) < 0)
        return -1;
    if (d->balloon.present && make_balloon(v, d, pci, err) < 0)
        return -1;
    return d->rng ? vrng_create(pci, &(struct vrng_config){pci_place(&d->rng_address)}, &v->rng, err) : 0;
}

struct block *virtio_devices_block(const struct virtio_devices *v, unsigned disk)
{
    return v && disk < DOMAIN_MAX_DISKS ? v->blocks[disk] : NULL;
}

bool virtio_devices_net_stats(const struct virtio_devices *v, unsigned iface, struct net_stats *s)
{
    if (!v || iface >= DOMAIN_MAX_IFACES)
        return false;
    if (v->vhost_nets[iface])
        return vhost_net_stats(v->vhost_nets[iface], s);
    if (v->nets[iface])
        *s = net_stats_of(v->nets[iface]);
    return v->nets[iface];
}

/* ---- one at a time ---- */

static void drop_disk(struct virtio_devices *v, unsigned i)
{
    vblk_destroy(v->vblks[i]);
    vhost_blk_destroy(v->vhost_blks[i]);
    block_close(v->blocks[i]);
    v->vblks[i] = NULL;
    v->vhost_blks[i] = NULL;
    v->blocks[i] = NULL;
}

static void drop_net(struct virtio_devices *v, unsigned i)
{
    vnet_destroy(v->vnets[i]);
    vhost_net_destroy(v->vhost_nets[i]);
    e1000e_destroy(v->e1000es[i]);
    netdev_destroy(v->nets[i]);
    pcap_free(v->pcaps[i]);
    v->vnets[i] = NULL;
    v->vhost_nets[i] = NULL;
    v->e1000es[i] = NULL;
    v->nets[i] = NULL;
    v->pcaps[i] = NULL;
}

int virtio_devices_add_disk(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err)
{
    struct boot_order unused = {.count = 0};
    if (make_disk(v, d, pci, &unused, i, err) == 0)
        return 0;
    drop_disk(v, i);
    return -1;
}

int virtio_devices_add_net(struct virtio_devices *v, const struct domain *d, struct pci_host *pci, unsigned i, struct error *err)
{
    if (make_net(v, d, pci, i, err) == 0)
        return 0;
    drop_net(v, i);
    return -1;
}

/* Takes element i out of an array of pointers; the last becomes NULL. */
static void close_gap(void *array, unsigned count, unsigned i)
{
    void **p = array;
    memmove(&p[i], &p[i + 1], (count - 1 - i) * sizeof *p);
    p[count - 1] = NULL;
}

void virtio_devices_remove_disk(struct virtio_devices *v, unsigned count, unsigned i)
{
    drop_disk(v, i);
    close_gap(v->vblks, count, i);
    close_gap(v->vhost_blks, count, i);
    close_gap(v->blocks, count, i);
}

void virtio_devices_remove_net(struct virtio_devices *v, unsigned count, unsigned i)
{
    drop_net(v, i);
    close_gap(v->vnets, count, i);
    close_gap(v->vhost_nets, count, i);
    close_gap(v->e1000es, count, i);
    close_gap(v->nets, count, i);
    close_gap(v->pcaps, count, i);
}

void virtio_devices_destroy(struct virtio_devices *v)
{
    if (!v)
        return;
    vrng_destroy(v->rng);
    vballoon_destroy(v->balloon);
    vsock_destroy(v->vsock);
    vserial_destroy(v->serial);
    for (unsigned i = 0; i < DOMAIN_MAX_SHARES; i++) {
        v9p_destroy(v->v9ps[i]);
        share_close(v->shares[i]);
        vhost_fs_destroy(v->vhost_fss[i]);
    }
    for (unsigned i = 0; i < DOMAIN_MAX_IFACES; i++)
        drop_net(v, i);
    vscsi_destroy(v->scsi);
    for (unsigned i = 0; i < DOMAIN_MAX_DISKS; i++)
        drop_disk(v, i);
    free(v);
}
