// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Disks of an iSCSI target, by libiscsi: iscsi://HOST[:PORT]/TARGET/LUN. A CHAP user and password come from libiscsi's environment
 * variables LIBISCSI_CHAP_USERNAME and LIBISCSI_CHAP_PASSWORD; a password within the name is refused, since names show in process
 * lists.
 */
#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <string.h>

#include "base/util.h"
#include "block/library.h"
#include "block/remote.h"

#define CALLS(X)                        \
    X(iscsi_create_context)             \
    X(iscsi_destroy_context)            \
    X(iscsi_parse_full_url)             \
    X(iscsi_destroy_url)                \
    X(iscsi_set_targetname)             \
    X(iscsi_set_session_type)           \
    X(iscsi_set_initiator_username_pwd) \
    X(iscsi_set_timeout)                \
    X(iscsi_set_noautoreconnect)        \
    X(iscsi_full_connect_sync)          \
    X(iscsi_get_error)                  \
    X(iscsi_get_fd)                     \
    X(iscsi_which_events)               \
    X(iscsi_service)                    \
    X(iscsi_readcapacity16_sync)        \
    X(iscsi_read16_task)                \
    X(iscsi_write16_task)               \
    X(iscsi_synchronizecache16_task)    \
    X(iscsi_scsi_cancel_all_tasks)      \
    X(iscsi_logout_sync)                \
    X(iscsi_modesense6_sync)            \
    X(scsi_task_add_data_in_buffer)     \
    X(scsi_datain_unmarshall)           \
    X(scsi_free_scsi_task)

#define CALL(name)  LIBRARY_CALL(lib, name),
#define RETRIES_MAX 30 /* of a command that the target cannot take now */
#define RETRY_MS    100
#define NO_ROOM     0x2707 /* SBC: "space allocation failed write protect" */
#define LOGOUT_MAX  5      /* seconds */
#define INITIATOR   "iqn.2026-11.org.lodge:lodge"

static struct {
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALLS(CALL)};

struct attempt;
struct lun {
    struct iscsi_context *ctx; /* NULL: cut */
    int number;
    uint32_t block;        /* bytes */
    struct attempt *again; /* to be tried again, */
    uint64_t again_ns;     /* from this time on */
    bool gone;             /* the session has ended */
};

struct attempt { /* of a command */
    struct lun *lun;
    struct remote_cmd *cmd;
    unsigned tries;
    struct attempt *next; /* in lun's again */
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
        f->physical = f->unit = u->block;
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
    lib.iscsi_set_timeout(u->ctx, (int)remote_patience());
    lib.iscsi_set_noautoreconnect(u->ctx, 1);
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

static void iscsi_release(struct lun *u)
{
    if (u->ctx)
        lib.iscsi_destroy_context(u->ctx);
    free(u);
}

static int iscsi_open(struct file *f, const char *what, struct error *err)
{
    const char *at = strchr(f->path, '@'), *percent = strchr(f->path, '%');
    if (at && percent && percent < at)
        return error_set(
            err, 0, "%s: a password in an iSCSI name is seen by everybody on this host; set LIBISCSI_CHAP_PASSWORD instead", what);
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
        error_set(err, 0, "%s '%s': cannot connect: %.*s; check the target and its LUN", what, f->path, (int)strcspn(why, "\n"),
                  why);
        iscsi_release(u);
        return -1;
    }
    f->readonly |= write_protected(u);
    f->connection = u;
    return 0;
}

static void iscsi_end(struct file *f)
{
    struct lun *u = f->connection;
    if (u->ctx && !u->gone) {
        lib.iscsi_set_timeout(u->ctx, LOGOUT_MAX);
        lib.iscsi_logout_sync(u->ctx);
    }
    iscsi_release(u);
}

/* ---- commands ---- */

static void end(struct attempt *a, int ret)
{
    remote_answer(a->cmd, ret);
    free(a);
}

/* A target that is busy, or that tells what has happened to it meanwhile (SPC, "Unit attention condition"), takes the command
 * later. */
static bool passes(const struct scsi_task *task, int status)
{
    return status == SCSI_STATUS_BUSY || status == SCSI_STATUS_TASK_SET_FULL ||
           (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_UNIT_ATTENTION);
}

