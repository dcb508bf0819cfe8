// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/guestmem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

int guestmem_init(struct guestmem *m, uint64_t bytes, uint64_t low_limit, struct error *err)
{
    return guestmem_create(m, &(struct guestmem_config){.bytes = bytes, .low_limit = low_limit}, err);
}

void guestmem_free(struct guestmem *m)
{
    for (unsigned i = 0; i < m->count; i++)
        munmap(m->regions[i].host, m->regions[i].size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct guestmem){.fd = -1};
}

static void *find(const struct guestmem_region *regions, unsigned n, uint64_t gpa, uint64_t len)
{
    for (unsigned i = 0; i < n; i++) {
        const struct guestmem_region *r = &regions[i];
        if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
            return r->host + (gpa - r->gpa);
    }
    return NULL;
}

void *guestmem_ptr(const struct guestmem *m, uint64_t gpa, uint64_t len)
{
    if (len == 0)
        return NULL;
    void *p = find(m->regions, m->count, gpa, len);
    return p ? p : find(m->extra, m->nextra, gpa, len);
}

int guestmem_add_extra(struct guestmem *m, uint64_t gpa, void *host, uint64_t size)
{
    if (m->nextra == GUESTMEM_EXTRA)
        return -ENOSPC;
    m->extra[m->nextra++] = (struct guestmem_region){.gpa = gpa, .size = size, .host = host};
    return 0;
}

int guestmem_read(const struct guestmem *m, uint64_t gpa, void *buf, uint64_t len)
{
    const void *p = guestmem_ptr(m, gpa, len);
    if (!p)
        return -1;
    memcpy(buf, p, len);
    return 0;
}

int guestmem_write(const struct guestmem *m, uint64_t gpa, const void *buf, uint64_t len)
{
    void *p = guestmem_ptr(m, gpa, len);
    if (!p)
        return -1;
    memcpy(p, buf, len);
    return 0;
}

/* A hole in the descriptor's memory takes the pages away from every mapping of it, other processes' too. */
int guestmem_discard(const struct guestmem *m, void *host, uint64_t len)
{
    uint8_t *p = host;
    for (unsigned i = 0; i < m->count; i++) {
        const struct guestmem_region *r = &m->regions[i];
        if (p < r->host || p >= r->host + r->size)
            continue;
        uint64_t start = ALIGN_UP((uint64_t)(p - r->host), m->page_size), end = ALIGN_DOWN((uint64_t)(p - r->host) + len, m->page_size);
        if (start >= end)
            return 0;
        int failed = m->fd < 0 ? madvise(r->host + start, end - start, MADV_DONTNEED)
                               : fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(start + r->fd_offset), (off_t)(end - start));
        return failed < 0 ? -errno : 0;
    }
    return -EFAULT;
}
