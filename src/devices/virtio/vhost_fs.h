/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file system (virtio 1.2, 5.11) that another process serves, such as virtiofsd, by vhost-user: its requests are FUSE's. */
#ifndef LODGE_DEVICES_VHOST_FS_H
#define LODGE_DEVICES_VHOST_FS_H

#include "devices/pci/pci.h"
#include "devices/virtio/vhost.h"

#define VHOST_FS_TAG_MAX 36 /* bytes of the tag that the guest mounts */

struct vhost_fs_config {
    int slot;                /* PCI slot or PCI_SLOT_AUTO */
    struct vhost_back *back; /* as in struct vhost_config */
    const char *tag;
};

struct vhost_fs;
int vhost_fs_create(struct pci_host *h, const struct vhost_fs_config *cfg, struct vhost_fs **out, struct error *err);
void vhost_fs_destroy(struct vhost_fs *f); /* no vCPU runs, lock not held */

#endif
