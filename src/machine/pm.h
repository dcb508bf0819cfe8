/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI's fixed hardware (ACPI 6.4, 4.8) at the offsets of ICH9's power management block: PM1 event and control registers, the PM
 * timer and GPE0. The SCI is level-triggered. SCI_EN reads as one: there is no other mode. Entering S5 raises BOARD_POWEROFF.
 */
#ifndef LODGE_MACHINE_PM_H
#define LODGE_MACHINE_PM_H

#include "devices/bus.h"

#define PM_SIZE 0x80 /* bytes of the block */

/* Offsets in it. */
#define PM1_EVT     0x00 /* status, then enable: 16 bits each */
#define PM1_CNT     0x04
#define PM_TMR      0x08
#define PM_GPE0     0x20 /* status, then enable: PM_GPE0_LEN/2 bytes each */
#define PM_GPE0_LEN 16
#define PM_SMI_EN   0x30 /* reads as set up already, so that no firmware tries to set up SMM, which there is not */

#define PM_SLP_TYP_S5   7 /* what \_S5 says and PM1_CNT takes */
#define PM_SLP_TYP_OVMF 0 /* how OVMF switches off, whatever \_S5 says: as QEMU's board has it */

struct pm;
extern const struct device_desc pm_desc;

/* `port` 0: the block is nowhere until pm_move(). */
int pm_create(struct bus *b, uint16_t port, unsigned sci_gsi, struct pm **out, struct error *err);
void pm_destroy(struct pm *pm);
/* Puts the block elsewhere, or with 0 nowhere; where something else is, it is nowhere. Lock held, or no vCPU runs. */
void pm_move(struct pm *pm, uint16_t port);
/* Presses the power button. Lock not held. */
void pm_power_button(struct pm *pm);
/* Readable when the PM timer's top bit changed; then pm_timer() is due. Lock not held. */
int pm_timer_fd(const struct pm *pm);
void pm_timer(struct pm *pm);

#endif
