// SPDX-License-Identifier: GPL-2.0-or-later
/* KVM_GET/SET_FPU, XSAVE, XSAVE2 and XCRS; the layouts are x86/fpu.h's. */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/fpu.h"
#include "softkvm/x86/mem.h"

int fpustate_get_fpu(struct vcpu *v, void *arg)
{
    memset(arg, 0, sizeof(struct kvm_fpu));
    fpu_get_kvm(v, arg);
    return 0;
}

int fpustate_set_fpu(struct vcpu *v, void *arg)
{
    fpu_set_kvm(v, arg);
    return 0;
}

/* The area never exceeds struct kvm_xsave (no component of AMX is offered), so KVM_GET_XSAVE2 is the same. */
int fpustate_get_xsave(struct vcpu *v, void *arg)
{
    fpu_get_xsave(v, arg, fpu_xsave_size());
    return 0;
}

int fpustate_set_xsave(struct vcpu *v, void *arg)
{
    uint32_t pkru = v->pkru;
    int err = fpu_set_xsave(v, arg, fpu_xsave_size(), api_supported_xcr0());
    if (v->pkru != pkru)
        mmu_flush_all(v);
    return err;
}

int fpustate_get_xcrs(struct vcpu *v, void *arg)
{
    struct kvm_xcrs *x = arg;
    memset(x, 0, sizeof(*x));
    x->nr_xcrs = 1;
    x->xcrs[0].value = v->xcr0;
    return 0;
}

int fpustate_set_xcrs(struct vcpu *v, void *arg)
{
    const struct kvm_xcrs *x = arg;
    uint32_t n = x->nr_xcrs;
    if (n > KVM_MAX_XCRS || x->flags)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        if (x->xcrs[i].xcr != 0) /* only XCR0 exists; others are passed over, as KVM does */
            continue;
        return cpu_set_xcr0(v, x->xcrs[i].value) ? 0 : -EINVAL;
    }
    return 0;
}
