// SPDX-License-Identifier: GPL-2.0-or-later
/* The 9P server: what a polite guest does with a folder, and what a hostile one tries to get out of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/util.h"
#include "client.h"

static char base[] = "/tmp/lodge-share-XXXXXX"; /* base/tree is shared, base/secret is not */
static struct client c;

static char *path(const char *name)
{
    static char text[4][256];
    static unsigned n;
    n = (n + 1) % 4;
    snprintf(text[n], sizeof text[n], "%s/%s", base, name);
    return text[n];
}

static void put_file(const char *name, const char *text)
{
    FILE *f = fopen(path(name), "w");
    CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void open_share(enum share_access access, bool readonly)
{
    ERROR_SCOPED(err);
    CHECK(share_open(&(struct share_config){path("tree"), access, readonly}, &c.s, &err) == 0);
    CHECK_EQ(c_version(&c), 0);
    CHECK_EQ(c_attach(&c, 0, "/"), 0);
}

static void test_files(void)
{
    open_share(SHARE_SQUASH, false);
    CHECK_EQ(c_walk(&c, 0, 1, ""), 0);
    CHECK_EQ(c_create(&c, 1, "new", O_RDWR, 0640), 0);
    static uint8_t data[300000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 7);
    CHECK_EQ(c_write(&c, 1, 5, data, sizeof data), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER), sizeof data);
    CHECK_EQ(c_read(&c, 1, 5, sizeof data), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER), sizeof data);
    CHECK(memcmp(c.in + P9_HEADER + 4, data, sizeof data) == 0);
    CHECK_EQ(c_read(&c, 1, sizeof data + 5, 100), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER), 0);
    c_begin(&c, P9_TFSYNC);
    c32(&c, 1);
    c32(&c, 1);
    CHECK_EQ(c_send(&c), 0);
    CHECK_EQ(c_fid(&c, P9_TCLUNK, 1), 0);
    CHECK_EQ(c_fid(&c, P9_TCLUNK, 1), EBADF);
    struct stat st;
    CHECK(stat(path("tree/new"), &st) == 0 && st.st_size == sizeof data + 5 && (st.st_mode & 07777) == 0640);
    /* A name, a link, a rename, and away. */
    CHECK_EQ(c_walk(&c, 0, 2, "new"), 0);
    c_begin(&c, P9_TLINK);
    c32(&c, 0);
    c32(&c, 2);
    cstr(&c, "second");
    CHECK_EQ(c_send(&c), 0);
    c_begin(&c, P9_TRENAMEAT);
    c32(&c, 0);
    cstr(&c, "second");
    c32(&c, 0);
    cstr(&c, "third");
    CHECK_EQ(c_send(&c), 0);
    c_begin(&c, P9_TUNLINKAT);
    c32(&c, 0);
    cstr(&c, "third");
    c32(&c, 0);
    CHECK_EQ(c_send(&c), 0);
    CHECK(access(path("tree/third"), F_OK) < 0 && access(path("tree/new"), F_OK) == 0);
    share_close(c.s);
}

