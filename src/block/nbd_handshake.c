// SPDX-License-Identifier: GPL-2.0-or-later
/* From the greeting to the transmission phase (proto. "Fixed newstyle negotiation"). */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/nbd_server.h"

#define MAGIC       0x4e42444d41474943ull /* "NBDMAGIC" */
#define OPTION      0x49484156454f5054ull /* "IHAVEOPT" */
#define REPLY_MAGIC 0x0003e889045565a9ull
#define OPTIONS_MAX 1000u /* that a client may send */
#define DATA_MAX    (2 * NBD_STRING_MAX + 4096u) /* bytes of an option's data */

enum { FLAG_FIXED_NEWSTYLE = 1, FLAG_NO_ZEROES = 2 };
enum { OPT_EXPORT_NAME = 1, OPT_ABORT = 2, OPT_LIST = 3, OPT_STARTTLS = 5, OPT_INFO = 6, OPT_GO = 7, OPT_STRUCTURED_REPLY = 8, OPT_LIST_META_CONTEXT = 9,
       OPT_SET_META_CONTEXT = 10 };
enum { REP_ACK = 1, REP_SERVER = 2, REP_INFO = 3, REP_META_CONTEXT = 4 };
#define REP_ERR(n) (1u << 31 | (n))
enum { ERR_UNSUP = 1, ERR_POLICY = 2, ERR_INVALID = 3, ERR_TLS_REQD = 5, ERR_UNKNOWN = 6, ERR_TOO_BIG = 9 };
enum { INFO_EXPORT = 0, INFO_NAME = 1, INFO_BLOCK_SIZE = 3 };
enum { DONE = 1 /* the handshake is over */ };

static const char allocation[] = "base:allocation", dirty_prefix[] = "qemu:dirty-bitmap:";

uint16_t nbd_flags(const struct nbd_server *s)
{
    enum { HAS_FLAGS = 1, READ_ONLY = 2, FLUSH = 4, FUA = 8, TRIM = 32, WRITE_ZEROES = 64, DF = 128, MULTI_CONN = 256 };
    return HAS_FLAGS | FLUSH | DF | MULTI_CONN | (s->readonly ? READ_ONLY : FUA | TRIM | WRITE_ZEROES);
}

static int reply(struct nbd_conn *c, uint32_t option, uint32_t type, const void *data, uint32_t len)
{
    uint8_t head[20];
    nbd_put(head, REPLY_MAGIC, 8);
    nbd_put(head + 8, option, 4);
    nbd_put(head + 12, type, 4);
    nbd_put(head + 16, len, 4);
    int ret = nbd_send(c, head, sizeof head);
    return ret < 0 || !len ? ret : nbd_send(c, data, len);
}

static int refuse(struct nbd_conn *c, uint32_t option, unsigned why, const char *text)
{
    return reply(c, option, REP_ERR(why), text, (uint32_t)strlen(text));
}

static bool is_ours(const struct nbd_server *s, const uint8_t *name, uint32_t len)
{
    return len == strlen(s->name) && memcmp(name, s->name, len) == 0;
}

/* ---- options ---- */

static int export_name(struct nbd_conn *c, const uint8_t *data, uint32_t len)
{
    uint8_t out[134] = {0};
    if (!is_ours(c->server, data, len))
        return -ENOENT; /* there is no way to say so */
    nbd_put(out, c->server->image->size, 8);
    nbd_put(out + 8, nbd_flags(c->server), 2);
    int ret = nbd_send(c, out, c->no_zeroes ? 10 : sizeof out);
    return ret < 0 ? ret : DONE;
}

static int list(struct nbd_conn *c, uint32_t len)
{
    uint8_t out[4 + NBD_STRING_MAX];
    uint32_t n = (uint32_t)strlen(c->server->name);
    if (len)
        return refuse(c, OPT_LIST, ERR_INVALID, "LIST has no data");
    nbd_put(out, n, 4);
    memcpy(out + 4, c->server->name, n);
    int ret = reply(c, OPT_LIST, REP_SERVER, out, 4 + n);
    return ret < 0 ? ret : reply(c, OPT_LIST, REP_ACK, NULL, 0);
}

