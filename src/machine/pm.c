// SPDX-License-Identifier: GPL-2.0-or-later
/* ACPI's fixed hardware: see pm.h. Registers are bytes to the bus: each may be read and written in any size and alignment. */
#include "machine/pm.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>

#include "base/util.h"

#define TIMER_HZ  3579545ull   /* ACPI 6.4, 4.8.2.1 */
#define TIMER_TOP (1ull << 31) /* ticks between changes of the top bit, with TMR_VAL_EXT */

enum { STS_TMR = 1 << 0, STS_GBL = 1 << 5, STS_PWRBTN = 1 << 8, STS_RTC = 1 << 10 };
enum { SMI_EN_GLOBAL = 1 << 0, SMI_EN_APMC = 1 << 5 };
enum { CNT_SCI_EN = 1 << 0, CNT_SLP_TYP_SHIFT = 10, CNT_SLP_TYP = 7 << CNT_SLP_TYP_SHIFT, CNT_SLP_EN = 1 << 13 };

/* The RTC's event can be enabled and never comes: it would wake from a sleep that does not exist here. */
#define EN_MASK  (STS_TMR | STS_GBL | STS_PWRBTN | STS_RTC)
#define CNT_MASK CNT_SLP_TYP

struct pm {
    struct bus *bus;
    uint16_t port; /* 0: nowhere */
    unsigned sci_gsi;
    bool sci;
    int timer_fd;
    uint64_t timer_start_ns;
    uint16_t pm1_sts, pm1_en, pm1_cnt;
    uint8_t gpe_sts[PM_GPE0_LEN / 2], gpe_en[PM_GPE0_LEN / 2];
};

static void update_sci(struct pm *pm)
{
    bool level = pm->pm1_sts & pm->pm1_en;
    for (unsigned i = 0; i < ARRAY_SIZE(pm->gpe_sts); i++)
        level |= (pm->gpe_sts[i] & pm->gpe_en[i]) != 0;
    if (level == pm->sci)
        return;
    pm->sci = level;
    pm->bus->ops->set_gsi(pm->bus->board, pm->sci_gsi, level);
}

static uint32_t timer_value(const struct pm *pm)
{
    return (uint32_t)((unsigned __int128)(now_ns() - pm->timer_start_ns) * TIMER_HZ / NS_PER_S);
}

/* The block as it reads at one moment, from `off` on. */
static uint64_t pm_read(void *dev, uint64_t off, unsigned size)
{
    struct pm *pm = dev;
    uint8_t image[PM_SIZE + 8] = {0};
    uint16_t cnt = pm->pm1_cnt | CNT_SCI_EN;
    uint32_t timer = timer_value(pm), smi_en = SMI_EN_GLOBAL | SMI_EN_APMC;
    uint64_t value = 0;
    memcpy(image + PM1_EVT, &pm->pm1_sts, 2);
    memcpy(image + PM1_EVT + 2, &pm->pm1_en, 2);
    memcpy(image + PM1_CNT, &cnt, 2);
    memcpy(image + PM_TMR, &timer, 4);
    memcpy(image + PM_SMI_EN, &smi_en, 4);
    memcpy(image + PM_GPE0, pm->gpe_sts, sizeof pm->gpe_sts);
    memcpy(image + PM_GPE0 + sizeof pm->gpe_sts, pm->gpe_en, sizeof pm->gpe_en);
    memcpy(&value, image + off, size);
    return value;
}

static void write_control(struct pm *pm, uint16_t value)
{
    pm->pm1_cnt = value & CNT_MASK;
    unsigned type = (value & CNT_SLP_TYP) >> CNT_SLP_TYP_SHIFT;
    if ((value & CNT_SLP_EN) && (type == PM_SLP_TYP_S5 || type == PM_SLP_TYP_OVMF))
        pm->bus->ops->event(pm->bus->board, BOARD_POWEROFF, 0);
}

