// SPDX-License-Identifier: GPL-2.0-or-later
#include "machine/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "machine/memmap.h"

#define PIECES     13 /* twelve of 16 KiB, and 64 KiB at the end */
#define PIECE_SIZE (16 * KIB)
#define LAST_SIZE  (64 * KIB)
#define ALIAS_SIZE (128 * KIB) /* of the image, below 1 MiB */
#define SLOT_IMAGE SLOT_FIRMWARE
#define SLOT_PIECE (SLOT_FIRMWARE + 1)

enum { PAM_READ = 1, PAM_WRITE = 2 };

struct shadow {
    struct board *board;
    uint8_t *image;
    uint64_t size;         /* bytes, whole pages */
    uint8_t modes[PIECES]; /* PAM_READ, PAM_WRITE */
    bool mapped;
};

static uint64_t piece_base(unsigned i)
{
    return MEM_VGA_END + i * PIECE_SIZE;
}

static uint64_t piece_size(unsigned i)
{
    return i == PIECES - 1 ? LAST_SIZE : PIECE_SIZE;
}

/* The image's bytes at an address below 1 MiB, or NULL where it does not reach. */
static const uint8_t *image_at(const struct shadow *s, uint64_t gpa)
{
    uint64_t below = MEM_BIOS - gpa; /* the image ends at MEM_BIOS */
    return below <= MIN(s->size, ALIAS_SIZE) ? s->image + s->size - below : NULL;
}

static int map_piece(struct shadow *s, unsigned i)
{
    uint64_t base = piece_base(i), size = piece_size(i);
    const void *ram = guestmem_ptr(&s->board->mem, base, size);
    if (s->modes[i] & PAM_READ)
        return board_slot(s->board, SLOT_PIECE + i, base, size, ram, !(s->modes[i] & PAM_WRITE));
    const void *image = image_at(s, base);
    return image ? board_slot(s->board, SLOT_PIECE + i, base, size, image, true) : 0;
}

/* A slot is removed before it is made anew: KVM does not let one change its flags or its memory. */
static void set_piece(struct shadow *s, unsigned i, uint8_t mode)
{
    if (s->modes[i] == mode)
        return;
    s->modes[i] = mode;
    board_slot(s->board, SLOT_PIECE + i, piece_base(i), 0, NULL, false);
    if (map_piece(s, i) < 0)
        board_fail(s->board, "%s: cannot map memory at 0x%llx; use another accelerator with --accel", s->board->vm.accel->name,
                   (unsigned long long)piece_base(i));
}

/* PAM0 has the last piece in its upper half; PAM1 to PAM6 have two each, the lower address in the lower half. */
void shadow_pam(void *shadow, const uint8_t regs[PCI_PAM_REGS])
{
    struct shadow *s = shadow;
    set_piece(s, PIECES - 1, regs[0] >> 4 & 3);
    for (unsigned i = 0; i < PIECES - 1; i++)
        set_piece(s, i, regs[1 + i / 2] >> (i % 2 * 4) & 3);
}

/* ---- what no slot takes ---- */

static uint64_t shadow_read(void *dev, uint64_t off, unsigned size)
{
    (void)dev, (void)off, (void)size;
    return ~0ull;
}

static void shadow_write(void *dev, uint64_t off, unsigned size, uint64_t val)
{
    struct shadow *s = dev;
    unsigned i = (unsigned)MIN(off / PIECE_SIZE, (uint64_t)PIECES - 1);
    if (s->modes[i] & PAM_WRITE)
        guestmem_write(&s->board->mem, MEM_VGA_END + off, &val, size);
}

static const struct io_ops shadow_io = {.read = shadow_read, .write = shadow_write};

/* ---- the image ---- */

static int read_image(struct shadow *s, const char *path, struct error *err)
{
    struct stat st;
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(err, errno,
                         "firmware '%s': cannot open: %s; install its package (seabios, ovmf), or name another with --firmware",
                         path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size < (off_t)LAST_SIZE || st.st_size > (off_t)SHADOW_IMAGE_MAX ||
        st.st_size % (off_t)PAGE_SIZE)
        return error_set(err, 0,
                         "firmware '%s': not a firmware's image, which has 64 KiB to 16 MiB in steps of 4 KiB; name another", path);
    s->size = (uint64_t)st.st_size;
    s->image = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->image == MAP_FAILED) {
        s->image = NULL;
        return error_set(err, errno, "firmware '%s': no memory for it: %s; free some memory", path, strerror(errno));
    }
    for (uint64_t done = 0; done < s->size;) {
        ssize_t n = read(fd, s->image + done, s->size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, n < 0 ? errno : 0, "firmware '%s': cannot read: %s; install it again", path,
                             n < 0 ? strerror(errno) : "it became shorter while it was read");
        done += (uint64_t)n;
    }
    return 0;
}

static int map_image(struct shadow *s, struct error *err)
{
    struct board *b = s->board;
    if (board_ioctl(b, b->vm.vm_fd, KVM_CHECK_EXTENSION, (void *)KVM_CAP_READONLY_MEM) <= 0)
        return error_set(err, 0, "%s: lacks the read-only memory that a firmware needs; use another accelerator with --accel",
                         b->vm.accel->name);
    if (bus_map(&b->bus, BUS_MMIO, MEM_VGA_END, MEM_BIOS - MEM_VGA_END, &shadow_io, s, "shadow RAM", err) < 0)
        return -1;
    s->mapped = true;
    int r = board_slot(b, SLOT_SHADOW, MEM_VGA_END, 0, NULL, false);
    if (r == 0)
        r = board_slot(b, SLOT_IMAGE, MEM_HIGH - s->size, s->size, s->image, true);
    for (unsigned i = 0; i < PIECES && r == 0; i++)
        r = map_piece(s, i);
    return r < 0 ? error_set(err, -r, "%s: cannot give it the firmware: %s; use another accelerator with --accel",
                             b->vm.accel->name, strerror(-r))
                 : 0;
}

int shadow_create(struct board *b, const char *path, struct shadow **out, struct error *err)
{
    struct shadow *s = calloc(1, sizeof *s);
    if (!s)
        return error_set(err, ENOMEM, "firmware: out of memory");
    s->board = b;
    if (read_image(s, path, err) < 0 || map_image(s, err) < 0) {
        shadow_destroy(s);
        return -1;
    }
    *out = s;
    return 0;
}

uint64_t shadow_image_base(const struct shadow *s)
{
    return MEM_HIGH - s->size;
}

/* The slots of the image go before its memory. */
void shadow_destroy(struct shadow *s)
{
    if (!s)
        return;
    if (s->mapped) {
        bus_unmap(&s->board->bus, BUS_MMIO, MEM_VGA_END);
        for (unsigned i = 0; i < PIECES; i++)
            board_slot(s->board, SLOT_PIECE + i, piece_base(i), 0, NULL, false);
        board_slot(s->board, SLOT_IMAGE, MEM_HIGH - s->size, 0, NULL, false);
    }
    if (s->image)
        munmap(s->image, s->size);
    free(s);
}
