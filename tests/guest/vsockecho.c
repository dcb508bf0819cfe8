// SPDX-License-Identifier: GPL-2.0-or-later
/* In the guest: `vsockecho PORT` answers each connection with what it sends; `vsockecho PORT send N` sends N bytes to the host's PORT, and reads them back. */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int echo(unsigned port)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_ANY};
    static char buf[65536];
    int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(listener, 4) < 0) {
        perror("vsockecho");
        return 1;
    }
    puts("listening");
    fflush(stdout);
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
            for (ssize_t done = 0, w; done < n && (w = write(fd, buf + done, (size_t)(n - done))) > 0; done += w)
                ;
    return 1;
}

static int send_back(unsigned port, size_t total)
{
    struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = port, .svm_cid = VMADDR_CID_HOST};
    static char out[4096], in[4096];
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        perror("vsockecho");
        return 1;
    }
    for (size_t done = 0; done < total; done += sizeof out) {
        memset(out, (int)(done >> 12), sizeof out);
        if (write(fd, out, sizeof out) != (ssize_t)sizeof out || recv(fd, in, sizeof in, MSG_WAITALL) != (ssize_t)sizeof in ||
            memcmp(out, in, sizeof in) != 0) {
            puts("vsockecho: what came back differs");
            return 1;
        }
    }
    puts("all came back");
    return 0;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 1 ? (unsigned)atoi(argv[1]) : 1234;
    return argc > 3 ? send_back(port, (size_t)atol(argv[3])) : echo(port);
}
