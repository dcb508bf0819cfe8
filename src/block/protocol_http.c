// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images on a web server, read-only, by libcurl: http:// and https:// names. The server must know the length and answer requests for ranges of bytes.
 * Small reads next to each other come out of a window of WINDOW bytes that is fetched at once.
 */
#include <curl/curl.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/util.h"
#include "block/file.h"
#include "block/library.h"

#define CALLS(X)                                                                                                                                    \
    X(curl_easy_init)                                                                                                                               \
    X(curl_easy_perform)                                                                                                                            \
    X(curl_easy_cleanup)                                                                                                                            \
    X(curl_easy_strerror)

#undef curl_easy_setopt /* macros that check types, over the functions */
#undef curl_easy_getinfo
#define CALL(name) LIBRARY_CALL(lib, name),
#define WINDOW   (512 * KIB)
#define TIMEOUT  30L /* seconds with hardly a byte */

static struct {
    __typeof__(curl_easy_setopt) *curl_easy_setopt;
    __typeof__(curl_easy_getinfo) *curl_easy_getinfo;
    CALLS(LIBRARY_POINTER)
} lib;
static const struct library_call calls[] = {CALL(curl_easy_setopt) CALL(curl_easy_getinfo) CALLS(CALL)};

struct http {
    CURL *curl;
    uint8_t window[WINDOW];
    uint64_t at, have; /* what the window holds */
    uint64_t want;     /* bytes of the answer that is coming */
};

/* More than was asked for ends the transfer: the server does not know ranges. */
static size_t receive(char *data, size_t one, size_t n, void *opaque)
{
    struct http *h = opaque;
    (void)one;
    if (n > h->want - h->have)
        return 0;
    memcpy(h->window + h->have, data, n);
    h->have += n;
    return n;
}

static int fetch(struct http *h, uint64_t at, uint64_t len)
{
    char range[64];
    long status = 0;
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)at, (unsigned long long)(at + len - 1));
    h->at = at;
    h->have = 0;
    h->want = len;
    lib.curl_easy_setopt(h->curl, CURLOPT_RANGE, range);
    CURLcode e = lib.curl_easy_perform(h->curl);
    if (e == CURLE_OK)
        lib.curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (e == CURLE_OK && status == 206 && h->have == len)
        return 0;
    h->have = 0;
    return e == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO;
}

static void set_options(struct http *h, const char *url)
{
    lib.curl_easy_setopt(h->curl, CURLOPT_URL, url);
    lib.curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    lib.curl_easy_setopt(h->curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    lib.curl_easy_setopt(h->curl, CURLOPT_FOLLOWLOCATION, 1L);
    lib.curl_easy_setopt(h->curl, CURLOPT_MAXREDIRS, 5L);
    lib.curl_easy_setopt(h->curl, CURLOPT_FAILONERROR, 1L);
    lib.curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    lib.curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT, TIMEOUT);
    lib.curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib.curl_easy_setopt(h->curl, CURLOPT_LOW_SPEED_TIME, TIMEOUT);
    lib.curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, receive);
    lib.curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, h);
}

static int measure(struct file *f, struct http *h, const char *what, struct error *err)
{
    curl_off_t length = -1;
    lib.curl_easy_setopt(h->curl, CURLOPT_NOBODY, 1L);
    CURLcode e = lib.curl_easy_perform(h->curl);
    if (e != CURLE_OK)
        return error_set(err, 0, "%s '%s': cannot be fetched: %s; check the address", what, f->path, lib.curl_easy_strerror(e));
    lib.curl_easy_getinfo(h->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    lib.curl_easy_setopt(h->curl, CURLOPT_NOBODY, 0L);
    lib.curl_easy_setopt(h->curl, CURLOPT_HTTPGET, 1L);
    if (length <= 0 || fetch(h, 0, 1) < 0)
        return error_set(err, 0, "%s '%s': its server does not tell the length or gives no ranges of it; download the image", what, f->path);
    f->size = (uint64_t)length;
    return 0;
}

static int http_open(struct file *f, const char *what, struct error *err)
{
    if (library_load("libcurl-gnutls.so.4", "libcurl3-gnutls", calls, ARRAY_SIZE(calls), what, f->path, err) < 0)
        return -1;
    struct http *h = calloc(1, sizeof *h);
    if (h)
        h->curl = lib.curl_easy_init();
    if (!h || !h->curl) {
        free(h);
        return error_set(err, ENOMEM, "%s '%s': out of memory; close other programs", what, f->path);
    }
    set_options(h, f->path);
    if (measure(f, h, what, err) < 0) {
        lib.curl_easy_cleanup(h->curl);
        free(h);
        return -1;
    }
    f->readonly = true;
    f->remote = h;
    return 0;
}

static void http_end(struct file *f)
{
    struct http *h = f->remote;
    lib.curl_easy_cleanup(h->curl);
    free(h);
}

static ssize_t http_run(struct file *f, const struct io_step *s)
{
    struct http *h = f->remote;
    if (s->kind != IO_READ)
        return s->kind == IO_SYNC ? 0 : -EROFS;
    uint64_t len = MIN(s->len, s->offset < f->size ? f->size - s->offset : 0);
    for (uint64_t done = 0, part; done < len; done += part) {
        uint64_t at = s->offset + done;
        if (at < h->at || at >= h->at + h->have) {
            int ret = fetch(h, at, MIN(WINDOW, f->size - at));
            if (ret < 0)
                return ret;
        }
        part = MIN(len - done, h->at + h->have - at);
        iov_from(s->iov, s->niov, done, h->window + (at - h->at), part);
    }
    return (ssize_t)len;
}

static const char *const prefixes[] = {"http://", "https://", NULL};
const struct file_protocol protocol_http = {prefixes, http_open, http_end, http_run, NULL};
