/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A part of the domain: the elements of one kind, below <domain> or below <devices>, and what belongs to them.
 *
 * To add one: a struct in struct domain (its own header, when it is more than a field), a file with its elements, a `struct
 * domain_part`, and a line in parts.h at the place where libvirt prints the elements. Begin functions get the struct domain as
 * object.
 */
#ifndef LODGE_MODEL_PART_H
#define LODGE_MODEL_PART_H

#include "model/domain.h"
#include "model/xml.h"

struct domain_part {
    const struct xml_element *elements; /* children of <domain>, or NULL */
    const struct xml_element *devices;  /* children of <devices>, or NULL */
    /* Each may be NULL. */
    void (*init)(struct domain *d);
    void (*free)(struct domain *d);
    /* Fills what was left open and refuses what cannot be; UUID and name are there. */
    int (*check)(struct domain *d, struct error *err);
    void (*write)(const struct domain *d, FILE *out);         /* indented by 2 */
    void (*write_devices)(const struct domain *d, FILE *out); /* indented by 4; these parts stand together in parts.h */
};

#define PART(name) extern const struct domain_part name##_part;
#include "model/parts.h"
#undef PART

/* A begin function of an element that is a yes by being there: sets `flag`, an expression of `object`. */
#define BEGIN_FLAG(fn, flag)                                                    \
    static int fn(const struct xml_node *node, void *object, struct error *err) \
    {                                                                           \
        (void)node;                                                             \
        (void)err;                                                              \
        flag = true;                                                            \
        return 0;                                                               \
    }

/* In memory.c: a number with the element's unit, or KiB, for domain_parse_size(). To be freed; NULL when memory is out. */
char *memory_amount(const struct xml_node *node, const char *number);

/* <timer>, which stands below <clock>. */
int domain_begin_timer(const struct xml_node *node, void *object, struct error *err);
void domain_write_timers(const struct domain *d, FILE *out);

/* <cell> and <sibling>, which stand below <cpu><numa>. */
int domain_begin_cell(const struct xml_node *node, void *object, struct error *err);
int domain_begin_sibling(const struct xml_node *node, void *object, struct error *err);
void domain_write_cells(const struct domain *d, FILE *out);

/* Appends a zeroed element to an array of the domain's; NULL with err at `limit`, whose text is `what`. */
void *domain_append(void *array, unsigned *count, size_t size, unsigned limit, const char *what, struct error *err);

/* In pci.c: <address type='pci'>, for whoever has one. */
#define PCI_ADDRESS_ATTRS "type! domain bus slot function multifunction"
int pci_take_address(const struct xml_node *node, struct domain_pci_address *a, struct error *err);
void pci_put_address(FILE *out, int indent, const struct domain_pci_address *a);

/* In alias.c: <alias>, for the devices that a user may name, and for the others. */
#define ALIAS_ELEMENT(fn)                   \
    {                                       \
        "alias", 0, "name!", fn, NULL, NULL \
    }
int alias_take(const struct xml_node *node, char **alias, struct error *err);
int alias_refuse(const struct xml_node *node, void *object, struct error *err); /* a begin function: only a daemon's */
void alias_put(FILE *out, const char *alias);
int alias_check(const struct domain *d, struct error *err);

/* In controller.c. The first of a type, NULL for none. */
extern const char *const controller_type_names[];
struct domain_controller *controller_find(struct domain *d, enum controller_type type);
struct domain_controller *controller_add(struct domain *d, enum controller_type type, enum controller_model model, int index,
                                         struct error *err);
bool controller_served(const struct domain_controller *c);
void controller_name_unserved(const struct domain *d, FILE *out, const char *prefix);

/* Does an interface, or a disk, use elements of Lodge's namespace? */
bool iface_extended(const struct domain *d);
bool disk_extended(const struct domain *d);

#endif