/* Every way to what lies outside of the tree. */
static void test_escapes(void)
{
    static const char *const names[] = {".", "a/b", "/", "../secret", "..", "\0x"};
    open_share(SHARE_SQUASH, false);
    /* The root is its own parent. */
    CHECK_EQ(c_walk(&c, 0, 1, ".."), 0);
    CHECK_EQ(c_walk(&c, 1, 2, "secret"), ENOENT);
    CHECK_EQ(c_walk(&c, 1, 2, "dir"), 0);
    CHECK_EQ(c_walk(&c, 2, 3, ".."), 0);
    CHECK_EQ(c_walk(&c, 3, 4, "secret"), ENOENT);
    CHECK_EQ(c_walk(&c, 3, 4, "inside"), 0);
    /* Links are seen, not followed. */
    CHECK_EQ(c_walk(&c, 0, 5, "link"), 0);
    CHECK_EQ(c_open(&c, 5, O_RDONLY), ELOOP);
    CHECK_EQ(c_walk(&c, 5, 6, "passwd"), ENOTDIR);
    CHECK_EQ(c_walk(&c, 0, 7, "linkdir"), 0);
    CHECK_EQ(c_walk(&c, 7, 8, "secret"), ENOTDIR);
    CHECK_EQ(c_create(&c, 7, "x", O_RDWR, 0600), ENOTDIR);
    CHECK_EQ(c_walk(&c, 0, 9, ""), 0);
    CHECK_EQ(c_create(&c, 9, "link", O_RDWR, 0600), ELOOP);
    CHECK_EQ(c_create(&c, 9, "linkdir", O_RDWR, 0600), ELOOP);
    /* Names are single components. */
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
        CHECK_EQ(c_create(&c, 9, names[i], O_RDWR, 0600), EINVAL);
        c_begin(&c, P9_TMKDIR);
        c32(&c, 9);
        cstr(&c, names[i]);
        c32(&c, 0700);
        c32(&c, 0);
        CHECK_EQ(c_send(&c), EINVAL);
        c_begin(&c, P9_TRENAMEAT);
        c32(&c, 9);
        cstr(&c, "inside");
        c32(&c, 9);
        cstr(&c, names[i]);
        CHECK_EQ(c_send(&c), EINVAL);
        c_begin(&c, P9_TUNLINKAT);
        c32(&c, 9);
        cstr(&c, names[i]);
        c32(&c, 0x200);
        CHECK_EQ(c_send(&c), EINVAL);
    }
    CHECK_EQ(c_walk(&c, 0, 10, "dir/.."), EINVAL);
    CHECK_EQ(c_attach(&c, 11, "../"), ENOENT);
    /* A folder that leaves the tree has no way up. */
    CHECK_EQ(c_walk(&c, 0, 12, "moving"), 0);
    CHECK(rename(path("tree/moving"), path("moved")) == 0);
    CHECK_EQ(c_walk(&c, 12, 13, ".."), EXDEV);
    CHECK(rename(path("moved"), path("tree/moving")) == 0);
    CHECK_EQ(c_walk(&c, 12, 13, ".."), 0);
    /* A FIFO would hold the thread, a device is the host's. */
    CHECK_EQ(c_walk(&c, 0, 14, "fifo"), 0);
    CHECK_EQ(c_open(&c, 14, O_RDONLY), EACCES);
    CHECK_EQ(c_create(&c, 9, "fifo", O_WRONLY, 0600), EACCES);
    c_begin(&c, P9_TMKNOD);
    c32(&c, 9);
    cstr(&c, "null");
    c32(&c, S_IFCHR | 0666);
    c32(&c, 1);
    c32(&c, 3);
    c32(&c, 0);
    CHECK_EQ(c_send(&c), EPERM);
    share_close(c.s);
}

