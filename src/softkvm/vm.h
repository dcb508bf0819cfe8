/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The virtual machine: memslots, vCPUs, interrupt chips, eventfds.
 *
 * Invariants
 * - Lock order: vcpu->lock, then vm->lock, then vm->irq.lock, then a LAPIC's own atomics. Nothing is called in user space with a lock held.
 * - `vm->slots` is replaced as a whole, never edited: readers on vCPU threads load the pointer once per use; the old table is freed after
 *   every vCPU has passed through vm_pause_all(), which also drops their TLBs.
 */
#ifndef LODGE_SOFTKVM_VM_H
#define LODGE_SOFTKVM_VM_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/util.h"

struct vcpu;
struct irqchip;

#define SOFTKVM_MAX_VCPUS 256
#define SOFTKVM_MAX_SLOTS 512

struct memslot {
    uint32_t id;        /* slot number, address space in the upper 16 bits is refused */
    uint32_t flags;     /* KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY */
    uint64_t gpa, size; /* bytes, page aligned */
    uint8_t *hva;       /* user space's mapping; not owned */
    bool alias;         /* another slot has some of the same memory, and one of the two can be written */
    _Atomic uint64_t *dirty; /* one bit a page while logging, else NULL; owned */
};

struct slot_table {
    unsigned count;
    struct memslot slots[]; /* sorted by gpa */
};

struct softkvm_vm {
    pthread_mutex_t lock;
    _Atomic(struct slot_table *) slots;
    struct vcpu *_Atomic vcpus[SOFTKVM_MAX_VCPUS]; /* by index of creation */
    _Atomic unsigned nvcpus;
    struct irqchip *irqchip;  /* NULL until KVM_CREATE_IRQCHIP or split irqchip */
    bool split_irqchip;
    uint64_t x2apic_api;      /* KVM_X2APIC_API_* flags, from KVM_ENABLE_CAP(KVM_CAP_X2APIC_API) */
    unsigned bsp_id;          /* KVM_SET_BOOT_CPU_ID */
    bool platform_info_hidden; /* KVM_CAP_MSR_PLATFORM_INFO: a guest's RDMSR of it raises #GP */
    uint64_t tss_addr, identity_map_addr;
    int64_t kvmclock_offset;  /* ns: guest kvmclock = CLOCK_BOOTTIME-like host clock + offset */
    uint64_t wall_base;
    pthread_mutex_t exclusive;
    struct bt *bt; /* the translator's code cache, NULL when vCPUs interpret */
    struct vm_api *api; /* api/'s private part: fds, eventfds, coalesced zones */
};

/* The slot that holds a GPA, or NULL. Valid until the next vm_pause_all() point of this vCPU. */
static inline struct memslot *vm_slot(struct softkvm_vm *vm, uint64_t gpa)
{
    struct slot_table *t = atomic_load_explicit(&vm->slots, memory_order_acquire);
    unsigned lo = 0, hi = t ? t->count : 0;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (gpa - t->slots[mid].gpa < t->slots[mid].size)
            return &t->slots[mid];
        if (gpa < t->slots[mid].gpa)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
/* Marks the page of a GPA dirty when its slot logs. Cheap when it does not. */
static inline void memslot_mark_dirty(struct memslot *s, uint64_t gpa)
{
    if (unlikely(s->dirty != NULL)) {
        uint64_t page = (gpa - s->gpa) >> 12;
        atomic_fetch_or_explicit(&s->dirty[page / 64], BIT64(page % 64), memory_order_release);
    }
}

/* Reads or writes guest-physical RAM from devices and PV code; false when not all of it is (writable) RAM. Marks dirty. */
bool vm_phys_read(struct softkvm_vm *vm, uint64_t gpa, void *buf, unsigned n);
bool vm_phys_write(struct softkvm_vm *vm, uint64_t gpa, const void *buf, unsigned n);
/* Host address of n bytes within one slot, or NULL. */
void *vm_phys_host(struct softkvm_vm *vm, uint64_t gpa, unsigned n, bool write);

/* Brings every vCPU but `self` (may be NULL) to an instruction boundary and holds it there. Pairs with vm_resume_all. Nests not. */
void vm_pause_all(struct softkvm_vm *vm, struct vcpu *self);
void vm_resume_all(struct softkvm_vm *vm, struct vcpu *self);
/* For a locked access that crosses pages: no other vCPU runs between begin and end. */
void vm_exclusive_begin(struct vcpu *v);
void vm_exclusive_end(struct vcpu *v);

/* Wakes a halted vCPU and makes a running one look at its events. Callable from any thread, with any lock. */
void vcpu_kick(struct vcpu *v, uint32_t requests);

#endif
