/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Elements that virt-install and other programs write and that come back as they were.
 *
 * Most of them say what the machine is like anyway (no S3) or are for people and programs (<metadata>). Those that ask for
 * a device that Lodge does not have yet are `unserved`: lodge-vm names them in its log.
 */
#ifndef LODGE_MODEL_KEPT_H
#define LODGE_MODEL_KEPT_H

#include <stdbool.h>

#define DOMAIN_MAX_KEPT 128u

enum domain_kept_place { KEPT_METADATA, KEPT_CPU, KEPT_TIMER, KEPT_PM, KEPT_EMULATOR, KEPT_PLACES };

struct domain_kept {
    enum domain_kept_place place;
    char *xml; /* the element, able to stand alone */
    bool unserved;
};

#endif
