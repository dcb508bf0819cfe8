/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the interrupt controllers' files share. The public side is irqchip.h.
 *
 * Who may touch what
 * - struct irqchip, its IOAPIC, PICs, PIT, routes, sources and ack notifiers: with irqchip->lock held. Functions that want it held say
 *   "locked". `pic_output` and `eoi_vectors` are written with the lock held and read without it.
 * - struct lapic: see lapic.h. Messages reach it without any lock.
 * - struct vm_timer: guarded by the timers' own lock, which is the innermost one; timer functions may be called with irqchip->lock held.
 * - Ack notifiers run with no lock held, so that they may call back into the chip.
 */
#ifndef LODGE_SOFTKVM_IRQCHIP_PRIV_H
#define LODGE_SOFTKVM_IRQCHIP_PRIV_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/vm.h"

/* ---- messages to LAPICs (lapic_msg.c) ---- */

/* Delivery modes, SDM vol. 3, 10.6.1. */
enum apic_mode { APIC_FIXED, APIC_LOWEST, APIC_SMI, APIC_REMOTE_READ, APIC_NMI, APIC_INIT, APIC_STARTUP, APIC_EXTINT };
enum apic_shorthand { APIC_TO_DEST, APIC_TO_SELF, APIC_TO_ALL, APIC_TO_OTHERS };

struct apic_msg {
    uint32_t dest;        /* 8 bits from an xAPIC, an IOAPIC or a plain MSI; 32 bits from an x2APIC or an extended MSI */
    uint8_t mode;         /* enum apic_mode */
    uint8_t vector;
    uint8_t shorthand;    /* enum apic_shorthand */
    bool logical;         /* destination mode */
    bool level;           /* trigger mode */
    bool assert;          /* level of INIT messages */
    bool redirect;        /* MSI's redirection hint: to one of the destinations */
    bool ipi;             /* from a LAPIC: 0xff is no broadcast for x2APICs */
};

/* Sends to all destinations. `from` is the sending vCPU, NULL for devices. Returns how many took it, -1 when there is no such destination. */
int apic_send(struct softkvm_vm *vm, struct vcpu *from, const struct apic_msg *m);
/* Does any vCPU take the PIC's output (LINT0 as ExtINT)? Kicks those that do. */
void apic_kick_extint(struct softkvm_vm *vm);
/* PIT ticks on LINT0 in NMI mode: Linux's nmi_watchdog=1. */
void apic_lint0_nmi(struct softkvm_vm *vm);

/* ---- timers (timer.c) ---- */

struct vm_timer {
    uint64_t deadline; /* ns of CLOCK_MONOTONIC */
    unsigned slot;     /* index in the heap plus 1, 0 when not armed */
    unsigned gen;      /* counts arms and cancels, so that a fire in flight sees that it has been overtaken */
    /* Called on the timer thread with no lock held. Returns the next deadline, or 0. */
    uint64_t (*fire)(void *opaque, uint64_t deadline);
    void *opaque;
};

#define TIMERS_MAX (SOFTKVM_MAX_VCPUS + 1) /* a LAPIC's each, and the PIT's */

struct timers {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the thread's: an earlier deadline, or stop */
    pthread_cond_t done; /* a callback has returned */
    struct vm_timer *heap[TIMERS_MAX]; /* binary heap by deadline */
    unsigned count;
    struct vm_timer *running; /* whose callback is under way */
    uint64_t asleep_until;    /* what the thread sleeps for; 0: it is awake and looks at the heap before it sleeps */
    pthread_t thread;
    bool started, stop;
};

int timers_init(struct timers *t);  /* 0 or -errno; no thread yet */
int timers_start(struct timers *t); /* starts the thread unless it runs: 0 or -errno */
void timers_destroy(struct timers *t);
/* Arms for a deadline, at once if it has passed. `wait`: a callback that is under way has returned before the timer is armed anew, as the
 * caller holds nothing that the callback takes. */
void timer_arm(struct timers *t, struct vm_timer *tm, uint64_t deadline, bool wait);
void timer_cancel(struct timers *t, struct vm_timer *tm, bool wait);

/* ---- IOAPIC (ioapic.c), 82093AA with 24 pins ---- */

#define IOAPIC_PINS      24
#define IOAPIC_BASE      0xfec00000u
#define IOAPIC_SIZE      0x100u
#define RTE_DEST_LOGICAL BIT64(11)
#define RTE_PENDING      BIT64(12)
#define RTE_REMOTE_IRR   BIT64(14)
#define RTE_LEVEL        BIT64(15)
#define RTE_MASKED       BIT64(16)

struct ioapic {
    _Atomic uint64_t base; /* GPA of the registers; read without the lock */
    uint32_t select, id;
    uint32_t lines;                 /* one bit a pin: asserted (polarity is the board's affair, as with KVM) */
    uint64_t rte[IOAPIC_PINS];      /* redirection table */
    uint64_t sources[IOAPIC_PINS];  /* who holds the pin up, by source number */
};

