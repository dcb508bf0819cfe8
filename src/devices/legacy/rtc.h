/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The MC146818 real-time clock and its CMOS RAM, ports 0x70 and 0x71, interrupts on GSI 8. The clock runs in UTC. */
#ifndef LODGE_DEVICES_RTC_H
#define LODGE_DEVICES_RTC_H

#include "devices/bus.h"

struct rtc_config {
    uint64_t ram_below_4g; /* bytes, for the CMOS memory size bytes */
    uint64_t ram_above_4g; /* bytes */
    unsigned gsi;          /* 8 */
    unsigned cpus;         /* 0 when nobody is told */
};

struct rtc;
extern const struct device_desc rtc_desc;

int rtc_create(struct bus *b, const struct rtc_config *cfg, struct rtc **out, struct error *err);
/* Under the lock: the HPET has its line, or gives it back. */
void rtc_replace(struct rtc *r, bool replaced);
void rtc_destroy(struct rtc *r); /* lock not held */
void rtc_reset(void *r);         /* device lock held, or no vCPU runs; the time and the CMOS RAM stay, as a battery keeps them */

#endif
