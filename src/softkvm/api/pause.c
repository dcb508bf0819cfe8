// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Holding all vCPUs: sections, pauses, exclusive accesses.
 *
 * A thread that works on a vCPU says so in api->inside, then looks at the gate; who pauses closes the gate, then looks at every
 * `inside`. With both in sequentially consistent order one of the two sees the other, so entering costs one store and one load as
 * long as nobody pauses. vm->exclusive lets one pauser in at a time; a vCPU that wants to pause leaves its own section first, so
 * two of them never wait for each other.
 *
 * While a vCPU waits there, memslots may change under the instruction that it is in the middle of. Such an instruction takes its
 * translations anew: the TLB is dropped as soon as the wait is over.
 *
 * vm_exclusive_*() come from instructions, with the guest's vector state live; so this file is built with -mgeneral-regs-only and
 * they put it first.
 */
#include <errno.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/mem.h"

void pause_init(struct softkvm_vm *vm)
{
    struct pause_gate *g = &vm->api->gate;
    pthread_mutex_init(&vm->exclusive, NULL);
    pthread_mutex_init(&g->lock, NULL);
    pthread_cond_init(&g->resumed, NULL);
    pthread_cond_init(&g->left, NULL);
}

void pause_free(struct softkvm_vm *vm)
{
    struct pause_gate *g = &vm->api->gate;
    pthread_cond_destroy(&g->left);
    pthread_cond_destroy(&g->resumed);
    pthread_mutex_destroy(&g->lock);
    pthread_mutex_destroy(&vm->exclusive);
}

void section_leave(struct vcpu *v)
{
    struct pause_gate *g = &v->vm->api->gate;
    atomic_store(&v->api->inside, false);
    if (likely(!atomic_load(&g->closed)))
        return;
    pthread_mutex_lock(&g->lock);
    pthread_cond_signal(&g->left);
    pthread_mutex_unlock(&g->lock);
}

void section_enter(struct vcpu *v)
{
    struct pause_gate *g = &v->vm->api->gate;
    for (;;) {
        atomic_store(&v->api->inside, true);
        if (likely(!atomic_load(&g->closed)))
            return;
        section_leave(v);
        pthread_mutex_lock(&g->lock);
        while (atomic_load(&g->closed))
            pthread_cond_wait(&g->resumed, &g->lock);
        pthread_mutex_unlock(&g->lock);
    }
}

void vm_pause_all(struct softkvm_vm *vm, struct vcpu *self)
{
    struct pause_gate *g = &vm->api->gate;
    if (self) {
        self->api->pause_was_inside = atomic_load(&self->api->inside);
        if (self->api->pause_was_inside)
            section_leave(self);
    }
    pthread_mutex_lock(&vm->exclusive);
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->closed, true);
    unsigned n = atomic_load(&vm->nvcpus);
    for (unsigned i = 0; i < n; i++) {
        struct vcpu *v = atomic_load(&vm->vcpus[i]);
        if (v != self && atomic_load(&v->api->inside))
            vcpu_kick(v, REQ_PAUSE);
    }
    for (unsigned i = 0; i < n; i++) {
        struct vcpu *v = atomic_load(&vm->vcpus[i]);
        while (v != self && atomic_load(&v->api->inside))
            pthread_cond_wait(&g->left, &g->lock);
    }
    pthread_mutex_unlock(&g->lock);
}

void vm_resume_all(struct softkvm_vm *vm, struct vcpu *self)
{
    struct pause_gate *g = &vm->api->gate;
    pthread_mutex_lock(&g->lock);
    atomic_store(&g->closed, false);
    pthread_cond_broadcast(&g->resumed);
    pthread_mutex_unlock(&g->lock);
    pthread_mutex_unlock(&vm->exclusive);
    if (self && self->api->pause_was_inside)
        section_enter(self);
}

static void flush_if_asked(struct vcpu *v)
{
    if (atomic_load(&v->requests) & REQ_TLB_FLUSH) {
        atomic_fetch_and(&v->requests, ~(uint32_t)REQ_TLB_FLUSH);
        mmu_flush_all(v);
    }
}

void vm_exclusive_begin(struct vcpu *v)
{
    if (v->api->holds_others || atomic_load(&v->vm->nvcpus) == 1)
        return;
    fpu_put(v);
    vm_pause_all(v->vm, v);
    v->api->holds_others = true;
    flush_if_asked(v);
    /* Should the instruction unwind before its end, the loop comes back to us at once, and exclusive_drop() lets the others go. */
    cpu_request(v, REQ_PAUSE);
}

void vm_exclusive_end(struct vcpu *v)
{
    if (!v->api->holds_others)
        return;
    fpu_put(v);
    v->api->holds_others = false;
    atomic_fetch_and(&v->requests, ~(uint32_t)REQ_PAUSE); /* only a pauser sets it, and that is us */
    vm_resume_all(v->vm, v);
    flush_if_asked(v);
}

void exclusive_drop(struct vcpu *v)
{
    if (unlikely(v->api->holds_others))
        vm_exclusive_end(v);
}
