/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fw_cfg: how the board hands tables and settings to its firmware (QEMU's specification, docs/specs/fw_cfg, which SeaBIOS and OVMF
 * follow). Items have a key of 16 bits; most are files with a name, listed in a directory.
 *
 * All items are added before the first vCPU runs; the data is copied.
 */
#ifndef LODGE_DEVICES_FWCFG_H
#define LODGE_DEVICES_FWCFG_H

#include "devices/bus.h"

#define FWCFG_PORT     0x510
#define FWCFG_PORTS    12
#define FWCFG_NAME_MAX 55 /* bytes of a file's name, without the terminating zero */

/* Keys of items that are no files. */
#define FWCFG_NB_CPUS   0x05 /* 2 bytes, little-endian */
#define FWCFG_MAX_CPUS  0x0f /* 2 bytes: the limit of APIC IDs */
#define FWCFG_BOOT_MENU 0x0e /* 2 bytes: offer it */

struct fwcfg;
extern const struct device_desc fwcfg_desc;

int fwcfg_create(struct bus *b, struct fwcfg **out, struct error *err);
void fwcfg_destroy(struct fwcfg *f);
void fwcfg_reset(void *f);

int fwcfg_add(struct fwcfg *f, uint16_t key, const void *data, size_t len, struct error *err);
int fwcfg_add_file(struct fwcfg *f, const char *name, const void *data, size_t len, struct error *err);
/* A number as a little-endian file of 8 bytes: what SeaBIOS reads its settings from. */
int fwcfg_add_number(struct fwcfg *f, const char *name, uint64_t value, struct error *err);
/* A file that the guest may write, by DMA; its present contents. `len` bytes, zeroes at first. */
int fwcfg_add_writable(struct fwcfg *f, const char *name, size_t len, struct error *err);
/* Copies a file's contents out; false when there is none of that name and length. Lock held, or no vCPU runs. */
bool fwcfg_contents(const struct fwcfg *f, const char *name, void *data, size_t len);

#endif
