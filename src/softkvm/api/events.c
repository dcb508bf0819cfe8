// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Events as user space sees and sets them: KVM_GET/SET_VCPU_EVENTS, KVM_GET/SET_MP_STATE, KVM_INTERRUPT, KVM_NMI.
 *
 * The engine delivers what an instruction raises at once, so v->ev only ever holds what user space has put there, what the run loop
 * has accepted, and a delivery that waits for user space's answer.
 */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"

#define EVENT_FLAGS                                                                                                             \
    (KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM | \
     KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT)

int events_get(struct vcpu *v, void *arg)
{
    struct kvm_vcpu_events *e = arg;
    const struct vm_api *vm = v->vm->api;
    const struct vcpu_api *a = v->api;
    memset(e, 0, sizeof(*e));
    if (v->ev.exc_pending) {
        e->exception.pending = !a->exc_injected;
        e->exception.injected = a->exc_injected || !vm->exception_payload; /* old user space knows no other state */
    }
    e->exception.nr = v->ev.exc_vector;
    e->exception.has_error_code = v->ev.exc_has_error;
    e->exception.error_code = v->ev.exc_error;
    e->exception_has_payload = a->exc_has_payload;
    e->exception_payload = a->exc_payload;
    e->interrupt.injected = v->ev.irq_pending && !v->ev.irq_soft;
    e->interrupt.nr = v->ev.irq_vector;
    e->interrupt.shadow = v->int_shadow;
    e->nmi.injected = v->ev.nmi_injected;
    e->nmi.pending = atomic_load(&v->ev.nmi_pending) != 0;
    e->nmi.masked = v->ev.nmi_masked;
    e->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM;
    if (vm->exception_payload)
        e->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
    if (vm->triple_fault_event) {
        e->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
        e->triple_fault.pending = a->triple_fault;
    }
    return 0;
}

/* Settles what `injected`, `pending` and the payload mean together; false when they mean nothing. */
static bool check_exception(const struct vcpu *v, struct kvm_vcpu_events *e)
{
    if (e->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
        if (!v->vm->api->exception_payload)
            return false;
        if (e->exception.pending)
            e->exception.injected = 0;
        else
            e->exception_has_payload = 0;
    } else {
        e->exception.pending = 0;
        e->exception_has_payload = 0;
    }
    bool any = e->exception.injected || e->exception.pending;
    return !any || (e->exception.nr <= 31 && e->exception.nr != EXC_NMI);
}

int events_set(struct vcpu *v, void *arg)
{
    struct kvm_vcpu_events e = *(const struct kvm_vcpu_events *)arg;
    struct vcpu_api *a = v->api;
    if ((e.flags & ~(uint32_t)EVENT_FLAGS) || !check_exception(v, &e))
        return -EINVAL;
    if ((e.flags & KVM_VCPUEVENT_VALID_SMM) && (e.smi.smm || e.smi.pending)) /* KVM_CAP_X86_SMM is not there */
        return -EINVAL;
    if ((e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !v->vm->api->triple_fault_event)
        return -EINVAL;

    v->ev.exc_pending = e.exception.injected || e.exception.pending;
    v->ev.exc_vector = e.exception.nr;
    v->ev.exc_has_error = e.exception.has_error_code;
    v->ev.exc_error = e.exception.error_code;
    a->exc_injected = e.exception.injected;
    a->exc_has_payload = e.exception_has_payload;
    a->exc_payload = e.exception_payload;
    v->ev.irq_pending = e.interrupt.injected;
    v->ev.irq_vector = e.interrupt.nr;
    v->ev.irq_soft = e.interrupt.soft;
    if (e.flags & KVM_VCPUEVENT_VALID_SHADOW)
        v->int_shadow = e.interrupt.shadow & (KVM_X86_SHADOW_INT_MOV_SS | KVM_X86_SHADOW_INT_STI);
    v->ev.nmi_injected = e.nmi.injected;
    v->ev.nmi_masked = e.nmi.masked;
    if (e.flags & KVM_VCPUEVENT_VALID_NMI_PENDING)
        atomic_store(&v->ev.nmi_pending, MIN(e.nmi.pending, 2u));
    if (e.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR)
        a->sipi_vector = (uint8_t)e.sipi_vector;
    if (e.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT)
        a->triple_fault = e.triple_fault.pending;
    return 0;
}

void events_clear(struct vcpu *v)
{
    struct vcpu_api *a = v->api;
    v->ev.exc_pending = v->ev.irq_pending = v->ev.nmi_injected = v->ev.nmi_masked = false;
    atomic_store(&v->ev.nmi_pending, 0);
    a->exc_has_payload = a->exc_injected = a->triple_fault = false;
    a->ext_vector = -1;
}

void events_queue_exception(struct vcpu *v, uint8_t vector, bool has_error, uint32_t error)
{
    v->ev.exc_pending = true;
    v->ev.exc_vector = vector;
    v->ev.exc_has_error = has_error;
    v->ev.exc_error = error;
    v->api->exc_injected = false;
    v->api->exc_has_payload = false;
}

int events_get_mp_state(struct vcpu *v, void *arg)
{
    struct kvm_mp_state *s = arg;
    run_accept_init_sipi(v);
    s->mp_state = atomic_load(&v->mp_state);
    return 0;
}

int events_set_mp_state(struct vcpu *v, void *arg)
{
    uint32_t state = ((const struct kvm_mp_state *)arg)->mp_state;
    switch (state) {
    case KVM_MP_STATE_RUNNABLE:
        break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
    case KVM_MP_STATE_HALTED:
    case KVM_MP_STATE_SIPI_RECEIVED:
        if (!v->lapic) /* who waits for INIT, SIPI or an interrupt is user space then */
            return -EINVAL;
        break;
    default:
        return -EINVAL;
    }
    v->api->sipi_forced = state == KVM_MP_STATE_SIPI_RECEIVED;
    if (v->api->sipi_forced)
        state = KVM_MP_STATE_INIT_RECEIVED;
    if (state != KVM_MP_STATE_RUNNABLE)
        exits_drop(v);
    atomic_store(&v->mp_state, state);
    cpu_request(v, REQ_EVENT);
    return 0;
}

int events_interrupt(struct vcpu *v, void *arg)
{
    uint32_t irq = ((const struct kvm_interrupt *)arg)->irq;
    if (irq >= KVM_NR_INTERRUPTS)
        return -EINVAL;
    if (!v->vm->irqchip) {
        v->ev.irq_pending = true;
        v->ev.irq_soft = false;
        v->ev.irq_vector = (uint8_t)irq;
        return 0;
    }
    if (!v->vm->split_irqchip)
        return -ENXIO;
    if (v->api->ext_vector >= 0)
        return -EEXIST;
    v->api->ext_vector = (int)irq;
    cpu_request(v, REQ_EVENT);
    return 0;
}

/* At most one more may wait behind one that is being handled; two otherwise, as KVM has it. */
int events_nmi(struct vcpu *v, void *arg)
{
    (void)arg;
    unsigned limit = v->ev.nmi_masked || v->ev.nmi_injected ? 1 : 2;
    unsigned now = atomic_load(&v->ev.nmi_pending);
    while (now < limit && !atomic_compare_exchange_weak(&v->ev.nmi_pending, &now, now + 1))
        ;
    cpu_request(v, REQ_EVENT);
    return 0;
}
