// SPDX-License-Identifier: GPL-2.0-or-later
#include "daemon/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/log.h"
#include "base/util.h"
#include "daemon/daemon.h"

#define JOURNAL_SIZE  (1u << 20)
#define JOURNAL_FIRST 4096u /* offset of the first record */
#define HEAD_MAGIC    0x4c4a4e4cu
#define RECORD_MAGIC  0x4c4a5243u
#define BOOT_ID       "/proc/sys/kernel/random/boot_id"
#define NAME_LENGTH   255u

enum operation { OP_WRITE, OP_REMOVE };

struct head {
    uint32_t magic, crc; /* of what follows */
    uint64_t epoch;
    char boot[40];
};

struct record {
    uint32_t magic, crc; /* of what follows, with name and text */
    uint64_t epoch;
    uint32_t operation, name_len, text_len, zero;
};

struct journal {
    pthread_mutex_t lock;
    char *folder, *path;
    int folder_fd, fd; /* fd: -1 until the first change */
    uint64_t epoch;
    size_t end; /* where the next record goes */
    char boot[40];
};

static int fail(const struct journal *j, const char *what, struct error *err)
{
    return error_set(err, VIR_ERR_SYSTEM_ERROR, "journal '%s': cannot %s: %s; see to the folder's rights and its free space",
                     j->path, what, strerror(errno));
}

/* An identifier of this boot; one of its own where the kernel does not tell. */
static void read_boot(char boot[40])
{
    AUTO_CLOSE int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    memset(boot, 0, 40);
    if (fd < 0 || read(fd, boot, 36) != 36)
        memset(boot, 0, 40);
}

static uint32_t head_crc(const struct head *h)
{
    return (uint32_t)crc32(0, (const uint8_t *)&h->epoch, sizeof *h - offsetof(struct head, epoch));
}

static uint32_t record_crc(const struct record *r, const void *payload, size_t len)
{
    uLong crc = crc32(0, (const uint8_t *)&r->epoch, sizeof *r - offsetof(struct record, epoch));
    return (uint32_t)crc32(crc, payload, (uInt)len);
}

/* ---- doing again ---- */

/* A name is one of this folder's files, and no hidden one. */
static bool name_good(const char *name)
{
    return name[0] && name[0] != '.' && !strchr(name, '/');
}

static int apply(const struct journal *j, const struct record *r, const uint8_t *payload, struct error *err)
{
    char name[NAME_LENGTH + 1];
    AUTO_FREE char *path = NULL;
    memcpy(name, payload, r->name_len);
    name[r->name_len] = 0;
    if (!name_good(name))
        return 0;
    if (asprintf(&path, "%s/%s", j->folder, name) < 0)
        return error_set(err, VIR_ERR_NO_MEMORY, "journal '%s': out of memory", j->path);
    return r->operation == OP_REMOVE ? store_remove(path, err)
                                     : store_write(path, (const char *)payload + r->name_len, r->text_len, err);
}

/* A record at `at` of the journal's bytes; NULL where they end. */
static const struct record *record_at(const uint8_t *bytes, size_t size, size_t at, uint64_t epoch)
{
    const struct record *r = (const struct record *)(bytes + at);
    if (at + sizeof *r > size || r->magic != RECORD_MAGIC || r->epoch != epoch || r->operation > OP_REMOVE)
        return NULL;
    size_t room = size - at - sizeof *r;
    if (r->name_len > NAME_LENGTH || r->name_len > room || r->text_len > room - r->name_len)
        return NULL;
    return record_crc(r, r + 1, r->name_len + r->text_len) == r->crc ? r : NULL;
}

static size_t record_size(const struct record *r)
{
    return (sizeof *r + r->name_len + r->text_len + 7) & ~(size_t)7;
}

static int replay(struct journal *j, const uint8_t *bytes, size_t size, struct error *err)
{
    const struct head *h = (const struct head *)bytes;
    if (size < JOURNAL_FIRST || h->magic != HEAD_MAGIC || h->crc != head_crc(h))
        return 0;
    j->epoch = h->epoch;
    if (j->boot[0] && memcmp(h->boot, j->boot, sizeof j->boot) == 0)
        return 0;
    unsigned count = 0;
    const struct record *r;
    for (size_t at = JOURNAL_FIRST; at < size && (r = record_at(bytes, size, at, h->epoch)); at += record_size(r), count++)
        if (apply(j, r, (const uint8_t *)(r + 1), err) < 0)
            return -1;
    if (count)
        log_info("journal '%s': %u changes done again", j->path, count);
    return 0;
}

/* ---- writing ---- */

static int write_at(const struct journal *j, const void *data, size_t len, size_t at, struct error *err)
{
    const uint8_t *from = data;
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(j->fd, from + done, len - done, (off_t)(at + done));
        if (n < 0 && errno != EINTR)
            return fail(j, "write it", err);
        done += (size_t)MAX(n, 0);
    }
    return 0;
}

