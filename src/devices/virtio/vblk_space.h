/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A disk's features and configuration (virtio 1.2, 5.2.3 and 5.2.4), for the disks of this process and for those of others. */
#ifndef LODGE_DEVICES_VBLK_SPACE_H
#define LODGE_DEVICES_VBLK_SPACE_H

#include "base/util.h"
#include "devices/virtio/virtio.h"

#define VBLK_F_SIZE_MAX     BIT64(1)
#define VBLK_F_SEG_MAX      BIT64(2)
#define VBLK_F_GEOMETRY     BIT64(4)
#define VBLK_F_RO           BIT64(5)
#define VBLK_F_BLK_SIZE     BIT64(6)
#define VBLK_F_FLUSH        BIT64(9)
#define VBLK_F_TOPOLOGY     BIT64(10)
#define VBLK_F_CONFIG_WCE   BIT64(11)
#define VBLK_F_MQ           BIT64(12)
#define VBLK_F_DISCARD      BIT64(13)
#define VBLK_F_WRITE_ZEROES BIT64(14)

/* The device configuration (5.2.4). */
struct vblk_space {
    uint64_t capacity;
    uint32_t size_max, seg_max;
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
    uint8_t physical_block_exp, alignment_offset;
    uint16_t min_io_size;
    uint32_t opt_io_size;
    uint8_t writeback, unused0;
    uint16_t num_queues;
    uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
    uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
    uint8_t write_zeroes_may_unmap, unused1[3];
};

#define VBLK_SPACE_BYTES 60 /* without the padding behind it, which other processes do not know */
_Static_assert(offsetof(struct vblk_space, unused1) + 3 == VBLK_SPACE_BYTES && sizeof(struct vblk_space) <= VIRTIO_CONFIG_MAX,
               "the configuration is what the specification says, and fits");

#endif
