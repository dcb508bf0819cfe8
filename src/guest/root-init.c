// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * /init of the initramfs that `lodge run --root` makes. It runs in the guest: loads the modules that lie beside it, in the order of
 * their names, mounts the host's folder, and becomes the init program there. What it must know is in /root.conf, a line each: the
 * tag, the flags of the mount ("ro" or "rw"), its options.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES "/modules"
#define TARGET  "/mnt"

/* The kernel panics when its first process ends; the line above the panic is this one. */
static void fail(const char *what, const char *name, const char *remedy)
{
    fprintf(stderr, "lodge: %s '%s': %s; %s\n", what, name, strerror(errno), remedy);
    exit(1);
}

static int visible(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static void load_modules(void)
{
    struct dirent **names;
    int n = scandir(MODULES, &names, visible, alphasort);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, MODULES "/%s", names[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        /* One that is built in after all is no error; what is really missing shows at the mount. */
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
            fprintf(stderr, "lodge: module '%s': %s\n", names[i]->d_name, strerror(errno));
        if (fd >= 0)
            close(fd);
        unlink(path);
    }
}

static void mount_root(void)
{
    static char tag[64], flags[8], options[256];
    FILE *f = fopen("/root.conf", "re");
    if (!f || fscanf(f, "%63s %7s %255s", tag, flags, options) != 3)
        fail("file", "/root.conf", "make the guest again");
    fclose(f);
    if (mount(tag, TARGET, "9p", strcmp(flags, "ro") == 0 ? MS_RDONLY : 0, options) < 0)
        fail("root file system", tag,
             "the kernel needs CONFIG_VIRTIO_PCI, CONFIG_NET_9P_VIRTIO and CONFIG_9P_FS, built in or with their modules in "
             "DIR/lib/modules");
}

/* The value of init= on the kernel's command line, which the kernel keeps for itself; NULL when there is none. Quotes do not hide
 * it. */
static char *wanted_init(void)
{
    static char line[65536];
    char *found = NULL;
    FILE *f = fopen("/proc/cmdline", "re");
    if (f && fgets(line, sizeof line, f))
        for (char *rest = line, *word; (word = strsep(&rest, " \n")) != NULL && strcmp(word, "--") != 0;)
            if (strncmp(word, "init=", 5) == 0)
                found = word + 5;
    if (f)
        fclose(f);
    return found;
}

/* The new root takes the old one's place, as in switch_root(8). */
static void enter_root(void)
{
    unlink("/root.conf");
    unlink("/init");
    umount2("/proc", MNT_DETACH);
    if (mount("/dev", TARGET "/dev", NULL, MS_MOVE, NULL) < 0)
        umount2("/dev", MNT_DETACH); /* without /dev there; its init may make one */
    if (chdir(TARGET) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        fail("root file system", TARGET, "make the guest again");
}

int main(int argc, char **argv)
{
    static const char *const inits[] = {"/sbin/init", "/etc/init", "/bin/init", "/bin/sh"};
    (void)argc;
    mount("proc", "/proc", "proc", 0, NULL);
    mount("dev", "/dev", "devtmpfs", 0, NULL); /* the kernel may have done so */
    load_modules();
    char *wanted = wanted_init();
    mount_root();
    enter_root();
    if (wanted) {
        argv[0] = wanted;
        execv(wanted, argv);
        fail("init program", wanted, "name one that is in the folder with init=");
    }
    for (unsigned i = 0; i < sizeof inits / sizeof inits[0]; i++) {
        argv[0] = (char *)inits[i];
        execv(inits[i], argv);
        if (errno != ENOENT)
            fail("init program", inits[i], "mend it, or name another with init=");
    }
    fail("init program", "/sbin/init", "the folder has none, and no /bin/sh; name one with init=");
}
