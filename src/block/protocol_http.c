// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images on a web server, read-only, by libcurl: http:// and https:// names. The server must know the length and answer requests
 * for ranges of bytes. The image is fetched in windows of WINDOW bytes, several at a time; those that were used last are kept, so
 * that small reads next to each other cost one request.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/library.h"
#include "block/remote.h"

#define CALLS(X)                \
    X(curl_easy_init)           \
    X(curl_easy_perform)        \
    X(curl_easy_cleanup)        \
    X(curl_easy_strerror)       \
    X(curl_multi_init)          \
    X(curl_multi_cleanup)       \
    X(curl_multi_add_handle)    \
    X(curl_multi_remove_handle) \
    X(curl_multi_perform)       \
    X(curl_multi_poll)          \
    X(curl_multi_info_read)

#undef curl_easy_setopt /* macros that check types, over the functions */
#undef curl_easy_getinfo
#undef curl_multi_setopt
#define CALL(name)      LIBRARY_CALL(lib, name),
#define WINDOW          (512 * KIB)
#define WINDOWS         16
#define CONNECTIONS_MAX 6L
#define TRIES_MAX       3 /* of a window whose server hangs up in the middle */

static struct {
    __typeof__(curl_easy_setopt) *curl_easy_setopt;
    __typeof__(curl_easy_getinfo) *curl_easy_getinfo;
    __typeof__(curl_multi_setopt) *curl_multi_setopt;
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALL(curl_easy_setopt) CALL(curl_easy_getinfo) CALL(curl_multi_setopt) CALLS(CALL)};

struct queue { /* of commands, by their opaque */
    struct remote_cmd *first, *last;
};

struct window {
    CURL *curl;              /* NULL: not used yet */
    uint8_t *data;           /* WINDOW bytes */
    uint64_t at, want, have; /* place in the image, bytes that it has or is to have, bytes that have come */
    bool busy;               /* being fetched */
    unsigned tries;
    uint64_t used; /* when it was: turns of http's clock */
    struct queue waiting;
};

struct http {
    CURLM *multi;
    uint64_t clock;
    struct window windows[WINDOWS];
    struct queue waiting; /* for a window: all are being fetched */
};

static void push(struct queue *q, struct remote_cmd *c)
{
    c->opaque = NULL;
    if (q->last)
        q->last->opaque = c;
    else
        q->first = c;
    q->last = c;
}

static struct remote_cmd *pop(struct queue *q)
{
    struct remote_cmd *c = q->first;
    if (c)
        q->first = c->opaque;
    if (!q->first)
        q->last = NULL;
    return c;
}

/* ---- fetching ---- */

/* More than was asked for ends the transfer: the server does not know ranges. */
static size_t receive(char *data, size_t one, size_t n, void *opaque)
{
    struct window *w = opaque;
    (void)one;
    if (n > w->want - w->have)
        return 0;
    memcpy(w->data + w->have, data, n);
    w->have += n;
    return n;
}