static int send_info(struct nbd_conn *c, uint32_t option)
{
    uint8_t out[14];
    nbd_put(out, INFO_EXPORT, 2);
    nbd_put(out + 2, c->server->image->size, 8);
    nbd_put(out + 10, nbd_flags(c->server), 2);
    int ret = reply(c, option, REP_INFO, out, 12);
    if (ret < 0)
        return ret;
    nbd_put(out, INFO_BLOCK_SIZE, 2);
    nbd_put(out + 2, 1, 4);
    nbd_put(out + 6, 4096, 4);
    nbd_put(out + 10, NBD_REQUEST_MAX, 4);
    return reply(c, option, REP_INFO, out, 14);
}

/* u32 length, name, u16 count, count x u16: kinds of information, all of which are sent anyway. */
static int info(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    uint64_t name = len >= 6 ? nbd_get(data, 4) : UINT64_MAX;
    if (name > len - 6 || len < 6 || nbd_get(data + 4 + name, 2) * 2 != len - 6 - name)
        return refuse(c, option, ERR_INVALID, "the option's lengths contradict each other");
    if (!is_ours(c->server, data + 4, (uint32_t)name))
        return refuse(c, option, ERR_UNKNOWN, "there is no export of that name");
    int ret = send_info(c, option);
    if (ret == 0)
        ret = reply(c, option, REP_ACK, NULL, 0);
    return ret < 0 || option == OPT_INFO ? ret : DONE;
}

static int structured(struct nbd_conn *c, uint32_t len)
{
    if (len)
        return refuse(c, OPT_STRUCTURED_REPLY, ERR_INVALID, "STRUCTURED_REPLY has no data");
    c->structured = true;
    return reply(c, OPT_STRUCTURED_REPLY, REP_ACK, NULL, 0);
}

/* ---- contexts of block status ---- */

static int send_context(struct nbd_conn *c, uint32_t option, uint32_t id, const char *name)
{
    uint8_t out[4 + sizeof dirty_prefix + 1024];
    uint32_t n = (uint32_t)strlen(name);
    nbd_put(out, option == OPT_SET_META_CONTEXT ? id : 0, 4);
    memcpy(out + 4, name, n);
    return reply(c, option, REP_META_CONTEXT, out, 4 + n);
}

static bool asks_for(const uint8_t *query, uint32_t len, const char *name, bool list_all)
{
    size_t n = strlen(name);
    if (len == n && memcmp(query, name, n) == 0)
        return true;
    const char *colon = strrchr(name, ':'); /* "base:", "qemu:dirty-bitmap:" ask for what begins so, when listing */
    const char *first = strchr(name, ':');
    return list_all && ((len == (size_t)(colon + 1 - name) && memcmp(query, name, len) == 0) || (len == (size_t)(first + 1 - name) && memcmp(query, name, len) == 0));
}

static int meta_context(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    const struct nbd_server *s = c->server;
    char dirty[sizeof dirty_prefix + 1024] = "";
    bool listing = option == OPT_LIST_META_CONTEXT, want[2] = {false, false};
    uint64_t name = len >= 8 ? nbd_get(data, 4) : UINT64_MAX;
    if (!c->structured)
        return refuse(c, option, ERR_INVALID, "ask for structured replies first");
    if (len < 8 || name > len - 8)
        return refuse(c, option, ERR_INVALID, "the option's lengths contradict each other");
    if (!is_ours(s, data + 4, (uint32_t)name))
        return refuse(c, option, ERR_UNKNOWN, "there is no export of that name");
    if (s->bitmap)
        snprintf(dirty, sizeof dirty, "%s%s", dirty_prefix, s->bitmap);
    uint64_t at = 4 + name + 4, queries = nbd_get(data + 4 + name, 4);
    if (queries == 0 && listing)
        want[0] = want[1] = true;
    for (uint64_t i = 0; i < queries; i++) {
        uint64_t n = at + 4 <= len ? nbd_get(data + at, 4) : UINT64_MAX;
        if (n > len - at - 4 || at + 4 > len)
            return refuse(c, option, ERR_INVALID, "the option's lengths contradict each other");
        want[0] |= asks_for(data + at + 4, (uint32_t)n, allocation, listing);
        want[1] |= asks_for(data + at + 4, (uint32_t)n, dirty_prefix, listing) || (*dirty && asks_for(data + at + 4, (uint32_t)n, dirty, listing));
        at += 4 + n;
    }
    want[1] = want[1] && *dirty;
    if (!listing) {
        c->allocation = want[0];
        c->dirty = want[1];
    }
    int ret = want[0] ? send_context(c, option, NBD_ALLOCATION_ID, allocation) : 0;
    if (ret == 0 && want[1])
        ret = send_context(c, option, NBD_DIRTY_ID, dirty);
    return ret < 0 ? ret : reply(c, option, REP_ACK, NULL, 0);
}

