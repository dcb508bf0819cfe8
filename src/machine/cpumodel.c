// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * CPUID for guests (SDM vol. 2A, CPUID; AMD APM vol. 3, appendix E). The guest has one socket with one thread per core; APIC IDs
 * count from zero without gaps.
 */
#include "machine/cpumodel.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"

/* Leaf 1. */
enum { L1_ECX_TSC_DEADLINE = 1 << 24, L1_EDX_HTT = 1 << 28 };
#define PHYSICAL_BITS_MIN 36u /* every 64-bit CPU has as many (SDM vol. 3, 4.1.4) */
#define L1_ECX_HYPERVISOR (1u << 31)
/* Leaf 7. */
enum { L7_EBX_AVX512F = 1 << 16, L7_EBX_SMAP = 1 << 20 };
/* What leaf 7 says of AVX-512: F DQ IFMA PF ER CD BW VL; VBMI VBMI2 VNNI BITALG VPOPCNTDQ; 4VNNIW 4FMAPS VP2INTERSECT FP16; BF16 in subleaf 1. */
#define L7_EBX_AVX512   0xdc230000u
#define L7_ECX_AVX512   0x00005842u
#define L7_EDX_AVX512   0x0080010cu
#define L7_1_EAX_AVX512 0x00000020u
/* Leaf 0x80000001, AMD. */
enum { EXT_ECX_CMP_LEGACY = 1 << 1, EXT_ECX_TOPOEXT = 1 << 22 };

enum { LEAF_CACHE = 4, LEAF_FEATURES = 7, LEAF_TOPOLOGY = 0xb, LEAF_XSTATE = 0xd, LEAF_TSC = 0x15, LEAF_TOPOLOGY2 = 0x1f };
enum { LEAF_HYPERVISOR = 0x40000000, LEAF_TIMING = 0x40000010 };
enum { LEVEL_THREAD = 1, LEVEL_CORE = 2 };

/* XCR0's components: opmasks, upper halves of ZMM0 to 15, ZMM16 to 31. An area has a header behind the 512 bytes of x87 and SSE: SDM vol. 1, 13.4. */
enum { XCR0_AVX512 = 7 << 5, XSAVE_HEADER_END = 576 };

#define LAPIC_TIMER_HZ 1000000000u /* KVM's LAPIC timer counts nanoseconds */

/* Bits that hold 0 to n-1. */
static unsigned bits_for(unsigned n)
{
    return n > 1 ? 32 - (unsigned)__builtin_clz(n - 1) : 0;
}

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *model, unsigned function, unsigned index)
{
    for (unsigned i = 0; i < model->nent; i++) {
        struct kvm_cpuid_entry2 *e = &model->entries[i];
        if (e->function == function && (e->index == index || !(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX)))
            return e;
    }
    return NULL;
}

static void drop(struct kvm_cpuid2 *model, unsigned function)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < model->nent; i++) {
        if (model->entries[i].function != function)
            model->entries[kept++] = model->entries[i];
    }
    model->nent = kept;
}

static struct kvm_cpuid_entry2 *add(struct kvm_cpuid2 *model, unsigned function, unsigned index, bool indexed)
{
    if (model->nent == CPUMODEL_MAX)
        return NULL;
    struct kvm_cpuid_entry2 *e = &model->entries[model->nent++];
    *e = (struct kvm_cpuid_entry2){.function = function, .index = index, .flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0};
    return e;
}

/* Leaves 0xb and 0x1f: threads of a core (one), then cores of the package, then an empty level. EDX is the APIC ID. */
static void put_topology(struct kvm_cpuid2 *model, unsigned leaf, unsigned ncpus)
{
    const struct {
        unsigned shift, count, type;
    } levels[] = {{0, 1, LEVEL_THREAD}, {bits_for(ncpus), ncpus, LEVEL_CORE}, {0, 0, 0}};
    drop(model, leaf);
    for (unsigned i = 0; i < ARRAY_SIZE(levels); i++) {
        struct kvm_cpuid_entry2 *e = add(model, leaf, i, true);
        if (!e)
            return;
        e->eax = levels[i].shift;
        e->ebx = levels[i].count;
        e->ecx = levels[i].type << 8 | i;
    }
}

/* Leaf 4 and AMD's 0x8000001d: who shares a cache. The last level belongs to all cores, the others to one. */
static void share_caches(struct kvm_cpuid2 *model, unsigned leaf, unsigned ncpus)
{
    unsigned cores = (1u << bits_for(ncpus)) - 1;
    for (unsigned i = 0; i < model->nent; i++) {
        struct kvm_cpuid_entry2 *e = &model->entries[i];
        if (e->function != leaf || (e->eax & 0x1f) == 0)
            continue;
        unsigned level = e->eax >> 5 & 7;
        e->eax = (e->eax & 0x3fff) | (level >= 3 ? MIN(cores, 0xfffu) << 14 : 0);
        if (leaf == LEAF_CACHE)
            e->eax |= MIN(cores, 0x3fu) << 26;
    }
}

