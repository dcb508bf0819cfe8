// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_SET_GUEST_DEBUG: the state; what it does to the guest is x86/debug.c's. */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/debug.h"

int guestdebug_set(struct vcpu *v, void *arg)
{
    const struct kvm_guest_debug *d = arg;
    uint32_t inject = d->control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);
    if (inject) {
        if (v->ev.exc_pending)
            return -EBUSY;
        events_queue_exception(v, inject & KVM_GUESTDBG_INJECT_DB ? EXC_DB : EXC_BP, false, 0);
    }
    v->guest_debug = *d;
    v->guest_debug.control &= ~(uint32_t)(KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP);
    if (!(d->control & KVM_GUESTDBG_ENABLE))
        v->guest_debug.control = 0;
    debug_update(v);
    cpu_request(v, REQ_TLB_FLUSH); /* the debugger has written breakpoints into the guest's memory, or taken them out */
    return 0;
}