/* ---- the conversation ---- */

static int start_tls(struct nbd_conn *c, uint32_t len)
{
    if (len || !c->server->tls || c->session)
        return refuse(c, OPT_STARTTLS, len ? ERR_INVALID : ERR_POLICY, c->session ? "TLS is on already" : "this server has no TLS");
    int ret = reply(c, OPT_STARTTLS, REP_ACK, NULL, 0);
    if (ret == 0)
        ret = nbd_tls_start(c);
    c->structured = c->allocation = c->dirty = false; /* what was said in clear text does not hold */
    return ret;
}

static int option(struct nbd_conn *c, uint32_t option, const uint8_t *data, uint32_t len)
{
    if (option == OPT_ABORT) {
        reply(c, option, REP_ACK, NULL, 0);
        return -ECONNABORTED;
    }
    if (option == OPT_STARTTLS)
        return start_tls(c, len);
    if (c->server->tls && !c->session)
        return option == OPT_EXPORT_NAME ? -EPERM : refuse(c, option, ERR_TLS_REQD, "this server wants TLS");
    switch (option) {
    case OPT_EXPORT_NAME: return export_name(c, data, len);
    case OPT_LIST: return list(c, len);
    case OPT_INFO:
    case OPT_GO: return info(c, option, data, len);
    case OPT_STRUCTURED_REPLY: return structured(c, len);
    case OPT_LIST_META_CONTEXT:
    case OPT_SET_META_CONTEXT: return meta_context(c, option, data, len);
    default: return refuse(c, option, ERR_UNSUP, "this option is not known");
    }
}

static int next_option(struct nbd_conn *c)
{
    uint8_t head[16], data[DATA_MAX];
    int ret = nbd_receive(c, head, sizeof head);
    if (ret < 0)
        return ret;
    uint32_t which = (uint32_t)nbd_get(head + 8, 4), len = (uint32_t)nbd_get(head + 12, 4);
    if (nbd_get(head, 8) != OPTION)
        return -EPROTO;
    if (len > sizeof data) {
        ret = len > NBD_REQUEST_MAX || which == OPT_EXPORT_NAME ? -EPROTO : nbd_skip(c, len);
        return ret < 0 ? ret : refuse(c, which, ERR_TOO_BIG, "the option is too long");
    }
    ret = nbd_receive(c, data, len);
    return ret < 0 ? ret : option(c, which, data, len);
}

int nbd_handshake(struct nbd_conn *c)
{
    uint8_t greeting[18], flags[4];
    nbd_put(greeting, MAGIC, 8);
    nbd_put(greeting + 8, OPTION, 8);
    nbd_put(greeting + 16, FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES, 2);
    int ret = nbd_send(c, greeting, sizeof greeting);
    if (ret == 0)
        ret = nbd_receive(c, flags, sizeof flags);
    if (ret < 0)
        return ret;
    uint32_t f = (uint32_t)nbd_get(flags, 4);
    if (!(f & FLAG_FIXED_NEWSTYLE) || (f & ~(uint32_t)(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES)))
        return -EPROTO;
    c->no_zeroes = f & FLAG_NO_ZEROES;
    for (unsigned i = 0; ret == 0 && i < OPTIONS_MAX; i++)
        ret = next_option(c);
    return ret == DONE ? 0 : ret < 0 ? ret : -EPROTO;
}
