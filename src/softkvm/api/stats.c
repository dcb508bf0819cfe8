// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Statistics as KVM gives them (KVM_GET_STATS_FD; Documentation/virt/kvm/api.rst, 4.133): a file with a header, a description of each
 * figure, and the figures. Names are KVM's where there is the same thing.
 *
 * The file is a memfd that is mapped here. A vCPU counts in its own structure and copies its figures there when it leaves KVM_RUN
 * and when it halts: a reader is never further behind than that.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "softkvm/api/api.h"

#define NAME_SIZE 48

struct figure {
    const char *name;
    uint32_t at; /* of a uint64_t in struct vcpu, or in struct bt_usage */
    uint32_t unit;
    uint32_t type; /* does it grow, is it what there is now, or the most there was? */
};

#define GROWS(name, field, unit) {name, offsetof(struct vcpu, field), unit, KVM_STATS_TYPE_CUMULATIVE}
#define COUNT(name, field)       GROWS(name, field, KVM_STATS_UNIT_NONE)
static const struct figure vcpu_figures[] = {
    COUNT("exits", stats.exits),
    COUNT("io_exits", stats.io_exits),
    COUNT("mmio_exits", stats.mmio_exits),
    COUNT("irq_window_exits", stats.irq_window_exits),
    COUNT("debug_exits", stats.debug_exits),
    COUNT("signal_exits", stats.signal_exits),
    COUNT("halts", stats.halts),
    COUNT("halt_attempted_poll", stats.polls),
    COUNT("halt_successful_poll", stats.polls_woken),
    COUNT("pause_yields", stats.pause_yields),
    COUNT("irq_injections", stats.irq_delivered),
    COUNT("tlb_misses", stats.tlb_misses),
    COUNT("tlb_flush", stats.tlb_flushes),
    COUNT("insn_emulation", stats.insns),
    COUNT("decode_misses", stats.decode_misses),
    COUNT("bt_translations", bt.stats.translated),
    GROWS("bt_translation_cycles", bt.stats.translating, KVM_STATS_UNIT_CYCLES),
    COUNT("bt_invalidations", bt.stats.invalidated),
    COUNT("bt_emulations", bt.stats.interps),
    COUNT("bt_lookups", bt.stats.lookups),
    COUNT("bt_links", bt.stats.links),
    COUNT("bt_polls", bt.stats.polls),
    COUNT("bt_flushes", bt.stats.flushes),
    COUNT("direct_stops", stats.direct_stops),
    GROWS("direct_cycles", stats.direct_cycles, KVM_STATS_UNIT_CYCLES),
    COUNT("direct_flushes", stats.direct_flushes),
};

#define NOW(name, field, unit) {name, offsetof(struct bt_usage, field), unit, KVM_STATS_TYPE_INSTANT}
static const struct figure vm_figures[] = {
    NOW("bt_blocks", blocks, KVM_STATS_UNIT_NONE),
    NOW("bt_code_bytes", code, KVM_STATS_UNIT_BYTES),
    NOW("bt_code_limit", code_limit, KVM_STATS_UNIT_BYTES),
    NOW("bt_table_bytes", tables, KVM_STATS_UNIT_BYTES),
    {"bt_cache_flushes", offsetof(struct bt_usage, flushes), KVM_STATS_UNIT_NONE, KVM_STATS_TYPE_CUMULATIVE},
    {"bt_cache_flush_max", offsetof(struct bt_usage, flush_max), KVM_STATS_UNIT_SECONDS, KVM_STATS_TYPE_PEAK},
    {"bt_cache_flush_cpu_max", offsetof(struct bt_usage, flush_cpu_max), KVM_STATS_UNIT_SECONDS, KVM_STATS_TYPE_PEAK},
};

/* ---- the file ---- */

/* A kvm_stats_desc, whose name has no size in C. */
struct desc {
    struct kvm_stats_desc d;
    char name[NAME_SIZE];
};
struct layout {
    struct kvm_stats_header header;
    char id[NAME_SIZE];
    struct desc desc[];
};
_Static_assert(sizeof(struct desc) == sizeof(struct kvm_stats_desc) + NAME_SIZE, "names follow at once");

static size_t data_offset(unsigned n)
{
    return ALIGN_UP(sizeof(struct layout) + n * sizeof(struct desc), 8u);
}

