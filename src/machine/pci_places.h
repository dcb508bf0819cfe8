/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The root ports that a domain names, and where its devices are to be. */
#ifndef LODGE_MACHINE_PCI_PLACES_H
#define LODGE_MACHINE_PCI_PLACES_H

#include "devices/pci/pci.h"
#include "model/domain.h"

struct pci_places;
/* Makes the root ports, which write to the eventfd when a guest has given a device back, and keeps the slots of bus 0 that devices
 * name for them. 0, or -1 with err; then what was made is in *out all the same, for pci_places_destroy(). */
int pci_places_create(const struct domain *d, struct pci_host *pci, int released_fd, struct pci_places **out, struct error *err);
void pci_places_destroy(struct pci_places *p); /* the devices behind the ports are gone; NULL is allowed */

/* The port before that bus; NULL for none. */
struct rootport *pci_places_port(const struct pci_places *p, const struct domain *d, unsigned bus);

/* For a device's configuration. */
int pci_place(const struct domain_pci_address *a);
/* The same of the first controller of a type, which the domain may not name. */
int pci_controller_place(const struct domain *d, enum controller_type type);

#endif