static void set_topology(struct kvm_cpuid2 *model, unsigned ncpus)
{
    struct kvm_cpuid_entry2 *basic = find(model, 0, 0), *features = find(model, 1, 0);
    struct kvm_cpuid_entry2 *ext = find(model, 0x80000001, 0), *sizes = find(model, 0x80000008, 0);
    unsigned max = basic ? basic->eax : 0;
    if (features) {
        features->ebx = (features->ebx & 0xff00ffff) | MIN(1u << bits_for(ncpus), 255u) << 16;
        features->edx = ncpus > 1 ? features->edx | L1_EDX_HTT : features->edx & ~(uint32_t)L1_EDX_HTT;
    }
    if (ext && basic && basic->ebx == 0x68747541) { /* "Auth": AMD */
        ext->ecx = ncpus > 1 ? ext->ecx | EXT_ECX_CMP_LEGACY : ext->ecx & ~(uint32_t)EXT_ECX_CMP_LEGACY;
        if (sizes)
            sizes->ecx = bits_for(ncpus) << 12 | MIN(ncpus - 1, 0xffu);
    }
    share_caches(model, LEAF_CACHE, ncpus);
    share_caches(model, 0x8000001d, ncpus);
    if (max >= LEAF_TOPOLOGY)
        put_topology(model, LEAF_TOPOLOGY, ncpus);
    if (max >= LEAF_TOPOLOGY2)
        put_topology(model, LEAF_TOPOLOGY2, ncpus);
}

/*
 * The guest kernel without SMAP spares itself stac and clac around every access to user memory, which softkvm would have to
 * interpret; KVM guests get the same CPU, so that they can move. The TSC deadline timer is KVM's own, so KVM_GET_SUPPORTED_CPUID
 * leaves it out.
 */
static void set_features(struct board *b, struct kvm_cpuid2 *model)
{
    struct kvm_cpuid_entry2 *features = find(model, 1, 0), *more = find(model, LEAF_FEATURES, 0);
    if (features) {
        features->ecx |= L1_ECX_HYPERVISOR;
        if (board_ioctl(b, b->vm.vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_TSC_DEADLINE_TIMER) > 0)
            features->ecx |= L1_ECX_TSC_DEADLINE;
    }
    if (more)
        more->ebx &= ~(uint32_t)L7_EBX_SMAP;
}

static bool has_avx512(struct kvm_cpuid2 *model)
{
    const struct kvm_cpuid_entry2 *features = find(model, LEAF_FEATURES, 0);
    return features && (features->ebx & L7_EBX_AVX512F);
}

/* The bytes of an XSAVE area for all of the model's components; those of the ones that XCR0 enables the accelerator tells by itself. */
static void set_area_size(struct kvm_cpuid2 *model, struct kvm_cpuid_entry2 *state)
{
    state->ecx = XSAVE_HEADER_END;
    for (unsigned n = 2; n < 32; n++) {
        const struct kvm_cpuid_entry2 *component = find(model, LEAF_XSTATE, n);
        if (component && (state->eax >> n & 1))
            state->ecx = MAX(state->ecx, component->eax + component->ebx);
    }
}

static void drop_avx512(struct kvm_cpuid2 *model)
{
    struct kvm_cpuid_entry2 *features = find(model, LEAF_FEATURES, 0), *more = find(model, LEAF_FEATURES, 1), *state;
    if (features) {
        features->ebx &= ~L7_EBX_AVX512;
        features->ecx &= ~L7_ECX_AVX512;
        features->edx &= ~L7_EDX_AVX512;
    }
    if (more)
        more->eax &= ~L7_1_EAX_AVX512;
    unsigned kept = 0;
    for (unsigned i = 0; i < model->nent; i++) {
        const struct kvm_cpuid_entry2 *e = &model->entries[i];
        if (e->function != LEAF_XSTATE || e->index < 5 || e->index > 7)
            model->entries[kept++] = *e;
    }
    model->nent = kept;
    if ((state = find(model, LEAF_XSTATE, 0))) {
        state->eax &= ~(uint32_t)XCR0_AVX512;
        set_area_size(model, state);
    }
}

/* On softkvm a guest has AVX-512 only if it asks, as its state is four times as large. On KVM that costs nothing, and programs expect what the host has. */
static int set_avx512(struct board *b, struct kvm_cpuid2 *model, bool wanted, struct error *err)
{
    if (wanted && !has_avx512(model))
        return error_set(err, 0, "CPU feature 'avx512': %s does not offer it on this host; leave it out", b->vm.accel->name);
    if (!wanted && b->vm.accel->kind == DOMAIN_ACCEL_SOFTKVM)
        drop_avx512(model);
    return 0;
}

