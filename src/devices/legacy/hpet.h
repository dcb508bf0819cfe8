/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The HPET (IA-PC HPET 1.0a): a counter of 100 MHz and three timers. */
#ifndef LODGE_DEVICES_HPET_H
#define LODGE_DEVICES_HPET_H

#include "devices/bus.h"

#define HPET_BASE     0xfed00000ull
#define HPET_BYTES    0x400u
#define HPET_BLOCK_ID 0x8086a201u /* the low half of its first register, which the ACPI table repeats */

struct hpet_config {
    unsigned timer_gsi, rtc_gsi; /* where timers 0 and 1 go in place of the PIT and the RTC */
    /* Under the lock: PIT and RTC lose these lines, or get them back. */
    void (*replace)(void *opaque, bool on);
    void *opaque;
};

struct hpet;
extern const struct device_desc hpet_desc;

int hpet_create(struct bus *b, const struct hpet_config *cfg, struct hpet **out, struct error *err);
void hpet_destroy(struct hpet *h); /* lock not held */
void hpet_reset(void *h);          /* device lock held, or no vCPU runs */

#endif