/* Status bits are cleared by writing ones; one byte of a 16-bit register leaves the other alone. */
static void write_byte(struct pm *pm, uint64_t off, uint8_t v)
{
    unsigned shift = off % 2 * 8;
    uint16_t bits = (uint16_t)(v << shift), other = (uint16_t)(0xff00 >> shift);
    switch (off) {
    case PM1_EVT ... PM1_EVT + 1:
        pm->pm1_sts &= (uint16_t)~bits;
        break;
    case PM1_EVT + 2 ... PM1_EVT + 3:
        pm->pm1_en = (uint16_t)((pm->pm1_en & other) | bits) & EN_MASK;
        break;
    case PM1_CNT ... PM1_CNT + 1:
        write_control(pm, (uint16_t)((pm->pm1_cnt & other) | bits));
        break;
    case PM_GPE0 ... PM_GPE0 + PM_GPE0_LEN / 2 - 1:
        pm->gpe_sts[off - PM_GPE0] &= (uint8_t)~v;
        break;
    case PM_GPE0 + PM_GPE0_LEN / 2 ... PM_GPE0 + PM_GPE0_LEN - 1:
        pm->gpe_en[off - PM_GPE0 - PM_GPE0_LEN / 2] = v;
        break;
    default: /* the PM timer is read-only, the rest is reserved */
        break;
    }
}

static void pm_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct pm *pm = dev;
    for (unsigned i = 0; i < size; i++)
        write_byte(pm, off + i, (uint8_t)(val >> (8 * i)));
    update_sci(pm);
}

static const struct io_ops pm_ops = {.read = pm_read, .write = pm_write};

const struct device_desc pm_desc = {
    .name = "acpi-pm",
    .why_unsaved = "the PM timer counts from a time of this host",
};

void pm_move(struct pm *pm, uint16_t port)
{
    if (pm->port)
        bus_unmap(pm->bus, BUS_PORT, pm->port);
    pm->port = port && bus_map(pm->bus, BUS_PORT, port, PM_SIZE, &pm_ops, pm, pm_desc.name, NULL) == 0 ? port : 0;
}

void pm_power_button(struct pm *pm)
{
    pthread_mutex_lock(&pm->bus->lock);
    pm->pm1_sts |= STS_PWRBTN;
    update_sci(pm);
    pthread_mutex_unlock(&pm->bus->lock);
}

int pm_timer_fd(const struct pm *pm)
{
    return pm->timer_fd;
}

void pm_timer(struct pm *pm)
{
    uint64_t fired;
    if (read(pm->timer_fd, &fired, sizeof fired) != (ssize_t)sizeof fired)
        return;
    pthread_mutex_lock(&pm->bus->lock);
    pm->pm1_sts |= STS_TMR;
    update_sci(pm);
    pthread_mutex_unlock(&pm->bus->lock);
}

int pm_create(struct bus *b, uint16_t port, unsigned sci_gsi, struct pm **out, struct error *err)
{
    struct pm *pm = calloc(1, sizeof *pm);
    if (!pm)
        return error_set(err, ENOMEM, "power management: out of memory");
    *pm = (struct pm){.bus = b, .sci_gsi = sci_gsi, .timer_start_ns = now_ns()};
    const uint64_t period_ns = TIMER_TOP * NS_PER_S / TIMER_HZ;
    const struct timespec period = {(time_t)(period_ns / NS_PER_S), (long)(period_ns % NS_PER_S)};
    pm->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (pm->timer_fd < 0 || timerfd_settime(pm->timer_fd, 0, &(struct itimerspec){period, period}, NULL) < 0) {
        error_set(err, errno, "power management: cannot make a timer: %s", strerror(errno));
        goto fail;
    }
    if (port && bus_map(b, BUS_PORT, port, PM_SIZE, &pm_ops, pm, pm_desc.name, err) < 0)
        goto fail;
    pm->port = port;
    *out = pm;
    return 0;
fail:
    if (pm->timer_fd >= 0)
        close(pm->timer_fd);
    free(pm);
    return -1;
}

void pm_destroy(struct pm *pm)
{
    if (!pm)
        return;
    if (pm->port)
        bus_unmap(pm->bus, BUS_PORT, pm->port);
    close(pm->timer_fd);
    free(pm);
}
