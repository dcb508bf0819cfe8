// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where guest RAM comes from: making it, and what the host is asked to do with it (guestmem.h).
 *
 * What the host refuses ends the start: a guest that was to have locked or huge pages does not run without them. The exception is
 * KSM, which is advice: a kernel without it changes nothing for the guest.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "base/guestmem.h"
#include "base/log.h"
#include "base/size.h"
#include "base/util.h"

#define HUGEPAGES   "/sys/kernel/mm/hugepages"
#define SHMEM_THP   "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
#define ANON_THP    "/sys/kernel/mm/transparent_hugepage/enabled"
#define MAX_THREADS 64u

#define HUGE_SHIFT 26 /* of the page size's logarithm in the flags of mmap() and memfd_create() */

/* ---- huge pages ---- */

/* A line of a file in /sys, without its end; empty when there is none. */
static void read_line(const char *path, char *line, size_t size)
{
    FILE *f = fopen(path, "re");
    line[0] = 0;
    if (!f)
        return;
    if (fgets(line, (int)size, f))
        line[strcspn(line, "\n")] = 0;
    fclose(f);
}

static uint64_t default_huge_page(void)
{
    char line[128];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f) && sscanf(line, "Hugepagesize: %llu", &kib) != 1)
        ;
    if (f)
        fclose(f);
    return kib * KIB;
}

/* Sizes of huge pages that the host has: "2 MiB, 1 GiB". */
static void list_huge_pages(char *list, size_t size)
{
    DIR *dir = opendir(HUGEPAGES);
    struct dirent *e;
    unsigned long long kib;
    size_t used = 0;
    list[0] = 0;
    while (dir && (e = readdir(dir))) {
        char text[32];
        if (sscanf(e->d_name, "hugepages-%llukB", &kib) != 1)
            continue;
        print_size(text, sizeof text, kib * KIB);
        int n = snprintf(list + used, size - used, "%s%s", used ? ", " : "", text);
        used = MIN(used + (size_t)MAX(n, 0), size - 1);
    }
    if (dir)
        closedir(dir);
}

static int check_huge_pages(struct guestmem *m, const struct guestmem_config *cfg, struct error *err)
{
    char path[128], size[32], list[128];
    m->page_size = cfg->huge_page ? cfg->huge_page : default_huge_page();
    snprintf(path, sizeof path, HUGEPAGES "/hugepages-%llukB", (unsigned long long)(m->page_size / KIB));
    print_size(size, sizeof size, m->page_size);
    list_huge_pages(list, sizeof list);
    if (!list[0])
        return error_set(err, 0, "guest memory: this host has no huge pages; leave out hugepages");
    if (m->page_size & (m->page_size - 1) || access(path, F_OK) < 0)
        return error_set(err, 0, "guest memory: this host has no huge pages of %s; give a size that it has: %s", size, list);
    if (cfg->bytes % m->page_size)
        return error_set(err, 0, "guest memory: %llu MiB are no whole number of huge pages of %s; give a multiple with --memory",
                         (unsigned long long)(cfg->bytes / MIB), size);
    return 0;
}

/* The host could not reserve huge pages for the guest: how many there are, and how to get more. */
static int no_huge_pages(const struct guestmem *m, int error, struct error *err)
{
    char path[128], line[64], size[32];
    unsigned long long kib = m->page_size / KIB, needed = m->total / m->page_size;
    snprintf(path, sizeof path, HUGEPAGES "/hugepages-%llukB/free_hugepages", kib);
    read_line(path, line, sizeof line);
    print_size(size, sizeof size, m->page_size);
    return error_set(err, error,
                     "guest memory: needs %llu huge pages of %s, and %s are free: %s; reserve more: echo %llu >" HUGEPAGES
                     "/hugepages-%llukB/nr_hugepages",
                     needed, size, line[0] ? line : "none", strerror(error), needed, kib);
}

static unsigned huge_flags(const struct guestmem *m)
{
    return (unsigned)__builtin_ctzll(m->page_size) << HUGE_SHIFT;
}

/* ---- mapping ---- */

/* A file without a name, in the folder for large temporary files. */
static int open_file(struct error *err)
{
    const char *dir = getenv("TMPDIR");
    if (!dir || !*dir)
        dir = "/var/tmp";
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    return fd < 0 ? error_set(err, errno, "guest memory: cannot make a file in '%s': %s; set TMPDIR to a folder that has room", dir,
                              strerror(errno))
                  : fd;
}

