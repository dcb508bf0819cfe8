// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks of an iSCSI target, by libiscsi: iscsi://HOST[:PORT]/TARGET/LUN. A CHAP user and password come from libiscsi's environment variables
 * LIBISCSI_CHAP_USERNAME and LIBISCSI_CHAP_PASSWORD; a password within the name is refused, since names show in process lists.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <string.h>

#include "base/util.h"
#include "block/file.h"
#include "block/library.h"

#define CALLS(X)                                                                                                                                    \
    X(iscsi_create_context)                                                                                                                         \
    X(iscsi_destroy_context)                                                                                                                        \
    X(iscsi_parse_full_url)                                                                                                                         \
    X(iscsi_destroy_url)                                                                                                                            \
    X(iscsi_set_targetname)                                                                                                                         \
    X(iscsi_set_session_type)                                                                                                                       \
    X(iscsi_set_initiator_username_pwd)                                                                                                             \
    X(iscsi_full_connect_sync)                                                                                                                      \
    X(iscsi_get_error)                                                                                                                              \
    X(iscsi_readcapacity16_sync)                                                                                                                    \
    X(iscsi_read16_sync)                                                                                                                            \
    X(iscsi_write16_sync)                                                                                                                           \
    X(iscsi_synchronizecache16_sync)                                                                                                                \
    X(iscsi_logout_sync)                                                                                                                            \
    X(iscsi_modesense6_sync)                                                                                                                        \
    X(scsi_datain_unmarshall)                                                                                                                       \
    X(scsi_free_scsi_task)

#define CALL(name) LIBRARY_CALL(lib, name),
#define TRANSFER_MAX MIB /* bytes of one command */
#define INITIATOR    "iqn.2026-11.org.lodge:lodge"

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

struct lun {
    struct iscsi_context *ctx;
    int number;
    uint32_t block; /* bytes */
};

/* ---- connecting ---- */

static int read_capacity(struct file *f, struct lun *u)
{
    struct scsi_task *task = lib.iscsi_readcapacity16_sync(u->ctx, u->number);
    const struct scsi_readcapacity16 *rc = task && task->status == SCSI_STATUS_GOOD ? lib.scsi_datain_unmarshall(task) : NULL;
    int ret = -1;
    if (rc && rc->block_length >= BLOCK_SECTOR && rc->block_length <= 4096 && !(rc->block_length & (rc->block_length - 1)) &&
        rc->returned_lba < INT64_MAX / 4096) {
        u->block = rc->block_length;
        f->size = (rc->returned_lba + 1) * u->block;
        f->physical = u->block;
        ret = 0;
    }
    if (task)
        lib.scsi_free_scsi_task(task);
    return ret;
}

/* The write-protect bit of the mode header (SPC, "Mode parameter header"). */
static bool write_protected(struct lun *u)
{
    struct scsi_task *task = lib.iscsi_modesense6_sync(u->ctx, u->number, 1, SCSI_MODESENSE_PC_CURRENT, 0x3f, 0, 255);
    bool yes = task && task->status == SCSI_STATUS_GOOD && task->datain.size > 2 && (task->datain.data[2] & 0x80);
    if (task)
        lib.scsi_free_scsi_task(task);
    return yes;
}

static int connect_lun(struct file *f, struct lun *u)
{
    struct iscsi_url *url = lib.iscsi_parse_full_url(u->ctx, f->path);
    if (!url)
        return -1;
    u->number = url->lun;
    int ret = lib.iscsi_set_targetname(u->ctx, url->target);
    if (ret == 0)
        ret = lib.iscsi_set_session_type(u->ctx, ISCSI_SESSION_NORMAL);
    if (ret == 0 && *url->user)
        ret = lib.iscsi_set_initiator_username_pwd(u->ctx, url->user, url->passwd);
    if (ret == 0)
        ret = lib.iscsi_full_connect_sync(u->ctx, url->portal, url->lun);
    lib.iscsi_destroy_url(url);
    return ret == 0 ? read_capacity(f, u) : -1;
}

