/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of `lodge run`: the options that describe devices. */
#ifndef LODGE_CLI_RUN_H
#define LODGE_CLI_RUN_H

#include "cli/options.h"
#include "model/domain.h"

struct run {
    struct domain d;
    bool print_xml, help, no_net, stats;
    bool firmware; /* --firmware was given */
    enum domain_char_kind console;
    char *cloud_init; /* the user-data file; owned */
    bool snapshot;    /* of every disk */
    bool merge;       /* --memory …,merge=on */
    bool root;        /* --root was given: the share of its tag */
};

/* Replaces *to by a copy; a path becomes absolute, as libvirt's XML has them. */
int run_set_text(char **to, const char *text, struct error *err);
int run_set_path(char **to, const char *path, struct error *err);
/* A disk's file, or the URL of what a server has. */
int run_set_disk_name(struct domain_disk *disk, const char *name, struct error *err);

/* The next field of a list, without its comma, in `field`, which has room for the list; a comma that is written twice is part of it.
 * False at the end. */
bool run_next_field(const char **list, char *field);

/* BUS:SLOT or BUS:SLOT.FUNCTION, hexadecimal as lspci has it. */
int run_set_pci(const char *option, struct domain_pci_address *a, const char *value, struct error *err);

/* reconnect=SECONDS of a vhost-user device. */
int run_set_reconnect(const char *option, const char *value, unsigned *seconds, struct error *err);

/* A field of an option's list. */
struct field_row {
    const char *name;
    bool has_value;
    int (*set)(void *object, const char *value, struct error *err); /* value: NULL without one */
};

/* Gives each field of a list to its row; a comma that is written twice is part of a field. `usage` is the remedy. */
int run_set_fields(const char *option, const char *list, const struct field_row *rows, const char *usage, void *object, struct error *err);

/* Values of options; `o` is the struct run. */
int run_set_kernel(void *o, const char *value, struct error *err);
int run_set_initrd(void *o, const char *value, struct error *err);
int run_set_append(void *o, const char *value, struct error *err);
int run_set_cpus(void *o, const char *value, struct error *err);
int run_set_accel(void *o, const char *value, struct error *err);
int run_set_cdrom(void *o, const char *value, struct error *err);
int run_set_cloud_init(void *o, const char *value, struct error *err);
/* Once all options are known: a firmware named by its file keeps its variables when there is a file for them. */
void run_take_nvram(struct run *r);
int run_set_nvram(void *o, const char *value, struct error *err);
int run_set_firmware(void *o, const char *value, struct error *err);
int run_set_memory(void *o, const char *value, struct error *err);
int run_set_numa(void *o, const char *value, struct error *err);
int run_set_pmem(void *o, const char *value, struct error *err);
int run_set_disk(void *o, const char *value, struct error *err);
int run_set_channel(void *o, const char *value, struct error *err);
int run_set_vsock(void *o, const char *value, struct error *err);
int run_set_share(void *o, const char *value, struct error *err);
int run_set_root(void *o, const char *value, struct error *err);
int run_set_net(void *o, const char *value, struct error *err);

#endif
