// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory slots: guest-physical ranges of user space's memory, and the log of pages that the guest has written.
 *
 * The table is built anew for each change and put in place while every vCPU is held; when they go on, their TLBs hold nothing of
 * the old one. A dirty bit is set when a write enters the TLB (mmu.c), not at every write; so reading the log clears bits and TLBs
 * in one pause. Other threads reach guest memory by vm_phys_*(), under slots_lock.
 */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"

#define MAX_SLOT_PAGES ((1ull << 31) - 1) /* as KVM_MEM_MAX_NR_PAGES */
#define MAX_PHYS       BIT64(52)          /* no guest address has more bits (SDM vol. 3, 4.1.4) */
#define USER_SPACE_END BIT64(47)

static uint64_t pages_of(const struct memslot *s)
{
    return s->size / PAGE_SIZE;
}

/* Words of a slot's bitmap. */
static uint64_t dirty_words(const struct memslot *s)
{
    return (pages_of(s) + 63) / 64;
}

int memslot_init(struct softkvm_vm *vm)
{
    pthread_rwlock_init(&vm->api->slots_lock, NULL);
    pthread_mutex_init(&vm->api->slots_mutex, NULL);
    struct slot_table *t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    atomic_store(&vm->slots, t);
    return 0;
}

void memslot_free_all(struct softkvm_vm *vm)
{
    struct slot_table *t = atomic_load(&vm->slots);
    for (unsigned i = 0; t && i < t->count; i++)
        free(t->slots[i].dirty);
    free(t);
    pthread_mutex_destroy(&vm->api->slots_mutex);
    pthread_rwlock_destroy(&vm->api->slots_lock);
}

static struct memslot *find_id(struct slot_table *t, uint32_t id)
{
    for (unsigned i = 0; i < t->count; i++)
        if (t->slots[i].id == id)
            return &t->slots[i];
    return NULL;
}

static bool overlaps(const struct slot_table *t, const struct memslot *s)
{
    for (unsigned i = 0; i < t->count; i++) {
        const struct memslot *o = &t->slots[i];
        if (o->id != s->id && s->gpa < o->gpa + o->size && o->gpa < s->gpa + s->size)
            return true;
    }
    return false;
}

static bool same_memory(const struct memslot *a, const struct memslot *b)
{
    uintptr_t x = (uintptr_t)a->hva, y = (uintptr_t)b->hva;
    return x < y + b->size && y < x + a->size && !(a->flags & b->flags & KVM_MEM_READONLY);
}

static void find_aliases(struct slot_table *t)
{
    for (unsigned i = 0; i < t->count; i++)
        t->slots[i].alias = false;
    for (unsigned i = 0; i < t->count; i++)
        for (unsigned j = 0; j < i; j++)
            if (same_memory(&t->slots[i], &t->slots[j]))
                t->slots[i].alias = t->slots[j].alias = true;
}

/* The table without slot `id`, with `add` (may be NULL) in its place in the order. */
static struct slot_table *table_with(const struct slot_table *old, uint32_t id, const struct memslot *add)
{
    struct slot_table *t = malloc(sizeof(*t) + (old->count + 1) * sizeof(t->slots[0]));
    if (!t)
        return NULL;
    t->count = 0;
    for (unsigned i = 0; i < old->count; i++) {
        const struct memslot *s = &old->slots[i];
        if (add && s->gpa > add->gpa) {
            t->slots[t->count++] = *add;
            add = NULL;
        }
        if (s->id != id)
            t->slots[t->count++] = *s;
    }
    if (add)
        t->slots[t->count++] = *add;
    find_aliases(t);
    return t;
}

static void request_flush(struct softkvm_vm *vm)
{
    unsigned n = atomic_load(&vm->nvcpus);
    for (unsigned i = 0; i < n; i++)
        cpu_request(atomic_load(&vm->vcpus[i]), REQ_TLB_FLUSH);
}

static void table_replace(struct softkvm_vm *vm, struct slot_table *t)
{
    struct slot_table *old = atomic_load(&vm->slots);
    vm_pause_all(vm, NULL);
    pthread_rwlock_wrlock(&vm->api->slots_lock);
    atomic_store(&vm->slots, t);
    pthread_rwlock_unlock(&vm->api->slots_lock);
    request_flush(vm);
    vm_resume_all(vm, NULL);
    free(old);
}

