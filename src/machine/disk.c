// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/disk.h"

_Static_assert((int)DISK_UNSAFE == (int)BLOCK_CACHE_UNSAFE && (int)DISK_DIRECT == (int)BLOCK_CACHE_NONE, "the model's cache modes are the block layer's");
_Static_assert((int)DISK_STOP_ENOSPC == (int)BLOCK_STOP_ENOSPC && DISK_RATES == BLOCK_RATES, "and so are its policies and rates");

int disk_open(const struct domain_disk *disk, struct block **out, struct error *err)
{
    struct block_config cfg = {.path = disk->file,
                               .format = disk_format_names[disk->format],
                               .readonly = disk->readonly,
                               .snapshot = disk->snapshot,
                               .cache = (enum block_cache)disk->cache,
                               .read_errors = (enum block_on_error)disk->read_errors,
                               .write_errors = (enum block_on_error)disk->write_errors};
    /* The machine watches virtio's disks for stops; a disk of SATA would wait unseen. */
    if (disk->bus == DISK_SATA)
        cfg.read_errors = cfg.write_errors = BLOCK_REPORT;
    for (unsigned i = 0; i < BLOCK_RATES; i++) {
        cfg.bytes[i] = (struct block_rate){disk->bytes.rate[i], disk->bytes.burst[i]};
        cfg.ops[i] = (struct block_rate){disk->ops.rate[i], disk->ops.burst[i]};
    }
    return block_open(&cfg, out, err);
}