/* Numbers and lengths that lie. */
static void test_lies(void)
{
    open_share(SHARE_SQUASH, false);
    CHECK_EQ(c_fid(&c, P9_TGETATTR, 12345), EBADF);
    CHECK_EQ(c_attach(&c, 0, ""), EBADF); /* taken */
    CHECK_EQ(c_attach(&c, P9_NOFID, ""), EBADF);
    CHECK_EQ(c_walk(&c, 0, 1, "inside"), 0);
    CHECK_EQ(c_read(&c, 1, 0, 10), EBADF); /* not open */
    CHECK_EQ(c_open(&c, 1, O_RDONLY), 0);
    CHECK_EQ(c_open(&c, 1, O_RDONLY), EBADF);
    CHECK_EQ(c_walk(&c, 1, 2, ""), EBADF); /* open fids do not walk */
    CHECK_EQ(c_write(&c, 1, 0, "x", 1), EBADF);
    CHECK_EQ(c_read(&c, 1, 1ull << 63, 10), EINVAL);
    CHECK_EQ(c_read(&c, 1, 0, UINT32_MAX), 0);
    /* The data is shorter than the count. */
    c_begin(&c, P9_TWRITE);
    c32(&c, 1);
    c64(&c, 0);
    c32(&c, 4096);
    CHECK_EQ(c_send(&c), EINVAL);
    /* A string longer than the message; too many names; an unknown message; one that is cut off. */
    c_begin(&c, P9_TLCREATE);
    c32(&c, 0);
    c16(&c, 200);
    CHECK_EQ(c_send(&c), EINVAL);
    c_begin(&c, P9_TWALK);
    c32(&c, 0);
    c32(&c, 9);
    c16(&c, 17);
    CHECK_EQ(c_send(&c), EINVAL);
    CHECK_EQ(c_fid(&c, 99, 0), EOPNOTSUPP);
    c_begin(&c, P9_TSETATTR);
    c32(&c, 0);
    CHECK_EQ(c_send(&c), EINVAL);
    /* A size that is more than there is, and one that is less than a header. */
    uint8_t small[64] = {200, 0, 0, 0, P9_TGETATTR, 77}, answer[64];
    struct iovec out = {small, 11}, in = {answer, sizeof answer};
    CHECK_EQ(share_serve(c.s, &out, 1, 11, &in, 1, sizeof answer), 11);
    small[0] = 3;
    CHECK_EQ(share_serve(c.s, &out, 1, 11, &in, 1, sizeof answer), 11);
    CHECK_EQ(share_serve(c.s, &out, 1, 3, &in, 1, sizeof answer), 0);
    CHECK_EQ(share_serve(c.s, &out, 1, 11, &in, 1, 10), 0);
    /* An answer that does not fit its buffer. */
    c_begin(&c, P9_TGETATTR);
    c32(&c, 0);
    c64(&c, 0x7ff);
    c.room = 40;
    CHECK_EQ(c_send(&c), EINVAL);
    /* As many fids as there may be, and one more. */
    uint32_t n = 100;
    while (n < SHARE_FIDS + 200 && c_walk(&c, 0, n, "") == 0)
        n++;
    CHECK_EQ(n, SHARE_FIDS + 100 - 2);
    CHECK_EQ(c_walk(&c, 0, n, ""), ENFILE);
    CHECK_EQ(c_version(&c), 0);
    CHECK_EQ(c_fid(&c, P9_TGETATTR, 0), EBADF);
    share_close(c.s);
}

static void test_readonly(void)
{
    open_share(SHARE_SQUASH, true);
    CHECK_EQ(c_walk(&c, 0, 1, "inside"), 0);
    CHECK_EQ(c_open(&c, 1, O_RDWR), EROFS);
    CHECK_EQ(c_open(&c, 1, O_RDONLY | O_TRUNC), EROFS);
    CHECK_EQ(c_open(&c, 1, O_RDONLY), 0);
    CHECK_EQ(c_create(&c, 0, "no", O_RDWR, 0600), EROFS);
    c_begin(&c, P9_TUNLINKAT);
    c32(&c, 0);
    cstr(&c, "inside");
    c32(&c, 0);
    CHECK_EQ(c_send(&c), EROFS);
    c_begin(&c, P9_TSETATTR);
    c32(&c, 1);
    for (unsigned i = 0; i < 4; i++)
        c32(&c, i ? 0 : 8); /* size */
    for (unsigned i = 0; i < 5; i++)
        c64(&c, 0);
    CHECK_EQ(c_send(&c), EROFS);
    share_close(c.s);
    struct stat st;
    CHECK(stat(path("tree/inside"), &st) == 0 && st.st_size == 6);
}

/* The names in a folder, each once, however small the answers are. */
static void test_readdir(uint32_t count)
{
    unsigned seen = 0;
    uint64_t offset = 0;
    open_share(SHARE_SQUASH, true);
    CHECK_EQ(c_walk(&c, 0, 1, "many"), 0);
    CHECK_EQ(c_open(&c, 1, O_RDONLY | O_DIRECTORY), 0);
    for (;;) {
        c_begin(&c, P9_TREADDIR);
        c32(&c, 1);
        c64(&c, offset);
        c32(&c, count);
        CHECK_EQ(c_send(&c), 0);
        uint32_t at = P9_HEADER + 4, n = c_u32(&c, P9_HEADER);
        CHECK_EQ(c.got, at + n);
        if (n == 0)
            break;
        while (at < c.got) {
            uint16_t len;
            memcpy(&offset, c.in + at + P9_QID, 8);
            memcpy(&len, c.in + at + P9_QID + 9, 2);
            at += P9_QID + 11 + len;
            seen++;
        }
        CHECK_EQ(at, c.got);
    }
    CHECK_EQ(seen, 502); /* with "." and ".." */
    share_close(c.s);
}

