/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest as Lodge knows it: `struct domain`, and its one notation, libvirt's domain XML.
 *
 * The command line builds a struct domain from its options, lodge-vm reads one from XML; there is no other description. Words that
 * libvirt's XML lacks are elements of the namespace DOMAIN_NS:
 *
 *     <lodge:accel mode='auto'/>            child of <domain>: choose KVM or softkvm by what the host has
 *     <lodge:debug-exit iobase='0xf4'/>     child of <devices>: the isa-debug-exit port of test kernels
 *
 * Each part of the domain (disks, interfaces, clock, …) is a file here: its elements as a table, how it is checked, written and
 * freed (part.h). struct domain holds what the parts parse.
 *
 * Invariants
 * - All strings and arrays are owned by the domain; domain_free() releases them.
 * - A domain that came out of domain_parse() or passed domain_check() is complete: it has a name, memory, CPUs and something to boot, and
 * every count is within the limits below. It may still ask for what this host does not have; lodge-vm finds that out.
 */
#ifndef LODGE_MODEL_DOMAIN_H
#define LODGE_MODEL_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "model/backing.h"
#include "model/channel.h"
#include "model/char.h"
#include "model/disk.h"
#include "model/filesystem.h"
#include "model/iface.h"
#include "model/kept.h"
#include "model/pci.h"
#include "model/pmem.h"

#define DOMAIN_NS          "urn:lodge:domain:1"
#define DOMAIN_XML_MAX     (1u << 20) /* bytes of XML that are read at all */
#define DOMAIN_MAX_VCPUS   1024u
#define DOMAIN_MAX_DISKS   16u
#define DOMAIN_MAX_IFACES  8u
#define DOMAIN_MAX_CHARS   4u
#define DOMAIN_MAX_SHARES  8u
#define DOMAIN_MIN_MEMORY  (4ull << 20) /* bytes */
#define DOMAIN_MAX_MEMORY  (4ull << 40) /* bytes */
#define DOMAIN_MAX_CMDLINE 65536u       /* bytes; a kernel's own limit is checked when it is loaded */
#define DOMAIN_DEBUG_EXIT  0xf4
#define DOMAIN_MAX_MENU_MS 65535u
#define LODGE_UEFI         "/usr/share/OVMF/OVMF_CODE_4M.fd"   /* what --firmware uefi means */
#define LODGE_BIOS         "/usr/share/seabios/bios-256k.bin" /* the firmware, where none is named */

enum domain_accel { DOMAIN_ACCEL_AUTO, DOMAIN_ACCEL_KVM, DOMAIN_ACCEL_SOFTKVM };

/* What follows an event of the guest: the process ends, or the machine starts again. */
enum domain_action { DOMAIN_DESTROY, DOMAIN_RESTART };

/* A kind of device to boot from. */
enum domain_boot { DOMAIN_BOOT_HD, DOMAIN_BOOT_CDROM, DOMAIN_BOOT_NETWORK, DOMAIN_BOOTS };

/* With a kernel, that is started directly; without one, a firmware starts what it finds on the disks. */
struct domain_os {
    bool efi;             /* a UEFI firmware was asked for, not by its name */
    char *loader;         /* the firmware's image; NULL: LODGE_BIOS */
    bool loader_flash;    /* it is of the kind that may have a file for its variables */
    char *nvram;          /* that file; NULL: the variables last until the next reset */
    char *nvram_template; /* what it begins as when it does not exist; NULL: the image's own */
    bool bios_serial; /* the first serial port shows the firmware's screen */
    bool boot_menu;
    unsigned boot_menu_ms; /* how long it is offered; 0: as the firmware likes */
    enum domain_boot boot[DOMAIN_BOOTS];
    unsigned nboot;
    char *kernel;  /* bzImage, ELF with a PVH note, or Multiboot */
    char *initrd;  /* NULL for none. For Multiboot, modules: "file arguments,file2 arguments", a comma in a name is written twice */
    char *cmdline; /* NULL for none */
};

/* <memballoon>: virtio's memory balloon. */
struct domain_balloon {
    bool present, no_deflate, no_reporting; /* no_deflate: not even when the guest runs out of memory */
    unsigned stats_period;                  /* seconds, 0: when they are asked for */
    struct domain_pci_address address;
};

/* <memtune>: bytes that the guest's process may take; 0: no limit. */
struct domain_limits {
    uint64_t hard;      /* more, and it is killed */
    uint64_t soft;      /* more, and it is slowed down and its memory reclaimed */
    uint64_t swap_hard; /* memory and swap together */
};
#define LIMITS_NONE_KIB 9007199254740991ull /* libvirt's word for no limit, in KiB */

