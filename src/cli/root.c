// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The initramfs has src/guest/root-init.c as /init and, where the kernel has 9p and virtio as modules, those modules, in the order
 * in which they can be loaded.
 */
#include "cli/root.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/util.h"
#include "cli/cpio.h"
#include "cli/kmodule.h"

/* The guest program, by the name that ld gives to the file (src/guest/meson.build). */
extern const uint8_t _binary_src_guest_root_init_start[], _binary_src_guest_root_init_end[];

/* cache=mmap: mappings that are shared and written need the page cache; everything else sees the host's changes at once. */
#define MOUNT_OPTIONS "trans=virtio,version=9p2000.L,msize=512000,cache=mmap"

static int add_modules(const char *folder, const char *kernel, struct cpio *c, struct error *err)
{
    static const char *const wanted[] = {"virtio_pci", "9pnet_virtio", "9p"};
    char version[KMODULE_VERSION_MAX];
    struct kmodules *m = NULL;
    int result = kmodule_version(kernel, version, err);
    if (result == 0)
        result = kmodules_open(folder, kernel, version, &m, err);
    for (unsigned i = 0; m && result == 0 && i < ARRAY_SIZE(wanted); i++)
        result = kmodules_add(m, wanted[i], c, err);
    kmodules_close(m);
    return result;
}

static int write_archive(FILE *out, const struct domain_share *share, const char *kernel, struct error *err)
{
    static const char *const folders[] = {"dev", "proc", "modules", "mnt"};
    struct cpio c = {.out = out};
    char conf[256];
    int n = snprintf(conf, sizeof conf, "%s %s %s\n", ROOT_TAG, share->readonly ? "ro" : "rw", MOUNT_OPTIONS);
    for (unsigned i = 0; i < ARRAY_SIZE(folders); i++)
        cpio_add(&c, folders[i], S_IFDIR | 0755, NULL, 0);
    cpio_add(&c, "init", S_IFREG | 0755, _binary_src_guest_root_init_start,
             (size_t)(_binary_src_guest_root_init_end - _binary_src_guest_root_init_start));
    cpio_add(&c, "root.conf", S_IFREG | 0644, conf, (size_t)n);
    if (add_modules(share->path, kernel, &c, err) < 0)
        return -1;
    cpio_end(&c);
    return fflush(out) != 0 || ferror(out)
               ? error_set(err, errno, "root '%s': no memory for the initramfs: %s; free some memory", share->path, strerror(errno))
               : 0;
}

int root_make_initramfs(const struct domain_share *share, const char *kernel, struct error *err)
{
    struct stat st;
    if (stat(share->path, &st) < 0 || !S_ISDIR(st.st_mode))
        return error_set(err, errno, "root '%s': not a folder that can be read; give the path of a tree with an init program",
                         share->path);
    AUTO_CLOSE int fd = memfd_create("lodge-initramfs", 0);
    int copy = fd >= 0 ? dup(fd) : -1;
    FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (!out) {
        error_set(err, errno, "root '%s': no memory for the initramfs: %s; free some memory", share->path, strerror(errno));
        if (copy >= 0)
            close(copy);
        return -1;
    }
    int result = write_archive(out, share, kernel, err);
    fclose(out);
    return result < 0 ? -1 : steal_fd(&fd);
}