static int window_open(struct window *w, const char *url)
{
    long patience = (long)remote_patience();
    w->data = malloc(WINDOW);
    w->curl = w->data ? lib.curl_easy_init() : NULL;
    if (!w->curl)
        return -ENOMEM;
    lib.curl_easy_setopt(w->curl, CURLOPT_URL, url);
    lib.curl_easy_setopt(w->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    lib.curl_easy_setopt(w->curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    lib.curl_easy_setopt(w->curl, CURLOPT_FOLLOWLOCATION, 1L);
    lib.curl_easy_setopt(w->curl, CURLOPT_MAXREDIRS, 5L);
    lib.curl_easy_setopt(w->curl, CURLOPT_FAILONERROR, 1L);
    lib.curl_easy_setopt(w->curl, CURLOPT_NOSIGNAL, 1L);
    lib.curl_easy_setopt(w->curl, CURLOPT_CONNECTTIMEOUT, patience);
    lib.curl_easy_setopt(w->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib.curl_easy_setopt(w->curl, CURLOPT_LOW_SPEED_TIME, patience);
    lib.curl_easy_setopt(w->curl, CURLOPT_WRITEFUNCTION, receive);
    lib.curl_easy_setopt(w->curl, CURLOPT_WRITEDATA, w);
    lib.curl_easy_setopt(w->curl, CURLOPT_PRIVATE, w);
    return 0;
}

static void window_close(struct window *w)
{
    if (w->curl)
        lib.curl_easy_cleanup(w->curl);
    free(w->data);
    *w = (struct window){0};
}

static void ask_for(struct window *w, uint64_t at, uint64_t len)
{
    char range[64];
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)at, (unsigned long long)(at + len - 1));
    w->at = at;
    w->have = 0;
    w->want = len;
    lib.curl_easy_setopt(w->curl, CURLOPT_RANGE, range);
}

/* What a transfer has come to: 0 or -errno. */
static int outcome(struct window *w, CURLcode e)
{
    long status = 0;
    if (e == CURLE_OK)
        lib.curl_easy_getinfo(w->curl, CURLINFO_RESPONSE_CODE, &status);
    if (e == CURLE_OK && status == 206 && w->have == w->want)
        return 0;
    w->have = 0;
    return e == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO;
}

static int fetch(struct http *h, struct window *w)
{
    w->busy = lib.curl_multi_add_handle(h->multi, w->curl) == CURLM_OK;
    if (!w->busy)
        w->want = w->have = 0;
    return w->busy ? 0 : -ENOMEM;
}

static bool hung_up(CURLcode e)
{
    return e == CURLE_PARTIAL_FILE || e == CURLE_RECV_ERROR || e == CURLE_SEND_ERROR || e == CURLE_GOT_NOTHING;
}

/* ---- connecting ---- */

static int measure(struct file *f, struct window *w, const char *what, struct error *err)
{
    curl_off_t length = -1;
    lib.curl_easy_setopt(w->curl, CURLOPT_NOBODY, 1L);
    CURLcode e = lib.curl_easy_perform(w->curl);
    if (e != CURLE_OK)
        return error_set(err, 0, "%s '%s': cannot be fetched: %s; check the address", what, f->path, lib.curl_easy_strerror(e));
    lib.curl_easy_getinfo(w->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    lib.curl_easy_setopt(w->curl, CURLOPT_NOBODY, 0L);
    lib.curl_easy_setopt(w->curl, CURLOPT_HTTPGET, 1L);
    if (length > 0)
        ask_for(w, 0, 1);
    if (length <= 0 || outcome(w, lib.curl_easy_perform(w->curl)) < 0)
        return error_set(err, 0, "%s '%s': its server does not tell the length or gives no ranges of it; download the image", what,
                         f->path);
    w->want = w->have = 0;
    f->size = (uint64_t)length;
    return 0;
}

static void http_release(struct http *h)
{
    for (unsigned i = 0; i < WINDOWS; i++)
        window_close(&h->windows[i]);
    if (h->multi)
        lib.curl_multi_cleanup(h->multi);
    free(h);
}

static int http_open(struct file *f, const char *what, struct error *err)
{
    if (library_load("libcurl-gnutls.so.4", "libcurl3-gnutls", calls, ARRAY_SIZE(calls), what, f->path, err) < 0)
        return -1;
    struct http *h = calloc(1, sizeof *h);
    if (h)
        h->multi = lib.curl_multi_init();
    int ret = h && h->multi && window_open(&h->windows[0], f->path) == 0
                  ? measure(f, &h->windows[0], what, err)
                  : error_set(err, ENOMEM, "%s '%s': out of memory; close other programs", what, f->path);
    if (ret < 0) {
        if (h)
            http_release(h);
        return -1;
    }
    lib.curl_multi_setopt(h->multi, CURLMOPT_MAX_HOST_CONNECTIONS, CONNECTIONS_MAX);
    f->readonly = true;
    f->connection = h;
    return 0;
}

/* ---- commands ---- */

static void give(struct window *w, struct remote_cmd *c, int ret)
{
    if (ret == 0)
        memcpy(c->data, w->data + (c->offset - w->at), c->len);
    remote_answer(c, ret);
}

/* The window that has or will have these bytes, or one that can be used for them; NULL: all are being fetched. */
static struct window *window_for(struct http *h, uint64_t at)
{
    struct window *oldest = NULL;
    for (struct window *w = h->windows; w < h->windows + WINDOWS; w++) {
        if (w->want && w->at == at)
            return w;
        if (!w->busy && (!oldest || w->used < oldest->used))
            oldest = w;
    }
    return oldest;
}

/* Begins to fetch what is at `at`. */
static int fill(struct file *f, struct window *w, uint64_t at)
{
    int ret = w->curl ? 0 : window_open(w, f->path);
    if (ret < 0) {
        window_close(w);
        return ret;
    }
    w->tries = 0;
    ask_for(w, at, MIN(WINDOW, f->size - at));
    return fetch(f->connection, w);
}

static void serve(struct file *f, struct window *w, struct remote_cmd *c)
{
    struct http *h = f->connection;
    uint64_t at = ALIGN_DOWN(c->offset, WINDOW);
    w->used = ++h->clock;
    int ret = w->want && w->at == at ? 0 : fill(f, w, at);
    if (w->busy)
        push(&w->waiting, c);
    else
        give(w, c, ret);
}

/* Those that wait for a window, in the order in which they came. */
static void serve_waiting(struct file *f)
{
    struct http *h = f->connection;
    for (struct window *w; h->waiting.first && (w = window_for(h, ALIGN_DOWN(h->waiting.first->offset, WINDOW)));)
        serve(f, w, pop(&h->waiting));
}

static void http_start(struct file *f, struct remote_cmd *c)
{
    struct http *h = f->connection;
    if (c->op != REMOTE_READ) {
        remote_answer(c, c->op == REMOTE_SYNC ? 0 : -EROFS);
        return;
    }
    push(&h->waiting, c);
    serve_waiting(f);
}

static void fetched(struct http *h, struct window *w, CURLcode e)
{
    int ret = outcome(w, e);
    struct remote_cmd *c;
    lib.curl_multi_remove_handle(h->multi, w->curl);
    w->busy = false;
    if (ret < 0 && hung_up(e) && ++w->tries < TRIES_MAX && fetch(h, w) == 0)
        return; /* outcome() has set `have` to 0 */
    if (ret < 0)
        w->want = 0;
    while ((c = pop(&w->waiting)))
        give(w, c, ret);
}

static int http_turn(struct file *f, int wake, int ms)
{
    struct http *h = f->connection;
    struct curl_waitfd extra = {.fd = wake, .events = CURL_WAIT_POLLIN};
    int running, left, n;
    if (lib.curl_multi_poll(h->multi, &extra, 1, ms, &n) != CURLM_OK || lib.curl_multi_perform(h->multi, &running) != CURLM_OK)
        return -ENOMEM;
    for (CURLMsg *m; (m = lib.curl_multi_info_read(h->multi, &left));) {
        CURLcode e = m->data.result; /* the message goes with its handle */
        struct window *w = NULL;
        lib.curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &w);
        if (m->msg == CURLMSG_DONE && w)
            fetched(h, w, e);
    }
    serve_waiting(f);
    return 0;
}

static void http_cut(struct file *f)
{
    struct http *h = f->connection;
    for (struct window *w = h->windows; w < h->windows + WINDOWS; w++) {
        if (w->busy)
            lib.curl_multi_remove_handle(h->multi, w->curl);
        w->busy = false;
        w->want = 0;
        w->waiting = (struct queue){0};
    }
    h->waiting = (struct queue){0};
}

static void http_end(struct file *f)
{
    http_release(f->connection);
}

static const char *const prefixes[] = {"http://", "https://", NULL};
const struct file_protocol protocol_http = {.prefixes = prefixes,
                                            .open = http_open,
                                            .close = http_end,
                                            .start = http_start,
                                            .turn = http_turn,
                                            .cut = http_cut,
                                            .transfer_max = WINDOW,
                                            .patient = true};