static void xattr_create(uint32_t fid, const char *name, uint64_t size, int want)
{
    c_begin(&c, P9_TXATTRCREATE);
    c32(&c, fid);
    cstr(&c, name);
    c64(&c, size);
    c32(&c, 0);
    CHECK_EQ(c_send(&c), want);
}

/* Owners, modes and devices of the guest, which the host does not have. */
static void test_mapped(void)
{
    open_share(SHARE_MAPPED, false);
    c_begin(&c, P9_TMKNOD);
    c32(&c, 0);
    cstr(&c, "device");
    c32(&c, S_IFBLK | 0660);
    c32(&c, 8);
    c32(&c, 17);
    c32(&c, 6);
    CHECK_EQ(c_send(&c), 0);
    struct stat st;
    CHECK(stat(path("tree/device"), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600);
    CHECK_EQ(c_walk(&c, 0, 1, "device"), 0);
    CHECK_EQ(c_fid(&c, P9_TGETATTR, 1), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER + 8 + P9_QID), S_IFBLK | 0660);
    CHECK_EQ(c_u32(&c, P9_HEADER + 8 + P9_QID + 8), 6);
    CHECK_EQ(c_open(&c, 1, O_RDWR), EACCES);
    /* A set-user-ID program of root's, which is neither on the host. */
    CHECK_EQ(c_walk(&c, 0, 2, ""), 0);
    CHECK_EQ(c_create(&c, 2, "sudo", O_RDWR, 0755), 0);
    c_begin(&c, P9_TSETATTR);
    c32(&c, 2);
    c32(&c, 1); /* mode */
    c32(&c, 04755);
    c32(&c, 0);
    c32(&c, 0);
    for (unsigned i = 0; i < 5; i++)
        c64(&c, 0);
    CHECK_EQ(c_send(&c), 0);
    CHECK_EQ(c_fid(&c, P9_TGETATTR, 2), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER + 8 + P9_QID), S_IFREG | 04755);
    CHECK(stat(path("tree/sudo"), &st) == 0 && (st.st_mode & 07777) == 0600);
    /* The attributes behind it are not the guest's to touch. */
    CHECK_EQ(c_walk(&c, 0, 3, "sudo"), 0);
    xattr_create(3, "user.virtfs.mode", 4, EPERM);
    c_begin(&c, P9_TXATTRWALK);
    c32(&c, 3);
    c32(&c, 4);
    cstr(&c, "user.virtfs.mode");
    CHECK_EQ(c_send(&c), ENODATA);
    c_begin(&c, P9_TXATTRWALK);
    c32(&c, 3);
    c32(&c, 4);
    cstr(&c, "");
    CHECK_EQ(c_send(&c), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER), 0);
    share_close(c.s);
}