static int open_source(const struct guestmem *m, const struct guestmem_config *cfg, struct error *err)
{
    int fd = cfg->source == GUESTMEM_FILE
                 ? open_file(err)
                 : memfd_create("lodge-guest-ram", MFD_CLOEXEC | (cfg->hugetlb ? MFD_HUGETLB | huge_flags(m) : 0));
    if (fd < 0)
        return error_is_set(err) ? -1
                                 : error_set(err, errno, "guest memory: cannot create a memfd: %s; give --memory source=anonymous",
                                             strerror(errno));
    if (ftruncate(fd, (off_t)m->total) == 0)
        return fd;
    error_set(err, errno, "guest memory: cannot size its file to %llu MiB: %s; give the guest less memory with --memory",
              (unsigned long long)(m->total / MIB), strerror(errno));
    close(fd);
    return -1;
}

/* Huge pages are reserved here, so that no access fails later; other pages come when they are used. */
static int map_region(struct guestmem *m, const struct guestmem_config *cfg, uint64_t gpa, uint64_t size, uint64_t fd_offset,
                      struct error *err)
{
    bool anonymous = cfg->source == GUESTMEM_ANONYMOUS;
    int flags = anonymous || cfg->private_copy ? MAP_PRIVATE : MAP_SHARED;
    if (anonymous)
        flags |= MAP_ANONYMOUS | (cfg->hugetlb ? MAP_HUGETLB | (int)huge_flags(m) : 0);
    if (!cfg->hugetlb)
        flags |= MAP_NORESERVE;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, m->fd, anonymous ? 0 : (off_t)fd_offset);
    if (p == MAP_FAILED && cfg->hugetlb)
        return no_huge_pages(m, errno, err);
    if (p == MAP_FAILED)
        return error_set(err, errno, "guest memory: cannot map %llu MiB: %s; give the guest less memory with --memory",
                         (unsigned long long)(size / MIB), strerror(errno));
    m->regions[m->count++] = (struct guestmem_region){gpa, size, p, fd_offset};
    return 0;
}

/* ---- what the host is asked to do with it ---- */

static int check_nodes(uint64_t nodes, struct error *err)
{
    char path[64];
    for (unsigned i = 0; i < 64; i++) {
        snprintf(path, sizeof path, "/sys/devices/system/node/node%u", i);
        if (nodes >> i & 1 && access(path, F_OK) < 0 && (i || access("/sys/devices/system/node", F_OK) == 0))
            return error_set(err, 0, "guest memory: this host has no NUMA node %u; give nodes that 'numactl --hardware' lists", i);
    }
    return 0;
}

static int bind_range(const struct guestmem *m, const struct guestmem_binding *b, struct error *err)
{
    static const int modes[] = {
        [GUESTMEM_STRICT] = MPOL_BIND, [GUESTMEM_INTERLEAVE] = MPOL_INTERLEAVE, [GUESTMEM_PREFERRED] = MPOL_PREFERRED};
    unsigned long mask = b->nodes;
    if (check_nodes(b->nodes, err) < 0)
        return -1;
    for (unsigned i = 0; i < m->count; i++) {
        const struct guestmem_region *r = &m->regions[i];
        uint64_t start = MAX(b->start, r->fd_offset), end = MIN(b->start + b->size, r->fd_offset + r->size);
        if (start < end && syscall(SYS_mbind, r->host + (start - r->fd_offset), end - start, modes[b->policy], &mask, 65ul, 0u) < 0)
            return error_set(err, errno,
                             "guest memory: cannot bind %llu MiB to NUMA nodes of the host: %s; give nodes that have memory and "
                             "are allowed here",
                             (unsigned long long)((end - start) / MIB), strerror(errno));
    }
    return 0;
}

/* Which of the words of a switch in /sys is in brackets? */
static bool switch_is(const char *path, const char *word)
{
    char line[128], chosen[32];
    read_line(path, line, sizeof line);
    snprintf(chosen, sizeof chosen, "[%s]", word);
    return strstr(line, chosen) != NULL;
}

static int advise_thp(const struct guestmem *m, const struct guestmem_config *cfg, struct error *err)
{
    const char *path = cfg->source == GUESTMEM_ANONYMOUS ? ANON_THP : SHMEM_THP;
    if (cfg->thp == GUESTMEM_THP_HOST)
        return 0;
    if (cfg->thp == GUESTMEM_THP_ON && (access(path, F_OK) < 0 || switch_is(path, "never") || switch_is(path, "deny")))
        return error_set(err, 0,
                         "guest memory: this host makes no transparent huge pages here; write %s to %s, or leave out thp=on",
                         cfg->source == GUESTMEM_ANONYMOUS ? "madvise" : "advise", path);
    for (unsigned i = 0; i < m->count; i++)
        if (madvise(m->regions[i].host, m->regions[i].size, cfg->thp == GUESTMEM_THP_ON ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) < 0 &&
            cfg->thp == GUESTMEM_THP_ON)
            return error_set(err, errno, "guest memory: cannot have transparent huge pages: %s; leave out thp=on", strerror(errno));
    return 0;
}

