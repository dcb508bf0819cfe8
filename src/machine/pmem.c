// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/pmem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "devices/virtio/vpmem.h"
#include "machine/pci_places.h"

struct pmem_range {
    int fd;
    void *host;
    uint64_t gpa, size;
    struct vpmem *device;
};

struct pmem {
    struct board *board;
    unsigned count;
    struct pmem_range ranges[DOMAIN_MAX_PMEMS];
};

/* Two guests that map one file would not know of each other's caches. */
static int lock_file(int fd, const char *path, struct error *err)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) == 0)
        return 0;
    return error_set(err, errno, "persistent memory '%s': %s; end the guest that uses it", path,
                     errno == EAGAIN || errno == EACCES ? "another process has locked it" : strerror(errno));
}

static int open_file(const struct domain_pmem *m, struct pmem_range *r, struct error *err)
{
    struct stat st;
    r->fd = open(m->path, O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (r->fd < 0 || fstat(r->fd, &st) < 0)
        return error_set(err, errno, "persistent memory '%s': cannot open for writing: %s; give the path of a file", m->path,
                         strerror(errno));
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size < m->size)
        return error_set(err, 0, "persistent memory '%s': is no file of %llu bytes; make it as long as its <size>", m->path,
                         (unsigned long long)m->size);
    if (lock_file(r->fd, m->path, err) < 0)
        return -1;
    void *host = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, 0);
    if (host == MAP_FAILED)
        return error_set(err, errno, "persistent memory '%s': cannot map: %s; use a file system that maps files", m->path,
                         strerror(errno));
    r->host = host;
    r->size = m->size;
    return 0;
}

uint64_t pmem_room(const struct domain *d)
{
    uint64_t room = 0;
    for (unsigned i = 0; i < d->npmems; i++)
        room += ALIGN_UP(d->pmems[i].size, (uint64_t)GIB);
    return room;
}

/* At the end of what the guest can address so far, and within what its CPUs can. */
static int place(struct pmem *p, struct pmem_range *r, const struct domain_pmem *m, uint64_t *next, struct error *err)
{
    struct board *b = p->board;
    r->gpa = *next;
    *next += ALIGN_UP(r->size, (uint64_t)GIB);
    if (*next > 1ull << b->physical_bits)
        return error_set(err, 0,
                         "persistent memory '%s': the CPU's %u address bits do not reach as far; give the guest less memory",
                         m->path, b->physical_bits);
    int e = board_slot(b, SLOT_PMEM + (unsigned)(r - p->ranges), r->gpa, r->size, r->host, false);
    if (e == 0)
        e = guestmem_add_extra(&b->mem, r->gpa, r->host, r->size);
    return e < 0 ? error_set(err, -e, "persistent memory '%s': %s cannot give it to the guest: %s", m->path, b->vm.accel->name,
                             strerror(-e))
                 : 0;
}

int pmem_create(const struct domain *d, struct board *b, struct pci_host *pci, struct pmem **out, struct error *err)
{
    struct pmem *p = *out = calloc(1, sizeof *p);
    uint64_t next = b->pmem_base;
    if (!p)
        return error_set(err, ENOMEM, "machine: out of memory");
    p->board = b;
    for (unsigned i = 0; i < d->npmems; i++) {
        const struct domain_pmem *m = &d->pmems[i];
        struct pmem_range *r = &p->ranges[p->count++];
        r->fd = -1;
        if (open_file(m, r, err) < 0 || place(p, r, m, &next, err) < 0)
            return -1;
        struct vpmem_config cfg = {.slot = pci_place(&m->address), .start = r->gpa, .size = r->size, .fd = r->fd};
        if (vpmem_create(pci, &cfg, &r->device, err) < 0)
            return -1;
    }
    return 0;
}

void pmem_destroy(struct pmem *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < p->count; i++) {
        struct pmem_range *r = &p->ranges[i];
        vpmem_destroy(r->device);
        if (r->gpa)
            board_slot(p->board, SLOT_PMEM + i, r->gpa, 0, NULL, false);
        if (r->host)
            munmap(r->host, r->size);
        if (r->fd >= 0)
            close(r->fd);
    }
    p->board->mem.nextra = 0;
    free(p);
}