static void set_address_bits(struct kvm_cpuid2 *model, unsigned physical)
{
    struct kvm_cpuid_entry2 *sizes = find(model, 0x80000008, 0);
    if (sizes)
        sizes->eax = (sizes->eax & ~0xffu) | physical;
}

/* What the accelerator offers; to be freed. NULL with err. */
static struct kvm_cpuid2 *offered(struct board *b, struct error *err)
{
    struct kvm_cpuid2 *model = calloc(1, sizeof *model + CPUMODEL_MAX * sizeof model->entries[0]);
    if (!model) {
        error_set(err, ENOMEM, "CPU model: out of memory");
        return NULL;
    }
    model->nent = CPUMODEL_MAX;
    if (board_ioctl(b, b->vm.sys_fd, KVM_GET_SUPPORTED_CPUID, model) < 0) {
        error_set(err, errno, "%s: cannot say which CPU it offers: %s; use another accelerator with --accel", b->vm.accel->name,
                  strerror(errno));
        free(model);
        return NULL;
    }
    return model;
}

struct kvm_cpuid2 *cpumodel_create(struct board *b, unsigned ncpus, bool avx512, struct error *err)
{
    struct kvm_cpuid2 *model = offered(b, err);
    if (!model)
        return NULL;
    if (set_avx512(b, model, avx512, err) < 0) {
        free(model);
        return NULL;
    }
    set_features(b, model);
    set_address_bits(model, b->physical_bits);
    set_topology(model, ncpus);
    return model;
}

unsigned cpumodel_physical_bits(struct board *b)
{
    AUTO_FREE struct kvm_cpuid2 *model = offered(b, NULL);
    const struct kvm_cpuid_entry2 *sizes = model ? find(model, 0x80000008, 0) : NULL;
    return sizes ? MAX(sizes->eax & 0xff, PHYSICAL_BITS_MIN) : PHYSICAL_BITS_MIN;
}

void cpumodel_set_cpu(struct kvm_cpuid2 *model, unsigned apic_id)
{
    for (unsigned i = 0; i < model->nent; i++) {
        struct kvm_cpuid_entry2 *e = &model->entries[i];
        switch (e->function) {
        case 1:
            e->ebx = (e->ebx & 0x00ffffff) | (apic_id & 0xff) << 24;
            break;
        case LEAF_TOPOLOGY:
        case LEAF_TOPOLOGY2:
            e->edx = apic_id;
            break;
        case 0x8000001e: /* AMD: extended APIC ID, core ID, one thread per core, node 0 */
            e->eax = apic_id;
            e->ebx = apic_id & 0xff;
            e->ecx = 0;
            break;
        default:
            break;
        }
    }
}

/*
 * Leaf 0x15: TSC frequency = crystal * EBX / EAX. The crystal also drives the LAPIC timer (SDM vol. 3, 10.5.4), and KVM's runs at 1
 * GHz: with EAX = 10^6 and EBX = the TSC's kHz both come out right.
 */
static void set_tsc_ratio(struct kvm_cpuid2 *model, unsigned tsc_khz)
{
    struct kvm_cpuid_entry2 *basic = find(model, 0, 0), *e;
    if (!basic || basic->eax < LEAF_TSC)
        return;
    drop(model, LEAF_TSC);
    if (!(e = add(model, LEAF_TSC, 0, false)))
        return;
    e->eax = 1000000;
    e->ebx = tsc_khz;
    e->ecx = LAPIC_TIMER_HZ;
}

/* Leaf 0x40000010: both frequencies in kHz, as hypervisors tell them to guests that ask before they look for kvmclock. */
static void set_hypervisor_timing(struct kvm_cpuid2 *model, unsigned tsc_khz)
{
    struct kvm_cpuid_entry2 *first = find(model, LEAF_HYPERVISOR, 0), *e;
    if (!first || first->eax < LEAF_HYPERVISOR)
        return;
    drop(model, LEAF_TIMING);
    if (!(e = add(model, LEAF_TIMING, 0, false)))
        return;
    e->eax = tsc_khz;
    e->ebx = LAPIC_TIMER_HZ / 1000;
    first = find(model, LEAF_HYPERVISOR, 0);
    first->eax = MAX(first->eax, (unsigned)LEAF_TIMING);
}

void cpumodel_set_tsc(struct kvm_cpuid2 *model, unsigned tsc_khz)
{
    if (!tsc_khz)
        return;
    set_tsc_ratio(model, tsc_khz);
    set_hypervisor_timing(model, tsc_khz);
}
