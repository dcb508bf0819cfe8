/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Places on PCI: <address type='pci'> of a device, and the <controller>s that devices are behind.
 *
 * A bus is the index of the controller that it is behind: 0 is the board's own, the others are root ports with slot 0 alone. The
 * guest's firmware numbers buses itself, as a rule the same.
 */
#ifndef LODGE_MODEL_PCI_H
#define LODGE_MODEL_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define DOMAIN_MAX_CONTROLLERS 128u
#define PCI_LAST_BUS           255u
#define PCI_LAST_SLOT          31u
#define PCI_LAST_FUNCTION      7u

struct domain_pci_address {
    bool set;           /* false: whoever builds the machine chooses */
    bool multifunction; /* of function 0: its slot has others, or may get them */
    uint8_t bus, slot, function;
};

enum controller_type { CONTROLLER_PCI, CONTROLLER_USB, CONTROLLER_SATA, CONTROLLER_SERIAL, CONTROLLER_SCSI };
enum controller_model {
    CONTROLLER_DEFAULT,
    CONTROLLER_ROOT,
    CONTROLLER_ROOT_PORT,
    CONTROLLER_PCI_BRIDGE,
    CONTROLLER_XHCI,
    CONTROLLER_NONE,
    CONTROLLER_AHCI,
    CONTROLLER_VIRTIO_SCSI
};

struct domain_controller {
    enum controller_type type;
    enum controller_model model;
    int index;                       /* of its type; -1 until the domain is checked */
    unsigned ports;                  /* 0: the default */
    int target_chassis, target_port; /* of a root port: its slot's number for people, and the port's; -1: the default */
    bool no_hotplug;
    struct domain_pci_address address;
};

#endif
