// SPDX-License-Identifier: GPL-2.0-or-later
/* The ioctls that carry tables of MSRs and of CPUID leaves; what is in them is x86/msr.c's and x86/cpuid.c's. */
#include <errno.h>
#include <string.h>

#include "softkvm/api/api.h"

/* ---- MSRs ---- */

/* Both directions stop at the first entry that fails and tell how many went well. */
int tables_get_msrs(struct vcpu *v, void *arg)
{
    struct kvm_msrs *m = arg;
    uint32_t n = m->nmsrs;
    if (n >= API_MAX_MSR_ENTRIES)
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++)
        if (msr_read(v, m->entries[i].index, (uint64_t *)&m->entries[i].data, true))
            return (int)i;
    return (int)n;
}

int tables_set_msrs(struct vcpu *v, void *arg)
{
    const struct kvm_msrs *m = arg;
    uint32_t n = m->nmsrs;
    if (n >= API_MAX_MSR_ENTRIES)
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++)
        if (msr_write(v, m->entries[i].index, m->entries[i].data, true))
            return (int)i;
    return (int)n;
}

static int copy_list(struct kvm_msr_list *list, const uint32_t *indices, unsigned count)
{
    uint32_t room = list->nmsrs;
    list->nmsrs = count; /* also when it does not fit: that is how user space learns */
    if (room < count)
        return -E2BIG;
    memcpy(list->indices, indices, count * sizeof(indices[0]));
    return 0;
}

int tables_msr_list(void *arg)
{
    return copy_list(arg, msr_list, msr_list_count);
}

int tables_feature_msr_list(void *arg)
{
    return copy_list(arg, msr_feature_list, msr_feature_list_count);
}

int tables_feature_msrs(void *arg)
{
    struct kvm_msrs *m = arg;
    uint32_t n = m->nmsrs;
    if (n >= API_MAX_MSR_ENTRIES)
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++)
        if (msr_feature_read(m->entries[i].index, (uint64_t *)&m->entries[i].data))
            return (int)i;
    return (int)n;
}

/* ---- CPUID ---- */

int tables_supported_cpuid(void *arg)
{
    struct kvm_cpuid2 *c = arg;
    unsigned n = MIN(c->nent, (uint32_t)API_MAX_CPUID_ENTRIES);
    if (n < 1)
        return -E2BIG;
    int err = cpuid_supported(c->entries, &n);
    if (!err)
        c->nent = n;
    return err;
}

/* Nothing is emulated beyond what KVM_GET_SUPPORTED_CPUID names. */
int tables_emulated_cpuid(void *arg)
{
    struct kvm_cpuid2 *c = arg;
    if (c->nent < 1)
        return -E2BIG;
    c->nent = 0;
    return 0;
}

/* Is this the vCPU's table, but for what its state decides? */
static bool same_table(const struct vcpu *v, const struct kvm_cpuid_entry2 *entries, unsigned n)
{
    if (n != v->cpuid_count)
        return false;
    for (unsigned i = 0; i < n; i++) {
        struct kvm_cpuid_entry2 is = v->cpuid[i], new = entries[i];
        cpuid_patch(v, &is);
        cpuid_patch(v, &new);
        if (memcmp(&is, &new, sizeof(is)))
            return false;
    }
    return true;
}

/* After the first KVM_RUN the table may only be set to what it is: the guest has seen it. */
static int set_table(struct vcpu *v, const struct kvm_cpuid_entry2 *entries, unsigned n)
{
    if (v->api->ran)
        return same_table(v, entries, n) ? 0 : -EINVAL;
    return cpuid_set(v, entries, n);
}

int tables_set_cpuid2(struct vcpu *v, void *arg)
{
    const struct kvm_cpuid2 *c = arg;
    return c->nent > API_MAX_CPUID_ENTRIES ? -E2BIG : set_table(v, c->entries, c->nent);
}

int tables_set_cpuid(struct vcpu *v, void *arg)
{
    const struct kvm_cpuid *c = arg;
    uint32_t n = c->nent;
    if (n > API_MAX_CPUID_ENTRIES)
        return -E2BIG;
    AUTO_FREE struct kvm_cpuid_entry2 *entries = calloc(n + 1, sizeof(*entries));
    if (!entries)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        const struct kvm_cpuid_entry *e = &c->entries[i];
        entries[i] = (struct kvm_cpuid_entry2){.function = e->function, .eax = e->eax, .ebx = e->ebx, .ecx = e->ecx, .edx = e->edx};
    }
    return set_table(v, entries, n);
}

int tables_get_cpuid2(struct vcpu *v, void *arg)
{
    struct kvm_cpuid2 *c = arg;
    if (c->nent < v->cpuid_count)
        return -E2BIG;
    for (unsigned i = 0; i < v->cpuid_count; i++) {
        c->entries[i] = v->cpuid[i];
        cpuid_patch(v, &c->entries[i]);
    }
    c->nent = v->cpuid_count;
    return 0;
}
