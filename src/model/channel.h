/* SPDX-License-Identifier: GPL-2.0-or-later */
/* <channel>: a named port of virtio-serial, a unix socket on the host. */
#ifndef LODGE_MODEL_CHANNEL_H
#define LODGE_MODEL_CHANNEL_H

#define DOMAIN_MAX_CHANNELS 15u

struct domain_channel {
    char *name, *path;
    char *alias; /* the user's name of it; NULL: none */
};

#endif