/* KVM's checks of an argument by itself, in KVM's order. */
static int check_region(const struct kvm_userspace_memory_region *m)
{
    uint64_t in_page = PAGE_SIZE - 1;
    if (m->flags & ~(uint32_t)(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
        return -EINVAL;
    if ((m->memory_size & in_page) || (m->guest_phys_addr & in_page) || (m->userspace_addr & in_page))
        return -EINVAL;
    if (m->userspace_addr > USER_SPACE_END || m->memory_size > USER_SPACE_END - m->userspace_addr)
        return -EINVAL;
    if (m->slot >= SOFTKVM_MAX_SLOTS) /* the upper half, an address space for SMM, is covered: it must be 0 */
        return -EINVAL;
    if (m->guest_phys_addr + m->memory_size < m->guest_phys_addr || m->memory_size / PAGE_SIZE > MAX_SLOT_PAGES)
        return -EINVAL;
    return 0;
}

/* Gives `s` the bitmap that its flags ask for: the old slot's, a new one, or none. */
static int take_bitmap(struct softkvm_vm *vm, struct memslot *s, const struct memslot *old)
{
    s->dirty = NULL;
    if (!(s->flags & KVM_MEM_LOG_DIRTY_PAGES))
        return 0;
    if (old && old->dirty) {
        s->dirty = old->dirty;
        return 0;
    }
    s->dirty = calloc(dirty_words(s), sizeof(uint64_t));
    if (!s->dirty)
        return -ENOMEM;
    for (uint64_t page = 0; vm->api->dirty_initially_set && page < pages_of(s); page++)
        s->dirty[page / 64] |= BIT64(page % 64);
    return 0;
}

static int slot_delete(struct softkvm_vm *vm, struct slot_table *t, struct memslot *old)
{
    struct slot_table *next = table_with(t, old->id, NULL);
    if (!next)
        return -ENOMEM;
    _Atomic uint64_t *dirty = old->dirty;
    table_replace(vm, next);
    free(dirty);
    return 0;
}

static int slot_put(struct softkvm_vm *vm, struct slot_table *t, struct memslot *s, const struct memslot *old)
{
    int err = take_bitmap(vm, s, old);
    if (err)
        return err;
    _Atomic uint64_t *old_dirty = old ? old->dirty : NULL;
    struct slot_table *next = table_with(t, s->id, s);
    if (!next) {
        if (s->dirty != old_dirty)
            free(s->dirty);
        return -ENOMEM;
    }
    table_replace(vm, next);
    if (s->dirty != old_dirty)
        free(old_dirty);
    return 0;
}

static int set_locked(struct softkvm_vm *vm, const struct kvm_userspace_memory_region *m)
{
    struct slot_table *t = atomic_load(&vm->slots);
    struct memslot *old = find_id(t, m->slot);
    if (!m->memory_size)
        return old ? slot_delete(vm, t, old) : -EINVAL;

    struct memslot s = {.id = m->slot,
                        .flags = m->flags,
                        .gpa = m->guest_phys_addr,
                        .size = m->memory_size,
                        .hva = (uint8_t *)(uintptr_t)m->userspace_addr};
    if (old) {
        /* A slot can be moved, and its logging changed; anything else needs a delete first. */
        if (s.hva != old->hva || s.size != old->size || ((s.flags ^ old->flags) & KVM_MEM_READONLY))
            return -EINVAL;
        if (s.gpa == old->gpa && s.flags == old->flags)
            return 0;
    }
    if (overlaps(t, &s))
        return -EEXIST;
    if (s.gpa + s.size > MAX_PHYS)
        return -EINVAL;
    return slot_put(vm, t, &s, old);
}

int memslot_set(struct softkvm_vm *vm, void *arg)
{
    struct kvm_userspace_memory_region m = *(const struct kvm_userspace_memory_region *)arg;
    int err = check_region(&m);
    if (err)
        return err;
    pthread_mutex_lock(&vm->api->slots_mutex);
    err = set_locked(vm, &m);
    pthread_mutex_unlock(&vm->api->slots_mutex);
    return err;
}

/* ---- the dirty log ---- */

static int find_logging(struct softkvm_vm *vm, uint32_t id, struct memslot **s)
{
    if (id >= SOFTKVM_MAX_SLOTS)
        return -EINVAL;
    *s = find_id(atomic_load(&vm->slots), id);
    return *s && (*s)->dirty ? 0 : -ENOENT;
}

/* Writers mark a page, then write it; nobody may be between the two while bits are cleared. */
static void clear_begin(struct softkvm_vm *vm)
{
    vm_pause_all(vm, NULL);
    pthread_rwlock_wrlock(&vm->api->slots_lock);
}

static void clear_end(struct softkvm_vm *vm)
{
    pthread_rwlock_unlock(&vm->api->slots_lock);
    request_flush(vm);
    vm_resume_all(vm, NULL);
}

static int dirty_log_locked(struct softkvm_vm *vm, const struct kvm_dirty_log *log)
{
    struct memslot *s;
    int err = find_logging(vm, log->slot, &s);
    if (err)
        return err;
    uint64_t *out = log->dirty_bitmap;
    if ((uintptr_t)out < PAGE_SIZE)
        return -EFAULT;
    if (vm->api->manual_dirty_log) { /* KVM_CLEAR_DIRTY_LOG clears */
        for (uint64_t i = 0; i < dirty_words(s); i++)
            out[i] = atomic_load(&s->dirty[i]);
        return 0;
    }
    clear_begin(vm);
    for (uint64_t i = 0; i < dirty_words(s); i++)
        out[i] = atomic_exchange(&s->dirty[i], 0);
    clear_end(vm);
    return 0;
}

int memslot_dirty_log(struct softkvm_vm *vm, void *arg)
{
    pthread_mutex_lock(&vm->api->slots_mutex);
    int err = dirty_log_locked(vm, arg);
    pthread_mutex_unlock(&vm->api->slots_mutex);
    return err;
}

static int dirty_clear_locked(struct softkvm_vm *vm, const struct kvm_clear_dirty_log *log)
{
    if (log->first_page & 63)
        return -EINVAL;
    struct memslot *s;
    int err = find_logging(vm, log->slot, &s);
    if (err)
        return err;
    uint64_t pages = pages_of(s);
    if (log->first_page > pages || log->num_pages > pages - log->first_page)
        return -EINVAL;
    if (log->num_pages < pages - log->first_page && (log->num_pages & 63)) /* a part of a word only at the slot's end */
        return -EINVAL;
    const uint64_t *in = log->dirty_bitmap;
    if ((uintptr_t)in < PAGE_SIZE)
        return -EFAULT;
    clear_begin(vm);
    for (uint64_t i = 0; i < (log->num_pages + 63ull) / 64; i++)
        atomic_fetch_and(&s->dirty[log->first_page / 64 + i], ~in[i]);
    clear_end(vm);
    return 0;
}

int memslot_dirty_clear(struct softkvm_vm *vm, void *arg)
{
    pthread_mutex_lock(&vm->api->slots_mutex);
    int err = dirty_clear_locked(vm, arg);
    pthread_mutex_unlock(&vm->api->slots_mutex);
    return err;
}

/* ---- guest memory for everybody ---- */

void *vm_phys_host(struct softkvm_vm *vm, uint64_t gpa, unsigned n, bool write)
{
    struct memslot *s = vm_slot(vm, gpa);
    if (!s || n > s->size - (gpa - s->gpa) || (write && (s->flags & KVM_MEM_READONLY)))
        return NULL;
    for (uint64_t page = gpa & PAGE_MASK; write && page < gpa + n; page += PAGE_SIZE)
        memslot_mark_dirty(s, page < gpa ? gpa : page);
    return s->hva + (gpa - s->gpa);
}

/* Bytes from gpa that one slot holds, at most n. */
static unsigned slot_run(struct softkvm_vm *vm, uint64_t gpa, unsigned n)
{
    struct memslot *s = vm_slot(vm, gpa);
    uint64_t left = s ? s->size - (gpa - s->gpa) : 0;
    return left < n ? (unsigned)left : n;
}

static bool all_there(struct softkvm_vm *vm, uint64_t gpa, unsigned n, bool write)
{
    while (n) {
        unsigned run = slot_run(vm, gpa, n);
        if (!run || (write && (vm_slot(vm, gpa)->flags & KVM_MEM_READONLY)))
            return false;
        gpa += run;
        n -= run;
    }
    return true;
}

bool vm_phys_read(struct softkvm_vm *vm, uint64_t gpa, void *buf, unsigned n)
{
    pthread_rwlock_rdlock(&vm->api->slots_lock);
    bool ok = all_there(vm, gpa, n, false);
    for (unsigned run; ok && n; n -= run, gpa += run, buf = (uint8_t *)buf + run) {
        run = slot_run(vm, gpa, n);
        memcpy(buf, vm_phys_host(vm, gpa, run, false), run);
    }
    pthread_rwlock_unlock(&vm->api->slots_lock);
    return ok;
}

bool vm_phys_write(struct softkvm_vm *vm, uint64_t gpa, const void *buf, unsigned n)
{
    pthread_rwlock_rdlock(&vm->api->slots_lock);
    bool ok = all_there(vm, gpa, n, true);
    for (unsigned run; ok && n; n -= run, gpa += run, buf = (const uint8_t *)buf + run) {
        run = slot_run(vm, gpa, n);
        memcpy(vm_phys_host(vm, gpa, run, true), buf, run);
    }
    pthread_rwlock_unlock(&vm->api->slots_lock);
    return ok;
}