static int iscsi_open(struct file *f, const char *what, struct error *err)
{
    const char *at = strchr(f->path, '@'), *percent = strchr(f->path, '%');
    if (at && percent && percent < at)
        return error_set(err, 0, "%s: a password in an iSCSI name is seen by everybody on this host; set LIBISCSI_CHAP_PASSWORD instead", what);
    if (library_load("libiscsi.so.7", "libiscsi7", calls, ARRAY_SIZE(calls), what, f->path, err) < 0)
        return -1;
    struct lun *u = calloc(1, sizeof *u);
    if (u)
        u->ctx = lib.iscsi_create_context(INITIATOR);
    if (!u || !u->ctx) {
        free(u);
        return error_set(err, ENOMEM, "%s '%s': out of memory; close other programs", what, f->path);
    }
    if (connect_lun(f, u) < 0) {
        const char *why = lib.iscsi_get_error(u->ctx);
        error_set(err, 0, "%s '%s': cannot connect: %.*s; check the target and its LUN", what, f->path, (int)strcspn(why, "\n"), why);
        lib.iscsi_destroy_context(u->ctx);
        free(u);
        return -1;
    }
    f->readonly |= write_protected(u);
    f->remote = u;
    return 0;
}

static void iscsi_end(struct file *f)
{
    struct lun *u = f->remote;
    lib.iscsi_logout_sync(u->ctx);
    lib.iscsi_destroy_context(u->ctx);
    free(u);
}

/* ---- commands ---- */

static int command(struct lun *u, bool write, uint8_t *p, uint64_t at, uint32_t len)
{
    struct scsi_task *task = write ? lib.iscsi_write16_sync(u->ctx, u->number, at / u->block, p, len, (int)u->block, 0, 0, 0, 0, 0)
                                   : lib.iscsi_read16_sync(u->ctx, u->number, at / u->block, len, (int)u->block, 0, 0, 0, 0, 0);
    int ret = task && task->status == SCSI_STATUS_GOOD ? 0 : -EIO;
    if (ret == 0 && !write) {
        if (task->datain.size == (int)len)
            memcpy(p, task->datain.data, len);
        else
            ret = -EIO;
    }
    if (task)
        lib.scsi_free_scsi_task(task);
    return ret;
}

/* Whole blocks go through a buffer, which also puts together what lies scattered; what does not fill its blocks is read around first. */
static ssize_t transfer(struct file *f, const struct io_step *s)
{
    struct lun *u = f->remote;
    bool write = s->kind == IO_WRITE;
    uint64_t len = MIN(s->len, s->offset < f->size ? f->size - s->offset : 0);
    AUTO_FREE uint8_t *buf = malloc(TRANSFER_MAX + 4096);
    if (!buf || (write && len < s->len))
        return buf ? -ENOSPC : -ENOMEM;
    for (uint64_t done = 0, part; done < len; done += part) {
        uint64_t from = ALIGN_DOWN(s->offset + done, (uint64_t)u->block), skip = s->offset + done - from;
        part = MIN(len - done, TRANSFER_MAX - skip);
        uint32_t bytes = (uint32_t)ALIGN_UP(skip + part, (uint64_t)u->block);
        int ret = !write || skip || bytes != part ? command(u, false, buf, from, bytes) : 0;
        if (ret == 0 && write) {
            iov_to(s->iov, s->niov, done, buf + skip, part);
            ret = command(u, true, buf, from, bytes);
        }
        if (ret < 0)
            return ret;
        if (!write)
            iov_from(s->iov, s->niov, done, buf + skip, part);
    }
    return (ssize_t)len;
}

static ssize_t iscsi_run(struct file *f, const struct io_step *s)
{
    struct lun *u = f->remote;
    if (s->kind == IO_READ || s->kind == IO_WRITE)
        return transfer(f, s);
    if (s->kind != IO_SYNC)
        return -EOPNOTSUPP;
    struct scsi_task *task = lib.iscsi_synchronizecache16_sync(u->ctx, u->number, 0, 0, 0, 0);
    int ret = task && task->status == SCSI_STATUS_GOOD ? 0 : -EIO;
    if (task)
        lib.scsi_free_scsi_task(task);
    return ret;
}

static const char *const prefixes[] = {"iscsi://", NULL};
const struct file_protocol protocol_iscsi = {prefixes, iscsi_open, iscsi_end, iscsi_run, NULL};
