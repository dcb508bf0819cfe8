// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The translator's memory: the code cache of a VM, twice mapped, and the page tables of its vCPUs. SOFTKVM_ENGINE=interp|bt chooses
 * the engine.
 */
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "softkvm/api/api.h"
#include "softkvm/x86/bt_check.h"
#include "softkvm/x86/bt_priv.h"

#define DEFAULT_WARM_UP 6 /* docs/softkvm.md has the figures */
#define DEFAULT_CACHE (64 * MIB)
#define HWCAP2_FSGS 2

void *engine_reserve(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, bytes, MADV_DONTDUMP);
    return p;
}

/* Address space that begins at a multiple of a huge page, as a piece of the cache does then (bt_collapse()); NULL: none. */
static uint8_t *reserve_aligned(uint64_t bytes)
{
    uint8_t *p = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    uint64_t skip = -(uint64_t)(uintptr_t)p & (HUGE_PAGE - 1);
    if (skip)
        munmap(p, skip);
    munmap(p + skip + bytes, HUGE_PAGE - skip);
    return p + skip;
}

static int map_code(struct bt *bt, uint64_t bytes)
{
    AUTO_CLOSE int fd = memfd_create("softkvm-code", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
        return -errno;
    void *rw = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    uint8_t *place = reserve_aligned(bytes);
    void *rx = mmap(place, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | (place ? MAP_FIXED : 0), fd, 0);
    bt->rw = rw == MAP_FAILED ? NULL : rw;
    bt->rx = rx == MAP_FAILED ? NULL : rx;
    bt->size = bytes;
    return bt->rw && bt->rx ? 0 : -ENOMEM;
}

static void unmap(const void *p, uint64_t bytes)
{
    if (p)
        munmap((void *)(uintptr_t)p, bytes);
}

static bool host_can(void)
{
    return (getauxval(AT_HWCAP2) & HWCAP2_FSGS) && __builtin_cpu_supports("bmi2");
}

/* SOFTKVM_CACHE=SIZE, with K, M or G behind the number; what is no size, or too small or large a one, counts for the nearest that is. */
static uint64_t cache_bytes(void)
{
    const char *text = getenv("SOFTKVM_CACHE");
    char *end = NULL;
    uint64_t bytes = text ? strtoull(text, &end, 10) : 0;
    if (!text || end == text)
        return DEFAULT_CACHE;
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    bytes = bytes > BT_MAX_CACHE >> shift ? BT_MAX_CACHE : bytes << shift;
    return ALIGN_UP(MAX(bytes, BT_MIN_CACHE), PAGE_SIZE);
}

/* Pieces of 2 MiB, but at least eight of them; a quarter is used at first. */
static void divide(struct bt *bt, uint64_t bytes)
{
    bt->npieces = (uint32_t)MIN(MAX(bytes / (2 * MIB), 8u), (uint64_t)BT_REGIONS);
    bt->piece = (uint32_t)ALIGN_DOWN(bytes / bt->npieces, PAGE_SIZE);
    bt->live = bt->allowed = bt->npieces / 4;
}

int bt_create(struct softkvm_vm *vm)
{
    uint64_t bytes = cache_bytes();
    const char *engine = getenv("SOFTKVM_ENGINE");
    if (engine && strcmp(engine, "interp") == 0)
        return 0;
    if (!host_can())
        return -EOPNOTSUPP;
    struct bt *bt = calloc(1, sizeof *bt);
    if (!bt)
        return -ENOMEM;
    vm->bt = bt;
    int err = map_code(bt, bytes);
    divide(bt, bytes);
    bt->arena = engine_reserve(bytes);
    bt->pool = engine_reserve(BT_MAX_PAGES * sizeof *bt->pool);
    bt->code_pages = engine_reserve(BT_GPA_MAX / PAGE_SIZE / 8);
    bt->protected = engine_reserve(BT_GPA_MAX / PAGE_SIZE / 8);
    bt->blocks = engine_reserve(bytes / BT_MIN_BLOCK * sizeof *bt->blocks);
    bt->work = calloc(1, bt_xlat_size());
    if (err || !bt->arena || !bt->pool || !bt->code_pages || !bt->protected || !bt->blocks || !bt->work) {
        bt_destroy(vm);
        return err ? err : -ENOMEM;
    }
    const char *check = getenv("SOFTKVM_CHECK");
    bt->check = check ? (unsigned)strtoul(check, NULL, 10) : 0;
    const char *warm_up = getenv("SOFTKVM_WARM_UP");
    bt->warm_up = bt->check ? 0 : warm_up ? (unsigned)MIN(strtoul(warm_up, NULL, 10), 200ul) : DEFAULT_WARM_UP;
    bt->max_asides = BT_MAX_ASIDES;
    bt->evict_step = BT_EVICT_STEP;
    bt_emit_thunks(bt);
    return 0;
}

void bt_destroy(struct softkvm_vm *vm)
{
    struct bt *bt = vm->bt;
    if (!bt)
        return;
    unmap(bt->rw, bt->size);
    unmap(bt->rx, bt->size);
    unmap(bt->arena, bt->size);
    unmap(bt->pool, BT_MAX_PAGES * sizeof *bt->pool);
    unmap((const void *)bt->code_pages, BT_GPA_MAX / PAGE_SIZE / 8);
    unmap((const void *)bt->protected, BT_GPA_MAX / PAGE_SIZE / 8);
    unmap(bt->blocks, bt->size / BT_MIN_BLOCK * sizeof *bt->blocks);
    free(bt->work);
    free(bt);
    vm->bt = NULL;
}

/* What a vCPU reserves besides its tables. None of it is resident before it is used. */
static const struct {
    size_t where; /* of the pointer in struct bt_cpu */
    uint64_t bytes;
} maps[] = {
    {offsetof(struct bt_cpu, logged[BT_LOCAL]), BT_TABLE_PAGES / 8},
    {offsetof(struct bt_cpu, logged[BT_GLOBAL]), BT_TABLE_PAGES / 8},
    {offsetof(struct bt_cpu, known_code), BT_TABLE_PAGES / 8},
    {offsetof(struct bt_cpu, large), BT_TABLE_PAGES / 512 / 8},
    {offsetof(struct bt_cpu, giant), BT_TABLE_PAGES / (512 * 512) / 8},
    {offsetof(struct bt_cpu, writers), BT_GPA_MAX / PAGE_SIZE * sizeof(struct bt_writer)},
};

static void **map_of(struct bt_cpu *c, unsigned n)
{
    return (void **)(void *)((uint8_t *)c + maps[n].where);
}

#define VCPU_BYTES (2 * BT_TABLE_BYTES + BT_USER_TABLE) /* with its tables */

struct vcpu *bt_cpu_map(void)
{
    uint8_t *p = engine_reserve(VCPU_BYTES);
    struct vcpu *v = p ? (void *)(p + BT_TABLE_BYTES) : engine_reserve(BT_USER_TABLE);
    if (p) {
        madvise(p, VCPU_BYTES, MADV_NOHUGEPAGE); /* entries lie far apart */
        v->bt.has_tables = true;
    }
    return v;
}

static void free_maps(struct vcpu *v)
{
    if (v->bt.check)
        check_summary(v);
    unmap(v->bt.check, sizeof *v->bt.check);
    v->bt.check = NULL;
    for (unsigned n = 0; n < ARRAY_SIZE(maps); n++) {
        unmap(*map_of(&v->bt, n), maps[n].bytes);
        *map_of(&v->bt, n) = NULL;
    }
}

void bt_cpu_unmap(struct vcpu *v)
{
    free_maps(v);
    if (v->bt.has_tables)
        munmap((uint8_t *)v - BT_TABLE_BYTES, VCPU_BYTES);
    else
        munmap(v, BT_USER_TABLE);
}

static bool reserve_all(struct bt_cpu *c)
{
    for (unsigned n = 0; n < ARRAY_SIZE(maps); n++)
        if (!(*map_of(c, n) = engine_reserve(maps[n].bytes)))
            return false;
    return true;
}

void bt_cpu_init(struct vcpu *v)
{
    struct bt_cpu *c = &v->bt;
    if (!v->vm->bt || !c->has_tables)
        return;
    bool ok = reserve_all(c);
    if (ok && v->vm->bt->check) {
        ok = (c->check = engine_reserve(sizeof *c->check)) != NULL;
        if (ok)
            c->check->every = v->vm->bt->check;
    }
    if (!ok) {
        free_maps(v);
        return;
    }
    c->self = (uint64_t)(uintptr_t)v;
    c->on = true;
    for (unsigned ring = 0; ring < BT_RINGS; ring++)
        bt_jumps_clear(v, ring);
    bt_tlb_flush(v);
}