static void describe(struct layout *l, const char *id, const struct figure *figures, unsigned n)
{
    l->header = (struct kvm_stats_header){
        .name_size = NAME_SIZE,
        .num_desc = n,
        .id_offset = offsetof(struct layout, id),
        .desc_offset = offsetof(struct layout, desc),
        .data_offset = (uint32_t)data_offset(n),
    };
    snprintf(l->id, NAME_SIZE, "%s", id);
    for (unsigned i = 0; i < n; i++) {
        l->desc[i].d = (struct kvm_stats_desc){
            .flags = figures[i].type | figures[i].unit | KVM_STATS_BASE_POW10,
            .exponent = figures[i].unit == KVM_STATS_UNIT_SECONDS ? -9 : 0,
            .size = 1,
            .offset = 8 * i,
        };
        snprintf(l->desc[i].name, NAME_SIZE, "%s", figures[i].name);
    }
}

static void publish(const struct stats_file *f, const struct figure *figures, unsigned n, const void *from)
{
    uint64_t *data = (uint64_t *)(void *)((uint8_t *)f->map + data_offset(n));
    for (unsigned i = 0; i < n; i++) {
        const uint64_t *figure = (const void *)((const uint8_t *)from + figures[i].at);
        __atomic_store_n(&data[i], __atomic_load_n(figure, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
    }
}

/* A program may have closed our descriptor with those that it does not know. */
static bool still_ours(const struct stats_file *f)
{
    struct stat st;
    return fstat(f->fd, &st) == 0 && st.st_dev == f->dev && st.st_ino == f->ino;
}

static int file_create(struct stats_file *f, const char *id, const struct figure *figures, unsigned n)
{
    AUTO_CLOSE int fd = memfd_create("softkvm-stats", MFD_CLOEXEC);
    size_t size = data_offset(n) + 8 * n;
    struct stat st;
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || fstat(fd, &st) < 0)
        return -errno;
    void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    describe(map, id, figures, n);
    f->dev = st.st_dev;
    f->ino = st.st_ino;
    f->size = size;
    f->fd = steal_fd(&fd);
    __atomic_store_n(&f->map, map, __ATOMIC_RELEASE);
    return 0;
}

void stats_free(struct stats_file *f)
{
    if (!f->map)
        return;
    munmap(f->map, f->size);
    if (still_ours(f))
        close(f->fd);
}

/* Each reader has a position of its own in the file, and may not write. */
static int reader(const struct stats_file *f)
{
    char path[32];
    if (!still_ours(f))
        return -EBADF;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ---- whose they are ---- */

static void vm_publish(struct softkvm_vm *vm)
{
    struct bt_usage u = bt_usage(vm);
    u.flush_max = (uint64_t)((unsigned __int128)u.flush_max * 1000000 / host_tsc_khz()); /* ns */
    publish(&vm->api->stats, vm_figures, ARRAY_SIZE(vm_figures), &u);
}

void stats_publish(struct vcpu *v)
{
    if (unlikely(v->api->stats.map))
        publish(&v->api->stats, vcpu_figures, ARRAY_SIZE(vcpu_figures), v);
    if (unlikely(__atomic_load_n(&v->vm->api->stats.map, __ATOMIC_ACQUIRE)))
        vm_publish(v->vm);
}

int stats_vm_fd(struct softkvm_vm *vm, void *arg)
{
    (void)arg;
    struct stats_file *f = &vm->api->stats;
    pthread_mutex_lock(&vm->lock);
    int err = f->map ? 0 : file_create(f, "kvm-softkvm", vm_figures, ARRAY_SIZE(vm_figures));
    pthread_mutex_unlock(&vm->lock);
    if (err)
        return err;
    vm_publish(vm);
    return reader(f);
}

int stats_vcpu_fd(struct vcpu *v, void *arg)
{
    (void)arg;
    struct stats_file *f = &v->api->stats;
    char id[NAME_SIZE];
    snprintf(id, sizeof(id), "kvm-softkvm/vcpu-%u", v->id);
    int err = f->map ? 0 : file_create(f, id, vcpu_figures, ARRAY_SIZE(vcpu_figures));
    if (err)
        return err;
    stats_publish(v);
    return reader(f);
}