/* Everything that the records say is durable in the files themselves; then an epoch without records begins. */
static int checkpoint(struct journal *j, struct error *err)
{
    struct head h = {.magic = HEAD_MAGIC, .epoch = j->epoch + 1};
    memcpy(h.boot, j->boot, sizeof h.boot);
    h.crc = head_crc(&h);
    if (syncfs(j->folder_fd) < 0)
        return fail(j, "make its folder durable", err);
    if (write_at(j, &h, sizeof h, 0, err) < 0)
        return -1;
    if (fdatasync(j->fd) < 0)
        return fail(j, "make it durable", err);
    j->epoch++;
    j->end = JOURNAL_FIRST;
    return 0;
}

/* All blocks are written once, so that a record later costs no change of the file system's own structures. */
static int prepare(struct journal *j, struct error *err)
{
    if (j->fd >= 0)
        return 0;
    AUTO_FREE uint8_t *zeros = calloc(1, JOURNAL_SIZE);
    if (!zeros)
        return error_set(err, VIR_ERR_NO_MEMORY, "journal '%s': out of memory", j->path);
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (j->fd < 0)
        return fail(j, "open it", err);
    off_t size = lseek(j->fd, 0, SEEK_END);
    bool good = (size >= (off_t)JOURNAL_SIZE || write_at(j, zeros, JOURNAL_SIZE - (size_t)size, (size_t)size, err) == 0) &&
                checkpoint(j, err) == 0;
    if (good)
        return 0;
    close(j->fd);
    j->fd = -1;
    return -1;
}

/* The change is durable when this returns 0. The lock is held. */
static int append(struct journal *j, enum operation operation, const char *name, const char *text, size_t len, struct error *err)
{
    struct record r = {RECORD_MAGIC, 0, 0, operation, (uint32_t)strlen(name), (uint32_t)len, 0};
    size_t size = record_size(&r);
    if (prepare(j, err) < 0 || (j->end + size > JOURNAL_SIZE && checkpoint(j, err) < 0))
        return -1;
    AUTO_FREE uint8_t *bytes = calloc(1, size);
    if (!bytes)
        return error_set(err, VIR_ERR_NO_MEMORY, "journal '%s': out of memory", j->path);
    r.epoch = j->epoch;
    memcpy(bytes + sizeof r, name, r.name_len);
    memcpy(bytes + sizeof r + r.name_len, text, len);
    r.crc = record_crc(&r, bytes + sizeof r, r.name_len + len);
    memcpy(bytes, &r, sizeof r);
    if (write_at(j, bytes, size, j->end, err) < 0)
        return -1;
    if (fdatasync(j->fd) < 0)
        return fail(j, "make it durable", err);
    j->end += size;
    return 0;
}

static char *path_of(const struct journal *j, const char *name, struct error *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", j->folder, name) >= 0)
        return path;
    error_set(err, VIR_ERR_NO_MEMORY, "journal '%s': out of memory", j->path);
    return NULL;
}

int journal_write(struct journal *j, const char *name, const char *text, size_t len, struct error *err)
{
    AUTO_FREE char *path = path_of(j, name, err);
    int result;
    if (!path)
        return -1;
    pthread_mutex_lock(&j->lock);
    if (len > JOURNAL_SIZE / 4) { /* no record of the same file may come after it */
        result = prepare(j, err) < 0 || checkpoint(j, err) < 0 ? -1 : store_write(path, text, len, err);
    } else {
        result = store_prepare(path, text, len, err) < 0 || append(j, OP_WRITE, name, text, len, err) < 0
                     ? -1
                     : store_replace(path, err);
    }
    pthread_mutex_unlock(&j->lock);
    return result;
}

int journal_remove(struct journal *j, const char *name, struct error *err)
{
    AUTO_FREE char *path = path_of(j, name, err);
    int result = 0;
    if (!path)
        return -1;
    pthread_mutex_lock(&j->lock);
    if (access(path, F_OK) == 0) {
        result = append(j, OP_REMOVE, name, "", 0, err);
        if (result == 0 && unlink(path) < 0 && errno != ENOENT)
            result = fail(j, "remove a file", err);
    }
    pthread_mutex_unlock(&j->lock);
    return result;
}

struct journal *journal_open(const char *folder, struct error *err)
{
    struct journal *j = calloc(1, sizeof *j);
    size_t len = 0;
    if (!j || !(j->folder = strdup(folder)) || asprintf(&j->path, "%s/journal", folder) < 0) {
        error_set(err, ENOMEM, "journal: out of memory");
        return NULL;
    }
    pthread_mutex_init(&j->lock, NULL);
    read_boot(j->boot);
    j->fd = -1;
    j->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (j->folder_fd < 0) {
        fail(j, "open its folder", err);
        return NULL;
    }
    if (access(j->path, F_OK) < 0)
        return j;
    AUTO_FREE char *bytes = store_read(j->path, JOURNAL_SIZE, &len, err);
    return bytes && replay(j, (const uint8_t *)bytes, len, err) == 0 ? j : NULL;
}