static int error_of(const struct scsi_task *task, int status)
{
    if (status == SCSI_STATUS_TIMEOUT)
        return -ETIMEDOUT;
    if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_DATA_PROTECTION)
        return task->sense.ascq == NO_ROOM ? -ENOSPC : -EROFS;
    return -EIO;
}

static void answered(struct iscsi_context *ctx, int status, void *data, void *opaque)
{
    struct attempt *a = opaque;
    struct scsi_task *task = data;
    struct lun *u = a->lun;
    bool wrong = status == SCSI_STATUS_GOOD && a->cmd->op == REMOTE_READ && task->residual_status == SCSI_RESIDUAL_UNDERFLOW;
    (void)ctx;
    u->gone |= status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_TIMEOUT || status == SCSI_STATUS_ERROR;
    if (!u->gone && passes(task, status) && a->tries++ < RETRIES_MAX) {
        if (!u->again)
            u->again_ns = now_ns() + RETRY_MS * (NS_PER_S / 1000);
        a->next = u->again;
        u->again = a;
    } else {
        end(a, wrong ? -EIO : status == SCSI_STATUS_GOOD ? 0 : error_of(task, status));
    }
    lib.scsi_free_scsi_task(task);
}

static struct scsi_task *issue(struct lun *u, struct attempt *a)
{
    const struct remote_cmd *c = a->cmd;
    struct scsi_task *task;
    uint64_t at = c->offset / u->block;
    switch (c->op) {
    case REMOTE_READ:
        task = lib.iscsi_read16_task(u->ctx, u->number, at, (uint32_t)c->len, (int)u->block, 0, 0, 0, 0, 0, answered, a);
        if (task)
            lib.scsi_task_add_data_in_buffer(task, (int)c->len,
                                             c->data); /* it is sent, but an answer is only read in iscsi_service() */
        return task;
    case REMOTE_WRITE:
        return lib.iscsi_write16_task(u->ctx, u->number, at, c->data, (uint32_t)c->len, (int)u->block, 0, 0, 0, 0, 0, answered, a);
    default:
        return lib.iscsi_synchronizecache16_task(u->ctx, u->number, 0, 0, 0, 0, answered, a);
    }
}

static void iscsi_start(struct file *f, struct remote_cmd *c)
{
    struct attempt *a = malloc(sizeof *a);
    struct lun *u = f->connection;
    if (!a) {
        remote_answer(c, -ENOMEM);
        return;
    }
    *a = (struct attempt){.lun = u, .cmd = c};
    if (!issue(u, a))
        end(a, -EIO);
}

static void try_again(struct lun *u)
{
    struct attempt *a = u->again;
    u->again = NULL;
    while (a) {
        struct attempt *next = a->next;
        if (!issue(u, a))
            end(a, -EIO);
        a = next;
    }
}

/* Timeouts are looked after by iscsi_service(), which therefore is called though nothing has come. */
static int iscsi_turn(struct file *f, int wake, int ms)
{
    struct lun *u = f->connection;
    int come = remote_poll(lib.iscsi_get_fd(u->ctx), (short)lib.iscsi_which_events(u->ctx), wake, u->again ? MIN(ms, RETRY_MS) : ms);
    if (come < 0)
        return come;
    if (u->again && now_ns() >= u->again_ns)
        try_again(u);
    if (lib.iscsi_service(u->ctx, come) < 0 || u->gone)
        return -ECONNRESET;
    return 0;
}

static void iscsi_cut(struct file *f)
{
    struct lun *u = f->connection;
    u->gone = true;
    lib.iscsi_scsi_cancel_all_tasks(u->ctx);
    lib.iscsi_destroy_context(u->ctx);
    u->ctx = NULL;
    while (u->again) {
        struct attempt *a = u->again;
        u->again = a->next;
        end(a, -EIO);
    }
}

static const char *const prefixes[] = {"iscsi://", NULL};
const struct file_protocol protocol_iscsi = {.prefixes = prefixes,
                                             .open = iscsi_open,
                                             .close = iscsi_end,
                                             .start = iscsi_start,
                                             .turn = iscsi_turn,
                                             .cut = iscsi_cut,
                                             .transfer_max = MIB};
