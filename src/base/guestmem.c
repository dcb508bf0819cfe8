// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/guestmem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/util.h"

static int map_region(struct guestmem *m, uint64_t gpa, uint64_t size, uint64_t fd_offset, struct error *err)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, m->fd, (off_t)fd_offset);
    if (p == MAP_FAILED)
        return error_set(err, errno, "guest memory: cannot map %llu MiB: %s; give the guest less memory with --memory",
                         (unsigned long long)(size / MIB), strerror(errno));
    m->regions[m->count++] = (struct guestmem_region){gpa, size, p, fd_offset};
    return 0;
}

int guestmem_init(struct guestmem *m, uint64_t bytes, uint64_t low_limit, struct error *err)
{
    *m = (struct guestmem){.fd = memfd_create("lodge-guest-ram", MFD_CLOEXEC), .total = bytes};
    if (m->fd < 0)
        return error_set(err, errno, "guest memory: cannot create a memfd: %s", strerror(errno));
    uint64_t low = MIN(bytes, low_limit);
    if (ftruncate(m->fd, (off_t)bytes) < 0) {
        error_set(err, errno, "guest memory: cannot size the memfd to %llu MiB: %s; give the guest less memory with --memory",
                  (unsigned long long)(bytes / MIB), strerror(errno));
        goto fail;
    }
    if (map_region(m, 0, low, 0, err) < 0)
        goto fail;
    if (bytes > low && map_region(m, 4 * GIB, bytes - low, low, err) < 0)
        goto fail;
    return 0;
fail:
    guestmem_free(m);
    return -1;
}

void guestmem_free(struct guestmem *m)
{
    for (unsigned i = 0; i < m->count; i++)
        munmap(m->regions[i].host, m->regions[i].size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct guestmem){.fd = -1};
}

void *guestmem_ptr(const struct guestmem *m, uint64_t gpa, uint64_t len)
{
    if (len == 0)
        return NULL;
    for (unsigned i = 0; i < m->count; i++) {
        const struct guestmem_region *r = &m->regions[i];
        if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
            return r->host + (gpa - r->gpa);
    }
    return NULL;
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

/* A hole in the memfd takes the pages away from every mapping of it, other processes' too. */
int guestmem_discard(const struct guestmem *m, void *host, uint64_t len)
{
    const uint8_t *p = host;
    for (unsigned i = 0; i < m->count; i++) {
        const struct guestmem_region *r = &m->regions[i];
        if (p < r->host || p >= r->host + r->size)
            continue;
        uint64_t start = (uint64_t)(p - r->host) + r->fd_offset, end = ALIGN_DOWN(start + len, PAGE_SIZE);
        start = ALIGN_UP(start, PAGE_SIZE);
        if (start >= end)
            return 0;
        return fallocate(m->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start, (off_t)(end - start)) < 0 ? -errno : 0;
    }
    return -EFAULT;
}
