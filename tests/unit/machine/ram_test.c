// SPDX-License-Identifier: GPL-2.0-or-later
/* Guest memory of every kind: it holds what is written, gives pages back, and has a descriptor exactly when others can map it. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../devices/check.h"
#include "base/guestmem.h"
#include "base/util.h"

#define LOW  (4 * MIB)
#define SIZE (10 * MIB)

/* What is written through the descriptor is the guest's memory. */
static void check_descriptor(const struct guestmem *m)
{
    for (unsigned i = 0; i < m->count; i++) {
        const struct guestmem_region *r = &m->regions[i];
        uint8_t *p = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, (off_t)r->fd_offset);
        CHECK(p != MAP_FAILED);
        p[12345] = 0x77;
        CHECK_EQ(r->host[12345], 0x77);
        munmap(p, r->size);
    }
}

static void check_discard(const struct guestmem *m)
{
    uint8_t *p = guestmem_ptr(m, 4 * GIB, 16 * PAGE_SIZE);
    CHECK(p);
    memset(p, 0x55, 16 * PAGE_SIZE);
    CHECK_EQ(guestmem_discard(m, p + 1, 5 * PAGE_SIZE), 0);
    for (unsigned i = 0; i < 16 * PAGE_SIZE; i++)
        CHECK_EQ(p[i], i >= PAGE_SIZE && i < 5 * PAGE_SIZE ? 0 : 0x55); /* only whole pages go */
    CHECK_EQ(guestmem_discard(m, p, PAGE_SIZE - 1), 0);
    CHECK_EQ(p[0], 0x55);
    p[2 * PAGE_SIZE] = 0x66;
    CHECK_EQ(p[2 * PAGE_SIZE], 0x66);
}

static void test_kind(const struct guestmem_config *cfg, bool descriptor)
{
    struct guestmem m;
    ERROR_SCOPED(err);
    if (guestmem_create(&m, cfg, &err) < 0) {
        fprintf(stderr, "%s\n", error_text(&err));
        exit(1);
    }
    CHECK_EQ(m.count, 2);
    CHECK_EQ(m.fd >= 0, descriptor);
    CHECK(!guestmem_ptr(&m, LOW - 1, 2) && guestmem_ptr(&m, LOW - 1, 1) && guestmem_ptr(&m, 4 * GIB + SIZE - LOW - 1, 1));
    CHECK(!guestmem_ptr(&m, 4 * GIB, SIZE - LOW + 1) && !guestmem_ptr(&m, UINT64_MAX, 2) && !guestmem_ptr(&m, 1, UINT64_MAX));
    if (descriptor)
        check_descriptor(&m);
    check_discard(&m);
    guestmem_free(&m);
    CHECK(m.fd == -1 && m.count == 0);
}

/* Whatever the host refuses, nothing is left, and the line says what to do. */
static void test_refused(const struct guestmem_config *cfg, const char *word)
{
    struct guestmem m;
    ERROR_SCOPED(err);
    CHECK(guestmem_create(&m, cfg, &err) < 0);
    if (!strstr(error_text(&err), word) || strchr(error_text(&err), '\n')) {
        fprintf(stderr, "'%s' is not in: %s\n", word, error_text(&err));
        exit(1);
    }
    CHECK(m.fd == -1 && m.count == 0);
}

int main(void)
{
    for (unsigned source = GUESTMEM_MEMFD; source <= GUESTMEM_FILE; source++)
        for (unsigned i = 0; i < 4; i++) {
            bool private_copy = i & 1;
            struct guestmem_config cfg = {.bytes = SIZE,
                                          .low_limit = LOW,
                                          .source = source,
                                          .private_copy = private_copy,
                                          .alloc_threads = i & 2 ? 3 : 0,
                                          .thp = GUESTMEM_THP_OFF};
            test_kind(&cfg, source != GUESTMEM_ANONYMOUS && !private_copy);
        }
    const struct guestmem_binding nowhere = {0, SIZE, BIT64(63), GUESTMEM_STRICT};
    test_refused(&(struct guestmem_config){.bytes = SIZE, .low_limit = LOW, .bindings = &nowhere, .nbindings = 1}, "NUMA node 63");
    test_refused(&(struct guestmem_config){.bytes = SIZE, .low_limit = LOW, .hugetlb = true, .huge_page = 4 * MIB}, "huge pages");
    return 0;
}