void ioapic_reset(struct irqchip *c);
int ioapic_set_pin(struct irqchip *c, unsigned pin, unsigned source, bool level); /* locked; 1, 0 coalesced, -1 masked */
uint32_t ioapic_read(struct irqchip *c, uint32_t offset);                         /* locked */
void ioapic_write(struct irqchip *c, uint32_t offset, uint32_t val);              /* locked */
void ioapic_eoi(struct irqchip *c, uint8_t vector);                               /* locked; drops the lock while acks are notified */
void ioapic_retry(struct irqchip *c);                                             /* locked; level lines that found no LAPIC so far */
void ioapic_get(struct irqchip *c, struct kvm_ioapic_state *s);                   /* locked */
void ioapic_set(struct irqchip *c, const struct kvm_ioapic_state *s);             /* locked */

/* ---- the two 8259A (pic.c) ---- */

struct pic {
    struct kvm_pic_state chip[2]; /* master, slave; KVM's own layout is the device's state */
    uint64_t sources[16];
    uint16_t acked; /* pins whose interrupt has ended, until pic_notify() */
};

void pic_reset(struct irqchip *c);
int pic_set_pin(struct irqchip *c, unsigned pin, unsigned source, bool level); /* locked; pin 0..15; 1, 0 coalesced, -1 masked */
uint8_t pic_read(struct irqchip *c, uint16_t port);                            /* locked */
void pic_write(struct irqchip *c, uint16_t port, uint8_t val);                 /* locked */
int pic_intack(struct irqchip *c);                                             /* locked; the vector */
void pic_notify(struct irqchip *c);                                            /* locked; drops the lock while acks are notified */
void pic_set_state(struct irqchip *c, unsigned chip, const struct kvm_pic_state *s); /* locked */

/* ---- 8254 (pit.c) ---- */

#define PIT_HZ 1193182u

/* Channel state beyond struct kvm_pit_channel_state. */
struct pit_channel {
    struct kvm_pit_channel_state s; /* count: 1..65536 (10000 in BCD), in binary; count_load_time: CLOCK_MONOTONIC ns */
    uint64_t paused;                /* ticks counted when the gate went low */
    bool loaded;                    /* has a count since its control word */
    bool triggered;                 /* modes 1 and 5: the gate has risen */
};

struct pit {
    struct irqchip *chip;
    struct pit_channel ch[3];
    uint32_t flags;      /* KVM_PIT_FLAGS_* */
    bool speaker;        /* port 0x61 is ours */
    bool reinject;
    bool acked;          /* reinjection: the guest has ended the last tick's interrupt */
    uint64_t pending;    /* reinjection: ticks that wait for it */
    uint64_t next_ns;    /* channel 0's next interrupt, 0 when none */
    uint64_t start_ns;   /* base of the periodic grid */
    uint64_t periods;    /* whole periods from start_ns to next_ns */
    struct vm_timer timer;
};

uint8_t pit_read(struct pit *p, uint16_t port);            /* locked */
void pit_write(struct pit *p, uint16_t port, uint8_t val); /* locked */
void pit_ack(struct irqchip *c);                           /* locked; GSI 0 has been ended */
void pit_forget_ticks(struct irqchip *c);                  /* locked; GSI 0 has been unmasked: what was missed until now is no tick */
void pit_destroy(struct irqchip *c);

/* ---- routing (route.c) ---- */

#define SOURCE_USER 0 /* KVM_IRQ_LINE and plain irqfds */
#define SOURCE_PIT  1
#define SOURCES_MAX 64

struct route_table;
int route_set_default(struct irqchip *c);
void route_free(struct route_table *t);
int route_set_gsi(struct irqchip *c, unsigned source, unsigned gsi, bool level);        /* locked */
bool route_has_pin(const struct route_table *t, unsigned gsi, unsigned chip, unsigned pin);
/* Marks the vectors of level MSI routes below `pins` in map[4]. */
void route_level_msis(const struct route_table *t, unsigned pins, uint64_t map[4]);

/* ---- the whole (irqchip.c) ---- */

struct ack_notifier {
    struct ack_notifier *next;
    unsigned gsi;
    unsigned busy; /* calls under way */
    bool dead;
    void (*fn)(void *opaque);
    void *opaque;
};

struct irqchip {
    struct softkvm_vm *vm;
    bool split;
    unsigned pins; /* split: GSIs below this are user space's IOAPIC */
    pthread_mutex_t lock;
    pthread_cond_t ack_idle;
    struct route_table *routes;
    uint64_t sources; /* allocated source numbers */
    struct ioapic ioapic;
    struct pic pic;
    struct pit *_Atomic pit; /* NULL until pit_create */
    struct ack_notifier *acks;
    _Atomic bool pic_output;
    _Atomic uint64_t eoi_vectors[4]; /* vectors whose EOI must be reported though they are not level-triggered (split: that user space wants) */
    struct timers timers;
};

void irqchip_update_eoi_vectors(struct irqchip *c); /* locked; after changes of routes, redirection table, notifiers, PIT */
/* A pin of a chip (KVM_IRQCHIP_*) has seen its interrupt end: tells the PIT and the ack notifiers. Locked; drops the lock while they run. */
void irqchip_notify_ack(struct irqchip *c, unsigned chip, unsigned pin);
void irqchip_notify_unmask(struct irqchip *c, unsigned chip, unsigned pin); /* locked */

#endif

