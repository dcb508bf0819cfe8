// SPDX-License-Identifier: GPL-2.0-or-later
/* The classic pcap format, of nanoseconds. A file that cannot be written any more ends the capture, not the guest. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/util.h"
#include "net/net.h"

#define PCAP_MAGIC_NS 0xa1b23c4du
#define LINK_ETHERNET 1

struct pcap {
    FILE *f;
    char *path;
    bool failed;
};

int pcap_create(const char *path, struct pcap **out, struct error *err)
{
    const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, accuracy, snap, link;
    } head = {PCAP_MAGIC_NS, 2, 4, 0, 0, NET_FRAME_MAX, LINK_ETHERNET};
    struct pcap *p = calloc(1, sizeof *p);
    if (!p || !(p->path = strdup(path))) {
        free(p);
        return error_set(err, ENOMEM, "packet capture '%s': out of memory; close other programs", path);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
    p->f = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!p->f || fwrite(&head, sizeof head, 1, p->f) != 1) {
        error_set(err, errno, "packet capture '%s': cannot write: %s; give another file", path, strerror(errno));
        if (!p->f && fd >= 0)
            close(fd);
        pcap_free(p);
        return -1;
    }
    *out = p;
    return 0;
}

void pcap_write(struct pcap *p, const struct iovec *iov, int niov, size_t len)
{
    struct timespec now;
    if (p->failed)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t head[4] = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec, (uint32_t)len, (uint32_t)len};
    fwrite(head, sizeof head, 1, p->f);
    for (int i = 0; i < niov && len; i++) {
        size_t part = MIN(iov[i].iov_len, len);
        fwrite(iov[i].iov_base, 1, part, p->f);
        len -= part;
    }
}

void pcap_flush(struct pcap *p)
{
    if (p->failed || (fflush(p->f) == 0 && !ferror(p->f)))
        return;
    log_warn("packet capture '%s': cannot write: %s; it ends here", p->path, strerror(errno));
    p->failed = true;
}

void pcap_free(struct pcap *p)
{
    if (!p)
        return;
    if (p->f)
        fclose(p->f);
    free(p->path);
    free(p);
}
