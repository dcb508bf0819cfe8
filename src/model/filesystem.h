/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <filesystem>: a folder of the host that the guest mounts by its tag, or what a vhost-user back end serves as one. */
#ifndef LODGE_MODEL_FILESYSTEM_H
#define LODGE_MODEL_FILESYSTEM_H

#include <stdbool.h>

#include "model/pci.h"

enum domain_share_access { DOMAIN_SHARE_PASSTHROUGH, DOMAIN_SHARE_SQUASH, DOMAIN_SHARE_MAPPED }; /* as in share/share.h */
extern const char *const domain_share_access_names[];                                            /* libvirt's; ends with NULL */

struct domain_share {
    char *path;   /* of the folder; NULL: there is `socket` */
    bool virtiofs; /* another process serves it */
    char *socket; /* where that listens */
    char *tag;
    enum domain_share_access access;
    bool readonly;
    struct domain_pci_address address;
    char *alias; /* the user's name of it; NULL: none */
};

#endif
