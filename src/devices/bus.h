/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a device may know of the machine: address spaces to register in, interrupt lines to pull, guest memory to reach.
 *
 * Invariants
 * - A range is registered once and never overlaps another of its space; bus_map() refuses an overlap.
 * - Dispatch holds bus->lock (the machine's device lock) around a device's read and write. I/O threads take the same lock around device state that they share with it.
 * - A device reaches guest memory only through `mem` (RAM). It cannot reach another device's registers by DMA, so no handler is ever re-entered.
 */
#ifndef LODGE_DEVICES_BUS_H
#define LODGE_DEVICES_BUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/guestmem.h"

enum bus_space { BUS_PORT, BUS_MMIO };

/* Register access: `off` from the start of the range, `size` 1, 2, 4 or 8 bytes, never past the range's end. */
struct io_ops {
    uint64_t (*read)(void *dev, uint64_t off, unsigned size);
    void (*write)(void *dev, uint64_t off, unsigned size, uint64_t val);
    unsigned max_size; /* the widest access the device takes, bytes; a wider one arrives in parts, low addresses first; 0: 8 */
};

/* What the board does for devices; filled by src/machine with the accelerator's calls. All return 0 or -errno. Thread-safe. */
struct board_ops {
    int (*set_gsi)(void *board, unsigned gsi, bool level);
    int (*send_msi)(void *board, uint64_t addr, uint32_t data);
    /* KVM_IOEVENTFD on (space, addr, size bytes or 0 for any); datamatch when match is true. */
    int (*ioeventfd)(void *board, int fd, enum bus_space space, uint64_t addr, unsigned size, bool match, uint64_t data, bool assign);
    /* KVM_IRQFD: makes `fd` raise the MSI (addr, data); returns a route handle > 0 or -errno; handle is freed by irqfd_free. */
    int (*irqfd_msi)(void *board, int fd, uint64_t addr, uint32_t data);
    void (*irqfd_free)(void *board, int fd, int handle);
    /* The guest asks the board to end or restart: reason as in enum board_event. */
    void (*event)(void *board, int event, int code);
};
enum board_event { BOARD_POWEROFF, BOARD_RESET, BOARD_DEBUG_EXIT /* code: value written */, BOARD_PANIC };

struct bus_range;
struct bus {
    pthread_mutex_t lock;
    struct bus_range *ranges[2]; /* sorted arrays by space; owned */
    unsigned nranges[2];
    struct guestmem *mem;
    const struct board_ops *ops;
    void *board;
};

void bus_init(struct bus *b, struct guestmem *mem, const struct board_ops *ops, void *board);
void bus_free(struct bus *b);
/*
 * Registers [base, base+len). `name` is not copied. 0, or -1 with err when it overlaps or wraps. The caller of bus_map() and bus_unmap() holds
 * the lock (as a device's write handler does), or no vCPU runs.
 */
int bus_map(struct bus *b, enum bus_space space, uint64_t base, uint64_t len, const struct io_ops *ops, void *dev, const char *name, struct error *err);
void bus_unmap(struct bus *b, enum bus_space space, uint64_t base);
/* An access by a vCPU. Unclaimed reads give all ones, unclaimed writes are dropped; an access that crosses a range's end is split into bytes. */
void bus_read(struct bus *b, enum bus_space space, uint64_t addr, void *data, unsigned size);
void bus_write(struct bus *b, enum bus_space space, uint64_t addr, const void *data, unsigned size);

/* A field of a device's saved state; the table stands beside the struct and is all that save, restore and docs know. */
enum field_type { FIELD_U8, FIELD_U16, FIELD_U32, FIELD_U64, FIELD_BOOL, FIELD_BYTES };
struct field {
    const char *name;
    enum field_type type;
    uint32_t offset, size, count; /* in the struct; bytes of one element; elements */
    uint32_t stride;              /* bytes from one element to the next; 0: size */
};
#define FIELD(type_, struct_, member_)                                                                                                     \
    {#member_, type_, offsetof(struct_, member_), sizeof(((struct_ *)0)->member_), 1, 0}
#define FIELD_ARRAY(type_, struct_, member_)                                                                                               \
    {#member_, type_, offsetof(struct_, member_), sizeof(((struct_ *)0)->member_[0]),                                                      \
     sizeof(((struct_ *)0)->member_) / sizeof(((struct_ *)0)->member_[0]), 0}

/* A member of each struct of an array. */
#define FIELD_EACH(type_, struct_, array_, member_)                                                                                        \
    {#array_ "." #member_, type_, offsetof(struct_, array_[0].member_), sizeof(((struct_ *)0)->array_[0].member_),                         \
     sizeof(((struct_ *)0)->array_) / sizeof(((struct_ *)0)->array_[0]), sizeof(((struct_ *)0)->array_[0])}

/* Names a kind of device. */
struct device_desc {
    const char *name;           /* "serial-16550", "virtio-blk" */
    const struct field *fields; /* ends with a NULL name; may be NULL when it cannot be saved yet */
    const char *why_unsaved;    /* NULL, or why it cannot be saved yet, whatever the table holds */
    void (*reset)(void *dev);
    int (*restored)(void *dev, struct error *err); /* checks a restored state as hostile input and derives the rest; may be NULL */
};

#endif
