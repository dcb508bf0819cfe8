// SPDX-License-Identifier: GPL-2.0-or-later
#include "base/iov.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/util.h"

static size_t iov_copy(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len, bool write)
{
    size_t done = 0;
    for (unsigned i = 0; i < n && done < len; i++) {
        if (off >= iov[i].iov_len) {
            off -= iov[i].iov_len;
            continue;
        }
        size_t part = MIN(iov[i].iov_len - off, len - done);
        uint8_t *guest = (uint8_t *)iov[i].iov_base + off, *host = (uint8_t *)buf + done;
        if (write)
            memcpy(guest, host, part);
        else
            memcpy(host, guest, part);
        done += part;
        off = 0;
    }
    return done;
}

size_t iov_read(const struct iovec *iov, unsigned n, size_t off, void *buf, size_t len)
{
    return iov_copy(iov, n, off, buf, len, false);
}

size_t iov_write(const struct iovec *iov, unsigned n, size_t off, const void *buf, size_t len)
{
    return iov_copy(iov, n, off, (void *)(uintptr_t)buf, len, true);
}