static void test_xattrs(void)
{
    char value[16];
    open_share(SHARE_SQUASH, false);
    CHECK_EQ(c_walk(&c, 0, 1, "inside"), 0);
    CHECK_EQ(c_walk(&c, 1, 2, ""), 0);
    xattr_create(2, "user.colour", 5, 0);
    CHECK_EQ(c_write(&c, 2, 0, "gr", 2), 0);
    CHECK_EQ(c_write(&c, 2, 9, "een", 3), EINVAL);
    CHECK_EQ(c_write(&c, 2, 2, "een and more", 12), ENOSPC);
    CHECK_EQ(c_write(&c, 2, 2, "een", 3), 0);
    CHECK_EQ(c_fid(&c, P9_TCLUNK, 2), 0);
    CHECK(getxattr(path("tree/inside"), "user.colour", value, sizeof value) == 5 && memcmp(value, "green", 5) == 0);
    c_begin(&c, P9_TXATTRWALK);
    c32(&c, 1);
    c32(&c, 3);
    cstr(&c, "user.colour");
    CHECK_EQ(c_send(&c), 0);
    CHECK_EQ(c_read(&c, 3, 1, 100), 0);
    CHECK_EQ(c_u32(&c, P9_HEADER), 4);
    CHECK(memcmp(c.in + P9_HEADER + 4, "reen", 4) == 0);
    CHECK_EQ(c_write(&c, 3, 0, "x", 1), EINVAL);
    /* One that is never finished changes nothing; one that is too large is none; there is an end to how many are held. */
    CHECK_EQ(c_walk(&c, 1, 4, ""), 0);
    xattr_create(4, "user.colour", 9, 0);
    CHECK_EQ(c_fid(&c, P9_TCLUNK, 4), EINVAL);
    CHECK_EQ(c_walk(&c, 1, 5, ""), 0);
    xattr_create(5, "user.colour", P9_XATTR_MAX + 1, E2BIG);
    unsigned held = 1;
    for (uint32_t fid = 1000; fid < 1000 + P9_XATTRS + 1; fid++) {
        CHECK_EQ(c_walk(&c, 1, fid, ""), 0);
        xattr_create(fid, "user.x", 65536, held < P9_XATTRS ? 0 : ENFILE);
        held += held < P9_XATTRS;
    }
    share_close(c.s);
}

/* Messages with sense in their first fields and noise behind. */
static void test_noise(void)
{
    static const uint8_t types[] = {P9_TSTATFS, P9_TLOPEN, P9_TLCREATE, P9_TSYMLINK, P9_TMKNOD, P9_TREADLINK, P9_TGETATTR, P9_TSETATTR, P9_TXATTRWALK,
                                    P9_TXATTRCREATE, P9_TREADDIR, P9_TFSYNC, P9_TLOCK, P9_TGETLOCK, P9_TLINK, P9_TMKDIR, P9_TRENAMEAT, P9_TUNLINKAT,
                                    P9_TWALK, P9_TREAD, P9_TWRITE, P9_TCLUNK, P9_TFLUSH};
    struct rnd r = {20261129};
    open_share(SHARE_SQUASH, false);
    for (unsigned i = 0; i < 30000; i++) {
        if (i % 64 == 0) {
            CHECK_EQ(c_version(&c), 0);
            CHECK_EQ(c_attach(&c, 0, ""), 0);
            CHECK_EQ(c_walk(&c, 0, 1, "dir"), 0);
            CHECK_EQ(c_walk(&c, 0, 2, "inside"), 0);
            CHECK_EQ(c_open(&c, 2, O_RDONLY), 0);
        }
        c_begin(&c, types[rnd_below(&r, ARRAY_SIZE(types))]);
        c32(&c, rnd_below(&r, 4));
        for (unsigned n = rnd_below(&r, 40); n; n--)
            c8(&c, rnd_below(&r, 3) ? (uint8_t)rnd_below(&r, 6) : (uint8_t)rnd64(&r));
        c.room = 7 + 4 + rnd_below(&r, 300);
        c_send(&c);
    }
    share_close(c.s);
    CHECK(access(path("secret"), F_OK) == 0);
}

int main(void)
{
    CHECK(mkdtemp(base));
    CHECK(mkdir(path("tree"), 0755) == 0 && mkdir(path("tree/dir"), 0755) == 0 && mkdir(path("tree/many"), 0755) == 0);
    CHECK(mkdir(path("tree/moving"), 0755) == 0);
    put_file("secret", "secret");
    put_file("tree/inside", "inside");
    CHECK(symlink("/etc/passwd", path("tree/link")) == 0 && symlink("..", path("tree/linkdir")) == 0 && mkfifo(path("tree/fifo"), 0600) == 0);
    for (unsigned i = 0; i < 500; i++) {
        char name[64];
        snprintf(name, sizeof name, "tree/many/%03u-a-name-of-some-length", i);
        put_file(name, "");
    }
    test_files();
    test_escapes();
    test_lies();
    test_readonly();
    test_readdir(512);
    test_readdir(100000);
    test_mapped();
    test_xattrs();
    test_noise();
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", base);
    CHECK(system(command) == 0);
    return 0;
}