/* The kernel takes the advice for shared memory too, and does nothing. */
static void advise_merge(const struct guestmem *m)
{
    for (unsigned i = 0; i < m->count; i++)
        if (madvise(m->regions[i].host, m->regions[i].size, MADV_MERGEABLE) < 0) {
            log_warn("guest memory: this host's kernel has no KSM (%s); equal pages stay apart", strerror(errno));
            return;
        }
}

struct filler {
    pthread_t thread;
    uint8_t *from;
    uint64_t size;
    int error;
};

static void *fill(void *opaque)
{
    struct filler *f = opaque;
    while (madvise(f->from, f->size, MADV_POPULATE_WRITE) < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            f->error = errno;
            break;
        }
    }
    return NULL;
}

/* Each thread takes an equal part of a region, in whole pages. */
static int populate_region(const struct guestmem *m, const struct guestmem_region *r, unsigned threads, struct error *err)
{
    struct filler fillers[MAX_THREADS];
    uint64_t pages = r->size / m->page_size, done = 0;
    unsigned n = 0;
    int error = 0;
    threads = (unsigned)MIN((uint64_t)MIN(threads, MAX_THREADS), pages);
    for (; n < threads; n++) {
        uint64_t end = pages * (n + 1) / threads;
        fillers[n] = (struct filler){.from = r->host + done * m->page_size, .size = (end - done) * m->page_size};
        done = end;
        if (pthread_create(&fillers[n].thread, NULL, fill, &fillers[n]) != 0) {
            error = EAGAIN;
            break;
        }
    }
    while (n--) {
        pthread_join(fillers[n].thread, NULL);
        error = fillers[n].error ? fillers[n].error : error;
    }
    return error ? error_set(err, error,
                             "guest memory: cannot allocate %llu MiB at the start: %s; give the guest less with --memory, or leave "
                             "out prealloc",
                             (unsigned long long)(r->size / MIB), strerror(error))
                 : 0;
}

static int lock_all(const struct guestmem *m, struct error *err)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur < m->total) {
        struct rlimit more = {m->total + 64 * MIB, MAX(limit.rlim_max, m->total + 64 * MIB)};
        if (setrlimit(RLIMIT_MEMLOCK, &more) < 0)
            more = (struct rlimit){limit.rlim_max, limit.rlim_max}, setrlimit(RLIMIT_MEMLOCK, &more);
    }
    for (unsigned i = 0; i < m->count; i++) {
        if (mlock(m->regions[i].host, m->regions[i].size) == 0)
            continue;
        int error = errno;
        getrlimit(RLIMIT_MEMLOCK, &limit);
        return error_set(err, error,
                         "guest memory: cannot lock %llu MiB: %s; the limit is %llu MiB: raise it (ulimit -l, or LimitMEMLOCK= of "
                         "lodged's service), or leave out locked",
                         (unsigned long long)(m->total / MIB), strerror(error), (unsigned long long)(limit.rlim_cur / MIB));
    }
    return 0;
}

static int prepare(const struct guestmem *m, const struct guestmem_config *cfg, struct error *err)
{
    for (unsigned i = 0; i < cfg->nbindings; i++)
        if (bind_range(m, &cfg->bindings[i], err) < 0)
            return -1;
    if (advise_thp(m, cfg, err) < 0)
        return -1;
    if (cfg->merge)
        advise_merge(m);
    for (unsigned i = 0; cfg->alloc_threads && i < m->count; i++)
        if (populate_region(m, &m->regions[i], cfg->alloc_threads, err) < 0)
            return -1;
    return cfg->locked ? lock_all(m, err) : 0;
}

int guestmem_create(struct guestmem *m, const struct guestmem_config *cfg, struct error *err)
{
    *m = (struct guestmem){.fd = -1, .total = cfg->bytes, .page_size = PAGE_SIZE};
    if (cfg->hugetlb && check_huge_pages(m, cfg, err) < 0)
        return -1;
    if (cfg->source != GUESTMEM_ANONYMOUS && (m->fd = open_source(m, cfg, err)) < 0)
        return -1;
    uint64_t low = cfg->bytes > cfg->low_limit ? ALIGN_DOWN(cfg->low_limit, m->page_size) : cfg->bytes;
    if (map_region(m, cfg, 0, low, 0, err) < 0 ||
        (cfg->bytes > low && map_region(m, cfg, 4 * GIB, cfg->bytes - low, low, err) < 0) || prepare(m, cfg, err) < 0) {
        guestmem_free(m);
        return -1;
    }
    if (cfg->private_copy && m->fd >= 0) { /* it does not have what the guest writes */
        close(m->fd);
        m->fd = -1;
    }
    return 0;
}
