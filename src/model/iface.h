/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <interface>: a virtio network card on the user-mode network. */
#ifndef LODGE_MODEL_IFACE_H
#define LODGE_MODEL_IFACE_H

#include <stdint.h>

struct domain_iface {
    uint8_t mac[6];
};

#endif
