// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/disk.h"

#include <errno.h>
#include <stdio.h>

_Static_assert((int)DISK_DIRECTSYNC == (int)BLOCK_CACHE_DIRECTSYNC && (int)DISK_UNSAFE == (int)BLOCK_CACHE_UNSAFE && (int)DISK_DIRECT == (int)BLOCK_CACHE_NONE, "the model's cache modes are the block layer's");
_Static_assert((int)DISK_STOP_ENOSPC == (int)BLOCK_STOP_ENOSPC && (int)DISK_ZEROES_UNMAP == (int)BLOCK_ZEROES_UNMAPPED && DISK_RATES == BLOCK_RATES, "and so are its policies and rates");

int disk_make_overlays(struct domain *d, struct error *err)
{
    for (unsigned i = 0; i < d->ndisks; i++) {
        struct domain_disk *disk = &d->disks[i];
        struct block_config cfg = {.path = disk->file, .format = disk_format_names[disk->format], .secret_file = disk->secret_file};
        if (!disk->snapshot || disk->readonly || !disk->file)
            continue;
        int fd = block_make_overlay(&cfg, err);
        if (fd < 0)
            return -1;
        if (asprintf(&disk->overlay, "/proc/self/fd/%d", fd) < 0)
            return error_set(err, ENOMEM, "disk '%s': out of memory", disk->file);
    }
    return 0;
}

int disk_open(const struct domain_disk *disk, struct block **out, struct error *err)
{
    struct block_config cfg = {.path = disk->file,
                               .format = disk_format_names[disk->format],
                               .readonly = disk->readonly,
                               .secret_file = disk->secret_file,
                               .engine = disk->io == DISK_IO_THREADS ? BLOCK_ENGINE_THREADS : disk->io == DISK_IO_URING ? BLOCK_ENGINE_URING : BLOCK_ENGINE_AUTO,
                               .cache = (enum block_cache)disk->cache,
                               .zeroes = (enum block_zeroes)disk->zeroes,
                               .keep_storage = disk->discard == DISK_DISCARD_IGNORE,
                               .read_errors = (enum block_on_error)disk->read_errors,
                               .write_errors = (enum block_on_error)disk->write_errors};
    if (disk->overlay) {
        cfg.path = disk->overlay;
        cfg.format = "qcow2";
        cfg.cache = BLOCK_CACHE_UNSAFE; /* nobody will read it after a crash */
    }
    for (unsigned i = 0; i < BLOCK_RATES; i++) {
        cfg.bytes[i] = (struct block_rate){disk->bytes.rate[i], disk->bytes.burst[i]};
        cfg.ops[i] = (struct block_rate){disk->ops.rate[i], disk->ops.burst[i]};
    }
    return block_open(&cfg, out, err);
}
