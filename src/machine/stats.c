// SPDX-License-Identifier: GPL-2.0-or-later
/* What the accelerator has counted, as a table: KVM_GET_STATS_FD of the VM and of each CPU. */
#include "machine/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/util.h"

#define MAX_NAME 256u
#define MAX_DESC 1024u

struct figures { /* one file's */
    unsigned n, name_size;
    uint8_t *desc;
    uint64_t *value; /* the first of each; some have more */
};

static const struct kvm_stats_desc *describe(const struct figures *f, unsigned i)
{
    return (const void *)(f->desc + i * (sizeof(struct kvm_stats_desc) + f->name_size));
}

static bool read_all(int fd, void *to, size_t n, uint64_t at)
{
    return pread(fd, to, n, (off_t)at) == (ssize_t)n;
}

/* The figures of a VM's or CPU's descriptor; none where the accelerator has none. */
static struct figures figures_read(const struct accel *a, int of)
{
    struct figures f = {0};
    struct kvm_stats_header h;
    int fd = accel_ioctl(a, of, KVM_GET_STATS_FD, NULL);
    if (fd < 0 || !read_all(fd, &h, sizeof h, 0) || h.name_size > MAX_NAME || h.num_desc > MAX_DESC)
        goto out;
    size_t size = h.num_desc * (sizeof(struct kvm_stats_desc) + h.name_size);
    f.name_size = h.name_size;
    f.desc = malloc(size);
    f.value = calloc(h.num_desc, sizeof *f.value);
    if (!f.desc || !f.value || !read_all(fd, f.desc, size, h.desc_offset))
        goto out;
    for (; f.n < h.num_desc; f.n++)
        if (!read_all(fd, &f.value[f.n], 8, h.data_offset + describe(&f, f.n)->offset))
            break;
out:
    if (fd >= 0)
        close(fd);
    return f;
}

static void figures_free(struct figures *f)
{
    free(f->desc);
    free(f->value);
}

static const char *unit(const struct kvm_stats_desc *d)
{
    switch (d->flags & KVM_STATS_UNIT_MASK) {
    case KVM_STATS_UNIT_BYTES:
        return " B";
    case KVM_STATS_UNIT_SECONDS:
        return d->exponent == -9 ? " ns" : " s";
    case KVM_STATS_UNIT_CYCLES:
        return " cycles";
    default:
        return "";
    }
}

/* One line for each figure that is not a histogram; a column for each file. */
static void print(FILE *out, const struct figures *files, unsigned nfiles)
{
    for (unsigned i = 0; i < files[0].n; i++) {
        const struct kvm_stats_desc *d = describe(&files[0], i);
        if (d->size != 1)
            continue;
        fprintf(out, "%-28.*s", (int)files[0].name_size, d->name);
        for (unsigned k = 0; k < nfiles; k++)
            if (i < files[k].n)
                fprintf(out, " %15" PRIu64, files[k].value[i]);
        fprintf(out, "%s\n", unit(d));
    }
}

void stats_print(FILE *out, const struct board *b, const struct vmcpu *cpus, unsigned ncpus)
{
    const struct accel *a = b->vm.accel;
    struct figures vm = figures_read(a, b->vm.vm_fd), *f = calloc(ncpus, sizeof *f);
    fprintf(out, "lodge: statistics of %s\n", a->name);
    for (unsigned i = 0; f && i < ncpus; i++)
        f[i] = figures_read(a, cpus[i].fd);
    print(out, &vm, 1);
    if (f && ncpus) {
        fprintf(out, "%-28s", "CPU");
        for (unsigned i = 0; i < ncpus; i++)
            fprintf(out, " %15u", i);
        fputc('\n', out);
        print(out, f, ncpus);
    }
    for (unsigned i = 0; f && i < ncpus; i++)
        figures_free(&f[i]);
    figures_free(&vm);
    free(f);
}