struct domain {
    char *name, *title, *description;
    uint8_t uuid[16];
    bool has_uuid;
    uint8_t genid[16]; /* the VM generation ID, as a UUID; zeroes: made when the domain is checked */
    bool has_genid;
    int id; /* of a running guest, for the XML; 0: not shown. Not read from it */
    uint64_t memory;         /* bytes, whole pages */
    uint64_t current_memory; /* bytes; the balloon takes the rest */
    struct domain_limits limits;
    struct domain_backing backing;
    struct domain_nodes host_nodes;                   /* of all memory that no cell's own are for */
    struct domain_nodes cell_nodes[DOMAIN_MAX_CELLS]; /* nodes of the host for each of the guest's */
    struct domain_cell *cells;                        /* the guest's nodes; none: it sees one */
    unsigned ncells;
    unsigned vcpus;
    bool avx512; /* the guest is to have AVX-512 */
    enum domain_accel accel;
    struct domain_os os;
    enum domain_action on_poweroff, on_reboot, on_crash;
    struct domain_disk *disks;
    unsigned ndisks;
    struct domain_iface *ifaces;
    unsigned nifaces;
    struct domain_char *chars;
    unsigned nchars;
    struct domain_channel *channels;
    unsigned nchannels;
    struct domain_share *shares;
    unsigned nshares;
    struct {
        uint32_t cid; /* the guest's address */
        char *path;   /* of the unix socket that stands for it; NULL: no vsock */
        struct domain_pci_address address;
    } vsock;
    struct domain_balloon balloon;
    struct domain_pci_address rng_address;
    bool rng;            /* virtio-rng, fed from the host's random device */
    bool hpet;           /* an HPET beside the other timers */
    bool pvpanic;        /* the ISA panic device: a guest with its driver tells of its panics */
    struct domain_pmem *pmems;
    unsigned npmems;
    struct domain_controller *controllers;
    unsigned ncontrollers;
    struct domain_kept *kept;
    unsigned nkept;
    uint16_t debug_exit; /* port of isa-debug-exit, 0 for none */
};

/* A domain with Lodge's defaults: 1 vCPU, 512 MiB, power-off and crash end it, a reboot starts it again. */
void domain_init(struct domain *d);
void domain_free(struct domain *d);
/* Fills what was left open (a UUID, MAC addresses, disk targets) and refuses what cannot be. 0, or -1 with err. */
int domain_check(struct domain *d, struct error *err);

/* In pci.c: gives every device that has none a PCI address, as libvirt does; root ports and controllers are added as needed. `d` has
 * been checked. */
int domain_assign_pci(struct domain *d, struct error *err);

/* In memtune.c. */
int domain_check_limits(const struct domain_limits *l, struct error *err);
bool domain_is_limited(const struct domain *d);

/* A device's place in the boot order: of two, the lower is tried first. `order` is its own, `kind` and `index` decide where it has none. */
unsigned domain_boot_place(const struct domain *d, unsigned order, enum domain_boot kind, unsigned index);

/* Appends a zeroed element and returns it, or NULL with err when the limit is reached. */
struct domain_disk *domain_add_disk(struct domain *d, struct error *err);
void domain_remove_disk(struct domain *d, unsigned i);
void domain_remove_iface(struct domain *d, unsigned i);
struct domain_iface *domain_add_iface(struct domain *d, struct error *err);
/* In iface.c: another forwarded port, as above. */
struct iface_forward *iface_add_forward(struct domain_iface *f, struct error *err);
struct domain_pmem *domain_add_pmem(struct domain *d, struct error *err);
struct domain_channel *domain_add_channel(struct domain *d, struct error *err);
struct domain_share *domain_add_share(struct domain *d, struct error *err);
struct domain_char *domain_add_char(struct domain *d, struct error *err);

/* "512M", "2G", "1048576" (bytes), "524288KiB", …; `unit` is the factor of a bare number. 0, or -1 (not a size, or too large). */
int domain_parse_size(const char *text, uint64_t unit, uint64_t *bytes);
int domain_parse_uuid(const char *text, uint8_t uuid[16]);
void domain_format_uuid(const uint8_t uuid[16], char text[37]);

/* Parses libvirt's domain XML; unknown elements and attributes are refused by name and line. `d` is initialised here. */
int domain_parse(struct domain *d, const char *xml, size_t len, struct error *err);
/* Reads the whole descriptor (at most DOMAIN_XML_MAX bytes) and parses it. */
int domain_parse_fd(struct domain *d, int fd, struct error *err);
/* A line for each element that asks for a device which does not exist yet. */
void domain_name_unserved(const struct domain *d, FILE *out, const char *prefix);
/* The element of this namespace below <metadata>, without the namespace, to be freed; NULL for none. */
char *domain_metadata(const struct domain *d, const char *uri);
/* Sets it, with the prefix `key`; a NULL `xml` removes it. */
int domain_set_metadata(struct domain *d, const char *key, const char *uri, const char *xml, struct error *err);
/* Writes the XML that domain_parse() reads. 0, or -1 with errno. */
int domain_write(const struct domain *d, FILE *out);

#endif
