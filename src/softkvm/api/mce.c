// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Machine checks: KVM_X86_SETUP_MCE and KVM_X86_SET_MCE. SDM vol. 3, 15.3.
 *
 * Banks are four words in v->msr.mc_banks: control, status, address, misc.
 */
#include <errno.h>

#include "softkvm/api/api.h"

#define MCG_CTL_P       BIT64(8)
#define MCG_SER_P       BIT64(24)
#define MCG_STATUS_MCIP BIT64(2)
#define MCI_STATUS_VAL  BIT64(63)
#define MCI_STATUS_OVER BIT64(62)
#define MCI_STATUS_UC   BIT64(61)
#define MCI_STATUS_PCC  BIT64(57)
#define MCI_STATUS_S    BIT64(56)
#define MCI_STATUS_AR   BIT64(55)

const uint64_t mce_supported = MCG_CTL_P | MCG_SER_P;

int mce_setup(struct vcpu *v, void *arg)
{
    uint64_t cap = *(const uint64_t *)arg, banks = cap & 0xff;
    if (!banks || banks > API_MCE_BANKS || (cap & ~(mce_supported | 0xff | 0xff0000)))
        return -EINVAL;
    v->msr.mcg_cap = cap;
    if (cap & MCG_CTL_P)
        v->msr.mcg_ctl = ~0ull;
    for (unsigned i = 0; i < banks; i++)
        v->msr.mc_banks[4 * i] = ~0ull;
    return 0;
}

/* Uncorrected, but no action is required (SDM vol. 3, 15.6.3): logged, and signaled by CMCI, which is not offered. */
static bool no_action(const struct kvm_x86_mce *m)
{
    return !m->mcg_status && !(m->status & (MCI_STATUS_PCC | MCI_STATUS_S | MCI_STATUS_AR));
}

static void log_error(uint64_t *bank, const struct kvm_x86_mce *m, uint64_t status)
{
    bank[1] = status;
    bank[2] = m->addr;
    bank[3] = m->misc;
}

/* An error that software must handle: #MC, or a shutdown when the guest cannot take it. */
static void uncorrected(struct vcpu *v, uint64_t *bank, const struct kvm_x86_mce *m)
{
    bool all_on = (!(v->msr.mcg_cap & MCG_CTL_P) || v->msr.mcg_ctl == ~0ull) && bank[0] == ~0ull;
    if (!all_on)
        return;
    if ((v->msr.mcg_status & MCG_STATUS_MCIP) || !(v->cr4 & CR4_MCE)) {
        v->api->triple_fault = true;
        return;
    }
    log_error(bank, m, m->status | (bank[1] & MCI_STATUS_VAL ? MCI_STATUS_OVER : 0));
    v->msr.mcg_status = m->mcg_status;
    events_queue_exception(v, EXC_MC, false, 0);
}

/* One that is only logged; it never overwrites an uncorrected one. */
static void corrected(uint64_t *bank, const struct kvm_x86_mce *m)
{
    bool valid = bank[1] & MCI_STATUS_VAL;
    if (valid && (bank[1] & MCI_STATUS_UC)) {
        bank[1] |= MCI_STATUS_OVER;
        return;
    }
    log_error(bank, m, m->status | (valid ? MCI_STATUS_OVER : 0));
}

int mce_inject(struct vcpu *v, void *arg)
{
    const struct kvm_x86_mce *m = arg;
    if (m->bank >= (v->msr.mcg_cap & 0xff) || !(m->status & MCI_STATUS_VAL))
        return -EINVAL;
    uint64_t *bank = &v->msr.mc_banks[4 * m->bank];
    if ((m->status & MCI_STATUS_UC) && no_action(m))
        log_error(bank, m, m->status);
    else if (m->status & MCI_STATUS_UC)
        uncorrected(v, bank, m);
    else
        corrected(bank, m);
    return 0;
}
